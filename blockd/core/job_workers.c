/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Who works on the jobs. One thread looks for jobs that have not ended and lays them out as tasks; workers
 * take them. What takes long has workers of its own, so that a look at what another process does (a heal, a
 * rebalance) never waits for it, nor one kind of long work for the other. No two work on one object at once.
 */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define LOOK_EACH_MS   2000
#define RECORD_EACH_MS 1000

enum lane { LANE_LOOK, LANE_ALLOCATE, LANE_REMOVE, LANE_COUNT };
#define LANE_WORKERS 2 /* in each lane */
#define WORKERS      (LANE_COUNT * LANE_WORKERS)

struct task {
    struct jobs *jobs;
    char *name;   /* of the job */
    char *object; /* what nobody else may work on meanwhile */
    enum lane lane;
    bool running;
    bool missed; /* looked for while it ran, perhaps because of what it did not see */
    uint64_t done;
    struct task *next;
};

struct jobs {
    struct core *core;
    pthread_t finder, workers[WORKERS];
    unsigned started; /* threads; main thread only */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t find;   /* to the finder: woken, again or stopping */
    pthread_cond_t take;   /* to the workers: tasks or stopping */
    bool woken;            /* look at once */
    bool again;            /* a job is to be looked at again in a while */
    bool stopping;
    unsigned workers_given; /* numbers that workers have taken */
    struct task *tasks;     /* in the order in which they are due */
};

/* A worker's turn at one job. */
struct job_turn {
    const struct job *job;
    struct task *task; /* `done` is guarded by the mutex of the jobs */
    int64_t recorded;  /* monotonic */
};

/* ---- What is on the list ---- */

static enum lane lane_of(const struct job *job)
{
    return job->spec.kind == JOB_PREALLOCATE ? LANE_ALLOCATE
           : job->spec.kind == JOB_REMOVE    ? LANE_REMOVE
                                             : LANE_LOOK;
}

static void task_free(struct task *task)
{
    free(task->name);
    free(task->object);
    free(task);
}

/* With the lock held, as for the next three. */
static struct task **find_task(struct jobs *jobs, const char *name)
{
    struct task **link = &jobs->tasks;
    while (*link && strcmp((*link)->name, name) != 0)
        link = &(*link)->next;
    return link;
}

static void add_task(struct jobs *jobs, const struct job *job)
{
    struct task **link = find_task(jobs, job->meta.name);
    if (*link) {
        (*link)->missed = (*link)->running;
        return;
    }
    struct task *task = xcalloc(1, sizeof *task);
    task->jobs = jobs;
    task->name = xstrdup(job->meta.name);
    task->lane = lane_of(job);
    /* A removal's object is the whole volume, but only its own folder is its. */
    task->object = xstrdup(job->spec.kind == JOB_REMOVE ? job->spec.path : job->spec.object);
    *link = task;
}

static bool is_taken(const struct jobs *jobs, const char *object)
{
    for (const struct task *task = jobs->tasks; task; task = task->next)
        if (task->running && strcmp(task->object, object) == 0)
            return true;
    return false;
}

static struct task *next_task(struct jobs *jobs, enum lane lane)
{
    for (struct task *task = jobs->tasks; task; task = task->next)
        if (!task->running && task->lane == lane && !is_taken(jobs, task->object))
            return task;
    return NULL;
}

void jobs_overlay(struct jobs *jobs, struct job *job)
{
    scoped_lock(&jobs->mutex);
    const struct task *task = *find_task(jobs, job->meta.name);
    if (task && task->done > job->status.done)
        job->status.done = task->done;
}

/* ---- Workers ---- */

bool job_must_stop(const struct job_turn *turn)
{
    scoped_lock(&turn->task->jobs->mutex);
    return turn->task->jobs->stopping || !presence_leads(turn->task->jobs->core->presence);
}

int job_progress(struct job_turn *turn, uint64_t done)
{
    struct jobs *jobs = turn->task->jobs;
    {
        scoped_lock(&jobs->mutex);
        turn->task->done = done;
    }
    if (clock_monotonic_ms() - turn->recorded < RECORD_EACH_MS)
        return 0;
    turn->recorded = clock_monotonic_ms();
    return job_record(jobs->core, turn->job, "running", done, NULL);
}

/* Runs one job to its end, or to where it must wait. Returns whether to try again later. */
static bool run(struct core *core, const struct job *job, struct job_turn *turn)
{
    switch ((enum job_kind)job->spec.kind) {
    case JOB_PREALLOCATE:
        return allocation_run(core, job, turn);
    case JOB_REMOVE:
        return share_remove_run(core, job, turn);
    case JOB_HEAL:
    case JOB_HEAL_FULL:
        return heal_job_run(core, job);
    case JOB_REBALANCE:
        return rebalance_run(core, job);
    case JOB_SHRINK:
        return shrink_run(core, job);
    case JOB_EVACUATE:
    case JOB_REPLACE:
        return evacuate_run(core, job);
    }
    return false;
}

