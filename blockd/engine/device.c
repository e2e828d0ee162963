/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A device goes through: image file and loop device where asked for, format, mount, marker. Each step looks
 * whether it is done. The file system's UUID is the device object's, so that a format is known for ours
 * before its UUID was recorded.
 */
#include "blockd/engine/engine_priv.h"
#include "blockd/engine/supervise_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"
#include "rpc/base/spawn.h"

#define SIZE_MINIMUM      (300ull << 20)          /* of mkfs.xfs */
#define FORMAT_TIMEOUT_MS (30 * 60 * 1000)        /* discarding a large disk takes its time */
#define PROBE_MS          (60 * 1000)             /* for a disk that does not answer */
#define IMAGE_XATTR       "trusted.blockd.device" /* on an image file that blockd made: the uid of its device */
#define MOUNT_FLAGS       (MS_NOATIME | MS_NODEV | MS_NOSUID | MS_NOEXEC)

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

static void disk_clear(struct disk *disk)
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

static int begin(struct engine *engine, const struct device *device, struct disk *disk,
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

/* ---- Finding it ---- */

/* An image is made sparse, and marked before anything is in it, so that a format that was cut short is known
 * for ours. */
static int make_image(const struct disk *disk, struct error **ret_error)
{
    const char *path = disk->device->spec.path;
    autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return error_set(ret_error, errno, "cannot create the image %s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode) || status.st_size != 0)
        return 0;
    const char *uid = disk->device->meta.uid;
    if (fsetxattr(fd, IMAGE_XATTR, uid, strlen(uid), 0) < 0 && errno != EOPNOTSUPP)
        return error_set(ret_error, errno, "cannot mark the image %s: %s", path, strerror(errno));
    if (ftruncate(fd, (off_t)disk->device->spec.image_size) < 0 || fsync(fd) < 0)
        return error_set(ret_error, errno, "cannot size the image %s: %s", path, strerror(errno));
    fault_point("device.image.after-create");
    return 0;
}

/* Another name for the disk, once its UUID is known: names such as /dev/sdb change from boot to boot. */
static char *path_by_uuid(const struct disk *disk)
{
    const char *uuid = disk->device->status.uuid;
    if (!uuid || disk->device->spec.image_size)
        return NULL;
    char *path = xasprintf("/dev/disk/by-uuid/%s", uuid);
    if (access(path, F_OK) == 0)
        return path;
    free(path);
    return NULL;
}

static int open_block_device(struct disk *disk, const char *path, struct error **ret_error)
{
    autoclose int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return error_set(ret_error, errno, "device %s: cannot open %s: %s", disk->device->meta.name, path,
                         strerror(errno));
    if (!S_ISBLK(status.st_mode))
        return error_set(ret_error, ENOTBLK, "device %s: %s is neither a block device nor a regular file",
                         disk->device->meta.name, path);
    int read_only = 0;
    if (ioctl(fd, BLKROGET, &read_only) == 0 && read_only)
        return error_set(ret_error, EROFS, "device %s: %s is read-only", disk->device->meta.name, path);
    disk->number = status.st_rdev;
    disk->fd = steal_fd(&fd);
    disk->block_device = xstrdup(path);
    return 0;
}

static int open_image(struct disk *disk, bool attach, struct error **ret_error)
{
    disk->image = true;
    int r = loopdev_open(disk->device->spec.path, attach, &disk->block_device, &disk->fd, ret_error);
    struct stat status;
    if (r == 0 && fstat(disk->fd, &status) < 0)
        r = error_set(ret_error, errno, "cannot stat %s: %s", disk->block_device, strerror(errno));
    if (r == 0)
        disk->number = status.st_rdev;
    return r;
}

/* Opens what the path leads to; with `attach` an image is made where one is asked for, and gets a loop
 * device. */
static int open_disk(struct disk *disk, bool attach, struct error **ret_error)
{
    const char *path = disk->device->spec.path;
    /* A recorded UUID says that there was data: an image that is gone is then not made anew. */
    if (attach && disk->device->spec.image_size && !disk->device->status.uuid) {
        int r = make_image(disk, ret_error);
        if (r < 0)
            return r;
    }
    struct stat status;
    int r = stat(path, &status) < 0 ? -errno : 0;
    if (r == 0 && S_ISREG(status.st_mode))
        return open_image(disk, attach, ret_error);
    autofree char *other = path_by_uuid(disk);
    if (other && (r == 0 || r == -ENOENT))
        return open_block_device(disk, other, ret_error);
    if (r < 0)
        return error_set(ret_error, -r, "device %s: cannot find %s: %s", disk->device->meta.name, path,
                         strerror(-r));
    return open_block_device(disk, path, ret_error);
}

/* ---- Looking at it ---- */

/* 0 when it is mounted at its place or nowhere, as *ret_mounted says. */
static int look_for_mount(const struct disk *disk, bool *ret_mounted, struct error **ret_error)
{
    struct mount_view view;
    autofree char *elsewhere = NULL;
    int r = mounts_at(disk->folder, &view, NULL);
    if (r == 0 && view.device == disk->number) {
        *ret_mounted = true;
        return 0;
    }
    if (r == 0)
        return error_set(ret_error, EBUSY, "device %s: something else is mounted at %s",
                         disk->device->meta.name, disk->folder);
    if (r != -ENOENT)
        return error_set(ret_error, -r, "cannot read the list of mounts: %s", strerror(-r));
    r = mounts_of(disk->number, &elsewhere, ret_error);
    if (r < 0)
        return r;
    if (elsewhere)
        return error_set(ret_error, EBUSY, "device %s: %s is mounted at %s; unmount it first",
                         disk->device->meta.name, disk->block_device, elsewhere);
    *ret_mounted = false;
    return 0;
}

/* The kernel grants exclusive use of a block device once: not beside a mount, swap, RAID or LVM. */
static int check_free(const struct disk *disk, struct error **ret_error)
{
    const struct stat what = {.st_mode = S_IFBLK, .st_rdev = disk->number};
    autofree char *use = disk_use(&what);
    if (use)
        return error_set(ret_error, EBUSY, "device %s: %s %s", disk->device->meta.name,
                         disk->device->spec.path, use);
    autoclose int fd = open(disk->block_device, O_RDONLY | O_EXCL | O_CLOEXEC);
    if (fd < 0)
        return error_set(ret_error, errno, "device %s: %s %s", disk->device->meta.name, disk->block_device,
                         errno == EBUSY ? "is in use (swap, RAID, LVM or a mount of another namespace)"
                                        : strerror(errno));
    return 0;
}

/* Is this the image that blockd made for the device, or a file in which nothing was written yet? */
static bool image_is_blank(const struct disk *disk)
{
    const char *path = disk->device->spec.path;
    char uid[64];
    ssize_t length = getxattr(path, IMAGE_XATTR, uid, sizeof uid - 1);
    if (length >= 0) {
        uid[length] = '\0';
        return strcmp(uid, disk->device->meta.uid) == 0;
    }
    struct stat status;
    return stat(path, &status) == 0 && status.st_blocks == 0;
}

static const char *expected_uuid(const struct disk *disk)
{
    return disk->device->status.uuid ? disk->device->status.uuid : disk->device->meta.uid;
}

/*
 * Decides whether the disk may be formatted. *ret_format is false when it is ours already. Files are judged
 * more strictly than disks: one without a known signature may still be somebody's.
 */
static int judge(const struct disk *disk, int fd, bool destroy, bool *ret_format, struct error **ret_error)
{
    const struct device *device = disk->device;
    cleanup(disk_view_clear) struct disk_view view = {0};
    int r = disk_look(fd, device->spec.path, expected_uuid(disk), &view, ret_error);
    if (r < 0)
        return r;
    if (view.content == DISK_OURS) {
        *ret_format = false;
        return 0;
    }
    if (device->status.uuid)
        return error_set(
            ret_error, ESTALE,
            "device %s: %s holds %s, not the file system %s that was made for it. Is it the right disk?",
            device->meta.name, device->spec.path, view.text ? view.text : "nothing known",
            device->status.uuid);
    bool unknown_file = disk->image && view.content == DISK_BLANK && !image_is_blank(disk);
    if (!destroy && (view.content == DISK_FOREIGN || unknown_file))
        return error_set(
            ret_error, EEXIST,
            "device %s: %s holds %s. To overwrite it, ask for the device with destroy_existing_data "
            "(gluster-block device add --destroy-existing-data)",
            device->meta.name, device->spec.path, view.text ? view.text : "data of an unknown kind");
    if (view.size < SIZE_MINIMUM)
        return error_set(ret_error, EINVAL, "device %s: %s is too small: XFS needs at least 300 MiB",
                         device->meta.name, device->spec.path);
    *ret_format = true;
    return 0;
}

static int probe_absent(const struct disk *disk, struct error **ret_error)
{
    const struct device *device = disk->device;
    if (!device->spec.image_size || device->status.uuid)
        return error_set(ret_error, ENOENT, "device %s: there is no %s", device->meta.name,
                         device->spec.path);
    if (device->spec.image_size < SIZE_MINIMUM)
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
        r = look_for_mount(disk, &mounted, ret_error);
        if (r == 0 && !mounted) /* somebody's, and used as it is */
            r = check_free(disk, ret_error);
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
    return judge(disk, fd, false, &format, ret_error);
}

char *engine_device_stable_path(struct engine *engine, const char *path)
{
    return disk_stable_name(engine->roots.by_id, path);
}

static struct device_call *call_of(struct engine *engine, const struct device *device)
{
    autofree char *name = object_name_part(device->meta.name, 1);
    struct device_call *call = device_call_new(engine, name);
    schema_copy(&device_schema, &call->device, device);
    return call;
}

static int probe(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    const struct device *device = &call->device;
    cleanup(disk_clear) struct disk disk;
    int r = begin(engine, device, &disk, ret_error);
    if (r < 0)
        return r;
    scoped_claim(engine, "device", disk.name);
    struct stat status;
    if (stat(device->spec.path, &status) < 0 && errno == ENOENT)
        return probe_absent(&disk, ret_error);
    if (S_ISREG(status.st_mode))
        return probe_image(&disk, ret_error);
    r = open_disk(&disk, false, ret_error);
    bool mounted = false, format;
    if (r == 0)
        r = look_for_mount(&disk, &mounted, ret_error);
    if (r == 0 && !mounted)
        r = check_free(&disk, ret_error);
    return r < 0 ? r : judge(&disk, disk.fd, false, &format, ret_error);
}

int engine_device_probe(struct engine *engine, const struct device *device, struct error **ret_error)
{
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, device);
    call->limit_ms = PROBE_MS;
    return device_call_run(call, probe, ret_error);
}

/* ---- Making it ready ---- */

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

static int fill_status(const struct disk *disk, struct device_status *ret_status, struct error **ret_error)
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
        .uuid = xstrdup(expected_uuid(disk)),
        .mount = xstrdup(disk->folder),
        .size = (uint64_t)space.f_blocks * space.f_frsize,
        .free = (uint64_t)space.f_bavail * space.f_frsize,
        .quota = view.quota,
        .observed_generation = disk->device->meta.generation,
    };
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
    int r = open_disk(disk, true, ret_error);
    if (r == 0)
        r = look_for_mount(disk, &mounted, ret_error);
    if (r == 0 && !mounted)
        r = check_free(disk, ret_error);
    if (r == 0 && !mounted)
        r = judge(disk, disk->fd, destroy, &format, ret_error);
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
    int r = begin(engine, &call->device, &disk, ret_error);
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
    r = fill_status(&disk, status, ret_error);
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
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, device);
    const char *name = call->names.items[0];
    autoerror struct error *problem = NULL;
    call->flag = destroy;
    int r = device_call_run(call, up, &problem);
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

/* ---- Taking it away ---- */

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
    int r = begin(engine, &call->device, &disk, ret_error);
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
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, device);
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
    int r = disk_look(fd, path, expected_uuid(disk), &view, ret_error);
    if (r < 0)
        return r;
    bool wipe = view.content == DISK_OURS || view.content == DISK_INTERRUPTED;
    disk->image = true;
    *ret_ours = wipe || (view.content == DISK_BLANK && image_is_blank(disk));
    return wipe ? disk_wipe(fd, path, ret_error) : 0;
}

static int erase(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    const struct device *device = &call->device;
    bool lost = call->flag;
    cleanup(disk_clear) struct disk disk;
    int r = begin(engine, device, &disk, ret_error);
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
        return file_remove(device->spec.path, ret_error);
    return 0;
}

int engine_device_erase(struct engine *engine, const struct device *device, bool lost,
                        struct error **ret_error)
{
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, device);
    call->flag = lost;
    return device_call_run(call, erase, ret_error);
}

/* ---- Status ---- */

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

/* A file system that gave up after an I/O error is still mounted, but says nothing else; this asks no disk.
 */
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
    int r = begin(engine, device, &disk, ret_error);
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
        r = fill_status(&disk, &status, &error);
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
