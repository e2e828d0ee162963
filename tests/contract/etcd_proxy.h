/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Stands between the store and a member of etcd and loses answers, as a network does at the worst moment. */
#ifndef BLOCKD_TESTS_ETCD_PROXY_H
#define BLOCKD_TESTS_ETCD_PROXY_H

#include "tests/contract/etcd_server.h"

#define PROXY_LATE_MS 400

struct proxy {
    int listener;
    unsigned port, target; /* of loopback */
    pthread_t thread;
    int stop;                     /* atomic */
    size_t active;                /* atomic: exchanges under way */
    size_t lost, swallowed, late; /* atomic: how often it did so */
    unsigned every;               /* each such request loses its answer; 0: none */
    const char *path;             /* only those that ask for this path */
};

struct proxy_exchange {
    struct proxy *proxy;
    int fd;
    size_t serial;
};

/* A whole HTTP message with a Content-Length. False: the peer is gone. */
static inline bool proxy_read(int fd, struct strbuf *message)
{
    char chunk[65536];
    for (;;) {
        const char *text = strbuf_string(message), *end = strstr(text, "\r\n\r\n");
        const char *length = end ? strcasestr(text, "content-length:") : NULL;
        if (end &&
            message->length >= (size_t)(end - text) + 4 + (length ? strtoul(length + 15, NULL, 10) : 0))
            return true;
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got <= 0)
            return false;
        strbuf_add(message, chunk, (size_t)got);
    }
}

static inline int proxy_connect(unsigned port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

/* One request and its answer. */
static inline void proxy_exchange(struct proxy *proxy, int fd, size_t serial)
{
    autostrbuf struct strbuf request = {0}, reply = {0};
    if (!proxy_read(fd, &request)) {
        close(fd);
        return;
    }
    bool lose = proxy->every && serial % proxy->every == 0 && strstr(strbuf_string(&request), proxy->path);
    bool late = lose && __atomic_add_fetch(&proxy->lost, 1, __ATOMIC_RELAXED) % 2;
    if (late) {
        close(fd); /* the store believes in a failure, and etcd gets the request when nobody waits any more */
        fd = -1;
        struct timespec pause = {.tv_nsec = PROXY_LATE_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
    autoclose int server = proxy_connect(proxy->target);
    if (server >= 0 && write(server, request.data, request.length) == (ssize_t)request.length &&
        proxy_read(server, &reply) && !lose && write(fd, reply.data, reply.length) < 0)
        perror("proxy");
    if (lose)
        __atomic_add_fetch(late ? &proxy->late : &proxy->swallowed, 1, __ATOMIC_RELAXED);
    if (fd >= 0)
        close(fd);
}

static inline void *proxy_exchange_thread(void *data)
{
    struct proxy_exchange *exchange = data;
    struct proxy *proxy = exchange->proxy;
    proxy_exchange(proxy, exchange->fd, exchange->serial);
    free(exchange);
    __atomic_sub_fetch(&proxy->active, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static inline void *proxy_run(void *data)
{
    struct proxy *proxy = data;
    for (size_t serial = 1; !__atomic_load_n(&proxy->stop, __ATOMIC_SEQ_CST); serial++) {
        int fd = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        struct proxy_exchange *exchange = xcalloc(1, sizeof *exchange);
        *exchange = (struct proxy_exchange){proxy, fd, serial};
        pthread_t thread;
        __atomic_add_fetch(&proxy->active, 1, __ATOMIC_SEQ_CST);
        if (pthread_create(&thread, NULL, proxy_exchange_thread, exchange))
            abort();
        pthread_detach(thread);
    }
    return NULL;
}

static inline void proxy_start(struct proxy *proxy, unsigned target, unsigned every, const char *path)
{
    *proxy = (struct proxy){.target = target, .every = every, .path = path};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (proxy->listener < 0 || bind(proxy->listener, (struct sockaddr *)&address, length) < 0 ||
        listen(proxy->listener, 128) < 0 ||
        getsockname(proxy->listener, (struct sockaddr *)&address, &length) < 0 ||
        pthread_create(&proxy->thread, NULL, proxy_run, proxy))
        abort();
    proxy->port = ntohs(address.sin_port);
}

static inline void proxy_stop(struct proxy *proxy)
{
    __atomic_store_n(&proxy->stop, 1, __ATOMIC_SEQ_CST);
    autoclose int wake = proxy_connect(proxy->port);
    shutdown(wake, SHUT_RDWR);
    pthread_join(proxy->thread, NULL);
    close(proxy->listener);
    while (__atomic_load_n(&proxy->active, __ATOMIC_SEQ_CST))
        usleep(1000);
}

#endif
