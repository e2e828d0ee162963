/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Mounts: each device at its place, the right one, with its options; and what is
 * mounted there without one. */
#include "blockd/engine/examine_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

#define MOUNT_FLAGS (MS_NOATIME | MS_NODEV | MS_NOSUID | MS_NOEXEC)

/* ---- Comparing ---- */

static const struct {
    unsigned long flag;
    const char *word;
} options[] = {{ST_NOATIME, "noatime"}, {ST_NODEV, "nodev"}, {ST_NOSUID, "nosuid"}, {ST_NOEXEC, "noexec"}};

static void compare_options(const char *object, unsigned long flags, struct object_list *findings)
{
    autostrbuf struct strbuf missing = {0};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (!(flags & options[i].flag))
            strbuf_addf(&missing, "%s%s", missing.length ? ", " : "without ", options[i].word);
    if (missing.length)
        finding_add(findings, "mount-options", object, "mounted with noatime, nodev, nosuid, noexec",
                    strbuf_string(&missing), "mount it again with these options")
            ->repairable = true;
    if (flags & ST_RDONLY)
        finding_add(
            findings, "mount-readonly", object, "mounted for reading and writing", "read-only",
            "see the kernel's log for the reason; then stop and start the node, or replace the device");
}

void compare_mount(const struct device *device, const char *folder, const struct seen_mount *seen,
                   struct object_list *findings)
{
    autofree char *object = xasprintf("device %s", device->meta.name);
    autofree char *expected = xasprintf("%s mounted at %s", device->spec.path, folder);
    if (!seen->mounted) {
        finding_add(findings, "mount-missing", object, expected, "nothing is mounted there", "mount it")
            ->repairable = true;
    } else if (!seen->readable) {
        finding_add(
            findings, "mount-dead", object, expected, "it cannot be read",
            "see the kernel's log for the reason; then stop and start the node, or replace the device");
    } else if (!string_equal(seen->uid, device->meta.uid)) {
        autofree char *found =
            xasprintf("what is mounted there is %s%s", seen->uid ? "device " : "no device of blockd",
                      seen->uid ? seen->uid : "");
        finding_add(findings, "mount-foreign", object, expected, found,
                    "unmount what is there: nothing was written to it by blockd");
    } else {
        compare_options(object, seen->flags, findings);
    }
}

/* ---- Looking ---- */

static void see(const char *folder, struct seen_mount *seen)
{
    struct mount_view view;
    struct statvfs space;
    autofree char *marker = xasprintf("%s/" DEVICE_MARKER, folder);
    *seen = (struct seen_mount){.mounted = mounts_at(folder, &view, NULL) == 0};
    if (!seen->mounted)
        return;
    int r = file_read(marker, 64, &seen->uid, NULL, NULL);
    seen->readable = (r == 0 || r == -ENOENT) && statvfs(folder, &space) == 0;
    seen->flags = seen->readable ? space.f_flag : 0;
}

static bool is_known(const struct look *look, const char *folder)
{
    for (size_t i = 0; i < look->target->device_count; i++) {
        autofree char *name = object_name_part(look->target->devices[i].meta.name, 1);
        autofree char *place = device_mount_point(look->engine, name);
        autofree char *real = realpath(place, NULL);
        if (string_equal(real ? real : place, folder))
            return true;
    }
    return false;
}

static int examine_leftovers(const struct look *look, struct error **ret_error)
{
    autofree char *devices = xasprintf("%s/devices", look->engine->config->state_dir);
    autofree char *real = realpath(devices, NULL);
    autostring_list struct string_list folders = {0};
    int r = mounts_below(real ? real : devices, &folders, ret_error);
    for (size_t i = 0; r == 0 && i < folders.count; i++) {
        ++*look->checked;
        if (!is_known(look, folders.items[i]))
            finding_add(look->findings, "mount-leftover", folders.items[i], "nothing mounted there",
                        "something is, and no device has this place",
                        look->target->device_count
                            ? "unmount it"
                            : "if the store was lost: gluster-block device adopt; else unmount it")
                ->repairable = look->target->device_count > 0;
    }
    return r;
}

int examine_mounts(const struct look *look, struct error **ret_error)
{
    for (size_t i = 0; look->target->enabled && i < look->target->device_count; i++) {
        const struct device *device = &look->target->devices[i];
        if (device->meta.deleting || string_equal(device->status.phase, "pending"))
            continue;
        autofree char *name = object_name_part(device->meta.name, 1);
        autofree char *folder = device_mount_point(look->engine, name);
        struct seen_mount seen;
        see(folder, &seen);
        ++*look->checked;
        compare_mount(device, folder, &seen, look->findings);
        free(seen.uid);
    }
    return examine_leftovers(look, ret_error);
}

/* ---- Repair ---- */

int repair_mount(const struct finding *finding, struct error **ret_error)
{
    if (umount2(finding->object, UMOUNT_NOFOLLOW) < 0 && errno != EINVAL)
        return error_set(ret_error, errno, "cannot unmount %s: %s", finding->object, strerror(errno));
    if (rmdir(finding->object) < 0 && errno != ENOENT && errno != ENOTEMPTY)
        return error_set(ret_error, errno, "cannot remove the folder %s: %s", finding->object,
                         strerror(errno));
    return 0;
}

int repair_mount_options(const char *folder, struct error **ret_error)
{
    if (mount(NULL, folder, NULL, MS_REMOUNT | MOUNT_FLAGS, NULL) < 0)
        return error_set(ret_error, errno, "cannot mount %s again: %s", folder, strerror(errno));
    return 0;
}
