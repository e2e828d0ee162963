/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Making a device ready. It goes through: image file and loop device where asked for, format, mount, marker.
 * Each step looks whether it is done. The file system's UUID is the device object's, so that a format is
 * known for ours before its UUID was recorded.
 */
#include "blockd/engine/supervise_priv.h"
#include "blockd/engine/device_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"
#include "rpc/base/spawn.h"

#define FORMAT_TIMEOUT_MS (30 * 60 * 1000) /* discarding a large disk takes its time */
#define MOUNT_FLAGS       (MS_NOATIME | MS_NODEV | MS_NOSUID | MS_NOEXEC)

static int format_disk(const struct disk *disk, struct error **ret_error)
{
    fault_point("device.format.before-mkfs");
    autofree char *meta = xasprintf("reflink=1,uuid=%s", disk->device->meta.uid);
    const char *const argv[] = {disk->engine->roots.mkfs_xfs, "-f", "-q", "-L", "blockd", "-m", meta,
                                disk->block_device,           NULL};
    int r = program_run(argv, FORMAT_TIMEOUT_MS, NULL, NULL, ret_error);
    if (r < 0) {
        if (ret_error)
            error_prefix(ret_error, "device %s: cannot format %s", disk->device->meta.name,
                         disk->device->spec.path);
        return r;
    }
    fault_point("device.format.after-mkfs");
    return 0;
}

static int mount_disk(const struct disk *disk, struct error **ret_error)
{
    int r = folder_make(disk->folder, 0700, ret_error);
    if (r < 0)
        return r;
    /* EINVAL is how a kernel without XFS quota refuses the option; a file system that it cannot read fails
     * twice. */
    if (mount(disk->block_device, disk->folder, "xfs", MOUNT_FLAGS, "inode64,prjquota") < 0 &&
        (errno != EINVAL || mount(disk->block_device, disk->folder, "xfs", MOUNT_FLAGS, "inode64") < 0))
        return error_set(ret_error, errno, "device %s: cannot mount %s at %s: %s", disk->device->meta.name,
                         disk->block_device, disk->folder, strerror(errno));
    fault_point("device.mount.after-mount");
    return 0;
}

/* Tells a mounted device from the empty folder below it, and whose it is. */
static int mark(const struct disk *disk, struct error **ret_error)
{
    autofree char *path = xasprintf("%s/" DEVICE_MARKER, disk->folder);
    autofree char *present = NULL;
    int r = file_read(path, 64, &present, NULL, NULL);
    if (r == -ENOENT) {
        r = files_sweep(disk->folder, ret_error);
        return r < 0 ? r : file_write_atomic(path, disk->device->meta.uid, 0600, ret_error);
    }
    if (r < 0)
        return error_set(ret_error, -r, "device %s: cannot read %s: %s", disk->device->meta.name, path,
                         strerror(-r));
    if (strcmp(present, disk->device->meta.uid) != 0)
        return error_set(ret_error, ESTALE, "device %s: %s was made for another device (%s)",
                         disk->device->meta.name, disk->device->spec.path, present);
    return 0;
}

/* ---- A disk that fails ---- */

/* `hangs`: they hang with their disk, and have no say in their end; they stay in the kernel for a while. */
static void stop_bricks(const struct engine *engine, const char *device, bool hangs)
{
    struct supervisor *supervisor = engine->supervisor;
    autostring_list struct string_list ids = {0}, names = {0};
    supervisor->ops->list(supervisor, &ids, &names);
    for (size_t i = 0; i < ids.count; i++) {
        const char *name = strrchr(ids.items[i], '.'); /* "brick.VOLUME.DEVICE" */
        if (!string_starts_with(ids.items[i], "brick.") || strcmp(name + 1, device) != 0)
            continue;
        cleanup(process_plan_clear) struct process_plan plan = {
            .id = xstrdup(ids.items[i]),
            .name = xstrdup(names.items[i]),
            .unit = xasprintf("blockd-brick@%s.service", ids.items[i] + strlen("brick.")),
        };
        if (hangs)
            supervisor->ops->kill(supervisor, &plan);
        else
            supervisor->ops->down(supervisor, &plan, NULL);
    }
}

