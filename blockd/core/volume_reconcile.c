/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Keeps the bricks of a hosting volume, and what serves them, as its record says. */
#include <errno.h>
#include <string.h>

#include "core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"

static int record_phase(struct core *core, const struct volume *volume, const char *phase, const char *error,
                        struct error **ret_error)
{
    struct status_seen seen = {.phase = phase, .error = error};
    return status_record(core, KIND_VOLUME, &volume->meta, &seen, ret_error);
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
    bool enabled = false;
    if (r == 0)
        r = node_get_enabled(core, &enabled, ret_error);
    for (size_t i = 0; r == 0 && enabled && i < volumes.list.count; i++) {
        struct volume *volume = RECORD(&volumes, volume, i);
        if (volume->spec.state == VOLUME_STARTED && !volume->meta.deleting)
            memcpy(object_list_add(&up, sizeof *volume), volume, sizeof *volume); /* borrowed, not a copy */
    }
    if (r == 0)
        r = engine_heal_up(core->engine, up.items, up.count, nodes.list.items, nodes.list.count, ret_error);
    free(up.items);
    record_list_clear(&volumes);
    record_list_clear(&nodes);
    return r;
}

/* Brings those shares to the front that are in service and whose lists can be understood; their number. */
static size_t keep_mountable(struct record_list *shares)
{
    size_t count = 0;
    for (size_t i = 0; i < shares->list.count; i++) {
        struct share *share = RECORD(shares, share, i), *place = RECORD(shares, share, count);
        if (share->spec.archived || share->meta.deleting ||
            engine_access_check(&share->spec.access, false, NULL) < 0)
            continue;
        if (!share->status.path)
            share->status.path = share_path(share);
        struct share other = *place;
        *place = *share;
        *share = other;
        count++;
    }
    return count;
}

int volume_serve(struct core *core, const struct volume *volume, struct error **ret_error)
{
    struct record_list nodes = {.kind = KIND_NODE}, shares = {.kind = KIND_SHARE};
    int r = record_list(core, KIND_NODE, NULL, &nodes, ret_error);
    if (r == 0)
        r = record_list_readable(core, KIND_SHARE, volume->meta.name, &shares, ret_error);
    if (r == 0) {
        size_t count = keep_mountable(&shares);
        r = engine_volume_up(core->engine, volume, nodes.list.items, nodes.list.count, shares.list.items,
                             count, ret_error);
    }
    record_list_clear(&nodes);
    record_list_clear(&shares);
    return r;
}

/* A brick that cannot come up is no reason to keep the others from being healed. */
static int bring_up(struct core *core, const struct volume *volume, struct error **ret_error)
{
    int r = volume_serve(core, volume, ret_error);
    int healed = apply_heal(core, r < 0 ? NULL : ret_error);
    return r < 0 ? r : healed;
}

#define RELEASED_AT_ONCE 40 /* bricks: a transaction takes so many operations */

/* It may have been given back before, and be another volume's by now. */
static int release_port(struct core *core, struct txn *txn, const struct volume *volume,
                        const struct brick_spec *brick, struct error **ret_error)
{
    autofree char *key = xasprintf("ports/%s/%llu", brick->node, (unsigned long long)brick->port);
    autofree char *owner = xasprintf("\"volumes/%s\"", volume->meta.name);
    struct store_entry entry = {0};
    int r = store_get(core->store, key, &entry, NULL);
    if (r == 0 && strcmp(entry.value, owner) == 0)
        txn_delete(txn, key, entry.revision);
    store_entry_clear(&entry);
    return r == 0 || r == -ENOENT ? 0 : error_set(ret_error, -r, "cannot read %s: %s", key, strerror(-r));
}

/* On a device, or a node, that is gone the brick is to be erased when that comes back. */
static int note_grave(struct core *core, struct txn *txn, const struct volume *volume,
                      const struct brick_spec *brick, struct error **ret_error)
{
    autofree char *name = xasprintf("%s/%s", brick->node, brick->device);
    autofree char *grave = xasprintf("%s %s", volume->meta.name, volume->meta.uid);
    struct device device cleanup(cleanup_device) = {0};
    int r = record_get(core, KIND_DEVICE, name, &device, ret_error);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (string_list_contains(&device.spec.graves, grave) ||
        (string_equal(device.status.phase, "ready") && presence_sees(core->presence, brick->node)))
        return 0;
    string_list_add(&device.spec.graves, grave);
    txn_put(txn, KIND_DEVICE, &device, device.meta.revision);
    return 0;
}

static const struct brick_spec *brick_or_moving(const struct volume *volume, size_t index)
{
    size_t bricks = volume->spec.bricks.count;
    return index < bricks ? (const struct brick_spec *)volume->spec.bricks.items + index
                          : &((const struct brick_move *)volume->spec.moves.items)[index - bricks].brick;
}

static int release_some(struct core *core, const struct volume *volume, size_t first, size_t end,
                        struct error **ret_error)
{
    struct txn txn cleanup(txn_clear) = {0};
    autofree char *key = object_key(KIND_VOLUME, volume->meta.name);
    int r = 0;
    for (size_t i = first; i < end && r == 0; i++) {
        const struct brick_spec *brick = brick_or_moving(volume, i);
        r = release_port(core, &txn, volume, brick, ret_error);
        if (r == 0 && volume->spec.forced)
            r = note_grave(core, &txn, volume, brick, ret_error);
    }
    if (r < 0 || txn.count == 0)
        return r;
    txn_check(&txn, key, volume->meta.revision);
    r = txn_commit(core, &txn, ret_error);
    fault_point("volume.delete.after-release");
    return r;
}

