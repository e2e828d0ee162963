/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Where the bricks of a new volume go, and the ports that they listen on. */
#include <errno.h>
#include <string.h>

#include "blockd/core/planner.h"
#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/volume_layout.h"

static void add_brick(struct volume *volume, const char *node, const char *device, uint64_t size)
{
    struct brick_spec *brick = object_list_add(&volume->spec.bricks, sizeof *brick);
    brick->node = xstrdup(node);
    brick->device = xstrdup(device);
    brick->size = size;
    /* After a brick was replaced, places are no numbers any more. */
    if (volume->spec.bricks_made)
        brick->serial = ++volume->spec.bricks_made;
}

/* ---- What the planner needs to know ---- */

struct inventory {
    struct planner_device *devices;
    size_t count;
    struct record_list nodes;
};

static void inventory_clear(struct inventory *inventory)
{
    for (size_t i = 0; i < inventory->count; i++) {
        struct planner_device *device = &inventory->devices[i];
        free(device->node);
        free(device->device);
        free(device->zone);
        free(device->unusable);
        free(device->whole);
    }
    free(inventory->devices);
    record_list_clear(&inventory->nodes);
}

static const struct node *node_of(const struct inventory *inventory, const char *name)
{
    for (size_t i = 0; i < inventory->nodes.list.count; i++) {
        const struct node *node = RECORD(&inventory->nodes, node, i);
        if (string_equal(node->meta.name, name))
            return node;
    }
    return NULL;
}

static struct planner_device *device_of(const struct inventory *inventory, const char *node,
                                        const char *device)
{
    for (size_t i = 0; i < inventory->count; i++)
        if (string_equal(inventory->devices[i].node, node) &&
            string_equal(inventory->devices[i].device, device))
            return &inventory->devices[i];
    return NULL;
}

static char *unusable(const struct device *device)
{
    if (device->meta.deleting)
        return xstrdup("it is being removed");
    if (device->spec.state == DEVICE_DISABLED)
        return xasprintf("it is disabled; to use it again: gluster-block device enable %s",
                         device->meta.name);
    if (string_equal(device->status.phase, "ready"))
        return NULL;
    return xasprintf("it is %s, not ready", device->status.phase ? device->status.phase : "pending");
}

static void take_device(struct core *core, struct inventory *inventory, struct device *device)
{
    overlay_status(core, KIND_DEVICE, device, false);
    struct planner_device *to = &inventory->devices[inventory->count++];
    *to = (struct planner_device){
        .node = object_name_part(device->meta.name, 0),
        .device = object_name_part(device->meta.name, 1),
        .unusable = unusable(device),
        .size = device->status.size,
        .free = device->status.free,
    };
    const struct node *node = node_of(inventory, to->node);
    to->zone = node ? xstrdup(node->spec.zone) : NULL;
}

static void take_promises(const struct inventory *inventory, const struct volume *volume)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        struct planner_device *device = device_of(inventory, bricks[i].node, bricks[i].device);
        if (!device)
            continue;
        device->promised += bricks[i].size;
        if (!bricks[i].size && !device->whole)
            device->whole = xstrdup(volume->meta.name);
    }
    const struct brick_move *moves = volume->spec.moves.items;
    for (size_t i = 0; i < volume->spec.moves.count; i++) {
        struct planner_device *device = device_of(inventory, moves[i].brick.node, moves[i].brick.device);
        if (device)
            device->promised += moves[i].brick.size;
    }
}

static int take_inventory(struct core *core, struct inventory *inventory, struct error **ret_error)
{
    struct record_list devices = {.kind = KIND_DEVICE}, volumes = {.kind = KIND_VOLUME};
    int r = record_list(core, KIND_NODE, NULL, &inventory->nodes, ret_error);
    if (r == 0)
        r = record_list(core, KIND_DEVICE, NULL, &devices, ret_error);
    if (r == 0)
        r = record_list(core, KIND_VOLUME, NULL, &volumes, ret_error);
    if (r == 0)
        inventory->devices = xcalloc(devices.list.count + 1, sizeof *inventory->devices);
    for (size_t i = 0; r == 0 && i < devices.list.count; i++)
        take_device(core, inventory, RECORD(&devices, device, i));
    for (size_t i = 0; r == 0 && i < volumes.list.count; i++)
        take_promises(inventory, RECORD(&volumes, volume, i));
    record_list_clear(&devices);
    record_list_clear(&volumes);
    return r;
}

/* ---- What the request names ---- */

