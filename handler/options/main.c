/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * blockd-options FILE: prints the options that a translator says it has, as JSON. A program of its own, so
 * that no translator is ever loaded into blockd.
 */
#include "xlators/abi.h"

#include <dlfcn.h>
#include <glusterfs/options.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static const char *type_word(volume_option_type_t type)
{
    switch (type) {
    case GF_OPTION_TYPE_INT:
        return "int";
    case GF_OPTION_TYPE_SIZET:
        return "size";
    case GF_OPTION_TYPE_PERCENT:
        return "percent";
    case GF_OPTION_TYPE_PERCENT_OR_SIZET:
        return "percent-or-size";
    case GF_OPTION_TYPE_BOOL:
        return "bool";
    case GF_OPTION_TYPE_TIME:
        return "time";
    case GF_OPTION_TYPE_DOUBLE:
        return "double";
    case GF_OPTION_TYPE_STR:
        return "string";
    default:
        return "other"; /* paths, addresses and the like: never a user's to set */
    }
}

static json_t *strings(char *const *items, size_t max)
{
    json_t *list = json_array();
    for (size_t i = 0; i < max && items[i]; i++)
        json_array_append_new(list, json_string(items[i]));
    return list;
}

static json_t *describe(const volume_option_t *option)
{
    return json_pack("{s:o, s:s, s:f, s:f, s:b, s:b, s:o, s:s?, s:s?, s:b, s:b}", "names",
                     strings(option->key, ZR_VOLUME_MAX_NUM_KEY), "type", type_word(option->type), "min",
                     option->min, "max", option->max, "check_min", option->validate != GF_OPT_VALIDATE_MAX,
                     "check_max", option->validate != GF_OPT_VALIDATE_MIN, "values",
                     strings(option->value, ZR_OPTION_MAX_ARRAY_SIZE), "default", option->default_value,
                     "help", option->description, "settable", (option->flags & OPT_FLAG_SETTABLE) != 0,
                     "documented", (option->flags & OPT_FLAG_DOC) != 0);
}

int main(int argc, char **argv)
{
    void *file = argc == 2 ? dlopen(argv[1], RTLD_LAZY | RTLD_LOCAL) : NULL;
    if (!file) {
        fprintf(stderr, "blockd-options: %s\n", argc == 2 ? dlerror() : "needs the file of one translator");
        return EXIT_FAILURE;
    }
    const xlator_api_t *api = dlsym(file, "xlator_api");
    const volume_option_t *options = api ? api->options : dlsym(file, "options");
    json_t *list = json_array();
    for (; options && options->key[0]; options++)
        json_array_append_new(list, describe(options));
    json_dumpf(list, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(list);
    return EXIT_SUCCESS;
}
