/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Who has taken a lock may read what its last owner wrote. Replicate remembers which bricks are good for a
 * file until one comes or goes; that another client, whose connection to a brick broke, has noted since that
 * the brick is behind it does not see. So with the option `refresh` a file is looked up, by which replicate
 * learns of the notes, before a lock is answered.
 */
#include "xlators/gate/gate.h"

#include <errno.h>
#include <stdlib.h>

#include <glusterfs/defaults.h>

/* A lock that was granted, while its file is looked up. */
struct granted {
    fd_t *fd;
    loc_t loc;
    struct gf_flock lock;
    dict_t *xdata;
};

static void granted_free(struct granted *granted)
{
    loc_wipe(&granted->loc);
    fd_unref(granted->fd);
    if (granted->xdata)
        dict_unref(granted->xdata);
    free(granted);
}

/* Whether the look-up succeeds or not: what cannot be read now will not be read from a bad brick either. */
static int32_t looked_up(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                         inode_t *inode, struct iatt *state, dict_t *xdata, struct iatt *parent)
{
    (void)cookie;
    (void)op_ret;
    (void)op_errno;
    (void)inode;
    (void)state;
    (void)xdata;
    (void)parent;
    struct granted *granted = frame->local;
    frame->local = NULL;
    gate_answer_lock(frame, this, 0, 0, &granted->lock, granted->xdata);
    granted_free(granted);
    return 0;
}

static int32_t answered(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                        struct gf_flock *lock, dict_t *xdata)
{
    (void)cookie;
    gate_answer_lock(frame, this, op_ret, op_errno, lock, xdata);
    return 0;
}

static int32_t locked(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                      struct gf_flock *lock, dict_t *xdata)
{
    (void)cookie;
    struct granted *granted = frame->local;
    if (op_ret < 0) {
        frame->local = NULL;
        granted_free(granted);
        gate_answer_lock(frame, this, op_ret, op_errno, lock, xdata);
        return 0;
    }
    granted->lock = *lock;
    granted->xdata = xdata ? dict_ref(xdata) : NULL;
    granted->loc.inode = inode_ref(granted->fd->inode);
    gf_uuid_copy(granted->loc.gfid, granted->fd->inode->gfid);
    STACK_WIND(frame, looked_up, FIRST_CHILD(this), FIRST_CHILD(this)->fops->lookup, &granted->loc, NULL);
    return 0;
}

int32_t gate_lk(call_frame_t *frame, xlator_t *this, fd_t *fd, int32_t cmd, struct gf_flock *lock,
                dict_t *xdata)
{
    const struct gate *gate = this->private;
    bool takes = (cmd == F_SETLK || cmd == F_SETLKW) && lock->l_type != F_UNLCK;
    if (!gate->refresh || !takes) {
        STACK_WIND(frame, answered, FIRST_CHILD(this), FIRST_CHILD(this)->fops->lk, fd, cmd, lock, xdata);
        return 0;
    }
    struct granted *granted = calloc(1, sizeof *granted);
    if (!granted)
        return default_lk_failure_cbk(frame, ENOMEM);
    granted->fd = fd_ref(fd);
    frame->local = granted;
    STACK_WIND(frame, locked, FIRST_CHILD(this), FIRST_CHILD(this)->fops->lk, fd, cmd, lock, xdata);
    return 0;
}
