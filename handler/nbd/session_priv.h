/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The inside of a session, for the three files that make it: session.c, negotiate.c, transmit.c. */
#ifndef BLOCKD_NBD_SESSION_PRIV_H
#define BLOCKD_NBD_SESSION_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "handler/nbd/protocol.h"
#include "handler/nbd/session.h"

#define INPUT_SIZE       ((size_t)64 << 10)
#define OPTION_LIMIT     ((uint32_t)32 << 10) /* of an option's data; more is skipped and refused */
#define OPTION_SKIP_MAX  ((uint32_t)16 << 20) /* more than this ends the session */
#define PAYLOAD_MAX      ((uint32_t)32 << 20)
#define KEPT_BUFFER_MAX  ((size_t)128 << 10) /* larger buffers are not kept for the next request */
#define KEPT_MAX         ((size_t)1 << 20)   /* nor more than this of a session */
#define CACHE_STEP       ((size_t)1 << 20)
#define EXTENTS_A_REPLY  128
#define CONTEXT_ID       UINT32_C(1) /* of base:allocation */
#define REPLY_HEADER_MAX (NBD_STRUCTURED_REPLY_SIZE + 12)

enum session_state {
    SESSION_CLIENT_FLAGS,
    SESSION_OPTION,
    SESSION_OPTION_SKIP, /* the data of an option that is refused */
    SESSION_WAITING,     /* the answer to an option is made elsewhere */
    SESSION_TLS,         /* between the answer to STARTTLS and the end of its handshake */
    SESSION_REQUEST,
    SESSION_PAYLOAD,      /* of session->writing */
    SESSION_PAYLOAD_SKIP, /* of a write that is refused */
    SESSION_DRAINING,     /* no more input */
    SESSION_ENDED,
};

/* A request from its header to the last byte of its reply; also a message of the handshake, which has a
 * payload only. */
struct request {
    struct request *next; /* in the output queue or the free list */
    struct session *session;
    int64_t started; /* CLOCK_MONOTONIC nanoseconds */
    uint64_t cookie, offset;
    uint32_t length;
    uint16_t type, flags;
    bool flush_after; /* FUA of a request that the image has no FUA for */
    size_t charged;   /* bytes counted in session->memory */
    char *buffer; /* payload of the request or the reply; at least `charged` bytes unless memory was gone */
    size_t capacity;
    uint32_t cached; /* of NBD_CMD_CACHE: bytes done */
    /* The reply */
    size_t header_length, payload_length, sent;
    uint8_t header[REPLY_HEADER_MAX];
};

/* An option that is answered elsewhere: the question, then the answer. */
struct negotiation {
    struct session *session; /* a reference */
    uint32_t option;
    char *name;
    bool wants_name, wants_block_size; /* of INFO and GO */
    struct string_list queries;        /* of meta contexts */
    int result;
    char *message;
    struct string_list names; /* of LIST */
    struct catalog_info info;
};

struct session {
    struct session_options options;
    atomic_uint references;
    atomic_bool cut;    /* the export is gone */
    atomic_bool ending; /* no more requests are taken: hints need not be followed any more */

    /* ---- The session's thread ---- */
    enum session_state state;
    uint8_t *input;
    size_t input_start, input_end;
    uint64_t skip;
    bool fixed, no_zeroes, structured, tls;
    char *meta_export;       /* for which base:allocation was selected; NULL: none */
    bool aligned;            /* the client asked for the block size, so it keeps to it */
    bool status;             /* block status may be asked for */
    struct request *writing; /* a write whose payload comes */
    size_t written;
    bool stalled; /* by a limit; until session_resume() */
    struct catalog_user user;
    struct image *image;     /* of user.entry */
    struct metrics *metrics; /* likewise */

    pthread_mutex_t mutex;
    /* ---- Under the mutex ---- */
    struct request *output, **output_last;
    bool sending, stuck, closed;
    bool wants_room;    /* call options.resume when a request is released */
    bool wants_end;     /* and when the last one is */
    unsigned executing; /* requests without a reply */
    unsigned held;      /* those, and the ones whose reply is not sent */
    size_t memory;      /* bytes of their payload */
    struct request *free;
    size_t kept;                           /* bytes of their buffers */
    struct negotiation *answer;            /* that SESSION_WAITING waits for */
    struct request *asking, **asking_last; /* block status, one after the other */
    bool asked;                            /* a thread of the pool goes through them */
};

/* ---- session.c ---- */

/*
 * A request whose buffer has room for `payload` bytes; NULL when a limit is reached, and session_resume()
 * will come. It holds a reference to the session until request_reply() or request_drop().
 */
struct request *request_new(struct session *session, size_t payload);
/* Queues the reply that the request carries. Any thread. */
void request_reply(struct request *request);
/* Ends a request without a reply. */
void request_drop(struct request *request);
/* Queues a message of the handshake and empties the buffer. */
void session_send(struct session *session, struct strbuf *message);

/* ---- negotiate.c ---- */

void negotiate_greet(struct session *session);
void negotiate_client_flags(struct session *session, uint32_t flags);
void negotiate_option(struct session *session, uint32_t option, const uint8_t *data, uint32_t length);
/* An option whose data is longer than OPTION_LIMIT. */
void negotiate_too_big(struct session *session, uint32_t option);
/* What SESSION_WAITING waited for is there; takes it over. */
void negotiate_answered(struct session *session, struct negotiation *answer);
void negotiation_free(struct negotiation *negotiation);

/* ---- transmit.c ---- */

/* A header of NBD_REQUEST_SIZE bytes. false: it was not consumed because of a limit; try again later. */
bool transmit_request(struct session *session, const uint8_t *header);
/* The payload of a write is complete. */
void transmit_write(struct request *request);

#endif
