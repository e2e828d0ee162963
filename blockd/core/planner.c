/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/core/planner.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/volume_layout.h"

/* A brick refuses writes below 1 % of free space (storage/posix, `reserve`), and XFS has needs of its own. */
#define KEPT_BACK_PERCENT 2
#define BRICK_STEP        (UINT64_C(1) << 20)
/* Less than that makes no device the better one: journals and manifests come and go. */
#define ROOM_STEP (UINT64_C(16) << 20)
/* The witness keeps names and marks: 4 KiB for each file, where one has 64 KiB on average. */
#define WITNESS_SHARE 16
#define WITNESS_MIN   (UINT64_C(16) << 20)

uint64_t planner_room(const struct planner_device *device)
{
    uint64_t taken = device->size / 100 * KEPT_BACK_PERCENT + device->promised;
    uint64_t left = taken < device->size ? device->size - taken : 0;
    return left < device->free ? left : device->free;
}

uint64_t planner_witness_size(uint64_t brick_size)
{
    uint64_t size = brick_size / WITNESS_SHARE;
    return !brick_size ? 0 : size > WITNESS_MIN ? size : brick_size < WITNESS_MIN ? brick_size : WITNESS_MIN;
}

/* ---- One attempt with a given number of sets ---- */

struct attempt {
    const struct planner_request *request;
    const struct planner_device *devices;
    size_t count;
    uint64_t sets, brick_size;
    bool zones_count; /* bricks of one set need zones of their own */
    bool by_domains;  /* take from where most is left, so that the later sets find as many */
    size_t *picks;    /* devices' indexes, brick by brick */
    size_t picked;
};

static uint64_t brick_needs(const struct attempt *attempt, size_t index)
{
    return layout_is_witness(attempt->request->spec, index) ? planner_witness_size(attempt->brick_size)
                                                            : attempt->brick_size;
}

static bool same_zone(const struct planner_device *a, const struct planner_device *b)
{
    return a->zone || b->zone ? string_equal(a->zone, b->zone) : string_equal(a->node, b->node);
}

static bool is_picked(const struct attempt *attempt, size_t device)
{
    for (size_t i = 0; i < attempt->picked; i++)
        if (attempt->picks[i] == device)
            return true;
    return false;
}

static bool named(const struct string_list *list, const char *word)
{
    return !list || !list->count || (word && string_list_contains(list, word));
}

static char *device_name(const struct planner_device *device)
{
    return xasprintf("%s/%s", device->node, device->device);
}

/* The volume has a brick there already: its folder is the volume's name. */
static bool in_use(const struct planner_request *request, const struct planner_device *device)
{
    const struct brick_spec *bricks = request->spec->bricks.items;
    for (size_t i = 0; i < request->spec->bricks.count; i++)
        if (string_equal(bricks[i].node, device->node) && string_equal(bricks[i].device, device->device))
            return true;
    const struct brick_move *moves = request->spec->moves.items;
    for (size_t i = 0; i < request->spec->moves.count; i++)
        if (string_equal(moves[i].brick.node, device->node) &&
            string_equal(moves[i].brick.device, device->device))
            return true;
    return false;
}

/* Why the device can hold no brick of the request at all; NULL when it can. The caller's. */
static char *refused_always(const struct attempt *attempt, const struct planner_device *device)
{
    const struct planner_request *request = attempt->request;
    autofree char *name = device_name(device);
    if (device->unusable)
        return xstrdup(device->unusable);
    if (!named(request->devices, name))
        return xstrdup("not among the devices that were asked for");
    if (!named(request->nodes, device->node))
        return xstrdup("its node is not among those that were asked for");
    if (!named(request->zones, device->zone))
        return xstrdup("its zone is not among those that were asked for");
    if (in_use(request, device))
        return xstrdup("it has a brick of this volume already");
    if (device->whole && attempt->brick_size)
        return xasprintf("volume %s has all of it, because it was made without a size", device->whole);
    if (device->promised && !attempt->brick_size) {
        char text[SIZE_TEXT_SIZE];
        size_format(device->promised, text);
        return xasprintf("%s of it are promised to other volumes: give a size", text);
    }
    return NULL;
}

