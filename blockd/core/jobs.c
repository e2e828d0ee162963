/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Jobs: long work with progress, by workers of its own (job_workers.c). A job that was running when the
 * daemon died starts again from the progress in the store; doing a part twice is harmless.
 */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

void job_init(struct job *job, int kind, enum object_kind object_kind, const struct meta *object)
{
    autofree char *unnamed = NULL;
    meta_init(&job->meta, "");
    unnamed = job->meta.name;
    job->meta.name = xstrdup(job->meta.uid);
    job->spec.kind = kind;
    job->spec.object = object_key(object_kind, object->name);
    job->spec.object_uid = xstrdup(object->uid);
    job->status.phase = xstrdup("pending");
}

static int cancel(struct core *core, const struct change_call *call, const struct core_change *change,
                  struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    struct job job cleanup(cleanup_job) = {0};
    int r = change_get(core, KIND_JOB, name, change, &job, ret_error);
    if (r < 0)
        return r;
    autofree char *key = object_key(KIND_JOB, name);
    struct txn txn = {0};
    if (job.spec.kind == JOB_REMOVE && !job_has_ended(&job))
        return error_set(ret_error, EBUSY,
                         "job %s removes what nobody can reach any more: it cannot be canceled", name);
    if (job_has_ended(&job)) {
        txn_delete(&txn, key, job.meta.revision);
    } else {
        job.meta.deleting = true; /* its worker sees it between two steps */
        txn_put(&txn, KIND_JOB, &job, job.meta.revision);
    }
    r = change_commit(core, change, &txn, key, job.meta.uid, ret_error);
    if (r < 0)
        return r;
    jobs_wake(core->jobs);
    if (job_has_ended(&job))
        queue_add(core->queue, job.spec.object); /* a block that failed with it is served as it is */
    return result_make(core, key, job.meta.uid, change, ret_result, ret_error);
}

int core_job_delete(struct core *core, const char *name, const struct core_change *change,
                    struct core_result *ret_result, struct error **ret_error)
{
    struct change_call call = {.name = name};
    return change_run(core, cancel, &call, change, ret_result, ret_error);
}

/* ---- Reconcile ---- */

#define FORGET_AFTER_MS (24 * 3600 * INT64_C(1000))

int job_reconcile(struct core *core, const char *name, struct error **ret_error)
{
    struct job job cleanup(cleanup_job) = {0};
    int r = record_get(core, KIND_JOB, name, &job, ret_error);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (!job_has_ended(&job)) {
        jobs_wake(core->jobs);
        return 0;
    }
    /* A failed one is why its block is not served: only an administrator forgets it, or the block's end. */
    struct block block cleanup(cleanup_block) = {0};
    bool needed = job.spec.kind == JOB_PREALLOCATE && string_equal(job.status.phase, "failed") &&
                  allocation_block(core, &job, &block) != -ECANCELED;
    bool old = clock_real_ms() - job.status.finished >= FORGET_AFTER_MS;
    if (!job.meta.deleting && (needed || !old))
        return 0;
    return record_delete(core, KIND_JOB, &job.meta, ret_error);
}

int job_follow(struct core *core, const char *name, struct error **ret_error)
{
    (void)core, (void)name, (void)ret_error;
    return 0;
}
