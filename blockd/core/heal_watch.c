/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A thread that looks at the heals of every volume: it knows which blocks are in split-brain, and writes down
 * each heal that has ended. The record of a volume's heals is one key of the store, and holds the last ones.
 */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/volume_layout.h"

#define LOOK_SECONDS 2
#define HISTORY_MAX  50

struct split {
    char *volume;
    struct string_list files;
};

struct heal_watch {
    struct core *core;
    pthread_t thread;
    bool started; /* main thread only */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;
    bool stopping;
    struct split *splits; /* one a volume that has files in split-brain */
    size_t count;
};

/* ---- History ---- */

static char *history_key(const char *volume)
{
    return xasprintf("heals/%s", volume);
}

/* The heals in the store; a new empty array when there are none, or they are of an earlier volume. */
static int read_history(struct core *core, const struct volume *volume, json_t **ret_heals,
                        uint64_t *ret_revision, struct error **ret_error)
{
    autofree char *key = history_key(volume->meta.name);
    struct store_entry entry = {0};
    int r = store_get(core->store, key, &entry, NULL);
    if (r < 0 && r != -ENOENT)
        return error_set(ret_error, -r, "cannot read %s: %s", key, strerror(-r));
    json_t *history = r == 0 ? json_loads(entry.value, 0, NULL) : NULL;
    const char *uid = json_string_value(json_object_get(history, "uid"));
    json_t *heals = json_object_get(history, "heals");
    bool valid = string_equal(uid, volume->meta.uid) && json_is_array(heals);
    *ret_heals = valid ? json_incref(heals) : json_array();
    *ret_revision = r == 0 ? entry.revision : 0;
    json_decref(history);
    store_entry_clear(&entry);
    return 0;
}

static void add_history(struct core *core, const struct volume *volume, const struct heal_record *heal)
{
    json_t *heals = NULL;
    uint64_t revision;
    if (read_history(core, volume, &heals, &revision, NULL) < 0)
        return;
    json_array_insert_new(heals, 0, schema_encode(&heal_record_schema, heal));
    while (json_array_size(heals) > HISTORY_MAX)
        json_array_remove(heals, HISTORY_MAX);
    json_t *history = json_pack("{s:s, s:o}", "uid", volume->meta.uid, "heals", heals);
    autofree char *key = history_key(volume->meta.name);
    autofree char *value = json_dumps(history, JSON_COMPACT);
    struct txn txn = {0};
    txn_put_text(&txn, key, value, revision);
    txn_commit(core, &txn, NULL);
    txn_clear(&txn);
    json_decref(history);
}

int core_heal_history(struct core *core, const char *name, json_t **ret_history, struct error **ret_error)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    json_t *heals = NULL;
    uint64_t revision;
    int r = record_get(core, KIND_VOLUME, name, &volume, ret_error);
    if (r == 0)
        r = read_history(core, &volume, &heals, &revision, ret_error);
    if (r == 0)
        *ret_history = json_pack("{s:s, s:o}", "volume", name, "heals", heals);
    return r;
}

/* ---- Blocks in split-brain ---- */

/* With the lock held. */
static struct split *find_split(struct heal_watch *watch, const char *volume)
{
    for (size_t i = 0; i < watch->count; i++)
        if (strcmp(watch->splits[i].volume, volume) == 0)
            return &watch->splits[i];
    return NULL;
}

static void set_split(struct heal_watch *watch, const char *volume, const struct string_list *files)
{
    scoped_lock(&watch->mutex);
    struct split *split = find_split(watch, volume);
    if (!split && !files->count)
        return;
    if (!split) {
        watch->splits = xrealloc(watch->splits, watch->count + 1, sizeof *split);
        split = &watch->splits[watch->count++];
        *split = (struct split){.volume = xstrdup(volume)};
    }
    string_list_clear(&split->files);
    string_list_copy(&split->files, files);
}