/* Why it cannot hold the next brick; NULL when it can. */
static char *refused_now(const struct attempt *attempt, size_t index)
{
    const struct planner_device *device = &attempt->devices[index];
    char *always = refused_always(attempt, device);
    if (always)
        return always;
    uint64_t needs = brick_needs(attempt, attempt->picked), room = planner_room(device);
    if (room < needs) {
        char have[SIZE_TEXT_SIZE], want[SIZE_TEXT_SIZE];
        size_format(room, have);
        size_format(needs, want);
        return xasprintf("it can promise %s more, and the brick needs %s", have, want);
    }
    if (is_picked(attempt, index))
        return xstrdup("it has a brick of this plan already");
    size_t each = layout_set_bricks(attempt->request->spec);
    for (size_t i = attempt->picked / each * each; i < attempt->picked; i++) {
        const struct planner_device *other = &attempt->devices[attempt->picks[i]];
        if (!attempt->request->allow_same_node && string_equal(other->node, device->node))
            return xasprintf("node %s has a brick of this set already; allow_same_node allows that",
                             device->node);
        if (attempt->zones_count && same_zone(other, device))
            return xasprintf("zone %s has a brick of this set already; allow_same_zone allows that",
                             device->zone);
    }
    return NULL;
}

/* How many devices that are left share the device's failure domain. */
static size_t domain_left(const struct attempt *attempt, const struct planner_device *device)
{
    size_t left = 0;
    for (size_t i = 0; i < attempt->count; i++) {
        const struct planner_device *other = &attempt->devices[i];
        bool shared =
            attempt->zones_count ? same_zone(other, device) : string_equal(other->node, device->node);
        autofree char *refused = refused_always(attempt, other);
        left += shared && !refused && !is_picked(attempt, i) && planner_room(other) >= attempt->brick_size;
    }
    return left;
}

/* What is compared, the first difference decides; less is better. */
struct rank {
    size_t zone_bricks, node_bricks; /* of the set */
    size_t domain_taken;             /* the opposite of what is left there; 0 when that does not count */
    uint64_t room_missing;
};

static struct rank rank_of(const struct attempt *attempt, size_t index)
{
    const struct planner_device *device = &attempt->devices[index];
    struct rank rank = {.room_missing = UINT64_MAX - planner_room(device) / ROOM_STEP};
    size_t each = layout_set_bricks(attempt->request->spec);
    for (size_t i = attempt->picked / each * each; i < attempt->picked; i++) {
        const struct planner_device *other = &attempt->devices[attempt->picks[i]];
        rank.zone_bricks += same_zone(other, device);
        rank.node_bricks += string_equal(other->node, device->node);
    }
    if (attempt->by_domains)
        rank.domain_taken = attempt->count - domain_left(attempt, device);
    return rank;
}

static int by_rank(const struct rank *a, const struct rank *b)
{
    if (a->zone_bricks != b->zone_bricks)
        return a->zone_bricks < b->zone_bricks ? -1 : 1;
    if (a->node_bricks != b->node_bricks)
        return a->node_bricks < b->node_bricks ? -1 : 1;
    if (a->domain_taken != b->domain_taken)
        return a->domain_taken < b->domain_taken ? -1 : 1;
    return a->room_missing < b->room_missing ? -1 : a->room_missing > b->room_missing;
}

