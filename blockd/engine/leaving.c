/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Whether a set of bricks that is to be erased holds a file yet: the last look before what cannot be undone.
 */
#include "blockd/engine/engine_priv.h"

#include <errno.h>
#include <fts.h>
#include <string.h>
#include <sys/xattr.h>

#include "rpc/base/alloc.h"
#include "rpc/volume_layout.h"

#define LINK_XATTR "trusted.glusterfs.dht.linkto"

bool brick_is_link(const char *path, const struct stat *status)
{
    return S_ISREG(status->st_mode) && (status->st_mode & 07777) == S_ISVTX &&
           lgetxattr(path, LINK_XATTR, NULL, 0) >= 0;
}

/* 1: there is one, *ret_path is the caller's. */
static int find_file(const char *folder, char **ret_path, struct error **ret_error)
{
    char *const roots[] = {(char *)folder, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
    if (!walk)
        return error_set(ret_error, errno, "cannot read the folder %s: %s", folder, strerror(errno));
    int r = 0;
    errno = 0;
    for (FTSENT *entry; r == 0 && (entry = fts_read(walk)); errno = 0) {
        if (entry->fts_level == 1 && strcmp(entry->fts_name, ".glusterfs") == 0) {
            fts_set(walk, entry, FTS_SKIP);
        } else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS) {
            if (entry->fts_errno != ENOENT)
                r = error_set(ret_error, entry->fts_errno, "cannot read %s: %s", entry->fts_path,
                              strerror(entry->fts_errno));
        } else if (entry->fts_info != FTS_D && entry->fts_info != FTS_DP &&
                   !brick_is_link(entry->fts_accpath, entry->fts_statp)) {
            *ret_path = xstrdup(entry->fts_path + strlen(folder));
            r = 1;
        }
    }
    if (r == 0 && errno)
        r = error_set(ret_error, errno, "cannot read the folder %s: %s", folder, strerror(errno));
    fts_close(walk);
    return r;
}

int engine_leaving_look(struct engine *engine, const struct volume *volume, char **ret_file,
                        struct error **ret_error)
{
    size_t looked = 0;
    *ret_file = NULL;
    for (size_t i = 0; i < volume_children(volume); i++) {
        const struct brick_spec *brick = volume_child(volume, i);
        if (!volume_child_leaves(volume, i))
            continue;
        bool local = brick_is_local(engine, brick);
        if (local && device_check_mounted(engine, brick->device, NULL) < 0)
            continue; /* what it has, a quorum of the others has */
        looked++;
        if (!local)
            continue;
        autofree char *folder = brick_folder(engine, brick->device, volume->meta.name);
        int r = find_file(folder, ret_file, ret_error);
        if (r)
            return r < 0 ? r : 0;
    }
    if (looked < layout_set_quorum(&volume->spec))
        return error_set(ret_error, EAGAIN, "volume %s: too few bricks of the set are there to look into",
                         volume->meta.name);
    return 0;
}
