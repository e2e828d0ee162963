/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * `gluster-block complete WORD...`, for the shell: the words so far, the last of them unfinished (perhaps
 * empty). Prints what it may go on as, one a line. Nothing that goes wrong is shown: it would land in the
 * user's prompt.
 */
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"

#define NAMES_MAX 500

/* ---- What may stand there ---- */

static void offer(struct cli *cli, const char *prefix, const char *word)
{
    if (string_starts_with(word, prefix))
        fprintf(cli->out, "%s\n", word);
}

/* Names of objects, asked of the daemon. */
static void offer_names(struct cli *cli, const char *prefix, enum object_kind kind)
{
    autofree char *path = xasprintf("/v1/%s?limit=%d", object_types[kind].plural, NAMES_MAX);
    json_t *reply cleanup(json_decrefp) = NULL, *item;
    if (client_get(cli, path, &reply, NULL) < 0)
        return;
    size_t index;
    json_array_foreach(json_object_get(reply, "items"), index, item)
    {
        const char *name = json_text(item, "name");
        offer(cli, prefix, name);
        /* "D" for "NODE/D", once that is what is being written. */
        const char *slash = strchr(name, '/');
        if (*prefix && slash && (kind == KIND_DEVICE || kind == KIND_EXPORT))
            offer(cli, prefix, slash + 1);
    }
}

/* "V/" of each volume, for a block that is to be made. */
static void offer_volume_prefixes(struct cli *cli, const char *prefix)
{
    json_t *reply cleanup(json_decrefp) = NULL, *item;
    if (client_get(cli, "/v1/volumes", &reply, NULL) < 0)
        return;
    size_t index;
    json_array_foreach(json_object_get(reply, "items"), index, item)
    {
        autofree char *word = xasprintf("%s/", json_text(item, "name"));
        offer(cli, prefix, word);
    }
}

static void offer_globals(struct cli *cli, const char *prefix)
{
    for (const struct help_word *option = help_global_options; option->word; option++)
        offer(cli, prefix, option->word);
    offer(cli, prefix, "--help");
}

/* ---- The first word ---- */

static void complete_first(struct cli *cli, const char *prefix)
{
    size_t count;
    const struct command *commands = command_all(&count);
    if (*prefix == '-') {
        offer_globals(cli, prefix);
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(commands[i].noun, commands[i - 1].noun) != 0)
            offer(cli, prefix, commands[i].noun);
    for (const struct classic_command *command = classic_commands; command->word; command++)
        offer(cli, prefix, command->word);
    for (const struct help_word *word = help_words; word->word; word++)
        offer(cli, prefix, word->word);
    offer(cli, prefix, "timeout");
}

/* ---- The new nouns ---- */

/* The objects that a word in its place may name. */
static void complete_positional(struct cli *cli, const struct command *command,
                                const struct positional *positional, const char *prefix)
{
    if (!positional->fields[0]) {
        /* A list's path names what the objects lie in; what a volume's verbs answer with is no volume. */
        bool volume = command->all_route || strcmp(command->noun, "volume") == 0;
        offer_names(cli, prefix, volume ? KIND_VOLUME : command_kind(command));
    } else if (positional->fields[1]) {
        if (strcmp(positional->fields[1]->name, "block") == 0)
            offer_names(cli, prefix, KIND_BLOCK);
        else
            offer_volume_prefixes(cli, prefix);
    }
}

static void complete_value(struct cli *cli, const struct command_option *option, const char *prefix)
{
    const struct field *field = option->field;
    if (field && field->type == FIELD_ENUM)
        for (size_t i = 0; field->words[i]; i++)
            offer(cli, prefix, field->words[i]);
    else if (field && strcmp(field->name, "devices") == 0)
        offer_names(cli, prefix, KIND_DEVICE);
    else if (field && (strcmp(field->name, "node") == 0 || strcmp(field->name, "hosts") == 0))
        offer_names(cli, prefix, KIND_NODE);
}

static void complete_command(struct cli *cli, const struct command *command, int argc, char **argv,
                             const char *prefix)
{
    struct command_shape shape cleanup(command_shape_clear) = {0};
    command_shape(command, &shape);
    size_t place = 0;
    const struct command_option *open = NULL; /* an option whose value comes next */
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (open)
            open = NULL;
        else if (!string_starts_with(word, "--"))
            place++;
        else if (!strchr(word, '='))
            open = command_shape_option(&shape, word + 2);
        if (open && !open->value)
            open = NULL;
    }
    if (open) {
        complete_value(cli, open, prefix);
    } else if (*prefix == '-') {
        for (size_t i = 0; i < shape.option_count; i++) {
            autofree char *word = xasprintf("--%s", shape.options[i].name);
            offer(cli, prefix, word);
        }
        offer_globals(cli, prefix);
    } else if (place < shape.positional_count) {
        complete_positional(cli, command, &shape.positionals[place], prefix);
    }
}

