/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Exports: what a node offers for one block. The grant is written here, from the block's record. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/fault.h"

int exports_of_block(struct core *core, const char *block_name, struct record_list *ret_exports,
                     struct error **ret_error)
{
    struct record_list nodes = {.kind = KIND_NODE};
    struct record_list exports = {.kind = KIND_EXPORT};
    int r = record_list(core, KIND_NODE, NULL, &nodes, ret_error);
    for (size_t i = 0; r == 0 && i < nodes.list.count; i++) {
        struct export export = {0};
        autofree char *name = xasprintf("%s/%s", RECORD(&nodes, node, i)->meta.name, block_name);
        r = record_get(core, KIND_EXPORT, name, &export, NULL);
        if (r == 0)
            memcpy(object_list_add(&exports.list, sizeof export), &export, sizeof export);
        else if (r == -ENOENT)
            r = 0;
        else
            error_set(ret_error, -r, "cannot read export %s: %s", name, strerror(-r));
    }
    record_list_clear(&nodes);
    if (r < 0) {
        record_list_clear(&exports);
        return r;
    }
    *ret_exports = exports;
    return 0;
}

#define CLIENTS_TOLD 3

int check_no_clients(struct core *core, const char *volume, const char *block, bool force,
                     struct error **ret_error)
{
    if (force)
        return 0;
    autostring_list struct string_list clients = {0};
    autostrbuf struct strbuf names = {0};
    int r = export_clients(core->exports, volume, block, &clients, ret_error);
    if (r < 0) {
        error_prefix(ret_error, "%s %s%s%s is left as it is", block ? "block" : "volume", volume,
                     block ? "/" : "", block ? block : "");
        return r;
    }
    for (size_t i = 0; i < clients.count && i < CLIENTS_TOLD; i++)
        strbuf_addf(&names, "%s%s", i ? ", " : "", clients.items[i]);
    if (clients.count > CLIENTS_TOLD)
        strbuf_addf(&names, " and %zu more", clients.count - CLIENTS_TOLD);
    if (!clients.count)
        return 0;
    return error_set(ret_error, EBUSY, "in use: %s; disconnect first, or use force, which cuts %s off",
                     strbuf_string(&names), clients.count == 1 ? "it" : "them");
}

/* ---- Waiting for service ---- */

#define LIVE_MS 10000 /* the engine's clients look every three seconds for a brick that was away */
#define LOOK_MS 100

/* Granted, and its server, where it is this node's, reaches the bricks. Gone is as good. */
static bool is_live(struct core *core, const char *key)
{
    struct export export cleanup(cleanup_export) = {0};
    const char *name = strchr(key, '/') + 1;
    int r = record_get(core, KIND_EXPORT, name, &export, NULL);
    if (r == 0)
        overlay_status(core, KIND_EXPORT, &export, true);
    return r == -ENOENT || (r == 0 && (export.meta.deleting || string_equal(export.status.phase, "live") ||
                                       string_equal(export.status.phase, "failed")));
}

bool exports_wait_live(struct core *core, const struct string_list *keys, const struct core_change *change)
{
    int64_t wait_ms = (int64_t)change->wait * 1000;
    int64_t deadline = clock_monotonic_ms() + (wait_ms < LIVE_MS ? wait_ms : LIVE_MS);
    size_t live = 0;
    while (live < keys->count) {
        int64_t now = clock_monotonic_ms(), next = now + LOOK_MS;
        uint64_t seen = 0;
        int r = 0;
        if (is_live(core, keys->items[live])) {
            live++;
            continue;
        }
        if (now >= deadline)
            return false;
        while (r == 0 && clock_monotonic_ms() < next)
            r = queue_wait(core->queue, &seen, next < deadline ? next : deadline);
        if (r == -ECANCELED)
            return false;
    }
    return true;
}

/* ---- Operations ---- */

