/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Folders of a hosting volume, as shares need them: made, moved, marked, removed. Paths are as those of
 * images: absolute, without "." and ".." parts.
 *
 * Threads: all calls block for as long as the volume's ping-timeout; never make them on an event loop.
 */
#ifndef BLOCKD_IMAGE_FILES_H
#define BLOCKD_IMAGE_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "rpc/base/error.h"

struct image_volume;

/* With the folders above it (0755). One that is there is -EEXIST. */
int files_make_folder(struct image_volume *volume, const char *path, unsigned mode, struct error **ret_error);
/* In one step; the folders above `to` are made. -ENOENT when there is no `from`; never replaces what is not
 * an empty folder. */
int files_rename(struct image_volume *volume, const char *from, const char *to, struct error **ret_error);
/* -ENOENT when there is no such folder. */
int files_is_empty(struct image_volume *volume, const char *path, bool *ret_empty, struct error **ret_error);

/*
 * A text that is kept with a folder, on each brick, as an extended attribute. -ENOENT without the folder,
 * -ENODATA without the mark. *ret_value is the caller's.
 */
int files_get_mark(struct image_volume *volume, const char *path, const char *name, char **ret_value,
                   struct error **ret_error);
int files_set_mark(struct image_volume *volume, const char *path, const char *name, const char *value,
                   struct error **ret_error);

/* After each thing that was removed, with the bytes that it took; false ends the removal with -ECANCELED. */
typedef bool (*files_progress)(void *data, uint64_t bytes);
/*
 * Removes a folder and all below it, however deep, with the calls of a user of the volume. May end at any
 * point and be begun again; a folder that is not there is success. Nobody else should use the folder.
 */
int files_remove_tree(struct image_volume *volume, const char *path, files_progress progress, void *data,
                      struct error **ret_error);

#endif
