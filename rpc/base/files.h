/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Whole files and folders. Paths are absolute or relative to the working directory; errors name the path. */
#ifndef BLOCKD_BASE_FILES_H
#define BLOCKD_BASE_FILES_H

#include <stdbool.h>
#include <sys/types.h>

#include "error.h"

/* Reads a file of at most `limit` bytes; -EFBIG beyond. The result is NUL terminated and the caller's. */
int file_read(const char *path, size_t limit, char **ret_text, size_t *ret_length, struct error **ret_error);

/* Replaces a file in one step: temporary name, fsync, rename, fsync of the folder. A reader sees old or new,
 * never half. */
int file_write_atomic(const char *path, const char *text, mode_t mode, struct error **ret_error);

/* Is this the name of what file_write_atomic() left when its process died? */
bool file_is_unfinished(const char *name);
/*
 * Removes what file_write_atomic() left in a folder when its process died: not what a process that lives,
 * this one included, is about to rename. A folder that is not there is empty.
 */
int files_sweep(const char *folder, struct error **ret_error);

/* As file_write_atomic(), but leaves the file alone when it holds that text already. */
int file_write_if_changed(const char *path, const char *text, mode_t mode, bool *ret_changed,
                          struct error **ret_error);

/* Removes a file; one that is not there is success. */
int file_remove(const char *path, struct error **ret_error);
/* The same, and it does not come back after a power cut. */
int file_remove_durably(const char *path, struct error **ret_error);

/* What was made, renamed or removed in the folder lasts over a power cut. */
int folder_sync(const char *path, struct error **ret_error);

/* mkdir -p, durable; `mode` is for the folders that it makes. */
int folder_make(const char *path, mode_t mode, struct error **ret_error);

/* The path of something beside the running program ("../share/x" starts in the program's folder), without
 * links and dots; NULL when it is not there. The caller's. */
char *program_relative(const char *path);

/* Names in a folder without "." and "..", sorted; a folder that is not there gives an empty list. */
struct string_list;
int folder_list(const char *path, struct string_list *ret_names, struct error **ret_error);

#endif
