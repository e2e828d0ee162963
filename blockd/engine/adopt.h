/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Looking at what lies on a disk that no record names. Nothing on it is changed; one that is not mounted is
 * mounted read-only for as long as it is open.
 */
#ifndef BLOCKD_ENGINE_ADOPT_H
#define BLOCKD_ENGINE_ADOPT_H

#include "blockd/engine/engine.h"

struct found_disk {
    char *path;
    char *device_uid; /* of the device that it is */
    char *fs_uuid;    /* of its file system */
    char *folder;     /* where it can be read */
    char *temporary;  /* folder that it was mounted at for this, NULL when it was mounted already */
};

/* -ENOENT: there is no such disk or file; -ENODATA: it holds no device of blockd. Blocks. */
int engine_disk_open(struct engine *engine, const char *path, struct found_disk *ret_disk,
                     struct error **ret_error);
void engine_disk_close(struct found_disk *disk);

/* The text of its manifest (see manifest.h); -ENOENT. */
int engine_disk_manifest(const struct found_disk *disk, char **ret_text, struct error **ret_error);
/* The volume id of the brick folder of a volume, as text; -ENOENT, or -ENODATA when it carries none. */
int engine_disk_brick(const struct found_disk *disk, const char *volume, char **ret_uid);
/* Size of a file in the brick; -ENOENT. `file` is absolute in the hosting volume, and no link is followed. */
int engine_disk_file(const struct found_disk *disk, const char *volume, const char *file, uint64_t *ret_size);
/* Names in a folder of the brick; none when it is not there. */
int engine_disk_folder(const struct found_disk *disk, const char *volume, const char *folder,
                       struct string_list *ret_names, struct error **ret_error);

/*
 * Before a volume's record is made from a disk: says for each local brick that its data was there, so that a
 * folder that is missing is never made anew.
 */
int engine_volume_expect(struct engine *engine, const struct volume *volume, struct error **ret_error);
/* Unmounts what an interrupted look left mounted. */
int engine_disk_sweep(struct engine *engine, struct error **ret_error);

#endif
