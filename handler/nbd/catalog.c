/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Which exports are open, and their end: who leaves, what lingers, and what its grant does not allow any
 * more. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "handler/nbd/catalog_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

struct catalog *catalog_new(const struct catalog_options *options)
{
    struct catalog *catalog = xcalloc(1, sizeof *catalog);
    catalog->run_dir = xstrdup(options->run_dir);
    catalog->pool = options->pool;
    catalog->image_linger_ms = options->image_linger_ms;
    catalog->volumes = volumes_new(options->log_dir, options->pool, options->volume_linger_ms);
    pthread_mutex_init(&catalog->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&catalog->closed, &attributes);
    pthread_condattr_destroy(&attributes);
    return catalog;
}

void entry_free(struct entry *entry)
{
    cleanup_grant(&entry->grant);
    free(entry->volume);
    free(entry->block);
    free(entry);
}

/* ---- Closing; each function here is called with the mutex held, unless it says otherwise ---- */

void unlink_entry(struct entry *entry)
{
    struct entry **link = &entry->catalog->first;
    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
    pthread_cond_broadcast(&entry->catalog->closed);
}

/* On the pool, without the mutex. */
static void close_entry(void *data)
{
    struct entry *entry = data;
    struct catalog *catalog = entry->catalog;
    image_close(entry->image);
    volumes_put(catalog->volumes, entry->hosting);
    {
        scoped_lock(&catalog->mutex);
        counters_put(&catalog->counters, entry->counters, entry->revoked);
        unlink_entry(entry);
    }
    entry_free(entry);
}

/* The mark under the mutex makes this thread the one that closes; the caller then submits close_entry()
 * without it. */
static bool claim_close(struct entry *entry, int64_t now)
{
    if (entry->state != ENTRY_OPEN || entry->users)
        return false;
    if (!entry->revoked && now - entry->idle_since < entry->catalog->image_linger_ms)
        return false;
    entry->state = ENTRY_CLOSING;
    return true;
}

static void withdraw(struct entry *entry)
{
    entry->revoked = true;
    for (struct catalog_user *user = entry->users; user; user = user->next)
        user->cut(user);
}

struct entry *find_live(struct catalog *catalog, const char *volume, const char *block)
{
    for (struct entry *entry = catalog->first; entry; entry = entry->next)
        if (!entry->revoked && entry->state != ENTRY_CLOSING && string_equal(entry->block, block) &&
            string_equal(entry->volume, volume))
            return entry;
    return NULL;
}

bool same_image(const struct grant *a, const struct grant *b)
{
    return string_equal(a->gbid, b->gbid) && string_equal(a->file, b->file) &&
           string_equal(a->volfile, b->volfile) && a->read_only == b->read_only &&
           a->block_size == b->block_size && a->epoch == b->epoch;
}

/* What says nothing about the grant: that it cannot be read now cuts nobody off. */
static bool is_unknown(int result)
{
    return result == -EMFILE || result == -ENFILE || result == -ENOMEM || result == -EIO;
}

/* Whoever still sees a larger block would make it grow again. */
static void take_size(struct entry *entry, uint64_t size)
{
    entry->grant.size = size;
    for (struct catalog_user *user = entry->users; user; user = user->next)
        if (user->info.size > size)
            user->cut(user);
}

static bool is_outgrown(const struct entry *entry)
{
    for (const struct catalog_user *user = entry->users; user; user = user->next)
        if (user->info.size > entry->grant.size)
            return true;
    return false;
}

/* Without the mutex. */
static int check_one(struct catalog *catalog, const char *volume, const char *block, struct error **ret_error)
{
    cleanup(cleanup_grant) struct grant grant = {0};
    autoerror struct error *error = NULL;
    int r = grant_read(catalog->run_dir, volume, block, &grant, &error);
    struct entry *to_close = NULL;
    {
        scoped_lock(&catalog->mutex);
        struct entry *entry = find_live(catalog, volume, block);
        if (!entry) {
            if (r == -ENOENT)
                counters_drop(&catalog->counters, volume, block);
            return 0;
        }
        if (is_unknown(r)) {
            catalog->doubtful = true;
            return error_set(ret_error, -r, "%s", error_message(error));
        }
        if (r == 0 && entry->state == ENTRY_OPENING)
            entry->recheck = true;
        else if (r == 0 && same_image(&grant, &entry->grant))
            take_size(entry, grant.size);
        else
            withdraw(entry);
        if (claim_close(entry, clock_monotonic_ms()))
            to_close = entry;
    }
    if (to_close)
        pool_submit(catalog->pool, close_entry, to_close);
    return 0;
}