/* Picks for all bricks; false at the first that finds no device, which is brick number `picked` then. */
static bool pick_all(struct attempt *attempt)
{
    size_t wanted = attempt->sets * layout_set_bricks(attempt->request->spec);
    free(attempt->picks);
    attempt->picks = xcalloc(wanted, sizeof *attempt->picks);
    attempt->picked = 0;
    while (attempt->picked < wanted) {
        size_t best = attempt->count;
        struct rank best_rank = {0};
        for (size_t i = 0; i < attempt->count; i++) {
            autofree char *refused = refused_now(attempt, i);
            struct rank rank = refused ? (struct rank){0} : rank_of(attempt, i);
            if (refused || (best < attempt->count && by_rank(&rank, &best_rank) >= 0))
                continue;
            best = i;
            best_rank = rank;
        }
        if (best == attempt->count)
            return false;
        attempt->picks[attempt->picked++] = best;
    }
    return true;
}

static bool try_sets(struct attempt *attempt, uint64_t sets)
{
    const struct planner_request *request = attempt->request;
    attempt->sets = sets;
    attempt->brick_size = request->brick_size;
    if (!attempt->brick_size && request->size) {
        uint64_t parts = sets * layout_set_data(request->spec);
        uint64_t least = request->size / parts + (request->size % parts != 0);
        attempt->brick_size = (least + BRICK_STEP - 1) / BRICK_STEP * BRICK_STEP;
    }
    attempt->by_domains = false;
    if (pick_all(attempt))
        return true;
    attempt->by_domains = true;
    return pick_all(attempt);
}

/* ---- What came of it ---- */

static void add_refusal(struct volume_plan *plan, const struct planner_device *device, char *reason)
{
    struct plan_refusal *refusal = object_list_add(&plan->refused, sizeof *refusal);
    refusal->device = device_name(device);
    refusal->reason = reason;
}

static void fill_bricks(const struct attempt *attempt, struct volume_plan *plan)
{
    const struct volume_spec *spec = attempt->request->spec;
    size_t each = layout_set_bricks(spec), present = spec->bricks.count / each;
    for (size_t i = 0; i < attempt->picked; i++) {
        const struct planner_device *device = &attempt->devices[attempt->picks[i]];
        *(struct plan_brick *)object_list_add(&plan->bricks, sizeof(struct plan_brick)) = (struct plan_brick){
            .set = present + i / each,
            .node = xstrdup(device->node),
            .device = xstrdup(device->device),
            .zone = xstrdup(device->zone),
            .size = brick_needs(attempt, i),
            .room = planner_room(device),
            .witness = layout_is_witness(spec, i),
        };
    }
    for (size_t i = 0; i < attempt->count; i++) {
        if (is_picked(attempt, i))
            continue;
        char *reason = refused_always(attempt, &attempt->devices[i]);
        char room[SIZE_TEXT_SIZE];
        size_format(planner_room(&attempt->devices[i]), room);
        if (!reason && planner_room(&attempt->devices[i]) < attempt->brick_size)
            reason = xasprintf("it can promise %s more, and a brick needs more", room);
        if (!reason)
            reason = xasprintf("not needed: it can promise %s more", room);
        add_refusal(plan, &attempt->devices[i], reason);
    }
}

static void describe(const struct attempt *attempt, struct volume_plan *plan)
{
    char size[SIZE_TEXT_SIZE], largest[SIZE_TEXT_SIZE], room[SIZE_TEXT_SIZE];
    size_format(plan->size, size);
    size_format(plan->largest, largest);
    size_t each = layout_set_bricks(attempt->request->spec);
    string_list_addf(&plan->text, "volume %s: %llu set%s of %zu brick%s (%s)", plan->volume,
                     (unsigned long long)plan->sets, plan->sets == 1 ? "" : "s", each, each == 1 ? "" : "s",
                     plan->layout);
    if (plan->size)
        string_list_addf(&plan->text, "holds %s; one file holds at most %s", size, largest);
    else
        string_list_add(&plan->text, "holds what the devices have");
    const struct plan_brick *bricks = plan->bricks.items;
    for (size_t i = 0; i < plan->bricks.count; i++) {
        const struct plan_brick *brick = &bricks[i];
        size_format(brick->size, size);
        size_format(brick->room, room);
        string_list_addf(&plan->text, "set %llu: %s/%s%s%s, %s of %s%s", (unsigned long long)brick->set,
                         brick->node, brick->device, brick->zone ? " in zone " : "",
                         brick->zone ? brick->zone : "", brick->size ? size : "all", room,
                         brick->witness ? ", the witness" : "");
    }
    const struct plan_refusal *refused = plan->refused.items;
    for (size_t i = 0; i < plan->refused.count; i++)
        string_list_addf(&plan->text, "not taken: %s: %s", refused[i].device, refused[i].reason);
}

