/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * HTTP/1.1 over a listening socket, with or without TLS, on libmicrohttpd. One thread a connection while it
 * is busy, so that a handler may block (?wait=, ?watch=). Limits: connections, in all and of one address,
 * body size, header size, idle time, and the time that a request may take to arrive.
 */
#ifndef BLOCKD_RPC_HTTP_SERVER_H
#define BLOCKD_RPC_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "rpc/base/error.h"
#include "rpc/tls_server.h"

struct http_server;

#define HTTP_REQUEST_ID_MAX 64

struct http_request {
    const char *method, *path; /* "GET" for HEAD too; path as sent, without the query */
    const char *body;          /* NUL terminated; "" when there is none */
    size_t body_length;
    bool peer_known; /* the peer's credentials (SO_PEERCRED) are known: a unix socket */
    uid_t peer_uid;
    gid_t peer_gid;
    pid_t peer_pid;
    const char *peer_address; /* of a TCP client, without its port; NULL on a unix socket */
    bool tls;
    const char *peer_certificate; /* PEM, not verified; NULL: none was shown */
    /* The client's X-Request-Id where that is [A-Za-z0-9._-]{1,64}, else a new one; it is in every reply. */
    const char *id;
    void *connection; /* of the server; for the two functions below */
};

/* NULL when absent. Valid during the handler. */
const char *http_request_header(const struct http_request *request, const char *name);
/* Calls visit() for each query parameter; stops at the first that returns non-zero, and returns that. */
typedef int (*http_query_visit)(void *data, const char *name, const char *value);
int http_request_query(const struct http_request *request, http_query_visit visit, void *data);

struct http_response {
    unsigned status;          /* 200 unless set */
    const char *content_type; /* static; "application/json" unless set */
    const char *allow;        /* static; methods of the path, for a 405; NULL: no such header */
    bool last;                /* the connection ends after it */
    char *body;               /* malloc()ed, taken by the server; NULL: empty */
    size_t body_length;
    /*
     * Streaming instead of a body: called again and again on the connection's thread, may block for up to a
     * second at a time, returns bytes written to buffer, 0 to be called again, or -1 to end the stream.
     * stream_free runs once at the end.
     */
    ssize_t (*stream)(void *data, char *buffer, size_t size);
    void (*stream_free)(void *data);
    void *stream_data;
};

/* Runs on the connection's thread. */
typedef void (*http_handler)(void *data, const struct http_request *request, struct http_response *response);

struct http_server_options {
    int listen_fd; /* taken over on success */
    unsigned connection_limit;
    size_t body_limit;      /* bytes; more is answered with 413 */
    unsigned idle_seconds;  /* a connection that neither sends nor receives for so long is closed */
    struct tls_server *tls; /* a reference is taken; NULL: plain */
    /* Seconds that a client has from its connection, or from a later request's first line, until the request
     * is there whole, TLS handshake included; and that a connection is kept between requests. 0: no limit. */
    unsigned request_seconds, keep_seconds;
    unsigned address_limit; /* connections of one IPv4 address or IPv6 /64; 0: no limit */
    http_handler handler;
    /* Says why a client was sent away before it made a request; any thread. NULL: nobody is told. */
    void (*notice)(void *data, const char *address, const char *reason);
    void *handler_data; /* of both */
};

int http_server_start(const struct http_server_options *options, struct http_server **ret_server,
                      struct error **ret_error);
/* Stops accepting, ends streams, waits for running handlers. NULL is allowed. */
void http_server_stop(struct http_server *server);

/* Connections from now on show this certificate. */
void http_server_set_tls(struct http_server *server, struct tls_server *tls);

/* A listening unix socket at `path`, replacing a dead one; -EADDRINUSE when somebody answers there. */
int unix_listen(const char *path, mode_t mode, int *ret_fd, struct error **ret_error);

/* A listening TCP socket at an IPv4 or IPv6 address of this machine. */
int tcp_listen(const char *address, unsigned port, int *ret_fd, struct error **ret_error);

/* Is it what a client may call its request: [A-Za-z0-9._-], 1 to HTTP_REQUEST_ID_MAX characters? */
bool http_request_id_is_sane(const char *id);

#endif