int catalog_check(struct catalog *catalog, const char *volume, const char *block, struct error **ret_error)
{
    if (volume)
        return check_one(catalog, volume, block, ret_error);
    autostring_list struct string_list names = {0};
    {
        scoped_lock(&catalog->mutex);
        for (struct entry *entry = catalog->first; entry; entry = entry->next) {
            string_list_add(&names, entry->volume);
            string_list_add(&names, entry->block);
        }
    }
    int r = 0;
    for (size_t i = 0; i < names.count; i += 2)
        if (check_one(catalog, names.items[i], names.items[i + 1], r < 0 ? NULL : ret_error) < 0)
            r = -EAGAIN;
    return r;
}

/* On the pool. */
static void check_again(void *data)
{
    catalog_check(data, NULL, NULL, NULL);
}

static bool unsettled(const struct catalog *catalog)
{
    for (const struct entry *entry = catalog->first; entry; entry = entry->next)
        if (entry->revoked || entry->recheck || entry->state == ENTRY_CLOSING || is_outgrown(entry))
            return true;
    return false;
}

int catalog_sync(struct catalog *catalog, int64_t timeout_ms, struct error **ret_error)
{
    int r = catalog_check(catalog, NULL, NULL, ret_error);
    if (r < 0)
        return r;
    int64_t deadline = clock_monotonic_ms() + timeout_ms;
    struct timespec until = {deadline / 1000, deadline % 1000 * 1000000};
    scoped_lock(&catalog->mutex);
    while (unsettled(catalog))
        if (pthread_cond_timedwait(&catalog->closed, &catalog->mutex, &until) == ETIMEDOUT)
            return error_set(ret_error, ETIMEDOUT,
                             "a withdrawn export still has requests in flight: try again");
    return 0;
}

void catalog_tick(struct catalog *catalog)
{
    int64_t now = clock_monotonic_ms();
    for (;;) {
        struct entry *to_close = NULL;
        {
            scoped_lock(&catalog->mutex);
            for (struct entry *entry = catalog->first; entry && !to_close; entry = entry->next)
                if (claim_close(entry, now))
                    to_close = entry;
        }
        if (!to_close)
            break;
        pool_submit(catalog->pool, close_entry, to_close);
    }
    bool doubtful;
    {
        scoped_lock(&catalog->mutex);
        doubtful = catalog->doubtful;
        catalog->doubtful = false;
    }
    if (doubtful)
        pool_submit(catalog->pool, check_again, catalog);
    volumes_tick(catalog->volumes);
}

void catalog_free(struct catalog *catalog)
{
    if (!catalog)
        return;
    pool_wait(catalog->pool);
    catalog->image_linger_ms = 0;
    catalog->doubtful = false;
    catalog_tick(catalog);
    {
        scoped_lock(&catalog->mutex);
        while (catalog->first)
            pthread_cond_wait(&catalog->closed, &catalog->mutex);
    }
    volumes_free(catalog->volumes);
    counters_clear(&catalog->counters);
    pthread_cond_destroy(&catalog->closed);
    pthread_mutex_destroy(&catalog->mutex);
    free(catalog->run_dir);
    free(catalog);
}

void catalog_leave(struct catalog *catalog, struct catalog_user *user)
{
    struct entry *to_close = NULL;
    {
        scoped_lock(&catalog->mutex);
        struct entry *entry = user->entry;
        if (!entry)
            return;
        if (user->previous)
            user->previous->next = user->next;
        else
            entry->users = user->next;
        if (user->next)
            user->next->previous = user->previous;
        user->entry = NULL;
        entry->idle_since = clock_monotonic_ms();
        if (claim_close(entry, entry->idle_since))
            to_close = entry;
        pthread_cond_broadcast(&catalog->closed);
    }
    if (to_close)
        pool_submit(catalog->pool, close_entry, to_close);
}

struct image *entry_image(struct entry *entry)
{
    return entry->image;
}

struct metrics *entry_metrics(struct entry *entry)
{
    return &entry->counters->metrics;
}
