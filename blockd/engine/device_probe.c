/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Can a device be added? Nothing is changed. */
#include "blockd/engine/device_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "rpc/base/alloc.h"

#define PROBE_MS (60 * 1000) /* for a disk that does not answer */

static int probe_absent(const struct disk *disk, struct error **ret_error)
{
    const struct device *device = disk->device;
    if (!device->spec.image_size || device->status.uuid)
        return error_set(ret_error, ENOENT, "device %s: there is no %s", device->meta.name,
                         device->spec.path);
    if (device->spec.image_size < DEVICE_SIZE_MINIMUM)
        return error_set(ret_error, EINVAL, "device %s: an image needs at least 300 MiB", device->meta.name);
    autofree char *folder = xstrdup(device->spec.path);
    char *slash = strrchr(folder, '/');
    slash[slash == folder] = '\0';
    struct statvfs space;
    if (statvfs(folder, &space) < 0)
        return error_set(ret_error, errno, "device %s: no image can be made in %s: %s", device->meta.name,
                         folder, strerror(errno));
    uint64_t free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    if (free_bytes < device->spec.image_size)
        return error_set(ret_error, ENOSPC, "device %s: %s has only %llu MiB free for an image of %llu MiB",
                         device->meta.name, folder, (unsigned long long)(free_bytes >> 20),
                         (unsigned long long)(device->spec.image_size >> 20));
    return 0;
}

static int probe_image(struct disk *disk, struct error **ret_error)
{
    const char *path = disk->device->spec.path;
    disk->image = true;
    int r = loopdev_open(path, false, &disk->block_device, &disk->fd, NULL);
    struct stat status;
    if (r == 0 && fstat(disk->fd, &status) == 0) {
        disk->number = status.st_rdev;
        bool mounted;
        r = disk_look_for_mount(disk, &mounted, ret_error);
        if (r == 0 && !mounted) /* somebody's, and used as it is */
            r = disk_check_free(disk, ret_error);
        if (r < 0)
            return r;
    }
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0)
        return error_set(ret_error, errno, "device %s: cannot open %s: %s", disk->device->meta.name, path,
                         strerror(errno));
    autofree char *use = disk_use(&status);
    if (use)
        return error_set(ret_error, EBUSY, "device %s: %s %s", disk->device->meta.name, path, use);
    /* An image whose making was cut short is still empty. */
    if (disk->device->spec.image_size && fstat(fd, &status) == 0 && status.st_size == 0)
        return probe_absent(disk, ret_error);
    bool format;
    return disk_judge(disk, fd, false, &format, ret_error);
}

static int probe(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    const struct device *device = &call->device;
    cleanup(disk_clear) struct disk disk;
    int r = disk_begin(engine, device, &disk, ret_error);
    if (r < 0)
        return r;
    scoped_claim(engine, "device", disk.name);
    struct stat status;
    if (stat(device->spec.path, &status) < 0 && errno == ENOENT)
        return probe_absent(&disk, ret_error);
    if (S_ISREG(status.st_mode))
        return probe_image(&disk, ret_error);
    r = disk_open(&disk, false, ret_error);
    bool mounted = false, format;
    if (r == 0)
        r = disk_look_for_mount(&disk, &mounted, ret_error);
    if (r == 0 && !mounted)
        r = disk_check_free(&disk, ret_error);
    return r < 0 ? r : disk_judge(&disk, disk.fd, false, &format, ret_error);
}

int engine_device_probe(struct engine *engine, const struct device *device, struct error **ret_error)
{
    cleanup(cleanup_device_call) struct device_call *call = device_call_of(engine, device);
    call->limit_ms = PROBE_MS;
    return device_call_run(call, probe, ret_error);
}

char *engine_device_stable_path(struct engine *engine, const char *path)
{
    return disk_stable_name(engine->roots.by_id, path);
}
