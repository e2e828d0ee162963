/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * In a mount: remembers what the bricks said of a folder with their answer to a change in it. The kernel
 * forgets a folder's attributes at each change of its own there and asks for them at its next step, which
 * would take a round trip for each file that is made or removed.
 *
 * An answer is given once, for a moment, and only when nothing else of this mount was changing the folder
 * from the beginning of that change until the question: so it is what the kernel would have kept, had the
 * answer to the change told it.
 */
#include "xlators/abi.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include <glusterfs/defaults.h>

#define KEPT_MS 50

/* Of an inode that is, or was taken for, a folder; under the mutex. */
struct folder {
    unsigned changing; /* requests under way that change it */
    bool overlap;      /* they were two at a time since the last moment without any */
    bool known;
    struct iatt attributes;
    int64_t until_ms;
};

struct parents {
    pthread_mutex_t mutex;
    bool keep;
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Under the mutex; NULL when it has none, or none can be made. */
static struct folder *folder_of(xlator_t *this, inode_t *inode, bool make)
{
    uint64_t value = 0;
    if (!inode)
        return NULL;
    if (inode_ctx_get(inode, this, &value) == 0 && value)
        return (struct folder *)(uintptr_t)value;
    struct folder *folder = make ? calloc(1, sizeof *folder) : NULL;
    if (!folder)
        return NULL;
    value = (uint64_t)(uintptr_t)folder;
    if (inode_ctx_set(inode, this, &value) != 0) {
        free(folder);
        return NULL;
    }
    return folder;
}

/* The inode, held until change_ends(): the cookie of the request. */
static inode_t *change_begins(xlator_t *this, inode_t *inode)
{
    struct parents *parents = this->private;
    if (!inode)
        return NULL;
    pthread_mutex_lock(&parents->mutex);
    struct folder *folder = folder_of(this, inode, true);
    if (folder) {
        folder->known = false;
        folder->overlap = folder->changing++ > 0 || folder->overlap;
    }
    pthread_mutex_unlock(&parents->mutex);
    /* Without a note of the change nothing may be remembered, so that it ends as it began: with none. */
    return folder ? inode_ref(inode) : NULL;
}

/* `attributes` is what the bricks said of the folder after the change; NULL: nothing, or it failed. */
static void change_ends(xlator_t *this, inode_t *inode, struct iatt *attributes)
{
    struct parents *parents = this->private;
    if (!inode)
        return;
    pthread_mutex_lock(&parents->mutex);
    struct folder *folder = folder_of(this, inode, false);
    folder->known = parents->keep && attributes && !folder->overlap && IA_ISDIR(attributes->ia_type) &&
                    gf_uuid_compare(attributes->ia_gfid, inode->gfid) == 0;
    if (folder->known) {
        folder->attributes = *attributes;
        folder->until_ms = now_ms() + KEPT_MS;
    }
    if (--folder->changing == 0)
        folder->overlap = false;
    pthread_mutex_unlock(&parents->mutex);
    inode_unref(inode);
}

static bool take(xlator_t *this, inode_t *inode, struct iatt *ret_attributes)
{
    struct parents *parents = this->private;
    pthread_mutex_lock(&parents->mutex);
    struct folder *folder = folder_of(this, inode, false);
    bool known = folder && folder->known && folder->changing == 0 && now_ms() < folder->until_ms;
    if (known)
        *ret_attributes = folder->attributes;
    if (folder)
        folder->known = false;
    pthread_mutex_unlock(&parents->mutex);
    return known;
}

static int32_t parents_stat(call_frame_t *frame, xlator_t *this, loc_t *loc, dict_t *xdata)
{
    struct iatt attributes;
    if (take(this, loc->inode, &attributes)) {
        STACK_UNWIND_STRICT(stat, frame, 0, 0, &attributes, NULL);
        return 0;
    }
    return default_stat(frame, this, loc, xdata);
}

/* ---- What makes a name ---- */

static int32_t create_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                          fd_t *fd, inode_t *inode, struct iatt *buf, struct iatt *before, struct iatt *after,
                          dict_t *xdata)
{
    change_ends(this, cookie, op_ret >= 0 ? after : NULL);
    STACK_UNWIND_STRICT(create, frame, op_ret, op_errno, fd, inode, buf, before, after, xdata);
    return 0;
}

static int32_t parents_create(call_frame_t *frame, xlator_t *this, loc_t *loc, int32_t flags, mode_t mode,
                              mode_t umask, fd_t *fd, dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, create_cbk, change_begins(this, loc->parent), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->create, loc, flags, mode, umask, fd, xdata);
    return 0;
}

