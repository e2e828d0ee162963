/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/engine/engine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

/* Between asking for a free device and taking it, another process may take it. */
#define ATTACH_TRIES 64

/* Does this loop device serve the file? The kernel gives the file's device and inode. */
static bool serves(int fd, const struct stat *file)
{
    struct loop_info64 info = {0};
    return ioctl(fd, LOOP_GET_STATUS64, &info) == 0 && info.lo_device == file->st_dev &&
           info.lo_inode == file->st_ino;
}

static int find(const struct stat *file, char **ret_device, int *ret_fd, struct error **ret_error)
{
    autostring_list struct string_list names = {0};
    int r = folder_list("/sys/block", &names, ret_error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < names.count; i++) {
        autofree char *attached = xasprintf("/sys/block/%s/loop", names.items[i]);
        if (!string_starts_with(names.items[i], "loop") || access(attached, F_OK) < 0)
            continue;
        autofree char *device = xasprintf("/dev/%s", names.items[i]);
        autoclose int fd = open(device, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && serves(fd, file)) {
            *ret_device = steal_ptr(&device);
            *ret_fd = steal_fd(&fd);
            return 0;
        }
    }
    return -ENOENT;
}

static int attach(const char *file, int file_fd, char **ret_device, int *ret_fd, struct error **ret_error)
{
    autoclose int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return error_set(ret_error, errno,
                         "cannot open /dev/loop-control: %s. Is the kernel module loop loaded?",
                         strerror(errno));
    struct loop_config config = {.fd = (uint32_t)file_fd};
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    snprintf((char *)config.info.lo_file_name, sizeof config.info.lo_file_name, "%s", file);
    for (int i = 0; i < ATTACH_TRIES; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return error_set(ret_error, errno, "cannot get a free loop device: %s", strerror(errno));
        autofree char *device = xasprintf("/dev/loop%d", number);
        autoclose int fd = open(device, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return error_set(ret_error, errno, "cannot open %s: %s", device, strerror(errno));
        if (ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
            /* The kernel lets the mark of an earlier user stand. */
            const int writable = 0;
            ioctl(fd, BLKROSET, &writable);
            *ret_device = steal_ptr(&device);
            *ret_fd = steal_fd(&fd);
            return 0;
        }
        if (errno != EBUSY)
            return error_set(ret_error, errno, "cannot attach %s to %s: %s", file, device, strerror(errno));
    }
    return error_set(ret_error, EBUSY, "cannot attach %s: other programs take every free loop device", file);
}

int loopdev_open(const char *file, bool may_attach, char **ret_device, int *ret_fd, struct error **ret_error)
{
    autoclose int file_fd = open(file, O_RDWR | O_CLOEXEC);
    struct stat status;
    if (file_fd < 0 || fstat(file_fd, &status) < 0)
        return error_set(ret_error, errno, "cannot open %s: %s", file, strerror(errno));
    int r = find(&status, ret_device, ret_fd, ret_error);
    if (r != -ENOENT)
        return r;
    if (!may_attach)
        return error_set(ret_error, ENOENT, "no loop device serves %s", file);
    return attach(file, file_fd, ret_device, ret_fd, ret_error);
}

int loopdev_detach(const char *file, struct error **ret_error)
{
    autofree char *device = NULL;
    autoclose int fd = -1;
    int r = loopdev_open(file, false, &device, &fd, NULL);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return error_set(ret_error, -r, "cannot look for the loop device of %s: %s", file, strerror(-r));
    struct stat status;
    autofree char *folder = NULL;
    if (fstat(fd, &status) == 0 && mounts_of(status.st_rdev, &folder, NULL) == 0 && folder)
        return error_set(ret_error, EBUSY, "%s is in use: it is mounted at %s", file, folder);
    /* ENXIO: it went by itself, as it does when its last user closes it. */
    if (ioctl(fd, LOOP_CLR_FD) < 0 && errno != ENXIO)
        return error_set(ret_error, errno, "cannot detach %s from %s: %s", file, device, strerror(errno));
    return 0;
}
