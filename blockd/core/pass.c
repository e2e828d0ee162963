/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What starts reconciliation: the first pass after the start, each change in the store, the engine, and every
 * half minute. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/log.h"

#define FULL_PASS_SECONDS 30
#define SWEEP_PASSES      20 /* full passes between two looks for old idempotency marks */

int reconcile_key(struct core *core, const char *key, struct error **ret_error)
{
    static int (*const reconcilers[KIND_COUNT])(struct core *, const char *, struct error **) = {
        [KIND_NODE] = node_reconcile,   [KIND_DEVICE] = device_reconcile, [KIND_VOLUME] = volume_reconcile,
        [KIND_BLOCK] = block_reconcile, [KIND_SHARE] = share_reconcile,   [KIND_EXPORT] = export_reconcile,
        [KIND_JOB] = job_reconcile,
    };
    /* What one node does for all; the others do their own part of it. */
    static int (*const followers[KIND_COUNT])(struct core *, const char *, struct error **) = {
        [KIND_BLOCK] = block_follow,
        [KIND_SHARE] = share_follow,
        [KIND_JOB] = job_follow,
    };
    enum object_kind kind;
    const char *name;
    if (object_key_parse(key, &kind, &name) < 0)
        return 0; /* a key of the store's own, such as a port */
    bool follows = followers[kind] && !presence_leads(core->presence);
    return (follows ? followers : reconcilers)[kind](core, name, ret_error);
}

static void wake_own_node(struct core *core)
{
    autofree char *key = object_key(KIND_NODE, core->node);
    queue_add(core->queue, key);
}

static void sweep(struct core *core)
{
    idempotency_sweep(core);
    token_sweep(core);
    certificate_sweep(core);
}

/* On a thread of the store. */
static void on_change(void *data, const struct store_event *event)
{
    struct core *core = data;
    enum object_kind kind;
    const char *name;
    if (!event) {
        scoped_lock(&core->pass_mutex);
        core->missed = true;
        pthread_cond_signal(&core->pass_wake);
        return;
    }
    if (object_key_parse(event->key, &kind, &name) == 0)
        queue_add(core->queue, event->key);
    else if (string_starts_with(event->key, REVOKED_PREFIX))
        wake_own_node(core);
}

static bool needs_look(enum object_kind kind, const void *object)
{
    const struct block *block = object;
    const struct share *share = object;
    if (kind == KIND_SHARE)
        return share->meta.deleting || share->status.observed_generation != share->meta.generation ||
               string_equal(share->status.phase, "pending") || string_equal(share->status.phase, "failed");
    if (kind != KIND_BLOCK)
        return true;
    return block->meta.deleting || !string_equal(block->status.phase, "ready") ||
           block->status.observed_generation != block->meta.generation;
}

static bool is_stopping(struct core *core)
{
    scoped_lock(&core->pass_mutex);
    return core->stopping;
}

/* `now`: on this thread and in order, as the first pass wants it; otherwise the workers do it. */
static void visit(struct core *core, enum object_kind kind, const char *prefix, bool now)
{
    struct record_list records = {.kind = kind};
    autoerror struct error *problem = NULL;
    if (record_list_readable(core, kind, prefix, &records, &problem) < 0) {
        log_error("cannot list the %s: %s", object_types[kind].plural, error_message(problem));
        return;
    }
    for (size_t i = 0; !atomic_load(&core->ready) && i < records.damaged.count; i++)
        log_error("%s", records.damaged.items[i]); /* once a start; the status names it all the time */
    for (size_t i = 0; i < records.list.count && !is_stopping(core); i++) {
        const void *object = (const char *)records.list.items + i * object_types[kind].schema->size;
        if (!needs_look(kind, object))
            continue;
        autofree char *key = object_key(kind, ((const struct meta *)object)->name);
        if (now)
            queue_run(core->queue, key, NULL);
        else
            queue_add(core->queue, key);
    }
    record_list_clear(&records);
}

/* Has the store a block of this identity, under whatever name? Also when it does not answer: no. */
static bool knows_block(struct core *core, const char *volume, const char *gbid)
{
    struct record_list blocks = {.kind = KIND_BLOCK};
    bool known = false;
    if (!gbid || record_list(core, KIND_BLOCK, volume, &blocks, NULL) < 0)
        return false;
    for (size_t i = 0; i < blocks.list.count && !known; i++)
        known = string_equal(RECORD(&blocks, block, i)->meta.uid, gbid);
    record_list_clear(&blocks);
    return known;
}

struct sweep {
    struct core *core;
    size_t orphans; /* grants of blocks that the store has never heard of */
};

