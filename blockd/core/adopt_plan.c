/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "adopt_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/volume_layout.h"

#define STORE_FOLDER "/block-store"
#define BLOCK_SIZE   512 /* of a file that no record names */

/* The newest manifest of one store, and what of it is adopted. */
struct group {
    const struct adopt_input *input;
    struct adopt_plan *plan;
    const struct manifest_view *newest;
    struct string_list volumes; /* adopted, or known already */
    json_t *known;              /* "blocks/UID" -> key in the store */
    json_t *planned;            /* keys that are put */
};

/* ---- Items ---- */

static void add_item(struct adopt_plan *plan, enum adopt_outcome outcome, char *object, char *detail)
{
    struct adopt_item *item = object_list_add(&plan->items, sizeof *item);
    *item = (struct adopt_item){.object = object, .outcome = (int)outcome, .detail = detail};
}

#define ITEM(group, outcome, word, name, ...)                                                                \
    add_item((group)->plan, outcome, xasprintf("%s %s", word, name), xasprintf(__VA_ARGS__))

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The keys of a kind in the newest manifest, in order. */
static void keys_of(const struct group *group, enum object_kind kind, struct string_list *keys)
{
    autofree char *prefix = xasprintf("%s/", object_types[kind].plural);
    const char *key;
    json_t *value;
    json_object_foreach(group->newest->records, key, value)
    {
        (void)value;
        if (string_starts_with(key, prefix))
            string_list_add(keys, key);
    }
    if (keys->count)
        qsort(keys->items, keys->count, sizeof *keys->items, compare_strings);
}

/* ---- Records ---- */

static const char *uid_of(const json_t *record)
{
    return json_string_value(json_object_get(record, "uid"));
}

static const json_t *present(const struct group *group, const char *key)
{
    return json_object_get(group->input->present, key);
}

/* A record as it is put into the store: nothing was done for it yet. */
static json_t *fresh(const json_t *record)
{
    json_t *copy = json_deep_copy(record);
    json_object_del(copy, "revision");
    json_object_set_new(copy, "status", json_pack("{s:s}", "phase", "pending"));
    return copy;
}

