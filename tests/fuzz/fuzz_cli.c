/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The command line with any words and any answers. The input is "WORDS\nJSON": a command whose words are
 * parsed into a request, which must lead to the command's own route or be refused there for a name; and an
 * answer, which must be shown as any kind of object without harm.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "rpc/base/alloc.h"

#define WORDS_MAX 24

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

/* A path that was made from words goes to the route that it was made for: nothing in a
 * name can change that. */
static void check_request(const struct command *command, const struct arguments *arguments)
{
    autofree char *target = arguments_path(arguments);
    autoerror struct error *error = NULL;
    struct api_match match = {0};
    for (const char *c = target; *c; c++)
        REQUIRE((unsigned char)*c > ' ' && (unsigned char)*c < 0x7f);
    target[strcspn(target, "?")] = '\0';
    int r = api_route_find(command->route->method, target, &match, &error);
    REQUIRE(r == 0 ? match.route == arguments->route : r == -EINVAL || r == -ENOENT);
    api_match_clear(&match);
    if (arguments->body) {
        autofree char *body = json_dumps(arguments->body, JSON_COMPACT);
        REQUIRE(body);
    }
}

static void parse_words(struct cli *cli, char *line)
{
    char *argv[WORDS_MAX + 1] = {NULL}, *place = NULL;
    int argc = 0;
    for (char *word = strtok_r(line, " ", &place); word && argc < WORDS_MAX;
         word = strtok_r(NULL, " ", &place))
        argv[argc++] = word;
    if (argc == 0)
        return;
    const struct command *command = command_find(argv[0], argc > 1 ? argv[1] : NULL);
    if (!command)
        return;
    autoerror struct error *error = NULL;
    struct arguments arguments;
    int r = arguments_parse(cli, command, argc - 2, argv + 2, &arguments, &error);
    if (r < 0) {
        REQUIRE(error);
        return;
    }
    check_request(command, &arguments);
    arguments_clear(&arguments);
}

static void show_answer(struct cli *cli, const json_t *json)
{
    autoerror struct error *error = NULL;
    api_error_decode(json, 500, &error);
    REQUIRE(error);
    complain(cli, error);
    object_settled(json);
    for (enum object_kind kind = 0; kind < KIND_COUNT; kind++) {
        print_object(cli->out, object_types[kind].schema, json);
        print_table(cli->out, kind, json_object_get(json, "items"));
        print_change(cli->out, kind, json);
    }
    for (enum json_style style = JSON_STYLE_SPACED; style <= JSON_STYLE_PRETTY; style++) {
        char *text = NULL;
        size_t size;
        FILE *stream = open_memstream(&text, &size);
        print_json(stream, style, json);
        fclose(stream);
        json_t *again = json_loads(text, JSON_DECODE_ANY, NULL);
        REQUIRE(again && json_equal(again, json));
        json_decref(again);
        free(text);
    }
    json_decref(classic_portals(json_object_get(json, "items")));
    json_decref(classic_iqn(json));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cli cli;
    if (!cli.out) {
        cli.out = cli.err = fopen("/dev/null", "w");
        cli.socket_option = "/nonexistent/socket";
    }
    autofree char *text = xstrndup((const char *)data, size);
    char *body = strchr(text, '\n');
    if (body)
        *body++ = '\0';
    json_t *json cleanup(json_decrefp) = body ? json_loads(body, JSON_DECODE_ANY, NULL) : NULL;
    if (json)
        show_answer(&cli, json);
    parse_words(&cli, text);
    cli_clear(&cli);
    return 0;
}