/* The four that answer alike. */
#define NAME_CBK(fop)                                                                                        \
    static int32_t fop##_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret,              \
                             int32_t op_errno, inode_t *inode, struct iatt *buf, struct iatt *before,        \
                             struct iatt *after, dict_t *xdata)                                              \
    {                                                                                                        \
        change_ends(this, cookie, op_ret >= 0 ? after : NULL);                                               \
        STACK_UNWIND_STRICT(fop, frame, op_ret, op_errno, inode, buf, before, after, xdata);                 \
        return 0;                                                                                            \
    }

NAME_CBK(mknod)
NAME_CBK(mkdir)
NAME_CBK(symlink)
NAME_CBK(link)

static int32_t parents_mknod(call_frame_t *frame, xlator_t *this, loc_t *loc, mode_t mode, dev_t rdev,
                             mode_t umask, dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, mknod_cbk, change_begins(this, loc->parent), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->mknod, loc, mode, rdev, umask, xdata);
    return 0;
}

static int32_t parents_mkdir(call_frame_t *frame, xlator_t *this, loc_t *loc, mode_t mode, mode_t umask,
                             dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, mkdir_cbk, change_begins(this, loc->parent), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->mkdir, loc, mode, umask, xdata);
    return 0;
}

static int32_t parents_symlink(call_frame_t *frame, xlator_t *this, const char *target, loc_t *loc,
                               mode_t umask, dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, symlink_cbk, change_begins(this, loc->parent), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->symlink, target, loc, umask, xdata);
    return 0;
}

static int32_t parents_link(call_frame_t *frame, xlator_t *this, loc_t *old, loc_t *new, dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, link_cbk, change_begins(this, new->parent), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->link, old, new, xdata);
    return 0;
}

/* ---- What takes one away ---- */

static int32_t unlink_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                          struct iatt *before, struct iatt *after, dict_t *xdata)
{
    change_ends(this, cookie, op_ret >= 0 ? after : NULL);
    STACK_UNWIND_STRICT(unlink, frame, op_ret, op_errno, before, after, xdata);
    return 0;
}

static int32_t parents_unlink(call_frame_t *frame, xlator_t *this, loc_t *loc, int flags, dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, unlink_cbk, change_begins(this, loc->parent), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->unlink, loc, flags, xdata);
    return 0;
}

static int32_t rmdir_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                         struct iatt *before, struct iatt *after, dict_t *xdata)
{
    change_ends(this, cookie, op_ret >= 0 ? after : NULL);
    STACK_UNWIND_STRICT(rmdir, frame, op_ret, op_errno, before, after, xdata);
    return 0;
}

static int32_t parents_rmdir(call_frame_t *frame, xlator_t *this, loc_t *loc, int flags, dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, rmdir_cbk, change_begins(this, loc->parent), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->rmdir, loc, flags, xdata);
    return 0;
}

/* Of two folders, which may be one: nothing is remembered of either. */
static int32_t rename_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret, int32_t op_errno,
                          struct iatt *buf, struct iatt *old_before, struct iatt *old_after,
                          struct iatt *new_before, struct iatt *new_after, dict_t *xdata)
{
    inode_t *other = frame->local;
    frame->local = NULL;
    change_ends(this, cookie, NULL);
    change_ends(this, other, NULL);
    STACK_UNWIND_STRICT(rename, frame, op_ret, op_errno, buf, old_before, old_after, new_before, new_after,
                        xdata);
    return 0;
}

static int32_t parents_rename(call_frame_t *frame, xlator_t *this, loc_t *old, loc_t *new, dict_t *xdata)
{
    frame->local = change_begins(this, new->parent);
    STACK_WIND_COOKIE(frame, rename_cbk, change_begins(this, old->parent), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->rename, old, new, xdata);
    return 0;
}

/* ---- What changes a folder itself ---- */

#define ATTRIBUTES_CBK(fop)                                                                                  \
    static int32_t fop##_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret,              \
                             int32_t op_errno, struct iatt *before, struct iatt *after, dict_t *xdata)       \
    {                                                                                                        \
        change_ends(this, cookie, NULL);                                                                     \
        STACK_UNWIND_STRICT(fop, frame, op_ret, op_errno, before, after, xdata);                             \
        return 0;                                                                                            \
    }

#define XATTR_CBK(fop)                                                                                       \
    static int32_t fop##_cbk(call_frame_t *frame, void *cookie, xlator_t *this, int32_t op_ret,              \
                             int32_t op_errno, dict_t *xdata)                                                \
    {                                                                                                        \
        change_ends(this, cookie, NULL);                                                                     \
        STACK_UNWIND_STRICT(fop, frame, op_ret, op_errno, xdata);                                            \
        return 0;                                                                                            \
    }

