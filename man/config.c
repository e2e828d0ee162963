/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* blockd.conf(5) and the example file, from the table of keys. */
#include <string.h>

#include "man/parts.h"
#include "rpc/base/sizes.h"
#include "rpc/base/strings.h"
#include "rpc/config.h"

#define HOST_NAME "the host's name up to the first dot"

static bool begins_section(const struct config_key *key)
{
    return key == config_keys || strcmp(key[-1].section, key->section) != 0;
}

static bool ends_section(const struct config_key *key)
{
    return !key[1].section || strcmp(key[1].section, key->section) != 0;
}

/* What is allowed, without a full stop; "" when the help says it all. */
static char *describe_values(const struct config_key *key)
{
    const struct field *field = &key->field;
    struct strbuf text = {0};
    char least[SIZE_TEXT_SIZE], most[SIZE_TEXT_SIZE];
    switch (field->type) {
    case FIELD_UINT:
        strbuf_addf(&text, "A number from %llu to %llu", (unsigned long long)field->min,
                    (unsigned long long)field->max);
        break;
    case FIELD_SIZE:
        size_format(field->min, least);
        size_format(field->max, most);
        strbuf_addf(&text, "A size from %s to %s", least, most);
        break;
    case FIELD_BOOL:
        strbuf_adds(&text, "Either yes or no");
        break;
    case FIELD_ENUM:
        for (int i = 0; field->words[i]; i++)
            strbuf_addf(&text, "%s%s",
                        i == 0                ? "One of "
                        : field->words[i + 1] ? ", "
                                              : " and ",
                        field->words[i]);
        break;
    default:
        break;
    }
    return strbuf_steal(&text);
}

/* mdoc wants each sentence on a line of its own. None of the texts has a backslash or begins with a dot. */
static void put_sentences(FILE *stream, const char *text)
{
    for (const char *end; (end = strstr(text, ". ")); text = end + 2)
        fprintf(stream, "%.*s.\n", (int)(end - text), text);
    fprintf(stream, "%s\n", text);
}

static void put_default(FILE *stream, const struct config_key *key)
{
    if (!key->default_text)
        fputs("The default is " HOST_NAME ".\n", stream);
    else if (!*key->default_text)
        fputs("The default is empty.\n", stream);
    else
        fprintf(stream, "The default is\n.Ql %s .\n", key->default_text);
}

void manual_config_keys(FILE *stream)
{
    for (const struct config_key *key = config_keys; key->section; key++) {
        if (begins_section(key))
            fprintf(stream, ".Ss [%s]\\&\n.Bl -tag -width indent\n", key->section);
        fprintf(stream, ".It Cm %s\n", key->key);
        put_sentences(stream, key->field.help);
        autofree char *values = describe_values(key);
        if (*values)
            fprintf(stream, "%s.\n", values);
        put_default(stream, key);
        if (ends_section(key))
            fputs(".El\n", stream);
    }
}

void manual_config_example(FILE *stream)
{
    for (const struct config_key *key = config_keys; key->section; key++) {
        if (begins_section(key))
            fprintf(stream, "\n[%s]\n", key->section);
        autofree char *values = describe_values(key);
        fprintf(stream, "\n# %s%s%s%s\n", key->field.help, *values ? " " : "", values, *values ? "." : "");
        if (!key->default_text)
            fputs("# Default: " HOST_NAME ".\n", stream);
        fprintf(stream, "#%s =%s%s\n", key->key, key->default_text && *key->default_text ? " " : "",
                key->default_text ? key->default_text : "");
    }
    fputs("\n", stream);
}
