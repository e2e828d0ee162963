/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Stands between replicate and each of its bricks' clients, and tells of a connection that comes or goes
 * before it tells replicate: the program, or a translator above, and that one also of the locks that
 * replicate takes and gives up. All requests pass.
 */
#include "xlators/abi.h"

#include <arpa/inet.h>

#include <glusterfs/defaults.h>

#include "xlators/watch/listener.h"
#include "xlators/watch/watch.h"

/* Resolved from the program, when it has it. */
#pragma weak blockd_brick_event

/* Replicate's mark of a file that it is about to change: counts of changes to data, attributes, names. */
#define DIRTY_XATTR  "trusted.afr.dirty"
#define DIRTY_COUNTS 3

/* Replicate locks the end of a file's range for its attributes, and all of it for its data. */
#define METADATA_START (LLONG_MAX - 2)

static int32_t watch_init(xlator_t *this)
{
    if (!this->children || this->children->next || !this->parents) {
        gf_log(this->name, GF_LOG_ERROR, "needs one translator below and one above");
        return -1;
    }
    return 0;
}

static void watch_fini(xlator_t *this)
{
    this->private = NULL; /* the listener's */
}

static int32_t watch_notify(xlator_t *this, int32_t event, void *data, ...)
{
    struct watch_listener *listener = this->private;
    bool up = event == GF_EVENT_CHILD_UP, down = event == GF_EVENT_CHILD_DOWN;
    if ((up || down) && blockd_brick_event)
        blockd_brick_event(this->name);
    if (listener && up)
        listener->calls->coming(listener);
    if (listener && down)
        listener->calls->went(listener);
    int32_t r = default_notify(this, event, data);
    /* What needs the brick that has come had to fail before replicate knew of it. */
    if (up && blockd_brick_event)
        blockd_brick_event(this->name);
    if (listener && up)
        listener->calls->came(listener);
    return r;
}

/* ---- Locks ---- */

/* NULL: nobody listens, or the lock is another's than replicate's for a change. */
static struct watch_listener *listens(const xlator_t *this, const char *domain)
{
    struct watch_listener *listener = this->private;
    return listener && domain && strcmp(domain, listener->domain) == 0 ? listener : NULL;
}

/* The cookie of a lock is its inode: replicate keeps that until it has the answer. */
static void answer_lock(call_frame_t *frame, inode_t *inode, struct watch_listener *listener,
                        enum watch_lock kind, int32_t op_ret, int32_t op_errno, dict_t *xdata)
{
    if (op_ret >= 0 || !listener) { /* none: it has ended */
        if (listener)
            listener->calls->locked(listener, inode, kind);
        STACK_UNWIND_STRICT(inodelk, frame, op_ret, op_errno, xdata);
        return;
    }
    inode_ref(inode);
    if (op_errno != EAGAIN)
        listener->calls->refused(listener, inode, kind);
    STACK_UNWIND_STRICT(inodelk, frame, op_ret, op_errno, xdata);
    listener->calls->heard(listener, inode, kind);
    inode_unref(inode);
}

static int32_t data_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                        dict_t *xdata)
{
    answer_lock(frame, cookie, this->private, WATCH_DATA, op_ret, op_errno, xdata);
    return 0;
}

static int32_t metadata_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret,
                            int32_t op_errno, dict_t *xdata)
{
    answer_lock(frame, cookie, this->private, WATCH_METADATA, op_ret, op_errno, xdata);
    return 0;
}

static int32_t entry_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                         dict_t *xdata)
{
    answer_lock(frame, cookie, this->private, WATCH_ENTRY, op_ret, op_errno, xdata);
    return 0;
}

static enum watch_lock kind_of(const struct gf_flock *lock)
{
    return lock->l_start >= METADATA_START ? WATCH_METADATA : WATCH_DATA;
}

/* True: the answer is to come back here. */
static bool announce(const xlator_t *this, const char *domain, inode_t *inode, enum watch_lock kind,
                     bool unlock)
{
    struct watch_listener *listener = listens(this, domain);
    if (listener && unlock)
        listener->calls->gives_up(listener, inode, kind);
    if (!listener || unlock)
        return false;
    listener->calls->asks(listener, inode, kind);
    return true;
}

static int32_t watch_inodelk(call_frame_t *frame, xlator_t *this, const char *volume, loc_t *loc, int32_t cmd,
                             struct gf_flock *lock, dict_t *xdata)
{
    enum watch_lock kind = kind_of(lock);
    if (announce(this, volume, loc->inode, kind, lock->l_type == F_UNLCK))
        STACK_WIND_COOKIE(frame, kind == WATCH_DATA ? data_cbk : metadata_cbk, loc->inode, FIRST_CHILD(this),
                          FIRST_CHILD(this)->fops->inodelk, volume, loc, cmd, lock, xdata);
    else
        STACK_WIND_TAIL(frame, FIRST_CHILD(this), FIRST_CHILD(this)->fops->inodelk, volume, loc, cmd, lock,
                        xdata);
    return 0;
}

static int32_t watch_finodelk(call_frame_t *frame, xlator_t *this, const char *volume, fd_t *fd, int32_t cmd,
                              struct gf_flock *lock, dict_t *xdata)
{
    enum watch_lock kind = kind_of(lock);
    if (announce(this, volume, fd->inode, kind, lock->l_type == F_UNLCK))
        STACK_WIND_COOKIE(frame, kind == WATCH_DATA ? data_cbk : metadata_cbk, fd->inode, FIRST_CHILD(this),
                          FIRST_CHILD(this)->fops->finodelk, volume, fd, cmd, lock, xdata);
    else
        STACK_WIND_TAIL(frame, FIRST_CHILD(this), FIRST_CHILD(this)->fops->finodelk, volume, fd, cmd, lock,
                        xdata);
    return 0;
}

