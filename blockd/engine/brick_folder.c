/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* A brick's folder: whose it is, and what makes it a brick. */
#include "blockd/engine/brick_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"
#include "rpc/volume_layout.h"

#define VOLUME_ID_XATTR "trusted.glusterfs.volume-id"
#define LAYOUT_XATTR    "trusted.glusterfs.dht"
#define NUMBER_FILE     ".glusterfs/blockd-brick" /* decimal: which of the volume's bricks it is */

static void parse_uuid(const char *text, unsigned char id[16])
{
    for (int i = 0; i < 16; i++, text += 2) {
        text += *text == '-';
        const char pair[3] = {text[0], text[1], '\0'};
        id[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
}

static char *format_uuid(const unsigned char id[16])
{
    struct strbuf text = {0};
    for (int i = 0; i < 16; i++)
        strbuf_addf(&text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
    return strbuf_steal(&text);
}

int brick_volume_id(const char *folder, char **ret_uid)
{
    unsigned char id[16];
    ssize_t length = lgetxattr(folder, VOLUME_ID_XATTR, id, sizeof id);
    if (length < 0)
        return -errno;
    if (length != sizeof id)
        return -ENODATA;
    *ret_uid = format_uuid(id);
    return 0;
}

bool brick_folder_is_empty(const char *folder)
{
    autostring_list struct string_list names = {0};
    return folder_list(folder, &names, NULL) == 0 && names.count == 0;
}

int brick_check_owner(const char *folder, const struct volume *volume, struct error **ret_error)
{
    unsigned char wanted[16], found[16];
    parse_uuid(volume->meta.uid, wanted);
    ssize_t length = lgetxattr(folder, VOLUME_ID_XATTR, found, sizeof found);
    if (length < 0 && errno == ENODATA)
        return -ENODATA;
    if (length < 0 && errno != ERANGE)
        return error_set(ret_error, errno, "volume %s: cannot read the brick folder %s: %s",
                         volume->meta.name, folder, strerror(errno));
    if (length != sizeof found || memcmp(found, wanted, sizeof found) != 0)
        return error_set(ret_error, ESTALE,
                         "volume %s: the brick folder %s belongs to another volume; move it away to go on",
                         volume->meta.name, folder);
    return 0;
}

int brick_check_number(const char *folder, const struct volume *volume, uint64_t number,
                       struct error **ret_error)
{
    autofree char *path = xasprintf("%s/" NUMBER_FILE, folder);
    autofree char *text = NULL;
    int r = file_read(path, 32, &text, NULL, NULL);
    if (r == -ENOENT || (r == 0 && strtoull(text, NULL, 10) == number))
        return r;
    if (r < 0)
        return error_set(ret_error, -r, "volume %s: cannot read %s: %s", volume->meta.name, path,
                         strerror(-r));
    return error_set(
        ret_error, ESTALE,
        "volume %s: the brick folder %s is of brick %s, which was replaced; the volume has brick "
        "%llu there",
        volume->meta.name, folder, text, (unsigned long long)number);
}

int brick_write_number(const char *folder, uint64_t number, struct error **ret_error)
{
    autofree char *path = xasprintf("%s/" NUMBER_FILE, folder);
    autofree char *text = xasprintf("%llu", (unsigned long long)number);
    return file_write_atomic(path, text, 0600, ret_error);
}

/*
 * Distribute notes in each folder which names belong to a set, but not in the root while there is one set
 * only: without the note, the root of a volume that grows is laid out anew before its folders are on the new
 * set, and they cannot be listed.
 */
static int lay_out_root(const char *folder, const struct volume *volume, struct error **ret_error)
{
    static const unsigned char all_names[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
    if (layout_sets(&volume->spec) != 1 ||
        lsetxattr(folder, LAYOUT_XATTR, all_names, sizeof all_names, 0) == 0)
        return 0;
    return error_set(ret_error, errno, "volume %s: cannot lay out the brick folder %s: %s", volume->meta.name,
                     folder, strerror(errno));
}

int brick_stamp(const char *folder, const struct volume *volume, struct error **ret_error)
{
    if (!brick_folder_is_empty(folder))
        return error_set(ret_error, EEXIST,
                         "volume %s: the brick folder %s holds data of nobody known; move it away to go on",
                         volume->meta.name, folder);
    unsigned char id[16];
    int r = lay_out_root(folder, volume, ret_error);
    if (r < 0)
        return r;
    parse_uuid(volume->meta.uid, id);
    if (lsetxattr(folder, VOLUME_ID_XATTR, id, sizeof id, XATTR_CREATE) < 0)
        return error_set(ret_error, errno, "volume %s: cannot mark the brick folder %s: %s",
                         volume->meta.name, folder, strerror(errno));
    return folder_sync(folder, ret_error);
}

/*
 * A brick's volfile is written after its folder. So a volfile without a folder says that the data is gone: an
 * empty brick in its place would be taken for a good copy of nothing.
 */
int brick_make_folder(const struct engine *engine, const char *device, const char *folder,
                      const struct volume *volume, struct error **ret_error)
{
    autofree char *volfile = brick_volfile(engine, device, volume->meta.name);
    if (access(folder, F_OK) == 0)
        return 0;
    if (access(volfile, F_OK) == 0)
        return error_set(
            ret_error, ESTALE,
            "volume %s: the brick folder %s was there and is gone; bring the disk's content back, or "
            "replace the brick",
            volume->meta.name, folder);
    int r = folder_make(folder, 0755, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.up.after-brick-mkdir");
    return 0;
}
