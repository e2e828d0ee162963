/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Options of a volume: what a request changes of them, once the engine has found nothing wrong with it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"

#define OPTIONS_MAX 64

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Takes out the option that has the change's name. */
static void take_out(struct string_list *options, const char *change)
{
    size_t length = strcspn(change, "=") + 1, kept = 0;
    for (size_t i = 0; i < options->count; i++) {
        if (strncmp(options->items[i], change, length) == 0)
            free(options->items[i]);
        else
            options->items[kept++] = options->items[i];
    }
    options->count = kept;
}

int volume_change_options(struct core *core, struct volume_spec *spec, const struct string_list *changes,
                          bool advanced, struct error **ret_error)
{
    for (size_t i = 0; i < changes->count; i++) {
        const char *change = changes->items[i], *equals = strchr(change, '=');
        bool unset = equals && !equals[1];
        int r = unset ? 0 : engine_option_check(core->engine, change, advanced, ret_error);
        if (r < 0)
            return r;
        take_out(&spec->options, change);
        if (!unset)
            string_list_add(&spec->options, change);
    }
    if (spec->options.count > OPTIONS_MAX)
        return error_set(ret_error, EINVAL, "a volume has at most %d options", OPTIONS_MAX);
    if (spec->options.count)
        qsort(spec->options.items, spec->options.count, sizeof *spec->options.items, by_name);
    return 0;
}

int volume_change_profile(struct volume_spec *spec, const char *profile, struct error **ret_error)
{
    bool none = !profile || strcmp(profile, "none") == 0;
    int r = none ? 0 : engine_profile_check(profile, ret_error);
    if (r == 0)
        string_replace(&spec->profile, none ? NULL : profile);
    return r;
}
