/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Where a file is, by its gfid: a brick has a second name of each file below .glusterfs, a hard link for what
 * is no folder and a symbolic link to PARENT/NAME for a folder; and each file has an xattr with its parent's
 * gfid and its name.
 */
#include "blockd/engine/heal_priv.h"

#include <string.h>
#include <sys/xattr.h>

#include "rpc/base/alloc.h"

#define DEPTH_MAX   256 /* folders above a file */
#define XATTRS_SIZE 65536
#define ROOT_GFID   "00000000-0000-0000-0000-000000000001"
#define PATH_XATTR  "trusted.gfid2path."

char *heal_handle(const char *brick, const struct gfid *gfid)
{
    char text[GFID_TEXT_SIZE];
    gfid_format(gfid, text);
    return xasprintf("%s/.glusterfs/%.2s/%.2s/%s", brick, text, text + 2, text);
}

/* "PARENT-GFID/NAME" from a text of that form; false when it is none. */
static bool split_place(const char *text, size_t length, struct gfid *ret_parent, char **ret_name)
{
    if (length < GFID_TEXT_SIZE + 1 || text[GFID_TEXT_SIZE - 1] != '/')
        return false;
    autofree char *parent = xstrndup(text, GFID_TEXT_SIZE - 1);
    if (!gfid_parse(parent, ret_parent) || memchr(text + GFID_TEXT_SIZE, '/', length - GFID_TEXT_SIZE))
        return false;
    *ret_name = xstrndup(text + GFID_TEXT_SIZE, length - GFID_TEXT_SIZE);
    return true;
}

/* A folder's handle leads to "../../xx/yy/PARENT/NAME". */
static bool place_of_folder(const char *handle, struct gfid *ret_parent, char **ret_name)
{
    static const char up[] = "../../xx/yy/";
    char target[GFID_TEXT_SIZE + 512];
    ssize_t length = readlink(handle, target, sizeof target);
    size_t skip = sizeof up - 1;
    return length > (ssize_t)skip && length < (ssize_t)sizeof target &&
           split_place(target + skip, (size_t)length - skip, ret_parent, ret_name);
}

bool heal_is_folder(const char *handle)
{
    autofree char *name = NULL;
    struct gfid parent;
    char target[16];
    ssize_t length = readlink(handle, target, sizeof target);
    bool root = length == (ssize_t)strlen("../../..") && memcmp(target, "../../..", (size_t)length) == 0;
    return root || place_of_folder(handle, &parent, &name);
}

static bool place_of_file(const char *handle, struct gfid *ret_parent, char **ret_name)
{
    autofree char *keys = xcalloc(1, XATTRS_SIZE);
    ssize_t size = llistxattr(handle, keys, XATTRS_SIZE);
    for (ssize_t at = 0; at < size; at += (ssize_t)strlen(keys + at) + 1) {
        char value[GFID_TEXT_SIZE + 512];
        if (!string_starts_with(keys + at, PATH_XATTR))
            continue;
        ssize_t length = lgetxattr(handle, keys + at, value, sizeof value);
        if (length > 0 && split_place(value, (size_t)length, ret_parent, ret_name))
            return true;
    }
    return false;
}

char *heal_path(const char *brick, const struct gfid *gfid)
{
    struct gfid root, at = *gfid;
    autofree char *path = xstrdup("");
    gfid_parse(ROOT_GFID, &root);
    for (int depth = 0; depth < DEPTH_MAX; depth++) {
        if (gfid_compare(&at, &root) == 0)
            return *path ? steal_ptr(&path) : xstrdup("/");
        autofree char *handle = heal_handle(brick, &at);
        autofree char *name = NULL;
        struct gfid parent;
        if (!place_of_folder(handle, &parent, &name) && !place_of_file(handle, &parent, &name))
            return NULL;
        char *longer = xasprintf("/%s%s", name, path);
        free(path);
        path = longer;
        at = parent;
    }
    return NULL;
}
