/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Hosting volumes: creating, starting, stopping, deleting, and keeping their bricks as the record says. */
#include <errno.h>
#include <string.h>

#include "core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"

/* ---- Live state ---- */

int volume_live_status(struct core *core, struct volume *volume, struct error **ret_error)
{
    struct volume_status live = {0};
    int r = engine_volume_status(core->engine, volume, &live, ret_error);
    if (r < 0)
        return r;
    struct volume_status *status = &volume->status;
    live.observed_generation = status->observed_generation;
    /* Until the first reconciliation there is nothing to see, and after a failed one the failure counts. */
    bool failed = string_equal(status->phase, "failed") && status->error;
    if (failed)
        string_replace(&live.error, status->error);
    if (failed || string_equal(status->phase, "pending"))
        string_replace(&live.phase, status->phase);
    ledger_read(core->ledger, volume->meta.name, &live.provisioned, &live.blocks);

    struct volume discarded = {.status = *status};
    *status = live;
    schema_clear(&volume_schema, &discarded);
    return 0;
}

int volume_require_online(struct core *core, struct volume *volume, struct error **ret_error)
{
    int r = volume_live_status(core, volume, ret_error);
    if (r < 0)
        return r;
    const char *phase = volume->status.phase;
    if (!string_equal(phase, "online") && !string_equal(phase, "degraded"))
        return error_set(ret_error, ENOTCONN, "volume %s is %s; see: gluster-block volume info %s",
                         volume->meta.name, phase ? phase : "unknown", volume->meta.name);
    return 0;
}

/* ---- Create ---- */

static int allocate_ports(struct core *core, struct volume *volume, struct txn *txn, struct error **ret_error)
{
    autostring_list struct string_list taken = {0};
    struct brick_spec *bricks = volume->spec.bricks.items;
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        int r = placement_port(core, bricks[i].node, &taken, &bricks[i].port, ret_error);
        if (r < 0)
            return r;
        autofree char *key = xasprintf("ports/%s/%llu", bricks[i].node, (unsigned long long)bricks[i].port);
        autofree char *value = xasprintf("\"volumes/%s\"", volume->meta.name);
        string_list_add(&taken, key);
        txn_put_text(txn, key, value, 0);
    }
    return 0;
}

static int commit_new(struct core *core, const struct volume_create *request,
                      const struct core_change *change, char **ret_uid, struct error **ret_error)
{
    scoped_lock(&core->placement_mutex);
    struct volume volume cleanup(cleanup_volume) = {0};
    if (record_get(core, KIND_VOLUME, request->name, &volume, NULL) == 0)
        return error_set(ret_error, EEXIST, "volume %s %s", request->name,
                         volume.meta.deleting ? "is being deleted" : "exists already");
    if (strlen(request->name) > ENGINE_NAME_MAX)
        return error_set(ret_error, EINVAL, "the volume name \"%.32s...\" is longer than %d characters",
                         request->name, ENGINE_NAME_MAX);

    meta_init(&volume.meta, request->name);
    volume.spec.template_name = request->template_name;
    volume.spec.overcommit = request->overcommit;
    volume.status.phase = xstrdup("pending");
    int r = placement_plan(core, request, &volume, ret_error);
    if (r < 0)
        return r;

    autofree char *key = object_key(KIND_VOLUME, request->name);
    struct txn txn = {0};
    r = allocate_ports(core, &volume, &txn, ret_error);
    if (r == 0) {
        txn_put(&txn, KIND_VOLUME, &volume, 0);
        r = change_commit(core, change, &txn, key, volume.meta.uid, ret_error);
    }
    txn_clear(&txn);
    if (r < 0)
        return r;
    ledger_open(core->ledger, request->name);
    *ret_uid = xstrdup(volume.meta.uid);
    return 0;
}

