/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What lies on devices: brick folders and their identity, the files of blocks, and what no record knows. */
#include "blockd/engine/examine_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/volume_layout.h"

#define STORE_FOLDER "block-store"
#define TRASH_PREFIX ".erase-"

/* ---- Comparing ---- */

void compare_block(const struct block *block, const struct seen_block *seen, struct object_list *findings)
{
    autofree char *object = xasprintf("block %s", block->meta.name);
    autofree char *expected =
        xasprintf("a file %s of %llu bytes", block->spec.storage, (unsigned long long)block->spec.size);
    if (2 * seen->looked <= seen->bricks)
        return; /* those that are away may know better */
    if (!seen->found) {
        finding_add(findings, "block-missing", object, expected, "no such file on any brick",
                    "delete the block, or bring the file back");
        return;
    }
    if (seen->healing && (seen->found < seen->looked || seen->smallest != seen->largest))
        return;
    if (seen->found < seen->looked) {
        autofree char *found = xasprintf("the file on %zu of %zu bricks, and nothing to heal is known",
                                         seen->found, seen->looked);
        finding_add(findings, "replica-missing", object, expected, found, "heal the whole volume");
        return;
    }
    if (!seen->sized || (seen->smallest == block->spec.size && seen->largest == block->spec.size))
        return;
    bool same = seen->smallest == seen->largest;
    autofree char *found =
        same ? xasprintf("%llu bytes", (unsigned long long)seen->largest)
             : xasprintf("from %llu to %llu bytes, and nothing to heal is known",
                         (unsigned long long)seen->smallest, (unsigned long long)seen->largest);
    struct finding *finding =
        finding_add(findings, same ? "block-size" : "replica-size", object, expected, found,
                    !same                              ? "heal the whole volume"
                    : seen->largest < block->spec.size ? "make the file larger"
                                                       : "cut off what lies beyond the end");
    finding->repairable = same;
    finding->destroys = same && seen->largest > block->spec.size;
}

/* ---- Looking ---- */

/* The bricks of a volume whose files can be compared: local, and up. */
struct brick_view {
    char *folder;
    size_t set;
    bool holds_data;
    bool healing; /* it knows of files that others are behind with */
};

static void see_bricks(const struct look *look, const struct volume *volume, struct object_list *views)
{
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        const struct brick_spec *brick = volume_brick(volume, i);
        if (!brick_is_local(look->engine, brick))
            continue;
        struct brick_status status = {0};
        engine_brick_status(look->engine, volume, brick, &status);
        if (string_equal(status.state, "online") && !status.error) {
            struct brick_view *view = object_list_add(views, sizeof *view);
            view->folder = xstrdup(status.path);
            view->set = i / layout_set_bricks(&volume->spec);
            view->healing = status.heal_pending > 0;
            view->holds_data = !layout_is_witness(&volume->spec, i) && layout_set_data(&volume->spec) == 1;
        }
        free(status.node);
        free(status.device);
        free(status.path);
        free(status.state);
        free(status.error);
    }
}

static void clear_views(struct object_list *views)
{
    for (size_t i = 0; i < views->count; i++)
        free(((struct brick_view *)views->items)[i].folder);
    free(views->items);
}

/* Bricks of one set hold the same files, and each file is in one set, as long as none is on its way. */
static bool is_at_rest(const struct look *look, const struct volume *volume)
{
    return volume->spec.moves.count == 0 && !volume->spec.leaving &&
           !rebalance_runs(look->engine, volume->meta.name);
}

/* One brick's file, without what distribute put there to say in which set the file is. */
static bool has_file(const struct brick_view *view, const char *file, struct stat *ret_status)
{
    autofree char *path = xasprintf("%s%s", view->folder, file);
    return lstat(path, ret_status) == 0 && S_ISREG(ret_status->st_mode) && !brick_is_link(path, ret_status);
}

