/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The words of a command become a request. Here is checked only what the words' shape needs; what values are
 * allowed is the daemon's to say, once for every caller: a value that does not look like its type is sent as
 * a string, and refused there with its name.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"

#define WAIT_DEFAULT 60
#define WAIT_MAX     3600

static bool looks_like_number(const char *text, bool with_fraction)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 18 || (digits > 1 && *text == '0'))
        return false;
    if (with_fraction && text[digits] == '.') {
        size_t decimals = strspn(text + digits + 1, "0123456789");
        return decimals > 0 && decimals <= 18 && !text[digits + 1 + decimals];
    }
    return !text[digits];
}

static json_t *value_of(const struct field *field, const char *text)
{
    if (field->type == FIELD_UINT && looks_like_number(text, false))
        return json_integer(strtoll(text, NULL, 10));
    if (field->type == FIELD_RATIO && looks_like_number(text, true))
        return json_real(strtod(text, NULL));
    return json_string(text); /* NULL when it is not UTF-8 */
}

/* "a,b": NULL when it is not UTF-8. */
static json_t *list_of(const char *text)
{
    autostring_list struct string_list parts = {0};
    string_list_split(&parts, text, ',');
    json_t *list = json_array();
    for (size_t i = 0; i < parts.count; i++)
        if (json_array_append_new(list, json_string(parts.items[i])) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static int bad_text(const char *what, struct error **ret_error)
{
    return error_set(ret_error, EINVAL, "%s is not UTF-8 text", what);
}

/* ---- Words in their places ---- */

static unsigned count_parts(const char *text)
{
    unsigned parts = 1;
    for (; *text; text++)
        parts += *text == '/';
    return parts;
}

static int set_path_name(struct cli *cli, const struct positional *positional, const char *text,
                         struct arguments *arguments, struct error **ret_error)
{
    autofree char *full = xstrdup(text);
    unsigned parts = count_parts(text);
    if (positional->default_node && parts + 1 == positional->parts) {
        autofree char *node = NULL;
        int r = client_this_node(cli, &node, ret_error);
        if (r < 0)
            return r;
        free(full);
        full = xasprintf("%s/%s", node, text);
        parts++;
    }
    if (parts != positional->parts || !*full)
        return error_set(ret_error, EINVAL, "\"%s\" is not of the form %s", text, positional->label);
    arguments->name = steal_ptr(&full);
    return 0;
}

/* A list may come in several words. */
static int add_to_list(const char *what, const struct field *field, const char *text, json_t *body,
                       struct error **ret_error)
{
    json_t *more cleanup(json_decrefp) = list_of(text);
    json_t *list = json_object_get(body, field->name);
    if (!more)
        return bad_text(what, ret_error);
    if (list)
        json_array_extend(list, more);
    else
        json_object_set(body, field->name, more);
    return 0;
}

static int set_words(const struct positional *positional, const char *text, json_t *body,
                     struct error **ret_error)
{
    const char *rest = text;
    for (unsigned i = 0; i < positional->parts; i++) {
        size_t length = i + 1 < positional->parts ? strcspn(rest, "/") : strlen(rest);
        if (i + 1 < positional->parts && !rest[length])
            return error_set(ret_error, EINVAL, "\"%s\" is not of the form %s", text, positional->label);
        autofree char *part = xstrndup(rest, length);
        rest += length + (rest[length] == '/');
        if (positional->fields[i]->type == FIELD_STRINGS)
            return add_to_list(positional->label, positional->fields[i], part, body, ret_error);
        json_t *value = value_of(positional->fields[i], part);
        if (!value)
            return bad_text(positional->label, ret_error);
        json_object_set_new(body, positional->fields[i]->name, value);
    }
    return 0;
}

/* ---- Options ---- */

static int flag_value(const struct command_option *option, const char *text, bool *ret_value,
                      struct error **ret_error)
{
    static const char *const yes[] = {"yes", "true", "1", NULL}, *const no[] = {"no", "false", "0", NULL};
    if (!text || enum_parse(yes, text) >= 0)
        *ret_value = true;
    else if (enum_parse(no, text) >= 0)
        *ret_value = false;
    else
        return error_set(ret_error, EINVAL, "--%s is yes or no, not \"%s\"", option->name, text);
    return 0;
}

static int set_wait(const char *text, struct arguments *arguments, struct error **ret_error)
{
    if (!looks_like_number(text, false) || strtoull(text, NULL, 10) > WAIT_MAX)
        return error_set(ret_error, EINVAL, "--wait takes seconds from 0 to %d, not \"%s\"", WAIT_MAX, text);
    arguments->wait = (unsigned)strtoul(text, NULL, 10);
    arguments->no_wait = arguments->wait == 0;
    return 0;
}

/* `value` is NULL for a flag without one. */
static int set_option(const struct command_option *option, const char *value, struct arguments *arguments,
                      struct error **ret_error)
{
    if (!option->field) {
        arguments->wait = 0;
        arguments->no_wait = true;
        return 0;
    }
    if (option->in_query && strcmp(option->name, "wait") == 0)
        return set_wait(value, arguments, ret_error);

    json_t *target = option->in_query ? arguments->query : arguments->body;
    if (option->field->type == FIELD_STRINGS)
        return add_to_list(option->name, option->field, value, target, ret_error);
    json_t *json;
    if (option->field->type == FIELD_BOOL) {
        bool flag = false;
        int r = flag_value(option, value, &flag, ret_error);
        if (r < 0)
            return r;
        json = option->in_query ? json_string(flag ? "1" : "0") : json_boolean(flag);
        if (option->in_query && strcmp(option->name, "watch") == 0)
            arguments->watch = flag;
    } else {
        json = option->in_query ? json_string(value) : value_of(option->field, value);
    }
    if (!json)
        return bad_text(option->name, ret_error);
    json_object_set_new(target, option->field->name, json);
    return 0;
}

/* "--name", "--name=value" or "--name value"; moves *index over a value of its own. */
static int take_option(const struct command_shape *shape, int argc, char **argv, int *index,
                       struct arguments *arguments, struct error **ret_error)
{
    const char *text = argv[*index] + 2;
    autofree char *name = xstrndup(text, strcspn(text, "="));
    const char *value = text[strlen(name)] ? text + strlen(name) + 1 : NULL;
    const struct command_option *option = command_shape_option(shape, name);
    if (!option)
        return error_set(ret_error, EINVAL, "there is no option --%s here", name);
    if (option->value && !value) {
        if (*index + 1 >= argc)
            return error_set(ret_error, EINVAL, "--%s needs a value: %s", name, option->value);
        value = argv[++*index];
    }
    if (value && !option->field)
        return error_set(ret_error, EINVAL, "--%s takes no value", name);
    return set_option(option, value, arguments, ret_error);
}

/* ---- All of it ---- */

static int take_word(struct cli *cli, const struct command_shape *shape, size_t place, const char *text,
                     struct arguments *arguments, struct error **ret_error)
{
    size_t count = shape->positional_count;
    const struct field *last = count ? shape->positionals[count - 1].fields[0] : NULL;
    if (place >= count && last && last->type == FIELD_STRINGS) /* a list takes every word that follows */
        place = count - 1;
    if (place >= count)
        return error_set(ret_error, EINVAL, "\"%s\" is one word too many", text);
    const struct positional *positional = &shape->positionals[place];
    return positional->fields[0] ? set_words(positional, text, arguments->body, ret_error)
                                 : set_path_name(cli, positional, text, arguments, ret_error);
}

static int check_complete(const struct command_shape *shape, size_t places, struct error **ret_error)
{
    for (size_t i = places; i < shape->positional_count; i++)
        if (!shape->positionals[i].optional)
            return error_set(ret_error, EINVAL, "%s is missing", shape->positionals[i].label);
    return 0;
}

static int parse_words(struct cli *cli, const struct command_shape *shape, int argc, char **argv,
                       struct arguments *arguments, struct error **ret_error)
{
    size_t place = 0;
    bool options_end = false;
    int r = 0;
    for (int i = 0; i < argc && r == 0; i++) {
        if (!options_end && strcmp(argv[i], "--") == 0)
            options_end = true;
        else if (!options_end && string_starts_with(argv[i], "--"))
            r = take_option(shape, argc, argv, &i, arguments, ret_error);
        else if (!options_end && argv[i][0] == '-' && isalpha((unsigned char)argv[i][1]))
            r = error_set(ret_error, EINVAL, "there is no option %.64s here", argv[i]);
        else
            r = take_word(cli, shape, place++, argv[i], arguments, ret_error);
    }
    return r < 0 ? r : check_complete(shape, place, ret_error);
}

int arguments_parse(struct cli *cli, const struct command *command, int argc, char **argv,
                    struct arguments *ret_arguments, struct error **ret_error)
{
    struct command_shape shape cleanup(command_shape_clear) = {0};
    command_shape(command, &shape);
    struct arguments arguments = {.route = command->route, .query = json_object(), .wait = WAIT_DEFAULT};
    if (command->alias)
        arguments.body = json_loads(command->alias->body, 0, NULL);
    else if (command->route->request)
        arguments.body = json_object();

    int r = parse_words(cli, &shape, argc, argv, &arguments, ret_error);
    if (r < 0) {
        arguments_clear(&arguments);
        return r;
    }
    if (!arguments.name && command->all_route)
        arguments.route = command->all_route;
    if (strcmp(command->route->method, "PATCH") == 0 && json_object_size(arguments.body) == 0) {
        arguments_clear(&arguments);
        return error_set(ret_error, EINVAL, "nothing is to be changed: say what with an option");
    }
    *ret_arguments = arguments;
    return 0;
}

void arguments_clear(struct arguments *arguments)
{
    free(arguments->name);
    json_decref(arguments->body);
    json_decref(arguments->query);
    *arguments = (struct arguments){0};
}

/* The path with its {names} filled in. */
static void add_path(struct strbuf *path, const char *pattern, const char *name)
{
    unsigned part = 0;
    while (*pattern) {
        size_t length = strcspn(pattern, "{");
        strbuf_add(path, pattern, length);
        pattern += length;
        if (!*pattern)
            break;
        autofree char *text = object_name_part(name, part++);
        autofree char *escaped = http_escape(text ? text : "");
        strbuf_adds(path, escaped);
        pattern += strcspn(pattern, "}") + 1;
    }
}

char *arguments_path(const struct arguments *arguments)
{
    autostrbuf struct strbuf path = {0};
    add_path(&path, arguments->route->path, arguments->name);
    const char *name, *separator = "?";
    json_t *value;
    json_object_foreach(arguments->query, name, value)
    {
        autofree char *escaped = http_escape(json_string_value(value));
        strbuf_addf(&path, "%s%s=%s", separator, name, escaped);
        separator = "&";
    }
    return strbuf_steal(&path);
}