static int32_t watch_entrylk(call_frame_t *frame, xlator_t *this, const char *volume, loc_t *loc,
                             const char *name, entrylk_cmd cmd, entrylk_type type, dict_t *xdata)
{
    if (announce(this, volume, loc->inode, WATCH_ENTRY, cmd == ENTRYLK_UNLOCK))
        STACK_WIND_COOKIE(frame, entry_cbk, loc->inode, FIRST_CHILD(this), FIRST_CHILD(this)->fops->entrylk,
                          volume, loc, name, cmd, type, xdata);
    else
        STACK_WIND_TAIL(frame, FIRST_CHILD(this), FIRST_CHILD(this)->fops->entrylk, volume, loc, name, cmd,
                        type, xdata);
    return 0;
}

static int32_t watch_fentrylk(call_frame_t *frame, xlator_t *this, const char *volume, fd_t *fd,
                              const char *name, entrylk_cmd cmd, entrylk_type type, dict_t *xdata)
{
    if (announce(this, volume, fd->inode, WATCH_ENTRY, cmd == ENTRYLK_UNLOCK))
        STACK_WIND_COOKIE(frame, entry_cbk, fd->inode, FIRST_CHILD(this), FIRST_CHILD(this)->fops->fentrylk,
                          volume, fd, name, cmd, type, xdata);
    else
        STACK_WIND_TAIL(frame, FIRST_CHILD(this), FIRST_CHILD(this)->fops->fentrylk, volume, fd, name, cmd,
                        type, xdata);
    return 0;
}

/* ---- Notes ---- */

static int32_t note_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                        dict_t *dict, dict_t *xdata)
{
    struct watch_listener *listener = this->private;
    if (op_ret < 0 && listener && cookie)
        listener->calls->failed(listener, cookie);
    STACK_UNWIND_STRICT(xattrop, frame, op_ret, op_errno, dict, xdata);
    return 0;
}

static int32_t mark_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                        dict_t *dict, dict_t *xdata)
{
    struct watch_listener *listener = this->private;
    if (op_ret >= 0 && listener)
        listener->calls->marked(listener, cookie);
    return note_cbk(frame, cookie, this, op_ret, op_errno, dict, xdata);
}

/* Before a change of data; after it the mark is taken away by the same request, with other numbers. */
static bool is_mark(gf_xattrop_flags_t flags, dict_t *dict)
{
    int32_t *counts = NULL;
    int length = 0;
    return flags == GF_XATTROP_ADD_ARRAY &&
           dict_get_ptr_and_len(dict, (char *)DIRTY_XATTR, (void **)&counts, &length) == 0 &&
           length == DIRTY_COUNTS * (int)sizeof counts[0] && ntohl((uint32_t)counts[0]) == 1;
}

/* NULL: what replicate asks for is right. */
static dict_t *other_marks(const xlator_t *this, inode_t *inode, gf_xattrop_flags_t flags, dict_t *dict)
{
    struct watch_listener *listener = this->private;
    return inode && is_mark(flags, dict) ? listener->calls->marks(listener, inode, dict) : NULL;
}

static int32_t watch_xattrop(call_frame_t *frame, xlator_t *this, loc_t *loc, gf_xattrop_flags_t flags,
                             dict_t *dict, dict_t *xdata)
{
    dict_t *other = this->private ? other_marks(this, loc->inode, flags, dict) : NULL;
    if (this->private)
        STACK_WIND_COOKIE(frame, other ? mark_cbk : note_cbk, loc->inode, FIRST_CHILD(this),
                          FIRST_CHILD(this)->fops->xattrop, loc, flags, other ? other : dict, xdata);
    else
        STACK_WIND_TAIL(frame, FIRST_CHILD(this), FIRST_CHILD(this)->fops->xattrop, loc, flags, dict, xdata);
    if (other)
        dict_unref(other);
    return 0;
}

static int32_t watch_fxattrop(call_frame_t *frame, xlator_t *this, fd_t *fd, gf_xattrop_flags_t flags,
                              dict_t *dict, dict_t *xdata)
{
    dict_t *other = this->private ? other_marks(this, fd->inode, flags, dict) : NULL;
    if (this->private)
        STACK_WIND_COOKIE(frame, other ? mark_cbk : note_cbk, fd->inode, FIRST_CHILD(this),
                          FIRST_CHILD(this)->fops->fxattrop, fd, flags, other ? other : dict, xdata);
    else
        STACK_WIND_TAIL(frame, FIRST_CHILD(this), FIRST_CHILD(this)->fops->fxattrop, fd, flags, dict, xdata);
    if (other)
        dict_unref(other);
    return 0;
}

static struct xlator_fops watch_fops = {
    .inodelk = watch_inodelk,
    .finodelk = watch_finodelk,
    .entrylk = watch_entrylk,
    .fentrylk = watch_fentrylk,
    .xattrop = watch_xattrop,
    .fxattrop = watch_fxattrop,
};
static struct xlator_cbks watch_cbks;
static struct volume_options watch_options[] = {{.key = {NULL}}};

xlator_api_t xlator_api = {
    .init = watch_init,
    .fini = watch_fini,
    .notify = watch_notify,
    .op_version = {1},
    .fops = &watch_fops,
    .cbks = &watch_cbks,
    .options = watch_options,
    .identifier = "watch",
    .category = GF_EXPERIMENTAL,
};
