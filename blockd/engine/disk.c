/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/engine/engine_priv.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"

/* In XFS's superblock: mkfs.xfs sets this byte first, and clears it when all else is on the disk. */
#define XFS_MAGIC             "XFSB"
#define XFS_UUID_OFFSET       32
#define XFS_INPROGRESS_OFFSET 126
#define XFS_HEAD              128

DEFINE_CLEANUP(blkid_probe, cleanup_probe, blkid_free_probe)

void disk_view_clear(struct disk_view *view)
{
    free(view->uuid);
    free(view->text);
    *view = (struct disk_view){0};
}

static blkid_probe open_probe(int fd)
{
    blkid_probe probe = blkid_new_probe();
    if (!probe || blkid_probe_set_device(probe, fd, 0, 0) < 0) {
        blkid_free_probe(probe);
        return NULL;
    }
    blkid_probe_enable_superblocks(probe, 1);
    blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID |
                                                 BLKID_SUBLKS_MAGIC | BLKID_SUBLKS_BADCSUM);
    blkid_probe_enable_partitions(probe, 1);
    blkid_probe_set_partitions_flags(probe, BLKID_PARTS_MAGIC | BLKID_PARTS_FORCE_GPT);
    return probe;
}

static char *value_of(blkid_probe probe, const char *name)
{
    const char *value = NULL;
    return blkid_probe_lookup_value(probe, name, &value, NULL) == 0 ? xstrdup(value) : NULL;
}

/* Signatures come from the disk: what is no printable ASCII becomes "?". */
static char *printable(char *text)
{
    for (unsigned char *c = (unsigned char *)text; c && *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return text;
}

static char *describe(blkid_probe probe)
{
    autofree char *type = printable(value_of(probe, "TYPE"));
    autofree char *label = printable(value_of(probe, "LABEL"));
    autofree char *table = printable(value_of(probe, "PTTYPE"));
    autofree char *uuid = printable(value_of(probe, "UUID"));
    if (string_equal(type, "xfs") && string_equal(label, "blockd"))
        return xasprintf(
            "the XFS file system of another device of blockd's, here or in another cluster (UUID %s)",
            uuid ? uuid : "unknown");
    if (type && label)
        return xasprintf("%s labelled \"%s\"", type, label);
    if (type)
        return xasprintf("%s without a label", type);
    return xasprintf("a partition table (%s)", table ? table : "unknown");
}

static bool format_interrupted(int fd, const char *uuid)
{
    unsigned char head[XFS_HEAD];
    if (pread(fd, head, sizeof head, 0) != sizeof head || memcmp(head, XFS_MAGIC, strlen(XFS_MAGIC)) != 0 ||
        head[XFS_INPROGRESS_OFFSET] == 0)
        return false;
    autostrbuf struct strbuf text = {0};
    for (int i = 0; i < 16; i++)
        strbuf_addf(&text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                    head[XFS_UUID_OFFSET + i]);
    return strcmp(strbuf_string(&text), uuid) == 0;
}

/* ---- Data without a signature ---- */

#define EDGE_BYTES (1u << 20)

static bool is_zero(int fd, uint64_t offset, uint64_t length)
{
    static const char nothing[64 * 1024];
    char bytes[sizeof nothing];
    for (uint64_t end = offset + length; offset < end;) {
        size_t want = end - offset < sizeof bytes ? (size_t)(end - offset) : sizeof bytes;
        ssize_t count = pread(fd, bytes, want, (off_t)offset);
        if (count <= 0)
            return count == 0;
        if (memcmp(bytes, nothing, (size_t)count) != 0)
            return false;
        offset += (uint64_t)count;
    }
    return true;
}

/* What lies on a disk without a signature that libblkid knows is still somebody's. */
static bool edges_are_zero(int fd, uint64_t size)
{
    uint64_t edge = size < EDGE_BYTES ? size : EDGE_BYTES;
    return is_zero(fd, 0, edge) && is_zero(fd, size - edge, edge);
}

static int zero_edges(int fd, uint64_t size)
{
    static const char nothing[64 * 1024];
    uint64_t edge = size < EDGE_BYTES ? size : EDGE_BYTES;
    const uint64_t starts[] = {0, size - edge};
    for (size_t i = 0; i < 2; i++)
        for (uint64_t done = 0; done < edge;) {
            size_t want = edge - done < sizeof nothing ? (size_t)(edge - done) : sizeof nothing;
            ssize_t count = pwrite(fd, nothing, want, (off_t)(starts[i] + done));
            if (count <= 0)
                return -(errno ? errno : EIO);
            done += (uint64_t)count;
        }
    return 0;
}

int disk_look(int fd, const char *path, const char *uuid, struct disk_view *ret_view,
              struct error **ret_error)
{
    cleanup(cleanup_probe) blkid_probe probe = open_probe(fd);
    if (!probe)
        return error_set(ret_error, EIO, "cannot read %s", path);
    struct disk_view view = {.size = (uint64_t)blkid_probe_get_size(probe)};
    int found = blkid_do_safeprobe(probe);
    if (format_interrupted(fd, uuid)) {
        view.content = DISK_INTERRUPTED;
    } else if (found == 1) {
        struct stat status;
        bool disk = fstat(fd, &status) == 0 && S_ISBLK(status.st_mode);
        bool blank = !disk || edges_are_zero(fd, view.size);
        view.content = blank ? DISK_BLANK : DISK_FOREIGN;
        view.text = blank ? NULL : xstrdup("data of an unknown kind");
    } else if (found == -2) {
        view.content = DISK_FOREIGN;
        view.text = xstrdup("signatures of several file systems or partition tables");
    } else if (found < 0) {
        return error_set(ret_error, EIO, "cannot read %s", path);
    } else {
        autofree char *type = value_of(probe, "TYPE");
        view.uuid = value_of(probe, "UUID");
        view.xfs = string_equal(type, "xfs");
        bool ours = view.xfs && string_equal(view.uuid, uuid);
        view.content = ours ? DISK_OURS : DISK_FOREIGN;
        view.text = describe(probe);
    }
    *ret_view = view;
    return 0;
}

int disk_wipe(int fd, const char *path, struct error **ret_error)
{
    cleanup(cleanup_probe) blkid_probe probe = open_probe(fd);
    if (!probe)
        return error_set(ret_error, EIO, "cannot read %s", path);
    int found;
    while ((found = blkid_do_probe(probe)) == 0)
        if (blkid_do_wipe(probe, 0) < 0)
            return error_set(ret_error, EIO, "cannot wipe the signature on %s", path);
    uint64_t size = (uint64_t)blkid_probe_get_size(probe);
    if (found < 0 || zero_edges(fd, size) < 0 || fsync(fd) < 0)
        return error_set(ret_error, EIO, "cannot wipe the signature on %s", path);
    return 0;
}
