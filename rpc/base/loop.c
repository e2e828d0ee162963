/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "alloc.h"

#define EVENTS_A_TURN 64

enum source_kind { SOURCE_FD, SOURCE_TIMER, SOURCE_SIGNALS };

struct loop_source {
    struct loop *loop;
    enum source_kind kind;
    int fd;     /* owned unless SOURCE_FD */
    bool ended; /* waits in loop->ended for the end of this turn */
    void *data;
    union {
        loop_fd_callback on_fd;
        loop_callback on_timer;
        loop_signal_callback on_signal;
    };
    struct loop_source *next; /* in loop->live or loop->ended */
    struct loop_source *previous;
};

struct posted {
    loop_callback callback;
    void *data;
};

struct loop {
    int epoll_fd;
    int wake_fd;
    atomic_bool stopping;
    struct loop_source *live;
    struct loop_source *ended; /* freed after the turn: an event of this turn may still name them */

    pthread_mutex_t mutex; /* guards what follows */
    struct posted *posted;
    size_t posted_count;
    size_t posted_capacity;
};

int loop_new(struct loop **ret_loop, struct error **ret_error)
{
    cleanup(cleanup_loop) struct loop *loop = xcalloc(1, sizeof *loop);
    pthread_mutex_init(&loop->mutex, NULL);
    loop->wake_fd = -1;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0)
        return error_set(ret_error, errno, "cannot make an epoll instance: %s", strerror(errno));
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    /* Each write is an event of its own, so that nobody needs to read it. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    if (loop->wake_fd < 0 || epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0)
        return error_set(ret_error, errno, "cannot make an eventfd: %s", strerror(errno));
    *ret_loop = steal_ptr(&loop);
    return 0;
}

static void unlink_source(struct loop_source *source, struct loop_source **head)
{
    if (source->previous)
        source->previous->next = source->next;
    else
        *head = source->next;
    if (source->next)
        source->next->previous = source->previous;
    source->next = source->previous = NULL;
}

static void link_source(struct loop_source *source, struct loop_source **head)
{
    source->next = *head;
    if (*head)
        (*head)->previous = source;
    *head = source;
}

static void reap(struct loop *loop)
{
    while (loop->ended) {
        struct loop_source *source = loop->ended;
        unlink_source(source, &loop->ended);
        free(source);
    }
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    while (loop->live)
        loop_source_free(loop->live);
    reap(loop);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    free(loop->posted);
    pthread_mutex_destroy(&loop->mutex);
    free(loop);
}

static void wake(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t written = write(loop->wake_fd, &one, sizeof one);
    (void)written; /* the counter is full after 2^64 of these */
}

void loop_post(struct loop *loop, loop_callback callback, void *data)
{
    bool first;
    {
        scoped_lock(&loop->mutex);
        if (loop->posted_count == loop->posted_capacity) {
            loop->posted_capacity = loop->posted_capacity ? loop->posted_capacity * 2 : 16;
            loop->posted = xrealloc(loop->posted, loop->posted_capacity, sizeof *loop->posted);
        }
        first = loop->posted_count == 0;
        loop->posted[loop->posted_count++] = (struct posted){callback, data};
    }
    if (first)
        wake(loop);
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stopping, true);
    wake(loop);
}

static void run_posted(struct loop *loop)
{
    struct posted *batch;
    size_t batch_count;
    {
        scoped_lock(&loop->mutex);
        batch = loop->posted;
        batch_count = loop->posted_count;
        loop->posted = NULL;
        loop->posted_count = loop->posted_capacity = 0;
    }
    for (size_t i = 0; i < batch_count; i++)
        batch[i].callback(batch[i].data);
    free(batch);
}

static void dispatch(struct loop_source *source, uint32_t events)
{
    uint64_t expirations;
    struct signalfd_siginfo info;
    switch (source->kind) {
    case SOURCE_FD:
        source->on_fd(source->data, events);
        break;
    case SOURCE_TIMER:
        if (read(source->fd, &expirations, sizeof expirations) == sizeof expirations)
            source->on_timer(source->data);
        break;
    case SOURCE_SIGNALS:
        while (!source->ended && read(source->fd, &info, sizeof info) == sizeof info)
            source->on_signal(source->data, (int)info.ssi_signo);
        break;
    }
}

int loop_run(struct loop *loop, struct error **ret_error)
{
    struct epoll_event events[EVENTS_A_TURN];
    while (!atomic_load(&loop->stopping)) {
        int count = epoll_wait(loop->epoll_fd, events, EVENTS_A_TURN, -1);
        if (count < 0 && errno != EINTR)
            return error_set(ret_error, errno, "epoll_wait failed: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            struct loop_source *source = events[i].data.ptr;
            if (!source)
                run_posted(loop);
            else if (!source->ended)
                dispatch(source, events[i].events);
        }
        reap(loop);
    }
    return 0;
}

static int add(struct loop *loop, struct loop_source *source, uint32_t events,
               struct loop_source **ret_source, struct error **ret_error)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0) {
        int number = errno;
        if (source->kind != SOURCE_FD)
            close(source->fd);
        free(source);
        return error_set(ret_error, number, "epoll_ctl failed: %s", strerror(number));
    }
    link_source(source, &loop->live);
    *ret_source = source;
    return 0;
}

static struct loop_source *source_new(struct loop *loop, enum source_kind kind, int fd, void *data)
{
    struct loop_source *source = xcalloc(1, sizeof *source);
    source->loop = loop;
    source->kind = kind;
    source->fd = fd;
    source->data = data;
    return source;
}

int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_callback callback, void *data,
                struct loop_source **ret_source, struct error **ret_error)
{
    struct loop_source *source = source_new(loop, SOURCE_FD, fd, data);
    source->on_fd = callback;
    return add(loop, source, events, ret_source, ret_error);
}

int loop_source_set_events(struct loop_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0 ? -errno : 0;
}

int loop_add_timer(struct loop *loop, loop_callback callback, void *data, struct loop_source **ret_source,
                   struct error **ret_error)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0)
        return error_set(ret_error, errno, "cannot make a timer: %s", strerror(errno));
    struct loop_source *source = source_new(loop, SOURCE_TIMER, fd, data);
    source->on_timer = callback;
    return add(loop, source, EPOLLIN, ret_source, ret_error);
}

void loop_timer_arm(struct loop_source *source, int64_t delay_ms)
{
    struct itimerspec when = {0};
    if (delay_ms >= 0) {
        when.it_value.tv_sec = delay_ms / 1000;
        when.it_value.tv_nsec = delay_ms % 1000 * 1000000;
        if (delay_ms == 0)
            when.it_value.tv_nsec = 1; /* all zero would disarm */
    }
    timerfd_settime(source->fd, 0, &when, NULL);
}

int loop_add_signals(struct loop *loop, const sigset_t *set, loop_signal_callback callback, void *data,
                     struct loop_source **ret_source, struct error **ret_error)
{
    int fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return error_set(ret_error, errno, "cannot make a signalfd: %s", strerror(errno));
    struct loop_source *source = source_new(loop, SOURCE_SIGNALS, fd, data);
    source->on_signal = callback;
    return add(loop, source, EPOLLIN, ret_source, ret_error);
}

void loop_source_free(struct loop_source *source)
{
    if (!source || source->ended)
        return;
    source->ended = true;
    epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    if (source->kind != SOURCE_FD)
        close(source->fd);
    unlink_source(source, &source->loop->live);
    link_source(source, &source->loop->ended);
}
