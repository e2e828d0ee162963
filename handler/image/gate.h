/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A gate that the requests of one image pass. When something has disturbed the replicas (a brick came or
 * went), the answers to the requests inside are held back, new ones wait, and when the last has ended
 * settle() runs on a thread of its own: it makes replicate note on the good bricks which ones are behind.
 * After it the answers are given and the waiting requests go on; what was read meanwhile is read again, since
 * it may come from a brick that is behind.
 *
 * A change that was answered a moment ago is settled as well: replicate notes it within a second or two, and
 * a brick may come back before that which the self-heal daemon made whole earlier, and which lacks that
 * change.
 *
 * A settle that fails (two bricks of three are away) leaves that to the next disturbance: before a brick that
 * comes is read from, what it may lack is noted.
 *
 * What is inside at the disturbance may have been done on all bricks, so that the settle had nothing to note.
 * Therefore the next change after a disturbance goes alone, and is settled before its answer, until one has
 * succeeded.
 *
 * Threads: any; nothing blocks but gate_finish().
 */
#ifndef BLOCKD_IMAGE_GATE_H
#define BLOCKD_IMAGE_GATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Part of what passes. Both functions run at most once, on the gate's thread. */
struct gate_waiter {
    void (*resume)(struct gate_waiter *waiter);             /* it waited, and is inside now */
    void (*answer)(struct gate_waiter *waiter, int result); /* it has left; `result` is the settle's */
    bool writes; /* changes data: its success proves that a settle notes who is behind */
    struct gate_waiter *next;
};

struct gate_queue {
    struct gate_waiter *first, **last;
};

struct gate {
    int (*settle)(void *data); /* nothing is inside meanwhile; 0, or a negative errno when it failed */
    void *data;

    pthread_mutex_t mutex;
    pthread_cond_t idle; /* no settle runs, and nobody is let in */
    unsigned inside;
    bool disturbed;     /* since the last settle began */
    bool owed;          /* no change that came after a disturbance was settled yet */
    bool unnoted;       /* the last settle failed: what it was for is still to be noted, however old it is */
    int64_t changed_ms; /* monotonic: when a change was last answered without a settle; 0: never */
    bool shut;          /* from the wish for a settle to its end */
    bool settling;
    bool admitting;            /* a thread lets in those who waited */
    struct gate_waiter *probe; /* the change that went in alone, until it has left */
    bool proven;               /* it has left, with success */
    struct gate_queue waiting, left;
};

void gate_init(struct gate *gate, int (*settle)(void *data), void *data);
/* Waits for a settle that runs. Nothing is inside or waits, and nothing comes any more. */
void gate_finish(struct gate *gate);

/* True: the caller is inside. False: it waits, and its resume() will be called. */
bool gate_enter(struct gate *gate, struct gate_waiter *waiter);
/* True: the caller may answer. False: its answer() will be called. What failed is never held back. */
bool gate_leave(struct gate *gate, struct gate_waiter *waiter, bool success);

/* The set of bricks has changed, or is about to. */
void gate_disturb(struct gate *gate);

#endif
