/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The job that spreads the files of a volume over its sets of bricks. A program of its own does it
 * (handler/rebalance); the job starts it, reads its progress, and ends it. After a crash of either the
 * program goes over all files again, and passes over those that are in their place.
 */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/fault.h"
#include "rpc/volume_layout.h"

/* ---- Asking for it ---- */

/* The job moves files of the volume with that key. */
static bool moves_files(const struct job *job, const char *key)
{
    return (job->spec.kind == JOB_REBALANCE || job->spec.kind == JOB_SHRINK) && !job_has_ended(job) &&
           strcmp(job->spec.object, key) == 0;
}

bool rebalance_is_on(struct core *core, const struct volume *volume)
{
    struct record_list jobs = {.kind = KIND_JOB};
    autofree char *key = object_key(KIND_VOLUME, volume->meta.name);
    bool on = volume->spec.leaving != 0;
    if (on || layout_sets(&volume->spec) < 2 || record_list_readable(core, KIND_JOB, NULL, &jobs, NULL) < 0)
        return on;
    for (size_t i = 0; i < jobs.list.count && !on; i++)
        on = moves_files(RECORD(&jobs, job, i), key);
    record_list_clear(&jobs);
    return on;
}

int rebalance_check_none(struct core *core, const char *volume, struct error **ret_error)
{
    struct record_list jobs = {.kind = KIND_JOB};
    autofree char *key = object_key(KIND_VOLUME, volume);
    int r = record_list(core, KIND_JOB, NULL, &jobs, ret_error);
    for (size_t i = 0; r == 0 && i < jobs.list.count; i++) {
        const struct job *job = RECORD(&jobs, job, i);
        if (moves_files(job, key))
            r = error_set(ret_error, EBUSY, "job %s %s volume %s already", job->meta.name,
                          job->spec.kind == JOB_SHRINK ? "takes a set of bricks out of" : "rebalances",
                          volume);
    }
    record_list_clear(&jobs);
    return r;
}

void rebalance_begin(const struct volume *volume, struct txn *txn, struct job *job)
{
    job_init(job, JOB_REBALANCE, KIND_VOLUME, &volume->meta);
    txn_put(txn, KIND_JOB, job, 0);
}

static int check_moves(const struct volume *volume, struct error **ret_error)
{
    return volume->spec.moves.count
               ? error_set(ret_error, EBUSY, "volume %s has a brick on its way to another device",
                           volume->meta.name)
               : 0;
}

static int begin(struct core *core, const struct change_call *call, const struct core_change *change,
                 struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    struct volume volume cleanup(cleanup_volume) = {0};
    struct job job cleanup(cleanup_job) = {0};
    int r = change_get(core, KIND_VOLUME, name, change, &volume, ret_error);
    if (r == 0 && volume.meta.deleting)
        r = error_set(ret_error, EBUSY, "volume %s is being deleted", name);
    if (r == 0 && layout_sets(&volume.spec) < 2)
        r = error_set(ret_error, EINVAL, "volume %s has one set of bricks only: there is nothing to spread",
                      name);
    if (r == 0)
        r = check_moves(&volume, ret_error);
    if (r == 0)
        r = rebalance_check_none(core, name, ret_error);
    if (r < 0)
        return r;
    struct txn txn = {0};
    rebalance_begin(&volume, &txn, &job);
    autofree char *key = object_key(KIND_JOB, job.meta.name), *volume_key = object_key(KIND_VOLUME, name);
    txn_check(&txn, volume_key, volume.meta.revision);
    r = change_commit(core, change, &txn, key, job.meta.uid, ret_error);
    if (r < 0)
        return r;
    jobs_wake(core->jobs);
    return result_make(core, key, job.meta.uid, change, ret_result, ret_error);
}

int core_volume_rebalance(struct core *core, const char *name, const struct core_change *change,
                          struct core_result *ret_result, struct error **ret_error)
{
    struct change_call call = {.name = name};
    int r = node_require_alone(core, "rebalancing a volume", ret_error);
    return r < 0 ? r : change_run(core, begin, &call, change, ret_result, ret_error);
}

/* ---- Working on it ---- */

static int record(struct core *core, const struct job *job, const struct job_news *news)
{
    int r = job_record_news(core, job, news);
    fault_point("rebalance.after-status");
    return r;
}

/*
 * The program is ended first: a job that has ended is not looked at again. The volume is, upon which its
 * shares have the limits of a volume whose files stay where they are.
 */
static bool end(struct core *core, const struct job *job, const char *volume, const struct job_news *news)
{
    if (engine_rebalance_down(core->engine, volume, NULL) < 0)
        return true;
    blocks_note_sets(core, volume);
    bool again = record(core, job, news) < 0;
    autofree char *key = object_key(KIND_VOLUME, volume);
    queue_add(core->queue, key);
    return again;
}

