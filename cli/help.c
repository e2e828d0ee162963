/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Help, out of the same tables that run the commands. */
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"

#define LINE_WIDTH 100

const struct help_word help_words[] = {
    {"uri", "VOLUME/BLOCK", "Print the NBD URI of a live export, of this node where it has one"},
    {"version", "", "Print the version of this program and of blockd"},
    {"help", "[WORD [VERB]]", "Print this, or the help of a noun or a command, as --help after it does"},
    {NULL, NULL, NULL},
};

const struct help_word help_global_options[] = {
    {"--socket", "PATH", "Socket of blockd; else $BLOCKD_SOCKET, else as the configuration says"},
    {"--config", "FILE", "Configuration that says where the socket is; /etc/blockd/blockd.conf if absent"},
    {"--endpoint", "URL,...", "blockd of a cluster, https://HOST:PORT; several: the next where one is away"},
    {"--ca", "FILE", "Certificate of the cluster's authority, for --endpoint"},
    {"--cert", "FILE", "Certificate to show, for --endpoint"},
    {"--key", "FILE", "Its private key, for --endpoint"},
    {"--json", "", "Print JSON, with spaces; --json-spaced is the same"},
    {"--json-plain", "", "Print JSON without spaces"},
    {"--json-pretty", "", "Print JSON on several lines"},
    {NULL, NULL, NULL},
};

bool help_asked(const char *word)
{
    static const char *const words[] = {"help", "--help", "-h", "usage", "--usage", NULL};
    return enum_parse(words, word) >= 0;
}

/* A term, and its explanation in a column of its own; on the next line where the term is too long. */
static void print_term(FILE *stream, const char *term, int width, const char *text)
{
    if ((int)strlen(term) > width)
        fprintf(stream, "  %s\n  %*s  %s\n", term, width, "", text);
    else
        fprintf(stream, "  %-*s  %s\n", width, term, text);
}

static void print_words(FILE *stream, const struct help_word *words, int width)
{
    for (; words->word; words++) {
        autofree char *term = xasprintf("%s%s%s", words->word, *words->syntax ? " " : "", words->syntax);
        print_term(stream, term, width, words->help);
    }
}

/* ---- Everything ---- */

/* Words after `column`, the lines broken at blanks that end a term. */
static void print_wrapped(FILE *stream, const char *text, size_t column)
{
    size_t room = LINE_WIDTH - column;
    while (strlen(text) > room) {
        size_t length = room;
        while (length > 0 && !(text[length] == ' ' && text[length - 1] == ','))
            length--;
        if (!length)
            break;
        fprintf(stream, "%.*s\n%*s", (int)length, text, (int)column, "");
        text += length + 1;
    }
    fprintf(stream, "%s\n", text);
}

static void print_nouns(FILE *stream)
{
    size_t count;
    const struct command *commands = command_all(&count);
    for (size_t i = 0; i < count;) {
        const char *noun = commands[i].noun;
        autostrbuf struct strbuf verbs = {0};
        if (!commands[i].verb)
            strbuf_adds(&verbs, commands[i].help);
        for (; i < count && strcmp(commands[i].noun, noun) == 0; i++)
            if (commands[i].verb)
                strbuf_addf(&verbs, "%s%s", verbs.length ? ", " : "", commands[i].verb);
        for (const struct noun_word *word = noun_words; word->noun; word++)
            if (strcmp(word->noun, noun) == 0)
                strbuf_addf(&verbs, ", %s", word->verb);
        fprintf(stream, "  %-11s  ", noun);
        print_wrapped(stream, strbuf_string(&verbs), 15);
    }
}

void help_all(FILE *stream)
{
    fputs("gluster-block: block volumes on replicated GlusterFS volumes, served by blockd\n\n"
          "Two command lines are one program here, and work on the same objects.\n\n"
          "NOUN VERB: every object that blockd keeps and everything that can be done to it\n"
          "  gluster-block NOUN VERB [NAME]... [OPTION]...\n",
          stream);
    print_nouns(stream);
    fputs("\nCOMMAND: as gluster-block has always had it, with the same replies, for scripts and heketi\n"
          "  gluster-block [timeout SECONDS] COMMAND ... [--json|--json-plain|--json-spaced|--json-pretty]\n",
          stream);
    for (const struct classic_command *command = classic_commands; command->word; command++)
        fprintf(stream, "  %-9s  %s\n", command->word, command->help);
    fputs("\n\"create\" makes a block with its exports in one step and allocates its space at once; \"block "
          "create\"\n"
          "makes a thin block, and \"export create\" exports it. What one made the other shows, changes and "
          "deletes.\n"
          "\nMore words:\n",
          stream);
    print_words(stream, help_words, 28);
    fputs("\nOptions of all commands:\n", stream);
    print_words(stream, help_global_options, 28);
    fputs(
        "\nHelp of one: gluster-block help NOUN, gluster-block help NOUN VERB, gluster-block help COMMAND\n",
        stream);
}

/* ---- One noun, one command ---- */