static int prepare(struct core *core, const struct export_create *request, struct export *export,
                   struct block *block, struct error **ret_error)
{
    struct node node cleanup(cleanup_node) = {0};
    struct export present cleanup(cleanup_export) = {0};
    int r = node_find(core, request->node ? request->node : core->node, &node, ret_error);
    if (r < 0)
        return r;
    autofree char *block_name = xasprintf("%s/%s", request->volume, request->block);
    r = record_get(core, KIND_BLOCK, block_name, block, ret_error);
    if (r < 0)
        return r;
    if (block->meta.deleting)
        return error_set(ret_error, EBUSY, "block %s is being deleted", block_name);
    autofree char *name = xasprintf("%s/%s", node.meta.name, block_name);
    if (record_get(core, KIND_EXPORT, name, &present, NULL) == 0)
        return error_set(ret_error, EEXIST, "block %s is exported by node %s already", block_name,
                         node.meta.name);
    meta_init(&export->meta, name);
    export->spec.protocol = request->protocol;
    export->spec.read_only = request->read_only;
    export->status.phase = xstrdup("pending");
    return 0;
}

static int create(struct core *core, const struct change_call *call, const struct core_change *change,
                  struct core_result *ret_result, struct error **ret_error)
{
    const struct export_create *request = call->request;
    struct export export cleanup(cleanup_export) = {0};
    struct block block cleanup(cleanup_block) = {0};
    int r = prepare(core, request, &export, &block, ret_error);
    if (r < 0)
        return r;
    autofree char *key = object_key(KIND_EXPORT, export.meta.name);
    struct txn txn = {0};
    txn_put(&txn, KIND_EXPORT, &export, 0);
    /* A new revision of the block, so that a delete or rename that looked at its exports
     * before looks again. */
    txn_put(&txn, KIND_BLOCK, &block, block.meta.revision);
    r = change_commit(core, change, &txn, key, export.meta.uid, ret_error);
    if (r < 0)
        return r;
    fault_point("export.create.after-record");
    autostring_list struct string_list keys = {0};
    string_list_add(&keys, key);
    if (change->wait)
        queue_run(core->queue, key, NULL);
    bool live = !change->wait || exports_wait_live(core, &keys, change);
    r = result_make(core, key, export.meta.uid, change, ret_result, ret_error);
    if (r == 0)
        ret_result->settled &= live;
    return r;
}

int core_export_create(struct core *core, const struct export_create *request,
                       const struct core_change *change, struct core_result *ret_result,
                       struct error **ret_error)
{
    struct change_call call = {.request = request};
    return change_run(core, create, &call, change, ret_result, ret_error);
}

static int delete_export(struct core *core, const struct change_call *call, const struct core_change *change,
                         struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    struct export export cleanup(cleanup_export) = {0};
    int r = change_get(core, KIND_EXPORT, name, change, &export, ret_error);
    if (r < 0)
        return r;
    autofree char *key = object_key(KIND_EXPORT, name);
    autofree char *volume = object_name_part(name, 1), *block = object_name_part(name, 2);
    autofree char *node = object_name_part(name, 0);
    if (!export.meta.deleting && strcmp(node, core->node) == 0)
        r = check_no_clients(core, volume, block, change->force, ret_error);
    if (r < 0)
        return r;
    struct txn txn = {0};
    export.meta.deleting = true;
    txn_put(&txn, KIND_EXPORT, &export, export.meta.revision);
    r = change_commit(core, change, &txn, key, export.meta.uid, ret_error);
    if (r < 0)
        return r;
    if (change->wait)
        queue_run(core->queue, key, NULL);
    return result_make(core, key, export.meta.uid, change, ret_result, ret_error);
}

int core_export_delete(struct core *core, const char *name, const struct core_change *change,
                       struct core_result *ret_result, struct error **ret_error)
{
    struct change_call call = {.name = name};
    return change_run(core, delete_export, &call, change, ret_result, ret_error);
}

/* ---- Reconcile ---- */