static int check_bricks(const struct volume *volume, struct error **ret_error)
{
    const struct brick_status *bricks = volume->status.bricks.items;
    for (size_t i = 0; i < volume->status.bricks.count; i++)
        if (!string_equal(bricks[i].state, "online"))
            return error_set(ret_error, EAGAIN, "the brick of volume %s on %s/%s is %s%s%s",
                             volume->meta.name, bricks[i].node, bricks[i].device, bricks[i].state,
                             bricks[i].error ? ": " : "", bricks[i].error ? bricks[i].error : "");
    return 0;
}

/* 0: it serves with all sets that the record has. -EAGAIN: not yet. -ECANCELED: it is gone. */
static int check_volume(struct core *core, const struct job *job, struct volume *volume,
                        struct error **ret_error)
{
    int r = record_get(core, KIND_VOLUME, strchr(job->spec.object, '/') + 1, volume, NULL);
    if (r == -ENOENT ||
        (r == 0 && (volume->meta.deleting || !string_equal(volume->meta.uid, job->spec.object_uid))))
        return -ECANCELED;
    if (r < 0)
        return -EAGAIN;
    if (volume->status.observed_generation != volume->meta.generation)
        return error_set(ret_error, EAGAIN, "the bricks of volume %s come up", volume->meta.name);
    return volume_require_online(core, volume, ret_error) < 0 ? -EAGAIN : 0;
}

static bool follow(struct core *core, const struct job *job, const char *volume)
{
    struct engine_rebalance progress = {0};
    if (engine_rebalance_look(core->engine, volume, job->meta.name, &progress, NULL) < 0)
        return true;
    autofree char *error = progress.error;
    autofree char *message =
        xasprintf("%llu file%s moved, %llu in use left in place, %llu failed",
                  (unsigned long long)progress.moved, progress.moved == 1 ? "" : "s",
                  (unsigned long long)progress.in_use, (unsigned long long)progress.failed);
    struct job_news news = {
        .phase = "running", .message = message, .done = progress.done, .total = progress.total};
    if (!progress.finished) {
        record(core, job, &news);
        return true;
    }
    news.phase = progress.failed ? "failed" : "succeeded";
    news.error = error;
    news.done = progress.total;
    return end(core, job, volume, &news);
}

static bool is_started(struct core *core, const struct job *job, const char *volume)
{
    struct engine_rebalance progress = {0};
    int r = engine_rebalance_look(core->engine, volume, job->meta.name, &progress, NULL);
    free(progress.error);
    return r == 0;
}

/* Why it waits is worth knowing, and no end. */
static bool wait_for(struct core *core, const struct job *job, const struct error *problem)
{
    autofree char *message = problem ? xasprintf("waits: %s", error_message(problem)) : NULL;
    struct job_news news = {
        .phase = "running", .message = message, .done = job->status.done, .total = job->status.total};
    record(core, job, &news);
    return true;
}

/* Before the first file moves: all bricks are there, and a client that does not know the new sets is gone. */
static int check_may_start(struct core *core, const struct volume *volume, struct error **ret_error)
{
    int r = check_bricks(volume, ret_error);
    if (r < 0)
        return r;
    shares_spread(core, volume);
    return engine_clients_told(core->engine, volume, NULL, ret_error);
}

bool rebalance_run(struct core *core, const struct job *job)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    autoerror struct error *problem = NULL;
    const char *name = strchr(job->spec.object, '/') + 1;
    int r = check_volume(core, job, &volume, &problem);
    struct job_news news = {.phase = "canceled", .done = job->status.done, .total = job->status.total};
    if (job->meta.deleting || r == -ECANCELED)
        return end(core, job, name, &news);
    if (r < 0)
        return wait_for(core, job, problem);
    if (string_equal(job->status.phase, "pending")) {
        hosting_drop(core->hosting, name);
        news.phase = "running";
        record(core, job, &news);
        return true;
    }
    /* The program knows the bricks that there were when it began: it would hold up the move until its end. */
    if (check_moves(&volume, &problem) < 0) {
        engine_rebalance_down(core->engine, name, NULL);
        return wait_for(core, job, problem);
    }
    if (!is_started(core, job, name) && check_may_start(core, &volume, &problem) < 0)
        return wait_for(core, job, problem);
    (void)shares_apply(core, &volume, NULL); /* as the files move; the next look tries again */
    if (engine_rebalance_up(core->engine, name, job->meta.name, &problem) < 0)
        return wait_for(core, job, problem);
    fault_point("rebalance.after-start");
    return follow(core, job, name);
}
