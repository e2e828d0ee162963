/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Where the bricks of a new volume go, and the ports that they listen on. */
#include <errno.h>
#include <string.h>

#include "core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"

static size_t bricks_of_template(int template_name)
{
    return template_name == TEMPLATE_SINGLE ? 1 : 3;
}

static void add_brick(struct volume *volume, const char *node, const char *device)
{
    struct brick_spec *brick = object_list_add(&volume->spec.bricks, sizeof *brick);
    brick->node = xstrdup(node);
    brick->device = xstrdup(device);
}

static bool uses_node(const struct volume *volume, const char *node)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (strcmp(bricks[i].node, node) == 0)
            return true;
    return false;
}

static bool uses_device(const struct volume *volume, const char *node, const char *device)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (strcmp(bricks[i].node, node) == 0 && strcmp(bricks[i].device, device) == 0)
            return true;
    return false;
}

/* ---- Devices that the request names ---- */

static int place_named(struct core *core, const char *word, bool allow_same_node, struct volume *volume,
                       struct error **ret_error)
{
    const char *slash = strchr(word, '/');
    autofree char *node = slash ? xstrndup(word, (size_t)(slash - word)) : xstrdup(core->node);
    autofree char *part = xstrdup(slash ? slash + 1 : word);
    autofree char *name = xasprintf("%s/%s", node, part);
    struct device device cleanup(cleanup_device) = {0};
    int r = name_check("node", node, ret_error);
    if (r == 0)
        r = name_check("device", part, ret_error);
    if (r == 0)
        r = record_get(core, KIND_DEVICE, name, &device, ret_error);
    if (r < 0)
        return r;
    if (device.meta.deleting || !string_equal(device.status.phase, "ready"))
        return error_set(ret_error, EBUSY, "device %s is %s, not ready", name,
                         device.meta.deleting ? "being removed" : device.status.phase);
    if (device.spec.state == DEVICE_DISABLED)
        return error_set(ret_error, EBUSY,
                         "device %s is disabled; to use it again: gluster-block device enable %s", name,
                         name);
    if (uses_device(volume, node, part))
        return error_set(ret_error, EINVAL, "device %s is named twice", name);
    if (uses_node(volume, node) && !allow_same_node)
        return error_set(ret_error, EINVAL,
                         "two bricks would be on node %s and die with it; allow_same_node allows that", node);
    add_brick(volume, node, part);
    return 0;
}

/* ---- Devices picked by free space ---- */

/* Why a device cannot hold the next brick; NULL when it can. */
static const char *refusal(const struct device *device, const struct volume *volume, bool allow_same_node)
{
    autofree char *node = object_name_part(device->meta.name, 0);
    autofree char *part = object_name_part(device->meta.name, 1);
    if (device->meta.deleting)
        return "being removed";
    if (device->spec.state == DEVICE_DISABLED)
        return "disabled";
    if (!string_equal(device->status.phase, "ready"))
        return "not ready";
    if (uses_device(volume, node, part))
        return "picked already";
    if (uses_node(volume, node) && !allow_same_node)
        return "its node has a brick of this volume already";
    return NULL;
}

static int place_best(const struct record_list *devices, bool allow_same_node, struct volume *volume,
                      struct error **ret_error)
{
    const struct device *best = NULL;
    autostrbuf struct strbuf reasons = {0};
    for (size_t i = 0; i < devices->list.count; i++) {
        const struct device *device = RECORD(devices, device, i);
        const char *reason = refusal(device, volume, allow_same_node);
        if (reason)
            strbuf_addf(&reasons, "%s %s: %s", reasons.length ? "," : "", device->meta.name, reason);
        else if (!best || device->status.free > best->status.free)
            best = device;
    }
    if (!best)
        return error_set(ret_error, ENOSPC, "no device for brick %zu of volume %s;%s",
                         volume->spec.bricks.count + 1, volume->meta.name,
                         reasons.length ? strbuf_string(&reasons) : " no device was added yet");
    autofree char *node = object_name_part(best->meta.name, 0);
    autofree char *part = object_name_part(best->meta.name, 1);
    add_brick(volume, node, part);
    return 0;
}