static bool set_uri(void *object, void *data)
{
    return string_replace(&((struct export *)object)->status.uri, data);
}

void export_grant(struct core *core, const struct export *export, const struct block *block,
                  struct grant *ret_grant)
{
    *ret_grant = (struct grant){
        .volume = object_name_part(block->meta.name, 0),
        .block = object_name_part(block->meta.name, 1),
        .gbid = xstrdup(block->meta.uid),
        .file = xstrdup(block->spec.storage),
        /* While it shrinks, nobody may see what is cut off in a moment. */
        .size = block->spec.size < block->status.size ? block->spec.size : block->status.size,
        .block_size = block->spec.block_size,
        .read_only = export->spec.read_only,
    };
    ret_grant->volfile = engine_client_volfile(core->engine, ret_grant->volume);
}

static int offer(struct core *core, const struct export *export, const struct block *block,
                 struct error **ret_error)
{
    struct grant grant cleanup(cleanup_grant) = {0};
    export_grant(core, export, block, &grant);
    int r = export_up(core->exports, export, &grant, ret_error);
    if (r < 0)
        return r;
    fault_point("export.up.after-grant");
    if (string_equal(export->status.phase, "live") &&
        export->status.observed_generation == export->meta.generation)
        return 0;
    struct export_status live = {0};
    r = export_status(core->exports, export, &live, ret_error);
    /* Stored as live once it is granted; whether the server answers is looked at when somebody asks. */
    struct status_seen seen = {.phase = "live", .more = set_uri, .data = live.uri};
    if (r == 0)
        r = status_record(core, KIND_EXPORT, &export->meta, &seen, ret_error);
    free(live.phase);
    free(live.uri);
    free(live.error);
    return r;
}

static int withdraw(struct core *core, const struct export *export, struct error **ret_error)
{
    autofree char *volume = object_name_part(export->meta.name, 1);
    autofree char *block = object_name_part(export->meta.name, 2);
    return export_down(core->exports, volume, block, ret_error);
}

static int erase(struct core *core, const struct export *export, struct error **ret_error)
{
    int r = withdraw(core, export, ret_error);
    if (r < 0)
        return r;
    fault_point("export.delete.after-grant");
    r = record_delete(core, KIND_EXPORT, &export->meta, ret_error);
    autofree char *block = object_key(KIND_BLOCK, strchr(export->meta.name, '/') + 1);
    queue_add(core->queue, block); /* its deletion may wait for this */
    return r;
}

int export_reconcile(struct core *core, const char *name, struct error **ret_error)
{
    autofree char *node = object_name_part(name, 0);
    if (strcmp(node, core->node) != 0)
        return 0;
    struct export export cleanup(cleanup_export) = {0};
    struct block block cleanup(cleanup_block) = {0};
    int r = record_get(core, KIND_EXPORT, name, &export, ret_error);
    if (r == -ENOENT) {
        struct export gone = {.meta.name = (char *)name};
        return withdraw(core, &gone, ret_error);
    }
    if (r < 0)
        return r;
    if (export.meta.deleting)
        return erase(core, &export, ret_error);

    r = record_get(core, KIND_BLOCK, strchr(name, '/') + 1, &block, NULL);
    if (r == -ENOENT) /* an export never outlives its block */
        return erase(core, &export, ret_error);
    if (r < 0)
        return error_set(ret_error, -r, "cannot read the block of export %s: %s", name, strerror(-r));
    bool enabled;
    r = node_get_enabled(core, &enabled, ret_error);
    if (r < 0)
        return r;
    if (!enabled) {
        struct status_seen offline = {.phase = "offline"};
        r = withdraw(core, &export, ret_error);
        return r < 0 ? r : status_record(core, KIND_EXPORT, &export.meta, &offline, ret_error);
    }
    if (string_equal(block.status.phase, "ready") && !block.meta.deleting)
        return offer(core, &export, &block, ret_error);
    /* The block's reconciler adds this key again once the block is ready. */
    return 0;
}
