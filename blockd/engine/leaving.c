/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Whether a set of bricks that is to be erased holds a file yet, by a name or only open: the last looks
 * before what cannot be undone. */
#include "blockd/engine/engine_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fts.h>
#include <limits.h>
#include <string.h>
#include <sys/xattr.h>

#include "rpc/base/alloc.h"
#include "rpc/volume_layout.h"

#define LINK_XATTR "trusted.glusterfs.dht.linkto"

/* No mode but the sticky bit. */
static bool is_link_mode(const struct stat *status)
{
    return S_ISREG(status->st_mode) && (status->st_mode & 07777) == S_ISVTX;
}

bool brick_is_link(const char *path, const struct stat *status)
{
    return is_link_mode(status) && lgetxattr(path, LINK_XATTR, NULL, 0) >= 0;
}

/* 1: there is one, *ret_path is the caller's. */
static int find_file(const char *folder, char **ret_path, struct error **ret_error)
{
    char *const roots[] = {(char *)folder, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
    if (!walk)
        return error_set(ret_error, errno, "cannot read the folder %s: %s", folder, strerror(errno));
    int r = 0;
    errno = 0;
    for (FTSENT *entry; r == 0 && (entry = fts_read(walk)); errno = 0) {
        if (entry->fts_level == 1 && strcmp(entry->fts_name, ".glusterfs") == 0) {
            fts_set(walk, entry, FTS_SKIP);
        } else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS) {
            if (entry->fts_errno != ENOENT)
                r = error_set(ret_error, entry->fts_errno, "cannot read %s: %s", entry->fts_path,
                              strerror(entry->fts_errno));
        } else if (entry->fts_info != FTS_D && entry->fts_info != FTS_DP &&
                   !brick_is_link(entry->fts_accpath, entry->fts_statp)) {
            *ret_path = xstrdup(entry->fts_path + strlen(folder));
            r = 1;
        }
    }
    if (r == 0 && errno)
        r = error_set(ret_error, errno, "cannot read the folder %s: %s", folder, strerror(errno));
    fts_close(walk);
    return r;
}

int engine_leaving_look(struct engine *engine, const struct volume *volume, char **ret_file,
                        struct error **ret_error)
{
    size_t looked = 0;
    *ret_file = NULL;
    for (size_t i = 0; i < volume_children(volume); i++) {
        const struct brick_spec *brick = volume_child(volume, i);
        if (!volume_child_leaves(volume, i))
            continue;
        bool local = brick_is_local(engine, brick);
        if (local && device_check_mounted(engine, brick->device, NULL) < 0)
            continue; /* what it has, a quorum of the others has */
        looked++;
        if (!local)
            continue;
        autofree char *folder = brick_folder(engine, brick->device, volume->meta.name);
        int r = find_file(folder, ret_file, ret_error);
        if (r)
            return r < 0 ? r : 0;
    }
    if (looked < layout_set_quorum(&volume->spec))
        return error_set(ret_error, EAGAIN, "volume %s: too few bricks of the set are there to look into",
                         volume->meta.name);
    return 0;
}

/* ---- Files without a name ---- */

#define DELETED " (deleted)"
/* Where a brick keeps what was removed while it was open; what was replaced by a rename it keeps nowhere. */
#define REMOVED "/.glusterfs/unlink/"

static bool has_no_name(const char *target)
{
    size_t length = strlen(target), end = strlen(DELETED);
    return strstr(target, REMOVED) || (length > end && strcmp(target + length - end, DELETED) == 0);
}

/* Whether the descriptor `link` of a brick is a file of the file system `device` that is lost when it is
 * closed. The old copy of a file that has moved is none: who has it open finds the other. */
static bool is_open_only(const char *link, dev_t device)
{
    char target[PATH_MAX];
    struct stat status;
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0)
        return false;
    target[length] = '\0';
    if (!has_no_name(target) || stat(link, &status) < 0 || !S_ISREG(status.st_mode) ||
        status.st_dev != device)
        return false;
    return !(is_link_mode(&status) && getxattr(link, LINK_XATTR, NULL, 0) >= 0);
}

/* How many such files the process has open. */
static int count_open_only(pid_t pid, const char *folder, size_t *ret_count, struct error **ret_error)
{
    autofree char *path = xasprintf("/proc/%d/fd", (int)pid);
    autoclosedir DIR *links = opendir(path);
    struct stat status;
    *ret_count = 0;
    if (!links && errno == ENOENT)
        return 0; /* it has ended */
    if (!links || stat(folder, &status) < 0)
        return error_set(ret_error, errno, "cannot read the folder %s: %s", links ? folder : path,
                         strerror(errno));
    for (const struct dirent *entry; (entry = readdir(links));) {
        autofree char *link = xasprintf("%s/%s", path, entry->d_name);
        *ret_count += is_open_only(link, status.st_dev);
    }
    return 0;
}

int engine_leaving_check_open(struct engine *engine, const struct volume *volume, struct error **ret_error)
{
    for (size_t i = 0; i < volume_children(volume); i++) {
        const struct brick_spec *brick = volume_child(volume, i);
        if (!volume_child_leaves(volume, i) || !brick_is_local(engine, brick))
            continue;
        autofree char *id = xasprintf("brick.%s.%s", volume->meta.name, brick->device);
        cleanup(process_view_clear) struct process_view view = {.state = PROCESS_STOPPED};
        if (!engine->supervisor->ops->look(engine->supervisor, id, &view) || !view.pid ||
            device_check_mounted(engine, brick->device, NULL) < 0)
            continue; /* what it had open is closed, or a quorum of the others has it */
        autofree char *folder = brick_folder(engine, brick->device, volume->meta.name);
        size_t count;
        int r = count_open_only(view.pid, folder, &count, ret_error);
        if (r < 0)
            return r;
        if (count)
            return error_set(
                ret_error, EBUSY,
                "volume %s: programs have %zu file%s of the set open that %s removed or replaced: "
                "they would lose %s; close what has them open, or cancel the job",
                volume->meta.name, count, count == 1 ? "" : "s", count == 1 ? "was" : "were",
                count == 1 ? "it" : "them");
    }
    return 0;
}
