/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Jobs: long work with progress, on one thread of its own so that it holds no reconciler up. A job that was
 * running when the daemon died starts again from the progress in the store; doing a part twice is harmless.
 */
#include <errno.h>
#include <string.h>

#include "core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/fault.h"

#define STEP_BYTES     (UINT64_C(64) << 20)
#define RECORD_EACH_MS 1000

struct jobs {
    struct core *core;
    pthread_t thread;
    bool started; /* main thread only */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;
    bool woken, stopping;
    char *current; /* name of the job that runs */
    uint64_t done;
};

/* ---- Operations ---- */

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

void job_init_allocation(struct job *job, const struct block *block, uint64_t done)
{
    job_init(job, JOB_PREALLOCATE, KIND_BLOCK, &block->meta);
    job->status.done = done;
    job->status.total = block->spec.size;
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
        job.meta.deleting = true; /* the job's thread sees it between two steps */
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

void jobs_overlay(struct jobs *jobs, struct job *job)
{
    scoped_lock(&jobs->mutex);
    if (jobs->current && strcmp(jobs->current, job->meta.name) == 0 && jobs->done > job->status.done)
        job->status.done = jobs->done;
}

/* ---- The thread ---- */

static bool must_stop(struct jobs *jobs)
{
    scoped_lock(&jobs->mutex);
    return jobs->stopping || !presence_leads(jobs->core->presence);
}

static bool is_canceled(struct core *core, const struct job *job)
{
    struct job now cleanup(cleanup_job) = {0};
    int r = record_get(core, KIND_JOB, job->meta.name, &now, NULL);
    return r == -ENOENT || (r == 0 && now.meta.deleting); /* a store that does not answer cancels nothing */
}

/* 0: the block is there and wants the job's work. -ECANCELED: it does not, or no more. */
static int find_block(struct core *core, const struct job *job, struct block *block)
{
    const char *name = strchr(job->spec.object, '/') + 1;
    int r = record_get(core, KIND_BLOCK, name, block, NULL);
    if (r == -ENOENT)
        return -ECANCELED;
    bool wanted = r < 0 || (!block->meta.deleting && string_equal(block->meta.uid, job->spec.object_uid) &&
                            string_equal(block->status.job, job->meta.name));
    return wanted ? r : -ECANCELED;
}

/* What trying again does not mend. */
static bool is_final(int r)
{
    return r == -ENOSPC || r == -EDQUOT || r == -EFBIG || r == -EOPNOTSUPP || r == -EINVAL || r == -ENOENT;
}

/* Allocates step by step. 0: all is done. -ECANCELED: stopped between two steps. */
static int allocate(struct jobs *jobs, const struct job *job, const struct block *block, uint64_t *done,
                    struct error **ret_error)
{
    struct core *core = jobs->core;
    autofree char *volume = object_name_part(block->meta.name, 0);
    struct image_volume *connection = NULL;
    int r = hosting_get(core->hosting, volume, &connection, ret_error);
    int64_t recorded = clock_monotonic_ms();
    while (r == 0 && *done < block->spec.size) {
        uint64_t step = block->spec.size - *done < STEP_BYTES ? block->spec.size - *done : STEP_BYTES;
        if (must_stop(jobs) || is_canceled(core, job)) {
            r = -ECANCELED;
            break;
        }
        r = image_allocate(connection, block->spec.storage, *done, step, ret_error);
        if (r < 0)
            break;
        *done += step;
        {
            scoped_lock(&jobs->mutex);
            jobs->done = *done;
        }
        fault_point("job.preallocate.after-step");
        if (clock_monotonic_ms() - recorded >= RECORD_EACH_MS) {
            r = job_record(core, job, "running", *done, NULL);
            recorded = clock_monotonic_ms();
        }
    }
    hosting_put(core->hosting, connection);
    return r;
}

struct removal {
    struct jobs *jobs;
    const struct job *job;
    uint64_t done;
    int64_t recorded; /* monotonic */
};

static bool note_removed(void *data, uint64_t bytes)
{
    struct removal *removal = data;
    removal->done += bytes;
    {
        scoped_lock(&removal->jobs->mutex);
        removal->jobs->done = removal->done;
    }
    fault_point("job.remove.after-step");
    if (clock_monotonic_ms() - removal->recorded >= RECORD_EACH_MS) {
        job_record(removal->jobs->core, removal->job, "running", removal->done, NULL);
        removal->recorded = clock_monotonic_ms();
    }
    return !must_stop(removal->jobs);
}

/* A removal ends when all is gone, however often it has to be begun again. */
static bool run_removal(struct jobs *jobs, const struct job *job)
{
    struct removal removal = {
        .jobs = jobs, .job = job, .done = job->status.done, .recorded = clock_monotonic_ms()};
    autoerror struct error *problem = NULL;
    job_record(jobs->core, job, "running", removal.done, job->status.error);
    int r = share_remove_run(jobs->core, job, note_removed, &removal, &problem);
    if (r == -ECANCELED && must_stop(jobs))
        return false;
    if (r < 0) {
        if (!string_equal(job->status.error, error_message(problem)))
            job_record(jobs->core, job, "running", removal.done, error_message(problem));
        return true;
    }
    fault_point("job.remove.after-tree");
    job_record(jobs->core, job, "succeeded", job->status.total, NULL);
    return false;
}

/* Runs one job to its end, or to where it must wait. Returns whether to try again later. */
static bool run(struct jobs *jobs, const struct job *job)
{
    if (job->spec.kind == JOB_REMOVE)
        return run_removal(jobs, job);
    struct core *core = jobs->core;
    if (job->spec.kind == JOB_HEAL || job->spec.kind == JOB_HEAL_FULL)
        return heal_job_run(core, job);
    if (job->spec.kind == JOB_REBALANCE)
        return rebalance_run(core, job);
    if (job->spec.kind == JOB_EVACUATE || job->spec.kind == JOB_REPLACE)
        return evacuate_run(core, job);
    struct block block cleanup(cleanup_block) = {0};
    int r = find_block(core, job, &block);
    if (r < 0 && r != -ECANCELED)
        return true; /* the store did not answer */
    if (job->meta.deleting || r == -ECANCELED) {
        job_record(core, job, "canceled", job->status.done, NULL);
        queue_add(core->queue, job->spec.object);
        return false;
    }
    if (!string_equal(block.status.phase, "preallocating"))
        return false; /* its file is not there yet; the block's reconciler wakes us */

    autoerror struct error *problem = NULL;
    uint64_t done = job->status.done;
    job_record(core, job, "running", done, NULL);
    r = allocate(jobs, job, &block, &done, &problem);
    if (r == -ECANCELED && must_stop(jobs))
        return false;
    if (r == 0)
        job_record(core, job, "succeeded", done, NULL);
    else if (r == -ECANCELED)
        job_record(core, job, "canceled", done, NULL);
    else if (is_final(r))
        job_record(core, job, "failed", done, error_message(problem));
    else
        return true; /* a brick is away, say: the work goes on when it can */
    fault_point("job.preallocate.after-status");
    queue_add(core->queue, job->spec.object);
    return false;
}

static bool run_all(struct jobs *jobs)
{
    struct record_list records = {.kind = KIND_JOB};
    bool again = false;
    if (!presence_leads(jobs->core->presence))
        return false; /* the pass over all that a new leader makes wakes it */
    if (record_list(jobs->core, KIND_JOB, NULL, &records, NULL) < 0)
        return true;
    for (size_t i = 0; i < records.list.count && !must_stop(jobs); i++) {
        struct job *job = RECORD(&records, job, i);
        if (job_has_ended(job))
            continue;
        {
            scoped_lock(&jobs->mutex);
            free(jobs->current);
            jobs->current = xstrdup(job->meta.name);
            jobs->done = job->status.done;
        }
        again |= run(jobs, job);
    }
    record_list_clear(&records);
    return again;
}

static void *work(void *data)
{
    struct jobs *jobs = data;
    bool again = true;
    for (;;) {
        {
            scoped_lock(&jobs->mutex);
            struct timespec when;
            clock_gettime(CLOCK_MONOTONIC, &when);
            when.tv_sec += 2;
            if (!jobs->woken && !jobs->stopping && again)
                pthread_cond_clockwait(&jobs->wake, &jobs->mutex, CLOCK_MONOTONIC, &when);
            while (!jobs->woken && !jobs->stopping && !again)
                pthread_cond_wait(&jobs->wake, &jobs->mutex);
            if (jobs->stopping)
                return NULL;
            jobs->woken = false;
        }
        again = run_all(jobs);
    }
}

/* ---- Life ---- */

struct jobs *jobs_new(struct core *core)
{
    struct jobs *jobs = xcalloc(1, sizeof *jobs);
    jobs->core = core;
    pthread_mutex_init(&jobs->mutex, NULL);
    pthread_cond_init(&jobs->wake, NULL);
    return jobs;
}

int jobs_start(struct jobs *jobs, struct error **ret_error)
{
    int number = pthread_create(&jobs->thread, NULL, work, jobs);
    if (number)
        return error_set(ret_error, number, "cannot start the thread of the jobs: %s", strerror(number));
    jobs->started = true;
    return 0;
}

void jobs_wake(struct jobs *jobs)
{
    scoped_lock(&jobs->mutex);
    jobs->woken = true;
    pthread_cond_signal(&jobs->wake);
}

void jobs_stop(struct jobs *jobs)
{
    if (!jobs || !jobs->started)
        return;
    {
        scoped_lock(&jobs->mutex);
        jobs->stopping = true;
        pthread_cond_signal(&jobs->wake);
    }
    pthread_join(jobs->thread, NULL);
    jobs->started = false;
}

void jobs_free(struct jobs *jobs)
{
    if (!jobs)
        return;
    jobs_stop(jobs);
    free(jobs->current);
    pthread_cond_destroy(&jobs->wake);
    pthread_mutex_destroy(&jobs->mutex);
    free(jobs);
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
                  find_block(core, &job, &block) != -ECANCELED;
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