static void make_plan(const struct attempt *attempt, struct volume_plan *ret_plan)
{
    const struct planner_request *request = attempt->request;
    uint64_t set_size = attempt->brick_size * layout_set_data(request->spec);
    struct volume_plan plan = {
        .volume = xstrdup(request->volume),
        .layout = layout_text(request->spec),
        .sets = attempt->sets,
        .size = set_size * attempt->sets,
        .largest = set_size,
    };
    fill_bricks(attempt, &plan);
    describe(attempt, &plan);
    *ret_plan = plan;
}

/* Names the brick that found no place, and of every device the reason. */
static int no_space(const struct attempt *attempt, bool more_sets, struct error **ret_error)
{
    const struct planner_request *request = attempt->request;
    autostrbuf struct strbuf reasons = {0};
    for (size_t i = 0; i < attempt->count; i++) {
        autofree char *name = device_name(&attempt->devices[i]), *reason = refused_now(attempt, i);
        strbuf_addf(&reasons, "%s %s: %s", i ? ";" : "", name, reason);
    }
    size_t each = layout_set_bricks(request->spec);
    autofree char *layout = layout_text(request->spec);
    return error_set(
        ret_error, ENOSPC, "no device for brick %zu of volume %s (%s: brick %zu of %zu in set %zu)%s;%s",
        request->spec->bricks.count + attempt->picked + 1, request->volume, layout,
        attempt->picked % each + 1, each, attempt->picked / each + request->spec->bricks.count / each,
        more_sets ? ", and none in more and smaller sets" : "",
        attempt->count ? strbuf_string(&reasons) : " no device was added yet");
}

/* Zones count as soon as one device that may be taken has one. */
static bool zones_are_named(const struct planner_device *devices, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (devices[i].zone)
            return true;
    return false;
}

int planner_run(const struct planner_request *request, const struct planner_device *devices, size_t count,
                struct volume_plan *ret_plan, struct error **ret_error)
{
    int r = layout_check(request->spec, ret_error);
    if (r < 0)
        return r;
    size_t each = layout_set_bricks(request->spec);
    uint64_t most = (VOLUME_BRICKS_MAX - request->spec->bricks.count) / each;
    if (request->sets > most || most == 0)
        return error_set(ret_error, EINVAL, "volume %s would have more than %d bricks", request->volume,
                         VOLUME_BRICKS_MAX);
    struct attempt attempt = {
        .request = request,
        .devices = devices,
        .count = count,
        .zones_count =
            !request->allow_same_zone && !request->allow_same_node && zones_are_named(devices, count),
    };
    uint64_t first = request->sets ? request->sets : 1;
    bool may_split = !request->sets && request->size && !request->brick_size;
    bool done = try_sets(&attempt, first);
    for (uint64_t sets = first + 1; !done && may_split && sets <= most && sets * each <= count; sets++)
        done = try_sets(&attempt, sets);
    if (done) {
        make_plan(&attempt, ret_plan);
    } else {
        bool tried = may_split && attempt.sets > first;
        try_sets(&attempt, first); /* its reasons are the ones to tell */
        r = no_space(&attempt, tried, ret_error);
    }
    free(attempt.picks);
    return r;
}
