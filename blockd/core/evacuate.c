/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The job that empties a device: one brick after the other is moved (moves.c). All that is to be known of it
 * lies in the records of the volumes, so that a job that was cut short goes on where it was.
 */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"

/* ---- Asking for it ---- */

/* The job that empties the device now; false: none does. */
static int find_job(struct core *core, const char *device_key, struct job *ret_job, bool *ret_found,
                    struct error **ret_error)
{
    struct record_list jobs = {.kind = KIND_JOB};
    int r = record_list(core, KIND_JOB, NULL, &jobs, ret_error);
    *ret_found = false;
    for (size_t i = 0; r == 0 && !*ret_found && i < jobs.list.count; i++) {
        const struct job *job = RECORD(&jobs, job, i);
        if (job_has_ended(job) || strcmp(job->spec.object, device_key) != 0)
            continue;
        schema_copy(&job_schema, ret_job, job);
        *ret_found = true;
    }
    record_list_clear(&jobs);
    return r;
}

/* What of the volume is on the device: its brick there, or the one that a move puts there. */
static uint64_t bytes_on(struct core *core, const struct volume *volume, const char *device)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    const struct brick_move *move = move_off_device(volume, device);
    const struct brick_spec *peer = move ? move_peer(volume, move) : NULL;
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (brick_is_on(&bricks[i], device) || &bricks[i] == peer)
            return placement_held(core, volume, i);
    return 0;
}

/* Bytes of the bricks that are still on the device. */
static int bytes_left(struct core *core, const char *device, uint64_t *ret_bytes,
                      struct string_list *ret_left, struct error **ret_error)
{
    struct record_list volumes = {.kind = KIND_VOLUME};
    int r = record_list(core, KIND_VOLUME, NULL, &volumes, ret_error);
    *ret_bytes = 0;
    for (size_t i = 0; r == 0 && i < volumes.list.count; i++) {
        const struct volume *volume = RECORD(&volumes, volume, i);
        if (!volume_uses_device(volume, device) || volume->meta.deleting)
            continue;
        string_list_add(ret_left, volume->meta.name);
        *ret_bytes += bytes_on(core, volume, device);
    }
    record_list_clear(&volumes);
    return r;
}

static int check_target(struct core *core, const char *name, const char *target, struct error **ret_error)
{
    struct device device cleanup(cleanup_device) = {0};
    if (strcmp(name, target) == 0)
        return error_set(ret_error, EINVAL, "device %s cannot take its own place", name);
    int r = record_get(core, KIND_DEVICE, target, &device, ret_error);
    if (r < 0)
        return r;
    const char *state = device.meta.deleting                         ? "being removed"
                        : device.spec.state == DEVICE_DISABLED       ? "disabled"
                        : string_equal(device.status.phase, "ready") ? NULL
                        : device.status.phase                        ? device.status.phase
                                                                     : "pending";
    return state ? error_set(ret_error, EBUSY, "device %s is %s: it cannot take bricks", target, state) : 0;
}

/* What trying again does not mend. */
static bool is_final(int r)
{
    return r == -ENOSPC || r == -EIO || r == -EINVAL || r == -EOPNOTSUPP;
}

/* Whatever can be known of a move that cannot be made is told before the first one begins. */
static int check_moves(struct core *core, const char *device, const char *target, struct error **ret_error)
{
    struct record_list volumes = {.kind = KIND_VOLUME};
    int r = record_list(core, KIND_VOLUME, NULL, &volumes, ret_error);
    for (size_t i = 0; r == 0 && i < volumes.list.count; i++) {
        const struct volume *volume = RECORD(&volumes, volume, i);
        const struct brick_spec *bricks = volume->spec.bricks.items;
        for (size_t k = 0; r == 0 && k < volume->spec.bricks.count; k++) {
            if (!brick_is_on(&bricks[k], device) || volume->meta.deleting)
                continue;
            autoerror struct error *problem = NULL;
            int may = move_check_may_begin(volume, k, move_is_lost(core, volume, &bricks[k]), &problem);
            /* Other work on the volume ends by itself; one that is stopped needs its administrator. */
            if (is_final(may) || (may < 0 && volume->spec.state != VOLUME_STARTED))
                r = error_set(ret_error, -may, "%s", error_message(problem));
        }
    }
    if (r == 0)
        r = placement_check_moves(core, &volumes, device, target, ret_error);
    record_list_clear(&volumes);
    return r;
}

struct emptying {
    int kind; /* enum job_kind */
    const char *target;
};