static int release_bricks(struct core *core, const struct volume *volume, struct error **ret_error)
{
    size_t count = volume->spec.bricks.count + volume->spec.moves.count;
    int r = 0;
    for (size_t first = 0; first < count && r == 0; first += RELEASED_AT_ONCE)
        r = release_some(core, volume, first,
                         count - first < RELEASED_AT_ONCE ? count : first + RELEASED_AT_ONCE, ret_error);
    return r;
}

static int erase(struct core *core, const struct volume *volume, struct error **ret_error)
{
    hosting_drop(core->hosting, volume->meta.name);
    int r = engine_rebalance_down(core->engine, volume->meta.name, ret_error);
    if (r == 0)
        r = apply_heal(core, ret_error);
    if (r == 0)
        r = engine_volume_erase(core->engine, volume, volume->spec.forced, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.delete.after-erase");
    heal_forget(core, volume->meta.name);
    r = reports_publish(core->reports, volume, NULL, ret_error);
    if (r < 0 || !presence_leads(core->presence))
        return r;
    r = reports_complete(core->reports, volume, ret_error);
    if (r < 0)
        return r;

    r = release_bricks(core, volume, ret_error);
    if (r < 0)
        return r == -ESTALE ? -EAGAIN : r;
    struct txn txn = {0};
    autofree char *key = object_key(KIND_VOLUME, volume->meta.name);
    txn_delete(&txn, key, volume->meta.revision);
    reports_forget(core->reports, volume, &txn);
    r = txn_commit(core, &txn, ret_error);
    txn_clear(&txn);
    return r == -ESTALE ? -EAGAIN : r;
}

static int bring_down(struct core *core, const struct volume *volume, struct error **ret_error)
{
    hosting_drop(core->hosting, volume->meta.name);
    int r = engine_rebalance_down(core->engine, volume->meta.name, ret_error);
    if (r == 0)
        r = apply_heal(core, ret_error);
    return r < 0 ? r : engine_volume_down(core->engine, volume, ret_error);
}

static void wake_shares(struct core *core, const char *volume)
{
    struct record_list shares = {.kind = KIND_SHARE};
    if (record_list_readable(core, KIND_SHARE, volume, &shares, NULL) < 0)
        return;
    for (size_t i = 0; i < shares.list.count; i++) {
        autofree char *key = object_key(KIND_SHARE, RECORD(&shares, share, i)->meta.name);
        queue_add(core->queue, key);
    }
    record_list_clear(&shares);
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

/* What is left to do on a node that does not lead: the one that does records what is seen. */
static int follow(struct core *core, const struct volume *volume, bool serves, int failure,
                  struct error **problem, struct error **ret_error)
{
    if (failure < 0)
        return error_set(ret_error, -failure, "%s", error_message(*problem));
    return serves ? shares_apply(core, volume, ret_error) : 0;
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
    bool enabled;
    r = node_get_enabled(core, &enabled, ret_error);
    if (r < 0)
        return r;
    bool up = volume.spec.state == VOLUME_STARTED && enabled;
    int failure = up ? bring_up(core, &volume, &problem) : bring_down(core, &volume, &problem);
    struct volume live cleanup(cleanup_volume) = {0};
    schema_copy(&volume_schema, &live, &volume);
    string_replace(&live.status.phase, NULL); /* what is stored does not count here */
    r = volume_live_status(core, &live, ret_error);
    if (r == 0)
        r = reports_publish(core->reports, &volume, &live.status, ret_error);
    if (r < 0)
        return r;
    /* On a node that is stopped the volume may be served by the others. */
    bool wanted = volume.spec.state == VOLUME_STARTED;
    bool serves =
        wanted && (string_equal(live.status.phase, "online") || string_equal(live.status.phase, "degraded"));
    const char *phase = up || serves ? live.status.phase : "stopped";
    if (!presence_leads(core->presence))
        return follow(core, &volume, serves, failure, &problem, ret_error);
    r = reports_complete(core->reports, &volume, ret_error);
    if (r < 0)
        return r;
    /* A brick that cannot come up is no failure of a volume that serves without it. */
    if (failure < 0 && !(up && serves)) {
        record_phase(core, &volume, "failed", error_message(problem), NULL);
        return error_set(ret_error, -failure, "%s", error_message(problem));
    }
    bool changed = !string_equal(phase, volume.status.phase);
    r = record_phase(core, &volume, phase, NULL, ret_error);
    if (r == 0 && changed && serves) {
        wake_blocks(core, name);
        wake_shares(core, name);
    }
    if (r == 0 && serves)
        r = shares_apply(core, &volume, ret_error);
    if (r == 0 && failure < 0)
        r = error_set(ret_error, -failure, "%s", error_message(problem));
    int moving = up ? moves_advance(core, &volume, r < 0 ? NULL : ret_error) : 0;
    if (moving < 0 && moving != -EAGAIN && r >= 0) /* the job that began it looks again, and so does a pass */
        r = moving;
    /* Bricks take a moment to answer: look again until the volume serves as it should. */
    return r == 0 && up && !string_equal(phase, "online") && !serves ? -EAGAIN : r;
}
