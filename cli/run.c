/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* From the words of the command line to the command. */
#include <errno.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"

#define TIMEOUT_DEFAULT     300
#define TIMEOUT_ENVIRONMENT "GB_CLI_TIMEOUT"

static int json_style(const char *word)
{
    static const struct {
        const char *word;
        enum json_style style;
    } styles[] = {{"--json", JSON_STYLE_SPACED},
                  {"--json-spaced", JSON_STYLE_SPACED},
                  {"--json-plain", JSON_STYLE_PLAIN},
                  {"--json-pretty", JSON_STYLE_PRETTY}};
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++)
        if (strcmp(word, styles[i].word) == 0)
            return (int)styles[i].style;
    return JSON_NONE;
}

/* "--socket PATH" or "--socket=PATH" at *index. 1: it was that. */
static int global_value(struct cli *cli, int argc, char **argv, int *index, struct error **ret_error)
{
    const char *word = argv[*index];
    size_t length = strcspn(word, "=");
    const char **value = global_option(cli, word, length);
    if (!value)
        return 0;
    if (!word[length] && *index + 1 >= argc)
        return error_set(ret_error, EINVAL, "%s needs a value", word);
    *value = word[length] ? word + length + 1 : argv[++*index];
    return 1;
}

/* Takes the options of all commands out of the words, up to "--". Returns how many words are left. */
static int take_globals(struct cli *cli, int argc, char **argv, struct error **ret_error)
{
    int kept = 0;
    bool ended = false;
    for (int i = 0; i < argc; i++) {
        int style = ended ? JSON_NONE : json_style(argv[i]);
        ended |= strcmp(argv[i], "--") == 0;
        int r = ended ? 0 : global_value(cli, argc, argv, &i, ret_error);
        if (r < 0)
            return r;
        if (style != JSON_NONE)
            cli->json = (enum json_style)style;
        else if (r == 0)
            argv[kept++] = argv[i];
    }
    argv[kept] = NULL;
    return kept;
}

/* The word on the command line counts first, then the environment. */
static int find_timeout(struct cli *cli, const char *word, struct error **ret_error)
{
    const char *environment = getenv(TIMEOUT_ENVIRONMENT);
    uint64_t seconds = TIMEOUT_DEFAULT;
    int r = 0;
    if (word)
        r = classic_number("timeout", word, 1, 24 * 3600, &seconds, ret_error);
    else if (environment && *environment)
        r = classic_number(TIMEOUT_ENVIRONMENT, environment, 1, 24 * 3600, &seconds, ret_error);
    cli->timeout = (unsigned)seconds;
    return r;
}

static int unknown_word(struct cli *cli, const char *word)
{
    autostring_list struct string_list known = {0};
    size_t count;
    const struct command *commands = command_all(&count);
    for (size_t i = 0; i < count; i++)
        if (!string_list_contains(&known, commands[i].noun))
            string_list_add(&known, commands[i].noun);
    for (const struct classic_command *command = classic_commands; command->word; command++)
        string_list_add(&known, command->word);
    for (const struct help_word *help = help_words; help->word; help++)
        string_list_add(&known, help->word);
    return help_unknown(cli, "", word, &known);
}

static int run_classic(struct cli *cli, const struct classic_command *command, int argc, char **argv)
{
    if (argc > 0 && (strcmp(argv[0], "--help") == 0 || (argc == 1 && help_asked(argv[0])))) {
        help_classic(cli->out, command);
        return 0;
    }
    return command->run(cli, argc, argv);
}

static int dispatch(struct cli *cli, int argc, char **argv)
{
    const struct classic_command *classic = classic_find(argv[0]);
    if (classic)
        return run_classic(cli, classic, argc - 1, argv + 1);
    if (command_is_noun(argv[0]))
        return nouns_run(cli, argc, argv);
    if (help_asked(argv[0]))
        return help_run(cli, argc - 1, argv + 1);
    if (argc > 1 && help_asked(argv[1]))
        return help_run(cli, 1, argv);
    if (strcmp(argv[0], "version") == 0 || strcmp(argv[0], "--version") == 0)
        return version_run(cli);
    if (strcmp(argv[0], "uri") == 0)
        return uri_run(cli, argc - 1, argv + 1);
    return unknown_word(cli, argv[0]);
}

int cli_run(struct cli *cli, int argc, char **argv)
{
    autoerror struct error *error = NULL;
    /* What it gets are words of an unfinished command line: none of them is meant for this one. */
    if (argc > 1 && strcmp(argv[1], "complete") == 0)
        return complete_run(cli, argc - 2, argv + 2);

    int count = take_globals(cli, argc - 1, argv + 1, &error);
    char **words = argv + 1;
    if (count < 0) {
        complain(cli, error);
        return STATUS_USAGE;
    }
    const char *timeout = NULL;
    if (count > 0 && strcmp(words[0], "timeout") == 0) {
        timeout = count > 1 ? words[1] : "";
        words += count > 1 ? 2 : 1;
        count -= count > 1 ? 2 : 1;
    }
    if (find_timeout(cli, timeout, &error) < 0) {
        complain(cli, error);
        return STATUS_UNKNOWN_COMMAND;
    }
    if (count == 0) {
        help_all(cli->err);
        return STATUS_UNKNOWN_COMMAND;
    }
    return dispatch(cli, count, words);
}
