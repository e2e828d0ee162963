/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What the grants on disk say, without opening anything. */
#include <errno.h>
#include <string.h>

#include "handler/nbd/catalog_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/base/sizes.h"

int name_split(const char *name, char **ret_volume, char **ret_block, struct error **ret_error)
{
    const char *slash = strchr(name, '/');
    if (!slash)
        return error_set(ret_error, ENOENT, "there is no export \"%.64s\": names are VOLUME/BLOCK", name);
    autofree char *volume = xstrndup(name, (size_t)(slash - name));
    if (name_check("volume", volume, NULL) < 0 || name_check("block", slash + 1, NULL) < 0)
        return error_set(ret_error, ENOENT, "there is no export \"%.64s\": names are VOLUME/BLOCK", name);
    *ret_volume = steal_ptr(&volume);
    *ret_block = xstrdup(slash + 1);
    return 0;
}

int catalog_info(struct catalog *catalog, const char *name, struct catalog_info *ret_info,
                 struct error **ret_error)
{
    autofree char *volume = NULL, *block = NULL;
    int r = name_split(name, &volume, &block, ret_error);
    if (r < 0)
        return r;
    cleanup(cleanup_grant) struct grant grant = {0};
    r = grant_read(catalog->run_dir, volume, block, &grant, ret_error);
    if (r < 0)
        return r;
    *ret_info = (struct catalog_info){grant.size, (uint32_t)grant.block_size, grant.read_only};
    return 0;
}

int catalog_list(struct catalog *catalog, struct string_list *ret_names, struct error **ret_error)
{
    autofree char *folder = xasprintf("%s/grants", catalog->run_dir);
    autostring_list struct string_list volumes = {0};
    int r = folder_list(folder, &volumes, ret_error);
    if (r < 0)
        return r;
    for (size_t v = 0; v < volumes.count; v++) {
        autofree char *path = xasprintf("%s/%s", folder, volumes.items[v]);
        autostring_list struct string_list files = {0};
        /* A folder that went away meanwhile, or a stray file, has no grants. */
        if (name_check("volume", volumes.items[v], NULL) < 0 || folder_list(path, &files, NULL) < 0)
            continue;
        for (size_t f = 0; f < files.count; f++) {
            autofree char *block = grant_file_block(files.items[f]);
            if (block)
                string_list_addf(ret_names, "%s/%s", volumes.items[v], block);
        }
    }
    return 0;
}
