/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Leases run on the monotonic clock and in memory: a renewal costs no write, and a wrong wall clock ends
 * none. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/store_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define RETRY_SECONDS 1

struct lease {
    int64_t id;
    unsigned seconds;
    int64_t deadline; /* clock_monotonic_ms() */
};

struct lease_clock {
    lease_expire expire;
    void *data;
    pthread_t thread;

    pthread_mutex_t mutex; /* guards what follows; not held while a lease is ended */
    pthread_cond_t changed;
    bool stopping;
    struct lease *leases; /* in no order */
    size_t count, capacity;
};

/* These are called with clock->mutex held. */

static struct lease *find(struct lease_clock *clock, int64_t id)
{
    for (size_t i = 0; i < clock->count; i++)
        if (clock->leases[i].id == id)
            return &clock->leases[i];
    return NULL;
}

static struct lease *earliest(struct lease_clock *clock)
{
    struct lease *first = NULL;
    for (size_t i = 0; i < clock->count; i++)
        if (!first || clock->leases[i].deadline < first->deadline)
            first = &clock->leases[i];
    return first;
}

static void insert(struct lease_clock *clock, struct lease lease)
{
    if (clock->count == clock->capacity) {
        clock->capacity = clock->capacity ? clock->capacity * 2 : 8;
        clock->leases = xrealloc(clock->leases, clock->capacity, sizeof *clock->leases);
    }
    clock->leases[clock->count++] = lease;
    pthread_cond_broadcast(&clock->changed);
}

static struct lease extract(struct lease_clock *clock, struct lease *lease)
{
    struct lease taken = *lease;
    *lease = clock->leases[--clock->count];
    return taken;
}

static void wait_until(struct lease_clock *clock, int64_t deadline)
{
    struct timespec when = {.tv_sec = deadline / 1000, .tv_nsec = deadline % 1000 * 1000000};
    pthread_cond_timedwait(&clock->changed, &clock->mutex, &when);
}

static void *run(void *data)
{
    struct lease_clock *clock = data;
    scoped_lock(&clock->mutex);
    while (!clock->stopping) {
        struct lease *next = earliest(clock);
        if (!next) {
            pthread_cond_wait(&clock->changed, &clock->mutex);
            continue;
        }
        if (next->deadline > clock_monotonic_ms()) {
            wait_until(clock, next->deadline);
            continue;
        }
        struct lease ended = extract(clock, next);
        pthread_mutex_unlock(&clock->mutex);
        int r = clock->expire(clock->data, ended.id);
        pthread_mutex_lock(&clock->mutex);
        if (r < 0) {
            ended.deadline = clock_monotonic_ms() + RETRY_SECONDS * 1000;
            insert(clock, ended);
        }
    }
    return NULL;
}

int lease_clock_new(lease_expire expire, void *data, struct lease_clock **ret_clock, struct error **ret_error)
{
    struct lease_clock *clock = xcalloc(1, sizeof *clock);
    clock->expire = expire;
    clock->data = data;
    pthread_mutex_init(&clock->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&clock->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int number = pthread_create(&clock->thread, NULL, run, clock);
    if (number) {
        pthread_cond_destroy(&clock->changed);
        pthread_mutex_destroy(&clock->mutex);
        free(clock);
        return error_set(ret_error, number, "cannot start the thread for leases: %s", strerror(number));
    }
    *ret_clock = clock;
    return 0;
}

void lease_clock_free(struct lease_clock *clock)
{
    if (!clock)
        return;
    {
        scoped_lock(&clock->mutex);
        clock->stopping = true;
        pthread_cond_broadcast(&clock->changed);
    }
    pthread_join(clock->thread, NULL);
    pthread_cond_destroy(&clock->changed);
    pthread_mutex_destroy(&clock->mutex);
    free(clock->leases);
    free(clock);
}

void lease_clock_add(struct lease_clock *clock, int64_t lease, unsigned seconds)
{
    scoped_lock(&clock->mutex);
    insert(clock, (struct lease){lease, seconds, clock_monotonic_ms() + (int64_t)seconds * 1000});
}

bool lease_clock_renew(struct lease_clock *clock, int64_t id)
{
    scoped_lock(&clock->mutex);
    struct lease *lease = find(clock, id);
    if (lease)
        lease->deadline = clock_monotonic_ms() + (int64_t)lease->seconds * 1000;
    return lease != NULL;
}

bool lease_clock_take(struct lease_clock *clock, int64_t id, unsigned *ret_seconds)
{
    scoped_lock(&clock->mutex);
    struct lease *lease = find(clock, id);
    if (!lease)
        return false;
    *ret_seconds = extract(clock, lease).seconds;
    return true;
}
