/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * When a change may be answered that replicate has answered.
 *
 * Replicate answers a change once all bricks that it could lock have done it. That a brick was not among
 * them it notes on the others afterwards, before it gives its lock up. So an answer is held back until no
 * lock is held, of the kind and on the inode that it is about; changes that come meanwhile wait, or
 * replicate, which hands a lock on from one write to the next, would not give it up.
 *
 * Or the bricks have a note before they have the change: with the first request of replicate under its lock
 * goes one that the bricks without the lock are behind. It says so as long as the lock is held, since who
 * takes such notes away needs the lock for it. So nobody waits for changes under that lock.
 *
 * Nothing of that is needed while all bricks are there and lock what they are asked to lock: then what is
 * answered was done on all. A set of bricks is in unrest otherwise, and a change is held back if its set was
 * in unrest at any time from its beginning to its answer.
 *
 * This is the logic alone; it knows nothing of GlusterFS. Threads: any; nothing blocks.
 */
#ifndef BLOCKD_XLATORS_GATE_SETTLE_H
#define BLOCKD_XLATORS_GATE_SETTLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct settle_brick {
    bool up;
    uint64_t trouble; /* the sequence when it last came or went */
};

struct settle_set {
    size_t count; /* at most 64 */
    struct settle_brick *bricks;
    unsigned unrest;  /* bricks that are away or about to come, and spots that not all bricks have locked */
    uint64_t changed; /* the sequence of the last change of all this */
};

/* Of all sets of bricks below. */
struct settle {
    atomic_uint_fast64_t sequence;
    atomic_uint unrest;    /* the sum of the sets' */
    atomic_uint settling;  /* spots that are shut */
    pthread_mutex_t mutex; /* innermost; guards what is not atomic here, in the sets and in all spots */
    size_t count;
    struct settle_set *sets;
};

/* One change. `answer` and `retry` are called without the mutex. */
struct settle_change {
    void (*retry)(struct settle_change *change);              /* waited at settle_enter(): enters again */
    void (*answer)(struct settle_change *change, bool noted); /* waited at settle_leave() */
    uint64_t since;                                           /* the sequence when it began */
    struct settle_change *next;
};

struct settle_queue {
    struct settle_change *first, **last;
};

struct settle_locks {
    atomic_int held, asked;        /* locks that replicate has, and that it waits for */
    atomic_uint_fast64_t given_up; /* the sequence when the last one was */
    uint64_t without;              /* the bricks that refused their lock or did not take a note, as bits */
    atomic_uint_fast64_t holders;  /* bricks that gave their lock */
    atomic_bool overlaps;          /* a brick once gave a second lock meanwhile: holders tell nothing */
    /* Notes made ahead, under the locks that are held. */
    atomic_bool ahead;    /* whether there are such */
    uint64_t behind, has; /* the bricks that are in all of them, and those that have one */
    uint64_t noted;       /* the sequence when the first was sent */
};

/* Changes of one kind to one inode. */
struct settle_spot {
    atomic_bool watched; /* shut, or not all bricks of a set have locked it */
    bool shut;
    bool waking, again; /* see settle_wake() */
    struct settle_queue left, waiting;
    struct settle_locks *locks; /* one a set */
};

int settle_init(struct settle *settle, size_t sets); /* all bricks are away; 0 or -ENOMEM */
int settle_add_bricks(struct settle *settle, size_t set, size_t count);
void settle_clear(struct settle *settle);

/* ---- What bricks do. `coming` and `went` before replicate hears of it, `came` when it has heard ---- */

void settle_coming(struct settle *settle, size_t set, size_t brick);
void settle_came(struct settle *settle, size_t set, size_t brick);
void settle_went(struct settle *settle, size_t set, size_t brick);

/* ---- What replicate does. A spot's calls come with the lock's set ---- */

/* The caller gives the memory of the locks, zeroed, one a set. */
void settle_spot_init(struct settle_spot *spot, struct settle_locks *locks);
/* Nobody waits there and replicate has no lock there. */
void settle_spot_clear(struct settle *settle, struct settle_spot *spot);

void settle_asks(struct settle_spot *spot, size_t set);
void settle_locked(struct settle_spot *spot, size_t set, size_t brick);
/* Before replicate hears of a refusal that is no mere conflict. */
void settle_refused(struct settle *settle, struct settle_spot *spot, size_t set, size_t brick);
/* A brick did not take a note. Before replicate hears of it. */
void settle_failed(struct settle *settle, struct settle_spot *spot, size_t set, size_t brick);
/* It marks the file on a brick before a change. The bricks that the mark may note as behind, as bits; when
 * there are any, and it did so, settle_has_note() follows. */
uint64_t settle_ahead(struct settle *settle, struct settle_spot *spot, size_t set);
void settle_has_note(struct settle *settle, struct settle_spot *spot, size_t set, size_t brick);
/* When replicate has heard of a refusal or a conflict. */
void settle_heard(struct settle *settle, struct settle_spot *spot, size_t set);
/* It is about to give the lock up, and has noted what there was to note. */
void settle_gives_up(struct settle *settle, struct settle_spot *spot, size_t set, size_t brick);

/* ---- What changes do ---- */

/* Begins a change. False: it has to settle_enter() each of its spots first. */
static inline bool settle_begin(struct settle *settle, struct settle_change *change)
{
    change->since = atomic_load(&settle->sequence);
    return atomic_load(&settle->unrest) == 0 && atomic_load(&settle->settling) == 0;
}

/* Whether no set was in unrest since the change began: it may be answered. Else it settle_leave()s its spots,
 * one after the other. */
static inline bool settle_calm(struct settle *settle, const struct settle_change *change)
{
    return atomic_load(&settle->unrest) == 0 && atomic_load(&settle->sequence) == change->since;
}

/* False: it waits, and retry() will be called. */
bool settle_enter(struct settle *settle, struct settle_spot *spot, struct settle_change *change);

enum settle_result {
    SETTLE_NOTED,
    SETTLE_LOST, /* too few bricks were there throughout to note it: it must not count as done */
    SETTLE_WAIT, /* answer() will be called */
};

/* Replicate has answered with success. */
enum settle_result settle_leave(struct settle *settle, struct settle_spot *spot,
                                struct settle_change *change);

/*
 * Replicate keeps the lock of a write for a while, for the next one. Whoever holds back such an answer calls
 * this: true when it is to send a request by which replicate gives the lock up. When that has ended it calls
 * settle_woken(): true when one more is to be sent.
 */
bool settle_wake(struct settle *settle, struct settle_spot *spot);
bool settle_woken(struct settle *settle, struct settle_spot *spot);

#endif
