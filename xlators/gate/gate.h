/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What the files of this translator share. */
#ifndef BLOCKD_XLATORS_GATE_GATE_H
#define BLOCKD_XLATORS_GATE_GATE_H

#include "xlators/abi.h"

#include <glusterfs/call-stub.h>

#include "xlators/gate/settle.h"
#include "xlators/watch/listener.h"

#define GATE_KINDS (WATCH_ENTRY + 1)
/* A rename is about two folders. */
#define GATE_SPOTS 2

struct gate_listener;
struct gate_lock_answer;

/* Answers to locks, on their way to the mount. */
struct gate_answers {
    pthread_mutex_t mutex; /* innermost; guards what follows */
    pthread_cond_t more;
    struct gate_lock_answer *first, **last;
    pthread_t thread;
    bool running, ending;
};

struct gate {
    struct settle settle;
    struct gate_answers answers;
    struct gate_listener *listeners;
    size_t listener_count;
    gf_boolean_t refresh;                           /* look a file up when it is locked */
    bool delays;                                    /* replicate keeps the lock of a write for a while */
    atomic_uint_fast64_t held, waited, woken, lost; /* what happened since the start, for dumps */
};

/* The spot, made when it is not there; NULL without memory. It lives as long as the inode. */
struct settle_spot *gate_spot(xlator_t *this, inode_t *inode, enum watch_lock kind);

/* ---- Changes (change.c) ---- */

/* Gives the answer that was kept. */
typedef void (*gate_answer)(call_frame_t *frame, int32_t op_ret, int32_t op_errno, default_args_cbk_t *kept);

struct gate_change {
    struct settle_change change; /* first, for what the logic calls */
    call_frame_t *frame;
    xlator_t *xlator;
    enum watch_lock kind;
    fd_t *fd;                    /* what it is about, or NULL and */
    inode_t *inodes[GATE_SPOTS]; /* these; all are referenced, and each may be NULL */
    size_t step;                 /* spots that it has entered or left */
    bool lost;
    call_stub_t *stub;        /* the request, while it waits */
    default_args_cbk_t *kept; /* the answer, while it is held back */
    gate_answer give;
};

/* Puts a new change into the frame; NULL without memory. */
struct gate_change *gate_change_new(call_frame_t *frame, xlator_t *this, enum watch_lock kind, fd_t *fd,
                                    inode_t *first, inode_t *second);
/* Takes the change out of its frame. */
void gate_change_end(struct gate_change *change);
/* Takes the stub, which resumes the request when the change may begin. */
void gate_change_enter(struct gate_change *change, call_stub_t *stub);
/* The answer is kept, and is given when the change is settled. */
void gate_change_leave(struct gate_change *change, gate_answer give);

/* ---- Locks (answers.c, refresh.c) ---- */

void gate_answers_init(struct gate_answers *answers);
/* No request is under way. */
void gate_answers_end(struct gate_answers *answers);
/* Unwinds, on another thread. */
void gate_answer_lock(call_frame_t *frame, xlator_t *this, int32_t op_ret, int32_t op_errno,
                      struct gf_flock *lock, dict_t *xdata);

int32_t gate_lk(call_frame_t *frame, xlator_t *this, fd_t *fd, int32_t cmd, struct gf_flock *lock,
                dict_t *xdata);

extern struct xlator_fops gate_fops; /* in fops.c */

#endif
