/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * HTTP/1.1 over a listening socket, on libmicrohttpd (http_server.c, the only file that knows it). One thread
 * a connection while it is busy, so that a handler may block (?wait=, ?watch=). Limits: connections, body
 * size, header size, idle time.
 */
#ifndef BLOCKD_RPC_HTTP_SERVER_H
#define BLOCKD_RPC_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "rpc/base/error.h"

struct http_server;

struct http_request {
    const char *method, *path; /* "GET" for HEAD too; path as sent, without the query */
    const char *body;          /* NUL terminated; "" when there is none */
    size_t body_length;
    bool peer_known; /* the peer's credentials (SO_PEERCRED) are known: a unix socket */
    uid_t peer_uid;
    gid_t peer_gid;
    pid_t peer_pid;
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
    size_t body_limit;     /* bytes; more is answered with 413 */
    unsigned idle_seconds; /* a connection that neither sends nor receives for so long is closed */
    http_handler handler;
    void *handler_data;
};

int http_server_start(const struct http_server_options *options, struct http_server **ret_server,
                      struct error **ret_error);
/* Stops accepting, ends streams, waits for running handlers. NULL is allowed. */
void http_server_stop(struct http_server *server);

/* A listening unix socket at `path`, replacing a dead one; -EADDRINUSE when somebody answers there. */
int unix_listen(const char *path, mode_t mode, int *ret_fd, struct error **ret_error);

#endif
