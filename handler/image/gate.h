/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A gate before the changes of one image. When it is asked to, it holds new changes back, waits for those
 * inside to end, runs settle() on a thread of its own, and lets the waiting ones go on. Any thread; nothing
 * here blocks but gate_finish().
 */
#ifndef BLOCKD_IMAGE_GATE_H
#define BLOCKD_IMAGE_GATE_H

#include <pthread.h>
#include <stdbool.h>

/* Part of what waits at the gate; resume() runs on the gate's thread once it is inside. */
struct gate_waiter {
    void (*resume)(struct gate_waiter *waiter);
    struct gate_waiter *next;
};

struct gate {
    void (*settle)(void *data); /* nothing is inside meanwhile */
    void *data;

    pthread_mutex_t mutex;
    pthread_cond_t idle; /* no settle runs */
    unsigned inside;
    bool used; /* something was inside since the last settle */
    bool owed; /* settle as soon as something was inside */
    bool shut; /* from the request to the end of its settle */
    bool settling;
    struct gate_waiter *first, **last;
};

void gate_init(struct gate *gate, void (*settle)(void *data), void *data);
/* Waits for a settle that runs. Nothing is inside or waits, and nothing comes any more. */
void gate_finish(struct gate *gate);

/* True: the caller is inside. False: it waits, and its resume() will be called. */
bool gate_enter(struct gate *gate, struct gate_waiter *waiter);
void gate_leave(struct gate *gate);

/* Asks for a settle. Where nothing was inside since the last one, there is nothing to settle yet; with `owe`,
 * what comes next is settled. */
void gate_settle(struct gate *gate, bool owe);

#endif
