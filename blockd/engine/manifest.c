/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/engine/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "blockd/engine/engine_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"

#define MANIFEST_ROOM                                                                                        \
    (UINT64_C(1) << 20) /* kept allocated ahead, so that a full disk can still be told of                    \
                         */

/* 0 when exactly this device is mounted at its place. */
static int check_device(struct engine *engine, const struct device *device, const char *name,
                        struct error **ret_error)
{
    int r = device_check_mounted(engine, name, ret_error);
    if (r < 0)
        return r;
    autofree char *folder = device_mount_point(engine, name);
    autofree char *marker = xasprintf("%s/" DEVICE_MARKER, folder);
    autofree char *uid = NULL;
    r = file_read(marker, 64, &uid, NULL, ret_error);
    if (r < 0)
        return r;
    if (!string_equal(uid, device->meta.uid))
        return error_set(ret_error, ENODEV, "device %s: another one is mounted at %s", device->meta.name,
                         folder);
    return 0;
}

static char *manifest_folder(const struct engine *engine, const char *name)
{
    autofree char *folder = device_mount_point(engine, name);
    return xasprintf("%s/" MANIFEST_FOLDER, folder);
}

static struct device_call *call_of(struct engine *engine, const struct device *device)
{
    autofree char *name = object_name_part(device->meta.name, 1);
    struct device_call *call = device_call_new(engine, name);
    schema_copy(&device_schema, &call->device, device);
    return call;
}

static int read_whole(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    const char *name = call->names.items[0];
    scoped_claim(engine, "device", name);
    int r = check_device(engine, &call->device, name, ret_error);
    if (r < 0)
        return r;
    autofree char *folder = manifest_folder(engine, name);
    return manifest_read_below(folder, &call->text, ret_error);
}

int engine_manifest_read(struct engine *engine, const struct device *device, char **ret_text,
                         struct error **ret_error)
{
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, device);
    int r = device_call_run(call, read_whole, ret_error);
    if (r == 0)
        *ret_text = steal_ptr(&call->text);
    return r;
}

int manifest_read_below(const char *folder, char **ret_text, struct error **ret_error)
{
    autofree char *path = xasprintf("%s/" MANIFEST_FILE, folder);
    return file_read(path, MANIFEST_LIMIT, ret_text, NULL, ret_error);
}

/* The former manifest gets a second name, so that there is one under the first at every moment. */
static int keep_former(const char *folder, struct error **ret_error)
{
    autofree char *path = xasprintf("%s/" MANIFEST_FILE, folder);
    autofree char *old = xasprintf("%s/" MANIFEST_FILE ".old", folder);
    int r = file_remove(old, ret_error);
    if (r < 0)
        return r;
    if (link(path, old) < 0 && errno != ENOENT)
        return error_set(ret_error, errno, "cannot keep %s as %s: %s", path, old, strerror(errno));
    return 0;
}

/* Best effort: without it a full disk keeps the manifest from growing, which the examination tells. */
static void allocate_ahead(const char *path, size_t length)
{
    autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)length, (off_t)MANIFEST_ROOM) < 0)
        errno = 0;
}

static int replace(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    const char *name = call->names.items[0];
    scoped_claim(engine, "device", name);
    int r = check_device(engine, &call->device, name, ret_error);
    if (r < 0)
        return r;
    autofree char *folder = manifest_folder(engine, name);
    autofree char *path = xasprintf("%s/" MANIFEST_FILE, folder);
    r = folder_make(folder, 0700, ret_error);
    if (r == 0)
        r = files_sweep(folder, ret_error);
    if (r == 0 && call->flag)
        r = keep_former(folder, ret_error);
    if (r == 0)
        r = file_write_atomic(path, call->text, 0600, ret_error);
    if (r < 0)
        return r;
    fault_point("manifest.after-replace");
    allocate_ahead(path, strlen(call->text));
    return 0;
}

int engine_manifest_replace(struct engine *engine, const struct device *device, const char *text, bool keep,
                            size_t *ret_length, struct error **ret_error)
{
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, device);
    call->text = xstrdup(text);
    call->flag = keep;
    int r = device_call_run(call, replace, ret_error);
    if (r == 0)
        *ret_length = strlen(text);
    return r;
}

static int append(int fd, const char *text, size_t at)
{
    for (size_t left = strlen(text); left;) {
        ssize_t written = pwrite(fd, text, left, (off_t)at);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        text += written;
        at += (size_t)written;
        left -= (size_t)written;
    }
    return fdatasync(fd) < 0 ? -errno : 0;
}

static int append_safely(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    const char *name = call->names.items[0];
    scoped_claim(engine, "device", name);
    int r = check_device(engine, &call->device, name, ret_error);
    if (r < 0)
        return r;
    autofree char *folder = manifest_folder(engine, name);
    autofree char *path = xasprintf("%s/" MANIFEST_FILE, folder);
    autoclose int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0 || (uint64_t)status.st_size != call->number)
        return error_set(ret_error, ESTALE, "%s is not as it was left", path);
    r = append(fd, call->text, (size_t)call->number);
    if (r < 0) {
        /* What cannot be taken back is a torn end; the next write replaces the file. */
        if (ftruncate(fd, status.st_size) < 0)
            call->length = 0;
        return error_set(ret_error, -r, "cannot append to %s: %s", path, strerror(-r));
    }
    fault_point("manifest.after-append");
    call->length += strlen(call->text);
    return 0;
}

/* Of one that is left behind nobody knows what it wrote: the next one finds the file not as it was left. */
int engine_manifest_append(struct engine *engine, const struct device *device, const char *text,
                           size_t *length, struct error **ret_error)
{
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, device);
    call->text = xstrdup(text);
    call->number = call->length = *length;
    int r = device_call_run(call, append_safely, ret_error);
    if (!call->left)
        *length = call->length;
    return r;
}
