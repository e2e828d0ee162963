/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Finding a device's disk, and looking whether it may be used. */
#include "device_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"

#define IMAGE_XATTR "trusted.blockd.device" /* on an image file that blockd made: the uid of its device */
#define ANSWER_MS   10000                   /* a disk that has to spin up takes some of it */
#define READ_BYTES  4096

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

/* Whoever uses it next tells what is wrong with it. */
static void read_start(const char *path)
{
    autofree char *place = aligned_alloc(READ_BYTES, READ_BYTES);
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT | O_NONBLOCK);
    if (fd < 0 && errno == EINVAL)
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && place && pread(fd, place, READ_BYTES, 0) < 0)
        errno = 0;
}

static int read_path(struct device_call *call, struct error **ret_error)
{
    (void)ret_error;
    read_start(call->text);
    return 0;
}

static int read_disk(struct device_call *call, struct error **ret_error)
{
    cleanup(disk_clear) struct disk disk;
    int r = disk_begin(call->engine, &call->device, &disk, ret_error);
    if (r < 0)
        return r;
    struct stat status;
    const char *path = call->device.spec.path;
    bool image = stat(path, &status) == 0 && S_ISREG(status.st_mode);
    autofree char *other = image ? NULL : path_by_uuid(&disk);
    read_start(other ? other : path);
    return 0;
}

int disk_answers(struct engine *engine, const struct device *device, struct error **ret_error)
{
    cleanup(cleanup_device_call) struct device_call *call = device_call_of(engine, device);
    call->limit_ms = ANSWER_MS;
    return device_call_run(call, read_disk, ret_error);
}

int disk_path_answers(struct engine *engine, const char *path, struct error **ret_error)
{
    autoerror struct error *problem = NULL;
    cleanup(cleanup_device_call) struct device_call *call = device_call_new(engine, path);
    call->text = xstrdup(path);
    call->limit_ms = ANSWER_MS;
    int r = device_call_run(call, read_path, &problem);
    return r == -ETIMEDOUT ? error_set(ret_error, ETIMEDOUT, "%s does not answer", path) : 0;
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

int disk_open(struct disk *disk, bool attach, struct error **ret_error)
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

int disk_look_for_mount(const struct disk *disk, bool *ret_mounted, struct error **ret_error)
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

int disk_check_free(const struct disk *disk, struct error **ret_error)
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

bool disk_image_is_blank(const struct disk *disk)
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

int disk_judge(const struct disk *disk, int fd, bool destroy, bool *ret_format, struct error **ret_error)
{
    const struct device *device = disk->device;
    cleanup(disk_view_clear) struct disk_view view = {0};
    int r = disk_look(fd, device->spec.path, disk_expected_uuid(disk), &view, ret_error);
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
    bool unknown_file = disk->image && view.content == DISK_BLANK && !disk_image_is_blank(disk);
    if (!destroy && (view.content == DISK_FOREIGN || unknown_file))
        return error_set(
            ret_error, EEXIST,
            "device %s: %s holds %s. To overwrite it, ask for the device with destroy_existing_data "
            "(gluster-block device add --destroy-existing-data)",
            device->meta.name, device->spec.path, view.text ? view.text : "data of an unknown kind");
    if (view.size < DEVICE_SIZE_MINIMUM)
        return error_set(ret_error, EINVAL, "device %s: %s is too small: XFS needs at least 300 MiB",
                         device->meta.name, device->spec.path);
    *ret_format = true;
    return 0;
}
