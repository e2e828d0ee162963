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

size_t layout_sets(const struct volume_spec *spec)
{
    size_t each = layout_set_bricks(spec);
    return each && spec->bricks.count % each == 0 ? spec->bricks.count / each : 0;
}

uint64_t layout_set_number(const struct volume_spec *spec, size_t set)
{
    const struct brick_spec *bricks = spec->bricks.items;
    uint64_t serial = bricks[set * layout_set_bricks(spec)].set_serial;
    return serial ? serial - 1 : set;
}

size_t layout_leaving(const struct volume_spec *spec)
{
    for (size_t set = 0; spec->leaving && set < layout_sets(spec); set++)
        if (layout_set_number(spec, set) == spec->leaving - 1)
            return set;
    return SIZE_MAX;
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
