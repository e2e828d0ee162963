/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The server: its connections, their TLS, its start and its end. */
#include <errno.h>
#include <string.h>

#include "rpc/http_priv.h"
#include "rpc/base/alloc.h"

#define HEADER_MEMORY     (32u << 10) /* a connection's request line and headers; more is answered with 431 */
#define SPARE_CONNECTIONS 32          /* beyond the limit, so that a client is told instead of cut off */
#define DRAIN_SECONDS     5           /* for replies that are on their way when the server stops */

/* ---- Connections ---- */

int http_socket(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

static void notice(struct http_server *server, const char *address, const char *reason)
{
    if (server->options.notice)
        server->options.notice(server->options.handler_data, address, reason);
}

/* Runs at accept(2). */
static enum MHD_Result on_accept(void *data, const struct sockaddr *address, socklen_t length)
{
    struct http_server *server = data;
    (void)length;
    if (http_connections_room(server->connections, address, server->options.address_limit))
        return MHD_YES;
    char text[HTTP_ADDRESS_SIZE];
    http_address_text(address, text);
    notice(server, text, "it has too many connections already");
    return MHD_NO;
}

/* libmicrohttpd has made a session that has not begun. */
static void start_tls(struct http_server *server, struct MHD_Connection *connection,
                      struct http_connection *peer)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    if (!info || !info->tls_session)
        return;
    struct tls_server *tls;
    {
        scoped_lock(&server->mutex);
        tls = tls_server_ref(server->tls);
    }
    tls_peer_start(tls, info->tls_session, peer->fd, &peer->tls, NULL);
    tls_server_unref(tls);
}

/* Of a TLS client that closed, or was closed, before its first request line. */
static void explain_silence(struct http_server *server, const struct http_connection *peer)
{
    if (tls_peer_is_plain(peer->tls))
        notice(server, peer->address, "it speaks no TLS");
    else if (peer->late)
        notice(server, peer->address, "it made no request in time");
    else
        notice(
            server, peer->address,
            "it went before its TLS handshake was done; perhaps it does not trust this node's certificate");
}

static void on_connection(void *data, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = data;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        struct http_connection *peer = http_connection_add(server->connections, http_socket(connection),
                                                           server->options.connection_limit);
        *socket_context = peer;
        start_tls(server, connection, peer);
        http_connection_limit(peer, server->options.request_seconds);
        return;
    }
    struct http_connection *peer = *socket_context;
    if (!peer)
        return;
    if (peer->tls && !peer->spoke)
        explain_silence(server, peer);
    http_connection_remove(peer);
}

/* ---- The server ---- */

static void server_free(struct http_server *server)
{
    http_connections_free(server->connections);
    tls_server_unref(server->tls);
    pthread_mutex_destroy(&server->mutex);
    pthread_cond_destroy(&server->changed);
    free(server);
}

/* libmicrohttpd wants a way to a certificate before it makes sessions; theirs is set for each (start_tls). */
static int no_certificate(void)
{
    return -1;
}

static struct MHD_Daemon *start_daemon(struct http_server *server)
{
    const struct http_server_options *options = &server->options;
    unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_ITC;
    return MHD_start_daemon(
        options->tls ? flags | MHD_USE_TLS : flags, 0, on_accept, server, http_on_request, server,
        MHD_OPTION_LISTEN_SOCKET, options->listen_fd, MHD_OPTION_CONNECTION_LIMIT,
        options->connection_limit + SPARE_CONNECTIONS, MHD_OPTION_NOTIFY_CONNECTION, on_connection, server,
        MHD_OPTION_CONNECTION_TIMEOUT, options->idle_seconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HEADER_MEMORY, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, http_on_line,
        server, MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, server,
        options->tls ? MHD_OPTION_HTTPS_CERT_CALLBACK2 : MHD_OPTION_END, no_certificate, MHD_OPTION_END);
}

int http_server_start(const struct http_server_options *options, struct http_server **ret_server,
                      struct error **ret_error)
{
    struct http_server *server = xcalloc(1, sizeof *server);
    server->options = *options;
    server->listen_fd = options->listen_fd;
    server->tls = tls_server_ref(options->tls);
    pthread_mutex_init(&server->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);

    int r = http_connections_new(&server->connections, ret_error);
    errno = 0;
    if (r == 0 && !(server->daemon = start_daemon(server))) {
        int number = errno ? errno : EIO;
        r = error_set(ret_error, number, "cannot start the HTTP server: %s", strerror(number));
    }
    if (r < 0) {
        server_free(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

void http_server_set_tls(struct http_server *server, struct tls_server *tls)
{
    struct tls_server *before;
    {
        scoped_lock(&server->mutex);
        before = server->tls;
        server->tls = tls_server_ref(tls);
    }
    tls_server_unref(before);
}

/* Handlers are waited for as long as they take; their replies only as long as a live client needs to read
 * them. */
static void drain(struct http_server *server)
{
    scoped_lock(&server->mutex);
    server->stopping = true;
    while (server->handlers)
        pthread_cond_wait(&server->changed, &server->mutex);

    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += DRAIN_SECONDS;
    while (server->replies)
        if (pthread_cond_timedwait(&server->changed, &server->mutex, &deadline) == ETIMEDOUT)
            break;
}

void http_server_stop(struct http_server *server)
{
    if (!server)
        return;
    MHD_quiesce_daemon(server->daemon);
    drain(server);
    MHD_stop_daemon(server->daemon);
    close(server->listen_fd);
    server_free(server);
}