static void see_file(const struct brick_view *view, const char *file, struct seen_block *seen)
{
    struct stat status;
    seen->looked++;
    seen->healing |= view->healing;
    if (!has_file(view, file, &status))
        return;
    seen->found++;
    if (!view->holds_data)
        return;
    uint64_t size = (uint64_t)status.st_size;
    seen->smallest = seen->sized == 0 || size < seen->smallest ? size : seen->smallest;
    seen->largest = size > seen->largest ? size : seen->largest;
    seen->sized++;
}

void compare_sets(const struct block *block, const struct seen_block *sets, size_t count,
                  struct object_list *findings)
{
    autostrbuf struct strbuf places = {0};
    size_t holders = 0, holder = 0;
    bool all_looked = true;
    for (size_t set = 0; set < count; set++) {
        all_looked &= 2 * sets[set].looked > sets[set].bricks;
        /* A brick that is behind may have what the others have no more. */
        if (!sets[set].found || (sets[set].healing && 2 * sets[set].found <= sets[set].bricks))
            continue;
        strbuf_addf(&places, "%s%zu", holders++ ? " and " : "", set);
        holder = set;
    }
    if (holders == 0 && !all_looked)
        return; /* those that are away may have it */
    if (holders <= 1) {
        compare_block(block, &sets[holder], findings);
        return;
    }
    autofree char *object = xasprintf("block %s", block->meta.name);
    autofree char *expected = xasprintf("the file %s in one set of bricks", block->spec.storage);
    autofree char *found = xasprintf("a file in each of the sets %s", strbuf_string(&places));
    finding_add(findings, "block-twice", object, expected, found,
                "compare them, and take the one that is not the block's away from its bricks");
}

static void examine_block(const struct look *look, const struct volume *volume, const struct block *block,
                          const struct object_list *views)
{
    size_t count = layout_sets(&volume->spec);
    autofree struct seen_block *sets = xcalloc(count + 1, sizeof *sets);
    for (size_t set = 0; set < count; set++)
        sets[set].bricks = layout_set_bricks(&volume->spec);
    for (size_t i = 0; i < views->count; i++) {
        const struct brick_view *view = (const struct brick_view *)views->items + i;
        see_file(view, block->spec.storage, &sets[view->set]);
    }
    ++*look->checked;
    compare_sets(block, sets, count, look->findings);
}

static bool is_settled(const struct block *block)
{
    return !block->meta.deleting && string_equal(block->status.phase, "ready") &&
           block->status.observed_generation == block->meta.generation;
}

static void tell_unknown(const struct look *look, const struct volume *volume, const char *file)
{
    autofree char *object = xasprintf("%s:%s", volume->meta.name, file);
    autofree char *action =
        xasprintf("remove it; to keep it instead: gluster-block block create %s/NAME --storage %s",
                  volume->meta.name, file);
    struct finding *finding = finding_add(look->findings, "file-unknown", object, "no such file",
                                          "a file that is no block's", action);
    finding->repairable = finding->destroys = true;
}

/* Of one set. */
static void count_unknown(const struct look *look, const struct object_list *views, size_t set,
                          const json_t *named, json_t *counts, size_t *ret_looked, bool *ret_healing)
{
    for (size_t i = 0; i < views->count; i++) {
        const struct brick_view *view = (const struct brick_view *)views->items + i;
        autofree char *folder = xasprintf("%s/" STORE_FOLDER, view->folder);
        autostring_list struct string_list names = {0};
        if (view->set != set)
            continue;
        ++*ret_looked;
        *ret_healing |= view->healing;
        folder_list(folder, &names, NULL);
        *look->checked += names.count;
        for (size_t k = 0; k < names.count; k++) {
            struct stat status;
            autofree char *file = xasprintf("/" STORE_FOLDER "/%s", names.items[k]);
            autofree char *path = xasprintf("%s%s", view->folder, file);
            if (json_object_get(named, file) || (lstat(path, &status) == 0 && brick_is_link(path, &status)))
                continue;
            json_object_set_new(counts, file,
                                json_integer(json_integer_value(json_object_get(counts, file)) + 1));
        }
    }
}

