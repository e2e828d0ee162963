/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The keys that need work. A key is worked on by one thread at a time; one that is added while it is worked
 * on is worked on once more. A key that fails is repeated after 100 ms, then at twice the time, up to ten
 * seconds, and holds no other back.
 */
#include <errno.h>
#include <search.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/log.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS  10000

struct item {
    char *key;
    int64_t due_ms;    /* monotonic; meaningful while waiting */
    unsigned failures; /* in a row, "not yet" counts */
    unsigned errors;   /* in a row, "not yet" does not count */
    bool waiting;      /* linked in queue->waiting */
    bool running;
    bool again; /* added while it was running */
    struct item *next, *previous;
};

struct queue {
    struct core *core;
    queue_work work;
    pthread_t *threads;
    unsigned thread_count;

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t added;  /* a key was added, or the queue stops */
    pthread_cond_t worked; /* a key was worked on, or the queue stops */
    bool stopping;
    void *items;          /* tsearch(3) tree of struct item by key: those that wait or run */
    struct item *waiting; /* in the order of due_ms */
    uint64_t turns;       /* counts up when a key was worked on */
    struct core_counters counters;
};

static int compare_items(const void *a, const void *b)
{
    return strcmp(((const struct item *)a)->key, ((const struct item *)b)->key);
}

static void unlink_item(struct queue *queue, struct item *item)
{
    if (!item->waiting)
        return;
    if (item->previous)
        item->previous->next = item->next;
    else
        queue->waiting = item->next;
    if (item->next)
        item->next->previous = item->previous;
    item->waiting = false;
    queue->counters.queued--;
}

static void link_item(struct queue *queue, struct item *item, int64_t due_ms)
{
    struct item *after = NULL, *next = queue->waiting;
    while (next && next->due_ms <= due_ms) {
        after = next;
        next = next->next;
    }
    item->due_ms = due_ms;
    item->previous = after;
    item->next = next;
    if (after)
        after->next = item;
    else
        queue->waiting = item;
    if (next)
        next->previous = item;
    item->waiting = true;
    queue->counters.queued++;
}

static struct item *find_or_make(struct queue *queue, const char *key)
{
    struct item probe = {.key = (char *)key};
    struct item **found = tfind(&probe, &queue->items, compare_items);
    if (found)
        return *found;
    struct item *item = xcalloc(1, sizeof *item);
    item->key = xstrdup(key);
    if (!tsearch(item, &queue->items, compare_items))
        abort(); /* out of memory, as in alloc.h */
    return item;
}

static void discard(struct queue *queue, struct item *item)
{
    tdelete(item, &queue->items, compare_items);
    free(item->key);
    free(item);
}

void queue_add(struct queue *queue, const char *key)
{
    scoped_lock(&queue->mutex);
    struct item *item = find_or_make(queue, key);
    if (item->running) {
        item->again = true;
        return;
    }
    unlink_item(queue, item);
    link_item(queue, item, clock_monotonic_ms());
    pthread_cond_signal(&queue->added);
}

static int64_t backoff_ms(unsigned failures)
{
    int64_t delay = BACKOFF_FIRST_MS;
    for (unsigned i = 1; i < failures && delay < BACKOFF_LAST_MS; i++)
        delay *= 2;
    return delay < BACKOFF_LAST_MS ? delay : BACKOFF_LAST_MS;
}

/* Works on an item that the caller has marked as running, with the lock held before and after. */
static int run_item(struct queue *queue, struct item *item, struct error **ret_error)
{
    autoerror struct error *error = NULL;
    pthread_mutex_unlock(&queue->mutex);
    int r = queue->work(queue->core, item->key, &error);
    /* Said once when it begins to fail, and again when the repeats become rare, not at every try. */
    if (r < 0 && r != -EAGAIN && (item->errors == 0 || item->errors == 8))
        log_warning("%s: %s", item->key, error_message(error));
    pthread_mutex_lock(&queue->mutex);

    queue->counters.passes++;
    queue->turns++;
    item->running = false;
    if (r < 0)
        item->failures++;
    if (r < 0 && r != -EAGAIN) {
        item->errors++;
        queue->counters.failures++;
    }
    if (r == 0)
        item->failures = item->errors = 0;

    if (item->again || r < 0) {
        link_item(queue, item, clock_monotonic_ms() + (item->again ? 0 : backoff_ms(item->failures)));
        item->again = false;
        pthread_cond_signal(&queue->added);
    } else {
        discard(queue, item);
    }
    pthread_cond_broadcast(&queue->worked);
    if (r < 0 && ret_error && error)
        *ret_error = steal_ptr(&error);
    return r;
}

