/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Makes the file of a block, and what is offered of it, as its record says. Every step may be the second
 * time. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/volume_layout.h"

static bool forget_job(void *object, void *data)
{
    (void)data;
    return string_replace(&((struct block *)object)->status.job, NULL);
}

/* This node's export of the block, if it has one, follows the block's state and size: let it look again. */
static void wake_export(struct core *core, const char *block_name)
{
    struct export export cleanup(cleanup_export) = {0};
    autofree char *name = xasprintf("%s/%s", core->node, block_name);
    if (record_get(core, KIND_EXPORT, name, &export, NULL) < 0)
        return;
    autofree char *key = object_key(KIND_EXPORT, name);
    queue_add(core->queue, key);
}

/* ---- Deleting ---- */

static bool set_deleting(void *object, void *data)
{
    struct meta *meta = object;
    bool changed = !meta->deleting;
    (void)data;
    meta->deleting = true;
    return changed;
}

/* Each export adds this block's key again when it goes. */
static int exports_gone(struct core *core, const char *block_name, struct error **ret_error)
{
    struct record_list exports = {.kind = KIND_EXPORT};
    int r = exports_of_block(core, block_name, &exports, ret_error);
    bool any = r == 0 && exports.list.count;
    for (size_t i = 0; r == 0 && i < exports.list.count; i++) {
        const struct meta *meta = &RECORD(&exports, export, i)->meta;
        r = record_update(core, KIND_EXPORT, meta->name, meta->uid, set_deleting, NULL, ret_error);
        r = r == -ENOENT ? 0 : r;
    }
    record_list_clear(&exports);
    return r == 0 && any ? -EAGAIN : r;
}

static int forget(struct core *core, const struct block *block, const char *volume, struct error **ret_error)
{
    struct txn txn = {0};
    autofree char *key = object_key(KIND_BLOCK, block->meta.name);
    const struct ledger_change promise = {.volume = volume, .less = {.bytes = block->spec.size, .blocks = 1}};
    txn_delete(&txn, key, block->meta.revision);
    int r = ledger_commit(core, &txn, &promise, ret_error);
    txn_clear(&txn);
    return r == -ESTALE ? -EAGAIN : r;
}

static int erase(struct core *core, const struct block *block, const char *volume, bool with_file,
                 struct error **ret_error)
{
    int r = exports_gone(core, block->meta.name, ret_error);
    if (r < 0)
        return r;
    if (with_file) {
        struct image_volume *connection = NULL;
        r = hosting_get(core->hosting, volume, &connection, ret_error);
        if (r < 0)
            return r;
        r = image_remove(connection, block->spec.storage, ret_error);
        hosting_put(core->hosting, connection);
        if (r < 0)
            return r;
    }
    fault_point("block.delete.after-file");
    return forget(core, block, volume, ret_error);
}

/* ---- Making and resizing ---- */

/* Brings the file to spec.size. */
static int shape_file(struct image_volume *connection, const struct block *block, struct error **ret_error)
{
    autoerror struct error *problem = NULL;
    int r = -EEXIST; /* with the size of an earlier spec, say when a resize came before the first status */
    if (block->status.size == 0 && !block->spec.adopted) {
        r = image_create(connection, block->spec.storage, block->spec.size, &problem);
        fault_point("block.create.after-file");
    }
    if (r == 0)
        return 0;
    if (r != -EEXIST)
        return error_set(ret_error, -r, "%s", error_message(problem));
    struct image_stat file;
    r = image_stat(connection, block->spec.storage, &file, ret_error);
    if (r < 0 || file.size == block->spec.size)
        return r;
    r = image_truncate(connection, block->spec.storage, block->spec.size, ret_error);
    fault_point("block.resize.after-file");
    return r;
}

/* What follows once the file has its size: a job that allocates it, or service. */
static int settle(struct core *core, const struct block *block, struct error **ret_error)
{
    struct job job cleanup(cleanup_job) = {0};
    struct status_seen seen = {.phase = "ready", .size = block->spec.size};
    bool waits = block->status.job && record_get(core, KIND_JOB, block->status.job, &job, NULL) == 0;
    if (waits && string_equal(job.status.phase, "failed")) {
        seen.phase = "failed";
        seen.error = job.status.error;
    } else if (waits && !string_equal(job.status.phase, "succeeded") &&
               !string_equal(job.status.phase, "canceled")) {
        seen.phase = "preallocating";
    }
    seen.more = strcmp(seen.phase, "ready") == 0 ? forget_job : NULL;
    int r = status_record(core, KIND_BLOCK, &block->meta, &seen, ret_error);
    if (r == 0 && strcmp(seen.phase, "preallocating") == 0)
        jobs_wake(core->jobs);
    fault_point("block.settle.after-status");
    return r;
}

/* Whoever is connected would write beyond the new end, and make the file grow again:
 * they have to come back. */
static int cut_clients(struct core *core, const struct block *block, struct error **ret_error)
{
    if (block->spec.size >= block->status.size)
        return 0;
    autofree char *volume = object_name_part(block->meta.name, 0),
                  *name = object_name_part(block->meta.name, 1);
    return export_down(core->exports, volume, name, ret_error);
}

int block_reconcile(struct core *core, const char *name, struct error **ret_error)
{
    struct block block cleanup(cleanup_block) = {0};
    struct volume volume cleanup(cleanup_volume) = {0};
    autofree char *volume_name = object_name_part(name, 0);
    int r = record_get(core, KIND_BLOCK, name, &block, ret_error);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (block.meta.deleting && block.spec.keep_storage)
        return erase(core, &block, volume_name, false, ret_error);
    /* One that failed is tried again at each look: room may have been made. */
    if (!block.meta.deleting && string_equal(block.status.phase, "ready") &&
        block.status.observed_generation == block.meta.generation)
        return 0;

    r = record_get(core, KIND_VOLUME, volume_name, &volume, NULL);
    if (r == -ENOENT && block.meta.deleting) /* the file went with its volume */
        return erase(core, &block, volume_name, false, ret_error);
    if (r < 0)
        return error_set(ret_error, -r, "cannot read volume %s: %s", volume_name, strerror(-r));
    r = volume_require_online(core, &volume, ret_error);
    if (r < 0)
        return r;
    if (block.meta.deleting)
        return erase(core, &block, volume_name, true, ret_error);

    struct image_volume *connection = NULL;
    r = cut_clients(core, &block, ret_error);
    if (r == 0)
        r = hosting_get(core->hosting, volume_name, &connection, ret_error);
    if (r < 0)
        return r;
    autoerror struct error *problem = NULL;
    r = shape_file(connection, &block, &problem);
    hosting_put(core->hosting, connection);
    if (r < 0) {
        /* No room and no file are for the user to mend; all else (a brick away) is tried again. */
        struct status_seen seen = {
            .phase = "failed", .error = error_message(problem), .size = block.status.size};
        if (r == -ENOSPC || r == -EDQUOT || r == -ENOENT || r == -EFBIG || r == -EINVAL)
            return status_record(core, KIND_BLOCK, &block.meta, &seen, ret_error);
        return error_set(ret_error, -r, "%s", error_message(problem));
    }
    if (layout_sets(&volume.spec) > 1)
        block_note_set(core, &volume, &block);
    r = settle(core, &block, ret_error);
    if (r == 0)
        wake_export(core, name);
    return r;
}

int block_follow(struct core *core, const char *name, struct error **ret_error)
{
    (void)ret_error;
    wake_export(core, name);
    return 0;
}