/* "NODE/DEVICE" of a word that may leave the node out; both parts are checked. */
static int device_word(struct core *core, const struct inventory *inventory, const char *word,
                       char **ret_name, struct error **ret_error)
{
    const char *slash = strchr(word, '/');
    autofree char *node = slash ? xstrndup(word, (size_t)(slash - word)) : xstrdup(core->node);
    const char *part = slash ? slash + 1 : word;
    int r = name_check("node", node, ret_error);
    if (r == 0)
        r = name_check("device", part, ret_error);
    if (r < 0)
        return r;
    if (!device_of(inventory, node, part))
        return error_set(ret_error, ENOENT, "device %s/%s doesn't exist", node, part);
    *ret_name = xasprintf("%s/%s", node, part);
    return 0;
}

static int check_nodes(const struct inventory *inventory, const struct string_list *nodes,
                       const struct string_list *zones, struct error **ret_error)
{
    for (size_t i = 0; i < nodes->count; i++)
        if (!node_of(inventory, nodes->items[i]))
            return error_set(ret_error, ENOENT, "node %s doesn't exist", nodes->items[i]);
    for (size_t i = 0; i < zones->count; i++) {
        bool known = false;
        for (size_t k = 0; k < inventory->nodes.list.count; k++)
            known |= string_equal(RECORD(&inventory->nodes, node, k)->spec.zone, zones->items[i]);
        if (!known)
            return error_set(ret_error, ENOENT,
                             "no node is in zone %s; see: gluster-block node modify --zone", zones->items[i]);
    }
    return 0;
}

/* ---- Devices in the order that the request gives ---- */

struct ordered {
    const struct inventory *inventory;
    const struct planner_request *request;
    struct volume *volume;
};

/* Bricks of one set that would go down together. */
static int check_apart(const struct ordered *ordered, const struct planner_device *device,
                       struct error **ret_error)
{
    const struct brick_spec *bricks = ordered->volume->spec.bricks.items;
    size_t each = layout_set_bricks(&ordered->volume->spec), count = ordered->volume->spec.bricks.count;
    for (size_t i = 0; i < count; i++) {
        bool same_node = string_equal(bricks[i].node, device->node);
        if (same_node && string_equal(bricks[i].device, device->device))
            return error_set(ret_error, EINVAL, "device %s/%s is named twice", device->node, device->device);
        if (i / each != count / each || ordered->request->allow_same_node)
            continue;
        if (same_node)
            return error_set(ret_error, EINVAL,
                             "two bricks would be on node %s and die with it; allow_same_node allows that",
                             device->node);
        const struct planner_device *other = device_of(ordered->inventory, bricks[i].node, bricks[i].device);
        if (!ordered->request->allow_same_zone && other && device->zone &&
            string_equal(other->zone, device->zone))
            return error_set(ret_error, EINVAL,
                             "two bricks would be in zone %s and die with it; allow_same_zone allows that",
                             device->zone);
    }
    return 0;
}

static int place_ordered(const struct ordered *ordered, const char *name, struct error **ret_error)
{
    autofree char *node = object_name_part(name, 0), *part = object_name_part(name, 1);
    const struct planner_device *device = device_of(ordered->inventory, node, part);
    if (device->unusable)
        return error_set(ret_error, EBUSY, "device %s cannot be used: %s", name, device->unusable);
    int r = check_apart(ordered, device, ret_error);
    if (r < 0)
        return r;
    if (device->promised) {
        char text[SIZE_TEXT_SIZE];
        size_format(device->promised, text);
        return error_set(ret_error, ENOSPC,
                         "device %s: %s of it are promised to other volumes: give the volume a size", name,
                         text);
    }
    add_brick(ordered->volume, node, part, 0);
    return 0;
}

/* Without a size the devices that a request names are the bricks in their order; with
 * one they are a choice. */
static bool gives_order(const struct planner_request *request)
{
    return request->devices->count && !request->size && !request->brick_size;
}

static int check_order(const struct planner_request *request, const struct volume_spec *spec,
                       struct error **ret_error)
{
    uint64_t sets = request->sets ? request->sets : 1;
    size_t wanted = layout_set_bricks(spec) * sets;
    autofree char *layout = layout_text(spec);
    if (!gives_order(request) || request->devices->count == wanted)
        return 0;
    return error_set(ret_error, EINVAL, "template %s takes %zu device%s%s, and %zu are named", layout, wanted,
                     wanted == 1 ? "" : "s", sets > 1 ? " for its sets" : "", request->devices->count);
}

/* ---- Plans ---- */

