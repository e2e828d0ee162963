/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Workers and connections: a worker is a thread with an event loop, a connection belongs to one of them for
 * its life and carries one session over its socket.
 */
#ifndef BLOCKD_NBD_CONNECTION_H
#define BLOCKD_NBD_CONNECTION_H

#include "handler/nbd/session.h"
#include "handler/nbd/tls.h"

struct worker;

int worker_start(struct worker **ret_worker, struct error **ret_error);
/* No connection may be left. Ends the thread. NULL is allowed. */
void worker_stop(struct worker *worker);
/* Connections that it has; any thread. */
unsigned worker_load(const struct worker *worker);
/* Drops, soon, the connection that has been longest without choosing an export; false: it has none. Any
 * thread. */
bool worker_make_room(struct worker *worker);
/* Every connection stops taking requests, answers those in flight and closes. Any thread. */
void worker_drain(struct worker *worker);

struct connection_options {
    struct session_options session; /* peer, tls_required and limits; the functions are filled in here */
    struct tls *tls;                /* NULL: not offered; a reference is taken */
    /* The connection is gone for good. Any thread. */
    void (*gone)(void *data);
    void *gone_data;
};

/* Takes over a connected, non-blocking socket. Any thread. */
void connection_start(struct worker *worker, int fd, const struct connection_options *options);

#endif
