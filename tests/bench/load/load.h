/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * One load for servers of different protocols: the same thread, the same requests, the same way to wait, so
 * that what differs is the server and its protocol.
 */
#ifndef BLOCKD_BENCH_LOAD_H
#define BLOCKD_BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct slot; /* one request in flight, with a buffer of its own */

struct request {
    struct slot *slot;
    bool write;
    uint64_t offset; /* bytes */
    size_t length;   /* bytes */
    unsigned char *buffer;
};

/* All of it is called by the main thread. A function that fails prints why and returns false. */
struct driver {
    /* The connection, ready for requests; NULL when it fails. It lives until the process ends. */
    void *(*connect)(const char *uri);
    uint64_t (*size)(void *connection); /* bytes */
    /* The request and its buffer stay as they are until load_completed(). */
    bool (*submit)(void *connection, const struct request *request);
    /* The descriptor, and for which of poll's events to wait. */
    int (*descriptor)(void *connection);
    short (*events)(void *connection);
    /* Sends and receives what there is to, and calls load_completed() for what ended. */
    bool (*service)(void *connection, short events);
};

extern const struct driver nbd_driver, iscsi_driver;

/* From submit() or service(), once for each request. problem: NULL, or why it failed. */
void load_completed(struct slot *slot, const char *problem);

#endif
