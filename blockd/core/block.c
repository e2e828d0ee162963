/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Operations on blocks. Each checks everything, then changes the store in one transaction; block_reconcile.c
 * does the work. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/sizes.h"
#include "rpc/volume_layout.h"

#define BLOCK_SIZE_MIN (UINT64_C(1) << 20)
#define BLOCK_NAME_MAX 220 /* its grant is a file whose name is this and a few characters more */

/* ---- Checks ---- */

int block_check_name(const char *name, struct error **ret_error)
{
    if (strlen(name) > BLOCK_NAME_MAX)
        return error_set(ret_error, EINVAL, "the block name \"%.32s...\" is longer than %d characters", name,
                         BLOCK_NAME_MAX);
    return 0;
}

static int check_size(uint64_t size, uint64_t block_size, struct error **ret_error)
{
    if (block_size != 512 && block_size != 4096)
        return error_set(ret_error, EINVAL, "block_size is %llu, and must be 512 or 4096",
                         (unsigned long long)block_size);
    if (size < BLOCK_SIZE_MIN)
        return error_set(ret_error, EINVAL, "size is %llu bytes, and must be at least 1 MiB",
                         (unsigned long long)size);
    if (size % block_size)
        return error_set(ret_error, EINVAL, "size is %llu bytes, which is no multiple of the block size %llu",
                         (unsigned long long)size, (unsigned long long)block_size);
    return 0;
}

/* A file of the hosting volume that a block may adopt, in its plain form. The caller's. */
static int storage_path(const char *storage, char **ret_path, struct error **ret_error)
{
    autofree char *path = storage[0] == '/' ? xstrdup(storage) : xasprintf("/block-store/%s", storage);
    autostring_list struct string_list parts = {0};
    string_list_split(&parts, path + 1, '/');
    for (size_t i = 0; i < parts.count; i++)
        if (!*parts.items[i] || strcmp(parts.items[i], ".") == 0 || strcmp(parts.items[i], "..") == 0)
            return error_set(ret_error, EINVAL, "storage \"%s\" is no plain path of a file", storage);
    if (strcmp(parts.items[0], ".glusterfs") == 0)
        return error_set(ret_error, EINVAL, "storage \"%s\" belongs to GlusterFS itself", storage);
    *ret_path = steal_ptr(&path);
    return 0;
}

static int check_storage_unused(struct core *core, const char *volume, const char *path,
                                struct error **ret_error)
{
    struct record_list blocks = {.kind = KIND_BLOCK};
    int r = record_list(core, KIND_BLOCK, volume, &blocks, ret_error);
    for (size_t i = 0; r == 0 && i < blocks.list.count; i++) {
        const struct block *block = RECORD(&blocks, block, i);
        if (string_equal(block->spec.storage, path))
            r = error_set(ret_error, EBUSY, "storage %s is in use by block %s", path, block->meta.name);
    }
    record_list_clear(&blocks);
    return r;
}

/* Sets spec.storage and spec.size from the file that is to be adopted. */
static int adopt(struct core *core, const char *volume, const struct block_create *request,
                 struct block *block, struct error **ret_error)
{
    if (request->size || request->prealloc == PREALLOC_FULL)
        return error_set(ret_error, EINVAL, "storage excludes size and prealloc: the file has its own");
    int r = storage_path(request->storage, &block->spec.storage, ret_error);
    if (r == 0)
        r = check_storage_unused(core, volume, block->spec.storage, ret_error);
    struct image_volume *connection = NULL;
    if (r == 0)
        r = hosting_get(core->hosting, volume, &connection, ret_error);
    if (r < 0)
        return r;
    struct image_stat file;
    r = image_stat(connection, block->spec.storage, &file, ret_error);
    hosting_put(core->hosting, connection);
    if (r < 0)
        return r;
    block->spec.size = file.size;
    block->spec.adopted = true;
    return 0;
}

/* In a volume of several sets: where the block goes, or that it has room where it is. *ret_revision is of the
 * promises that this holds for. */
static int fit(struct core *core, const struct volume *volume, struct block *block, bool is_new,
               uint64_t *ret_revision, struct error **ret_error)
{
    struct block_sets sets cleanup(block_sets_clear) = {0};
    bool allocate = is_new && block->spec.prealloc == PREALLOC_FULL;
    int r = block_sets_read(core, volume, block->meta.name, &sets, ret_error);
    if (r < 0)
        return r;
    *ret_revision = sets.revision;
    if (is_new && !block->spec.adopted)
        return block_sets_place(core, volume, &sets, block, ret_error);
    if (!block->status.set)
        block->status.set = block_locate(core, volume, block->spec.storage);
    return block_sets_check(&sets, block->status.set, block->spec.size, allocate, ret_error);
}