/* The job may have changed since it was put on the list. */
static bool run_task(struct jobs *jobs, struct task *task)
{
    struct job job cleanup(cleanup_job) = {0};
    int r = record_get(jobs->core, KIND_JOB, task->name, &job, NULL);
    if (r < 0)
        return r != -ENOENT;
    if (job_has_ended(&job) || !presence_leads(jobs->core->presence))
        return false;
    struct job_turn turn = {.job = &job, .task = task, .recorded = clock_monotonic_ms()};
    return run(jobs->core, &job, &turn);
}

static void *work(void *data)
{
    struct jobs *jobs = data;
    scoped_lock(&jobs->mutex);
    enum lane lane = jobs->workers_given++ / LANE_WORKERS;
    while (!jobs->stopping) {
        struct task *task = next_task(jobs, lane);
        if (!task) {
            pthread_cond_wait(&jobs->take, &jobs->mutex);
            continue;
        }
        task->running = true;
        pthread_mutex_unlock(&jobs->mutex);
        bool again = run_task(jobs, task);
        pthread_mutex_lock(&jobs->mutex);
        struct task **link = find_task(jobs, task->name);
        *link = task->next;
        jobs->again |= again;
        jobs->woken |= task->missed;
        task_free(task);
        pthread_cond_signal(&jobs->find);
        pthread_cond_broadcast(&jobs->take); /* its object is free */
    }
    return NULL;
}

/* ---- The finder ---- */

/* All jobs that have not ended; what is on the list stays where it is. */
static int find_jobs(struct jobs *jobs)
{
    struct record_list records = {.kind = KIND_JOB};
    if (!presence_leads(jobs->core->presence)) /* the node that does looks for them */
        return 0;
    int r = record_list_readable(jobs->core, KIND_JOB, NULL, &records, NULL);
    if (r < 0)
        return r;
    {
        scoped_lock(&jobs->mutex);
        for (size_t i = 0; i < records.list.count; i++)
            if (!job_has_ended(RECORD(&records, job, i)))
                add_task(jobs, RECORD(&records, job, i));
        pthread_cond_broadcast(&jobs->take);
    }
    record_list_clear(&records);
    return 0;
}

static void *find(void *data)
{
    struct jobs *jobs = data;
    for (;;) {
        struct timespec due;
        clock_gettime(CLOCK_MONOTONIC, &due);
        due.tv_sec += LOOK_EACH_MS / 1000;
        int r = find_jobs(jobs);
        scoped_lock(&jobs->mutex);
        jobs->again |= r < 0;
        while (!jobs->woken && !jobs->stopping) {
            if (!jobs->again)
                pthread_cond_wait(&jobs->find, &jobs->mutex);
            else if (pthread_cond_clockwait(&jobs->find, &jobs->mutex, CLOCK_MONOTONIC, &due) == ETIMEDOUT)
                break;
        }
        if (jobs->stopping)
            return NULL;
        jobs->woken = jobs->again = false;
    }
}

/* ---- Life ---- */

struct jobs *jobs_new(struct core *core)
{
    struct jobs *jobs = xcalloc(1, sizeof *jobs);
    jobs->core = core;
    pthread_mutex_init(&jobs->mutex, NULL);
    pthread_cond_init(&jobs->find, NULL);
    pthread_cond_init(&jobs->take, NULL);
    return jobs;
}

int jobs_start(struct jobs *jobs, struct error **ret_error)
{
    for (; jobs->started <= WORKERS; jobs->started++) {
        int number = jobs->started == 0 ? pthread_create(&jobs->finder, NULL, find, jobs)
                                        : pthread_create(&jobs->workers[jobs->started - 1], NULL, work, jobs);
        if (number)
            return error_set(ret_error, number, "cannot start a thread for the jobs: %s", strerror(number));
    }
    return 0;
}

void jobs_wake(struct jobs *jobs)
{
    scoped_lock(&jobs->mutex);
    jobs->woken = true;
    pthread_cond_signal(&jobs->find);
}

void jobs_stop(struct jobs *jobs)
{
    if (!jobs)
        return;
    {
        scoped_lock(&jobs->mutex);
        jobs->stopping = true;
        pthread_cond_signal(&jobs->find);
        pthread_cond_broadcast(&jobs->take);
    }
    for (; jobs->started > 1; jobs->started--)
        pthread_join(jobs->workers[jobs->started - 2], NULL);
    if (jobs->started == 1)
        pthread_join(jobs->finder, NULL);
    jobs->started = 0;
}

void jobs_free(struct jobs *jobs)
{
    if (!jobs)
        return;
    jobs_stop(jobs);
    while (jobs->tasks) {
        struct task *task = jobs->tasks;
        jobs->tasks = task->next;
        task_free(task);
    }
    pthread_cond_destroy(&jobs->find);
    pthread_cond_destroy(&jobs->take);
    pthread_mutex_destroy(&jobs->mutex);
    free(jobs);
}