static int create(struct core *core, const struct volume_create *request, const struct core_change *change,
                  struct core_result *ret_result, struct error **ret_error)
{
    int r = result_replay(core, change, ret_result, ret_error);
    if (r)
        return r < 0 ? r : 0;
    autofree char *uid = NULL;
    r = commit_new(core, request, change, &uid, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.create.after-record");
    autofree char *key = object_key(KIND_VOLUME, request->name);
    return result_make(core, key, uid, change, ret_result, ret_error);
}

int core_volume_create(struct core *core, const struct volume_create *request,
                       const struct core_change *change, struct core_result *ret_result,
                       struct error **ret_error)
{
    unsigned tries = 0;
    int r;
    do
        r = create(core, request, change, ret_result, ret_error);
    while (change_again(core, change, r, &tries, ret_error));
    return r;
}

/* ---- Change and delete ---- */

enum { PATCH_STATE, PATCH_OVERCOMMIT }; /* the fields' places in volume_patch_schema */

static int commit_edited(struct core *core, struct volume *volume, const struct core_change *change,
                         struct error **ret_error)
{
    autofree char *key = object_key(KIND_VOLUME, volume->meta.name);
    struct txn txn = {0};
    volume->meta.generation++;
    txn_put(&txn, KIND_VOLUME, volume, volume->meta.revision);
    int r = change_commit(core, change, &txn, key, volume->meta.uid, ret_error);
    return r;
}

static int change_spec(struct core *core, const char *name, const struct volume_patch *patch,
                       uint64_t present, const struct core_change *change, struct core_result *ret_result,
                       struct error **ret_error)
{
    int r = result_replay(core, change, ret_result, ret_error);
    if (r)
        return r < 0 ? r : 0;
    struct volume volume cleanup(cleanup_volume) = {0};
    r = change_get(core, KIND_VOLUME, name, change, &volume, ret_error);
    if (r < 0)
        return r;
    if (volume.meta.deleting)
        return error_set(ret_error, EBUSY, "volume %s is being deleted", name);
    if (present >> PATCH_STATE & 1)
        volume.spec.state = patch->state;
    if (present >> PATCH_OVERCOMMIT & 1)
        volume.spec.overcommit = patch->overcommit;
    autofree char *key = object_key(KIND_VOLUME, name);
    r = commit_edited(core, &volume, change, ret_error);
    return r < 0 ? r : result_make(core, key, volume.meta.uid, change, ret_result, ret_error);
}

int core_volume_patch(struct core *core, const char *name, const struct volume_patch *patch, uint64_t present,
                      const struct core_change *change, struct core_result *ret_result,
                      struct error **ret_error)
{
    unsigned tries = 0;
    int r;
    do
        r = change_spec(core, name, patch, present, change, ret_result, ret_error);
    while (change_again(core, change, r, &tries, ret_error));
    return r;
}

/* The ledger's count is quick and closes the door; the records are what counts, one that is damaged too. */
static int check_empty(struct core *core, const char *name, struct error **ret_error)
{
    struct record_list blocks = {.kind = KIND_BLOCK};
    int r = record_list(core, KIND_BLOCK, name, &blocks, ret_error);
    if (r == 0 && blocks.list.count)
        r = error_set(ret_error, ENOTEMPTY, "volume %s holds block %s: delete it first", name,
                      RECORD(&blocks, block, 0)->meta.name);
    record_list_clear(&blocks);
    if (r < 0)
        ledger_open(core->ledger, name);
    return r;
}

static int delete_volume(struct core *core, const char *name, const struct core_change *change,
                         struct core_result *ret_result, struct error **ret_error)
{
    int r = result_replay(core, change, ret_result, ret_error);
    if (r)
        return r < 0 ? r : 0;
    struct volume volume cleanup(cleanup_volume) = {0};
    r = change_get(core, KIND_VOLUME, name, change, &volume, ret_error);
    if (r < 0)
        return r;
    r = ledger_close(core->ledger, name, ret_error);
    if (r < 0)
        return r;
    r = check_empty(core, name, ret_error);
    if (r < 0)
        return r;
    /* A block's create checks the volume's record too, so that an open ledger alone lets nothing in. */
    bool first = !volume.meta.deleting;
    volume.meta.deleting = true;
    r = commit_edited(core, &volume, change, ret_error);
    if (r < 0 && first)
        ledger_open(core->ledger, name);
    autofree char *key = object_key(KIND_VOLUME, name);
    return r < 0 ? r : result_make(core, key, volume.meta.uid, change, ret_result, ret_error);
}

int core_volume_delete(struct core *core, const char *name, const struct core_change *change,
                       struct core_result *ret_result, struct error **ret_error)
{
    unsigned tries = 0;
    int r;
    do
        r = delete_volume(core, name, change, ret_result, ret_error);
    while (change_again(core, change, r, &tries, ret_error));
    return r;
}

/* ---- Reconcile ---- */

struct seen {
    const char *phase, *error;
    uint64_t generation;
};

static bool set_status(void *object, void *data)
{
    struct volume_status *status = &((struct volume *)object)->status;
    const struct seen *seen = data;
    bool changed = string_replace(&status->phase, seen->phase);
    changed |= string_replace(&status->error, seen->error);
    changed |= status->observed_generation != seen->generation;
    status->observed_generation = seen->generation;
    return changed;
}

static int record_status(struct core *core, const struct volume *volume, const char *phase, const char *error,
                         struct error **ret_error)
{
    struct seen seen = {.phase = phase, .error = error, .generation = volume->meta.generation};
    return record_update(core, KIND_VOLUME, volume->meta.name, volume->meta.uid, set_status, &seen,
                         ret_error);
}

/* The daemon for all volumes of this node is told the whole set, whichever of them changed. */
static int apply_heal(struct core *core, struct error **ret_error)
{
    scoped_lock(&core->heal_mutex);
    struct record_list volumes = {.kind = KIND_VOLUME}, nodes = {.kind = KIND_NODE};
    int r = record_list_readable(core, KIND_VOLUME, NULL, &volumes, ret_error);
    if (r == 0)
        r = record_list(core, KIND_NODE, NULL, &nodes, ret_error);
    struct object_list up = {0};
    bool enabled = node_is_enabled(core);
    for (size_t i = 0; r == 0 && enabled && i < volumes.list.count; i++) {
        struct volume *volume = RECORD(&volumes, volume, i);
        if (volume->spec.state == VOLUME_STARTED && !volume->meta.deleting &&
            volume->spec.template_name != TEMPLATE_SINGLE)
            memcpy(object_list_add(&up, sizeof *volume), volume, sizeof *volume); /* borrowed, not a copy */
    }
    if (r == 0)
        r = engine_heal_up(core->engine, up.items, up.count, nodes.list.items, nodes.list.count, ret_error);
    free(up.items);
    record_list_clear(&volumes);
    record_list_clear(&nodes);
    return r;
}

static int bring_up(struct core *core, const struct volume *volume, struct error **ret_error)
{
    struct record_list nodes = {.kind = KIND_NODE};
    int r = record_list(core, KIND_NODE, NULL, &nodes, ret_error);
    if (r == 0)
        r = engine_volume_up(core->engine, volume, nodes.list.items, nodes.list.count, ret_error);
    record_list_clear(&nodes);
    return r < 0 ? r : apply_heal(core, ret_error);
}

static int erase(struct core *core, const struct volume *volume, struct error **ret_error)
{
    hosting_drop(core->hosting, volume->meta.name);
    int r = apply_heal(core, ret_error);
    if (r == 0)
        r = engine_volume_erase(core->engine, volume, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.delete.after-erase");

    struct txn txn = {0};
    autofree char *key = object_key(KIND_VOLUME, volume->meta.name);
    txn_delete(&txn, key, volume->meta.revision);
    const struct brick_spec *bricks = volume->spec.bricks.items;
    for (size_t i = 0; i < volume->spec.bricks.count && r == 0; i++) {
        autofree char *port = xasprintf("ports/%s/%llu", bricks[i].node, (unsigned long long)bricks[i].port);
        struct store_entry entry = {0};
        r = store_get(core->store, port, &entry, NULL);
        if (r == 0)
            txn_delete(&txn, port, entry.revision);
        else if (r == -ENOENT)
            r = 0;
        else
            error_set(ret_error, -r, "cannot read %s: %s", port, strerror(-r));
        store_entry_clear(&entry);
    }
    if (r == 0)
        r = txn_commit(core, &txn, ret_error);
    txn_clear(&txn);
    return r == -ESTALE ? -EAGAIN : r;
}

static int bring_down(struct core *core, const struct volume *volume, struct error **ret_error)
{
    hosting_drop(core->hosting, volume->meta.name);
    int r = apply_heal(core, ret_error);
    return r < 0 ? r : engine_volume_down(core->engine, volume, ret_error);
}

/* Blocks and exports that could not be served while it was down are looked at again. */
static void wake_blocks(struct core *core, const char *volume)
{
    struct record_list blocks = {.kind = KIND_BLOCK};
    if (record_list_readable(core, KIND_BLOCK, volume, &blocks, NULL) < 0)
        return;
    for (size_t i = 0; i < blocks.list.count; i++) {
        const struct block *block = RECORD(&blocks, block, i);
        if (string_equal(block->status.phase, "ready") && !block->meta.deleting &&
            block->status.observed_generation == block->meta.generation)
            continue;
        autofree char *key = object_key(KIND_BLOCK, block->meta.name);
        queue_add(core->queue, key);
    }
    record_list_clear(&blocks);
}

/* Do enough bricks answer, whatever is stored? */
static bool serves(struct core *core, const struct volume *volume)
{
    struct volume live cleanup(cleanup_volume) = {0};
    schema_copy(&volume_schema, &live, volume);
    string_replace(&live.status.phase, NULL);
    return volume_require_online(core, &live, NULL) == 0;
}

int volume_reconcile(struct core *core, const char *name, struct error **ret_error)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    int r = record_get(core, KIND_VOLUME, name, &volume, ret_error);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (volume.meta.deleting)
        return erase(core, &volume, ret_error);

    autoerror struct error *problem = NULL;
    bool up = volume.spec.state == VOLUME_STARTED && node_is_enabled(core);
    r = up ? bring_up(core, &volume, &problem) : bring_down(core, &volume, &problem);
    if (r < 0) {
        /* A brick that cannot come up keeps a volume that has its quorum from nothing. */
        const char *phase = up && serves(core, &volume) ? "degraded" : "failed";
        record_status(core, &volume, phase, error_message(problem), NULL);
        return error_set(ret_error, -r, "%s", error_message(problem));
    }

    struct volume live cleanup(cleanup_volume) = {0};
    schema_copy(&volume_schema, &live, &volume);
    string_replace(&live.status.phase, NULL); /* what is stored does not count here */
    r = volume_live_status(core, &live, ret_error);
    if (r < 0)
        return r;
    const char *phase = up ? live.status.phase : "stopped";
    bool is_up = string_equal(phase, "online") || string_equal(phase, "degraded");
    bool changed = !string_equal(phase, volume.status.phase);
    r = record_status(core, &volume, phase, NULL, ret_error);
    if (r == 0 && changed && is_up)
        wake_blocks(core, name);
    /* Bricks take a moment to answer: look again until the volume serves as it should. */
    return r == 0 && up && !is_up ? -EAGAIN : r;
}
