/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Options of a volume, TRANSLATOR.OPTION=VALUE, in its volfiles: they take the place of what blockd would say
 * there. A profile is a named list of them; what the volume sets itself comes after it.
 */
#include <errno.h>
#include <string.h>

#include "blockd/engine/engine_priv.h"
#include "rpc/base/alloc.h"

struct profile {
    const char *name;
    const char *const options[8]; /* ends with NULL */
};

static const struct profile profiles[] = {
    /* Many small writes that wait for each other: more hands at the bricks, a mark that stays longer. */
    {"database",
     {"client.event-threads=4", "server.event-threads=4", "io-threads.thread-count=32",
      "replicate.post-op-delay-secs=2", NULL}},
    /* Large files that are always open: heals copy them whole and several at once. */
    {"vm",
     {"client.event-threads=4", "server.event-threads=4", "io-threads.thread-count=32",
      "replicate.data-self-heal-algorithm=full", "replicate.shd-max-threads=8", NULL}},
    /* Many small files of many clients. */
    {"share",
     {"client.event-threads=2", "server.event-threads=4", "io-threads.thread-count=32",
      "replicate.shd-max-threads=8", "disperse.shd-max-threads=8", NULL}},
    /* Written once, read seldom: it leaves the machine to others. */
    {"archive",
     {"io-threads.thread-count=8", "replicate.shd-max-threads=1", "disperse.shd-max-threads=1",
      "replicate.data-self-heal-algorithm=full", NULL}},
};

static const struct profile *find_profile(const char *name)
{
    for (size_t i = 0; name && i < sizeof profiles / sizeof *profiles; i++)
        if (strcmp(profiles[i].name, name) == 0)
            return &profiles[i];
    return NULL;
}

int engine_profile_check(const char *name, struct error **ret_error)
{
    autostrbuf struct strbuf names = {0};
    if (find_profile(name))
        return 0;
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++)
        strbuf_addf(&names, "%s%s", i ? ", " : "", profiles[i].name);
    return error_set(ret_error, EINVAL, "there is no profile %s; the profiles are %s", name,
                     strbuf_string(&names));
}

/* "replicate.x" of "replicate.x=1". */
static size_t key_length(const char *option)
{
    return strcspn(option, "=");
}

static bool same_key(const char *a, const char *b)
{
    return key_length(a) == key_length(b) && strncmp(a, b, key_length(a)) == 0;
}

static void add_option(struct string_list *list, const char *option)
{
    for (size_t i = 0; i < list->count; i++)
        if (same_key(list->items[i], option)) {
            free(list->items[i]);
            list->items[i] = xstrdup(option);
            return;
        }
    string_list_add(list, option);
}

static void effective_options(const struct volume *volume, struct string_list *ret_list)
{
    const struct profile *profile = find_profile(volume->spec.profile);
    for (size_t i = 0; profile && profile->options[i]; i++)
        add_option(ret_list, profile->options[i]);
    for (size_t i = 0; i < volume->spec.options.count; i++)
        add_option(ret_list, volume->spec.options.items[i]);
}

/* The option's own name, when it is one of a translator of this type ("cluster/replicate"); else NULL. */
static const char *own_name(const char *option, const char *type)
{
    const char *word = strrchr(type, '/');
    size_t length = word ? strlen(word + 1) : 0;
    return length && strncmp(option, word + 1, length) == 0 && option[length] == '.' ? option + length + 1
                                                                                     : NULL;
}

/* Does one of the options take the place of this line, "    option KEY VALUE"? */
static bool is_replaced(const struct string_list *options, const char *type, const char *line)
{
    static const char head[] = "    option ";
    if (!string_starts_with(line, head))
        return false;
    const char *key = line + strlen(head);
    for (size_t i = 0; i < options->count; i++) {
        const char *name = own_name(options->items[i], type);
        size_t length = name ? key_length(name) : 0;
        if (name && strncmp(key, name, length) == 0 && key[length] == ' ')
            return true;
    }
    return false;
}

static void add_own(const struct string_list *options, const char *type, struct strbuf *text)
{
    for (size_t i = 0; i < options->count; i++) {
        const char *name = own_name(options->items[i], type);
        if (name)
            strbuf_addf(text, "    option %.*s \"%s\"\n", (int)key_length(name), name,
                        name + key_length(name) + 1);
    }
}

void volfile_set_options(const struct volume *volume, struct strbuf *text, size_t from)
{
    autostring_list struct string_list options = {0}, lines = {0};
    effective_options(volume, &options);
    if (!options.count)
        return;
    autofree char *type = xstrdup(""), *rest = xstrdup(strbuf_string(text) + from);
    bool added = false;
    string_list_split(&lines, rest, '\n');
    text->length = from;
    for (size_t i = 0; i + 1 < lines.count; i++) {
        const char *line = lines.items[i];
        if (string_starts_with(line, "    type ")) {
            free(type);
            type = xstrdup(line + strlen("    type "));
            added = false;
        }
        bool ends = string_starts_with(line, "    subvolumes ") || strcmp(line, "end-volume") == 0;
        if (ends && !added) {
            add_own(&options, type, text);
            added = true;
        }
        if (!is_replaced(&options, type, line))
            strbuf_addf(text, "%s\n", line);
    }
}
