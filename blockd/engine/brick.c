/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Making bricks ready to be served, and taking them away. */
#include "blockd/engine/brick_priv.h"
#include "blockd/engine/heal_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "blockd/engine/heal_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"

#define INDEX_FOLDER ".glusterfs/indices"

char *brick_folder(const struct engine *engine, const char *device, const char *volume)
{
    autofree char *mount_point = device_mount_point(engine, device);
    return xasprintf("%s/bricks/%s", mount_point, volume);
}

char *brick_volfile(const struct engine *engine, const char *device, const char *volume)
{
    return xasprintf("%s/bricks/%s.%s.vol", engine->config->state_dir, volume, device);
}

void brick_plan(const struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                struct process_plan *ret_plan)
{
    const char *name = volume->meta.name;
    autofree char *volfile = brick_volfile(engine, brick->device, name);
    struct process_plan plan = {
        .id = xasprintf("brick.%s.%s", name, brick->device),
        .name = xasprintf("brick %s/%s/%s", name, brick->node, brick->device),
        .unit = xasprintf("blockd-brick@%s.%s.service", name, brick->device),
        .log_path = xasprintf("%s/brick.%s.%s.log", engine->config->log_dir, name, brick->device),
    };
    /* No version: glusterfsd never reads its volfile again, and a brick must not go down for a new one by
     * itself. */
    const char *const words[] = {
        engine->roots.glusterfsd, "-N", "-f", volfile, "-l", plan.log_path, "-L", "WARNING"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        string_list_add(&plan.argv, words[i]);
    *ret_plan = plan;
}

/* ---- Erasing ---- */

static char *bricks_folder(const struct engine *engine, const char *device)
{
    autofree char *mount_point = device_mount_point(engine, device);
    return xasprintf("%s/bricks", mount_point);
}

/* What a buried brick of the volume is called: this, or this with a number. */
static char *trash_name(const struct volume *volume)
{
    return xasprintf(".erase-%s", volume->meta.uid);
}

/* Out of the way in one step that lasts: half a brick never carries a brick's name. */
static int bury(struct engine *engine, const char *device, const struct volume *volume,
                struct error **ret_error)
{
    autofree char *folder = brick_folder(engine, device, volume->meta.name);
    autofree char *parent = bricks_folder(engine, device);
    autofree char *name = trash_name(volume);
    if (access(folder, F_OK) < 0)
        return 0;
    int r = brick_check_owner(folder, volume, ret_error);
    if (r == -ENODATA && !brick_folder_is_empty(folder))
        return error_set(ret_error, EEXIST, "volume %s: the brick folder %s holds data of nobody known",
                         volume->meta.name, folder);
    if (r < 0 && r != -ENODATA)
        return r;
    /* An earlier brick of the volume may have left its trash. */
    autofree char *trash = xasprintf("%s/%s", parent, name);
    for (unsigned i = 1; access(trash, F_OK) == 0; i++) {
        free(trash);
        trash = xasprintf("%s/%s.%u", parent, name, i);
    }
    if (rename(folder, trash) < 0)
        return error_set(ret_error, errno, "volume %s: cannot rename the brick folder %s: %s",
                         volume->meta.name, folder, strerror(errno));
    return folder_sync(parent, ret_error);
}

static int list_trash(struct engine *engine, const char *device, const struct volume *volume,
                      struct string_list *ret_paths, struct error **ret_error)
{
    autofree char *parent = bricks_folder(engine, device);
    autofree char *name = trash_name(volume);
    autostring_list struct string_list all = {0};
    int r = folder_list(parent, &all, ret_error);
    for (size_t i = 0; r == 0 && i < all.count; i++)
        if (string_starts_with(all.items[i], name))
            string_list_addf(ret_paths, "%s/%s", parent, all.items[i]);
    return r;
}

static int empty_trash(struct engine *engine, const char *device, const struct volume *volume,
                       struct error **ret_error)
{
    autostring_list struct string_list paths = {0};
    int r = list_trash(engine, device, volume, &paths, ret_error);
    for (size_t i = 0; r == 0 && i < paths.count; i++)
        r = tree_remove(paths.items[i], ret_error);
    return r;
}

static int erase(struct engine *engine, const char *device, const struct volume *volume,
                 struct error **ret_error)
{
    int r = bury(engine, device, volume, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.erase.after-rename");
    r = empty_trash(engine, device, volume, ret_error);
    fault_point("volume.erase.after-data");
    return r;
}

/* Whoever makes or erases a brick has it for itself, also when it hangs with the disk, and is left behind. */
static char *claim_name(const struct device_call *call)
{
    return xasprintf("%s.%s", call->volume.meta.name, call->names.items[0]);
}

static struct device_call *call_of(struct engine *engine, const char *device, const struct volume *volume)
{
    struct device_call *call = device_call_new(engine, device);
    schema_copy(&volume_schema, &call->volume, volume);
    return call;
}

static int call_erase(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    autofree char *name = claim_name(call);
    scoped_claim(engine, "brick", name);
    return erase(engine, call->names.items[0], &call->volume, ret_error);
}

/* Device gone: nothing can be removed from it, and the caller has to decide. */
int brick_erase(struct engine *engine, const char *device, const struct volume *volume,
                struct error **ret_error)
{
    int r = device_check_mounted(engine, device, ret_error);
    if (r < 0)
        return r;
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, device, volume);
    return device_call_run(call, call_erase, ret_error);
}

/* ---- Making it ready to be served ---- */

/* A device that had a brick of the volume once gets a new one: what is left of the old one is in the way. */
static int remove_older(struct engine *engine, const char *device, const char *folder,
                        const struct volume *volume, uint64_t number, struct error **ret_error)
{
    if (access(folder, F_OK) < 0 || brick_check_owner(folder, volume, NULL) < 0 ||
        brick_check_number(folder, volume, number, NULL) != -ESTALE)
        return 0;
    return erase(engine, device, volume, ret_error);
}

static int prepare(struct engine *engine, const char *device, const struct volume *volume, uint64_t number,
                   bool fresh, struct error **ret_error)
{
    int r = 0;
    autofree char *folder = brick_folder(engine, device, volume->meta.name);
    if (fresh)
        r = remove_older(engine, device, folder, volume, number, ret_error);
    if (r == 0)
        r = brick_make_folder(engine, device, folder, volume, ret_error);
    if (r == 0)
        r = brick_check_owner(folder, volume, ret_error);
    if (r == -ENODATA)
        r = brick_stamp(folder, volume, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.up.after-brick-stamp");
    autofree char *indices = xasprintf("%s/" INDEX_FOLDER, folder);
    r = folder_make(indices, 0700, ret_error);
    if (r == 0)
        r = brick_check_number(folder, volume, number, ret_error);
    return r == -ENOENT ? brick_write_number(folder, number, ret_error) : r;
}

static int call_prepare(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    autofree char *name = claim_name(call);
    scoped_claim(engine, "brick", name);
    return prepare(engine, call->names.items[0], &call->volume, call->number, call->flag, ret_error);
}

int brick_prepare(struct engine *engine, const char *device, const struct volume *volume, uint64_t number,
                  bool fresh, struct error **ret_error)
{
    int r = device_check_mounted(engine, device, ret_error);
    if (r < 0)
        return r;
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, device, volume);
    call->number = number;
    call->flag = fresh;
    return device_call_run(call, call_prepare, ret_error);
}

/* ---- Bricks that move ---- */

/* Replicate's mark on a brick's root: three counts (data, metadata, entries) of what
 * brick `number` missed. */
static int look_for_mark(struct device_call *call, struct error **ret_error)
{
    (void)ret_error;
    const char *volume = call->volume.meta.name;
    autofree char *folder = brick_folder(call->engine, call->names.items[0], volume);
    autofree char *key = xasprintf("trusted.afr.%s-client-%llu", volume, (unsigned long long)call->number);
    static const unsigned char nothing[12];
    unsigned char mark[12];
    bool marked =
        lgetxattr(folder, key, mark, sizeof mark) == sizeof mark && memcmp(mark, nothing, sizeof mark) != 0;
    return marked ? 0 : -ENOENT;
}

int engine_move_is_marked(struct engine *engine, const struct volume *volume, uint64_t number,
                          struct error **ret_error)
{
    bool replicated = volume->spec.template_name != TEMPLATE_DISPERSE;
    if (!replicated && fragments_are_marked(engine, volume, number))
        return 0;
    for (size_t i = 0; replicated && i < volume->spec.bricks.count; i++) {
        const struct brick_spec *brick = volume_brick(volume, i);
        if (!brick_is_local(engine, brick) || device_check_mounted(engine, brick->device, NULL) < 0)
            continue;
        cleanup(cleanup_device_call) struct device_call *call = call_of(engine, brick->device, volume);
        call->number = number;
        if (device_call_run(call, look_for_mark, NULL) == 0)
            return 0;
    }
    return error_set(ret_error, ENOENT, "volume %s: no brick knows that brick %llu is new", volume->meta.name,
                     (unsigned long long)number);
}

/* ---- Bricks that are nobody's any more ---- */

/* *call->flag: there is a brick to bury; call->length: pieces of trash. */
static int look_for_brick(struct device_call *call, struct error **ret_error)
{
    const char *device = call->names.items[0];
    autofree char *folder = brick_folder(call->engine, device, call->volume.meta.name);
    autostring_list struct string_list trash = {0};
    call->flag = access(folder, F_OK) == 0 && brick_check_owner(folder, &call->volume, NULL) == 0;
    int r = list_trash(call->engine, device, &call->volume, &trash, ret_error);
    call->length = trash.count;
    return r;
}

static int call_bury(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    autofree char *name = claim_name(call);
    scoped_claim(engine, "brick", name);
    return bury(engine, call->names.items[0], &call->volume, ret_error);
}

int engine_device_bury(struct engine *engine, const struct device *device, const struct volume *volume,
                       bool *ret_trash, struct error **ret_error)
{
    autofree char *name = object_name_part(device->meta.name, 1);
    autofree char *volfile = brick_volfile(engine, name, volume->meta.name);
    cleanup(cleanup_device_call) struct device_call *look = call_of(engine, name, volume);
    *ret_trash = false;
    if (device_call_run(look, look_for_brick, NULL) < 0)
        return 0;
    *ret_trash = look->flag || look->length;
    if (!look->flag)
        return 0;
    scoped_claim(engine, "volume", volume->meta.name);
    int r = device_check_mounted(engine, name, ret_error);
    if (r < 0)
        return r;
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, name, volume);
    r = device_call_run(call, call_bury, ret_error);
    fault_point("brick.bury.after-rename");
    return r < 0 ? r : file_remove_durably(volfile, ret_error);
}

static int call_empty(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    autofree char *name = claim_name(call);
    scoped_claim(engine, "brick", name);
    return empty_trash(engine, call->names.items[0], &call->volume, ret_error);
}

int engine_device_empty_trash(struct engine *engine, const struct device *device, const struct volume *volume,
                              struct error **ret_error)
{
    autofree char *name = object_name_part(device->meta.name, 1);
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, name, volume);
    int r = device_call_run(call, call_empty, ret_error);
    fault_point("brick.bury.after-data");
    return r;
}