int queue_run(struct queue *queue, const char *key, struct error **ret_error)
{
    scoped_lock(&queue->mutex);
    struct item *item = find_or_make(queue, key);
    while (item->running && !queue->stopping) {
        pthread_cond_wait(&queue->worked, &queue->mutex);
        item = find_or_make(queue, key); /* the other thread may have discarded it */
    }
    if (queue->stopping)
        return error_set(ret_error, ECANCELED, "blockd is stopping");
    unlink_item(queue, item);
    item->running = true;
    return run_item(queue, item, ret_error);
}

static void timed_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t deadline_ms)
{
    struct timespec when = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
    pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &when);
}

static void *worker(void *data)
{
    struct queue *queue = data;
    pthread_mutex_lock(&queue->mutex);
    while (!queue->stopping) {
        struct item *item = queue->waiting;
        if (!item) {
            pthread_cond_wait(&queue->added, &queue->mutex);
        } else if (item->due_ms > clock_monotonic_ms()) {
            timed_wait(&queue->added, &queue->mutex, item->due_ms);
        } else {
            unlink_item(queue, item);
            item->running = true;
            run_item(queue, item, NULL);
        }
    }
    pthread_mutex_unlock(&queue->mutex);
    return NULL;
}

int queue_wait(struct queue *queue, uint64_t *seen, int64_t deadline_ms)
{
    scoped_lock(&queue->mutex);
    while (queue->turns == *seen) {
        if (queue->stopping)
            return -ECANCELED;
        if (clock_monotonic_ms() >= deadline_ms)
            return -ETIMEDOUT;
        timed_wait(&queue->worked, &queue->mutex, deadline_ms);
    }
    *seen = queue->turns;
    return 0;
}

void queue_counters(struct queue *queue, struct core_counters *ret_counters)
{
    scoped_lock(&queue->mutex);
    *ret_counters = queue->counters;
}

int queue_new(struct core *core, queue_work work, unsigned threads, struct queue **ret_queue,
              struct error **ret_error)
{
    struct queue *queue = xcalloc(1, sizeof *queue);
    queue->core = core;
    queue->work = work;
    queue->threads = xcalloc(threads, sizeof *queue->threads);
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->added, NULL);
    pthread_cond_init(&queue->worked, NULL);
    for (; queue->thread_count < threads; queue->thread_count++) {
        int number = pthread_create(&queue->threads[queue->thread_count], NULL, worker, queue);
        if (number) {
            queue_free(queue);
            return error_set(ret_error, number, "cannot start a worker thread: %s", strerror(number));
        }
    }
    *ret_queue = queue;
    return 0;
}

void queue_stop(struct queue *queue)
{
    if (!queue)
        return;
    {
        scoped_lock(&queue->mutex);
        queue->stopping = true;
        pthread_cond_broadcast(&queue->added);
        pthread_cond_broadcast(&queue->worked);
    }
    for (unsigned i = 0; i < queue->thread_count; i++)
        pthread_join(queue->threads[i], NULL);
    queue->thread_count = 0;
}

static void free_item(void *data)
{
    struct item *item = data;
    free(item->key);
    free(item);
}

void queue_free(struct queue *queue)
{
    if (!queue)
        return;
    queue_stop(queue);
    tdestroy(queue->items, free_item);
    pthread_cond_destroy(&queue->added);
    pthread_cond_destroy(&queue->worked);
    pthread_mutex_destroy(&queue->mutex);
    free(queue->threads);
    free(queue);
}