static void complete_noun(struct cli *cli, int argc, char **argv, const char *prefix)
{
    size_t count;
    const struct command *commands = command_all(&count);
    int used;
    const struct command *command = command_take(argc, argv, &used);
    if (command) {
        complete_command(cli, command, argc - used, argv + used, prefix);
        return;
    }
    if (argc == 2 && noun_word_find(argv[0], argv[1])) {
        offer_names(cli, prefix, KIND_SHARE);
        return;
    }
    for (const struct noun_word *word = noun_words; argc == 1 && word->noun; word++)
        if (strcmp(word->noun, argv[0]) == 0)
            offer(cli, prefix, word->verb);
    /* The first word of a verb, or the second one of those that begin with the first. */
    for (size_t i = 0; i < count; i++) {
        const char *verb = commands[i].verb;
        if (!verb || strcmp(commands[i].noun, argv[0]) != 0)
            continue;
        size_t first = strcspn(verb, " ");
        autofree char *word = xstrndup(verb, first);
        const char *last = i > 0 && strcmp(commands[i - 1].noun, argv[0]) == 0 ? commands[i - 1].verb : NULL;
        bool again = last && verb[first] && string_starts_with(last, word);
        if (argc == 1 && !again)
            offer(cli, prefix, word);
        else if (argc == 2 && verb[first] && strcmp(word, argv[1]) == 0)
            offer(cli, prefix, verb + first + 1);
    }
}

/* ---- The classic commands ---- */

static void complete_classic(struct cli *cli, const struct classic_command *command, int argc, char **argv,
                             const char *prefix)
{
    if (*prefix == '-') {
        offer_globals(cli, prefix);
    } else if (argc == 0) {
        if (strcmp(command->word, "create") == 0)
            offer_volume_prefixes(cli, prefix);
        else
            offer_names(cli, prefix,
                        string_starts_with(command->syntax, "VOLUME/BLOCK") ? KIND_BLOCK : KIND_VOLUME);
    } else {
        const struct classic_option *option = command->options;
        for (; option && option->word; option++)
            if (option->value && strcmp(option->word, argv[argc - 1]) == 0)
                break;
        if (option && option->word && strchr(option->value, '|')) {
            autostring_list struct string_list values = {0};
            string_list_split(&values, option->value, '|');
            for (size_t i = 0; i < values.count; i++)
                offer(cli, prefix, values.items[i]);
        } else if (!option || !option->word) {
            for (option = command->options; option && option->word; option++)
                offer(cli, prefix, option->word);
            if (strcmp(command->word, "create") == 0)
                offer_names(cli, prefix, KIND_NODE);
        }
    }
}

/* ---- Where in the line it is ---- */

/* Moves over the options of all commands and `timeout SECONDS`, and notes the socket that they name. */
static int skip_globals(struct cli *cli, int argc, char **argv)
{
    int i = 0;
    while (i < argc) {
        const char **value = global_option(cli, argv[i], strlen(argv[i]));
        if (i + 1 < argc && value)
            *value = argv[i + 1];
        if (value || strcmp(argv[i], "timeout") == 0)
            i += 2;
        else if (argv[i][0] == '-')
            i++;
        else
            break;
    }
    return i;
}

int complete_run(struct cli *cli, int argc, char **argv)
{
    if (argc < 1)
        return 0;
    const char *prefix = argv[--argc];
    cli->hurry = true;
    int skipped = skip_globals(cli, argc, argv);
    if (skipped > argc) /* the value of --socket or timeout itself: files, numbers */
        return 0;
    argc -= skipped;
    argv += skipped;
    if (argc > 0 && help_asked(argv[0])) {
        argc--;
        argv++;
    }
    const struct classic_command *classic = argc > 0 ? classic_find(argv[0]) : NULL;
    if (argc == 0)
        complete_first(cli, prefix);
    else if (classic)
        complete_classic(cli, classic, argc - 1, argv + 1, prefix);
    else if (command_is_noun(argv[0]))
        complete_noun(cli, argc, argv, prefix);
    else if (strcmp(argv[0], "uri") == 0 && argc == 1)
        offer_names(cli, prefix, KIND_BLOCK);
    return 0;
}
