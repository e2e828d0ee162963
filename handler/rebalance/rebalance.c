/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/rebalance/rebalance.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "rpc/base/alloc.h"

#define LAYOUT_XATTR  "distribute.fix.layout"
#define MIGRATE_XATTR "trusted.distribute.migrate-data"
#define OPEN_XATTR    "glusterfs.open-fd-count"
/* Anything but "force": a set that would have less room than the one that has the file now takes none. */
#define MIGRATE_VALUE "spread"

static void cleanup_dir(glfs_fd_t **dir)
{
    if (*dir)
        glfs_closedir(*dir);
}

static int failure(void)
{
    return errno ? errno : EIO;
}

static int cannot(const char *what, const char *path, struct error **ret_error)
{
    int number = failure();
    return error_set(ret_error, number, "cannot %s %s: %s", what, path, strerror(number));
}

static void fail(struct rebalance *work, const char *what, const char *path, int number)
{
    work->failed++;
    free(work->error);
    work->error = xasprintf("cannot %s %s: %s", what, path, strerror(number));
}

/* ---- Walking ---- */

/*
 * What cannot be looked at may be there: in a set that is emptied it must not pass for gone, or the set goes
 * with it. 1: there is nothing to visit.
 */
static int look_at(struct rebalance *work, glfs_t *fs, const char *path, struct stat *ret_status,
                   struct error **ret_error)
{
    errno = 0;
    if (glfs_lstat(fs, path, ret_status) == 0)
        return 0;
    int number = failure();
    if (number == ENOENT || number == ESTALE)
        return 1;
    if (fs == work->set)
        return cannot("look at", path, ret_error);
    fail(work, "look at", path, number);
    return 1;
}

/*
 * One folder: its folders are added to the list, its files visited. Each is looked up by its name, which
 * makes a folder on a set that lacks it. What vanished meanwhile is passed over.
 */
static int walk_folder(struct rebalance *work, glfs_t *fs, const char *path, rebalance_visit file,
                       struct string_list *folders, struct error **ret_error)
{
    cleanup(cleanup_dir) glfs_fd_t *dir = glfs_opendir(fs, path);
    if (!dir)
        return failure() == ENOENT ? 0 : cannot("open the folder", path, ret_error);
    for (;;) {
        struct stat status;
        union {
            struct dirent entry;
            char bytes[sizeof(struct dirent) + 1024];
        } buffer;
        struct dirent *entry = NULL;
        errno = 0;
        if (glfs_readdir_r(dir, &buffer.entry, &entry) < 0)
            return cannot("read the folder", path, ret_error);
        if (!entry)
            return 0;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (!file && entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN)
            continue;
        autofree char *below = xasprintf("%s%s%s", path, path[1] ? "/" : "", entry->d_name);
        int r = look_at(work, fs, below, &status, ret_error);
        if (r < 0)
            return r;
        if (r > 0)
            continue;
        if (S_ISDIR(status.st_mode))
            string_list_add(folders, below);
        else if (file)
            file(work, below, &status);
    }
}

int rebalance_walk(struct rebalance *work, glfs_t *fs, rebalance_visit file, struct string_list *folders,
                   struct error **ret_error)
{
    int r = 0;
    string_list_add(folders, "/");
    for (size_t i = 0; i < folders->count && r == 0; i++) {
        autofree char *path = xstrdup(folders->items[i]); /* the list moves as it grows */
        r = walk_folder(work, fs, path, file, folders, ret_error);
    }
    return r;
}

/* ---- Laying out ---- */

static void count(struct rebalance *work, const char *path, const struct stat *status)
{
    (void)path;
    if (S_ISREG(status->st_mode))
        work->total += rebalance_bytes(status);
}

/*
 * From the deepest folder up: a folder is listed from the set that its name belongs to, so that it must be
 * there before the layout of the one above says so.
 */
int rebalance_lay_out(struct rebalance *work, struct error **ret_error)
{
    autostring_list struct string_list folders = {0};
    work->total = 0;
    int r = rebalance_walk(work, work->fs, work->set ? NULL : count, &folders, ret_error);
    for (size_t i = folders.count; i-- > 0 && r == 0;) {
        errno = 0;
        if (glfs_setxattr(work->fs, folders.items[i], LAYOUT_XATTR, "yes", 3, 0) < 0 && failure() != ENOENT)
            r = cannot("lay out the folder", folders.items[i], ret_error);
    }
    return r;
}

/* ---- Moving ---- */

bool rebalance_is_open(glfs_t *fs, const char *path)
{
    char text[32] = {0};
    ssize_t length = glfs_lgetxattr(fs, path, OPEN_XATTR, text, sizeof text - 1);
    return length < 0 || strtoul(text, NULL, 10) > 0; /* what cannot be known is taken for in use */
}

#define TRIES 5

/* 0, EBUSY when others have it open, or the errno of distribute's. */
static int migrate(struct rebalance *work, const char *path)
{
    int number = ENOSPC;
    /* Distribute says "no space" as well when somebody wrote to the file while it was copied. */
    for (int i = 0; i < TRIES && number == ENOSPC; i++) {
        errno = 0;
        if (rebalance_is_open(work->fs, path))
            return EBUSY;
        int r = glfs_setxattr(work->fs, path, MIGRATE_XATTR, MIGRATE_VALUE, sizeof MIGRATE_VALUE, 0);
        number = r == 0 ? 0 : failure();
    }
    return number;
}

static void move(struct rebalance *work, const char *path, const struct stat *status)
{
    if (!S_ISREG(status->st_mode))
        return;
    int number = migrate(work, path);
    if (number == EBUSY) {
        work->in_use++;
    } else if (number == 0) {
        work->moved++;
    } else if (number != EEXIST && number != EPERM && number != ENOENT) {
        /* Not in its place, not left there because the other set has less room, and not gone. */
        fail(work, "move", path, number);
    }
    work->done += rebalance_bytes(status);
    if (work->done > work->total)
        work->total = work->done;
    work->progress(work);
}

int rebalance_move(struct rebalance *work, struct error **ret_error)
{
    work->done = work->moved = work->in_use = work->failed = 0;
    autostring_list struct string_list folders = {0};
    return rebalance_walk(work, work->fs, move, &folders, ret_error);
}
