/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What a device is called, where it is mounted, and what is seen of it. */
#include "blockd/engine/device_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

void disk_clear(struct disk *disk)
{
    free(disk->name);
    free(disk->folder);
    free(disk->block_device);
    if (disk->fd >= 0)
        close(disk->fd);
    *disk = (struct disk){.fd = -1};
}

char *device_mount_point(const struct engine *engine, const char *name)
{
    return xasprintf("%s/devices/%s", engine->config->state_dir, name);
}

int disk_begin(struct engine *engine, const struct device *device, struct disk *disk,
               struct error **ret_error)
{
    *disk = (struct disk){.engine = engine, .device = device, .fd = -1};
    disk->name = object_name_part(device->meta.name, 1);
    int r = engine_name_check("device", disk->name, ret_error);
    if (r == 0)
        r = volfile_path_check("the path of the device", device->spec.path, ret_error);
    if (r < 0)
        return r;
    if (!device->meta.uid || strlen(device->meta.uid) != 36)
        return error_set(ret_error, EINVAL, "device %s has no UUID", device->meta.name);
    disk->folder = device_mount_point(engine, disk->name);
    return 0;
}

const char *disk_expected_uuid(const struct disk *disk)
{
    return disk->device->status.uuid ? disk->device->status.uuid : disk->device->meta.uid;
}

struct device_call *device_call_of(struct engine *engine, const struct device *device)
{
    autofree char *name = object_name_part(device->meta.name, 1);
    struct device_call *call = device_call_new(engine, name);
    schema_copy(&device_schema, &call->device, device);
    return call;
}

/* ---- Status ---- */

int disk_fill_status(const struct disk *disk, struct device_status *ret_status, struct error **ret_error)
{
    struct mount_view view;
    struct statvfs space;
    int r = mounts_at(disk->folder, &view, ret_error);
    if (r < 0)
        return r;
    r = device_space(disk->engine, disk->name, disk->folder, &space);
    if (r < 0)
        return error_set(ret_error, -r, "device %s: cannot ask %s for its space: %s", disk->device->meta.name,
                         disk->folder, strerror(-r));
    *ret_status = (struct device_status){
        .phase = xstrdup("ready"),
        .uuid = xstrdup(disk_expected_uuid(disk)),
        .mount = xstrdup(disk->folder),
        .size = (uint64_t)space.f_blocks * space.f_frsize,
        .free = (uint64_t)space.f_bavail * space.f_frsize,
        .quota = view.quota,
        .observed_generation = disk->device->meta.generation,
    };
    return 0;
}

static int read_marker(struct device_call *call, struct error **ret_error)
{
    autofree char *marker = xasprintf("%s/" DEVICE_MARKER, call->text);
    autofree char *uid = NULL;
    int r = file_read(marker, 64, &uid, NULL, NULL);
    if (r < 0)
        return error_set(ret_error, ENODEV, "device %s: cannot read %s: %s", call->names.items[0], marker,
                         strerror(-r));
    return 0;
}

/* A file system that gave up after an I/O error is still mounted, but says nothing
 * else; this asks no disk. */
static bool gave_up(const char *folder)
{
    struct statx status;
    return statx(AT_FDCWD, folder, AT_STATX_DONT_SYNC, 0, &status) < 0;
}

int device_check_mounted(struct engine *engine, const char *name, struct error **ret_error)
{
    autofree char *bad = device_bad_reason(engine, name);
    if (bad)
        return error_set(ret_error, ENODEV, "device %s is taken out: %s", name, bad);
    autofree char *folder = device_mount_point(engine, name);
    if (!mounts_has(folder))
        return error_set(ret_error, ENODEV, "device %s is not mounted at %s", name, folder);
    if (device_answers(engine, name) && !gave_up(folder))
        return 0;
    cleanup(cleanup_device_call) struct device_call *call = device_call_new(engine, name);
    call->text = steal_ptr(&folder);
    int r = device_call_run(call, read_marker, ret_error);
    return r == -ETIMEDOUT ? -ENODEV : r;
}

static int look_at_space(struct device_call *call, struct error **ret_error)
{
    (void)ret_error;
    return statvfs(call->text, &call->space) < 0 ? -errno : 0;
}

int device_space(struct engine *engine, const char *name, const char *folder, struct statvfs *ret_space)
{
    cleanup(cleanup_device_call) struct device_call *call = device_call_new(engine, name);
    call->text = xstrdup(folder);
    int r = device_call_run(call, look_at_space, NULL);
    if (r == 0)
        *ret_space = call->space;
    return r;
}

int engine_device_status(struct engine *engine, const struct device *device, struct device_status *ret_status,
                         struct error **ret_error)
{
    cleanup(disk_clear) struct disk disk;
    int r = disk_begin(engine, device, &disk, ret_error);
    if (r < 0)
        return r;
    autoerror struct error *error = NULL;
    struct mount_view view;
    if (mounts_at(disk.folder, &view, NULL) == -ENOENT) {
        *ret_status = (struct device_status){
            .phase = xstrdup("stopped"),
            .uuid = xstrdup(device->status.uuid),
            .observed_generation = device->meta.generation,
        };
        return 0;
    }
    r = device_check_mounted(engine, disk.name, &error);
    struct device_status status = {0};
    if (r == 0)
        r = disk_fill_status(&disk, &status, &error);
    if (r < 0)
        status = (struct device_status){
            .phase = xstrdup("failed"),
            .uuid = xstrdup(device->status.uuid),
            .mount = xstrdup(disk.folder),
            .observed_generation = device->meta.generation,
            .error = xstrdup(error_message(error)),
        };
    *ret_status = status;
    return 0;
}