/* ---- Create ---- */

static void export_init(struct export *export, const char *node, const char *block_name)
{
    autofree char *name = xasprintf("%s/%s", node, block_name);
    meta_init(&export->meta, name);
    export->status.phase = xstrdup("pending");
}

/* Puts one export a named host into the transaction. */
static int add_exports(struct core *core, const struct string_list *hosts, const char *block_name,
                       struct txn *txn, struct string_list *keys, struct error **ret_error)
{
    for (size_t i = 0; i < hosts->count; i++) {
        struct node node cleanup(cleanup_node) = {0};
        struct export export cleanup(cleanup_export) = {0};
        int r = node_find(core, hosts->items[i], &node, ret_error);
        if (r < 0)
            return r;
        export_init(&export, node.meta.name, block_name);
        autofree char *key = object_key(KIND_EXPORT, export.meta.name);
        if (string_list_contains(keys, key))
            return error_set(ret_error, EINVAL, "host %s is named twice", hosts->items[i]);
        struct export left cleanup(cleanup_export) = {0};
        if (record_get(core, KIND_EXPORT, export.meta.name, &left, NULL) == 0) {
            if (left.meta.deleting)
                return error_set(ret_error, EBUSY, "export %s of an earlier block is still being withdrawn",
                                 left.meta.name);
            /* It belongs to a block of that name that somebody else made in this moment: look again. */
            return error_set(ret_error, ESTALE, "export %s was made meanwhile", left.meta.name);
        }
        string_list_add(keys, key);
        txn_put(txn, KIND_EXPORT, &export, 0);
    }
    return 0;
}

static int check_room(const struct volume *volume, uint64_t bytes, struct error **ret_error)
{
    char wanted[SIZE_TEXT_SIZE], left[SIZE_TEXT_SIZE];
    if (bytes <= volume->status.free)
        return 0;
    size_format(bytes, wanted);
    size_format(volume->status.free, left);
    return error_set(ret_error, ENOSPC, "volume %s has %s free, which is too little to allocate %s now",
                     volume->meta.name, left, wanted);
}

/* Everything about the block that can be known before it is written down. */
static int prepare(struct core *core, const struct block_create *request, const char *name,
                   struct volume *volume, struct block *block, struct error **ret_error)
{
    struct block present cleanup(cleanup_block) = {0};
    int r = block_check_name(request->name, ret_error);
    if (r == 0)
        r = record_get(core, KIND_VOLUME, request->volume, volume, ret_error);
    if (r < 0)
        return r;
    if (volume->meta.deleting)
        return error_set(ret_error, ENOENT, "volume %s does not exist: it is being deleted", request->volume);
    if (record_get(core, KIND_BLOCK, name, &present, NULL) == 0)
        return error_set(ret_error, EEXIST, "block %s %s", name,
                         present.meta.deleting ? "is being deleted" : "already exists");
    r = volume_require_online(core, volume, ret_error);
    if (r < 0)
        return r;

    meta_init(&block->meta, name);
    block->spec.size = request->size;
    block->spec.block_size = request->block_size;
    block->spec.prealloc = request->prealloc;
    block->status.phase = xstrdup("pending");
    if (request->storage)
        r = adopt(core, request->volume, request, block, ret_error);
    else if (!request->size)
        r = error_set(ret_error, EINVAL, "size is missing");
    else
        block->spec.storage = xasprintf("/block-store/%s", block->meta.uid);
    if (r == 0)
        r = check_size(block->spec.size, block->spec.block_size, ret_error);
    if (r == 0 && request->prealloc == PREALLOC_FULL)
        r = check_room(volume, block->spec.size, ret_error);
    return r;
}