/* Files in the folder of blocks that no record names; one that a brick which is behind
 * still has is no such. */
static void examine_unknown_files(const struct look *look, const struct volume *volume, const json_t *named,
                                  const struct object_list *views)
{
    json_t *told cleanup(json_decrefp) = json_object();
    size_t each = layout_set_bricks(&volume->spec);
    for (size_t set = 0; set < layout_sets(&volume->spec); set++) {
        json_t *counts cleanup(json_decrefp) = json_object(), *count;
        const char *file;
        size_t looked = 0;
        bool healing = false;
        count_unknown(look, views, set, named, counts, &looked, &healing);
        json_object_foreach(counts, file, count)
        {
            bool everywhere = (size_t)json_integer_value(count) == each;
            if ((!everywhere && (healing || looked < each)) || json_object_get(told, file))
                continue;
            json_object_set_new(told, file, json_true());
            tell_unknown(look, volume, file);
        }
    }
}

static void examine_blocks(const struct look *look, const struct volume *volume)
{
    struct object_list views cleanup(clear_views) = {0};
    json_t *named cleanup(json_decrefp) = json_object();
    autofree char *prefix = xasprintf("%s/", volume->meta.name);
    if (!volume_runs(look, volume) || !is_at_rest(look, volume))
        return;
    see_bricks(look, volume, &views);
    for (size_t i = 0; i < look->target->block_count; i++) {
        const struct block *block = &look->target->blocks[i];
        if (!string_starts_with(block->meta.name, prefix))
            continue;
        if (block->spec.storage)
            json_object_set_new(named, block->spec.storage, json_true());
        if (block->spec.storage && is_settled(block))
            examine_block(look, volume, block, &views);
    }
    examine_unknown_files(look, volume, named, &views);
}

/* ---- Folders on a device ---- */

static const struct volume *volume_with_uid(const struct look *look, const char *uid)
{
    for (size_t i = 0; i < look->target->volume_count; i++)
        if (string_equal(look->target->volumes[i].meta.uid, uid))
            return &look->target->volumes[i];
    return NULL;
}

/* The volume of that name that has a brick on the device. */
static const struct volume *volume_on_device(const struct look *look, const char *device, const char *name)
{
    for (size_t i = 0; i < look->target->volume_count; i++) {
        const struct volume *volume = &look->target->volumes[i];
        for (size_t k = 0; string_equal(volume->meta.name, name) && k < volume_children(volume); k++)
            if (brick_is_local(look->engine, volume_child(volume, k)) &&
                string_equal(volume_child(volume, k)->device, device))
                return volume;
    }
    return NULL;
}

static void examine_identity(const struct look *look, const struct volume *volume, const char *folder)
{
    autofree char *uid = NULL;
    int r = brick_volume_id(folder, &uid);
    autofree char *expected = xasprintf("a brick of volume %s (%s)", volume->meta.name, volume->meta.uid);
    autofree char *indices = xasprintf("%s/.glusterfs/indices", folder);
    if (r == 0 && string_equal(uid, volume->meta.uid)) {
        if (access(indices, F_OK) < 0)
            finding_add(look->findings, "brick-index", folder, expected, "without .glusterfs/indices",
                        "make that folder")
                ->repairable = true;
        return;
    }
    autofree char *found =
        r == 0 ? xasprintf("a brick of another volume (%s)", uid) : xstrdup("a folder without an identity");
    finding_add(look->findings, "brick-identity", folder, expected, found,
                "move the folder away; then replace the brick");
}

static void examine_name(const struct look *look, const char *device, const char *bricks, const char *name)
{
    autofree char *folder = xasprintf("%s/%s", bricks, name);
    const struct volume *volume = volume_on_device(look, device, name);
    ++*look->checked;
    if (volume) {
        if (!volume->meta.deleting)
            examine_identity(look, volume, folder);
    } else if (string_starts_with(name, TRASH_PREFIX)) {
        if (!volume_with_uid(look, name + strlen(TRASH_PREFIX)))
            finding_add(look->findings, "brick-trash", folder, "nothing", "what is left of an erased brick",
                        "remove it")
                ->repairable = true;
    } else {
        struct finding *finding = finding_add(
            look->findings, "brick-unknown", folder, "nothing", "a folder that is no brick of any volume",
            "remove it with all data; if the store was lost: gluster-block device adopt");
        finding->repairable = finding->destroys = true;
    }
}

