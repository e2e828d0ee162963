/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Which devices and volumes are adopted. */
#include "blockd/core/adopt_plan_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"

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
                                   string_equal(adopt_uid(value), device_uid)) return key;
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
    if (adopt_compare(group, KIND_DEVICE, key, record) != 0)
        return;
    json_t *value = adopt_fresh(record), *spec = json_object_get(value, "spec"),
           *status = json_object_get(value, "status");
    const json_t *uuid = json_object_get(json_object_get(record, "status"), "uuid");
    json_object_del(value, "deleting");
    json_object_set_new(spec, "destroy_existing_data", json_false());
    if (given) {
        json_object_set_new(spec, "path", json_string(given->path));
        json_object_set_new(status, "uuid", json_string(given->fs_uuid));
    } else {
        json_object_set_new(status, "uuid",
                            uuid ? json_incref((json_t *)uuid) : json_string(adopt_uid(record)));
    }
    if (!adopt_put(group, KIND_DEVICE, key, value))
        return;
    if (!given)
        ITEM(group, ADOPT_NEW, "device", name,
             "not among the disks that were named: it is missing until it appears");
    else
        ITEM(group, ADOPT_NEW, "device", name, "%s, as of revision %llu%s", given->path,
             (unsigned long long)given->manifest.revision,
             manifest_compare(&given->manifest, group->newest) < 0 ? "; another disk knows more" : "");
}

void adopt_plan_devices(const struct group *group)
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

size_t adopt_disk_of_brick(const struct group *group, const struct volume *volume, size_t index)
{
    const struct brick_spec *brick = (const struct brick_spec *)volume->spec.bricks.items + index;
    autofree char *key = xasprintf("devices/%s/%s", brick->node, brick->device);
    const json_t *device = json_object_get(group->newest->records, key);
    return device ? disk_of(group, adopt_uid(device)) : group->input->count;
}

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

/* The bricks that were named carry the volume's identity. Returns how many these are; negative: refused. */
static int check_bricks(const struct group *group, const struct volume *volume)
{
    int found = 0;
    bool refused = false;
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        size_t disk = adopt_disk_of_brick(group, volume, i);
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
        if (device && disk_of(group, adopt_uid(device)) == group->input->count &&
            !adopt_present(group, key) && !json_object_get(group->planned, key))
            plan_device(group, key, group->input->count);
    }
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
        for (uint64_t next = input->port_min; !adopt_mark_is_free(group, key, owner); next++) {
            if (next > input->port_max)
                return -ENOSPC;
            port = next;
            free(key);
            key = xasprintf("ports/%s/%llu", brick->node, (unsigned long long)port);
        }
        moved |= port != brick->port;
        json_object_set_new(child_record(value, volume->spec.bricks.count, i), "port",
                            json_integer((json_int_t)port));
        adopt_put_mark(group, key, owner);
    }
    if (moved)
        string_list_add(&group->plan->moved, volume->meta.name);
    return 0;
}

static bool volume_is_new(const struct group *group, const struct volume *volume, const char *key,
                          const json_t *record)
{
    int r = adopt_compare(group, KIND_VOLUME, key, record);
    if (r > 0 && adopt_present(group, key))
        string_list_add((struct string_list *)&group->volumes, volume->meta.name);
    return r == 0;
}

void adopt_plan_volume(const struct group *group, const char *key)
{
    const json_t *record = json_object_get(group->newest->records, key);
    struct volume volume cleanup(cleanup_volume) = {0};
    const char *name = strchr(key, '/') + 1;
    autoerror struct error *error = NULL;
    json_t *value cleanup(json_decrefp) = adopt_fresh(record);
    if (adopt_decode(KIND_VOLUME, key, value, (union any_object *)&volume, &error) < 0) {
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
    if (!adopt_put(group, KIND_VOLUME, key, json_incref(value)))
        return;
    string_list_add((struct string_list *)&group->volumes, name);
    ITEM(group, ADOPT_NEW, "volume", name, "%s, %d of %zu bricks%s",
         volume_template_words[volume.spec.template_name], found, volume.spec.bricks.count,
         volume.meta.deleting ? "; its deletion goes on" : "");
}
