/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The requests that change something, each with its own signature. All is the same for all of them: it waits
 * where somebody's change is being settled, and its answer waits until it is settled itself. What failed is
 * answered at once.
 */
#include "xlators/gate/gate.h"

#include <errno.h>
#include <stdlib.h>

#include <glusterfs/default-args.h>
#include <glusterfs/defaults.h>

#define UNPACK(...) __VA_ARGS__

/*
 * `change` is the arguments of gate_change_new() after the translator; `in` and `args` are the request's
 * parameters and their names, `out` and `results` those of the answer, `kept` where they are kept.
 */
#define GATE(...) GATE_OF(__VA_ARGS__)
#define GATE_OF(fop, change, in, args, out, results, kept_results)                                           \
    static void gate_##fop##_answer(call_frame_t *frame, int32_t op_ret, int32_t op_errno,                   \
                                    default_args_cbk_t *kept)                                                \
    {                                                                                                        \
        STACK_UNWIND_STRICT(fop, frame, op_ret, op_errno, UNPACK kept_results);                              \
    }                                                                                                        \
                                                                                                             \
    static int32_t gate_##fop##_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret,       \
                                    int32_t op_errno, UNPACK out)                                            \
    {                                                                                                        \
        (void)cookie;                                                                                        \
        struct gate_change *one = frame->local;                                                              \
        if (!is_held(this, one, op_ret)) {                                                                   \
            gate_change_end(one);                                                                            \
            STACK_UNWIND_STRICT(fop, frame, op_ret, op_errno, UNPACK results);                               \
        } else if ((one->kept = calloc(1, sizeof *one->kept))) {                                             \
            args_##fop##_cbk_store(one->kept, op_ret, op_errno, UNPACK results);                             \
            gate_change_leave(one, gate_##fop##_answer);                                                     \
        } else {                                                                                             \
            gate_change_end(one);                                                                            \
            default_##fop##_failure_cbk(frame, ENOMEM);                                                      \
        }                                                                                                    \
        return 0;                                                                                            \
    }                                                                                                        \
                                                                                                             \
    static int32_t gate_##fop##_resume(call_frame_t *frame, xlator_t *this, UNPACK in)                       \
    {                                                                                                        \
        STACK_WIND(frame, gate_##fop##_cbk, FIRST_CHILD(this), FIRST_CHILD(this)->fops->fop, UNPACK args);   \
        return 0;                                                                                            \
    }                                                                                                        \
                                                                                                             \
    static int32_t gate_##fop(call_frame_t *frame, xlator_t *this, UNPACK in)                                \
    {                                                                                                        \
        call_stub_t *stub = NULL;                                                                            \
        struct gate_change *one = gate_change_new(frame, this, UNPACK change);                               \
        if (!one)                                                                                            \
            return default_##fop##_failure_cbk(frame, ENOMEM);                                               \
        if (begins(this, one))                                                                               \
            return gate_##fop##_resume(frame, this, UNPACK args);                                            \
        stub = fop_##fop##_stub(frame, gate_##fop##_resume, UNPACK args);                                    \
        if (stub) {                                                                                          \
            gate_change_enter(one, stub);                                                                    \
            return 0;                                                                                        \
        }                                                                                                    \
        gate_change_end(one);                                                                                \
        return default_##fop##_failure_cbk(frame, ENOMEM);                                                   \
    }

static bool begins(xlator_t *this, struct gate_change *change)
{
    struct gate *gate = this->private;
    return settle_begin(&gate->settle, &change->change);
}

static bool is_held(xlator_t *this, const struct gate_change *change, int32_t op_ret)
{
    struct gate *gate = this->private;
    return op_ret >= 0 && !settle_calm(&gate->settle, &change->change);
}

/* ---- Answers ---- */

#define NO_STATE (dict_t * xdata), (xdata), (kept->xdata)
#define FILE_STATES                                                                                          \
    (struct iatt * before, struct iatt * after, dict_t * xdata), (before, after, xdata),                     \
        (&kept->prestat, &kept->poststat, kept->xdata)
#define FOLDER_STATES                                                                                        \
    (struct iatt * before, struct iatt * after, dict_t * xdata), (before, after, xdata),                     \
        (&kept->preparent, &kept->postparent, kept->xdata)
#define NEW_NAME                                                                                             \
    (inode_t * inode, struct iatt * state, struct iatt * before, struct iatt * after, dict_t * xdata),       \
        (inode, state, before, after, xdata),                                                                \
        (kept->inode, &kept->stat, &kept->preparent, &kept->postparent, kept->xdata)

/* ---- Data ---- */

GATE(writev, (WATCH_DATA, fd, NULL, NULL),
     (fd_t * fd, struct iovec *vector, int32_t count, off_t offset, uint32_t flags, struct iobref *buffers,
      dict_t *xdata),
     (fd, vector, count, offset, flags, buffers, xdata), FILE_STATES)
GATE(fsync, (WATCH_DATA, fd, NULL, NULL), (fd_t * fd, int32_t data_only, dict_t *xdata),
     (fd, data_only, xdata), FILE_STATES)
GATE(truncate, (WATCH_DATA, NULL, loc->inode, NULL), (loc_t * loc, off_t offset, dict_t *xdata),
     (loc, offset, xdata), FILE_STATES)
GATE(ftruncate, (WATCH_DATA, fd, NULL, NULL), (fd_t * fd, off_t offset, dict_t *xdata), (fd, offset, xdata),
     FILE_STATES)
GATE(fallocate, (WATCH_DATA, fd, NULL, NULL),
     (fd_t * fd, int32_t keep_size, off_t offset, size_t length, dict_t *xdata),
     (fd, keep_size, offset, length, xdata), FILE_STATES)
GATE(discard, (WATCH_DATA, fd, NULL, NULL), (fd_t * fd, off_t offset, size_t length, dict_t *xdata),
     (fd, offset, length, xdata), FILE_STATES)
GATE(zerofill, (WATCH_DATA, fd, NULL, NULL), (fd_t * fd, off_t offset, off_t length, dict_t *xdata),
     (fd, offset, length, xdata), FILE_STATES)
GATE(open, (WATCH_DATA, NULL, flags &O_TRUNC ? loc->inode : NULL, NULL),
     (loc_t * loc, int32_t flags, fd_t *fd, dict_t *xdata), (loc, flags, fd, xdata),
     (fd_t * fd, dict_t *xdata), (fd, xdata), (kept->fd, kept->xdata))

/* ---- Attributes ---- */

GATE(setattr, (WATCH_METADATA, NULL, loc->inode, NULL),
     (loc_t * loc, struct iatt *wanted, int32_t valid, dict_t *xdata), (loc, wanted, valid, xdata),
     FILE_STATES)
GATE(fsetattr, (WATCH_METADATA, fd, NULL, NULL),
     (fd_t * fd, struct iatt *wanted, int32_t valid, dict_t *xdata), (fd, wanted, valid, xdata), FILE_STATES)
GATE(setxattr, (WATCH_METADATA, NULL, loc->inode, NULL),
     (loc_t * loc, dict_t *dict, int32_t flags, dict_t *xdata), (loc, dict, flags, xdata), NO_STATE)
GATE(fsetxattr, (WATCH_METADATA, fd, NULL, NULL), (fd_t * fd, dict_t *dict, int32_t flags, dict_t *xdata),
     (fd, dict, flags, xdata), NO_STATE)
GATE(removexattr, (WATCH_METADATA, NULL, loc->inode, NULL), (loc_t * loc, const char *name, dict_t *xdata),
     (loc, name, xdata), NO_STATE)
GATE(fremovexattr, (WATCH_METADATA, fd, NULL, NULL), (fd_t * fd, const char *name, dict_t *xdata),
     (fd, name, xdata), NO_STATE)

/* ---- Names ---- */

GATE(create, (WATCH_ENTRY, NULL, loc->parent, NULL),
     (loc_t * loc, int32_t flags, mode_t mode, mode_t umask, fd_t *fd, dict_t *xdata),
     (loc, flags, mode, umask, fd, xdata),
     (fd_t * fd, inode_t *inode, struct iatt *state, struct iatt *before, struct iatt *after, dict_t *xdata),
     (fd, inode, state, before, after, xdata),
     (kept->fd, kept->inode, &kept->stat, &kept->preparent, &kept->postparent, kept->xdata))
GATE(mknod, (WATCH_ENTRY, NULL, loc->parent, NULL),
     (loc_t * loc, mode_t mode, dev_t device, mode_t umask, dict_t *xdata), (loc, mode, device, umask, xdata),
     NEW_NAME)
GATE(mkdir, (WATCH_ENTRY, NULL, loc->parent, NULL), (loc_t * loc, mode_t mode, mode_t umask, dict_t *xdata),
     (loc, mode, umask, xdata), NEW_NAME)
GATE(symlink, (WATCH_ENTRY, NULL, loc->parent, NULL),
     (const char *target, loc_t *loc, mode_t umask, dict_t *xdata), (target, loc, umask, xdata), NEW_NAME)
GATE(link, (WATCH_ENTRY, NULL, to->parent, NULL), (loc_t * from, loc_t *to, dict_t *xdata), (from, to, xdata),
     NEW_NAME)
GATE(unlink, (WATCH_ENTRY, NULL, loc->parent, NULL), (loc_t * loc, int flags, dict_t *xdata),
     (loc, flags, xdata), FOLDER_STATES)
GATE(rmdir, (WATCH_ENTRY, NULL, loc->parent, NULL), (loc_t * loc, int flags, dict_t *xdata),
     (loc, flags, xdata), FOLDER_STATES)
GATE(rename, (WATCH_ENTRY, NULL, from->parent, to->parent), (loc_t * from, loc_t *to, dict_t *xdata),
     (from, to, xdata),
     (struct iatt * state, struct iatt *before, struct iatt *after, struct iatt *to_before,
      struct iatt *to_after, dict_t *xdata),
     (state, before, after, to_before, to_after, xdata),
     (&kept->stat, &kept->preparent, &kept->postparent, &kept->preparent2, &kept->postparent2, kept->xdata))

struct xlator_fops gate_fops = {
    .lk = gate_lk,
    .writev = gate_writev,
    .fsync = gate_fsync,
    .truncate = gate_truncate,
    .ftruncate = gate_ftruncate,
    .fallocate = gate_fallocate,
    .discard = gate_discard,
    .zerofill = gate_zerofill,
    .open = gate_open,
    .setattr = gate_setattr,
    .fsetattr = gate_fsetattr,
    .setxattr = gate_setxattr,
    .fsetxattr = gate_fsetxattr,
    .removexattr = gate_removexattr,
    .fremovexattr = gate_fremovexattr,
    .create = gate_create,
    .mknod = gate_mknod,
    .mkdir = gate_mkdir,
    .symlink = gate_symlink,
    .link = gate_link,
    .unlink = gate_unlink,
    .rmdir = gate_rmdir,
    .rename = gate_rename,
};
