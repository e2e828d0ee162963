/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What the kernel uses a disk for, by name, and what a disk is called for good. */
#include "blockd/engine/engine_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

#define SWAPS_LIMIT (1u << 20)

static char *sys_folder(dev_t device)
{
    autofree char *path = xasprintf("/sys/dev/block/%u:%u", major(device), minor(device));
    return realpath(path, NULL);
}

/* ---- Uses ---- */

/* Lines are "PATH TYPE SIZE USED PRIORITY" below a header; swap on a file is found by the file. */
static bool is_swap(const struct stat *what)
{
    autofree char *text = NULL;
    if (file_read("/proc/swaps", SWAPS_LIMIT, &text, NULL, NULL) < 0)
        return false;
    char *rest = text;
    strsep(&rest, "\n");
    for (char *row; (row = strsep(&rest, "\n"));) {
        struct stat swap;
        row[strcspn(row, " \t")] = '\0';
        if (!*row || stat(row, &swap) < 0)
            continue;
        if (S_ISBLK(what->st_mode) ? S_ISBLK(swap.st_mode) && swap.st_rdev == what->st_rdev
                                   : swap.st_dev == what->st_dev && swap.st_ino == what->st_ino)
            return true;
    }
    return false;
}

static char *one_line(const char *folder, const char *file)
{
    autofree char *path = xasprintf("%s/%s", folder, file);
    char *text = NULL;
    if (file_read(path, 4096, &text, NULL, NULL) < 0)
        return NULL;
    text[strcspn(text, "\n")] = '\0';
    return text;
}

/* LVM, RAID, encryption and the like stand above the disk. */
static char *holder(const char *sys)
{
    autofree char *folder = xasprintf("%s/holders", sys);
    autostring_list struct string_list names = {0};
    if (folder_list(folder, &names, NULL) < 0 || names.count == 0)
        return NULL;
    autofree char *held = xasprintf("/sys/class/block/%s", names.items[0]);
    autofree char *mapped = one_line(held, "dm/name");
    if (mapped)
        return xasprintf("is part of %s (LVM, multipath or encryption)", mapped);
    if (string_starts_with(names.items[0], "md"))
        return xasprintf("is part of the RAID /dev/%s", names.items[0]);
    return xasprintf("is part of /dev/%s", names.items[0]);
}

static char *use_of(dev_t device, const char *sys)
{
    struct stat what = {.st_mode = S_IFBLK, .st_rdev = device};
    char *text = NULL;
    if (is_swap(&what))
        return xstrdup("is swap space");
    if (mounts_of(device, &text, NULL) == 0 && text) {
        autofree char *folder = text;
        return xasprintf("is mounted at %s", folder);
    }
    return holder(sys);
}

/* One of its partitions, with its use; NULL: none is used. */
static char *use_of_partition(const char *sys)
{
    autostring_list struct string_list names = {0};
    if (folder_list(sys, &names, NULL) < 0)
        return NULL;
    for (size_t i = 0; i < names.count; i++) {
        autofree char *part = xasprintf("%s/%s", sys, names.items[i]);
        autofree char *number = one_line(part, "partition");
        autofree char *device = number ? one_line(part, "dev") : NULL;
        unsigned high, low;
        if (!device || sscanf(device, "%u:%u", &high, &low) != 2)
            continue;
        autofree char *use = use_of(makedev(high, low), part);
        if (use)
            return xasprintf("is in use: its partition /dev/%s %s", names.items[i], use);
    }
    return NULL;
}

char *disk_use(const struct stat *what)
{
    if (S_ISREG(what->st_mode))
        return is_swap(what) ? xstrdup("is swap space") : NULL;
    autofree char *sys = sys_folder(what->st_rdev);
    if (!sys)
        return NULL;
    char *use = use_of(what->st_rdev, sys);
    return use ? use : use_of_partition(sys);
}

/* ---- Names ---- */

/* The lower the better: names that say model and serial number, then numbers that are unique in the world. */
static int rank(const char *name)
{
    static const char *const prefixes[] = {"ata-", "nvme-", "scsi-S", "virtio-",
                                           "usb-", "mmc-",  "scsi-",  "wwn-"};
    int ranks = sizeof prefixes / sizeof *prefixes;
    for (int i = 0; i < ranks; i++)
        if (string_starts_with(name, prefixes[i]))
            return string_starts_with(name, "nvme-eui.") ? ranks : i;
    /* What lies on the disk may change, so that its name is none of the disk. */
    return string_starts_with(name, "lvm-") || string_starts_with(name, "md-") ? -1 : ranks + 1;
}

char *disk_stable_name(const char *by_id, const char *path)
{
    struct stat disk, other;
    if (stat(path, &disk) < 0 || !S_ISBLK(disk.st_mode))
        return NULL;
    autostring_list struct string_list names = {0};
    if (folder_list(by_id, &names, NULL) < 0)
        return NULL;
    char *best = NULL;
    int best_rank = -1;
    for (size_t i = 0; i < names.count; i++) {
        autofree char *link = xasprintf("%s/%s", by_id, names.items[i]);
        int this_rank = rank(names.items[i]);
        if (this_rank < 0 || stat(link, &other) < 0 || !S_ISBLK(other.st_mode) ||
            other.st_rdev != disk.st_rdev || (best && best_rank <= this_rank))
            continue;
        free(best);
        best = steal_ptr(&link);
        best_rank = this_rank;
    }
    return best;
}

char *disk_whole(dev_t device)
{
    autofree char *sys = sys_folder(device);
    if (!sys)
        return NULL;
    autofree char *partition = one_line(sys, "partition");
    if (partition)
        *strrchr(sys, '/') = '\0';
    return xasprintf("/dev/%s", strrchr(sys, '/') + 1);
}
