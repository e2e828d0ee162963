/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Inside the HTTP server. http_server.c accepts, http_connections.c keeps what is open, http_request.c
 * serves a request; only the first and the last of them know libmicrohttpd.
 */
#ifndef BLOCKD_RPC_HTTP_PRIV_H
#define BLOCKD_RPC_HTTP_PRIV_H

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>

#include "rpc/http_server.h"

#define HTTP_ADDRESS_SIZE INET6_ADDRSTRLEN

/* ---- http_connections.c ---- */

/* One connection, from accept(2) to close(2). */
struct http_connection {
    struct http_connections *all;
    int fd;
    char address[HTTP_ADDRESS_SIZE]; /* "" on a unix socket */
    struct in6_addr group;           /* what counts as one address; all zero on a unix socket */
    bool beyond_limit;               /* it is told so with its first request */
    bool spoke;                      /* a request line has come */
    _Atomic bool late;               /* its time was over */
    struct tls_peer *tls;            /* NULL: plain */
    int64_t deadline;                /* CLOCK_MONOTONIC ms; 0: none */
    struct http_connection *next, *previous;
};

/* Of one server: all of them, and a thread that cuts off those whose time is over. Any thread. */
struct http_connections;

int http_connections_new(struct http_connections **ret_connections, struct error **ret_error);
/* No connection is left. NULL is allowed. */
void http_connections_free(struct http_connections *connections);

/* May another one come from that address (sockaddr)? */
bool http_connections_room(struct http_connections *connections, const struct sockaddr *address,
                           unsigned limit);
/* The text of a TCP address; "" for another family. */
void http_address_text(const struct sockaddr *address, char text[HTTP_ADDRESS_SIZE]);

/* `limit` of all: those beyond it are marked. The socket stays open until the connection is removed. */
struct http_connection *http_connection_add(struct http_connections *connections, int fd, unsigned limit);
void http_connection_remove(struct http_connection *connection);
/* From now on it has so many seconds; 0: as many as it likes. */
void http_connection_limit(struct http_connection *connection, unsigned seconds);

/* ---- http_server.c ---- */

struct http_server {
    struct MHD_Daemon *daemon;
    int listen_fd;
    struct http_server_options options;
    struct http_connections *connections;

    pthread_mutex_t mutex; /* guards what follows; no other lock is taken under it */
    pthread_cond_t changed;
    struct tls_server *tls; /* for the next connection; NULL: plain */
    bool stopping;
    unsigned handlers; /* running */
    unsigned replies;  /* not yet sent to their end; includes `handlers` */
};

/* The socket of a connection. */
int http_socket(struct MHD_Connection *connection);

/* ---- http_request.c: what libmicrohttpd calls, in this order, on the connection's thread ---- */

/* At the request line. */
void *http_on_line(void *data, const char *uri, struct MHD_Connection *connection);
/* After the headers, for each piece of the body, and at its end. */
enum MHD_Result http_on_request(void *data, struct MHD_Connection *connection, const char *url,
                                const char *method, const char *version, const char *upload,
                                size_t *upload_size, void **state);
/* After the reply, or when the connection broke. */
void http_on_completed(void *data, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode code);

#endif
