/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Hands changes to watches: read once for all that are up to date, in the order of their cursors. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/store_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/strings.h"

#define CHANGES_A_TURN  256
#define RETRY_SECONDS   1 /* after a read that failed: a disk that is full or broken may recover */
#define NOTHING_TO_READ UINT64_MAX

struct hub_watch {
    struct store_watch base;
    char *prefix;
    store_watch_callback callback;
    void *data;
    /* Guarded by hub->mutex. */
    uint64_t cursor; /* it got every change up to here */
    bool missed;     /* the event NULL is due */
    bool ending;     /* watch_hub_remove() waits */
    struct hub_watch *next;
};

struct watch_hub {
    struct watch_source source;
    pthread_t thread;

    pthread_mutex_t mutex; /* guards what follows; never held in a callback or while the source is read */
    pthread_cond_t changed;
    bool stopping;
    uint64_t newest; /* cursor: changes up to here can be read */
    struct hub_watch *watches;
    struct hub_watch *running; /* its callback may be running */
};

static void hub_watch_free(struct hub_watch *watch)
{
    free(watch->prefix);
    free(watch);
}

/* ---- The thread; hub->mutex is held on entry and exit of these ---- */

static bool is_ending(struct watch_hub *hub, struct hub_watch *watch)
{
    scoped_lock(&hub->mutex);
    return watch->ending || hub->stopping;
}

static void deliver_missed(struct watch_hub *hub, struct hub_watch *watch)
{
    watch->missed = false;
    watch->cursor = hub->newest; /* what it lists from now on has all of that */
    hub->running = watch;
    pthread_mutex_unlock(&hub->mutex);
    watch->callback(watch->data, NULL);
    pthread_mutex_lock(&hub->mutex);
    hub->running = NULL;
    pthread_cond_broadcast(&hub->changed);
}

static void deliver_changes(struct watch_hub *hub, struct hub_watch *watch,
                            const struct store_changes *changes)
{
    uint64_t after = watch->cursor;
    hub->running = watch;
    pthread_mutex_unlock(&hub->mutex);
    for (size_t i = 0; i < changes->count; i++) {
        const struct store_change *change = &changes->items[i];
        if (change->cursor <= after || !string_starts_with(change->entry.key, watch->prefix))
            continue;
        if (is_ending(hub, watch))
            break;
        struct store_event event = {change->entry.key, change->entry.value, change->entry.revision};
        watch->callback(watch->data, &event);
    }
    pthread_mutex_lock(&hub->mutex);
    if (changes->until > watch->cursor)
        watch->cursor = changes->until;
    hub->running = NULL;
    pthread_cond_broadcast(&hub->changed);
}

/* The cursor from which to read for the watch that is furthest behind, or NOTHING_TO_READ. */
static uint64_t furthest_behind(const struct watch_hub *hub)
{
    uint64_t from = NOTHING_TO_READ;
    for (const struct hub_watch *watch = hub->watches; watch; watch = watch->next)
        if (!watch->missed && !watch->ending && watch->cursor < hub->newest && watch->cursor < from)
            from = watch->cursor;
    return from;
}

static struct hub_watch *first_missed(struct watch_hub *hub)
{
    struct hub_watch *watch = hub->watches;
    while (watch && (!watch->missed || watch->ending))
        watch = watch->next;
    return watch;
}

static void pause_after_failure(struct watch_hub *hub)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += RETRY_SECONDS;
    while (!hub->stopping)
        if (pthread_cond_timedwait(&hub->changed, &hub->mutex, &until) == ETIMEDOUT)
            return;
}

static void turn(struct watch_hub *hub, uint64_t from)
{
    struct store_changes changes = {0};
    pthread_mutex_unlock(&hub->mutex);
    int r = hub->source.read(hub->source.data, from, CHANGES_A_TURN, &changes, NULL);
    pthread_mutex_lock(&hub->mutex);
    if (r < 0) {
        pause_after_failure(hub);
        return;
    }
    /* A watch that was added meanwhile may be behind `from`: it waits for a turn of its own. */
    for (struct hub_watch *watch = hub->watches; watch && !hub->stopping; watch = watch->next) {
        if (watch->cursor < changes.kept)
            watch->missed = true;
        else if (watch->cursor >= from && !watch->missed && !watch->ending)
            deliver_changes(hub, watch, &changes);
    }
    store_changes_clear(&changes);
}

static void *run(void *data)
{
    struct watch_hub *hub = data;
    scoped_lock(&hub->mutex);
    while (!hub->stopping) {
        struct hub_watch *missed = first_missed(hub);
        uint64_t from = furthest_behind(hub);
        if (missed)
            deliver_missed(hub, missed);
        else if (from != NOTHING_TO_READ)
            turn(hub, from);
        else
            pthread_cond_wait(&hub->changed, &hub->mutex);
    }
    return NULL;
}

/* ---- The callers' side ---- */

int watch_hub_new(const struct watch_source *source, struct watch_hub **ret_hub, struct error **ret_error)
{
    struct watch_hub *hub = xcalloc(1, sizeof *hub);
    hub->source = *source;
    hub->newest = cursor_of_revision(source->revision);
    pthread_mutex_init(&hub->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&hub->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int number = pthread_create(&hub->thread, NULL, run, hub);
    if (number) {
        pthread_cond_destroy(&hub->changed);
        pthread_mutex_destroy(&hub->mutex);
        free(hub);
        return error_set(ret_error, number, "cannot start the thread for watches: %s", strerror(number));
    }
    *ret_hub = hub;
    return 0;
}

void watch_hub_free(struct watch_hub *hub)
{
    if (!hub)
        return;
    {
        scoped_lock(&hub->mutex);
        hub->stopping = true;
        pthread_cond_broadcast(&hub->changed);
    }
    pthread_join(hub->thread, NULL);
    while (hub->watches) {
        struct hub_watch *watch = hub->watches;
        hub->watches = watch->next;
        hub_watch_free(watch);
    }
    pthread_cond_destroy(&hub->changed);
    pthread_mutex_destroy(&hub->mutex);
    free(hub);
}

void watch_hub_notify(struct watch_hub *hub, uint64_t revision)
{
    scoped_lock(&hub->mutex);
    uint64_t cursor = cursor_of_revision(revision);
    if (cursor <= hub->newest)
        return;
    hub->newest = cursor;
    pthread_cond_broadcast(&hub->changed);
}

struct store_watch *watch_hub_add(struct watch_hub *hub, struct store *store, const char *prefix,
                                  uint64_t after_revision, bool missed, store_watch_callback callback,
                                  void *data)
{
    struct hub_watch *watch = xcalloc(1, sizeof *watch);
    watch->base.store = store;
    watch->prefix = xstrdup(prefix);
    watch->callback = callback;
    watch->data = data;
    watch->missed = missed;
    watch->cursor = missed ? 0 : cursor_of_revision(after_revision);

    scoped_lock(&hub->mutex);
    watch->next = hub->watches;
    hub->watches = watch;
    pthread_cond_broadcast(&hub->changed);
    return &watch->base;
}

void watch_hub_remove(struct watch_hub *hub, struct store_watch *base)
{
    struct hub_watch *watch = (struct hub_watch *)base;
    scoped_lock(&hub->mutex);
    watch->ending = true;
    while (hub->running == watch)
        pthread_cond_wait(&hub->changed, &hub->mutex);
    struct hub_watch **link = &hub->watches;
    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
    hub_watch_free(watch);
}