ATTRIBUTES_CBK(setattr)
ATTRIBUTES_CBK(fsetattr)
XATTR_CBK(setxattr)
XATTR_CBK(fsetxattr)
XATTR_CBK(removexattr)
XATTR_CBK(fremovexattr)

/* Files have no note: it would only cost. */
static inode_t *folder_changes(xlator_t *this, inode_t *inode)
{
    return inode && IA_ISDIR(inode->ia_type) ? change_begins(this, inode) : NULL;
}

static int32_t parents_setattr(call_frame_t *frame, xlator_t *this, loc_t *loc, struct iatt *attributes,
                               int32_t valid, dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, setattr_cbk, folder_changes(this, loc->inode), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->setattr, loc, attributes, valid, xdata);
    return 0;
}

static int32_t parents_fsetattr(call_frame_t *frame, xlator_t *this, fd_t *fd, struct iatt *attributes,
                                int32_t valid, dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, fsetattr_cbk, folder_changes(this, fd->inode), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->fsetattr, fd, attributes, valid, xdata);
    return 0;
}

static int32_t parents_setxattr(call_frame_t *frame, xlator_t *this, loc_t *loc, dict_t *dict, int32_t flags,
                                dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, setxattr_cbk, folder_changes(this, loc->inode), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->setxattr, loc, dict, flags, xdata);
    return 0;
}

static int32_t parents_fsetxattr(call_frame_t *frame, xlator_t *this, fd_t *fd, dict_t *dict, int32_t flags,
                                 dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, fsetxattr_cbk, folder_changes(this, fd->inode), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->fsetxattr, fd, dict, flags, xdata);
    return 0;
}

static int32_t parents_removexattr(call_frame_t *frame, xlator_t *this, loc_t *loc, const char *name,
                                   dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, removexattr_cbk, folder_changes(this, loc->inode), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->removexattr, loc, name, xdata);
    return 0;
}

static int32_t parents_fremovexattr(call_frame_t *frame, xlator_t *this, fd_t *fd, const char *name,
                                    dict_t *xdata)
{
    STACK_WIND_COOKIE(frame, fremovexattr_cbk, folder_changes(this, fd->inode), FIRST_CHILD(this),
                      FIRST_CHILD(this)->fops->fremovexattr, fd, name, xdata);
    return 0;
}

/* ---- Life ---- */

static int32_t parents_forget(xlator_t *this, inode_t *inode)
{
    uint64_t value = 0;
    if (inode_ctx_del(inode, this, &value) == 0)
        free((void *)(uintptr_t)value);
    return 0;
}

static int32_t parents_init(xlator_t *this)
{
    struct parents *parents = calloc(1, sizeof *parents);
    if (!parents || !this->children || this->children->next) {
        gf_log(this->name, GF_LOG_ERROR, "needs memory, and one translator below");
        free(parents);
        return -1;
    }
    pthread_mutex_init(&parents->mutex, NULL);
    GF_OPTION_INIT("keep", parents->keep, bool, failed);
    this->private = parents;
    return 0;
failed:
    pthread_mutex_destroy(&parents->mutex);
    free(parents);
    return -1;
}

static void parents_fini(xlator_t *this)
{
    struct parents *parents = this->private;
    if (!parents)
        return;
    pthread_mutex_destroy(&parents->mutex);
    free(parents);
    this->private = NULL;
}

static struct xlator_fops parents_fops = {
    .stat = parents_stat,
    .create = parents_create,
    .mknod = parents_mknod,
    .mkdir = parents_mkdir,
    .symlink = parents_symlink,
    .link = parents_link,
    .unlink = parents_unlink,
    .rmdir = parents_rmdir,
    .rename = parents_rename,
    .setattr = parents_setattr,
    .fsetattr = parents_fsetattr,
    .setxattr = parents_setxattr,
    .fsetxattr = parents_fsetxattr,
    .removexattr = parents_removexattr,
    .fremovexattr = parents_fremovexattr,
};

static struct xlator_cbks parents_cbks = {.forget = parents_forget};

static struct volume_options parents_options[] = {
    {.key = {"keep"},
     .type = GF_OPTION_TYPE_BOOL,
     .default_value = "on",
     .description = "Whether a folder's attributes are kept for a moment after a change in it."},
    {.key = {NULL}},
};

xlator_api_t xlator_api = {
    .init = parents_init,
    .fini = parents_fini,
    .op_version = {1},
    .fops = &parents_fops,
    .cbks = &parents_cbks,
    .options = parents_options,
    .identifier = "parents",
    .category = GF_EXPERIMENTAL,
};
