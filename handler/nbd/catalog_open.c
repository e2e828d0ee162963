/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * How an export gets open: its grant is read, its volume connected, its image opened, once for all who wait.
 * The grant may change meanwhile.
 */
#include <errno.h>
#include <string.h>

#include "handler/nbd/catalog_priv.h"
#include "rpc/base/alloc.h"

struct opening {
    struct opening *next;
    struct catalog *catalog;
    char *volume, *block;
    struct catalog_user *user;
    catalog_opened opened;
    void *data;
};

static void opening_end(struct opening *opening, int result, const struct error *error)
{
    opening->opened(opening->data, result, error);
    free(opening->volume);
    free(opening->block);
    free(opening);
}

/* With the mutex held. */
static void attach_user(struct entry *entry, struct catalog_user *user)
{
    user->entry = entry;
    user->info =
        (struct catalog_info){entry->grant.size, (uint32_t)entry->grant.block_size, entry->grant.read_only};
    user->previous = NULL;
    user->next = entry->users;
    if (entry->users)
        entry->users->previous = user;
    entry->users = user;
}

/* Ends an opening that failed: takes the export out of the list and tells everybody who waits. */
static void open_failed(struct entry *entry, int result, const struct error *error)
{
    struct opening *waiters;
    {
        scoped_lock(&entry->catalog->mutex);
        waiters = steal_ptr(&entry->waiters);
        unlink_entry(entry);
    }
    image_close(entry->image);
    if (entry->hosting)
        volumes_put(entry->catalog->volumes, entry->hosting);
    while (waiters) {
        struct opening *next = waiters->next;
        opening_end(waiters, result, error);
        waiters = next;
    }
    entry_free(entry);
}

/* The grant of an export that is opening changed: is it still the one that is being opened? */
static int read_grant_again(struct entry *entry, struct error **ret_error)
{
    cleanup(cleanup_grant) struct grant grant = {0};
    int r = grant_read(entry->catalog->run_dir, entry->volume, entry->block, &grant, ret_error);
    if (r < 0)
        return r;
    if (!same_image(&grant, &entry->grant))
        return error_set(ret_error, EAGAIN, "export %s/%s changed while it was opened: try again",
                         entry->volume, entry->block);
    scoped_lock(&entry->catalog->mutex);
    entry->grant.size = grant.size;
    return 0;
}

static void finish_open(struct entry *entry)
{
    struct catalog *catalog = entry->catalog;
    autoerror struct error *error = NULL;
    for (;;) {
        int r = 0;
        struct opening *waiters = NULL;
        {
            scoped_lock(&catalog->mutex);
            if (entry->revoked)
                r = error_set(&error, ENOENT, "export %s/%s was withdrawn while it was opened", entry->volume,
                              entry->block);
            else if (!entry->recheck) {
                entry->state = ENTRY_OPEN;
                entry->counters =
                    counters_get(&catalog->counters, entry->volume, entry->block, entry->grant.gbid);
                waiters = steal_ptr(&entry->waiters);
                for (struct opening *waiter = waiters; waiter; waiter = waiter->next)
                    attach_user(entry, waiter->user);
            }
            entry->recheck = false;
            pthread_cond_broadcast(&catalog->closed);
        }
        if (waiters) {
            while (waiters) {
                struct opening *next = waiters->next;
                opening_end(waiters, 0, NULL);
                waiters = next;
            }
            return;
        }
        if (r == 0)
            r = read_grant_again(entry, &error);
        if (r < 0) {
            open_failed(entry, r, error);
            return;
        }
    }
}

static void volume_connected(void *data, int result, struct hosting *hosting, const struct error *error)
{
    struct entry *entry = data;
    if (result < 0) {
        open_failed(entry, result, error);
        return;
    }
    entry->hosting = hosting;
    autoerror struct error *open_error = NULL;
    int r = image_open(hosting_volume(hosting), entry->grant.file, entry->grant.read_only, &entry->image,
                       &open_error);
    if (r < 0) {
        error_prefix(&open_error, "export %s/%s", entry->volume, entry->block);
        open_failed(entry, r, open_error);
        return;
    }
    finish_open(entry);
}

/*
 * The export is in the list before its grant is read: a withdrawal before the reading is seen by it, and one
 * after finds the export and marks it.
 */
static void open_new(struct entry *entry)
{
    autoerror struct error *error = NULL;
    struct grant grant = {0};
    int r = grant_read(entry->catalog->run_dir, entry->volume, entry->block, &grant, &error);
    if (r < 0) {
        open_failed(entry, r, error);
        return;
    }
    {
        scoped_lock(&entry->catalog->mutex);
        entry->grant = grant;
    }
    volumes_get(entry->catalog->volumes, entry->volume, entry->grant.volfile, volume_connected, entry);
}

static void open_on_pool(void *data)
{
    struct opening *opening = data;
    struct catalog *catalog = opening->catalog;
    /* What is open already must still be what the grant says: it may have changed a moment ago. */
    autoerror struct error *error = NULL;
    int r = catalog_check(catalog, opening->volume, opening->block, &error);
    if (r < 0) {
        opening_end(opening, r, error);
        return;
    }

    struct entry *fresh = NULL;
    bool attached = false;
    {
        scoped_lock(&catalog->mutex);
        struct entry *entry = find_live(catalog, opening->volume, opening->block);
        if (entry && entry->state == ENTRY_OPEN) {
            attach_user(entry, opening->user);
            attached = true;
        } else {
            if (!entry) {
                entry = fresh = xcalloc(1, sizeof *entry);
                entry->catalog = catalog;
                entry->volume = xstrdup(opening->volume);
                entry->block = xstrdup(opening->block);
                entry->next = catalog->first;
                catalog->first = entry;
            }
            opening->next = entry->waiters;
            entry->waiters = opening;
        }
    }
    if (attached)
        opening_end(opening, 0, NULL);
    else if (fresh)
        open_new(fresh);
}

void catalog_open(struct catalog *catalog, const char *name, struct catalog_user *user, catalog_opened opened,
                  void *data)
{
    autoerror struct error *error = NULL;
    struct opening *opening = xcalloc(1, sizeof *opening);
    opening->catalog = catalog;
    opening->user = user;
    opening->opened = opened;
    opening->data = data;
    int r = name_split(name, &opening->volume, &opening->block, &error);
    if (r < 0)
        opening_end(opening, r, error);
    else
        pool_submit(catalog->pool, open_on_pool, opening);
}