static int commit_new(struct core *core, const struct block_create *request, const struct volume *volume,
                      struct block *block, const struct core_change *change, struct string_list *export_keys,
                      struct error **ret_error)
{
    /* Those of this node that look for a set wait for each other; others' changes are met by the guard. */
    bool several = layout_sets(&volume->spec) > 1;
    pthread_mutex_t *placing cleanup(cleanup_unlock) =
        several && !request->storage ? lock_mutex(&core->placement_mutex) : NULL;
    struct txn txn = {0};
    autofree char *key = object_key(KIND_BLOCK, block->meta.name);
    autofree char *volume_key = object_key(KIND_VOLUME, request->volume);
    struct ledger_change promise = {
        .volume = request->volume, .more = {.bytes = block->spec.size, .blocks = 1}, .guarded = several};
    int r = volume_limit(volume, &promise.limit, ret_error);
    if (r == 0 && several)
        r = fit(core, volume, block, true, &promise.revision, ret_error);
    if (r == 0)
        r = add_exports(core, &request->hosts, block->meta.name, &txn, export_keys, ret_error);
    if (r == 0 && request->prealloc == PREALLOC_FULL) {
        struct job job cleanup(cleanup_job) = {0};
        job_init_allocation(&job, block, 0);
        string_replace(&block->status.job, job.meta.name);
        txn_put(&txn, KIND_JOB, &job, 0);
    }
    if (r == 0) {
        txn_put(&txn, KIND_BLOCK, block, 0);
        txn_check(&txn, volume_key, volume->meta.revision); /* it is not deleted meanwhile */
        r = change_commit_promise(core, change, &txn, key, block->meta.uid, &promise, ret_error);
    }
    txn_clear(&txn);
    return r;
}

static int create(struct core *core, const struct change_call *call, const struct core_change *change,
                  struct core_result *ret_result, struct error **ret_error)
{
    const struct block_create *request = call->request;
    struct volume volume cleanup(cleanup_volume) = {0};
    struct block block cleanup(cleanup_block) = {0};
    autofree char *name = xasprintf("%s/%s", request->volume, request->name);
    autofree char *key = object_key(KIND_BLOCK, name);
    /* Two requests for one file must not both find it unused. */
    pthread_mutex_t *adopting cleanup(cleanup_unlock) =
        request->storage ? lock_mutex(&core->placement_mutex) : NULL;
    int r = prepare(core, request, name, &volume, &block, ret_error);
    autostring_list struct string_list export_keys = {0};
    if (r == 0)
        r = commit_new(core, request, &volume, &block, change, &export_keys, ret_error);
    if (r < 0)
        return r;
    if (adopting)
        pthread_mutex_unlock(steal_ptr(&adopting));
    fault_point("block.create.after-record");
    if (change->wait) /* the caller's thread does the work at once; a worker would only add a hand-over */
        queue_run(core->queue, key, NULL);
    r = result_make(core, key, block.meta.uid, change, ret_result, ret_error);
    /* Whoever made the block ready: it is answered as created when it can be connected to. */
    for (size_t i = 0; r == 0 && change->wait && i < export_keys.count; i++)
        queue_run(core->queue, export_keys.items[i], NULL);
    if (r == 0 && change->wait && ret_result->settled)
        ret_result->settled = exports_wait_live(core, &export_keys, change);
    return r;
}

/*
 * A create whose file could not be made, and whose caller waited for it, is taken back: an error is the
 * answer, and no block that was never there stays. (The room may have gone between the check and the file.)
 */
static int take_back_failed(struct core *core, const struct block_create *request,
                            const struct core_change *change, struct core_result *ret_result,
                            struct error **ret_error)
{
    struct block block cleanup(cleanup_block) = {0};
    autofree char *name = xasprintf("%s/%s", request->volume, request->name);
    const char *uid = json_string_value(json_object_get(ret_result->object, "uid"));
    if (!uid || record_get(core, KIND_BLOCK, name, &block, NULL) < 0 || !string_equal(block.meta.uid, uid) ||
        !string_equal(block.status.phase, "failed") || block.status.job)
        return 0;
    const struct core_change removal = {.wait = change->wait, .revision = block.meta.revision};
    struct core_result result = {0};
    int r = core_block_delete(core, name, block.spec.adopted, &removal, &result, NULL);
    core_result_clear(&result);
    if (r < 0) /* mended meanwhile, or somebody else works on it: it is there, and tells its state */
        return 0;
    idempotency_forget(core, change);
    core_result_clear(ret_result);
    return error_set(ret_error, block.spec.adopted ? ENOENT : ENOSPC, "%s", block.status.error);
}

int core_block_create(struct core *core, const struct block_create *request, const struct core_change *change,
                      struct core_result *ret_result, struct error **ret_error)
{
    struct change_call call = {.request = request};
    int r = change_run(core, create, &call, change, ret_result, ret_error);
    return r == 0 && change->wait ? take_back_failed(core, request, change, ret_result, ret_error) : r;
}

/* ---- What is at work on a block ---- */

int block_check_idle(struct core *core, const struct block *block, struct error **ret_error)
{
    struct job job cleanup(cleanup_job) = {0};
    if (block->meta.deleting)
        return error_set(ret_error, EBUSY, "block %s is being deleted", block->meta.name);
    if (block->status.job && record_get(core, KIND_JOB, block->status.job, &job, NULL) == 0 &&
        !job_has_ended(&job))
        return error_set(ret_error, EBUSY,
                         "block %s is being preallocated by job %s; wait for it, or cancel it",
                         block->meta.name, block->status.job);
    return 0;
}