void heal_overlay_block(struct heal_watch *watch, struct block *block)
{
    autofree char *volume = object_name_part(block->meta.name, 0);
    scoped_lock(&watch->mutex);
    const struct split *split = find_split(watch, volume);
    bool found = split && block->spec.storage && string_list_contains(&split->files, block->spec.storage);
    string_replace(&block->status.heal, found ? "split-brain" : NULL);
}

void heal_forget(struct core *core, const char *volume)
{
    autofree char *key = history_key(volume);
    struct store_entry entry = {0};
    struct txn txn = {0};
    const struct string_list none = {0};
    if (store_get(core->store, key, &entry, NULL) == 0) {
        txn_delete(&txn, key, entry.revision);
        txn_commit(core, &txn, NULL); /* one that is left is no other volume's: it has the volume's uid */
    }
    txn_clear(&txn);
    store_entry_clear(&entry);
    set_split(core->heal_watch, volume, &none);
    engine_heal_forget(core->engine, volume);
}

/* ---- The thread ---- */

void heal_look_now(struct heal_watch *watch, const struct volume *volume)
{
    struct core *core = watch->core;
    struct heal_counts counts = {0};
    struct heal_record heal = {0};
    if (engine_heal_counts(core->engine, volume, &counts, NULL) < 0)
        return;
    set_split(watch, volume->meta.name, &counts.in_split_brain);
    heal_counts_clear(&counts);
    if (engine_heal_ended(core->engine, volume, &heal)) {
        add_history(core, volume, &heal);
        schema_clear(&heal_record_schema, &heal);
    }
}

static void look_at_all(struct heal_watch *watch)
{
    struct record_list volumes = {.kind = KIND_VOLUME};
    if (record_list_readable(watch->core, KIND_VOLUME, NULL, &volumes, NULL) < 0)
        return;
    for (size_t i = 0; i < volumes.list.count; i++) {
        const struct volume *volume = RECORD(&volumes, volume, i);
        if (layout_heals(&volume->spec) && !volume->meta.deleting)
            heal_look_now(watch, volume);
    }
    record_list_clear(&volumes);
}

static void *work(void *data)
{
    struct heal_watch *watch = data;
    for (;;) {
        look_at_all(watch);
        scoped_lock(&watch->mutex);
        struct timespec when;
        clock_gettime(CLOCK_MONOTONIC, &when);
        when.tv_sec += LOOK_SECONDS;
        while (!watch->stopping &&
               pthread_cond_clockwait(&watch->wake, &watch->mutex, CLOCK_MONOTONIC, &when) != ETIMEDOUT)
            continue;
        if (watch->stopping)
            return NULL;
    }
}

struct heal_watch *heal_watch_new(struct core *core)
{
    struct heal_watch *watch = xcalloc(1, sizeof *watch);
    watch->core = core;
    pthread_mutex_init(&watch->mutex, NULL);
    pthread_cond_init(&watch->wake, NULL);
    return watch;
}

int heal_watch_start(struct heal_watch *watch, struct error **ret_error)
{
    int number = pthread_create(&watch->thread, NULL, work, watch);
    if (number)
        return error_set(ret_error, number, "cannot start the thread of the heals: %s", strerror(number));
    watch->started = true;
    return 0;
}

void heal_watch_stop(struct heal_watch *watch)
{
    if (!watch || !watch->started)
        return;
    {
        scoped_lock(&watch->mutex);
        watch->stopping = true;
        pthread_cond_signal(&watch->wake);
    }
    pthread_join(watch->thread, NULL);
    watch->started = false;
}

void heal_watch_free(struct heal_watch *watch)
{
    if (!watch)
        return;
    heal_watch_stop(watch);
    for (size_t i = 0; i < watch->count; i++) {
        free(watch->splits[i].volume);
        string_list_clear(&watch->splits[i].files);
    }
    free(watch->splits);
    pthread_cond_destroy(&watch->wake);
    pthread_mutex_destroy(&watch->mutex);
    free(watch);
}
