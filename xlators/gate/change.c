/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* A change on its way through the spots that it is about, and back. */
#include "xlators/gate/gate.h"

#include <errno.h>
#include <stdlib.h>

/* An answer's text where too few bricks were there: as replicate says it. */
#define LOST_ERROR ENOTCONN

static void retry(struct settle_change *change);
static void answer(struct settle_change *change, bool noted);

struct gate_change *gate_change_new(call_frame_t *frame, xlator_t *this, enum watch_lock kind, fd_t *fd,
                                    inode_t *first, inode_t *second)
{
    struct gate_change *change = calloc(1, sizeof *change);
    if (!change)
        return NULL;
    change->change.retry = retry;
    change->change.answer = answer;
    change->frame = frame;
    change->xlator = this;
    change->kind = kind;
    change->fd = fd ? fd_ref(fd) : NULL;
    change->inodes[0] = first ? inode_ref(first) : NULL;
    change->inodes[1] = second && second != first ? inode_ref(second) : NULL;
    frame->local = change;
    return change;
}

static void drop_answer(default_args_cbk_t *kept)
{
    if (kept && kept->fd)
        fd_unref(kept->fd);
    if (kept && kept->inode)
        inode_unref(kept->inode);
    if (kept && kept->xdata)
        dict_unref(kept->xdata);
    free(kept);
}

void gate_change_end(struct gate_change *change)
{
    change->frame->local = NULL;
    drop_answer(change->kept);
    for (size_t i = 0; i < GATE_SPOTS; i++)
        if (change->inodes[i])
            inode_unref(change->inodes[i]);
    if (change->fd)
        fd_unref(change->fd);
    free(change);
}

/* The spot of the next step; NULL after the last. */
static struct settle_spot *next_spot(struct gate_change *change)
{
    while (change->step < GATE_SPOTS) {
        inode_t *inode = change->fd && change->step == 0 ? change->fd->inode : change->inodes[change->step];
        struct settle_spot *spot = inode ? gate_spot(change->xlator, inode, change->kind) : NULL;
        if (spot)
            return spot;
        change->step++;
    }
    return NULL;
}

/* ---- In ---- */

/* When it had to wait for the second spot, the first may be shut again: no harm, it begins after all those
 * that are settled there. */
static void enter(struct gate_change *change)
{
    struct gate *gate = change->xlator->private;
    for (struct settle_spot *spot; (spot = next_spot(change)); change->step++)
        if (!settle_enter(&gate->settle, spot, &change->change)) {
            atomic_fetch_add(&gate->waited, 1);
            return;
        }
    call_stub_t *stub = change->stub;
    change->stub = NULL;
    change->step = 0;
    call_resume(stub);
}

static void retry(struct settle_change *change)
{
    enter((struct gate_change *)change);
}

void gate_change_enter(struct gate_change *change, call_stub_t *stub)
{
    change->stub = stub;
    enter(change);
}

/* ---- Out ---- */

static int32_t woken(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                     struct iatt *before, struct iatt *after, dict_t *xdata);

/* A sync that is said to be the last makes replicate give up the lock; a flush would, too, but must not come
 * beside a write (GlusterFS issue 4425). Takes the reference of the descriptor. */
static void send_wake(xlator_t *this, fd_t *fd)
{
    struct gate *gate = this->private;
    call_frame_t *frame = create_frame(this, this->ctx->pool);
    dict_t *xdata = dict_new();
    if (!frame || !xdata || dict_set_int8(xdata, (char *)"last-fsync", 1) != 0) {
        /* Replicate gives it up by itself after its delay. */
        settle_woken(&gate->settle, gate_spot(this, fd->inode, WATCH_DATA));
        if (frame)
            STACK_DESTROY(frame->root);
        fd_unref(fd);
    } else {
        atomic_fetch_add(&gate->woken, 1);
        frame->local = fd;
        STACK_WIND(frame, woken, FIRST_CHILD(this), FIRST_CHILD(this)->fops->fsync, fd, 1, xdata);
    }
    if (xdata)
        dict_unref(xdata);
}

static int32_t woken(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                     struct iatt *before, struct iatt *after, dict_t *xdata)
{
    (void)cookie;
    (void)op_ret;
    (void)op_errno;
    (void)before;
    (void)after;
    (void)xdata;
    struct gate *gate = this->private;
    fd_t *fd = frame->local;
    frame->local = NULL;
    STACK_DESTROY(frame->root);
    if (settle_woken(&gate->settle, gate_spot(this, fd->inode, WATCH_DATA)))
        send_wake(this, fd);
    else
        fd_unref(fd);
    return 0;
}

static void finish(struct gate_change *change)
{
    struct gate *gate = change->xlator->private;
    call_frame_t *frame = change->frame;
    default_args_cbk_t *kept = change->kept;
    gate_answer give = change->give;
    bool lost = change->lost;
    change->kept = NULL;
    gate_change_end(change);
    if (lost)
        atomic_fetch_add(&gate->lost, 1);
    give(frame, lost ? -1 : kept->op_ret, lost ? LOST_ERROR : kept->op_errno, kept);
    drop_answer(kept);
}

static void leave(struct gate_change *change)
{
    xlator_t *this = change->xlator;
    struct gate *gate = this->private;
    for (struct settle_spot *spot; (spot = next_spot(change)); change->step++) {
        /* Whoever settles the spot has the change from then on, and ends it. */
        bool wakes = change->fd && change->kind == WATCH_DATA && gate->delays;
        fd_t *fd = wakes ? fd_ref(change->fd) : NULL;
        enum settle_result result = settle_leave(&gate->settle, spot, &change->change);
        if (result == SETTLE_WAIT) {
            atomic_fetch_add(&gate->held, 1);
            if (fd && settle_wake(&gate->settle, spot))
                send_wake(this, fd);
            else if (fd)
                fd_unref(fd);
            return;
        }
        if (fd)
            fd_unref(fd);
        change->lost = change->lost || result == SETTLE_LOST;
    }
    finish(change);
}

static void answer(struct settle_change *settled, bool noted)
{
    struct gate_change *change = (struct gate_change *)settled;
    change->lost = change->lost || !noted;
    change->step++;
    leave(change);
}

void gate_change_leave(struct gate_change *change, gate_answer give)
{
    change->give = give;
    leave(change);
}