/*
 * Only where the store knows the block and has no export of it (it was renamed, say) are clients cut off. A
 * store that does not know the block was lost, or is an older one: what runs goes on until somebody decides.
 */
static bool export_is_wanted(void *data, const char *volume, const char *block, const char *gbid)
{
    struct sweep *sweep = data;
    struct core *core = sweep->core;
    struct export export cleanup(cleanup_export) = {0};
    autofree char *name = xasprintf("%s/%s/%s", core->node, volume, block);
    if (record_get(core, KIND_EXPORT, name, &export, NULL) != -ENOENT || adoption_is_open(core))
        return true;
    if (knows_block(core, volume, gbid))
        return false;
    sweep->orphans++;
    return true;
}

static void sweep_grants(struct core *core)
{
    autoerror struct error *problem = NULL;
    struct sweep sweep = {.core = core};
    if (export_sweep(core->exports, export_is_wanted, &sweep, &problem) < 0)
        log_warning("cannot remove stale grants: %s", error_message(problem));
    if (sweep.orphans)
        log_warning(
            "%zu block%s served that the store does not know: adopt the devices (gluster-block device "
            "adopt), or end it by gluster-block examine --repair",
            sweep.orphans, sweep.orphans == 1 ? " is" : "s are");
}

static void full_pass(struct core *core, bool now)
{
    autofree char *node_key = object_key(KIND_NODE, core->node);
    if (now)
        queue_run(core->queue, node_key, NULL);
    else
        queue_add(core->queue, node_key);
    visit(core, KIND_DEVICE, core->node, now);
    visit(core, KIND_VOLUME, NULL, now);
    visit(core, KIND_JOB, NULL, false);
    visit(core, KIND_BLOCK, NULL, false);
    visit(core, KIND_SHARE, NULL, false);
    visit(core, KIND_EXPORT, core->node, now);
}

static void *run(void *data)
{
    struct core *core = data;
    full_pass(core, true);
    sweep_grants(core);
    atomic_store(&core->ready, true);

    unsigned passes = 0;
    struct timespec when;
    clock_gettime(CLOCK_MONOTONIC, &when);
    when.tv_sec += FULL_PASS_SECONDS;
    pthread_mutex_lock(&core->pass_mutex);
    while (!core->stopping) {
        /* A brick that comes and goes all the time must not keep the full pass from its turn. */
        bool due =
            clock_monotonic_ms() >= (int64_t)when.tv_sec * 1000 + when.tv_nsec / 1000000 || core->missed;
        bool processes = core->engine_changed;
        if (!due && !processes) {
            pthread_cond_clockwait(&core->pass_wake, &core->pass_mutex, CLOCK_MONOTONIC, &when);
            continue;
        }
        core->engine_changed = core->missed = false;
        pthread_mutex_unlock(&core->pass_mutex);
        if (due) {
            full_pass(core, false);
            if (++passes % SWEEP_PASSES == 0 && presence_leads(core->presence))
                sweep(core);
            clock_gettime(CLOCK_MONOTONIC, &when);
            when.tv_sec += FULL_PASS_SECONDS;
        } else {
            visit(core, KIND_DEVICE, core->node, false); /* a brick ends when its disk fails */
            visit(core, KIND_VOLUME, NULL, false);
        }
        pthread_mutex_lock(&core->pass_mutex);
    }
    pthread_mutex_unlock(&core->pass_mutex);
    return NULL;
}

void core_presence_changed(struct core *core)
{
    scoped_lock(&core->pass_mutex);
    core->missed = true;
    pthread_cond_signal(&core->pass_wake);
}

void core_engine_changed(struct core *core)
{
    scoped_lock(&core->pass_mutex);
    core->engine_changed = true;
    pthread_cond_signal(&core->pass_wake);
}

int pass_start(struct core *core, struct error **ret_error)
{
    struct store_list nothing = {0};
    int r = store_list(core->store, "nodes/", NULL, 1, &nothing, ret_error);
    if (r < 0)
        return r;
    uint64_t revision = nothing.revision;
    store_list_clear(&nothing);
    r = store_watch(core->store, "", revision, on_change, core, &core->watch, ret_error);
    if (r < 0)
        return r;
    int number = pthread_create(&core->pass_thread, NULL, run, core);
    if (number)
        return error_set(ret_error, number, "cannot start the thread of the passes: %s", strerror(number));
    core->pass_running = true;
    return 0;
}

void pass_stop(struct core *core)
{
    {
        scoped_lock(&core->pass_mutex);
        core->stopping = true;
        pthread_cond_signal(&core->pass_wake);
    }
    if (core->pass_running)
        pthread_join(core->pass_thread, NULL);
    core->pass_running = false;
}
