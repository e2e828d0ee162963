/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * One NBD session: the protocol without sockets. The transport asks where the next bytes go, says how many
 * came, and sends what is queued. A test may do the same from memory.
 *
 * Threads: one thread, the session's, feeds it and calls session_resume(); requests end on any thread. The
 * output calls may come from any thread: begin claims the right to send, end gives it back.
 */
#ifndef BLOCKD_NBD_SESSION_H
#define BLOCKD_NBD_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "handler/nbd/catalog.h"

struct session;

struct session_memory {
    size_t limit; /* bytes */
    atomic_size_t used;
};

struct session_options {
    struct catalog *catalog;
    /* For what lies on this machine, and for block status, which waits for bricks; NULL: on the session's
     * thread. */
    struct pool *pool, *status_pool;
    unsigned request_limit; /* in flight or with an unsent reply */
    size_t memory_limit;    /* bytes of payload of those; one request may exceed it alone */
    /* The same for all sessions together: at this limit each may have one request with a
     * payload. NULL: none. */
    struct session_memory *shared;
    bool tls_offered, tls_required;
    const char *peer; /* for reports; copied */

    void *data; /* for the functions below; any thread may call them, none may call the session back */
    /* Output was queued. `alone`: no other request is in flight, so nothing will follow soon. */
    void (*output)(void *data, bool alone);
    /* session_resume() should be called on the session's thread. */
    void (*resume)(void *data);
    /* Send nothing, read nothing, close: the export is gone. */
    void (*cut)(void *data);
    /* Something that an administrator wants to read. */
    void (*note)(void *data, const char *text);
    /* The last reference went. */
    void (*freed)(void *data);
};

/* Queues the greeting. The first reference is the caller's. */
struct session *session_new(const struct session_options *options);
struct session *session_ref(struct session *session);
void session_unref(struct session *session);

/* ---- On the session's thread ---- */

/* Where the next bytes from the client belong: up to two places, the first filled first. 0: none are wanted
 * now. */
int session_room(struct session *session, struct iovec room[2]);
/* `length` bytes were put there. */
void session_received(struct session *session, size_t length);
/* Goes on after options.resume. */
void session_resume(struct session *session);
/* The client sent its last byte, or the server stops: no more requests are taken, those in flight are
 * answered. */
void session_drain(struct session *session);
/* Drops what is queued and takes no more. The caller's reference stays. */
void session_close(struct session *session);

/* Nothing is left to do: close the connection. */
bool session_finished(struct session *session);
/* No export is chosen yet. */
bool session_in_handshake(const struct session *session);
/* And it is the client's turn, not ours: time limits apply to that only. */
bool session_client_turn(const struct session *session);
/* STARTTLS was acknowledged and the acknowledgement is sent: do the TLS handshake, then call
 * session_tls_started(). */
bool session_wants_tls(struct session *session);
void session_tls_started(struct session *session);

/* ---- Output ---- */

/* Claims the sending and describes at most `max` parts of what is queued. 0: nothing is queued, or another
 * thread sends. */
int session_output_begin(struct session *session, struct iovec *parts, int max);
/* `sent` bytes went out; ends the claim. `stuck`: the socket is full, so that nobody tries before
 * session_unstuck(). */
void session_output_end(struct session *session, size_t sent, bool stuck);
void session_unstuck(struct session *session);

/* The error of the protocol for a negative errno. */
uint32_t nbd_error_of(int result);

#endif