static int begin(struct core *core, const struct change_call *call, const struct core_change *change,
                 struct core_result *ret_result, struct error **ret_error)
{
    const struct emptying *emptying = call->request;
    const char *name = call->name, *target = emptying->target;
    struct device device cleanup(cleanup_device) = {0};
    struct job job cleanup(cleanup_job) = {0};
    bool found;
    int r = change_get(core, KIND_DEVICE, name, change, &device, ret_error);
    if (r == 0 && device.meta.deleting)
        r = error_set(ret_error, EBUSY, "device %s is being removed", name);
    if (r == 0 && target)
        r = check_target(core, name, target, ret_error);
    autofree char *device_key = object_key(KIND_DEVICE, name);
    if (r == 0)
        r = find_job(core, device_key, &job, &found, ret_error);
    if (r < 0)
        return r;
    if (found)
        return error_set(ret_error, EEXIST,
                         "job %s empties device %s already: wait for its end, or gluster-block job cancel %s",
                         job.meta.name, name, job.meta.name);

    uint64_t total;
    autostring_list struct string_list left = {0};
    r = check_moves(core, name, target, ret_error);
    if (r == 0)
        r = bytes_left(core, name, &total, &left, ret_error);
    if (r < 0)
        return r;
    job_init(&job, emptying->kind, KIND_DEVICE, &device.meta);
    job.spec.target = xstrdup(target);
    job.status.total = total;
    autofree char *key = object_key(KIND_JOB, job.meta.name);
    struct txn txn = {0};
    device.spec.state = DEVICE_DISABLED;
    device.meta.generation++;
    txn_put(&txn, KIND_DEVICE, &device, device.meta.revision);
    txn_put(&txn, KIND_JOB, &job, 0);
    r = change_commit(core, change, &txn, key, job.meta.uid, ret_error);
    if (r < 0)
        return r;
    fault_point("evacuate.after-record");
    jobs_wake(core->jobs);
    return result_make(core, key, job.meta.uid, change, ret_result, ret_error);
}

static int begin_again(struct core *core, int kind, const char *name, const char *target_word,
                       const struct core_change *change, struct core_result *ret_result,
                       struct error **ret_error)
{
    autofree char *target = target_word ? device_full_name(core, target_word) : NULL;
    struct emptying emptying = {.kind = kind, .target = target};
    struct change_call call = {.name = name, .request = &emptying};
    return change_run(core, begin, &call, change, ret_result, ret_error);
}

int core_device_evacuate(struct core *core, const char *name, const struct device_evacuate *request,
                         const struct core_change *change, struct core_result *ret_result,
                         struct error **ret_error)
{
    int r = node_require_alone(core, "moving bricks", ret_error);
    return r < 0 ? r : begin_again(core, JOB_EVACUATE, name, request->target, change, ret_result, ret_error);
}

int core_device_replace(struct core *core, const char *name, const struct device_replace *request,
                        const struct core_change *change, struct core_result *ret_result,
                        struct error **ret_error)
{
    int r = node_require_alone(core, "moving bricks", ret_error);
    return r < 0 ? r : begin_again(core, JOB_REPLACE, name, request->target, change, ret_result, ret_error);
}

/* ---- Working on it ---- */

/* What fills the new brick now, at most what the volume holds. */
static uint64_t bytes_filled(struct core *core, const struct volume *volume, const char *device_name,
                             const struct brick_move *move)
{
    const struct brick_spec *peer = move_peer(volume, move);
    const struct brick_spec *fresh = move->step == MOVE_SWAP_HEAL && peer ? peer : &move->brick;
    autofree char *name = xasprintf("%s/%s", fresh->node, fresh->device);
    struct device device cleanup(cleanup_device) = {0};
    bool fills = move->step == MOVE_HEAL || move->step == MOVE_SWAP_HEAL;
    if (!fills || record_get(core, KIND_DEVICE, name, &device, NULL) < 0)
        return 0;
    overlay_status(core, KIND_DEVICE, &device, false);
    uint64_t used = device.status.size - device.status.free;
    uint64_t whole = bytes_on(core, volume, device_name), filled = used > move->base ? used - move->base : 0;
    return filled < whole ? filled : whole;
}

