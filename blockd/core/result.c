/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Answers: waiting for the reconciler, retries, and live state over the stored status. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

void core_result_clear(struct core_result *result)
{
    json_decref(result->object);
    *result = (struct core_result){0};
}

static void overlay_block(struct core *core, struct block *block)
{
    autofree char *name = object_name_part(block->meta.name, 0);
    struct volume volume cleanup(cleanup_volume) = {0};
    if (record_get(core, KIND_VOLUME, name, &volume, NULL) < 0 ||
        volume_require_online(core, &volume, NULL) < 0)
        return;
    heal_look_now(core->heal_watch, &volume);
    struct image_volume *connection = NULL;
    if (hosting_get(core->hosting, name, &connection, NULL) < 0)
        return;
    struct image_stat file;
    if (image_stat(connection, block->spec.storage, &file, NULL) == 0)
        block->status.used = file.used;
    hosting_put(core->hosting, connection);
}

static void overlay_share(struct core *core, struct share *share)
{
    autofree char *name = object_name_part(share->meta.name, 0);
    struct volume volume cleanup(cleanup_volume) = {0};
    uint64_t used;
    if (record_get(core, KIND_VOLUME, name, &volume, NULL) == 0 &&
        engine_share_used(core->engine, &volume, (uint32_t)share->spec.project, &used, NULL) == 0)
        share->status.used = used;
}

static void overlay_export(struct core *core, struct export *export)
{
    autofree char *node = object_name_part(export->meta.name, 0);
    if (strcmp(node, core->node) != 0 || !string_equal(export->status.phase, "live"))
        return;
    struct export_status live = {0};
    if (export_status(core->exports, export, &live, NULL) < 0)
        return;
    string_replace(&export->status.phase, live.phase);
    string_replace(&export->status.uri, live.uri);
    string_replace(&export->status.error, live.error);
    free(live.phase);
    free(live.uri);
    free(live.error);
}

static void add_bricks(struct core *core, struct device *device)
{
    struct record_list volumes = {.kind = KIND_VOLUME};
    string_list_clear(&device->status.bricks);
    if (record_list_readable(core, KIND_VOLUME, NULL, &volumes, NULL) < 0)
        return;
    for (size_t i = 0; i < volumes.list.count; i++) {
        const struct volume *volume = RECORD(&volumes, volume, i);
        if (volume_uses_device(volume, device->meta.name))
            string_list_add(&device->status.bricks, volume->meta.name);
    }
    record_list_clear(&volumes);
}

static void overlay_device(struct core *core, struct device *device)
{
    autofree char *node = object_name_part(device->meta.name, 0);
    add_bricks(core, device);
    if (strcmp(node, core->node) != 0 || !string_equal(device->status.phase, "ready"))
        return;
    struct device_status live = {0};
    if (engine_device_status(core->engine, device, &live, NULL) == 0) {
        device->status.size = live.size;
        device->status.free = live.free;
    }
    free(live.phase);
    free(live.uuid);
    free(live.mount);
    free(live.error);
}

void overlay_status(struct core *core, enum object_kind kind, void *object, bool whole)
{
    switch (kind) {
    case KIND_DEVICE:
        overlay_device(core, object);
        break;
    case KIND_VOLUME:
        volume_live_status(core, object, NULL);
        break;
    case KIND_BLOCK:
        if (whole)
            overlay_block(core, object);
        heal_overlay_block(core->heal_watch, object);
        break;
    case KIND_SHARE:
        overlay_share(core, object);
        break;
    case KIND_EXPORT:
        overlay_export(core, object);
        break;
    case KIND_JOB:
        jobs_overlay(core->jobs, object);
        break;
    case KIND_NODE:
    case KIND_COUNT:
        break;
    }
}

/* ---- Is what the spec asks for done, or has it failed for good? ---- */

static bool phase_is(const char *phase, const char *const words[])
{
    return phase && enum_parse(words, phase) >= 0;
}

/* A volume that serves while a brick still comes up is about to be more than degraded. */
static bool has_starting_brick(const struct volume *volume)
{
    const struct brick_status *bricks = volume->status.bricks.items;
    for (size_t i = 0; i < volume->status.bricks.count; i++)
        if (string_equal(bricks[i].state, "starting"))
            return true;
    return false;
}

