/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What of a volume is adopted with it: blocks, files that no record names, exports, shares and all else. */
#include "blockd/core/adopt_plan_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/volume_layout.h"

#define STORE_FOLDER "/block-store"
#define BLOCK_SIZE   512 /* of a file that no record names */

/* ---- Blocks ---- */

/*
 * A file that is on half of the bricks of a set or more is there; of two sizes the larger counts, so that no
 * data is ever cut off. Fragments do not tell the size: `recorded` stands.
 */
static bool find_file(const struct group *group, const struct volume *volume, const char *file,
                      uint64_t recorded, uint64_t *ret_size)
{
    const struct adopt_lookup *lookup = &group->input->lookup;
    size_t in_set = layout_set_bricks(&volume->spec);
    uint64_t largest = 0;
    bool there = false;
    for (size_t first = 0; in_set && first + in_set <= volume->spec.bricks.count; first += in_set) {
        size_t looked = 0, found = 0;
        for (size_t i = first; i < first + in_set; i++) {
            size_t disk = adopt_disk_of_brick(group, volume, i);
            uint64_t size = 0;
            if (disk == group->input->count)
                continue;
            looked++;
            if (lookup->file(lookup->data, disk, volume->meta.name, file, &size) < 0)
                continue;
            found++;
            if (!layout_is_witness(&volume->spec, i) && size > largest)
                largest = size;
        }
        there |= found && 2 * found >= looked;
    }
    *ret_size = layout_set_data(&volume->spec) == 1 ? largest : recorded;
    return there;
}

static void plan_block(const struct group *group, const struct volume *volume, const char *key)
{
    const json_t *record = json_object_get(group->newest->records, key);
    const json_t *spec = json_object_get(record, "spec");
    const char *name = strchr(key, '/') + 1, *storage = json_string_value(json_object_get(spec, "storage"));
    uint64_t size = 0, recorded = (uint64_t)json_integer_value(json_object_get(spec, "size"));
    if (adopt_compare(group, KIND_BLOCK, key, record) != 0)
        return;
    if (!storage || storage[0] != '/' || !find_file(group, volume, storage, recorded, &size)) {
        ITEM(group, ADOPT_SKIPPED, "block", name, "its file %s is not there: it was deleted, or never made",
             storage ? storage : "");
        return;
    }
    json_t *value = adopt_fresh(record);
    json_object_set_new(json_object_get(value, "spec"), "size", json_integer((json_int_t)size));
    json_object_set_new(json_object_get(value, "status"), "size", json_integer((json_int_t)size));
    if (!adopt_put(group, KIND_BLOCK, key, value))
        return;
    char text[SIZE_TEXT_SIZE], before[SIZE_TEXT_SIZE];
    size_format(size, text);
    size_format(recorded, before);
    if (json_is_true(json_object_get(record, "deleting")))
        ITEM(group, ADOPT_NEW, "block", name, "%s; its deletion goes on", text);
    else if (size == recorded)
        ITEM(group, ADOPT_NEW, "block", name, "%s", text);
    else
        ITEM(group, ADOPT_NEW, "block", name, "%s, as its file is; its record says %s", text, before);
}

/* ---- Files that no record names ---- */

static void add_named(json_t *named, const json_t *records, const char *volume)
{
    autofree char *prefix = xasprintf("blocks/%s/", volume);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)records, key, value)
    {
        const char *storage = json_string_value(json_object_get(json_object_get(value, "spec"), "storage"));
        if (storage && string_starts_with(key, prefix))
            json_object_set_new(named, storage, json_true());
    }
}

static void adopt_unknown(const struct group *group, const struct volume *volume, const char *file,
                          const char *path, uint64_t size)
{
    autofree char *name = xasprintf("%s/%s", volume->meta.name, file);
    autofree char *key = object_key(KIND_BLOCK, name);
    json_t *value = json_pack("{s:s, s:s, s:i, s:{s:I, s:i, s:s}, s:{s:s, s:I}}", "name", name, "uid", file,
                              "generation", 1, "spec", "size", (json_int_t)size, "block_size", BLOCK_SIZE,
                              "storage", path, "status", "phase", "pending", "size", (json_int_t)size);
    if (adopt_compare(group, KIND_BLOCK, key, value) == 0 &&
        adopt_put(group, KIND_BLOCK, key, json_incref(value)))
        ITEM(group, ADOPT_NEW, "block", name, "its name is lost: rename it");
    json_decref(value);
}

