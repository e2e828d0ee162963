/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The commands of the new nouns and what they take, read off the API table. The rules:
 *  - a path's names are one word, joined by "/"; a first {node} of several may be left out: this node;
 *  - a request's required fields, and those marked FIELD_WORD, are words in their order, where `volume` and
 * the field after it are one word, VOLUME/NAME;
 *  - every other field of request and query is an --option, with "-" for "_"; a boolean is a flag;
 *  - `wait` is --wait and --no-wait.
 */
#include <ctype.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"

#define COMMANDS_MAX (API_OP_COUNT + 32)

/* ---- The list ---- */

static bool has_name(const struct api_route *route)
{
    return strchr(route->path, '{') != NULL;
}

/* Routes in the table's order, each noun's aliases after its last route. */
static size_t collect(struct command *commands)
{
    size_t count = 0;
    for (size_t i = 0; i < API_OP_COUNT; i++) {
        const struct api_route *route = &api_routes[i];
        if (!route->noun)
            continue;
        struct command *last = count ? &commands[count - 1] : NULL;
        if (last && string_equal(last->noun, route->noun) && string_equal(last->verb, route->verb) &&
            has_name(route) && !has_name(last->route)) {
            last->all_route = last->route;
            last->route = route;
            continue;
        }
        commands[count++] =
            (struct command){.noun = route->noun, .verb = route->verb, .route = route, .help = route->help};
        if (i + 1 < API_OP_COUNT && string_equal(api_routes[i + 1].noun, route->noun))
            continue;
        for (const struct api_alias *alias = api_aliases; alias->noun; alias++)
            if (strcmp(alias->noun, route->noun) == 0)
                commands[count++] = (struct command){.noun = alias->noun,
                                                     .verb = alias->verb,
                                                     .route = &api_routes[alias->op],
                                                     .alias = alias,
                                                     .help = alias->help};
    }
    return count;
}

const struct command *command_all(size_t *ret_count)
{
    static struct command commands[COMMANDS_MAX];
    static size_t count;
    if (!count)
        count = collect(commands);
    *ret_count = count;
    return commands;
}

const struct command *command_find(const char *noun, const char *verb)
{
    size_t count;
    const struct command *commands = command_all(&count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(commands[i].noun, noun) == 0 && string_equal(commands[i].verb, verb))
            return &commands[i];
    return NULL;
}

const struct command *command_take(int argc, char *const argv[], int *ret_used)
{
    for (int words = argc < 3 ? argc : 3; words > 0; words--) {
        autofree char *two = words == 3 ? xasprintf("%s %s", argv[1], argv[2]) : NULL;
        const struct command *command = command_find(argv[0], two ? two : words == 2 ? argv[1] : NULL);
        if (!command)
            continue;
        *ret_used = words;
        return command;
    }
    return NULL;
}

bool command_is_noun(const char *word)
{
    size_t count;
    const struct command *commands = command_all(&count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(commands[i].noun, word) == 0)
            return true;
    return false;
}

enum object_kind command_kind(const struct command *command)
{
    for (enum object_kind kind = 0; kind < KIND_COUNT; kind++)
        if (command->route->response == object_types[kind].schema)
            return kind;
    return KIND_COUNT;
}

/* ---- Words ---- */

static char *upper(const char *text)
{
    char *copy = xstrdup(text);
    for (char *c = copy; *c; c++)
        *c = *c == '_' ? '-' : (char)toupper((unsigned char)*c);
    return copy;
}

static void add_path_name(struct command_shape *shape, const struct command *command)
{
    autostrbuf struct strbuf label = {0};
    unsigned parts = 0;
    bool node_first = false;
    for (const char *c = strchr(command->route->path, '{'); c; c = strchr(c + 1, '{')) {
        autofree char *part = xstrndup(c + 1, strcspn(c + 1, "}"));
        autofree char *word = upper(part);
        node_first |= parts == 0 && strcmp(part, "node") == 0;
        strbuf_addf(&label, "%s%s", parts ? "/" : "", word);
        parts++;
    }
    if (!parts)
        return;
    struct positional *positional = &shape->positionals[shape->positional_count++];
    *positional = (struct positional){
        .parts = parts, .default_node = node_first && parts > 1, .optional = command->all_route != NULL};
    positional->label = positional->default_node ? xasprintf("[NODE/]%s", label.data + strlen("NODE/"))
                                                 : strbuf_steal(&label);
}

static bool is_word(const struct field *field)
{
    return (field->flags & (FIELD_REQUIRED | FIELD_WORD)) != 0;
}

