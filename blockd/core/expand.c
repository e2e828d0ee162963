/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* More sets of bricks for a volume: they join as one change of its record, and a job spreads the files. */
#include <errno.h>
#include <string.h>

#include "blockd/core/planner.h"
#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/sizes.h"
#include "rpc/volume_layout.h"

static int check_may_grow(const struct volume *volume, struct error **ret_error)
{
    const char *name = volume->meta.name;
    if (volume->meta.deleting)
        return error_set(ret_error, EBUSY, "volume %s is being deleted", name);
    if (volume->spec.state != VOLUME_STARTED)
        return error_set(ret_error, EBUSY, "volume %s is stopped: start it to expand it", name);
    if (volume->spec.moves.count)
        return error_set(ret_error, EBUSY,
                         "volume %s has a brick on its way to another device: wait for that", name);
    return 0;
}

/* How many sets the request adds. */
static int sets_wanted(const struct volume *volume, const struct volume_expand *request, uint64_t *ret_sets,
                       struct error **ret_error)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    uint64_t set_size = bricks[0].size * layout_set_data(&volume->spec);
    uint64_t present = set_size * layout_sets(&volume->spec);
    if (request->size && request->sets)
        return error_set(ret_error, EINVAL, "give either size or sets: sets of volume %s have one size",
                         volume->meta.name);
    *ret_sets = request->sets ? request->sets : 1;
    if (!request->size)
        return 0;
    if (!set_size)
        return error_set(ret_error, EINVAL, "volume %s was made without a size: say how many sets to add",
                         volume->meta.name);
    if (request->size <= present) {
        char text[SIZE_TEXT_SIZE];
        size_format(present, text);
        return error_set(ret_error, EINVAL, "volume %s holds %s already", volume->meta.name, text);
    }
    *ret_sets = (request->size - present + set_size - 1) / set_size;
    return 0;
}

/* The number of a set that this volume had before is never given again. */
static void number_new(struct volume_spec *spec, size_t first)
{
    struct brick_spec *bricks = spec->bricks.items;
    size_t each = layout_set_bricks(spec);
    for (size_t i = first; spec->sets_made && i < spec->bricks.count; i++)
        bricks[i].set_serial = i % each ? spec->sets_made : ++spec->sets_made;
}

static int plan_growth(struct core *core, struct volume *volume, const struct volume_expand *request,
                       struct volume_plan *ret_plan, struct error **ret_error)
{
    uint64_t sets = 0;
    int r = check_may_grow(volume, ret_error);
    if (r == 0)
        r = rebalance_check_none(core, volume->meta.name, ret_error);
    if (r == 0)
        r = sets_wanted(volume, request, &sets, ret_error);
    if (r < 0)
        return r;
    size_t first = volume->spec.bricks.count;
    const struct planner_request wish = {
        .brick_size = ((const struct brick_spec *)volume->spec.bricks.items)[0].size,
        .sets = sets,
        .devices = &request->devices,
        .nodes = &request->nodes,
        .zones = &request->zones,
        .allow_same_node = request->allow_same_node,
        .allow_same_zone = request->allow_same_zone,
    };
    r = placement_plan(core, &wish, volume, ret_plan, ret_error);
    if (r == 0)
        number_new(&volume->spec, first);
    return r;
}

int core_volume_expand_plan(struct core *core, const char *name, const struct volume_expand *request,
                            json_t **ret_plan, struct error **ret_error)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    struct volume_plan plan cleanup(cleanup_volume_plan) = {0};
    int r = record_get(core, KIND_VOLUME, name, &volume, ret_error);
    if (r == 0)
        r = plan_growth(core, &volume, request, &plan, ret_error);
    if (r == 0)
        *ret_plan = schema_encode(&volume_plan_schema, &plan);
    return r;
}

static int commit_growth(struct core *core, const char *name, const struct volume_expand *request,
                         const struct core_change *change, struct job *job, struct error **ret_error)
{
    scoped_lock(&core->placement_mutex);
    struct volume volume cleanup(cleanup_volume) = {0};
    struct volume_plan plan cleanup(cleanup_volume_plan) = {0};
    int r = change_get(core, KIND_VOLUME, name, change, &volume, ret_error);
    if (r == 0)
        r = plan_growth(core, &volume, request, &plan, ret_error);
    if (r < 0)
        return r;
    struct txn txn = {0};
    volume.meta.generation++;
    r = volume_allocate_ports(core, &volume, &txn, ret_error);
    if (r == 0) {
        txn_put(&txn, KIND_VOLUME, &volume, volume.meta.revision);
        rebalance_begin(&volume, &txn, job);
        autofree char *key = object_key(KIND_JOB, job->meta.name);
        r = change_commit(core, change, &txn, key, job->meta.uid, ret_error);
    }
    txn_clear(&txn);
    return r;
}

static int expand(struct core *core, const struct change_call *call, const struct core_change *change,
                  struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    const struct volume_expand *request = call->request;
    struct job job cleanup(cleanup_job) = {0};
    int r = commit_growth(core, name, request, change, &job, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.expand.after-record");
    jobs_wake(core->jobs);
    autofree char *key = object_key(KIND_JOB, job.meta.name);
    return result_make(core, key, job.meta.uid, change, ret_result, ret_error);
}

int core_volume_expand(struct core *core, const char *name, const struct volume_expand *request,
                       const struct core_change *change, struct core_result *ret_result,
                       struct error **ret_error)
{
    struct change_call call = {.name = name, .request = request};
    int r = node_require_alone(core, "expanding a volume", ret_error);
    return r < 0 ? r : change_run(core, expand, &call, change, ret_result, ret_error);
}
