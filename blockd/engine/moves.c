/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Which bricks of a volume each kind of process knows, while some of them are on their way to other devices.
 */
#include "blockd/engine/engine_priv.h"

#include <string.h>

#include "rpc/base/alloc.h"

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

#define WITNESS 2 /* its place, which replicate knows it by */

/* `volume` is as it is, or the view of a node. */
bool volume_is_witness(const struct volume *volume, size_t index)
{
    if (volume->spec.template_name != TEMPLATE_ARBITER || index <= WITNESS)
        return volume->spec.template_name == TEMPLATE_ARBITER && index == WITNESS;
    size_t first_move = volume->spec.bricks.count - volume->spec.moves.count;
    return index >= first_move && index - first_move < volume->spec.moves.count &&
           volume_move(volume, index - first_move)->replaces ==
               brick_number(volume->spec.bricks.items, WITNESS);
}

/* Clients of one call: the marks are made as if the move had come to its next step already. */
void volume_view_marking(const struct volume *volume, const struct brick_move *move, struct volume *ret_view)
{
    volume_view(volume, AUDIENCE_CLIENTS, ret_view);
    if (!move->in_place) {
        append(ret_view, &move->brick);
        return;
    }
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        if (brick_number(volume->spec.bricks.items, i) != move->replaces)
            continue;
        struct brick_spec *old = (struct brick_spec *)ret_view->spec.bricks.items + i;
        schema_clear(&brick_spec_schema, old);
        schema_copy(&brick_spec_schema, old, &move->brick);
    }
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
