/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/nbd/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "handler/nbd/connection.h"
#include "handler/nbd/tls.h"
#include "rpc/base/address.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/log.h"
#include "rpc/http_server.h"

#define BACKLOG            512
#define ACCEPTS_A_TURN     64
#define DEFAULT_WORKERS    4
#define KEEPALIVE_IDLE     30 /* seconds; a client whose machine died is noticed after about a minute */
#define KEEPALIVE_INTERVAL 10 /* seconds */
#define KEEPALIVE_PROBES   3
#define UNACKED_LIMIT      60000 /* milliseconds that sent bytes may stay unacknowledged */
#define ACCEPT_PAUSE_MS    100   /* when descriptors have run out */
#define WARN_INTERVAL_MS   1000
#define MEMORY_SHARE       4 /* of the machine's, one part is for what clients read and write */

struct listener {
    struct server *server;
    int fd;
    bool local; /* the unix socket */
    struct loop_source *source;
};

struct server {
    const struct config *config;
    struct catalog *catalog;
    struct server_pools pools;
    struct session_memory memory; /* of all connections */
    struct tls *tls;              /* the main loop's thread; NULL: not offered */
    struct listener local, tcp;
    struct loop_source *pause; /* timer: listening goes on */
    struct worker **workers;
    unsigned worker_count;
    int64_t warned; /* about the limit of connections */
    atomic_uint_least64_t accepted, refused;

    pthread_mutex_t mutex;
    pthread_cond_t empty;
    unsigned connections; /* under the mutex */
};

/* ---- Connections ---- */

static void connection_gone(void *data)
{
    struct server *server = data;
    scoped_lock(&server->mutex);
    if (--server->connections == 0)
        pthread_cond_broadcast(&server->empty);
}

/*
 * At the limit a new client takes the place of the oldest that has not chosen an export: those who connect
 * and say nothing keep nobody out. A client that chooses in that very moment stays too, which twice the limit
 * bounds.
 */
static bool make_room(const struct server *server, unsigned connections)
{
    if (connections >= 2 * server->config->nbd_connections)
        return false;
    for (unsigned i = 0; i < server->worker_count; i++)
        if (worker_make_room(server->workers[i]))
            return true;
    return false;
}

static bool count_connection(struct server *server)
{
    {
        scoped_lock(&server->mutex);
        if (server->connections < server->config->nbd_connections || make_room(server, server->connections)) {
            server->connections++;
            return true;
        }
    }
    atomic_fetch_add(&server->refused, 1);
    int64_t now = clock_monotonic_ms();
    if (now - server->warned >= WARN_INTERVAL_MS) {
        server->warned = now;
        log_warning("refused a client: there are %llu connections, the limit that [nbd] connections sets",
                    (unsigned long long)server->config->nbd_connections);
    }
    return false;
}

static void address_text(const struct sockaddr_storage *address, char *host, size_t size, unsigned *ret_port)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    bool is_v6 = address->ss_family == AF_INET6;
    if (!inet_ntop(address->ss_family, is_v6 ? (const void *)&v6->sin6_addr : &v4->sin_addr, host,
                   (socklen_t)size))
        snprintf(host, size, "?");
    *ret_port = ntohs(is_v6 ? v6->sin6_port : v4->sin_port);
}

static void set_option(int fd, int level, int name, int value)
{
    setsockopt(fd, level, name, &value, sizeof value);
}

static void tune_tcp(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKED_LIMIT);
}

static char *local_peer(int fd)
{
    struct ucred credentials;
    socklen_t size = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
        return xstrdup("unix");
    return xasprintf("unix pid %d", (int)credentials.pid);
}

static char *tcp_peer(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    if (getpeername(fd, (struct sockaddr *)&address, &size) == 0)
        address_text(&address, host, sizeof host, &port);
    return xasprintf(address.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host, port);
}

static struct worker *least_loaded(const struct server *server)
{
    struct worker *best = server->workers[0];
    for (unsigned i = 1; i < server->worker_count; i++)
        if (worker_load(server->workers[i]) < worker_load(best))
            best = server->workers[i];
    return best;
}

