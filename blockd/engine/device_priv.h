/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Inside what makes devices ready and takes them away: one section a file. */
#ifndef BLOCKD_ENGINE_DEVICE_PRIV_H
#define BLOCKD_ENGINE_DEVICE_PRIV_H

#include "blockd/engine/engine_priv.h"

#define DEVICE_SIZE_MINIMUM (300ull << 20) /* of mkfs.xfs */

/* ---- device.c ---- */

/* What a call works on. */
struct disk {
    struct engine *engine;
    const struct device *device;
    char *name;         /* without the node */
    char *folder;       /* where it is mounted */
    bool image;         /* device->spec.path is a regular file */
    char *block_device; /* path; of an image, its loop device */
    int fd;             /* of block_device */
    dev_t number;
};
/* Checks what is said of the device. *ret_disk is to be cleared in any case. */
int disk_begin(struct engine *engine, const struct device *device, struct disk *ret_disk,
               struct error **ret_error);
void disk_clear(struct disk *disk);
/* The UUID that its file system has, or will have. */
const char *disk_expected_uuid(const struct disk *disk);
/* What is seen of a device that is mounted and works. */
int disk_fill_status(const struct disk *disk, struct device_status *ret_status, struct error **ret_error);
/* A call that works on the device; the caller's. */
struct device_call *device_call_of(struct engine *engine, const struct device *device);

/* ---- device_find.c: what is the disk, and may it be used? ---- */

/* Opens what the path leads to; with `attach` an image is made where one is asked for, and gets a loop
 * device. */
int disk_open(struct disk *disk, bool attach, struct error **ret_error);
/* Reads from it. -ETIMEDOUT: it does not answer. Nothing else is told, and nothing may be claimed. */
int disk_answers(struct engine *engine, const struct device *device, struct error **ret_error);
/* 0 when it is mounted at its place or nowhere, as *ret_mounted says. */
int disk_look_for_mount(const struct disk *disk, bool *ret_mounted, struct error **ret_error);
/* The kernel grants exclusive use of a block device once: not beside a mount, swap, RAID or LVM. */
int disk_check_free(const struct disk *disk, struct error **ret_error);
/* Is this the image that blockd made for the device, or a file in which nothing was written yet? */
bool disk_image_is_blank(const struct disk *disk);
/*
 * Decides whether the disk may be formatted. *ret_format is false when it is ours already. Files are judged
 * more strictly than disks: one without a known signature may still be somebody's.
 */
int disk_judge(const struct disk *disk, int fd, bool destroy, bool *ret_format, struct error **ret_error);

#endif
