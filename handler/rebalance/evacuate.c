/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "handler/rebalance/rebalance.h"
#include "rpc/base/alloc.h"

#define MIGRATE_XATTR  "trusted.distribute.migrate-data"
#define MIGRATE_VALUE  "evacuate"
#define LINK_XATTR     "trusted.glusterfs.dht.linkto"
#define PATHINFO_XATTR "trusted.glusterfs.pathinfo"
#define PATHINFO_MAX   65536

static void blame(struct rebalance *work, const char *path, const char *reason)
{
    free(work->error);
    work->error = xasprintf("%s %s", path, reason);
}

/* Distribute's link to a file that lies in another set already. */
static bool is_link(struct rebalance *work, const char *path, const struct stat *status)
{
    return S_ISREG(status->st_mode) && (status->st_mode & 07777) == S_ISVTX &&
           glfs_lgetxattr(work->set, path, LINK_XATTR, NULL, 0) >= 0;
}

/* Where the first brick has the file, "<POSIX(...)...>"; the caller's, NULL: not known. */
static char *place_of(glfs_t *fs, const char *path)
{
    autofree char *text = xcalloc(1, PATHINFO_MAX);
    if (glfs_lgetxattr(fs, path, PATHINFO_XATTR, text, PATHINFO_MAX - 1) <= 0)
        return NULL;
    const char *start = strstr(text, "<POSIX"), *end = start ? strchr(start, '>') : NULL;
    return end ? xstrndup(start, (size_t)(end + 1 - start)) : NULL;
}

/* The volume takes a file of another set for this one: a move ended between its last two steps. */
static bool is_elsewhere(struct rebalance *work, const char *path)
{
    autofree char *here = place_of(work->set, path), *in_use = NULL;
    autofree char *text = xcalloc(1, PATHINFO_MAX);
    if (!here || glfs_lgetxattr(work->fs, path, PATHINFO_XATTR, text, PATHINFO_MAX - 1) <= 0)
        return false;
    return strstr(text, "<POSIX") && !strstr(text, here);
}

/* What the old copy becomes before it goes tells those who have it open where the file is. */
static void finish(struct rebalance *work, const char *path)
{
    bool marked = glfs_lgetxattr(work->set, path, LINK_XATTR, NULL, 0) >= 0;
    if (marked && is_elsewhere(work, path) && glfs_chmod(work->set, path, S_ISVTX) == 0 &&
        glfs_unlink(work->set, path) == 0) {
        work->moved++;
    } else {
        work->stray = true;
        blame(work, path, "belongs to the set yet");
    }
}

static void move_off(struct rebalance *work, const char *path)
{
    errno = 0;
    if (glfs_lsetxattr(work->fs, path, MIGRATE_XATTR, MIGRATE_VALUE, sizeof MIGRATE_VALUE, 0) == 0) {
        work->moved++;
    } else if (errno == EEXIST) {
        finish(work, path);
    } else if (errno == EPERM) {
        work->in_use++;
        blame(work, path, "is locked by a program that has it open");
    } else if (errno != ENOENT) { /* gone, or one of several names that go together */
        work->failed++;
        blame(work, path,
              errno == ENOSPC ? "cannot be copied now: no room, or others write to it" : strerror(errno));
    }
}

static void visit(struct rebalance *work, const char *path, const struct stat *status)
{
    if (is_link(work, path, status))
        return;
    work->found++;
    uint64_t moved = work->moved;
    if (!work->live && S_ISREG(status->st_mode) && rebalance_is_open(work->set, path)) {
        work->in_use++;
        blame(work, path, "is in use: it moves when it is closed");
    } else {
        move_off(work, path);
    }
    if (work->moved > moved)
        work->done += rebalance_bytes(status);
    else
        work->left++;
    work->progress(work);
}

static void weigh(struct rebalance *work, const char *path, const struct stat *status)
{
    if (!is_link(work, path, status))
        work->total += rebalance_bytes(status);
}

int rebalance_evacuate(struct rebalance *work, struct error **ret_error)
{
    autostring_list struct string_list folders = {0}, again = {0};
    free(work->error);
    work->error = NULL;
    work->total = work->done;
    work->found = work->left = work->in_use = work->failed = 0;
    int r = rebalance_walk(work, work->set, weigh, &folders, ret_error);
    return r < 0 ? r : rebalance_walk(work, work->set, visit, &again, ret_error);
}