static void take_client(struct listener *listener, int fd)
{
    struct server *server = listener->server;
    atomic_fetch_add(&server->accepted, 1);
    if (!count_connection(server)) {
        close(fd);
        return;
    }
    if (!listener->local)
        tune_tcp(fd);
    autofree char *peer = listener->local ? local_peer(fd) : tcp_peer(fd);
    struct connection_options options = {
        .session = {.catalog = server->catalog,
                    .pool = server->pools.query,
                    .status_pool = server->pools.status,
                    .request_limit = (unsigned)server->config->nbd_requests,
                    .memory_limit = server->config->nbd_memory,
                    .shared = &server->memory,
                    .tls_required = !listener->local && server->config->nbd_tls == TLS_REQUIRE,
                    .peer = peer},
        .tls = listener->local ? NULL : server->tls,
        .gone = connection_gone,
        .gone_data = server,
    };
    connection_start(least_loaded(server), fd, &options);
}

static void pause_listening(struct server *server)
{
    log_error("cannot accept clients: %s: raise the limit of open files", strerror(errno));
    loop_source_set_events(server->local.source, 0);
    if (server->tcp.source)
        loop_source_set_events(server->tcp.source, 0);
    loop_timer_arm(server->pause, ACCEPT_PAUSE_MS);
}

static void resume_listening(void *data)
{
    struct server *server = data;
    if (server->local.source)
        loop_source_set_events(server->local.source, EPOLLIN);
    if (server->tcp.source)
        loop_source_set_events(server->tcp.source, EPOLLIN);
}

static void on_client(void *data, uint32_t events)
{
    (void)events;
    struct listener *listener = data;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take_client(listener, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_listening(listener->server);
            return;
        } else if (errno == EAGAIN) {
            return;
        }
        /* Other errors are the client's that went away while it waited. */
    }
}

/* ---- Listeners ---- */

static int load_tls(const struct config *config, struct tls **ret_tls, struct error **ret_error)
{
    struct tls *tls = NULL;
    if (config->nbd_tls == TLS_OFF) {
        *ret_tls = NULL;
        return 0;
    }
    int r = tls_load(config->nbd_tls_dir, config->nbd_psk_file ? config->nbd_psk_file : "", &tls, ret_error);
    if (r == -ENOENT && config->nbd_tls == TLS_ALLOW && !(config->nbd_psk_file && *config->nbd_psk_file)) {
        if (ret_error) {
            error_free(*ret_error);
            *ret_error = NULL;
        }
        r = 0;
    }
    if (r == 0)
        *ret_tls = tls;
    return r;
}

static int listen_tcp(struct server *server, struct error **ret_error)
{
    const struct config *config = server->config;
    struct sockaddr_storage address;
    socklen_t length = address_parse(config->nbd_listen, (unsigned)config->nbd_port, &address);
    if (!length)
        return error_set(ret_error, EINVAL, "[nbd] listen = %s is no address", config->nbd_listen);

    autoclose int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(ret_error, errno, "cannot make a socket: %s", strerror(errno));
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, (const struct sockaddr *)&address, length) < 0 || listen(fd, BACKLOG) < 0)
        return error_set(ret_error, errno, "cannot listen on %s port %llu: %s", config->nbd_listen,
                         (unsigned long long)config->nbd_port, strerror(errno));
    server->tcp.fd = steal_fd(&fd);
    return 0;
}

static int listen_local(struct server *server, struct error **ret_error)
{
    autofree char *path = config_nbd_socket_path(server->config);
    int r = unix_listen(path, 0660, &server->local.fd, ret_error);
    if (r < 0)
        return r;
    const char *name = server->config->group;
    const struct group *group = name && *name ? getgrnam(name) : NULL;
    if (group && chown(path, (uid_t)-1, group->gr_gid) < 0)
        return error_set(ret_error, errno, "cannot give %s to the group %s: %s", path, name, strerror(errno));
    return 0;
}

static int add_listener(struct loop *loop, struct listener *listener, struct error **ret_error)
{
    return loop_add_fd(loop, listener->fd, EPOLLIN, on_client, listener, &listener->source, ret_error);
}