static uint64_t progress(struct core *core, const struct job *job, const char *device, uint64_t left)
{
    struct record_list volumes = {.kind = KIND_VOLUME};
    uint64_t filled = 0;
    if (record_list_readable(core, KIND_VOLUME, NULL, &volumes, NULL) == 0)
        for (size_t i = 0; i < volumes.list.count; i++) {
            const struct volume *volume = RECORD(&volumes, volume, i);
            const struct brick_move *move = move_off_device(volume, device);
            if (move)
                filled += bytes_filled(core, volume, device, move);
        }
    record_list_clear(&volumes);
    uint64_t open = left > filled ? left - filled : 0;
    uint64_t done = job->status.total > open ? job->status.total - open : 0;
    return done > job->status.done ? done : job->status.done;
}

static char *describe(struct core *core, const struct volume *volume, const struct brick_move *move,
                      bool cancel)
{
    autofree char *text = move_describe(core, volume, move);
    return cancel ? xasprintf("canceled, ends after %s", text) : steal_ptr(&text);
}

/* 1: a move that the device takes part in is under way; *ret_message tells of it, and is the caller's. */
static int look_for_move(struct core *core, const char *device, const struct string_list *left, bool cancel,
                         char **ret_message, struct error **ret_error)
{
    int result = 0;
    for (size_t i = 0; i < left->count; i++) {
        struct volume volume cleanup(cleanup_volume) = {0};
        int r = record_get(core, KIND_VOLUME, left->items[i], &volume, NULL);
        if (r == -ENOENT)
            continue;
        if (r < 0)
            return error_set(ret_error, -r, "cannot read volume %s: %s", left->items[i], strerror(-r));
        const struct brick_move *move = move_off_device(&volume, device);
        if (!move)
            continue;
        result = 1;
        autofree char *key = object_key(KIND_VOLUME, left->items[i]);
        queue_add(core->queue, key); /* its next step may be due */
        if (!*ret_message)
            *ret_message = describe(core, &volume, move, cancel);
        r = cancel ? move_cancel(core, &volume, move, ret_error) : 0;
        if (r < 0)
            return r;
    }
    return result;
}

static bool end(struct core *core, const struct job *job, const char *phase, uint64_t done, const char *error)
{
    struct job_news news = {.phase = phase, .done = done, .error = error};
    news.message = string_equal(phase, "succeeded")  ? "the device has no brick left"
                   : string_equal(phase, "canceled") ? "bricks that were moved before stay where they are"
                                                     : "bricks that are left stay where they are";
    job_record_news(core, job, &news);
    fault_point("evacuate.after-status");
    return false;
}

static bool go_on(struct core *core, const struct job *job, uint64_t done, const char *message)
{
    job_record_news(core, job, &(struct job_news){.phase = "running", .done = done, .message = message});
    return true;
}

/* The next brick; 0 when its move has begun. */
static int begin_next(struct core *core, const struct job *job, const char *device,
                      const struct string_list *left, struct error **ret_error)
{
    int r = -EBUSY;
    for (size_t i = 0; i < left->count && (r == -EBUSY || r == -EAGAIN); i++) {
        if (ret_error)
            error_free(steal_ptr(ret_error));
        r = move_begin(core, left->items[i], device, job->spec.target, ret_error);
    }
    fault_point("evacuate.after-begin");
    return r;
}

bool evacuate_run(struct core *core, const struct job *job)
{
    const char *device_name = strchr(job->spec.object, '/') + 1;
    struct device device cleanup(cleanup_device) = {0};
    int r = record_get(core, KIND_DEVICE, device_name, &device, NULL);
    bool gone = r == -ENOENT || (r == 0 && !string_equal(device.meta.uid, job->spec.object_uid));
    if (gone)
        return end(core, job, "canceled", job->status.done, NULL);
    if (r < 0)
        return true;

    autostring_list struct string_list left = {0};
    autoerror struct error *problem = NULL;
    autofree char *message = NULL;
    uint64_t bytes = 0;
    r = bytes_left(core, device_name, &bytes, &left, &problem);
    if (r == 0)
        r = look_for_move(core, device_name, &left, job->meta.deleting, &message, &problem);
    if (r < 0)
        return true;
    uint64_t done = progress(core, job, device_name, bytes);
    if (r == 0 && job->meta.deleting)
        return end(core, job, "canceled", done, NULL);
    if (r == 0 && left.count == 0)
        return end(core, job, "succeeded", job->status.total, NULL);
    if (r == 1)
        return go_on(core, job, done, message);
    r = begin_next(core, job, device_name, &left, &problem);
    if (is_final(r))
        return end(core, job, "failed", done, error_message(problem));
    /* Why it waits is worth knowing, and no end. */
    if (r < 0 && problem)
        message = xasprintf("waits: %s", error_message(problem));
    return go_on(core, job, done, message);
}
