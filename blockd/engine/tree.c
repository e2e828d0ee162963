/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Removes a tree of any depth with a few descriptors: a folder's subfolders are first moved up beside it,
 * under numbers, so that it becomes flat and can be emptied. No path is built from names in the tree, and no
 * link is followed.
 */
#include "blockd/engine/engine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "rpc/base/alloc.h"

#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

struct sweep {
    const char *path; /* of the whole tree, for messages */
    int top;          /* the folder that all others are moved into */
    dev_t device;     /* of the file system that is not left */
    unsigned serial;  /* of the next name there */
};

static int fail(const struct sweep *sweep, struct error **ret_error)
{
    return error_set(ret_error, errno, "cannot remove what is in %s: %s", sweep->path, strerror(errno));
}

static int move_up(struct sweep *sweep, int from, const char *name)
{
    for (;;) {
        char number[16];
        snprintf(number, sizeof number, "%u", sweep->serial++);
        if (renameat2(from, name, sweep->top, number, RENAME_NOREPLACE) == 0)
            return 0;
        if (errno != EEXIST)
            return -errno;
    }
}

static DIR *open_folder(int at, const char *name)
{
    autoclose int fd = openat(at, name, FOLDER_FLAGS);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    if (folder)
        steal_fd(&fd);
    return folder;
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Removes the files of one folder below the top and moves its subfolders to the top. */
static int flatten(struct sweep *sweep, const char *name, struct error **ret_error)
{
    autoclosedir DIR *folder = open_folder(sweep->top, name);
    struct stat status;
    if (!folder || fstat(dirfd(folder), &status) < 0)
        return fail(sweep, ret_error);
    if (status.st_dev != sweep->device)
        return error_set(ret_error, EXDEV, "something is mounted in %s: unmount it first", sweep->path);
    for (struct dirent *entry; errno = 0, (entry = readdir(folder));) {
        if (is_dot(entry->d_name))
            continue;
        if (unlinkat(dirfd(folder), entry->d_name, 0) == 0)
            continue;
        if (errno != EISDIR && errno != EPERM)
            return fail(sweep, ret_error);
        int r = move_up(sweep, dirfd(folder), entry->d_name);
        if (r < 0) {
            errno = -r;
            return fail(sweep, ret_error);
        }
    }
    if (errno || unlinkat(sweep->top, name, AT_REMOVEDIR) < 0)
        return fail(sweep, ret_error);
    return 0;
}

/* One pass over the top; *ret_left says whether it met anything. */
static int pass(struct sweep *sweep, bool *ret_left, struct error **ret_error)
{
    autoclosedir DIR *folder = open_folder(sweep->top, ".");
    if (!folder)
        return fail(sweep, ret_error);
    *ret_left = false;
    for (struct dirent *entry; errno = 0, (entry = readdir(folder));) {
        if (is_dot(entry->d_name))
            continue;
        *ret_left = true;
        if (unlinkat(sweep->top, entry->d_name, 0) == 0)
            continue;
        if (errno != EISDIR && errno != EPERM)
            return fail(sweep, ret_error);
        int r = flatten(sweep, entry->d_name, ret_error);
        if (r < 0)
            return r;
    }
    return errno ? fail(sweep, ret_error) : 0;
}

int tree_remove(const char *path, struct error **ret_error)
{
    autoclose int top = open(path, FOLDER_FLAGS);
    if (top < 0 && errno == ENOENT)
        return 0;
    struct sweep sweep = {.path = path, .top = top};
    struct stat status;
    if (top < 0 || fstat(top, &status) < 0)
        return fail(&sweep, ret_error);
    sweep.device = status.st_dev;
    for (bool left = true; left;) {
        int r = pass(&sweep, &left, ret_error);
        if (r < 0)
            return r;
    }
    return rmdir(path) < 0 ? fail(&sweep, ret_error) : 0;
}
