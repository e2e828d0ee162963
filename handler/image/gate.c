/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/image/gate.h"

#include <stddef.h>

#include "rpc/base/cleanup.h"
#include "rpc/base/clock.h"

/* By then replicate has noted by itself what a change missed; it delays that by a second. */
#define NOTED_MS 5000

static void queue_init(struct gate_queue *queue)
{
    queue->first = NULL;
    queue->last = &queue->first;
}

static void queue_add(struct gate_queue *queue, struct gate_waiter *waiter)
{
    waiter->next = NULL;
    *queue->last = waiter;
    queue->last = &waiter->next;
}

static struct gate_waiter *queue_take(struct gate_queue *queue)
{
    struct gate_waiter *waiter = queue->first;
    if (waiter) {
        queue->first = waiter->next;
        if (!queue->first)
            queue->last = &queue->first;
    }
    return waiter;
}

/* `to` is empty. */
static void queue_move(struct gate_queue *from, struct gate_queue *to)
{
    if (!from->first)
        return;
    to->first = from->first;
    to->last = from->last;
    queue_init(from);
}

void gate_init(struct gate *gate, int (*settle)(void *data), void *data)
{
    *gate = (struct gate){.settle = settle, .data = data};
    pthread_mutex_init(&gate->mutex, NULL);
    pthread_cond_init(&gate->idle, NULL);
    queue_init(&gate->waiting);
    queue_init(&gate->left);
}

void gate_finish(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    while (gate->settling || gate->admitting)
        pthread_cond_wait(&gate->idle, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
    pthread_cond_destroy(&gate->idle);
    pthread_mutex_destroy(&gate->mutex);
}

/* Under the mutex. A change that goes in while a settle is owed goes alone. */
static void count_in(struct gate *gate, struct gate_waiter *waiter)
{
    gate->inside++;
    if (gate->owed && waiter->writes) {
        gate->shut = true;
        gate->probe = waiter;
    }
}

/*
 * Under the mutex, which it gives back for each resume(). Those who waited go in, up to one that must be
 * alone. When that one fails at once, on this very thread, the loop goes on with the next: no recursion.
 */
static void open_gate(struct gate *gate)
{
    gate->shut = gate->settling = false;
    if (gate->admitting)
        return;
    gate->admitting = true;
    while (gate->waiting.first && !gate->shut) {
        struct gate_waiter *waiter = queue_take(&gate->waiting);
        count_in(gate, waiter);
        pthread_mutex_unlock(&gate->mutex);
        waiter->resume(waiter);
        pthread_mutex_lock(&gate->mutex);
    }
    gate->admitting = false;
    pthread_cond_broadcast(&gate->idle);
}

/* Under the mutex, which it gives back. The gate may be gone once the last answer is given. */
static void settled(struct gate *gate, int result)
{
    struct gate_queue left;
    queue_init(&left);
    if (result == 0 && gate->proven)
        gate->owed = false;
    gate->unnoted = result < 0;
    gate->proven = false;
    queue_move(&gate->left, &left);
    open_gate(gate);
    pthread_mutex_unlock(&gate->mutex);

    for (struct gate_waiter *waiter = queue_take(&left); waiter; waiter = queue_take(&left))
        waiter->answer(waiter, result);
}

/* Again when something disturbed it; a failure too, since what has come may mend it. */
static void *settle_thread(void *data)
{
    struct gate *gate = data;
    int result;

    pthread_mutex_lock(&gate->mutex);
    do {
        gate->disturbed = false;
        pthread_mutex_unlock(&gate->mutex);
        result = gate->settle(gate->data);
        pthread_mutex_lock(&gate->mutex);
        if (result == 0)
            gate->changed_ms = 0;
    } while (gate->disturbed);
    settled(gate, result);
    return NULL;
}

/* Under the mutex. */
static bool was_changed(const struct gate *gate)
{
    return gate->unnoted || (gate->changed_ms && clock_monotonic_ms() - gate->changed_ms < NOTED_MS);
}

/*
 * Under the mutex. The gate is shut and nobody is inside: true when the caller is to settle(), once it
 * has given the mutex back. When nothing succeeded there is nothing to note, and the gate opens at once.
 */
static bool all_left(struct gate *gate)
{
    if (!gate->left.first && !was_changed(gate)) {
        open_gate(gate);
        return false;
    }
    return gate->settling = true;
}

/*
 * A thread only while there is something to settle: that is rare, and may take as long as a brick does. Never
 * on this one: it may be the one that brings what the settle waits for.
 */
static void settle(struct gate *gate)
{
    pthread_t thread;
    int number = pthread_create(&thread, NULL, settle_thread, gate);
    if (number == 0) {
        pthread_detach(thread);
        return;
    }
    pthread_mutex_lock(&gate->mutex);
    settled(gate, -number);
}

bool gate_enter(struct gate *gate, struct gate_waiter *waiter)
{
    scoped_lock(&gate->mutex);
    if (gate->shut) {
        queue_add(&gate->waiting, waiter);
        return false;
    }
    count_in(gate, waiter);
    return true;
}

bool gate_leave(struct gate *gate, struct gate_waiter *waiter, bool success)
{
    pthread_mutex_lock(&gate->mutex);
    bool held = gate->shut && success;
    if (held)
        queue_add(&gate->left, waiter);
    else if (success && waiter->writes)
        gate->changed_ms = clock_monotonic_ms();
    if (gate->probe == waiter) {
        gate->probe = NULL;
        gate->proven = success;
    }
    gate->inside--;
    bool begin = gate->shut && gate->inside == 0 && all_left(gate);
    pthread_mutex_unlock(&gate->mutex);
    if (begin)
        settle(gate);
    return !held;
}

void gate_disturb(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    gate->disturbed = gate->owed = true;
    gate->proven = false;
    if (gate->inside > 0 || was_changed(gate))
        gate->shut = true;
    bool begin = gate->shut && gate->inside == 0 && !gate->settling && all_left(gate);
    pthread_mutex_unlock(&gate->mutex);
    if (begin)
        settle(gate);
}
