/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/volume_layout.h"

#include <errno.h>

#include "rpc/base/alloc.h"

size_t layout_set_bricks(const struct volume_spec *spec)
{
    switch (spec->template_name) {
    case TEMPLATE_SINGLE:
        return 1;
    case TEMPLATE_DISPERSE:
        return layout_check(spec, NULL) == 0 ? (size_t)(spec->data + spec->redundancy) : 0;
    default:
        return 3;
    }
}

/* The move of a brick in the list; NULL when it is in its place. */
static const struct brick_move *move_of(const struct volume_spec *spec, size_t index)
{
    const struct brick_spec *brick = (const struct brick_spec *)spec->bricks.items + index;
    const struct brick_move *moves = spec->moves.items;
    for (size_t i = 0; i < spec->moves.count; i++)
        if (brick->serial && moves[i].brick.serial == brick->serial)
            return &moves[i];
    return NULL;
}

/* A view may also have a new brick in the old one's place: then the sets are whole with it. */
size_t layout_placed(const struct volume_spec *spec)
{
    size_t each = layout_set_bricks(spec), placed = spec->bricks.count;
    while (placed && (each == 1 || (each && placed % each)) && move_of(spec, placed - 1))
        placed--;
    return placed;
}

size_t layout_sets(const struct volume_spec *spec)
{
    size_t each = layout_set_bricks(spec), placed = layout_placed(spec);
    return each && placed % each == 0 ? placed / each : 0;
}

size_t layout_set_of(const struct volume_spec *spec, size_t index)
{
    size_t each = layout_set_bricks(spec), placed = layout_placed(spec);
    const struct brick_move *move = index < placed ? NULL : move_of(spec, index);
    for (size_t i = 0; move && i < placed; i++)
        if (brick_number(spec->bricks.items, i) == move->replaces)
            index = i;
    return index / each;
}

size_t layout_set_data(const struct volume_spec *spec)
{
    return spec->template_name == TEMPLATE_DISPERSE ? (size_t)spec->data : 1;
}

size_t layout_set_quorum(const struct volume_spec *spec)
{
    return spec->template_name == TEMPLATE_DISPERSE ? (size_t)spec->data : layout_set_bricks(spec) / 2 + 1;
}

bool layout_is_witness(const struct volume_spec *spec, size_t index)
{
    return spec->template_name == TEMPLATE_ARBITER && index % 3 == 2;
}

bool layout_heals(const struct volume_spec *spec)
{
    return spec->template_name != TEMPLATE_SINGLE;
}

int layout_check(const struct volume_spec *spec, struct error **ret_error)
{
    unsigned long long data = spec->data, redundancy = spec->redundancy;
    if (spec->template_name != TEMPLATE_DISPERSE)
        return data || redundancy
                   ? error_set(ret_error, EINVAL, "data and redundancy are for template disperse, not %s",
                               volume_template_words[spec->template_name])
                   : 0;
    if (redundancy < 1 || redundancy >= data || data > DISPERSE_DATA_MAX)
        return error_set(ret_error, EINVAL,
                         "disperse %llu+%llu cannot be: data is 2 to %d, and redundancy from 1 to less than "
                         "data",
                         data, redundancy, DISPERSE_DATA_MAX);
    return 0;
}

char *layout_text(const struct volume_spec *spec)
{
    const char *word = volume_template_words[spec->template_name];
    return spec->template_name == TEMPLATE_DISPERSE
               ? xasprintf("%s %llu+%llu", word, (unsigned long long)spec->data,
                           (unsigned long long)spec->redundancy)
               : xstrdup(word);
}
