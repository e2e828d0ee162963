/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * generate-man FILE...: writes the parts of manual pages, and of the example configuration, that come from
 * tables in the programs. Such a part stands between the comments `generated: NAME` and `end`, and is
 * replaced; the rest of a file is left as it is. With --check nothing is written, and the exit status is 1
 * when a file is out of date.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "man/parts.h"
#include "rpc/base/files.h"
#include "rpc/base/alloc.h"

#define PAGE_LIMIT (4u << 20)

/* How comments begin, by the end of a file's name. */
static const struct format {
    const char *suffix, *begin, *end;
} formats[] = {
    {".conf", "# generated: ", "# end\n"},
    {"", ".\\\" generated: ", ".\\\" end\n"},
};

static const struct {
    const char *name;
    void (*write)(FILE *stream);
} parts[] = {
    {"nouns", manual_nouns},
    {"classic", manual_classic},
    {"words", manual_words},
    {"options", manual_options},
    {"config-keys", manual_config_keys},
    {"config-example", manual_config_example},
};

static int write_part(const char *name, FILE *stream, struct error **ret_error)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(parts[i].name, name) == 0) {
            parts[i].write(stream);
            return 0;
        }
    return error_set(ret_error, EINVAL, "nothing is generated under the name \"%s\"", name);
}

static const struct format *format_of(const char *path)
{
    const struct format *format = formats;
    size_t length = strlen(path);
    while (strlen(format->suffix) > length ||
           strcmp(path + length - strlen(format->suffix), format->suffix) != 0)
        format++;
    return format;
}

/* The page with its parts made anew. The caller's. */
static int generate(const struct format *format, const char *page, char **ret_text, struct error **ret_error)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    int r = 0;
    const char *begin;
    while (r == 0 && (begin = strstr(page, format->begin))) {
        const char *line_end = strchr(begin, '\n'), *end = line_end ? strstr(line_end, format->end) : NULL;
        if (!end) {
            r = error_set(ret_error, EINVAL, "a generated part has no end");
            break;
        }
        autofree char *name =
            xstrndup(begin + strlen(format->begin), (size_t)(line_end - begin) - strlen(format->begin));
        fwrite(page, 1, (size_t)(line_end + 1 - page), stream);
        r = write_part(name, stream, ret_error);
        page = end;
    }
    fputs(page, stream);
    fclose(stream);
    if (r < 0)
        free(text);
    else
        *ret_text = text;
    return r;
}

static int refresh(const char *path, bool check, struct error **ret_error)
{
    autofree char *page = NULL, *text = NULL;
    size_t length;
    int r = file_read(path, PAGE_LIMIT, &page, &length, ret_error);
    if (r == 0)
        r = generate(format_of(path), page, &text, ret_error);
    if (r < 0 || strcmp(page, text) == 0)
        return r;
    if (check)
        return error_set(ret_error, ESTALE, "it is out of date: run make man");
    return file_write_atomic(path, text, 0644, ret_error);
}

int main(int argc, char **argv)
{
    int status = 0;
    bool check = argc > 1 && strcmp(argv[1], "--check") == 0;
    for (int i = check ? 2 : 1; i < argc; i++) {
        autoerror struct error *error = NULL;
        if (refresh(argv[i], check, &error) < 0) {
            fprintf(stderr, "generate-man: %s: %s\n", argv[i], error_message(error));
            status = 1;
        }
    }
    return status;
}
