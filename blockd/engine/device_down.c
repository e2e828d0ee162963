/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Taking a device away: unmounting, and forgetting what lies on it. */
#include "blockd/engine/supervise_priv.h"
#include "blockd/engine/device_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"

static int unmount(const struct disk *disk, struct error **ret_error)
{
    struct mount_view view;
    int r = mounts_at(disk->folder, &view, NULL);
    device_unwatch(disk->engine, disk->name);
    if (r == 0 && umount2(disk->folder, UMOUNT_NOFOLLOW) < 0)
        return error_set(ret_error, errno, "device %s: cannot unmount %s: %s%s", disk->device->meta.name,
                         disk->folder, strerror(errno), errno == EBUSY ? ". Does a brick run on it?" : "");
    fault_point("device.down.after-unmount");
    if (rmdir(disk->folder) < 0 && errno != ENOENT && errno != ENOTEMPTY)
        return error_set(ret_error, errno, "device %s: cannot remove the folder %s: %s",
                         disk->device->meta.name, disk->folder, strerror(errno));
    struct stat status;
    if (stat(disk->device->spec.path, &status) == 0 && S_ISREG(status.st_mode))
        return loopdev_detach(disk->device->spec.path, ret_error);
    return 0;
}

/* A brick that was just asked for holds nothing open yet: the kernel would let its file system go. */
static int check_no_brick(struct engine *engine, const struct disk *disk, struct error **ret_error)
{
    autostring_list struct string_list ids = {0}, names = {0};
    engine->supervisor->ops->list(engine->supervisor, &ids, &names);
    for (size_t i = 0; i < ids.count; i++) {
        const char *device = strrchr(ids.items[i], '.'); /* "brick.VOLUME.DEVICE"; names have no dot */
        if (device && string_starts_with(ids.items[i], "brick.") && strcmp(device + 1, disk->name) == 0)
            return error_set(ret_error, EBUSY, "device %s: %s runs on it", disk->device->meta.name,
                             names.items[i]);
    }
    return 0;
}

static int down(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    cleanup(disk_clear) struct disk disk;
    int r = disk_begin(engine, &call->device, &disk, ret_error);
    if (r < 0)
        return r;
    scoped_claim(engine, "device", disk.name);
    r = check_no_brick(engine, &disk, ret_error);
    if (r == 0)
        r = unmount(&disk, ret_error);
    if (r == 0)
        device_set_bad(engine, disk.name, NULL);
    return r;
}

int engine_device_down(struct engine *engine, const struct device *device, struct error **ret_error)
{
    cleanup(cleanup_device_call) struct device_call *call = device_call_of(engine, device);
    return device_call_run(call, down, ret_error);
}

/* Wipes what is ours and leaves what is not, so that a disk which was changed for another loses nothing. */
static int erase_signature(struct disk *disk, bool *ret_ours, struct error **ret_error)
{
    const char *path = disk->device->spec.path;
    autoclose int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ELOOP) /* a link, such as those below /dev/disk */
        fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        *ret_ours = false;
        return 0;
    }
    if (fd < 0)
        return error_set(ret_error, errno, "device %s: cannot open %s: %s", disk->device->meta.name, path,
                         strerror(errno));
    cleanup(disk_view_clear) struct disk_view view = {0};
    int r = disk_look(fd, path, disk_expected_uuid(disk), &view, ret_error);
    if (r < 0)
        return r;
    bool wipe = view.content == DISK_OURS || view.content == DISK_INTERRUPTED;
    disk->image = true;
    *ret_ours = wipe || (view.content == DISK_BLANK && disk_image_is_blank(disk));
    return wipe ? disk_wipe(fd, path, ret_error) : 0;
}

static int erase(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    const struct device *device = &call->device;
    bool lost = call->flag;
    cleanup(disk_clear) struct disk disk;
    int r = disk_begin(engine, device, &disk, ret_error);
    if (r < 0)
        return r;
    scoped_claim(engine, "device", disk.name);
    r = unmount(&disk, ret_error);
    if (r < 0)
        return r;
    device_set_bad(engine, disk.name, NULL);
    bool ours = false;
    r = erase_signature(&disk, &ours, lost ? NULL : ret_error);
    if (r < 0 && !lost)
        return r;
    fault_point("device.erase.after-wipe");
    struct stat status;
    if (ours && device->spec.image_size && lstat(device->spec.path, &status) == 0 && S_ISREG(status.st_mode))
        return file_remove_durably(device->spec.path, ret_error);
    return 0;
}

int engine_device_erase(struct engine *engine, const struct device *device, bool lost,
                        struct error **ret_error)
{
    cleanup(cleanup_device_call) struct device_call *call = device_call_of(engine, device);
    call->flag = lost;
    return device_call_run(call, erase, ret_error);
}