/* A brick that has been up and has no folder now. */
static void examine_missing(const struct look *look, const char *device, const char *bricks)
{
    for (size_t i = 0; i < look->target->volume_count; i++) {
        const struct volume *volume = &look->target->volumes[i];
        autofree char *folder = xasprintf("%s/%s", bricks, volume->meta.name);
        if (!volume_runs(look, volume) || volume->spec.moves.count ||
            !volume_on_device(look, device, volume->meta.name) || access(folder, F_OK) == 0)
            continue;
        autofree char *expected = xasprintf("a brick of volume %s (%s)", volume->meta.name, volume->meta.uid);
        finding_add(look->findings, "brick-missing", folder, expected, "no such folder",
                    "bring the disk's content back, or replace the brick");
    }
}

static int examine_device(const struct look *look, const char *device, struct error **ret_error)
{
    static const char *const known[] = {DEVICE_MARKER, MANIFEST_FOLDER, "bricks", NULL};
    autofree char *root = device_mount_point(look->engine, device);
    autofree char *bricks = xasprintf("%s/bricks", root);
    autostring_list struct string_list names = {0}, folders = {0};
    int r = folder_list(root, &names, ret_error);
    if (r == 0)
        r = folder_list(bricks, &folders, ret_error);
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        if (enum_parse(known, names.items[i]) >= 0 || string_starts_with(names.items[i], "."))
            continue;
        autofree char *path = xasprintf("%s/%s", root, names.items[i]);
        struct finding *finding =
            finding_add(look->findings, "device-unknown", path, "nothing", "what blockd did not put there",
                        "remove it with all that is in it");
        finding->repairable = finding->destroys = true;
    }
    for (size_t i = 0; r == 0 && i < folders.count; i++)
        examine_name(look, device, bricks, folders.items[i]);
    if (r == 0)
        examine_missing(look, device, bricks);
    return r;
}

/* Is this very device mounted at its place? What else may be there is not ours to judge. */
static bool is_there(const struct look *look, const struct device *device, const char *name)
{
    autofree char *root = device_mount_point(look->engine, name);
    autofree char *marker = xasprintf("%s/" DEVICE_MARKER, root);
    autofree char *uid = NULL;
    return device_check_mounted(look->engine, name, NULL) == 0 &&
           file_read(marker, 64, &uid, NULL, NULL) == 0 && string_equal(uid, device->meta.uid);
}

int examine_bricks(const struct look *look, struct error **ret_error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < look->target->device_count; i++) {
        const struct device *device = &look->target->devices[i];
        autofree char *name = object_name_part(device->meta.name, 1);
        if (!device->meta.deleting && is_there(look, device, name))
            r = examine_device(look, name, ret_error);
    }
    for (size_t i = 0; r == 0 && i < look->target->volume_count; i++)
        examine_blocks(look, &look->target->volumes[i]);
    return r;
}

/* ---- Repair ---- */

/* A folder with all that is in it, or a file. */
static int remove_tree(const char *path, struct error **ret_error)
{
    struct stat status;
    if (lstat(path, &status) < 0)
        return errno == ENOENT ? 0
                               : error_set(ret_error, errno, "cannot look at %s: %s", path, strerror(errno));
    return S_ISDIR(status.st_mode) ? tree_remove(path, ret_error) : file_remove(path, ret_error);
}

int repair_brick(const struct finding *finding, struct error **ret_error)
{
    if (strcmp(finding->code, "brick-index") == 0) {
        autofree char *indices = xasprintf("%s/.glusterfs/indices", finding->object);
        return folder_make(indices, 0700, ret_error);
    }
    return remove_tree(finding->object, ret_error);
}
