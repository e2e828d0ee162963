/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Folders of a GlusterFS volume, by libgfapi. */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "handler/image/gfapi_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/strings.h"

#define FOLDER_MODE 0755
#define MARK_LIMIT  65536 /* of XFS */
#define BATCH       256   /* names that are read before their files are removed */

static void cleanup_folder(glfs_fd_t **folder)
{
    if (*folder)
        glfs_closedir(*folder);
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* ---- Making and moving ---- */

static int make_parents(struct gfapi_volume *volume, const char *path, struct error **ret_error)
{
    autofree char *copy = xstrdup(path);
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        struct stat status;
        if (glfs_lstat(volume->fs, copy, &status) < 0 && glfs_mkdir(volume->fs, copy, FOLDER_MODE) < 0 &&
            errno != EEXIST)
            return gfapi_file_error(volume, "create the folder", copy, gfapi_failure(), ret_error);
        *slash = '/';
    }
    return 0;
}

static int make_folder(struct image_volume *base, const char *path, unsigned mode, struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    int r = make_parents(volume, path, ret_error);
    if (r == 0 && glfs_mkdir(volume->fs, path, mode) < 0)
        r = gfapi_file_error(volume, "create the folder", path, gfapi_failure(), ret_error);
    return r;
}

static int rename_path(struct image_volume *base, const char *from, const char *to, struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    int r = make_parents(volume, to, ret_error);
    if (r == 0 && glfs_rename(volume->fs, from, to) < 0)
        r = gfapi_file_error(volume, "rename", from, gfapi_failure(), ret_error);
    return r;
}

static int is_empty(struct image_volume *base, const char *path, bool *ret_empty, struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    cleanup(cleanup_folder) glfs_fd_t *folder = glfs_opendir(volume->fs, path);
    if (!folder)
        return gfapi_file_error(volume, "open the folder", path, gfapi_failure(), ret_error);
    struct dirent entry, *found;
    do {
        if (glfs_readdir_r(folder, &entry, &found) != 0)
            return gfapi_file_error(volume, "read the folder", path, gfapi_failure(), ret_error);
    } while (found && is_dot(found->d_name));
    *ret_empty = !found;
    return 0;
}

/* ---- Marks ---- */

static int get_mark(struct image_volume *base, const char *path, const char *name, char **ret_value,
                    struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    autofree char *value = xcalloc(MARK_LIMIT, 1);
    ssize_t length = glfs_lgetxattr(volume->fs, path, name, value, MARK_LIMIT);
    if (length < 0)
        return gfapi_file_error(volume, "read the mark of", path, gfapi_failure(), ret_error);
    *ret_value = xstrndup(value, (size_t)length);
    return 0;
}

static int set_mark(struct image_volume *base, const char *path, const char *name, const char *value,
                    struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    if (glfs_lsetxattr(volume->fs, path, name, value, strlen(value), 0) < 0)
        return gfapi_file_error(volume, "mark", path, gfapi_failure(), ret_error);
    return 0;
}

/* ---- Removing ---- */

/*
 * A folder's subfolders are first moved up beside it, under numbers, so that it becomes flat and can be
 * emptied: paths stay short, however deep the tree is.
 */
struct sweep {
    struct gfapi_volume *volume;
    const char *top;
    unsigned serial; /* of the next name there */
    files_progress progress;
    void *data;
};

struct batch {
    struct string_list names;
    bool folder[BATCH];
    uint64_t bytes[BATCH];
};

static int fail(const struct sweep *sweep, int number, struct error **ret_error)
{
    return gfapi_file_error(sweep->volume, "remove what is in", sweep->top, number, ret_error);
}

static void batch_clear(struct batch *batch)
{
    string_list_clear(&batch->names);
}