static void add_request_words(struct command_shape *shape, const struct schema *request)
{
    for (const struct field *field = request->fields; field->name; field++) {
        if (!is_word(field))
            continue;
        struct positional *positional = &shape->positionals[shape->positional_count++];
        autofree char *label = upper(field->name);
        *positional =
            (struct positional){.fields = {field}, .parts = 1, .optional = !(field->flags & FIELD_REQUIRED)};
        if (strcmp(field->name, "volume") == 0 && field[1].name && is_word(&field[1])) {
            field++;
            autofree char *second = upper(field->name);
            positional->fields[1] = field;
            positional->parts = 2;
            positional->label = xasprintf("%s/%s", label, second);
        } else {
            positional->label = field->type == FIELD_STRINGS ? xasprintf("%s,...", label) : steal_ptr(&label);
        }
    }
}

/* ---- Options ---- */

static char *value_word(const struct field *field)
{
    autostrbuf struct strbuf words = {0};
    switch (field->type) {
    case FIELD_BOOL:
        return NULL;
    case FIELD_SIZE:
        return xstrdup("SIZE");
    case FIELD_UINT:
    case FIELD_RATIO:
        return xstrdup("NUMBER");
    case FIELD_TIME:
        return xstrdup("TIME");
    case FIELD_ENUM:
        for (size_t i = 0; field->words[i]; i++)
            strbuf_addf(&words, "%s%s", i ? "|" : "", field->words[i]);
        return strbuf_steal(&words);
    case FIELD_STRINGS: {
        autofree char *one = upper(field->name);
        return xasprintf("%s,...", one);
    }
    default:
        return upper(field->name);
    }
}

static void add_option(struct command_shape *shape, const char *name, const struct field *field,
                       bool in_query, char *value, const char *help)
{
    struct command_option *option = &shape->options[shape->option_count++];
    *option = (struct command_option){
        .name = xstrdup(name), .field = field, .in_query = in_query, .value = value, .help = help};
    for (char *c = option->name; *c; c++)
        if (*c == '_')
            *c = '-';
}

static void add_options(struct command_shape *shape, const struct schema *schema, bool in_query)
{
    for (const struct field *field = schema->fields; field->name; field++) {
        if (field->flags & FIELD_HIDDEN || (!in_query && is_word(field)))
            continue;
        if (in_query && strcmp(field->name, "wait") == 0) {
            add_option(shape, "wait", field, true, xstrdup("SECONDS"),
                       "How long to wait until the change is done; 60 if absent");
            add_option(shape, "no-wait", NULL, true, NULL, "Do not wait");
        } else if (in_query && strcmp(field->name, "watch") == 0) {
            add_option(shape, field->name, field, true, NULL,
                       "Print what there is, and then each change as it comes, until interrupted");
        } else if (in_query && strcmp(field->name, "after") == 0) {
            add_option(shape, field->name, field, true, value_word(field),
                       "With watch: only the changes after this revision");
        } else {
            add_option(shape, field->name, field, in_query, value_word(field), field->help);
        }
    }
}

void command_shape(const struct command *command, struct command_shape *ret_shape)
{
    const struct api_route *route = command->route;
    *ret_shape = (struct command_shape){0};
    add_path_name(ret_shape, command);
    if (route->request && !command->alias) {
        add_request_words(ret_shape, route->request);
        add_options(ret_shape, route->request, false);
    }
    if (route->query)
        add_options(ret_shape, route->query, true);
}

void command_shape_clear(struct command_shape *shape)
{
    for (size_t i = 0; i < shape->positional_count; i++)
        free(shape->positionals[i].label);
    for (size_t i = 0; i < shape->option_count; i++) {
        free(shape->options[i].name);
        free(shape->options[i].value);
    }
    *shape = (struct command_shape){0};
}

const struct command_option *command_shape_option(const struct command_shape *shape, const char *name)
{
    for (size_t i = 0; i < shape->option_count; i++)
        if (strcmp(shape->options[i].name, name) == 0)
            return &shape->options[i];
    return NULL;
}

char *command_synopsis(const struct command *command)
{
    struct command_shape shape cleanup(command_shape_clear) = {0};
    command_shape(command, &shape);
    autostrbuf struct strbuf text = {0};
    strbuf_addf(&text, "gluster-block %s%s%s", command->noun, command->verb ? " " : "",
                command->verb ? command->verb : "");
    for (size_t i = 0; i < shape.positional_count; i++)
        strbuf_addf(&text, shape.positionals[i].optional ? " [%s]" : " %s", shape.positionals[i].label);
    if (shape.option_count)
        strbuf_adds(&text, " [OPTION]...");
    return strbuf_steal(&text);
}
