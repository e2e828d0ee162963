/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/image/files.h"

#include <errno.h>

#include "handler/image/image_priv.h"

/* The driver's table, once the path is known to be good. */
static int find(struct image_volume *volume, const char *path, const struct image_files **ret_files,
                struct error **ret_error)
{
    int r = image_path_check(path, ret_error);
    if (r < 0)
        return r;
    if (!volume->driver->files)
        return error_set(ret_error, EOPNOTSUPP, "%s has no folders", volume->driver->name);
    *ret_files = volume->driver->files;
    return 0;
}

int files_make_folder(struct image_volume *volume, const char *path, unsigned mode, struct error **ret_error)
{
    const struct image_files *files = NULL;
    int r = find(volume, path, &files, ret_error);
    return r < 0 ? r : files->make_folder(volume, path, mode, ret_error);
}

int files_rename(struct image_volume *volume, const char *from, const char *to, struct error **ret_error)
{
    const struct image_files *files = NULL;
    int r = find(volume, from, &files, ret_error);
    if (r == 0)
        r = image_path_check(to, ret_error);
    return r < 0 ? r : files->rename(volume, from, to, ret_error);
}

int files_is_empty(struct image_volume *volume, const char *path, bool *ret_empty, struct error **ret_error)
{
    const struct image_files *files = NULL;
    int r = find(volume, path, &files, ret_error);
    return r < 0 ? r : files->is_empty(volume, path, ret_empty, ret_error);
}

int files_get_mark(struct image_volume *volume, const char *path, const char *name, char **ret_value,
                   struct error **ret_error)
{
    const struct image_files *files = NULL;
    int r = find(volume, path, &files, ret_error);
    return r < 0 ? r : files->get_mark(volume, path, name, ret_value, ret_error);
}

int files_set_mark(struct image_volume *volume, const char *path, const char *name, const char *value,
                   struct error **ret_error)
{
    const struct image_files *files = NULL;
    int r = find(volume, path, &files, ret_error);
    return r < 0 ? r : files->set_mark(volume, path, name, value, ret_error);
}

int files_remove_tree(struct image_volume *volume, const char *path, files_progress progress, void *data,
                      struct error **ret_error)
{
    const struct image_files *files = NULL;
    int r = find(volume, path, &files, ret_error);
    return r < 0 ? r : files->remove_tree(volume, path, progress, data, ret_error);
}