/* The first names of a folder: none when it is empty. */
static int read_batch(const struct sweep *sweep, const char *path, struct batch *batch,
                      struct error **ret_error)
{
    cleanup(cleanup_folder) glfs_fd_t *folder = glfs_opendir(sweep->volume->fs, path);
    if (!folder)
        return errno == ENOENT ? -ENOENT : fail(sweep, gfapi_failure(), ret_error);
    while (batch->names.count < BATCH) {
        struct stat status = {0};
        struct dirent entry, *found;
        if (glfs_readdirplus_r(folder, &status, &entry, &found) != 0)
            return fail(sweep, gfapi_failure(), ret_error);
        if (!found)
            return 0;
        if (is_dot(found->d_name))
            continue;
        size_t index = batch->names.count;
        batch->folder[index] = S_ISDIR(status.st_mode);
        batch->bytes[index] = status.st_nlink < 2 ? (uint64_t)status.st_blocks * 512 : 0;
        string_list_add(&batch->names, found->d_name);
    }
    return 0;
}

static int move_up(struct sweep *sweep, const char *from, struct error **ret_error)
{
    for (;;) {
        autofree char *to = xasprintf("%s/%u", sweep->top, sweep->serial++);
        struct stat status;
        if (glfs_lstat(sweep->volume->fs, to, &status) == 0)
            continue;
        if (glfs_rename(sweep->volume->fs, from, to) == 0 || errno == ENOENT)
            return 0;
        if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
            return fail(sweep, gfapi_failure(), ret_error);
    }
}

static int empty_folder(struct sweep *sweep, const char *path, bool is_top, struct error **ret_error);

/* What readdirplus says of a file that heals may be nothing: what it is, is seen when it is unlinked. */
static int remove_entry(struct sweep *sweep, const char *path, bool folder, bool at_top,
                        struct error **ret_error)
{
    glfs_t *fs = sweep->volume->fs;
    if (!folder) {
        if (glfs_unlink(fs, path) == 0 || errno == ENOENT)
            return 0;
        if (errno != EISDIR && errno != EPERM)
            return fail(sweep, gfapi_failure(), ret_error);
    }
    if (!at_top)
        return move_up(sweep, path, ret_error);
    int r = empty_folder(sweep, path, false, ret_error);
    if (r == 0 && glfs_rmdir(fs, path) < 0 && errno != ENOENT)
        r = fail(sweep, gfapi_failure(), ret_error);
    return r;
}

static int empty_folder(struct sweep *sweep, const char *path, bool is_top, struct error **ret_error)
{
    for (;;) {
        struct batch *batch cleanup(cleanup_free) = xcalloc(1, sizeof *batch);
        int r = read_batch(sweep, path, batch, ret_error);
        size_t count = batch->names.count;
        for (size_t i = 0; r == 0 && i < count; i++) {
            autofree char *entry = xasprintf("%s/%s", path, batch->names.items[i]);
            r = remove_entry(sweep, entry, batch->folder[i], is_top, ret_error);
            if (r == 0 && !sweep->progress(sweep->data, batch->folder[i] ? 0 : batch->bytes[i]))
                r = error_set(ret_error, ECANCELED, "the removal of %s was stopped", sweep->top);
        }
        batch_clear(batch);
        if (r < 0 || count == 0)
            return r == -ENOENT ? 0 : r;
    }
}

static int remove_tree(struct image_volume *base, const char *path, files_progress progress, void *data,
                       struct error **ret_error)
{
    struct sweep sweep = {.volume = gfapi_volume(base), .top = path, .progress = progress, .data = data};
    int r = empty_folder(&sweep, path, true, ret_error);
    if (r == 0 && glfs_rmdir(sweep.volume->fs, path) < 0 && errno != ENOENT)
        r = gfapi_file_error(sweep.volume, "remove", path, gfapi_failure(), ret_error);
    return r;
}

const struct image_files image_files_gfapi = {
    .make_folder = make_folder,
    .rename = rename_path,
    .is_empty = is_empty,
    .get_mark = get_mark,
    .set_mark = set_mark,
    .remove_tree = remove_tree,
};