static int check_names(enum object_kind kind, const char *name, struct error **ret_error)
{
    autostring_list struct string_list parts = {0};
    string_list_split(&parts, name, '/');
    if (parts.count != object_types[kind].parts)
        return error_set(ret_error, EBADMSG, "it has %zu parts in its name", parts.count);
    for (size_t i = 0; i < parts.count; i++) {
        int r = name_check(object_types[kind].word, parts.items[i], ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Disks may hold anything: what is taken from them passes the same gate as what the store holds. */
static int decode(enum object_kind kind, const char *key, const json_t *record, union any_object *object,
                  struct error **ret_error)
{
    const char *name = strchr(key, '/') + 1;
    int r = check_names(kind, name, ret_error);
    if (r == 0)
        r = schema_decode(object_types[kind].schema, record, object, NULL, ret_error);
    if (r == 0 &&
        (!string_equal(object->meta.name, name) || !object->meta.uid || strlen(object->meta.uid) != 36))
        r = error_set(ret_error, EBADMSG, "its name or identity does not fit its key");
    return r;
}

/* Is there one under that name or identity? Adds the item, unless it is new: then 0. */
static int compare_with_store(const struct group *group, enum object_kind kind, const char *key,
                              const json_t *record)
{
    const char *word = object_types[kind].word, *name = strchr(key, '/') + 1;
    const json_t *same_name = present(group, key);
    autofree char *identity =
        xasprintf("%s/%s", object_types[kind].plural, uid_of(record) ? uid_of(record) : "");
    const char *same_uid = json_string_value(json_object_get(group->known, identity));
    if (same_uid) {
        ITEM(group, ADOPT_PRESENT, word, name, "known already%s%s", strcmp(same_uid, key) == 0 ? "" : " as ",
             strcmp(same_uid, key) == 0 ? "" : strchr(same_uid, '/') + 1);
        return 1;
    }
    if (same_name) {
        ITEM(group, ADOPT_REFUSED, word, name, "another %s has this name: delete or rename that one first",
             word);
        return -EEXIST;
    }
    return 0;
}

static json_t *index_of_known(json_t *store)
{
    json_t *known = json_object(), *value;
    const char *key;
    json_object_foreach(store, key, value)
    {
        enum object_kind kind;
        const char *name;
        if (!uid_of(value) || object_key_parse(key, &kind, &name) < 0)
            continue;
        autofree char *identity = xasprintf("%s/%s", object_types[kind].plural, uid_of(value));
        json_object_set_new(known, identity, json_string(key));
    }
    return known;
}

static void add_put(const struct group *group, const char *key, json_t *value)
{
    json_array_append_new(group->plan->puts, json_pack("[s, O]", key, value));
    json_object_set_new(group->planned, key, json_true());
}

/* Takes the value when it is a sound record. */
static bool put(const struct group *group, enum object_kind kind, const char *key, json_t *value)
{
    union any_object object = {0};
    autoerror struct error *error = NULL;
    bool sound = decode(kind, key, value, &object, &error) == 0;
    any_object_clear(kind, &object);
    if (sound)
        add_put(group, key, value);
    else
        ITEM(group, ADOPT_REFUSED, object_types[kind].word, strchr(key, '/') + 1,
             "its record in the manifest is damaged: %s", error_message(error));
    json_decref(value);
    return sound;
}

/* ---- Devices ---- */

/* The disk that is the device; input->count when it was not named. */
static size_t disk_of(const struct group *group, const char *device_uid)
{
    size_t i = 0;
    while (i < group->input->count && !string_equal(group->input->disks[i].device_uid, device_uid))
        i++;
    return i;
}

static const char *device_key_of(const struct group *group, const char *device_uid)
{
    const char *key;
    json_t *value;
    json_object_foreach(group->newest->records, key,
                        value) if (string_starts_with(key, "devices/") &&
                                   string_equal(uid_of(value), device_uid)) return key;
    return NULL;
}

/* `disk` is its place among those that were named; input->count when it is known from others only. */
static void plan_device(const struct group *group, const char *key, size_t disk)
{
    const struct adopt_input *input = group->input;
    const json_t *record = json_object_get(group->newest->records, key);
    const char *name = strchr(key, '/') + 1;
    autofree char *node = object_name_part(name, 0);
    const struct adopt_disk *given = disk < input->count ? &input->disks[disk] : NULL;
    if (given && strcmp(node, input->node) != 0) {
        ITEM(group, ADOPT_REFUSED, "device", name,
             "%s was a disk of node %s, and this node is %s: adopt it there, or give this node that name",
             given->path, node, input->node);
        return;
    }
    if (compare_with_store(group, KIND_DEVICE, key, record) != 0)
        return;
    json_t *value = fresh(record), *spec = json_object_get(value, "spec"),
           *status = json_object_get(value, "status");
    const json_t *uuid = json_object_get(json_object_get(record, "status"), "uuid");
    json_object_del(value, "deleting");
    json_object_set_new(spec, "destroy_existing_data", json_false());
    if (given) {
        json_object_set_new(spec, "path", json_string(given->path));
        json_object_set_new(status, "uuid", json_string(given->fs_uuid));
    } else {
        json_object_set_new(status, "uuid", uuid ? json_incref((json_t *)uuid) : json_string(uid_of(record)));
    }
    if (!put(group, KIND_DEVICE, key, value))
        return;
    if (!given)
        ITEM(group, ADOPT_NEW, "device", name,
             "not among the disks that were named: it is missing until it appears");
    else
        ITEM(group, ADOPT_NEW, "device", name, "%s, as of revision %llu%s", given->path,
             (unsigned long long)given->manifest.revision,
             manifest_compare(&given->manifest, group->newest) < 0 ? "; another disk knows more" : "");
}

static void plan_given_devices(const struct group *group)
{
    const struct adopt_input *input = group->input;
    for (size_t i = 0; i < input->count; i++) {
        const struct adopt_disk *disk = &input->disks[i];
        if (!disk->has_manifest ||
            !string_equal(disk->manifest.identity.store, group->newest->identity.store))
            continue;
        const char *key = device_key_of(group, disk->device_uid);
        if (key)
            plan_device(group, key, i);
        else
            ITEM(group, ADOPT_REFUSED, "disk", disk->path,
                 "the newest manifest does not know its device: it was removed. Leave this disk out");
    }
}

/* ---- Volumes ---- */

/* The bricks of a volume, and those that are on their way to become such. */
static size_t children_of(const struct volume *volume)
{
    return volume->spec.bricks.count + volume->spec.moves.count;
}

static const struct brick_spec *child_of(const struct volume *volume, size_t index)
{
    size_t bricks = volume->spec.bricks.count;
    return index < bricks ? (const struct brick_spec *)volume->spec.bricks.items + index
                          : &((const struct brick_move *)volume->spec.moves.items)[index - bricks].brick;
}

/* The disk of brick `index`, input->count when it was not named. */
static size_t disk_of_brick(const struct group *group, const struct volume *volume, size_t index)
{
    const struct brick_spec *brick = (const struct brick_spec *)volume->spec.bricks.items + index;
    autofree char *key = xasprintf("devices/%s/%s", brick->node, brick->device);
    const json_t *device = json_object_get(group->newest->records, key);
    return device ? disk_of(group, uid_of(device)) : group->input->count;
}

/* The bricks that were named carry the volume's identity. Returns how many these are; negative: refused. */
static int check_bricks(const struct group *group, const struct volume *volume)
{
    int found = 0;
    bool refused = false;
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        size_t disk = disk_of_brick(group, volume, i);
        if (disk == group->input->count)
            continue;
        const char *path = group->input->disks[disk].path;
        autofree char *uid = NULL;
        int r = group->input->lookup.brick(group->input->lookup.data, disk, volume->meta.name, &uid);
        found++;
        if (r == 0 && string_equal(uid, volume->meta.uid))
            continue;
        if (volume->meta.deleting && r == -ENOENT)
            continue;
        refused = true;
        if (r == 0)
            ITEM(group, ADOPT_REFUSED, "volume", volume->meta.name,
                 "its brick folder on %s carries the identity %s, not %s", path, uid, volume->meta.uid);
        else
            ITEM(group, ADOPT_REFUSED, "volume", volume->meta.name,
                 "its brick folder on %s is gone or is no brick: leave this disk out", path);
    }
    return refused ? -ESTALE : found;
}

static void plan_missing_devices(const struct group *group, const struct volume *volume)
{
    for (size_t i = 0; i < children_of(volume); i++) {
        const struct brick_spec *brick = child_of(volume, i);
        autofree char *key = xasprintf("devices/%s/%s", brick->node, brick->device);
        const json_t *device = json_object_get(group->newest->records, key);
        if (device && disk_of(group, uid_of(device)) == group->input->count && !present(group, key) &&
            !json_object_get(group->planned, key))
            plan_device(group, key, group->input->count);
    }
}

/* A port or a project id: nobody's, or the owner's and not used twice. */
static bool mark_is_free(const struct group *group, const char *key, const char *owner)
{
    const char *known = json_string_value(present(group, key));
    return !json_object_get(group->planned, key) && (!known || strcmp(known, owner) == 0);
}

static void put_mark(const struct group *group, const char *key, const char *owner)
{
    json_t *text cleanup(json_decrefp) = json_string(owner);
    if (present(group, key))
        json_object_set_new(group->planned, key, json_true());
    else
        add_put(group, key, text);
}

/* The brick of a volume's record that is child `index`. */
static json_t *child_record(json_t *value, size_t bricks, size_t index)
{
    json_t *spec = json_object_get(value, "spec");
    if (index < bricks)
        return json_array_get(json_object_get(spec, "bricks"), index);
    return json_object_get(json_array_get(json_object_get(spec, "moves"), index - bricks), "brick");
}

/* Each brick keeps its port if nobody else has it. */
static int plan_ports(const struct group *group, json_t *value, const struct volume *volume)
{
    const struct adopt_input *input = group->input;
    autofree char *owner = xasprintf("volumes/%s", volume->meta.name);
    bool moved = false;
    for (size_t i = 0; i < children_of(volume); i++) {
        const struct brick_spec *brick = child_of(volume, i);
        uint64_t port = brick->port;
        autofree char *key = xasprintf("ports/%s/%llu", brick->node, (unsigned long long)port);
        for (uint64_t next = input->port_min; !mark_is_free(group, key, owner); next++) {
            if (next > input->port_max)
                return -ENOSPC;
            port = next;
            free(key);
            key = xasprintf("ports/%s/%llu", brick->node, (unsigned long long)port);
        }
        moved |= port != brick->port;
        json_object_set_new(child_record(value, volume->spec.bricks.count, i), "port",
                            json_integer((json_int_t)port));
        put_mark(group, key, owner);
    }
    if (moved)
        string_list_add(&group->plan->moved, volume->meta.name);
    return 0;
}

static bool volume_is_new(const struct group *group, const struct volume *volume, const char *key,
                          const json_t *record)
{
    int r = compare_with_store(group, KIND_VOLUME, key, record);
    if (r > 0 && present(group, key))
        string_list_add((struct string_list *)&group->volumes, volume->meta.name);
    return r == 0;
}

static void plan_volume(const struct group *group, const char *key)
{
    const json_t *record = json_object_get(group->newest->records, key);
    struct volume volume cleanup(cleanup_volume) = {0};
    const char *name = strchr(key, '/') + 1;
    autoerror struct error *error = NULL;
    json_t *value cleanup(json_decrefp) = fresh(record);
    if (decode(KIND_VOLUME, key, value, (union any_object *)&volume, &error) < 0) {
        ITEM(group, ADOPT_REFUSED, "volume", name, "its record in the manifest is damaged: %s",
             error_message(error));
        return;
    }
    int found = check_bricks(group, &volume);
    if (found <= 0 || !volume_is_new(group, &volume, key, record))
        return; /* refused, known, or none of its bricks is here */
    plan_missing_devices(group, &volume);
    if (plan_ports(group, value, &volume) < 0) {
        ITEM(group, ADOPT_REFUSED, "volume", name, "there are not enough free ports for its bricks");
        return;
    }
    if (!put(group, KIND_VOLUME, key, json_incref(value)))
        return;
    string_list_add((struct string_list *)&group->volumes, name);
    ITEM(group, ADOPT_NEW, "volume", name, "%s, %d of %zu bricks%s",
         volume_template_words[volume.spec.template_name], found, volume.spec.bricks.count,
         volume.meta.deleting ? "; its deletion goes on" : "");
}

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
            size_t disk = disk_of_brick(group, volume, i);
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
    if (compare_with_store(group, KIND_BLOCK, key, record) != 0)
        return;
    if (!storage || storage[0] != '/' || !find_file(group, volume, storage, recorded, &size)) {
        ITEM(group, ADOPT_SKIPPED, "block", name, "its file %s is not there: it was deleted, or never made",
             storage ? storage : "");
        return;
    }
    json_t *value = fresh(record);
    json_object_set_new(json_object_get(value, "spec"), "size", json_integer((json_int_t)size));
    json_object_set_new(json_object_get(value, "status"), "size", json_integer((json_int_t)size));
    if (!put(group, KIND_BLOCK, key, value))
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
    if (compare_with_store(group, KIND_BLOCK, key, value) == 0 &&
        put(group, KIND_BLOCK, key, json_incref(value)))
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
        size_t disk = disk_of_brick(group, volume, i);
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
    return present(group, key) || json_object_get(group->planned, key);
}

static void plan_export(const struct group *group, const char *key)
{
    const json_t *record = json_object_get(group->newest->records, key);
    const char *name = strchr(key, '/') + 1;
    autofree char *node = object_name_part(name, 0);
    autofree char *node_key = object_key(KIND_NODE, node);
    autofree char *block_key = object_key(KIND_BLOCK, name + strlen(node) + 1);
    if (compare_with_store(group, KIND_EXPORT, key, record) != 0)
        return;
    if (!present(group, node_key))
        ITEM(group, ADOPT_SKIPPED, "export", name, "node %s is not known here: adopt on it later", node);
    else if (!will_be_there(group, block_key))
        ITEM(group, ADOPT_SKIPPED, "export", name, "its block is not there");
    else if (put(group, KIND_EXPORT, key, fresh(record)))
        ITEM(group, ADOPT_NEW, "export", name, "as it was");
}

/* A share keeps its project id: the files on the bricks carry it. */
static int plan_project(const struct group *group, const char *key, const json_t *record)
{
    json_int_t project = json_integer_value(json_object_get(json_object_get(record, "spec"), "project"));
    if (project <= 0)
        return 0;
    autofree char *project_key = xasprintf(SHARE_PROJECTS "/%lld", (long long)project);
    autofree char *owner = xasprintf("shares/%s", uid_of(record) ? uid_of(record) : "");
    if (!mark_is_free(group, project_key, owner)) {
        ITEM(group, ADOPT_REFUSED, "share", strchr(key, '/') + 1,
             "its project id %lld is taken by another share", (long long)project);
        return -EEXIST;
    }
    put_mark(group, project_key, owner);
    return 0;
}

/* Kinds that need no more than their record: what they know of themselves is kept. */
static void plan_other(const struct group *group, enum object_kind kind, const char *key)
{
    const json_t *record = json_object_get(group->newest->records, key);
    if (compare_with_store(group, kind, key, record) != 0)
        return;
    if (kind == KIND_SHARE && plan_project(group, key, record) < 0)
        return;
    json_t *value = json_deep_copy(record), *status = json_object_get(value, "status");
    json_object_del(value, "revision");
    json_object_set_new(status, "phase", json_string("pending"));
    json_object_del(status, "observed_generation");
    if (put(group, kind, key, value))
        ITEM(group, ADOPT_NEW, object_types[kind].word, strchr(key, '/') + 1, "as it was");
}

static void plan_below_volume(const struct group *group, enum object_kind kind, const char *name)
{
    autostring_list struct string_list keys = {0};
    struct volume volume cleanup(cleanup_volume) = {0};
    autofree char *volume_key = object_key(KIND_VOLUME, name);
    const json_t *record = json_object_get(group->newest->records, volume_key);
    if (!record || decode(KIND_VOLUME, volume_key, record, (union any_object *)&volume, NULL) < 0)
        return;
    keys_of(group, kind, &keys);
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

/* ---- All of it ---- */

static void plan_group(struct group *group)
{
    plan_given_devices(group);
    autostring_list struct string_list volumes = {0};
    keys_of(group, KIND_VOLUME, &volumes);
    for (size_t i = 0; i < volumes.count; i++)
        plan_volume(group, volumes.items[i]);
    for (enum object_kind kind = 0; kind < KIND_COUNT; kind++) {
        if (kind == KIND_NODE || kind == KIND_DEVICE || kind == KIND_VOLUME || kind == KIND_JOB)
            continue;
        for (size_t i = 0; i < group->volumes.count; i++)
            plan_below_volume(group, kind, group->volumes.items[i]);
    }
}

/* The newest manifest of the store whose manifest disk `first` has; NULL when an earlier disk had one of it.
 */
static const struct manifest_view *newest_of(const struct adopt_input *input, size_t first)
{
    const struct manifest_view *newest = &input->disks[first].manifest;
    for (size_t i = 0; i < input->count; i++) {
        const struct adopt_disk *disk = &input->disks[i];
        if (!disk->has_manifest || strcmp(disk->manifest.identity.store, newest->identity.store) != 0)
            continue;
        if (i < first)
            return NULL;
        if (manifest_compare(&disk->manifest, newest) > 0)
            newest = &disk->manifest;
    }
    return newest;
}

static void remember_identity(struct adopt_plan *plan, const struct manifest_identity *found)
{
    if (!plan->identity.store)
        plan->identity.store = xstrdup(found->store);
    if (found->incarnation > plan->identity.incarnation)
        plan->identity.incarnation = found->incarnation;
}

void adopt_plan(const struct adopt_input *input, struct adopt_plan *ret_plan)
{
    struct adopt_plan plan = {.puts = json_array()};
    json_t *known cleanup(json_decrefp) = index_of_known(input->present);
    json_t *planned cleanup(json_decrefp) = json_object();
    for (size_t i = 0; i < input->count; i++) {
        const struct adopt_disk *disk = &input->disks[i];
        if (!disk->has_manifest) {
            add_item(&plan, ADOPT_REFUSED, xasprintf("disk %s", disk->path), xstrdup(disk->problem));
            continue;
        }
        struct group group = {
            .input = input, .plan = &plan, .newest = newest_of(input, i), .known = known, .planned = planned};
        if (!group.newest)
            continue;
        remember_identity(&plan, &group.newest->identity);
        plan_group(&group);
        string_list_clear(&group.volumes);
    }
    *ret_plan = plan;
}

void adopt_plan_clear(struct adopt_plan *plan)
{
    for (size_t i = 0; i < plan->items.count; i++)
        schema_clear(&adopt_item_schema, (struct adopt_item *)plan->items.items + i);
    free(plan->items.items);
    json_decref(plan->puts);
    manifest_identity_clear(&plan->identity);
    string_list_clear(&plan->moved);
    *plan = (struct adopt_plan){0};
}