static bool is_settled(enum object_kind kind, const union any_object *object)
{
    static const char *const ends[] = {"ready", "failed", "stopped", NULL};
    static const char *const share_ends[] = {"ready", "archived", "failed", NULL};
    static const char *const volume_ends[] = {"online", "degraded", "stopped", "failed", NULL};
    static const char *const export_ends[] = {"live", "failed", NULL};
    static const char *const job_ends[] = {"succeeded", "failed", "canceled", NULL};
    static const char *const node_ends[] = {"online", "stopped", NULL};
    uint64_t generation = object->meta.generation;
    if (object->meta.deleting)
        return false; /* settled is when it is gone */
    switch (kind) {
    case KIND_NODE:
        return phase_is(object->node.status.phase, node_ends) &&
               (object->node.spec.state == NODE_STOPPED) ==
                   string_equal(object->node.status.phase, "stopped");
    case KIND_DEVICE:
        return object->device.status.observed_generation >= generation &&
               phase_is(object->device.status.phase, ends);
    case KIND_VOLUME:
        return object->volume.status.observed_generation >= generation &&
               phase_is(object->volume.status.phase, volume_ends) && !has_starting_brick(&object->volume);
    case KIND_BLOCK:
        return object->block.status.observed_generation >= generation &&
               phase_is(object->block.status.phase, ends);
    case KIND_SHARE:
        return object->share.status.observed_generation >= generation &&
               phase_is(object->share.status.phase, share_ends);
    case KIND_EXPORT:
        return object->export.status.observed_generation >= generation &&
               phase_is(object->export.status.phase, export_ends);
    case KIND_JOB:
        return phase_is(object->job.status.phase, job_ends);
    case KIND_COUNT:
        break;
    }
    return true;
}

/* A block's create answers with its job while that runs, because the job has the progress. A job that has
 * ended says nothing of what is still asked of the block. */
static bool answer_with_job(struct core *core, const union any_object *object, struct core_result *ret_result)
{
    struct job job cleanup(cleanup_job) = {0};
    if (!string_equal(object->block.status.phase, "preallocating") || !object->block.status.job)
        return false;
    if (record_get(core, KIND_JOB, object->block.status.job, &job, NULL) < 0 || job_has_ended(&job))
        return false;
    return core_get(core, KIND_JOB, object->block.status.job, &ret_result->object, NULL) == 0;
}

int result_make(struct core *core, const char *key, const char *uid, const struct core_change *change,
                struct core_result *ret_result, struct error **ret_error)
{
    enum object_kind kind;
    const char *name;
    int r = object_key_parse(key, &kind, &name);
    if (r < 0)
        return error_set(ret_error, -r, "%s is no object", key);

    int64_t deadline = clock_monotonic_ms() + (int64_t)change->wait * 1000;
    uint64_t seen = UINT64_MAX; /* no number of turns: the first wait returns at once */
    for (;;) {
        union any_object object = {0};
        r = record_get(core, kind, name, &object, NULL);
        bool gone = r == -ENOENT || (r == 0 && !string_equal(object.meta.uid, uid));
        if (gone) {
            any_object_clear(kind, &object);
            *ret_result = (struct core_result){.settled = true};
            return 0;
        }
        if (r < 0)
            return error_set(ret_error, -r, "cannot read %s back: %s", key, strerror(-r));

        if (kind == KIND_VOLUME) /* its bricks are in no record */
            volume_live_status(core, &object.volume, NULL);
        bool settled = is_settled(kind, &object);
        /* On a busy node something is worked on all the time: the deadline counts all the same. */
        bool late = clock_monotonic_ms() >= deadline;
        r = settled || late ? -ETIMEDOUT : queue_wait(core->queue, &seen, deadline);
        if (r == -ETIMEDOUT) {
            *ret_result = (struct core_result){.settled = settled};
            if (settled || kind != KIND_BLOCK || !answer_with_job(core, &object, ret_result)) {
                overlay_status(core, kind, &object, true);
                ret_result->object = schema_encode(object_types[kind].schema, &object);
            }
        }
        any_object_clear(kind, &object);
        if (r == -ETIMEDOUT)
            return 0;
        if (r < 0)
            return error_set(ret_error, ECANCELED,
                             "blockd is stopping; the change is recorded and goes on later");
    }
}