static void plan_unknown(const struct group *group, const struct volume *volume)
{
    const struct adopt_lookup *lookup = &group->input->lookup;
    json_t *named cleanup(json_decrefp) = json_object();
    add_named(named, group->newest->records, volume->meta.name);
    add_named(named, group->input->present, volume->meta.name);
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        size_t disk = adopt_disk_of_brick(group, volume, i);
        autostring_list struct string_list names = {0};
        if (disk == group->input->count ||
            lookup->folder(lookup->data, disk, volume->meta.name, STORE_FOLDER, &names) < 0)
            continue;
        for (size_t k = 0; k < names.count; k++) {
            autofree char *path = xasprintf(STORE_FOLDER "/%s", names.items[k]);
            uint64_t size;
            if (json_object_get(named, path) || !find_file(group, volume, path, 0, &size))
                continue;
            json_object_set_new(named, path, json_true());
            bool is_block = strlen(names.items[k]) == 36 && size % BLOCK_SIZE == 0 && size > 0 &&
                            name_check("block", names.items[k], NULL) == 0;
            if (group->input->unknown && is_block)
                adopt_unknown(group, volume, names.items[k], path, size);
            else
                ITEM(group, ADOPT_SKIPPED, "file", path,
                     "no record names this file of volume %s (%llu bytes): --unknown makes a block of it",
                     volume->meta.name, (unsigned long long)size);
        }
    }
}

/* ---- What else belongs to a volume ---- */

/* The volume that an object's name begins with; of an export it is the second part. The caller's. */
static char *volume_of(enum object_kind kind, const char *key)
{
    return object_name_part(strchr(key, '/') + 1, kind == KIND_EXPORT ? 1 : 0);
}

static bool will_be_there(const struct group *group, const char *key)
{
    return adopt_present(group, key) || json_object_get(group->planned, key);
}

static void plan_export(const struct group *group, const char *key)
{
    const json_t *record = json_object_get(group->newest->records, key);
    const char *name = strchr(key, '/') + 1;
    autofree char *node = object_name_part(name, 0);
    autofree char *node_key = object_key(KIND_NODE, node);
    autofree char *block_key = object_key(KIND_BLOCK, name + strlen(node) + 1);
    if (adopt_compare(group, KIND_EXPORT, key, record) != 0)
        return;
    if (!adopt_present(group, node_key))
        ITEM(group, ADOPT_SKIPPED, "export", name, "node %s is not known here: adopt on it later", node);
    else if (!will_be_there(group, block_key))
        ITEM(group, ADOPT_SKIPPED, "export", name, "its block is not there");
    else if (adopt_put(group, KIND_EXPORT, key, adopt_fresh(record)))
        ITEM(group, ADOPT_NEW, "export", name, "as it was");
}

/* A share keeps its project id: the files on the bricks carry it. */
static int plan_project(const struct group *group, const char *key, const json_t *record)
{
    json_int_t project = json_integer_value(json_object_get(json_object_get(record, "spec"), "project"));
    if (project <= 0)
        return 0;
    autofree char *project_key = xasprintf(SHARE_PROJECTS "/%lld", (long long)project);
    autofree char *owner = xasprintf("shares/%s", adopt_uid(record) ? adopt_uid(record) : "");
    if (!adopt_mark_is_free(group, project_key, owner)) {
        ITEM(group, ADOPT_REFUSED, "share", strchr(key, '/') + 1,
             "its project id %lld is taken by another share", (long long)project);
        return -EEXIST;
    }
    adopt_put_mark(group, project_key, owner);
    return 0;
}

/* Kinds that need no more than their record: what they know of themselves is kept. */
static void plan_other(const struct group *group, enum object_kind kind, const char *key)
{
    const json_t *record = json_object_get(group->newest->records, key);
    if (adopt_compare(group, kind, key, record) != 0)
        return;
    if (kind == KIND_SHARE && plan_project(group, key, record) < 0)
        return;
    json_t *value = json_deep_copy(record), *status = json_object_get(value, "status");
    json_object_del(value, "revision");
    json_object_set_new(status, "phase", json_string("pending"));
    json_object_del(status, "observed_generation");
    if (adopt_put(group, kind, key, value))
        ITEM(group, ADOPT_NEW, object_types[kind].word, strchr(key, '/') + 1, "as it was");
}

void adopt_plan_below_volume(const struct group *group, enum object_kind kind, const char *name)
{
    autostring_list struct string_list keys = {0};
    struct volume volume cleanup(cleanup_volume) = {0};
    autofree char *volume_key = object_key(KIND_VOLUME, name);
    const json_t *record = json_object_get(group->newest->records, volume_key);
    if (!record || adopt_decode(KIND_VOLUME, volume_key, record, (union any_object *)&volume, NULL) < 0)
        return;
    adopt_keys(group, kind, &keys);
    for (size_t i = 0; i < keys.count; i++) {
        autofree char *owner = volume_of(kind, keys.items[i]);
        if (!string_equal(owner, name))
            continue;
        if (kind == KIND_BLOCK)
            plan_block(group, &volume, keys.items[i]);
        else if (kind == KIND_EXPORT)
            plan_export(group, keys.items[i]);
        else
            plan_other(group, kind, keys.items[i]);
    }
    if (kind == KIND_BLOCK)
        plan_unknown(group, &volume);
}