static int start_workers(struct server *server, struct error **ret_error)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t wanted = server->config->nbd_threads;
    if (wanted == 0)
        wanted = processors < 1 ? 1 : processors < DEFAULT_WORKERS ? (uint64_t)processors : DEFAULT_WORKERS;
    server->workers = xcalloc(wanted, sizeof *server->workers);
    for (; server->worker_count < wanted; server->worker_count++) {
        int r = worker_start(&server->workers[server->worker_count], ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

static int start(struct server *server, struct loop *loop, struct error **ret_error)
{
    int r = load_tls(server->config, &server->tls, ret_error);
    bool tcp = server->config->nbd_listen && *server->config->nbd_listen;
    if (r == 0)
        r = start_workers(server, ret_error);
    if (r == 0)
        r = loop_add_timer(loop, resume_listening, server, &server->pause, ret_error);
    if (r == 0 && tcp)
        r = listen_tcp(server, ret_error);
    if (r == 0)
        r = listen_local(server, ret_error);
    if (r == 0)
        r = add_listener(loop, &server->local, ret_error);
    if (r == 0 && tcp)
        r = add_listener(loop, &server->tcp, ret_error);
    return r;
}

static size_t machine_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages * (size_t)page : SIZE_MAX;
}

int server_start(struct loop *loop, const struct config *config, struct catalog *catalog,
                 const struct server_pools *pools, struct server **ret_server, struct error **ret_error)
{
    struct server *server = xcalloc(1, sizeof *server);
    server->config = config;
    server->catalog = catalog;
    server->pools = *pools;
    server->memory.limit = machine_memory() / MEMORY_SHARE;
    server->local = (struct listener){.server = server, .fd = -1, .local = true};
    server->tcp = (struct listener){.server = server, .fd = -1};
    pthread_mutex_init(&server->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->empty, &attributes);
    pthread_condattr_destroy(&attributes);
    int r = start(server, loop, ret_error);
    if (r < 0) {
        server_free(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

int server_reload(struct server *server, struct error **ret_error)
{
    struct tls *tls = NULL;
    int r = load_tls(server->config, &tls, ret_error);
    if (r < 0)
        return r;
    if (!tls && server->tls)
        return error_set(ret_error, ENOENT, "TLS: the certificates in %s are gone; the old ones stay in use",
                         server->config->nbd_tls_dir);
    tls_unref(server->tls);
    server->tls = tls;
    return 0;
}

static void stop_listening(struct server *server)
{
    struct listener *listeners[] = {&server->local, &server->tcp};
    for (size_t i = 0; i < 2; i++) {
        loop_source_free(steal_ptr(&listeners[i]->source));
        if (listeners[i]->fd >= 0)
            close(steal_fd(&listeners[i]->fd));
    }
}

int server_drain(struct server *server, int64_t timeout_ms)
{
    stop_listening(server);
    for (unsigned i = 0; i < server->worker_count; i++)
        worker_drain(server->workers[i]);
    int64_t deadline = clock_monotonic_ms() + timeout_ms;
    struct timespec until = {deadline / 1000, deadline % 1000 * 1000000};
    scoped_lock(&server->mutex);
    while (server->connections)
        if (pthread_cond_timedwait(&server->empty, &server->mutex, &until) == ETIMEDOUT)
            return -ETIMEDOUT;
    return 0;
}

void server_free(struct server *server)
{
    if (!server)
        return;
    stop_listening(server);
    loop_source_free(server->pause);
    for (unsigned i = 0; i < server->worker_count; i++)
        worker_stop(server->workers[i]);
    free(server->workers);
    tls_unref(server->tls);
    pthread_cond_destroy(&server->empty);
    pthread_mutex_destroy(&server->mutex);
    free(server);
}

void server_metrics(struct server *server, struct strbuf *text)
{
    unsigned connections;
    {
        scoped_lock(&server->mutex);
        connections = server->connections;
    }
    strbuf_addf(
        text,
        "# HELP blockd_nbd_connections Client connections.\n# TYPE blockd_nbd_connections gauge\n"
        "blockd_nbd_connections %u\n"
        "# HELP blockd_nbd_connections_accepted_total Clients that connected.\n"
        "# TYPE blockd_nbd_connections_accepted_total counter\n"
        "blockd_nbd_connections_accepted_total %llu\n"
        "# HELP blockd_nbd_connections_refused_total Clients turned away by the limit of connections.\n"
        "# TYPE blockd_nbd_connections_refused_total counter\n"
        "blockd_nbd_connections_refused_total %llu\n",
        connections, (unsigned long long)atomic_load(&server->accepted),
        (unsigned long long)atomic_load(&server->refused));
}