void help_noun(FILE *stream, const char *noun)
{
    size_t count;
    const struct command *commands = command_all(&count);
    fprintf(stream, "gluster-block %s: commands\n\n", noun);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(commands[i].noun, noun) != 0)
            continue;
        autofree char *synopsis = command_synopsis(&commands[i]);
        fprintf(stream, "  %s\n      %s\n", synopsis, commands[i].help);
    }
    for (const struct noun_word *word = noun_words; word->noun; word++)
        if (strcmp(word->noun, noun) == 0)
            fprintf(stream, "  gluster-block %s %s %s\n      %s\n", word->noun, word->verb, word->syntax,
                    word->help);
    fprintf(stream, "\nOptions of one: gluster-block help %s VERB\n", noun);
}

void help_command(FILE *stream, const struct command *command)
{
    struct command_shape shape cleanup(command_shape_clear) = {0};
    command_shape(command, &shape);
    autofree char *synopsis = command_synopsis(command);
    fprintf(stream, "%s\n\nUsage: %s\n", command->help, synopsis);

    bool heading = false;
    for (size_t i = 0; i < shape.positional_count; i++) {
        const struct positional *positional = &shape.positionals[i];
        const char *text = positional->default_node ? "Name; without NODE it is of the node that answers"
                           : positional->optional && !positional->fields[0]
                               ? "Only of this one; all if absent"
                           : positional->fields[1] ? positional->fields[1]->help
                           : positional->fields[0] ? positional->fields[0]->help
                                                   : "Name";
        if (!heading)
            fputs("\nWords:\n", stream);
        heading = true;
        print_term(stream, positional->label, 28, text);
    }
    if (shape.option_count)
        fputs("\nOptions:\n", stream);
    for (size_t i = 0; i < shape.option_count; i++) {
        const struct command_option *option = &shape.options[i];
        autofree char *term = option->value ? xasprintf("--%s %s", option->name, option->value)
                                            : xasprintf("--%s", option->name);
        print_term(stream, term, 28, option->help);
    }
}

static void print_options(FILE *stream, const struct classic_option *options)
{
    if (options)
        fputs("\nOptions:\n", stream);
    for (const struct classic_option *option = options; option && option->word; option++) {
        autofree char *term =
            xasprintf("%s%s%s", option->word, option->value ? " " : "", option->value ? option->value : "");
        print_term(stream, term, 28, option->help);
    }
}

void help_noun_word(FILE *stream, const struct noun_word *word)
{
    fprintf(stream, "%s\n\nUsage: gluster-block %s %s %s\n", word->help, word->noun, word->verb,
            word->syntax);
    print_options(stream, word->options);
}

void help_classic(FILE *stream, const struct classic_command *command)
{
    fprintf(stream, "%s\n\nUsage: gluster-block [timeout SECONDS] %s %s [--json]\n", command->help,
            command->word, command->syntax);
    print_options(stream, command->options);
}

/* ---- The words ---- */

/* What has a single word of its own: `uri`, `version`. */
static const struct help_word *find_word(const char *word)
{
    for (const struct help_word *known = help_words; known->word; known++)
        if (strcmp(known->word, word) == 0)
            return known;
    return NULL;
}

int help_run(struct cli *cli, int argc, char **argv)
{
    int used;
    const struct command *command = argc > 0 ? command_take(argc, argv, &used) : NULL;
    const struct noun_word *verb = argc > 1 ? noun_word_find(argv[0], argv[1]) : NULL;
    const struct help_word *word = argc > 0 ? find_word(argv[0]) : NULL;
    if (argc == 0)
        help_all(cli->out);
    else if (command)
        help_command(cli->out, command);
    else if (verb)
        help_noun_word(cli->out, verb);
    else if (command_is_noun(argv[0]))
        help_noun(cli->out, argv[0]);
    else if (classic_find(argv[0]))
        help_classic(cli->out, classic_find(argv[0]));
    else if (word)
        fprintf(cli->out, "%s\n\nUsage: gluster-block %s%s%s\n", word->help, word->word,
                *word->syntax ? " " : "", word->syntax);
    else {
        fprintf(cli->err, "gluster-block: there is no help for \"%s\"\n", argv[0]);
        return STATUS_UNKNOWN_COMMAND;
    }
    return 0;
}

/* ---- What was meant ---- */

/* The number of letters to insert, drop or replace, by rows of the classic table. */
static size_t distance(const char *a, const char *b)
{
    size_t length = strlen(b);
    size_t *row cleanup(cleanup_free) = xcalloc(length + 1, sizeof *row);
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t above = row[j];
            size_t least = corner + (a[i - 1] != b[j - 1]);
            if (above + 1 < least)
                least = above + 1;
            if (row[j - 1] + 1 < least)
                least = row[j - 1] + 1;
            row[j] = least;
            corner = above;
        }
    }
    return row[length];
}

int help_unknown(struct cli *cli, const char *what, const char *word, const struct string_list *known)
{
    const char *nearest = NULL;
    size_t least = strlen(word) < 5 ? 2 : 3; /* of a short word two other letters make any word */
    for (size_t i = 0; strlen(word) < 32 && i < known->count; i++) {
        size_t far = distance(word, known->items[i]);
        if (far < least && far < strlen(word)) {
            least = far;
            nearest = known->items[i];
        }
    }
    fprintf(cli->err, "gluster-block: there is no command \"%s%.64s\"", what, word);
    if (nearest)
        fprintf(cli->err, "; did you mean \"%s%s\"?", what, nearest);
    fprintf(cli->err, "\nAll commands: gluster-block help\n");
    return STATUS_UNKNOWN_COMMAND;
}
