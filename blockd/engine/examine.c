/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/engine/examine.h"

#include <errno.h>
#include <string.h>

#include "blockd/engine/examine_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

int engine_examine(struct engine *engine, const struct examine_target *target, struct object_list *findings,
                   uint64_t *checked, struct error **ret_error)
{
    const struct look look = {.engine = engine, .target = target, .findings = findings, .checked = checked};
    int r = examine_processes(&look, ret_error);
    if (r == 0)
        r = examine_mounts(&look, ret_error);
    if (r == 0)
        r = examine_bricks(&look, ret_error);
    if (r == 0)
        r = examine_files(&look, ret_error);
    return r;
}

/* "device NODE/NAME" */
static int mount_options_again(struct engine *engine, const struct finding *finding, struct error **ret_error)
{
    autofree char *name = object_name_part(strchr(finding->object, ' ') + 1, 1);
    autofree char *folder = device_mount_point(engine, name);
    return repair_mount_options(folder, ret_error);
}

static int remove_path(const struct finding *finding, struct error **ret_error)
{
    return strcmp(finding->code, "file-unfinished") == 0 ? file_remove(finding->object, ret_error)
                                                         : repair_brick(finding, ret_error);
}

int engine_repair(struct engine *engine, const struct finding *finding, struct error **ret_error)
{
    static const char *const paths[] = {
        "brick-index",     "brick-trash", "brick-unknown", "device-unknown", "volfile-unknown",
        "file-unfinished", NULL};
    if (strcmp(finding->code, "process-orphan") == 0)
        return repair_process(finding, ret_error);
    if (strcmp(finding->code, "mount-leftover") == 0)
        return repair_mount(finding, ret_error);
    if (strcmp(finding->code, "mount-options") == 0)
        return mount_options_again(engine, finding, ret_error);
    if (enum_parse(paths, finding->code) >= 0)
        return remove_path(finding, ret_error);
    return -EOPNOTSUPP;
}