void block_run_exports(struct core *core, const char *block_name)
{
    autofree char *name = xasprintf("%s/%s", core->node, block_name);
    autofree char *key = object_key(KIND_EXPORT, name);
    queue_run(core->queue, key, NULL);
}

/* ---- Resize ---- */

enum { PATCH_SIZE }; /* the field's place in block_patch_schema */

static int check_resize(struct core *core, const struct block *block, uint64_t size, bool force,
                        struct error **ret_error)
{
    int r = check_size(size, block->spec.block_size, ret_error);
    if (r == 0)
        r = block_check_idle(core, block, ret_error);
    if (r < 0)
        return r;
    if (size == block->spec.size && block->status.size == size)
        return error_set(ret_error, EINVAL, "block %s has that size already", block->meta.name);
    /* A growth that was never done can be taken back without loss. */
    if (size < block->spec.size && size < block->status.size && !force)
        return error_set(ret_error, EINVAL,
                         "block %s would lose what lies beyond its new end: shrinking needs force",
                         block->meta.name);
    return 0;
}

/* What a block whose space is allocated at once grows by is allocated too, by a job of its own. */
static void add_growth_job(struct block *block, uint64_t old, struct txn *txn)
{
    struct job job cleanup(cleanup_job) = {0};
    job_init_allocation(&job, block, block->status.job ? 0 : old); /* a job that is left here has failed */
    string_replace(&block->status.job, job.meta.name);
    txn_put(txn, KIND_JOB, &job, 0);
}

static int resize(struct core *core, const struct change_call *call, const struct core_change *change,
                  struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    const struct block_patch *patch = call->request;
    uint64_t present = call->present;
    struct block block cleanup(cleanup_block) = {0};
    struct volume volume cleanup(cleanup_volume) = {0};
    autofree char *key = object_key(KIND_BLOCK, name);
    autofree char *volume_name = object_name_part(name, 0);
    if (!(present >> PATCH_SIZE & 1))
        return error_set(ret_error, EINVAL, "size is missing");
    int r = change_get(core, KIND_BLOCK, name, change, &block, ret_error);
    if (r < 0 || (r = check_resize(core, &block, patch->size, change->force, ret_error)) < 0 ||
        (r = record_get(core, KIND_VOLUME, volume_name, &volume, ret_error)) < 0 ||
        (r = volume_require_online(core, &volume, ret_error)) < 0)
        return r;

    uint64_t old = block.spec.size, grown = patch->size > old ? patch->size - old : 0;
    bool allocate = grown && block.spec.prealloc == PREALLOC_FULL;
    struct ledger_change promise = {.volume = volume_name,
                                    .more = {.bytes = grown},
                                    .less = {.bytes = patch->size < old ? old - patch->size : 0},
                                    .guarded = grown && layout_sets(&volume.spec) > 1};
    pthread_mutex_t *placing cleanup(cleanup_unlock) =
        promise.guarded ? lock_mutex(&core->placement_mutex) : NULL;
    block.spec.size = patch->size;
    if ((r = volume_limit(&volume, &promise.limit, ret_error)) < 0 ||
        (r = promise.guarded ? fit(core, &volume, &block, false, &promise.revision, ret_error) : 0) < 0 ||
        (r = allocate ? check_room(&volume, grown, ret_error) : 0) < 0)
        return r;
    block.meta.generation++;
    struct txn txn = {0};
    if (allocate)
        add_growth_job(&block, old, &txn);
    txn_put(&txn, KIND_BLOCK, &block, block.meta.revision);
    r = change_commit_promise(core, change, &txn, key, block.meta.uid, &promise, ret_error);
    if (r < 0)
        return r;
    if (placing)
        pthread_mutex_unlock(steal_ptr(&placing));
    fault_point("block.resize.after-record");
    if (change->wait) {
        queue_run(core->queue, key, NULL);
        block_run_exports(core, name);
    }
    return result_make(core, key, block.meta.uid, change, ret_result, ret_error);
}

int core_block_patch(struct core *core, const char *name, const struct block_patch *patch, uint64_t present,
                     const struct core_change *change, struct core_result *ret_result,
                     struct error **ret_error)
{
    struct change_call call = {.name = name, .request = patch, .present = present};
    return change_run(core, resize, &call, change, ret_result, ret_error);
}
