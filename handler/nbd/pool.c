/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/nbd/pool.h"

#include <errno.h>
#include <stdbool.h>
#include <time.h>

#include "rpc/base/alloc.h"

#define IDLE_SECONDS 10

struct job {
    struct job *next;
    void (*run)(void *data);
    void *data;
};

struct pool {
    unsigned limit;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t work;   /* a job came, or the pool ends */
    pthread_cond_t gone;   /* a thread ended, or has nothing to do */
    struct job *first, **last;
    unsigned threads, idle, queued;
    bool ending;
};

struct pool *pool_new(unsigned thread_limit)
{
    struct pool *pool = xcalloc(1, sizeof *pool);
    pool->limit = thread_limit;
    pool->last = &pool->first;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->work, &attributes);
    pthread_cond_init(&pool->gone, &attributes);
    pthread_condattr_destroy(&attributes);
    return pool;
}

/* Called and returns with the mutex held; NULL: the thread should end. */
static struct job *next_job(struct pool *pool)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    int r = 0;
    pool->idle++;
    if (!pool->first)
        pthread_cond_broadcast(&pool->gone);
    while (!pool->first && !pool->ending && r != ETIMEDOUT)
        r = pthread_cond_timedwait(&pool->work, &pool->mutex, &until);
    pool->idle--;

    struct job *job = pool->first;
    if (job) {
        pool->queued--;
        pool->first = job->next;
        if (!pool->first)
            pool->last = &pool->first;
    }
    return job;
}

static void *pool_thread(void *data)
{
    struct pool *pool = data;
    pthread_mutex_lock(&pool->mutex);
    for (struct job *job; (job = next_job(pool));) {
        pthread_mutex_unlock(&pool->mutex);
        job->run(job->data);
        free(job);
        pthread_mutex_lock(&pool->mutex);
    }
    pool->threads--;
    pthread_cond_broadcast(&pool->gone);
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/* Called with the mutex held. */
static void start_thread(struct pool *pool)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, pool_thread, pool) == 0)
        pool->threads++;
    pthread_attr_destroy(&attributes);
}

void pool_submit(struct pool *pool, void (*run)(void *data), void *data)
{
    if (!pool) {
        run(data);
        return;
    }
    struct job *job = xcalloc(1, sizeof *job);
    job->run = run;
    job->data = data;
    bool stranded;
    {
        scoped_lock(&pool->mutex);
        *pool->last = job;
        pool->last = &job->next;
        pool->queued++;
        if (pool->queued > pool->idle && pool->threads < pool->limit)
            start_thread(pool);
        pthread_cond_signal(&pool->work);
        stranded = pool->threads == 0;
        if (stranded) {
            pool->first = NULL;
            pool->last = &pool->first;
            pool->queued = 0;
        }
    }
    /* The machine has no thread to give: late and in the wrong place is better than never. */
    if (stranded) {
        run(data);
        free(job);
    }
}

void pool_wait(struct pool *pool)
{
    if (!pool)
        return;
    scoped_lock(&pool->mutex);
    while (pool->first || pool->idle < pool->threads)
        pthread_cond_wait(&pool->gone, &pool->mutex);
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    {
        scoped_lock(&pool->mutex);
        pool->ending = true;
        pthread_cond_broadcast(&pool->work);
        while (pool->threads)
            pthread_cond_wait(&pool->gone, &pool->mutex);
    }
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->gone);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}
