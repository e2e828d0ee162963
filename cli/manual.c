/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The parts of gluster-block(8) that the tables know, as mdoc(7). */
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"

/* Text on a line of its own: a "." or "'" at its beginning, and backslashes, would be macros. */
static void put_text(FILE *stream, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stream);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", stream);
        else
            fputc(*text, stream);
    }
}

/* Words after a macro: punctuation alone, and what looks like a macro, is text there. */
static void put_words(FILE *stream, const char *text)
{
    autostring_list struct string_list words = {0};
    string_list_split(&words, text, ' ');
    for (size_t i = 0; i < words.count; i++) {
        const char *word = words.items[i];
        fputs(i ? " " : "", stream);
        if (strlen(word) <= 2)
            fputs("\\&", stream);
        put_text(stream, word);
    }
}

static void put_sentence(FILE *stream, const char *text)
{
    put_text(stream, text);
    fputs(text[strlen(text) - 1] == '.' ? "\n" : ".\n", stream);
}

static void put_option(FILE *stream, const struct command_option *option)
{
    fprintf(stream, ".It Fl -%s", option->name);
    if (option->value) {
        fputs(" Ar ", stream);
        put_words(stream, option->value);
    }
    fputc('\n', stream);
    put_sentence(stream, option->help);
}

/* ---- The nouns ---- */

/* Is it an option that every list, or every change, takes? */
static bool is_common(const struct command *command, const struct command_option *option)
{
    const struct schema *common =
        command->route->response_kind == RESPONSE_LIST ? &list_query_schema : &change_query_schema;
    if (!option->field)
        return true;
    if (common == &change_query_schema && strcmp(command->route->method, "GET") == 0)
        return false;
    for (const struct field *field = common->fields; field->name; field++)
        if (strcmp(field->name, option->field->name) == 0)
            return true;
    return false;
}

static void put_command(FILE *stream, const struct command *command)
{
    struct command_shape shape cleanup(command_shape_clear) = {0};
    command_shape(command, &shape);
    fprintf(stream, ".It Cm %s%s%s", command->noun, command->verb ? " " : "",
            command->verb ? command->verb : "");
    for (size_t i = 0; i < shape.positional_count; i++)
        fprintf(stream, shape.positionals[i].optional ? " Op Ar %s" : " Ar %s", shape.positionals[i].label);
    fputc('\n', stream);
    put_sentence(stream, command->help);

    bool listed = false;
    for (size_t i = 0; i < shape.option_count; i++) {
        /* What every list or every change takes is said once, below. */
        const struct command_option *option = &shape.options[i];
        if (option->in_query && is_common(command, option))
            continue;
        if (!listed)
            fputs(".Bl -tag -width Ds -compact\n", stream);
        listed = true;
        put_option(stream, option);
    }
    if (listed)
        fputs(".El\n", stream);
}

static void put_noun_word(FILE *stream, const struct noun_word *word)
{
    fprintf(stream, ".It Cm %s %s Ar ", word->noun, word->verb);
    put_words(stream, word->syntax);
    fputc('\n', stream);
    put_sentence(stream, word->help);
    fputs(".Bl -tag -width Ds -compact\n", stream);
    for (const struct classic_option *option = word->options; option->word; option++) {
        fprintf(stream, ".It Fl %s", option->word + 1);
        if (option->value) {
            fputs(" Ar ", stream);
            put_words(stream, option->value);
        }
        fputc('\n', stream);
        put_sentence(stream, option->help);
    }
    fputs(".El\n", stream);
}

static void put_query(FILE *stream, const char *noun, const char *verb)
{
    struct command_shape shape cleanup(command_shape_clear) = {0};
    command_shape(command_find(noun, verb), &shape);
    fputs(".Bl -tag -width Ds -compact\n", stream);
    for (size_t i = 0; i < shape.option_count; i++)
        if (shape.options[i].in_query)
            put_option(stream, &shape.options[i]);
    fputs(".El\n", stream);
}

void manual_nouns(FILE *stream)
{
    size_t count;
    const struct command *commands = command_all(&count);
    fputs(".Bl -tag -width Ds\n", stream);
    for (size_t i = 0; i < count; i++) {
        put_command(stream, &commands[i]);
        bool last = i + 1 == count || strcmp(commands[i].noun, commands[i + 1].noun) != 0;
        for (const struct noun_word *word = noun_words; last && word->noun; word++)
            if (strcmp(word->noun, commands[i].noun) == 0)
                put_noun_word(stream, word);
    }
    fputs(".El\n.Pp\nEvery\n.Cm list\ntakes:\n.Pp\n", stream);
    put_query(stream, "block", "list");
    fputs(".Pp\nEvery command that changes a node, device, volume, block, share, export or job takes:\n.Pp\n",
          stream);
    put_query(stream, "volume", "delete");
}

/* ---- The classic commands, and the rest ---- */

void manual_classic(FILE *stream)
{
    fputs(".Bl -tag -width Ds\n", stream);
    for (const struct classic_command *command = classic_commands; command->word; command++) {
        fprintf(stream, ".It Cm %s", command->word);
        fputs(" Ar ", stream);
        put_words(stream, command->syntax);
        fputc('\n', stream);
        put_sentence(stream, command->help);
        if (!command->options)
            continue;
        fputs(".Bl -tag -width Ds -compact\n", stream);
        for (const struct classic_option *option = command->options; option->word; option++) {
            fprintf(stream, ".It Cm %s", option->word);
            if (option->value) {
                fputs(" Ar ", stream);
                put_words(stream, option->value);
            }
            fputc('\n', stream);
            put_sentence(stream, option->help);
        }
        fputs(".El\n", stream);
    }
    fputs(".El\n", stream);
}

static void put_help_words(FILE *stream, const struct help_word *words, const char *macro, size_t skip)
{
    fputs(".Bl -tag -width Ds\n", stream);
    for (; words->word; words++) {
        fprintf(stream, ".It %s %s", macro, words->word + skip);
        if (*words->syntax) {
            fputs(" Ar ", stream);
            put_words(stream, words->syntax);
        }
        fputc('\n', stream);
        put_sentence(stream, words->help);
    }
    fputs(".El\n", stream);
}

void manual_words(FILE *stream)
{
    put_help_words(stream, help_words, "Cm", 0);
}

void manual_options(FILE *stream)
{
    put_help_words(stream, help_global_options, "Fl", 1);
}
