/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "rpc/http_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

struct http_connections {
    pthread_t thread;
    pthread_mutex_t mutex; /* guards what follows, and the links and deadlines of connections */
    pthread_cond_t changed;
    bool stopping;
    unsigned count;
    struct http_connection *first;
};

/* ---- Addresses ---- */

/* An IPv6 client has a whole /64 to call from. */
static struct in6_addr group_of(const struct sockaddr *address)
{
    struct in6_addr group = {0};
    if (address->sa_family == AF_INET) {
        group.s6_addr[10] = group.s6_addr[11] = 0xff;
        memcpy(&group.s6_addr[12], &((const struct sockaddr_in *)address)->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        const struct in6_addr *whole = &((const struct sockaddr_in6 *)address)->sin6_addr;
        memcpy(&group, whole, IN6_IS_ADDR_V4MAPPED(whole) ? 16 : 8);
    }
    return group;
}

void http_address_text(const struct sockaddr *address, char text[HTTP_ADDRESS_SIZE])
{
    text[0] = '\0';
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, HTTP_ADDRESS_SIZE);
    else if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text, HTTP_ADDRESS_SIZE);
}

bool http_connections_room(struct http_connections *connections, const struct sockaddr *address,
                           unsigned limit)
{
    if (!limit || (address->sa_family != AF_INET && address->sa_family != AF_INET6))
        return true;
    struct in6_addr group = group_of(address);
    unsigned count = 0;
    scoped_lock(&connections->mutex);
    for (struct http_connection *other = connections->first; other; other = other->next)
        count += IN6_ARE_ADDR_EQUAL(&other->group, &group) ? 1 : 0;
    return count < limit;
}

/* A peer that vanished without a word is noticed within about a minute, also where nothing is to be sent. */
static void watch_peer(int fd)
{
    const struct {
        int level, name, value;
    } options[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},
                   {IPPROTO_TCP, TCP_KEEPIDLE, 30},
                   {IPPROTO_TCP, TCP_KEEPINTVL, 10},
                   {IPPROTO_TCP, TCP_KEEPCNT, 3},
                   {IPPROTO_TCP, TCP_USER_TIMEOUT, 60000}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
}

/* ---- Connections ---- */

struct http_connection *http_connection_add(struct http_connections *connections, int fd, unsigned limit)
{
    struct http_connection *connection = xcalloc(1, sizeof *connection);
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    connection->all = connections;
    connection->fd = fd;
    if (getpeername(fd, (struct sockaddr *)&address, &length) == 0 && address.ss_family != AF_UNIX) {
        http_address_text((struct sockaddr *)&address, connection->address);
        connection->group = group_of((struct sockaddr *)&address);
        watch_peer(fd);
    }
    scoped_lock(&connections->mutex);
    connection->beyond_limit = ++connections->count > limit;
    connection->next = connections->first;
    if (connections->first)
        connections->first->previous = connection;
    connections->first = connection;
    return connection;
}

void http_connection_remove(struct http_connection *connection)
{
    struct http_connections *connections = connection->all;
    {
        scoped_lock(&connections->mutex);
        connections->count--;
        if (connection->next)
            connection->next->previous = connection->previous;
        if (connection->previous)
            connection->previous->next = connection->next;
        else
            connections->first = connection->next;
    }
    tls_peer_free(connection->tls);
    free(connection);
}

void http_connection_limit(struct http_connection *connection, unsigned seconds)
{
    struct http_connections *connections = connection->all;
    scoped_lock(&connections->mutex);
    connection->deadline = seconds ? clock_monotonic_ms() + (int64_t)seconds * 1000 : 0;
    if (seconds)
        pthread_cond_signal(&connections->changed);
}

/* ---- The thread ---- */

/* Cuts off who is late, and returns the next deadline; 0: there is none. */
static int64_t look(struct http_connections *connections)
{
    int64_t now = clock_monotonic_ms(), next = 0;
    for (struct http_connection *each = connections->first; each; each = each->next) {
        if (!each->deadline)
            continue;
        if (each->deadline <= now) {
            each->late = true;
            each->deadline = 0;
            shutdown(each->fd, SHUT_RDWR);
        } else if (!next || each->deadline < next) {
            next = each->deadline;
        }
    }
    return next;
}

static void *run(void *data)
{
    struct http_connections *connections = data;
    scoped_lock(&connections->mutex);
    while (!connections->stopping) {
        int64_t next = look(connections);
        struct timespec when = {next / 1000, next % 1000 * 1000000};
        if (next)
            pthread_cond_clockwait(&connections->changed, &connections->mutex, CLOCK_MONOTONIC, &when);
        else
            pthread_cond_wait(&connections->changed, &connections->mutex);
    }
    return NULL;
}

int http_connections_new(struct http_connections **ret_connections, struct error **ret_error)
{
    struct http_connections *connections = xcalloc(1, sizeof *connections);
    pthread_mutex_init(&connections->mutex, NULL);
    pthread_cond_init(&connections->changed, NULL);
    int number = pthread_create(&connections->thread, NULL, run, connections);
    if (number) {
        free(connections);
        return error_set(ret_error, number, "cannot start a thread: %s", strerror(number));
    }
    *ret_connections = connections;
    return 0;
}

void http_connections_free(struct http_connections *connections)
{
    if (!connections)
        return;
    {
        scoped_lock(&connections->mutex);
        connections->stopping = true;
        pthread_cond_signal(&connections->changed);
    }
    pthread_join(connections->thread, NULL);
    pthread_cond_destroy(&connections->changed);
    pthread_mutex_destroy(&connections->mutex);
    free(connections);
}
