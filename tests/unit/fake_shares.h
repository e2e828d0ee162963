/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Folders and quota in memory, for the core without bricks: one folder is one name. */
#ifndef BLOCKD_TESTS_FAKE_SHARES_H
#define BLOCKD_TESTS_FAKE_SHARES_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/engine/engine.h"
#include "handler/image/files.h"
#include "rpc/base/alloc.h"

#define FAKE_FOLDERS 64

static struct {
    pthread_mutex_t mutex;
    struct {
        char *path, *mark;
    } folders[FAKE_FOLDERS];
    bool quota; /* devices have it */
    int fail;   /* a positive errno: what making a folder fails with */
    uint64_t used, limit;
    atomic_bool hold_removals; /* they go on without an end */
} fake_shares = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static int fake_folder(const char *path)
{
    for (int i = 0; i < FAKE_FOLDERS; i++)
        if (path ? string_equal(fake_shares.folders[i].path, path) : !fake_shares.folders[i].path)
            return i;
    return -ENOENT;
}

static inline bool fake_folder_exists(const char *path)
{
    scoped_lock(&fake_shares.mutex);
    return fake_folder(path) >= 0;
}

static void fake_folder_drop(int index)
{
    free(fake_shares.folders[index].path);
    free(fake_shares.folders[index].mark);
    fake_shares.folders[index].path = fake_shares.folders[index].mark = NULL;
}

int files_make_folder(struct image_volume *volume, const char *path, unsigned mode, struct error **ret_error)
{
    (void)volume, (void)mode;
    scoped_lock(&fake_shares.mutex);
    if (fake_shares.fail)
        return error_set(ret_error, fake_shares.fail, "no folder for %s", path);
    if (fake_folder(path) >= 0)
        return error_set(ret_error, EEXIST, "%s exists", path);
    fake_shares.folders[fake_folder(NULL)].path = xstrdup(path);
    return 0;
}

int files_rename(struct image_volume *volume, const char *from, const char *to, struct error **ret_error)
{
    (void)volume;
    scoped_lock(&fake_shares.mutex);
    int index = fake_folder(from);
    if (index < 0)
        return error_set(ret_error, ENOENT, "no %s", from);
    free(fake_shares.folders[index].path);
    fake_shares.folders[index].path = xstrdup(to);
    return 0;
}

int files_is_empty(struct image_volume *volume, const char *path, bool *ret_empty, struct error **ret_error)
{
    (void)volume;
    scoped_lock(&fake_shares.mutex);
    if (fake_folder(path) < 0)
        return error_set(ret_error, ENOENT, "no %s", path);
    *ret_empty = false;
    return 0;
}

int files_get_mark(struct image_volume *volume, const char *path, const char *name, char **ret_value,
                   struct error **ret_error)
{
    (void)volume, (void)name;
    scoped_lock(&fake_shares.mutex);
    int index = fake_folder(path);
    if (index < 0 || !fake_shares.folders[index].mark)
        return error_set(ret_error, index < 0 ? ENOENT : ENODATA, "no mark on %s", path);
    *ret_value = xstrdup(fake_shares.folders[index].mark);
    return 0;
}

int files_set_mark(struct image_volume *volume, const char *path, const char *name, const char *value,
                   struct error **ret_error)
{
    (void)volume, (void)name;
    scoped_lock(&fake_shares.mutex);
    int index = fake_folder(path);
    if (index < 0)
        return error_set(ret_error, ENOENT, "no %s", path);
    free(fake_shares.folders[index].mark);
    fake_shares.folders[index].mark = xstrdup(value);
    return 0;
}

int files_remove_tree(struct image_volume *volume, const char *path, files_progress progress, void *data,
                      struct error **ret_error)
{
    (void)volume;
    do {
        sched_yield();
        if (!progress(data, 4096))
            return error_set(ret_error, ECANCELED, "stopped");
    } while (atomic_load(&fake_shares.hold_removals));
    scoped_lock(&fake_shares.mutex);
    int index = fake_folder(path);
    if (index >= 0)
        fake_folder_drop(index);
    return 0;
}

int engine_shares_apply(struct engine *engine, const struct volume *volume, const struct engine_share *shares,
                        size_t count, bool moving, struct error **ret_error)
{
    (void)engine, (void)volume, (void)moving, (void)ret_error;
    scoped_lock(&fake_shares.mutex);
    for (size_t i = 0; i < count; i++)
        fake_shares.limit = shares[i].limited ? shares[i].size : 0;
    return 0;
}

int engine_share_forget(struct engine *engine, const struct volume *volume, uint32_t project,
                        struct error **ret_error)
{
    (void)engine, (void)volume, (void)project, (void)ret_error;
    return 0;
}

int engine_share_used(struct engine *engine, const struct volume *volume, uint32_t project,
                      uint64_t *ret_used, struct error **ret_error)
{
    (void)engine, (void)volume, (void)project;
    scoped_lock(&fake_shares.mutex);
    if (!fake_shares.quota)
        return error_set(ret_error, EOPNOTSUPP, "nobody counts");
    *ret_used = fake_shares.used;
    return 0;
}

#endif
