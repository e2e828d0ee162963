/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/engine/adopt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "blockd/engine/engine_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"
#include "rpc/base/uuid.h"

#define LOOK_FLAGS (MS_RDONLY | MS_NOATIME | MS_NODEV | MS_NOSUID | MS_NOEXEC)

static char *looks_folder(const struct engine *engine)
{
    return xasprintf("%s/looks", engine->config->run_dir);
}

/* ---- Opening ---- */

/* A block device as it is, an image through a loop device that goes with its last user. */
static int open_block(const char *path, char **ret_block, int *ret_fd, struct error **ret_error)
{
    struct stat status;
    if (stat(path, &status) < 0)
        return error_set(ret_error, errno, "cannot find %s: %s", path, strerror(errno));
    if (S_ISREG(status.st_mode))
        return loopdev_open(path, true, ret_block, ret_fd, ret_error);
    if (!S_ISBLK(status.st_mode))
        return error_set(ret_error, ENOTBLK, "%s is neither a block device nor a regular file", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(ret_error, errno, "cannot open %s: %s", path, strerror(errno));
    *ret_fd = fd;
    *ret_block = xstrdup(path);
    return 0;
}

/* Only an XFS is ever handed to the kernel. */
static int check_content(int fd, struct found_disk *disk, struct error **ret_error)
{
    cleanup(disk_view_clear) struct disk_view view = {0};
    int r = disk_look(fd, disk->path, "", &view, ret_error);
    if (r < 0)
        return r;
    if (!view.uuid || !view.xfs)
        return error_set(ret_error, ENODATA, "%s holds no device of blockd: %s", disk->path,
                         view.text ? view.text : "nothing known is on it");
    disk->fs_uuid = steal_ptr(&view.uuid);
    return 0;
}

static int mount_for_a_look(struct engine *engine, const char *block, struct found_disk *disk,
                            struct error **ret_error)
{
    autofree char *looks = looks_folder(engine);
    autofree char *folder = xasprintf("%s/%s", looks, disk->fs_uuid);
    int r = folder_make(folder, 0700, ret_error);
    if (r < 0)
        return r;
    if (mount(block, folder, "xfs", LOOK_FLAGS, NULL) < 0) {
        r = error_set(ret_error, errno, "cannot mount %s to look at it: %s", disk->path, strerror(errno));
        rmdir(folder);
        return r;
    }
    fault_point("adopt.after-look-mount");
    disk->folder = xstrdup(folder);
    disk->temporary = steal_ptr(&folder);
    return 0;
}

static int read_marker(struct found_disk *disk, struct error **ret_error)
{
    autofree char *marker = xasprintf("%s/" DEVICE_MARKER, disk->folder);
    autofree char *uid = NULL;
    int r = file_read(marker, 64, &uid, NULL, NULL);
    if (r < 0 || strlen(uid) != 36)
        return error_set(ret_error, ENODATA, "%s holds no device of blockd: an XFS without %s", disk->path,
                         DEVICE_MARKER);
    disk->device_uid = steal_ptr(&uid);
    return 0;
}

int engine_disk_open(struct engine *engine, const char *path, struct found_disk *ret_disk,
                     struct error **ret_error)
{
    cleanup(engine_disk_close) struct found_disk disk = {.path = xstrdup(path)};
    autofree char *block = NULL;
    autoclose int fd = -1;
    struct stat status;
    int r = volfile_path_check("the path of a disk", path, ret_error);
    if (r == 0) /* its caller keeps others waiting */
        r = disk_path_answers(engine, path, ret_error);
    if (r == 0)
        r = open_block(path, &block, &fd, ret_error);
    if (r == 0)
        r = check_content(fd, &disk, ret_error);
    if (r < 0)
        return r;
    if (fstat(fd, &status) < 0)
        return error_set(ret_error, errno, "cannot stat %s: %s", path, strerror(errno));
    r = mounts_of(status.st_rdev, &disk.folder, ret_error);
    if (r == 0 && !disk.folder)
        r = mount_for_a_look(engine, block, &disk, ret_error);
    if (r == 0)
        r = read_marker(&disk, ret_error);
    if (r < 0)
        return r;
    *ret_disk = disk;
    disk = (struct found_disk){0};
    return 0;
}

static void take_down(const char *folder)
{
    umount2(folder, UMOUNT_NOFOLLOW);
    rmdir(folder);
}

void engine_disk_close(struct found_disk *disk)
{
    if (disk->temporary)
        take_down(disk->temporary);
    free(disk->path);
    free(disk->device_uid);
    free(disk->fs_uuid);
    free(disk->folder);
    free(disk->temporary);
    *disk = (struct found_disk){0};
}

int engine_disk_sweep(struct engine *engine, struct error **ret_error)
{
    autofree char *looks = looks_folder(engine);
    autostring_list struct string_list names = {0};
    int r = folder_list(looks, &names, ret_error);
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        autofree char *folder = xasprintf("%s/%s", looks, names.items[i]);
        take_down(folder);
    }
    return r;
}

/* ---- Reading ---- */

int engine_disk_manifest(const struct found_disk *disk, char **ret_text, struct error **ret_error)
{
    autofree char *folder = xasprintf("%s/" MANIFEST_FOLDER, disk->folder);
    return manifest_read_below(folder, ret_text, ret_error);
}

int engine_disk_brick(const struct found_disk *disk, const char *volume, char **ret_uid)
{
    autofree char *folder = xasprintf("%s/bricks/%s", disk->folder, volume);
    return brick_volume_id(folder, ret_uid);
}

/* Opens what lies below a brick, without following a link or leaving it: the disk may be anybody's. */
static int open_below(const struct found_disk *disk, const char *volume, const char *path, int flags)
{
    autofree char *brick = xasprintf("%s/bricks/%s", disk->folder, volume);
    autoclose int root = open(brick, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (root < 0)
        return -errno;
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    return fd < 0 ? -errno : fd;
}

int engine_disk_file(const struct found_disk *disk, const char *volume, const char *file, uint64_t *ret_size)
{
    autoclose int fd = open_below(disk, volume, file, O_PATH | O_NOFOLLOW);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return fd < 0 ? fd : -errno;
    if (!S_ISREG(status.st_mode))
        return -ENOENT;
    *ret_size = (uint64_t)status.st_size;
    return 0;
}

int engine_disk_folder(const struct found_disk *disk, const char *volume, const char *folder,
                       struct string_list *ret_names, struct error **ret_error)
{
    autoclose int fd = open_below(disk, volume, folder, O_RDONLY | O_DIRECTORY);
    if (fd == -ENOENT)
        return 0;
    if (fd < 0)
        return error_set(ret_error, -fd, "cannot read %s of volume %s on %s: %s", folder, volume, disk->path,
                         strerror(-fd));
    autofree char *path = xasprintf("/proc/self/fd/%d", fd);
    return folder_list(path, ret_names, ret_error);
}

/* ---- Before the record ---- */

int engine_volume_expect(struct engine *engine, const struct volume *volume, struct error **ret_error)
{
    int r = volfile_volume_check(volume, ret_error);
    for (size_t i = 0; r == 0 && i < volume->spec.bricks.count; i++) {
        const struct brick_spec *brick = volume_brick(volume, i);
        autofree char *path = brick_volfile(engine, brick->device, volume->meta.name);
        if (brick_is_local(engine, brick) && access(path, F_OK) < 0)
            r = file_write_atomic(path, "", 0640, ret_error);
    }
    return r;
}