int result_replay(struct core *core, const struct core_change *change, struct core_result *ret_result,
                  struct error **ret_error)
{
    autofree char *key = NULL, *uid = NULL;
    int r = idempotency_find(core, change, &key, &uid, ret_error);
    if (r <= 0)
        return r;
    r = result_make(core, key, uid, change, ret_result, ret_error);
    return r < 0 ? r : 1;
}

/* ---- Reading ---- */

int core_get(struct core *core, enum object_kind kind, const char *name, json_t **ret_object,
             struct error **ret_error)
{
    union any_object object = {0};
    int r = record_get(core, kind, name, &object, ret_error);
    if (r < 0)
        return r;
    overlay_status(core, kind, &object, true);
    *ret_object = schema_encode(object_types[kind].schema, &object);
    any_object_clear(kind, &object);
    return 0;
}

int core_list(struct core *core, enum object_kind kind, const char *prefix, const char *start, uint64_t limit,
              json_t **ret_list, struct error **ret_error)
{
    const struct object_type *type = &object_types[kind];
    autofree char *key_prefix = xasprintf("%s/%s%s", type->plural, prefix ? prefix : "", prefix ? "/" : "");
    autofree char *after = start ? object_key(kind, start) : NULL;
    struct store_list entries = {0};
    int r = store_list(core->store, key_prefix, after, limit, &entries, ret_error);
    if (r < 0)
        return r;

    json_t *items = json_array();
    for (size_t i = 0; i < entries.count; i++) {
        union any_object object = {0};
        if (record_decode(kind, &entries.entries[i], &object, NULL) < 0)
            continue; /* the status names it; all others are listed */
        overlay_status(core, kind, &object, false);
        json_array_append_new(items, schema_encode(type->schema, &object));
        any_object_clear(kind, &object);
    }
    if (r == 0)
        *ret_list = json_pack("{s:O, s:I}", "items", items, "revision", (json_int_t)entries.revision);
    json_decref(items);
    store_list_clear(&entries);
    return r;
}

/* ---- Watching ---- */

struct core_watch {
    enum object_kind kind;
    core_watch_callback callback;
    void *data;
    struct store_watch *watch;
};

static void on_event(void *data, const struct store_event *event)
{
    struct core_watch *watch = data;
    if (!event) {
        watch->callback(watch->data, NULL, NULL, 0);
        return;
    }
    json_t *object = event->value ? json_loads(event->value, 0, NULL) : NULL;
    if (object)
        json_object_set_new(object, "revision", json_integer((json_int_t)event->revision));
    watch->callback(watch->data, event->key, object, event->revision);
    json_decref(object);
}

/* The revision that the store has now. */
static int revision_now(struct core *core, const char *prefix, uint64_t *ret_revision,
                        struct error **ret_error)
{
    struct store_list one = {0};
    int r = store_list(core->store, prefix, NULL, 1, &one, ret_error);
    if (r == 0)
        *ret_revision = one.revision;
    store_list_clear(&one);
    return r;
}

int core_watch(struct core *core, enum object_kind kind, const char *prefix, uint64_t after,
               core_watch_callback callback, void *data, struct core_watch **ret_watch,
               struct error **ret_error)
{
    autofree char *key_prefix =
        xasprintf("%s/%s%s", object_types[kind].plural, prefix ? prefix : "", prefix ? "/" : "");
    int r = after ? 0 : revision_now(core, key_prefix, &after, ret_error);
    if (r < 0)
        return r;
    struct core_watch *watch = xcalloc(1, sizeof *watch);
    *watch = (struct core_watch){.kind = kind, .callback = callback, .data = data};
    r = store_watch(core->store, key_prefix, after, on_event, watch, &watch->watch, ret_error);
    if (r < 0) {
        free(watch);
        return r;
    }
    *ret_watch = watch;
    return 0;
}

void core_watch_end(struct core_watch *watch)
{
    if (!watch)
        return;
    store_watch_end(watch->watch);
    free(watch);
}