static int plan_ordered(const struct inventory *inventory, const struct planner_request *request,
                        struct volume *volume, struct volume_plan *ret_plan, struct error **ret_error)
{
    size_t each = layout_set_bricks(&volume->spec), first = volume->spec.bricks.count;
    const struct ordered ordered = {inventory, request, volume};
    int r = 0;
    for (size_t i = 0; i < request->devices->count && r == 0; i++)
        r = place_ordered(&ordered, request->devices->items[i], ret_error);
    if (r < 0)
        return r;
    *ret_plan = (struct volume_plan){.volume = xstrdup(request->volume),
                                     .layout = layout_text(&volume->spec),
                                     .sets = (volume->spec.bricks.count - first) / each};
    const struct brick_spec *bricks = volume->spec.bricks.items;
    for (size_t i = first; i < volume->spec.bricks.count; i++) {
        const struct planner_device *device = device_of(inventory, bricks[i].node, bricks[i].device);
        *(struct plan_brick *)object_list_add(&ret_plan->bricks, sizeof(struct plan_brick)) =
            (struct plan_brick){
                .set = i / each,
                .node = xstrdup(device->node),
                .device = xstrdup(device->device),
                .zone = xstrdup(device->zone),
                .room = planner_room(device),
                .witness = layout_is_witness(&volume->spec, i),
            };
        string_list_addf(&ret_plan->text, "set %zu: %s/%s, all of it, as asked for", i / each, device->node,
                         device->device);
    }
    return 0;
}

static int plan(const struct inventory *inventory, const struct planner_request *request,
                struct volume *volume, struct volume_plan *ret_plan, struct error **ret_error)
{
    if (gives_order(request))
        return plan_ordered(inventory, request, volume, ret_plan, ret_error);
    int r = planner_run(request, inventory->devices, inventory->count, ret_plan, ret_error);
    if (r < 0)
        return r;
    const struct plan_brick *bricks = ret_plan->bricks.items;
    for (size_t i = 0; i < ret_plan->bricks.count; i++)
        add_brick(volume, bricks[i].node, bricks[i].device, bricks[i].size);
    return 0;
}

int placement_plan(struct core *core, const struct planner_request *request, struct volume *volume,
                   struct volume_plan *ret_plan, struct error **ret_error)
{
    struct inventory inventory cleanup(inventory_clear) = {.nodes = {.kind = KIND_NODE}};
    autostring_list struct string_list devices = {0};
    int r = check_order(request, &volume->spec, ret_error);
    if (r == 0)
        r = take_inventory(core, &inventory, ret_error);
    if (r == 0)
        r = check_nodes(&inventory, request->nodes, request->zones, ret_error);
    for (size_t i = 0; r == 0 && i < request->devices->count; i++) {
        autofree char *name = NULL;
        r = device_word(core, &inventory, request->devices->items[i], &name, ret_error);
        if (r == 0)
            string_list_add(&devices, name);
    }
    if (r < 0)
        return r;
    struct planner_request whole = *request;
    whole.volume = volume->meta.name;
    whole.spec = &volume->spec;
    whole.devices = &devices;
    return plan(&inventory, &whole, volume, ret_plan, ret_error);
}

/* ---- A new place for one brick ---- */

/* Not closer together than they are: bricks that share a node or a zone do so with consent. */
static const char *too_close(const struct inventory *inventory, const struct volume *volume, size_t index,
                             const struct planner_device *device)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    const struct planner_device *old = device_of(inventory, bricks[index].node, bricks[index].device);
    size_t each = layout_set_bricks(&volume->spec);
    for (size_t i = index / each * each; i < (index / each + 1) * each; i++) {
        const struct planner_device *other = device_of(inventory, bricks[i].node, bricks[i].device);
        if (i == index || !other)
            continue;
        if (strcmp(other->node, device->node) == 0 && strcmp(bricks[index].node, device->node) != 0)
            return "its node has a brick of this set already";
        if (other->zone && string_equal(other->zone, device->zone) &&
            !(old && string_equal(old->zone, device->zone)))
            return "its zone has a brick of this set already";
    }
    return NULL;
}

/* A brick that looks for a new place. */
struct moving {
    const struct volume *volume;
    size_t index;
    uint64_t used;      /* bytes that it will hold */
    const char *wanted; /* "NODE/DEVICE", NULL: any */
};

static char *no_room(const struct moving *moving, const struct planner_device *device)
{
    const struct brick_spec *brick =
        (const struct brick_spec *)moving->volume->spec.bricks.items + moving->index;
    char have[SIZE_TEXT_SIZE], needs[SIZE_TEXT_SIZE];
    if (device->free < moving->used) {
        size_format(device->free, have);
        size_format(moving->used, needs);
        return xasprintf("it has %s free, and the brick holds %s", have, needs);
    }
    if (!brick->size || planner_room(device) >= brick->size)
        return NULL;
    size_format(planner_room(device), have);
    size_format(brick->size, needs);
    return xasprintf("it can promise %s more, and the brick needs %s", have, needs);
}

