/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Renaming and deleting blocks: their exports go along. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"

#define RENAME_FLUSH_MS 2000 /* a name is in the records only: its file does not tell it */

/* ---- Rename ---- */

static void rename_exports(const struct record_list *exports, const char *new_name, struct txn *txn)
{
    for (size_t i = 0; i < exports->list.count; i++) {
        struct export *export = RECORD(exports, export, i);
        autofree char *old_key = object_key(KIND_EXPORT, export->meta.name);
        autofree char *node = object_name_part(export->meta.name, 0);
        txn_delete(txn, old_key, export->meta.revision);
        free(export->meta.name);
        export->meta.name = xasprintf("%s/%s", node, new_name);
        export->meta.generation++;
        string_replace(&export->status.phase, "pending");
        txn_put(txn, KIND_EXPORT, export, 0);
    }
}

static int check_rename(struct core *core, const struct block *block, const char *new_name,
                        struct error **ret_error)
{
    struct block taken cleanup(cleanup_block) = {0};
    int r = block_check_name(strchr(new_name, '/') + 1, ret_error);
    if (r == 0)
        r = block_check_idle(core, block, ret_error);
    if (r < 0)
        return r;
    if (strcmp(block->meta.name, new_name) == 0)
        return error_set(ret_error, EINVAL, "block %s has that name already", new_name);
    if (record_get(core, KIND_BLOCK, new_name, &taken, NULL) == 0)
        return error_set(ret_error, EEXIST, "block %s already exists", new_name);
    return 0;
}

static int rename_block(struct core *core, const struct change_call *call, const struct core_change *change,
                        struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    const struct block_rename *rename = call->request;
    struct block block cleanup(cleanup_block) = {0};
    struct record_list exports = {.kind = KIND_EXPORT};
    autofree char *volume = object_name_part(name, 0);
    autofree char *new_name = xasprintf("%s/%s", volume, rename->name);
    autofree char *old_key = object_key(KIND_BLOCK, name);
    autofree char *new_key = object_key(KIND_BLOCK, new_name);
    int r = change_get(core, KIND_BLOCK, name, change, &block, ret_error);
    if (r < 0 || (r = check_rename(core, &block, new_name, ret_error)) < 0 ||
        (r = check_no_clients(core, volume, strchr(name, '/') + 1, change->force, ret_error)) < 0 ||
        (r = exports_of_block(core, name, &exports, ret_error)) < 0)
        return r;

    struct txn txn = {0};
    txn_delete(&txn, old_key, block.meta.revision);
    string_replace(&block.meta.name, new_name);
    txn_put(&txn, KIND_BLOCK, &block, 0);
    rename_exports(&exports, new_name, &txn);
    r = change_commit(core, change, &txn, new_key, block.meta.uid, ret_error);
    record_list_clear(&exports);
    if (r < 0)
        return r;
    fault_point("block.rename.after-record");
    if (change->wait) {
        block_run_exports(core, name);
        block_run_exports(core, new_name);
        manifest_flush(core, RENAME_FLUSH_MS);
    }
    return result_make(core, new_key, block.meta.uid, change, ret_result, ret_error);
}

int core_block_rename(struct core *core, const char *name, const struct block_rename *rename,
                      const struct core_change *change, struct core_result *ret_result,
                      struct error **ret_error)
{
    struct change_call call = {.name = name, .request = rename};
    return change_run(core, rename_block, &call, change, ret_result, ret_error);
}

/* ---- Delete ---- */

static int mark_deleting(struct core *core, struct block *block, const struct record_list *exports,
                         bool keep_storage, const struct core_change *change, struct error **ret_error)
{
    struct txn txn = {0};
    autofree char *key = object_key(KIND_BLOCK, block->meta.name);
    /* What the first request said about the file stands: it may be gone already. */
    if (block->meta.deleting && block->spec.keep_storage != keep_storage)
        return error_set(ret_error, EBUSY, "block %s is being deleted already, and its storage is %s",
                         block->meta.name, block->spec.keep_storage ? "kept" : "removed");
    if (block->meta.deleting) {
        txn_check(&txn, key, block->meta.revision);
    } else {
        block->meta.deleting = true;
        block->meta.generation++;
        block->spec.keep_storage = keep_storage;
        txn_put(&txn, KIND_BLOCK, block, block->meta.revision);
    }
    for (size_t i = 0; i < exports->list.count; i++) {
        struct export *export = RECORD(exports, export, i);
        if (export->meta.deleting)
            continue;
        export->meta.deleting = true;
        txn_put(&txn, KIND_EXPORT, export, export->meta.revision);
    }
    int r = change_commit(core, change, &txn, key, block->meta.uid, ret_error);
    return r;
}

static int delete_block(struct core *core, const struct change_call *call, const struct core_change *change,
                        struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    bool keep_storage = *(const bool *)call->request;
    struct block block cleanup(cleanup_block) = {0};
    struct record_list exports = {.kind = KIND_EXPORT};
    autofree char *key = object_key(KIND_BLOCK, name);
    int r = change_get(core, KIND_BLOCK, name, change, &block, ret_error);
    if (r < 0 || (r = exports_of_block(core, name, &exports, ret_error)) < 0)
        return r;
    autofree char *volume = object_name_part(name, 0);
    if (!block.meta.deleting)
        r = check_no_clients(core, volume, strchr(name, '/') + 1, change->force, ret_error);
    if (r == 0)
        r = mark_deleting(core, &block, &exports, keep_storage, change, ret_error);
    record_list_clear(&exports);
    if (r < 0)
        return r;
    fault_point("block.delete.after-mark");
    if (change->wait) {
        block_run_exports(core, name);
        queue_run(core->queue, key, NULL);
    }
    return result_make(core, key, block.meta.uid, change, ret_result, ret_error);
}

int core_block_delete(struct core *core, const char *name, bool keep_storage,
                      const struct core_change *change, struct core_result *ret_result,
                      struct error **ret_error)
{
    struct change_call call = {.name = name, .request = &keep_storage};
    return change_run(core, delete_block, &call, change, ret_result, ret_error);
}
