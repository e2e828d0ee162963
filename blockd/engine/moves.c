/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Which bricks of a volume each kind of process knows, while some of them are on their way to other devices.
 * The children of a volume are its bricks in their order, and then those of the moves that count.
 */
#include "blockd/engine/engine_priv.h"

#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/volume_layout.h"

static struct brick_move *move_at(const struct volume *volume, size_t index)
{
    return (struct brick_move *)volume->spec.moves.items + index;
}

/* ---- Children ---- */

size_t volume_children(const struct volume *volume)
{
    return volume->spec.bricks.count + volume->spec.moves.count;
}

const struct brick_spec *volume_child(const struct volume *volume, size_t index)
{
    size_t bricks = volume->spec.bricks.count;
    return index < bricks ? volume_brick(volume, index) : &move_at(volume, index - bricks)->brick;
}

uint64_t volume_child_number(const struct volume *volume, size_t index)
{
    size_t bricks = volume->spec.bricks.count;
    return index < bricks ? brick_number(volume->spec.bricks.items, index)
                          : move_at(volume, index - bricks)->brick.serial - 1;
}

/* The brick of the volume whose place a child has, or is about. */
static size_t place_of(const struct volume *volume, size_t index)
{
    size_t bricks = volume->spec.bricks.count;
    if (index < bricks)
        return index;
    for (size_t i = 0; i < bricks; i++)
        if (brick_number(volume->spec.bricks.items, i) == move_at(volume, index - bricks)->replaces)
            return i;
    return 0;
}

size_t volume_child_set(const struct volume *volume, size_t index)
{
    return place_of(volume, index) / layout_set_bricks(&volume->spec);
}

bool volume_child_leaves(const struct volume *volume, size_t index)
{
    return volume_child_set(volume, index) == layout_leaving(&volume->spec);
}

bool volume_child_is_witness(const struct volume *volume, size_t index)
{
    return layout_is_witness(&volume->spec, place_of(volume, index));
}

bool volume_set_is_replicated(const struct volume *volume, size_t set)
{
    if (volume->spec.template_name != TEMPLATE_SINGLE)
        return volume->spec.template_name != TEMPLATE_DISPERSE;
    for (size_t i = volume->spec.bricks.count; i < volume_children(volume); i++)
        if (volume_child_set(volume, i) == set)
            return true;
    return false;
}

/* ---- Views ---- */

static bool knows(enum volume_audience audience, const struct brick_move *move)
{
    switch (audience) {
    case AUDIENCE_CLIENTS:
        return move->step == MOVE_JOIN || move->step == MOVE_HEAL;
    case AUDIENCE_HEAL:
        return move->step == MOVE_HEAL;
    }
    return false;
}

static void remove_move(struct volume *view, size_t index)
{
    schema_clear(&brick_move_schema, move_at(view, index));
    memmove(move_at(view, index), move_at(view, index + 1),
            (--view->spec.moves.count - index) * sizeof(struct brick_move));
}

void volume_forget_leaving(struct volume *volume)
{
    struct object_list *bricks = &volume->spec.bricks;
    size_t set = layout_leaving(&volume->spec), each = layout_set_bricks(&volume->spec);
    if (set == SIZE_MAX || volume->spec.leaving_step < LEAVE_FORGET)
        return;
    struct brick_spec *first = (struct brick_spec *)bricks->items + set * each;
    for (size_t i = 0; i < each; i++)
        schema_clear(&brick_spec_schema, first + i);
    bricks->count -= each;
    memmove(first, first + each, (bricks->count - set * each) * sizeof *first);
}

void volume_view(const struct volume *volume, enum volume_audience audience, struct volume *ret_view)
{
    schema_copy(&volume_schema, ret_view, volume);
    if (audience == AUDIENCE_CLIENTS)
        volume_forget_leaving(ret_view);
    for (size_t i = ret_view->spec.moves.count; i-- > 0;)
        if (!knows(audience, move_at(ret_view, i)))
            remove_move(ret_view, i);
}

/* The marks are made as if the move had come to its next step already. */
void volume_view_marking(const struct volume *volume, const struct brick_move *move, struct volume *ret_view)
{
    schema_copy(&volume_schema, ret_view, volume);
    for (size_t i = ret_view->spec.moves.count; i-- > 0;) {
        struct brick_move *copy = move_at(ret_view, i);
        if (copy->brick.serial == move->brick.serial && move->in_place) {
            struct brick_spec *old = (struct brick_spec *)ret_view->spec.bricks.items +
                                     place_of(ret_view, ret_view->spec.bricks.count + i);
            struct brick_spec lost = *old;
            *old = copy->brick;
            copy->brick = lost;
            remove_move(ret_view, i);
        } else if (copy->brick.serial != move->brick.serial && !knows(AUDIENCE_CLIENTS, copy)) {
            remove_move(ret_view, i);
        }
    }
}

/*
 * Is there something to heal a brick from, and may it be done? While clients that still have the old set of
 * bricks write without a mark for a new one, that must not be healed.
 */
bool volume_heals(const struct volume *volume)
{
    for (size_t i = 0; i < volume->spec.moves.count; i++)
        if (move_at(volume, i)->step == MOVE_SWAP_JOIN)
            return false;
    return layout_heals(&volume->spec) || volume->spec.moves.count;
}
