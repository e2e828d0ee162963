/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Answers to locks are given on a thread of their own. When the program that asked for a lock gets a signal,
 * the mount asks the bricks to give its request up, and when the answer to the lock arrives it waits for that
 * to the other, on the thread that brought it. That one would have to bring the other, too: where all threads
 * that hear from bricks wait like that, the mount hangs for ever.
 */
#include "xlators/gate/gate.h"

#include <stdlib.h>

#include "xlators/thread.h"

struct gate_lock_answer {
    struct gate_lock_answer *next;
    call_frame_t *frame;
    int32_t op_ret, op_errno;
    struct gf_flock lock;
    dict_t *xdata;
};

static void give(struct gate_lock_answer *kept)
{
    STACK_UNWIND_STRICT(lk, kept->frame, kept->op_ret, kept->op_errno, &kept->lock, kept->xdata);
    if (kept->xdata)
        dict_unref(kept->xdata);
    free(kept);
}

static struct gate_lock_answer *next_answer(struct gate_answers *answers)
{
    pthread_mutex_lock(&answers->mutex);
    while (!answers->first && !answers->ending)
        pthread_cond_wait(&answers->more, &answers->mutex);
    struct gate_lock_answer *kept = answers->first;
    if (kept && !(answers->first = kept->next))
        answers->last = &answers->first;
    pthread_mutex_unlock(&answers->mutex);
    return kept;
}

static void *run(void *data)
{
    for (struct gate_lock_answer *kept; (kept = next_answer(data));)
        give(kept);
    return NULL;
}

void gate_answers_init(struct gate_answers *answers)
{
    pthread_mutex_init(&answers->mutex, NULL);
    pthread_cond_init(&answers->more, NULL);
    answers->last = &answers->first;
}

void gate_answers_end(struct gate_answers *answers)
{
    pthread_mutex_lock(&answers->mutex);
    answers->ending = true;
    pthread_cond_signal(&answers->more);
    bool running = answers->running;
    pthread_mutex_unlock(&answers->mutex);
    if (running)
        pthread_join(answers->thread, NULL);
    pthread_cond_destroy(&answers->more);
    pthread_mutex_destroy(&answers->mutex);
}

/* With the mutex held. Most mounts never see a lock: the thread begins with the first one. */
static bool runs(struct gate_answers *answers)
{
    if (!answers->running && !answers->ending)
        answers->running = thread_create(&answers->thread, run, answers) == 0;
    return answers->running && !answers->ending;
}

void gate_answer_lock(call_frame_t *frame, xlator_t *this, int32_t op_ret, int32_t op_errno,
                      struct gf_flock *lock, dict_t *xdata)
{
    struct gate *gate = this->private;
    struct gate_answers *answers = &gate->answers;
    struct gate_lock_answer *kept = calloc(1, sizeof *kept);
    if (!kept) {
        STACK_UNWIND_STRICT(lk, frame, op_ret, op_errno, lock, xdata);
        return;
    }
    *kept = (struct gate_lock_answer){.frame = frame,
                                      .op_ret = op_ret,
                                      .op_errno = op_errno,
                                      .lock = lock ? *lock : (struct gf_flock){0},
                                      .xdata = xdata ? dict_ref(xdata) : NULL};
    pthread_mutex_lock(&answers->mutex);
    bool queued = runs(answers);
    if (queued) {
        *answers->last = kept;
        answers->last = &kept->next;
        pthread_cond_signal(&answers->more);
    }
    pthread_mutex_unlock(&answers->mutex);
    if (!queued)
        give(kept);
}
