/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What a volume can do, from what its local bricks look like, and what other nodes say of theirs. */
#include "blockd/engine/heal_priv.h"

#include "rpc/base/alloc.h"
#include "rpc/volume_layout.h"

/* ---- Phases ---- */

struct tally {
    size_t all, down, failed, behind;
};

static void count_brick(struct tally *tally, const struct brick_status *brick)
{
    tally->down += !string_equal(brick->state, "online");
    tally->failed += string_equal(brick->state, "failed");
    tally->behind += brick->heal_pending > 0;
}

/* One brick that is behind counts as whole only after its heal. */
static const char *set_phase(const struct volume *volume, const struct tally *tally)
{
    size_t up = tally->all > tally->down ? tally->all - tally->down : 0;
    if (volume->spec.state == VOLUME_STOPPED && !up)
        return "stopped";
    if (up < layout_set_quorum(&volume->spec))
        return tally->failed ? "failed" : "offline";
    return tally->down || tally->behind ? "degraded" : "online";
}

/* In which set a brick is. */
static size_t set_of(const struct volume *volume, const struct brick_status *brick)
{
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (string_equal(volume_brick(volume, i)->node, brick->node) &&
            string_equal(volume_brick(volume, i)->device, brick->device))
            return i / layout_set_bricks(&volume->spec);
    return 0;
}

/* The worst of the sets' phases: a file may lie in any of them. */
static const char *worse(const char *a, const char *b)
{
    static const char *const order[] = {"stopped", "online", "degraded", "offline", "failed", NULL};
    bool mixed = string_equal(a, "stopped") != string_equal(b, "stopped");
    if (mixed && (string_equal(a, "online") || string_equal(b, "online")))
        return "degraded";
    return enum_parse(order, a) > enum_parse(order, b) ? a : b;
}

const char *volume_phase(const struct volume *volume, const struct brick_status *bricks, size_t count)
{
    size_t sets = layout_sets(&volume->spec);
    const char *phase = NULL;
    for (size_t set = 0; set < sets; set++) {
        if (set == layout_leaving(&volume->spec) && volume->spec.leaving_step >= LEAVE_FORGET)
            continue; /* it has no files */
        struct tally tally = {.all = layout_set_bricks(&volume->spec)};
        for (size_t i = 0; i < count; i++)
            if (sets == 1 || set_of(volume, &bricks[i]) == set)
                count_brick(&tally, &bricks[i]);
        const char *one = set_phase(volume, &tally);
        phase = phase ? worse(phase, one) : one;
    }
    return phase ? phase : "failed";
}

/* ---- Space ---- */

/* What the brick may hold: its promise, or all of its device. A witness has no room for data. */
static void add_space(struct set_status *set, const struct brick_spec *spec, const struct brick_status *brick,
                      bool *known)
{
    if (brick->size == 0)
        return;
    uint64_t size = spec->size && spec->size < brick->size ? spec->size : brick->size;
    uint64_t space = brick->free < size ? brick->free : size;
    if (!*known || size < set->size)
        set->size = size;
    if (!*known || space < set->free)
        set->free = space;
    *known = true;
}

/* A set none of whose bricks answers: what was promised of its devices. */
static uint64_t promised_size(const struct volume *volume, size_t number)
{
    size_t each = layout_set_bricks(&volume->spec);
    uint64_t size = 0;
    for (size_t i = number * each; i < (number + 1) * each; i++)
        if (!layout_is_witness(&volume->spec, i) && (!size || volume_brick(volume, i)->size < size))
            size = volume_brick(volume, i)->size;
    return size;
}

/* What its own node said of a brick last. */
static void brick_from(const struct brick_spec *spec, const struct object_list *others,
                       struct brick_status *ret_brick)
{
    const struct brick_status *all = others->items;
    for (size_t i = 0; i < others->count; i++)
        if (string_equal(all[i].node, spec->node) && string_equal(all[i].device, spec->device)) {
            schema_copy(&brick_status_schema, ret_brick, &all[i]);
            return;
        }
    *ret_brick = (struct brick_status){.node = xstrdup(spec->node),
                                       .device = xstrdup(spec->device),
                                       .port = spec->port,
                                       .state = xstrdup("unknown")};
}

static void look_at_set(struct engine *engine, const struct volume *volume, size_t number,
                        const struct heal_view *heal, const struct object_list *others,
                        struct volume_status *status, struct strbuf *errors)
{
    size_t each = layout_set_bricks(&volume->spec);
    struct set_status set = {.number = number, .bricks = each, .quorum = layout_set_quorum(&volume->spec)};
    set.leaving = number == layout_leaving(&volume->spec);
    struct tally tally = {.all = each};
    bool known = false;
    for (size_t i = number * each; i < (number + 1) * each; i++) {
        const struct brick_spec *spec = volume_brick(volume, i);
        struct brick_status *brick = object_list_add(&status->bricks, sizeof *brick);
        bool local = brick_is_local(engine, spec);
        if (local)
            brick_look(engine, volume, spec, brick);
        else
            brick_from(spec, others, brick);
        /* Fragments stand in the index while they are written, too. */
        if (local && (volume->spec.template_name != TEMPLATE_DISPERSE || heal->counts.pending))
            brick->heal_pending = heal->pending[i].files.count;
        if (brick->heal_pending > status->heal_pending)
            status->heal_pending = brick->heal_pending;
        count_brick(&tally, brick);
        if (!layout_is_witness(&volume->spec, i))
            add_space(&set, spec, brick, &known);
        if (brick->heal_pending > set.heal_pending)
            set.heal_pending = brick->heal_pending;
        if (brick->error)
            strbuf_addf(errors, "%sbrick on %s: %s", errors->length ? "; " : "", brick->device, brick->error);
    }
    if (!known)
        set.size = promised_size(volume, number);
    set.online = tally.all - tally.down;
    set.phase = xstrdup(set_phase(volume, &tally));
    if (set.online < set.quorum) /* nobody can write there now */
        set.free = 0;
    set.size *= layout_set_data(&volume->spec);
    set.free *= layout_set_data(&volume->spec);
    *(struct set_status *)object_list_add(&status->sets, sizeof set) = set;
}

int engine_volume_status(struct engine *engine, const struct volume *volume, const struct object_list *others,
                         struct volume_status *ret_status, struct error **ret_error)
{
    int r = volfile_volume_check(volume, ret_error);
    if (r < 0)
        return r;
    struct volume_status status = {.observed_generation = volume->meta.generation};
    autostrbuf struct strbuf errors = {0};
    struct volume seen cleanup(cleanup_volume) = {0};
    heal_volume(volume, &seen);
    scoped_claim(engine, "heal", volume->meta.name);
    const struct heal_view *heal = heal_view_refresh(engine, &seen, false);
    status.heal_pending = heal->counts.pending;
    status.heal_dirty = heal->counts.dirty;
    status.split_brain = heal->counts.split_brain;
    for (size_t i = 0; i < layout_sets(&volume->spec); i++)
        look_at_set(engine, volume, i, heal, others, &status, &errors);
    for (size_t i = 0; i < status.sets.count; i++) {
        const struct set_status *set = (const struct set_status *)status.sets.items + i;
        if (set->leaving) /* it takes nothing any more */
            continue;
        status.size += set->size;
        status.free += set->free;
        if (set->size > status.largest)
            status.largest = set->size;
    }
    status.phase = xstrdup(volume_phase(volume, status.bricks.items, status.bricks.count));
    if (errors.length)
        status.error = strbuf_steal(&errors);
    *ret_status = status;
    return 0;
}