/* Why a device cannot take the brick over; NULL when it can. The caller's. */
static char *move_refusal(const struct inventory *inventory, const struct moving *moving,
                          const struct planner_device *device)
{
    autofree char *name = xasprintf("%s/%s", device->node, device->device);
    if (device->unusable)
        return xstrdup(device->unusable);
    if (volume_uses_device(moving->volume, name))
        return xstrdup("it has a brick of this volume already");
    const char *reason = too_close(inventory, moving->volume, moving->index, device);
    return reason ? xstrdup(reason) : no_room(moving, device);
}

/* -ENOSPC names every device, and why it does not fit. */
static int pick_device(const struct inventory *inventory, const struct moving *moving,
                       struct planner_device **ret_device, struct error **ret_error)
{
    const struct brick_spec *brick =
        (const struct brick_spec *)moving->volume->spec.bricks.items + moving->index;
    struct planner_device *best = NULL;
    autostrbuf struct strbuf reasons = {0};
    for (size_t i = 0; i < inventory->count; i++) {
        struct planner_device *device = &inventory->devices[i];
        autofree char *name = xasprintf("%s/%s", device->node, device->device);
        if (brick_is_on(brick, name) || (moving->wanted && strcmp(moving->wanted, name) != 0))
            continue;
        autofree char *reason = move_refusal(inventory, moving, device);
        if (reason)
            strbuf_addf(&reasons, "%s %s: %s", reasons.length ? ";" : "", name, reason);
        else if (!best || planner_room(device) > planner_room(best))
            best = device;
    }
    *ret_device = best;
    if (best)
        return 0;
    return error_set(ret_error, ENOSPC, "no device can take the brick of volume %s on %s/%s:%s",
                     moving->volume->meta.name, brick->node, brick->device,
                     reasons.length ? strbuf_string(&reasons) : " there is no other");
}

/* Of what the brick may hold, that part that is not free on its device. 0: nobody can tell now. */
static uint64_t held_by(const struct brick_spec *spec, const struct brick_status *brick)
{
    uint64_t size = spec->size && spec->size < brick->size ? spec->size : brick->size;
    return brick->free < size ? size - brick->free : 0;
}

uint64_t placement_held(struct core *core, const struct volume *volume, size_t index)
{
    struct volume live cleanup(cleanup_volume) = {0};
    schema_copy(&volume_schema, &live, volume);
    if (layout_is_witness(&volume->spec, index) || volume_live_status(core, &live, NULL) < 0)
        return 0;
    size_t each = layout_set_bricks(&volume->spec), first = index / each * each;
    const struct brick_spec *specs = live.spec.bricks.items;
    const struct brick_status *bricks = live.status.bricks.items;
    uint64_t held = 0; /* one that is new or behind holds less than its set has */
    for (size_t i = first; i < first + each && i < live.status.bricks.count; i++)
        if (!layout_is_witness(&volume->spec, i) && held_by(&specs[i], &bricks[i]) > held)
            held = held_by(&specs[i], &bricks[i]);
    return held;
}

int placement_move(struct core *core, const struct volume *volume, size_t index, const char *wanted,
                   char **ret_device, uint64_t *ret_used, struct error **ret_error)
{
    struct inventory inventory cleanup(inventory_clear) = {.nodes = {.kind = KIND_NODE}};
    const struct moving moving = {volume, index, placement_held(core, volume, index), wanted};
    struct planner_device *best = NULL;
    int r = take_inventory(core, &inventory, ret_error);
    if (r == 0)
        r = pick_device(&inventory, &moving, &best, ret_error);
    if (r < 0)
        return r;
    *ret_device = xasprintf("%s/%s", best->node, best->device);
    *ret_used = best->size - best->free;
    return 0;
}

int placement_check_moves(struct core *core, const struct record_list *volumes, const char *device,
                          const char *wanted, struct error **ret_error)
{
    struct inventory inventory cleanup(inventory_clear) = {.nodes = {.kind = KIND_NODE}};
    int r = take_inventory(core, &inventory, ret_error);
    for (size_t i = 0; r == 0 && i < volumes->list.count; i++) {
        const struct volume *volume = RECORD(volumes, volume, i);
        const struct brick_spec *bricks = volume->spec.bricks.items;
        for (size_t k = 0; r == 0 && k < volume->spec.bricks.count; k++) {
            /* A move that is under way has its place. */
            if (!brick_is_on(&bricks[k], device) || volume->meta.deleting || move_off_device(volume, device))
                continue;
            const struct moving moving = {volume, k, placement_held(core, volume, k), wanted};
            struct planner_device *to = NULL;
            r = pick_device(&inventory, &moving, &to, ret_error);
            if (r < 0)
                continue;
            to->promised += bricks[k].size;
            to->free -= moving.used;
        }
    }
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