/* Replicas serve what it held; unmounted, the next look can bring it back. */
static void take_out(const struct disk *disk, int failure, const char *reason)
{
    device_set_bad(disk->engine, disk->name, reason);
    smart_forget(disk->engine, disk->name);
    fault_point("device.take-out.after-mark");
    stop_bricks(disk->engine, disk->name, failure == -ETIMEDOUT);
    if (failure == -ETIMEDOUT) /* so would the unmounting hang */
        return;
    device_unwatch(disk->engine, disk->name);
    if (umount2(disk->folder, UMOUNT_NOFOLLOW) < 0 && errno == EBUSY)
        umount2(disk->folder, UMOUNT_NOFOLLOW | MNT_DETACH);
    fault_point("device.take-out.after-unmount");
    struct stat status;
    if (stat(disk->device->spec.path, &status) == 0 && S_ISREG(status.st_mode))
        loopdev_detach(disk->device->spec.path, NULL);
}

/* One that is mounted and works is ready, even if its name is gone for a moment. */
static int look_at_mounted(const struct disk *disk, struct error **ret_error)
{
    autoerror struct error *reason = NULL;
    int r = device_check(disk->engine, disk->name, disk->folder, &reason);
    if (r == 0)
        return 0;
    take_out(disk, r, error_message(reason));
    return error_set(ret_error, -r, "device %s: %s", disk->device->meta.name, error_message(reason));
}

static int bring_up(struct disk *disk, bool destroy, struct error **ret_error)
{
    bool mounted = false, format = false;
    int r = disk_open(disk, true, ret_error);
    if (r == 0)
        r = disk_look_for_mount(disk, &mounted, ret_error);
    if (r == 0 && !mounted)
        r = disk_check_free(disk, ret_error);
    if (r == 0 && !mounted)
        r = disk_judge(disk, disk->fd, destroy, &format, ret_error);
    if (r == 0 && format)
        r = format_disk(disk, ret_error);
    if (r == 0 && !mounted)
        r = mount_disk(disk, ret_error);
    if (r == 0)
        r = mark(disk, ret_error);
    return r;
}

static int up(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    cleanup(disk_clear) struct disk disk;
    int r = disk_begin(engine, &call->device, &disk, ret_error);
    if (r < 0)
        return r;
    scoped_claim(engine, "device", disk.name);
    struct mount_view view;
    bool mounted = mounts_at(disk.folder, &view, NULL) == 0;
    if (mounted && (r = look_at_mounted(&disk, ret_error)) < 0)
        return r;
    autoerror struct error *problem = NULL;
    r = bring_up(&disk, call->flag, &problem);
    bool away = mounted && (r == -ENOENT || r == -ENXIO);
    if (r < 0 && !away) {
        autofree char *bad = device_bad_reason(engine, disk.name);
        return error_set(ret_error, -r, "%s%s%s", error_message(problem),
                         bad ? "; it was taken out because " : "", bad ? bad : "");
    }
    if (!mounted && (r = look_at_mounted(&disk, ret_error)) < 0)
        return r;
    device_set_bad(engine, disk.name, NULL);
    struct device_status *status = &call->seen.status;
    r = disk_fill_status(&disk, status, ret_error);
    if (r < 0)
        return r;
    if (away)
        status->error = xasprintf("%s; it works until it is unmounted", error_message(problem));
    if (mounts_at(disk.folder, &view, NULL) == 0)
        smart_look(engine, disk.name, view.device, &status->health, &status->health_reason);
    return 0;
}

int engine_device_up(struct engine *engine, const struct device *device, bool destroy,
                     struct device_status *ret_status, struct error **ret_error)
{
    cleanup(cleanup_device_call) struct device_call *call = device_call_of(engine, device);
    const char *name = call->names.items[0];
    autoerror struct error *problem = NULL;
    call->flag = destroy;
    /* One that is mounted is watched. */
    autofree char *folder = device_mount_point(engine, name);
    int r = mounts_has(folder) ? 0 : disk_answers(engine, device, &problem);
    if (r == 0)
        r = device_call_run(call, up, &problem);
    if (r < 0 && device_hangs(engine, name)) { /* whoever works on it: the bricks are to go */
        device_set_bad(engine, name, "its disk does not answer");
        stop_bricks(engine, name, true);
    }
    if (r < 0)
        return error_set(ret_error, -r, "%s", error_message(problem));
    *ret_status = call->seen.status;
    call->seen.status = (struct device_status){0};
    return 0;
}
