/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What blockd-nbd is compared with: an nbdkit plugin that does each request by a synchronous libgfapi call on
 * one of nbdkit's threads.
 *
 *   nbdkit nbdkit_gfapi.so volfile=CLIENT.vol file=/path/in/the/volume
 */
#define NBDKIT_API_VERSION 2
#include <errno.h>
#include <fcntl.h>
#include <glusterfs/api/glfs.h>
#include <nbdkit-plugin.h>
#include <string.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static char *volfile;
static const char *file;
static glfs_t *fs;
static glfs_fd_t *fd;
static int64_t file_size;

static int plugin_config(const char *key, const char *value)
{
    if (strcmp(key, "volfile") == 0) {
        volfile = nbdkit_absolute_path(value);
        return volfile ? 0 : -1;
    }
    if (strcmp(key, "file") == 0) {
        file = value;
        return 0;
    }
    nbdkit_error("unknown parameter %s", key);
    return -1;
}

static int plugin_config_complete(void)
{
    if (volfile && file)
        return 0;
    nbdkit_error("volfile= and file= are needed");
    return -1;
}

/* After nbdkit has forked: libgfapi's threads do not survive a fork. */
static int plugin_after_fork(void)
{
    struct stat stat;
    fs = glfs_new("bench");
    if (!fs || glfs_set_volfile(fs, volfile) != 0 || glfs_set_logging(fs, "/dev/null", 0) != 0 ||
        glfs_init(fs) != 0) {
        nbdkit_error("%s: %s", volfile, strerror(errno));
        return -1;
    }
    fd = glfs_open(fs, file, O_RDWR);
    if (!fd || glfs_fstat(fd, &stat) != 0) {
        nbdkit_error("%s: %s", file, strerror(errno));
        return -1;
    }
    file_size = stat.st_size;
    return 0;
}

static void *plugin_open(int readonly)
{
    (void)readonly;
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t plugin_get_size(void *handle)
{
    (void)handle;
    return file_size;
}

static int plugin_can_multi_conn(void *handle)
{
    (void)handle;
    return 1;
}

static int fail(void)
{
    nbdkit_set_error(errno);
    nbdkit_error("%s: %s", file, strerror(errno));
    return -1;
}

static int plugin_pread(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    (void)flags;
    return glfs_pread(fd, buffer, count, (off_t)offset, 0, NULL) == (ssize_t)count ? 0 : fail();
}

static int plugin_pwrite(void *handle, const void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    (void)flags;
    return glfs_pwrite(fd, buffer, count, (off_t)offset, 0, NULL, NULL) == (ssize_t)count ? 0 : fail();
}

static int plugin_flush(void *handle, uint32_t flags)
{
    (void)handle;
    (void)flags;
    return glfs_fdatasync(fd, NULL, NULL) == 0 ? 0 : fail();
}

static struct nbdkit_plugin plugin = {
    .name = "gfapi-synchronous",
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .after_fork = plugin_after_fork,
    .open = plugin_open,
    .get_size = plugin_get_size,
    .can_multi_conn = plugin_can_multi_conn,
    .pread = plugin_pread,
    .pwrite = plugin_pwrite,
    .flush = plugin_flush,
};

NBDKIT_REGISTER_PLUGIN(plugin)