int placement_plan(struct core *core, const struct volume_create *request, struct volume *volume,
                   struct error **ret_error)
{
    size_t wanted = bricks_of_template(request->template_name);
    int r = 0;
    if (request->devices.count) {
        if (request->devices.count != wanted)
            return error_set(ret_error, EINVAL, "template %s takes %zu device%s, and %zu are named",
                             volume_template_words[request->template_name], wanted, wanted == 1 ? "" : "s",
                             request->devices.count);
        for (size_t i = 0; i < wanted && r == 0; i++)
            r = place_named(core, request->devices.items[i], request->allow_same_node, volume, ret_error);
        return r;
    }
    struct record_list devices = {.kind = KIND_DEVICE};
    r = record_list(core, KIND_DEVICE, NULL, &devices, ret_error);
    for (size_t i = 0; r == 0 && i < devices.list.count; i++)
        overlay_status(core, KIND_DEVICE, RECORD(&devices, device, i), false);
    for (size_t i = 0; i < wanted && r == 0; i++)
        r = place_best(&devices, request->allow_same_node, volume, ret_error);
    record_list_clear(&devices);
    return r;
}

/* ---- A new place for a brick ---- */

/* Why a device cannot take the brick over; NULL when it can. */
static const char *move_refusal(const struct device *device, const struct volume *volume, size_t index,
                                uint64_t needed)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    autofree char *node = object_name_part(device->meta.name, 0);
    if (device->meta.deleting)
        return "being removed";
    if (!string_equal(device->status.phase, "ready"))
        return "not ready";
    if (device->spec.state == DEVICE_DISABLED)
        return "disabled";
    if (volume_uses_device(volume, device->meta.name))
        return "has a brick of this volume already";
    /* Not closer together than they are: bricks that share a node did so with consent. */
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (i != index && strcmp(bricks[i].node, node) == 0 && strcmp(bricks[index].node, node) != 0)
            return "its node has a brick of this volume already";
    return device->status.free < needed ? "has not enough room" : NULL;
}

int placement_move(struct core *core, const struct volume *volume, size_t index, const char *wanted,
                   char **ret_device, uint64_t *ret_used, struct error **ret_error)
{
    struct volume live cleanup(cleanup_volume) = {0};
    schema_copy(&volume_schema, &live, volume);
    uint64_t needed = volume_live_status(core, &live, NULL) == 0 ? live.status.size - live.status.free : 0;
    if (volume->spec.template_name == TEMPLATE_ARBITER && index == 2)
        needed = 0;
    struct record_list devices = {.kind = KIND_DEVICE};
    int r = record_list(core, KIND_DEVICE, NULL, &devices, ret_error);
    const struct device *best = NULL;
    autostrbuf struct strbuf reasons = {0};
    for (size_t i = 0; r == 0 && i < devices.list.count; i++) {
        struct device *device = RECORD(&devices, device, i);
        if (wanted && strcmp(wanted, device->meta.name) != 0)
            continue;
        overlay_status(core, KIND_DEVICE, device, false);
        const char *reason = move_refusal(device, volume, index, needed);
        if (reason)
            strbuf_addf(&reasons, "%s %s: %s", reasons.length ? "," : "", device->meta.name, reason);
        else if (!best || device->status.free > best->status.free)
            best = device;
    }
    if (r == 0 && best) {
        *ret_device = xstrdup(best->meta.name);
        *ret_used = best->status.size - best->status.free;
    }
    bool found = best != NULL;
    record_list_clear(&devices);
    if (r == 0 && !found)
        r = error_set(ret_error, ENOSPC, "no device can take the brick of volume %s;%s", volume->meta.name,
                      reasons.length ? strbuf_string(&reasons) : " there is none");
    return r;
}

int placement_port(struct core *core, const char *node, const struct string_list *taken, uint64_t *ret_port,
                   struct error **ret_error)
{
    autofree char *prefix = xasprintf("ports/%s/", node);
    struct store_list used = {0};
    int r = store_list(core->store, prefix, NULL, 0, &used, ret_error);
    if (r < 0)
        return r;
    r = -ENOSPC;
    for (uint64_t port = core->config->port_min; port <= core->config->port_max && r < 0; port++) {
        autofree char *key = xasprintf("%s%llu", prefix, (unsigned long long)port);
        bool free_port = !string_list_contains(taken, key);
        for (size_t i = 0; i < used.count && free_port; i++)
            free_port = strcmp(used.entries[i].key, key) != 0;
        if (free_port) {
            *ret_port = port;
            r = 0;
        }
    }
    store_list_clear(&used);
    if (r < 0)
        return error_set(ret_error, ENOSPC, "node %s has no free brick port from %llu to %llu", node,
                         (unsigned long long)core->config->port_min,
                         (unsigned long long)core->config->port_max);
    return 0;
}
