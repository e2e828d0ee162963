/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Operations on hosting volumes: creating, starting, stopping, deleting. volume_reconcile.c does the work. */
#include <errno.h>
#include <string.h>

#include "blockd/core/planner.h"
#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"
#include "rpc/volume_layout.h"

/* ---- Live state ---- */

int volume_live_status(struct core *core, struct volume *volume, struct error **ret_error)
{
    struct volume_status live = {0};
    struct promise promise;
    struct object_list others;
    int r = ledger_read(core, volume->meta.name, &promise, ret_error);
    if (r < 0)
        return r;
    reports_bricks(core->reports, volume, &others);
    r = engine_volume_status(core->engine, volume, &others, &live, ret_error);
    object_list_clear(&others, &brick_status_schema);
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
    live.provisioned = promise.bytes;
    live.blocks = promise.blocks;
    live.shares = promise.shares;

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

int volume_limit(const struct volume *volume, uint64_t *ret_limit, struct error **ret_error)
{
    if (!volume->status.size)
        return error_set(ret_error, ENOTCONN,
                         "the size of volume %s is not known now: none of its bricks answers",
                         volume->meta.name);
    double limit = (double)volume->status.size * volume->spec.overcommit;
    *ret_limit = limit < (double)INT64_MAX ? (uint64_t)limit : INT64_MAX;
    return 0;
}

/* ---- Create ---- */

int volume_allocate_ports(struct core *core, struct volume *volume, struct txn *txn, struct error **ret_error)
{
    autostring_list struct string_list taken = {0};
    struct brick_spec *bricks = volume->spec.bricks.items;
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        if (bricks[i].port)
            continue;
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

/* What a lost store left running would take the new volume's bricks for its own. */
static int check_not_served(struct core *core, const char *name, struct error **ret_error)
{
    autofree char *folder = xasprintf("%s/grants/%s", core->config->run_dir, name);
    autostring_list struct string_list files = {0};
    int r = folder_list(folder, &files, ret_error);
    for (size_t i = 0; r == 0 && i < files.count; i++) {
        autofree char *block = grant_file_block(files.items[i]);
        if (block)
            r = error_set(ret_error, EBUSY,
                          "block %s/%s is served here from a volume that the store does not know: adopt its "
                          "devices (gluster-block device adopt), or end that by gluster-block examine "
                          "--repair",
                          name, block);
    }
    return r;
}

static int check_new_name(struct core *core, const char *name, struct error **ret_error)
{
    struct volume other cleanup(cleanup_volume) = {0};
    if (record_get(core, KIND_VOLUME, name, &other, NULL) == 0)
        return error_set(ret_error, EEXIST, "volume %s %s", name,
                         other.meta.deleting ? "is being deleted" : "exists already");
    if (strlen(name) > ENGINE_NAME_MAX)
        return error_set(ret_error, EINVAL, "the volume name \"%.32s...\" is longer than %d characters", name,
                         ENGINE_NAME_MAX);
    return check_not_served(core, name, ret_error);
}

#define DISPERSE_DATA_DEFAULT       4
#define DISPERSE_REDUNDANCY_DEFAULT 2

/* The volume that a request makes, with its bricks where the planner puts them. */
static int plan_new(struct core *core, const struct volume_create *request, struct volume *volume,
                    struct volume_plan *ret_plan, struct error **ret_error)
{
    int r = check_new_name(core, request->name, ret_error);
    if (r < 0)
        return r;
    bool disperse = request->template_name == TEMPLATE_DISPERSE;
    meta_init(&volume->meta, request->name);
    volume->spec.template_name = request->template_name;
    volume->spec.overcommit = request->overcommit;
    string_list_copy(&volume->spec.access, &request->access);
    volume->spec.data = request->data || !disperse ? request->data : DISPERSE_DATA_DEFAULT;
    volume->spec.redundancy =
        request->redundancy || !disperse ? request->redundancy : DISPERSE_REDUNDANCY_DEFAULT;
    volume->status.phase = xstrdup("pending");
    volume->spec.tls = request->tls == VOLUME_TLS_DEFAULT ? core->config->tls_volumes : request->tls;
    r = layout_check(&volume->spec, ret_error);
    if (r == 0)
        r = engine_access_check(&volume->spec.access, volume->spec.tls == VOLUME_TLS_ON, ret_error);
    if (r == 0)
        r = volume_change_profile(&volume->spec, request->profile, ret_error);
    if (r == 0)
        r = volume_change_options(core, &volume->spec, &request->options, request->advanced, ret_error);
    if (r < 0)
        return r;
    const struct planner_request wish = {
        .size = request->size,
        .sets = request->sets,
        .devices = &request->devices,
        .nodes = &request->nodes,
        .zones = &request->zones,
        .allow_same_node = request->allow_same_node,
        .allow_same_zone = request->allow_same_zone,
    };
    return placement_plan(core, &wish, volume, ret_plan, ret_error);
}

int core_volume_plan(struct core *core, const struct volume_create *request, json_t **ret_plan,
                     struct error **ret_error)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    struct volume_plan plan cleanup(cleanup_volume_plan) = {0};
    int r = plan_new(core, request, &volume, &plan, ret_error);
    if (r == 0)
        *ret_plan = schema_encode(&volume_plan_schema, &plan);
    return r;
}

static int commit_new(struct core *core, const struct volume_create *request,
                      const struct core_change *change, char **ret_uid, struct error **ret_error)
{
    scoped_lock(&core->placement_mutex);
    struct volume volume cleanup(cleanup_volume) = {0};
    struct volume_plan plan cleanup(cleanup_volume_plan) = {0};
    int r = plan_new(core, request, &volume, &plan, ret_error);
    if (r == 0 && volume.spec.tls == VOLUME_TLS_ON)
        r = node_need_certificate(core, ret_error);
    if (r < 0)
        return r;

    autofree char *key = object_key(KIND_VOLUME, request->name);
    struct txn txn = {0};
    r = volume_allocate_ports(core, &volume, &txn, ret_error);
    if (r == 0) {
        txn_put(&txn, KIND_VOLUME, &volume, 0);
        r = change_commit(core, change, &txn, key, volume.meta.uid, ret_error);
    }
    txn_clear(&txn);
    if (r < 0)
        return r;
    *ret_uid = xstrdup(volume.meta.uid);
    return 0;
}

static int create(struct core *core, const struct change_call *call, const struct core_change *change,
                  struct core_result *ret_result, struct error **ret_error)
{
    const struct volume_create *request = call->request;
    autofree char *uid = NULL;
    int r = commit_new(core, request, change, &uid, ret_error);
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
    struct change_call call = {.request = request};
    return change_run(core, create, &call, change, ret_result, ret_error);
}

/* ---- Change and delete ---- */

enum {
    PATCH_STATE,
    PATCH_OVERCOMMIT,
    PATCH_ACCESS,
    PATCH_PROFILE,
    PATCH_OPTIONS,
    PATCH_ADVANCED,
    PATCH_TLS
}; /* the fields' places in volume_patch_schema */

/* `txn` is emptied. */
static int commit_edited(struct core *core, struct volume *volume, struct txn *txn,
                         const struct core_change *change, struct error **ret_error)
{
    autofree char *key = object_key(KIND_VOLUME, volume->meta.name);
    volume->meta.generation++;
    txn_put(txn, KIND_VOLUME, volume, volume->meta.revision);
    return change_commit(core, change, txn, key, volume->meta.uid, ret_error);
}

static int change_spec(struct core *core, const struct change_call *call, const struct core_change *change,
                       struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    const struct volume_patch *patch = call->request;
    uint64_t present = call->present;
    struct volume volume cleanup(cleanup_volume) = {0};
    int r = change_get(core, KIND_VOLUME, name, change, &volume, ret_error);
    if (r < 0)
        return r;
    if (volume.meta.deleting)
        return error_set(ret_error, EBUSY, "volume %s is being deleted", name);
    if (present >> PATCH_PROFILE & 1)
        r = volume_change_profile(&volume.spec, patch->profile, ret_error);
    if (r == 0 && (present >> PATCH_OPTIONS & 1))
        r = volume_change_options(core, &volume.spec, &patch->options, patch->advanced, ret_error);
    if (r == 0 && (present >> PATCH_TLS & 1))
        r = volume_change_tls(core, &volume, patch->tls, ret_error);
    bool stops =
        present >> PATCH_STATE & 1 && patch->state == VOLUME_STOPPED && volume.spec.state == VOLUME_STARTED;
    if (r == 0 && stops)
        r = check_no_clients(core, name, NULL, change->force, ret_error);
    if (r < 0)
        return r;
    if (present >> PATCH_STATE & 1)
        volume.spec.state = patch->state;
    if (present >> PATCH_OVERCOMMIT & 1)
        volume.spec.overcommit = patch->overcommit;
    if (present >> PATCH_ACCESS & 1) {
        string_list_clear(&volume.spec.access);
        string_list_copy(&volume.spec.access, &patch->access);
    }
    if (present >> PATCH_ACCESS & 1 || present >> PATCH_TLS & 1)
        r = engine_access_check(&volume.spec.access, volume.spec.tls == VOLUME_TLS_ON, ret_error);
    if (r < 0)
        return r;
    autofree char *key = object_key(KIND_VOLUME, name);
    struct txn txn = {0};
    r = commit_edited(core, &volume, &txn, change, ret_error);
    return r < 0 ? r : result_make(core, key, volume.meta.uid, change, ret_result, ret_error);
}

int core_volume_patch(struct core *core, const char *name, const struct volume_patch *patch, uint64_t present,
                      const struct core_change *change, struct core_result *ret_result,
                      struct error **ret_error)
{
    struct change_call call = {.name = name, .request = patch, .present = present};
    return change_run(core, change_spec, &call, change, ret_result, ret_error);
}

/* The records are what counts, one that is damaged too, of which the ledger knows nothing. */
static int check_empty(struct core *core, const char *name, bool force, struct error **ret_error)
{
    struct record_list blocks = {.kind = KIND_BLOCK};
    int r = record_list(core, KIND_BLOCK, name, &blocks, ret_error);
    for (size_t i = 0; r == 0 && i < blocks.list.count; i++)
        if (!force || !RECORD(&blocks, block, i)->meta.deleting) /* its file may be out of reach for good */
            r = error_set(ret_error, ENOTEMPTY, "volume %s holds block %s: delete it first", name,
                          RECORD(&blocks, block, i)->meta.name);
    record_list_clear(&blocks);
    struct record_list shares = {.kind = KIND_SHARE};
    if (r == 0)
        r = record_list(core, KIND_SHARE, name, &shares, ret_error);
    if (r == 0 && shares.list.count)
        r = error_set(ret_error, ENOTEMPTY, "volume %s holds share %s: delete it first", name,
                      RECORD(&shares, share, 0)->meta.name);
    record_list_clear(&shares);
    return r;
}

static int delete_volume(struct core *core, const struct change_call *call, const struct core_change *change,
                         struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    struct volume volume cleanup(cleanup_volume) = {0};
    int r = change_get(core, KIND_VOLUME, name, change, &volume, ret_error);
    if (r < 0)
        return r;
    struct txn txn = {0};
    r = change->force ? 0 : ledger_check_empty(core, &txn, name, ret_error);
    if (r == 0)
        r = check_empty(core, name, change->force, ret_error);
    volume.meta.deleting = true;
    volume.spec.forced |= change->force;
    if (r == 0)
        r = commit_edited(core, &volume, &txn, change, ret_error);
    txn_clear(&txn);
    autofree char *key = object_key(KIND_VOLUME, name);
    return r < 0 ? r : result_make(core, key, volume.meta.uid, change, ret_result, ret_error);
}

int core_volume_delete(struct core *core, const char *name, const struct core_change *change,
                       struct core_result *ret_result, struct error **ret_error)
{
    struct change_call call = {.name = name};
    return change_run(core, delete_volume, &call, change, ret_result, ret_error);
}
