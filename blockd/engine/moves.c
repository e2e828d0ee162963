/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Which bricks of a volume each kind of process knows, while some of them are on their way to other devices.
 */
#include "blockd/engine/engine_priv.h"

#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/volume_layout.h"

static const struct brick_move *volume_move(const struct volume *volume, size_t index)
{
    return (const struct brick_move *)volume->spec.moves.items + index;
}

static bool knows(enum volume_audience audience, const struct brick_move *move)
{
    switch (audience) {
    case AUDIENCE_NODE:
        return true;
    case AUDIENCE_CLIENTS:
        return move->step == MOVE_JOIN || move->step == MOVE_HEAL;
    case AUDIENCE_HEAL:
        return move->step == MOVE_HEAL;
    }
    return false;
}

static void append(struct volume *view, const struct brick_spec *brick)
{
    schema_copy(&brick_spec_schema, object_list_add(&view->spec.bricks, sizeof *brick), brick);
}

void volume_view(const struct volume *volume, enum volume_audience audience, struct volume *ret_view)
{
    schema_copy(&volume_schema, ret_view, volume);
    for (size_t i = 0; i < volume->spec.moves.count; i++)
        if (knows(audience, volume_move(volume, i)))
            append(ret_view, &volume_move(volume, i)->brick);
}

/* `volume` is as it is, or the view of a node. */
bool volume_is_witness(const struct volume *volume, size_t index)
{
    size_t placed = layout_placed(&volume->spec);
    if (index < placed)
        return layout_is_witness(&volume->spec, index);
    for (size_t i = 0; i < volume->spec.moves.count; i++)
        if (volume_move(volume, i)->brick.serial == volume_brick(volume, index)->serial)
            for (size_t k = 0; k < placed; k++)
                if (brick_number(volume->spec.bricks.items, k) == volume_move(volume, i)->replaces)
                    return layout_is_witness(&volume->spec, k);
    return false;
}

/* Marks are for the replicas of one set: leaves the others out, and the bricks their numbers. */
static void keep_set(struct volume *view, size_t set)
{
    struct brick_spec *bricks = view->spec.bricks.items;
    bool *keeps = xcalloc(view->spec.bricks.count, sizeof *keeps);
    size_t count = view->spec.bricks.count, kept = 0;
    for (size_t i = 0; i < count; i++) {
        keeps[i] = layout_set_of(&view->spec, i) == set;
        bricks[i].serial = brick_number(bricks, i) + 1;
    }
    for (size_t i = 0; i < count; i++) {
        if (keeps[i])
            bricks[kept++] = bricks[i];
        else
            schema_clear(&brick_spec_schema, &bricks[i]);
    }
    view->spec.bricks.count = kept;
    free(keeps);
}

/* Clients of one call: the marks are made as if the move had come to its next step already. */
void volume_view_marking(const struct volume *volume, const struct brick_move *move, struct volume *ret_view)
{
    size_t place = 0;
    volume_view(volume, AUDIENCE_CLIENTS, ret_view);
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (brick_number(volume->spec.bricks.items, i) == move->replaces)
            place = i;
    if (!move->in_place) {
        append(ret_view, &move->brick);
    } else {
        struct brick_spec *old = (struct brick_spec *)ret_view->spec.bricks.items + place;
        schema_clear(&brick_spec_schema, old);
        schema_copy(&brick_spec_schema, old, &move->brick);
    }
    keep_set(ret_view, place / layout_set_bricks(&volume->spec));
}

/* Clients that still have the old set of bricks write without a mark for a new one: it must not be healed
 * yet. */
bool volume_may_heal(const struct volume *volume)
{
    for (size_t i = 0; i < volume->spec.moves.count; i++)
        if (volume_move(volume, i)->step == MOVE_SWAP_JOIN)
            return false;
    return true;
}
