/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/image/gate.h"

#include <stddef.h>

#include "rpc/base/cleanup.h"

void gate_init(struct gate *gate, void (*settle)(void *data), void *data)
{
    *gate = (struct gate){.settle = settle, .data = data};
    pthread_mutex_init(&gate->mutex, NULL);
    pthread_cond_init(&gate->idle, NULL);
    gate->last = &gate->first;
}

void gate_finish(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    while (gate->settling)
        pthread_cond_wait(&gate->idle, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
    pthread_cond_destroy(&gate->idle);
    pthread_mutex_destroy(&gate->mutex);
}

/* Once `settling` is false and nothing is inside, the gate may be gone: the waiters are counted in before. */
static void open_gate(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    struct gate_waiter *waiter = gate->first;
    gate->first = NULL;
    gate->last = &gate->first;
    for (struct gate_waiter *w = waiter; w; w = w->next)
        gate->inside++;
    gate->used = waiter != NULL;
    gate->shut = gate->settling = false;
    pthread_cond_broadcast(&gate->idle);
    pthread_mutex_unlock(&gate->mutex);

    while (waiter) {
        struct gate_waiter *next = waiter->next;
        waiter->resume(waiter);
        waiter = next;
    }
}

static void *settle_thread(void *data)
{
    struct gate *gate = data;
    gate->settle(gate->data);
    open_gate(gate);
    return NULL;
}

/* A thread only while there is something to settle: that is rare, and may take as long as a brick does. */
static void run_settle(struct gate *gate)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, settle_thread, gate) == 0)
        pthread_detach(thread);
    else
        open_gate(gate);
}

/* Under the mutex: whether the caller is to run_settle() after it. */
static bool begins(struct gate *gate)
{
    if (!gate->shut || gate->settling || gate->inside > 0)
        return false;
    gate->settling = true;
    return true;
}

bool gate_enter(struct gate *gate, struct gate_waiter *waiter)
{
    scoped_lock(&gate->mutex);
    if (gate->shut) {
        waiter->next = NULL;
        *gate->last = waiter;
        gate->last = &waiter->next;
        return false;
    }
    gate->inside++;
    gate->used = true;
    gate->shut = gate->owed;
    gate->owed = false;
    return true;
}

void gate_leave(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    gate->inside--;
    bool begin = begins(gate);
    pthread_mutex_unlock(&gate->mutex);
    if (begin)
        run_settle(gate);
}

void gate_settle(struct gate *gate, bool owe)
{
    pthread_mutex_lock(&gate->mutex);
    gate->shut = gate->shut || gate->used;
    gate->owed = owe && !gate->shut;
    bool begin = begins(gate);
    pthread_mutex_unlock(&gate->mutex);
    if (begin)
        run_settle(gate);
}
