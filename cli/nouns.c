/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The new nouns: one way to run every command that the API table offers. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define RECONNECT_MS    500
#define BAR_APPEARS     1  /* seconds that a terminal waits in silence, before it shows what goes on */
#define PATIENCE_NOWAIT 30 /* seconds to repeat a broken call that waits for nothing */

static int usage(struct cli *cli, const struct command *command, const struct error *error)
{
    complain(cli, error);
    autofree char *synopsis = command_synopsis(command);
    fprintf(cli->err, "Usage: %s\nMore: gluster-block help %s%s%s\n", synopsis, command->noun,
            command->verb ? " " : "", command->verb ? command->verb : "");
    return STATUS_USAGE;
}

/* ---- Reading ---- */

static int show(struct cli *cli, const struct command *command, const struct arguments *arguments)
{
    autoerror struct error *error = NULL;
    autofree char *path = arguments_path(arguments);
    json_t *reply cleanup(json_decrefp) = NULL;
    int r = client_get(cli, path, &reply, &error);
    if (r < 0)
        return cli_fail(cli, r, error);
    if (cli->json)
        print_json(cli->out, cli->json, reply);
    else if (arguments->route->response_kind == RESPONSE_LIST)
        print_table(cli->out, command_kind(command), json_object_get(reply, "items"));
    else
        print_object(cli->out, arguments->route->response, reply);
    return 0;
}

/* ---- Watching ---- */

struct watch {
    struct cli *cli;
    enum object_kind kind;
    uint64_t revision; /* of the last change that was seen */
    bool heard;        /* something came since the stream began */
};

static int emit(void *data, const json_t *change)
{
    struct watch *watch = data;
    struct cli *cli = watch->cli;
    uint64_t revision = json_number(change, "revision");
    if (revision > watch->revision)
        watch->revision = revision;
    watch->heard = true;
    if (cli->json)
        print_json(cli->out, cli->json == JSON_STYLE_PRETTY ? JSON_STYLE_PLAIN : cli->json, change);
    else
        print_change(cli->out, watch->kind, change);
    return fflush(cli->out) != 0;
}

/* What is there now, in the form of changes. */
static int emit_present(struct watch *watch, struct arguments *arguments, struct error **ret_error)
{
    json_object_del(arguments->query, "watch");
    json_object_del(arguments->query, "after");
    autofree char *path = arguments_path(arguments);
    json_t *reply cleanup(json_decrefp) = NULL;
    int r = client_get(watch->cli, path, &reply, ret_error);
    if (r < 0)
        return r;
    size_t index;
    json_t *item;
    json_array_foreach(json_object_get(reply, "items"), index, item)
    {
        autofree char *key = object_key(watch->kind, json_text(item, "name"));
        json_t *change cleanup(json_decrefp) =
            json_pack("{s:s, s:s, s:O?, s:O}", "type", "put", "key", key, "revision",
                      json_object_get(item, "revision"), "object", item);
        if (emit(watch, change) != 0)
            return 0;
    }
    watch->revision = json_number(reply, "revision");
    return 0;
}

static int follow(struct watch *watch, struct arguments *arguments, struct error **ret_error)
{
    autofree char *from = xasprintf("%llu", (unsigned long long)watch->revision);
    json_object_set_new(arguments->query, "watch", json_string("1"));
    json_object_set_new(arguments->query, "after", json_string(from));
    autofree char *path = arguments_path(arguments);
    watch->heard = false;
    return client_watch(watch->cli, path, 0, emit, watch, ret_error);
}

/*
 * Until the user ends it, standard output does, or the daemon refuses. A restart of the daemon is passed
 * over; a stream that ends without a word means that changes were missed, so that the list is read again.
 */
static int watch_list(struct cli *cli, const struct command *command, struct arguments *arguments)
{
    autoerror struct error *error = NULL;
    struct watch watch = {.cli = cli, .kind = command_kind(command)};
    const char *after = json_text(arguments->query, "after");
    bool present = !*after;
    watch.revision = strtoull(after, NULL, 10);
    while (!ferror(cli->out)) {
        error_free(steal_ptr(&error));
        int r = present ? emit_present(&watch, arguments, &error) : 0;
        if (r == 0)
            r = follow(&watch, arguments, &error);
        if (r < 0 && (!cli->no_answer || watch.revision == 0))
            return cli_fail(cli, r, error);
        present = r == 0 && !watch.heard;
        poll(NULL, 0, RECONNECT_MS);
    }
    return 0;
}

/* ---- Changing ---- */

static bool is_delete(const struct command *command)
{
    return strcmp(command->route->method, "DELETE") == 0;
}

static int failed_object(enum object_kind kind, const json_t *object, struct error **ret_error)
{
    const char *cause = json_text(object, "status.error");
    return error_set(ret_error, EIO, "%s %s has failed: %s", object_types[kind].word,
                     json_text(object, "name"), *cause ? cause : "blockd does not say why");
}

/* Waits for what the reply says to have been begun. *object becomes the newest state,
 * NULL when it is gone. */
static int await(struct cli *cli, const struct command *command, const struct arguments *arguments,
                 int64_t deadline, json_t **object, struct error **ret_error)
{
    enum object_kind kind = command_kind(command);
    if (kind == KIND_COUNT || arguments->no_wait)
        return 0;
    autofree char *name = xstrdup(json_text(*object, "name"));
    if (is_delete(command) && kind != KIND_JOB) {
        int r = settle_gone(cli, kind, arguments->name, deadline, ret_error);
        if (r == 0) {
            json_decref(*object);
            *object = NULL;
        }
        return r;
    }
    if (!*name) { /* an empty answer: it is gone */
        json_decref(*object);
        *object = NULL;
        return 0;
    }
    int r = settle_wait(cli, kind, name, deadline, object, ret_error);
    if (r == 0 && *object && (kind != KIND_JOB || !is_delete(command)) &&
        object_settled(*object) == SETTLED_FAILED)
        r = failed_object(kind, *object, ret_error);
    return r;
}

/* A deletion that archives says under which name. */
static void report_archived(struct cli *cli, const struct arguments *arguments, const json_t *reply)
{
    const char *as = json_text(reply, "spec.archive_as");
    if (json_is_true(json_at(reply, "spec.archived")))
        fprintf(cli->out, "its files are kept as share %s\n", json_text(reply, "name"));
    else if (*as)
        fprintf(cli->out, "its files are kept as share %.*s/%s\n", (int)strcspn(arguments->name, "/"),
                arguments->name, as);
}

static void report(struct cli *cli, const struct command *command, const struct arguments *arguments,
                   const json_t *reply, const json_t *object)
{
    enum object_kind kind = command_kind(command);
    if (cli->json) {
        print_json(cli->out, cli->json, object ? object : reply);
        return;
    }
    if (kind == KIND_COUNT && command->route->response) {
        print_object(cli->out, command->route->response, reply);
        return;
    }
    const char *name = json_text(object, "name");
    const char *phase = object ? json_text(object, "status.phase") : "gone";
    if (is_delete(command) && object && kind != KIND_JOB)
        phase = "going";
    /* What is told to stop is online a moment longer. */
    bool still = arguments->no_wait && object && *json_text(object, "spec.state") && *phase &&
                 object_settled(object) == SETTLED_NOT_YET;
    fprintf(cli->out, "%s %s: %s%s\n", kind == KIND_COUNT ? command->noun : object_types[kind].word,
            *name             ? name
            : arguments->name ? arguments->name
                              : "",
            still ? "recorded, still " : "", *phase ? phase : "pending");
    if (is_delete(command) && !object)
        report_archived(cli, arguments, reply);
    if (kind == KIND_DEVICE && *json_text(object, "spec.given_path"))
        fprintf(cli->out, "%s is known as %s from now on\n", json_text(object, "spec.given_path"),
                json_text(object, "spec.path"));
}

/* Of what a command did to several things, did it fail with one? */
static bool failed_partly(const json_t *reply)
{
    size_t index;
    json_t *item;
    json_array_foreach(json_object_get(reply, "files"), index,
                       item) if (strcmp(json_text(item, "state"), "failed") == 0) return true;
    return false;
}

static bool is_dry_run(const struct arguments *arguments)
{
    const char *word = json_text(arguments->query, "dry_run");
    return *word && strcmp(word, "0") != 0 && strcmp(word, "false") != 0;
}

static int show_plan(struct cli *cli, const json_t *plan)
{
    size_t index;
    json_t *line;
    if (cli->json)
        print_json(cli->out, cli->json, plan);
    else
        json_array_foreach(json_object_get(plan, "text"), index, line)
            fprintf(cli->out, "%s\n", json_string_value(line));
    return 0;
}

static int change(struct cli *cli, const struct command *command, const struct arguments *arguments)
{
    autoerror struct error *error = NULL;
    autofree char *path = arguments_path(arguments);
    int64_t deadline = deadline_after(arguments->wait);
    struct client_change request = {.method = command->route->method,
                                    .path = path,
                                    .body = arguments->body,
                                    .wait = arguments->wait,
                                    .at_once = !command->route->query,
                                    .patience = arguments->no_wait ? PATIENCE_NOWAIT : arguments->wait};
    if (cli->terminal && request.wait > BAR_APPEARS)
        request.wait = BAR_APPEARS;
    json_t *reply cleanup(json_decrefp) = NULL;
    int r = client_change(cli, &request, &reply, &error);
    if (r < 0)
        return cli_fail(cli, r, error);
    if (is_dry_run(arguments))
        return show_plan(cli, reply);

    json_t *object cleanup(json_decrefp) = json_incref(reply);
    if (!is_delete(command) && command_kind(command) != KIND_COUNT)
        r = settle_resolve(cli, command_kind(command), &object, &error);
    if (r == 0)
        r = await(cli, command, arguments, deadline, &object, &error);
    if (r < 0 && r != -ETIMEDOUT)
        return cli_fail(cli, r, error);
    report(cli, command, arguments, reply, object);
    if (r < 0)
        return cli_fail(cli, r, error);
    return failed_partly(reply) ? client_exit_status(cli, -EIO) : 0;
}

/* ---- Dispatch ---- */

static int run_command(struct cli *cli, const struct command *command, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (help_asked(argv[i]) && argv[i][0] == '-') {
            help_command(cli->out, command);
            return 0;
        }
    struct arguments arguments cleanup(arguments_clear) = {0};
    autoerror struct error *error = NULL;
    int r = arguments_parse(cli, command, argc, argv, &arguments, &error);
    if (r < 0)
        return cli->no_answer ? cli_fail(cli, r, error) : usage(cli, command, error);
    if (command->route->op == API_STATUS)
        return status_run(cli);
    if (command->route->op == API_EXAMINE)
        return examine_run(cli, &arguments);
    if (command->route->op == API_CERTIFICATE_SIGN || command->route->op == API_CERTIFICATE_REVOKE)
        return certificate_run(cli, &arguments);
    if (command->route->op == API_DEVICE_ADOPT)
        return adopt_run(cli, &arguments);
    if (strcmp(command->route->method, "GET") != 0)
        return change(cli, command, &arguments);
    return arguments.watch ? watch_list(cli, command, &arguments) : show(cli, command, &arguments);
}

/* Of "heal info" and "heal start" known below "heal ", the second words. */
static void add_verb(struct string_list *known, const char *verb, const char *first)
{
    size_t length = strlen(first);
    if (!length)
        string_list_add(known, verb);
    else if (strncmp(verb, first, length) == 0 && verb[length] == ' ')
        string_list_add(known, verb + length + 1);
}

static void known_verbs(const char *noun, const char *first, struct string_list *known)
{
    size_t count;
    const struct command *commands = command_all(&count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(commands[i].noun, noun) == 0)
            add_verb(known, commands[i].verb, first);
    for (const struct noun_word *word = noun_words; word->noun; word++)
        if (strcmp(word->noun, noun) == 0)
            add_verb(known, word->verb, first);
}

static int unknown_verb(struct cli *cli, const char *noun, const char *verb, const char *second)
{
    autostring_list struct string_list known = {0}, below = {0};
    known_verbs(noun, "", &known);
    known_verbs(noun, verb, &below);
    if (!below.count) {
        autofree char *what = xasprintf("%s ", noun);
        return help_unknown(cli, what, verb, &known);
    }
    if (second) {
        autofree char *what = xasprintf("%s %s ", noun, verb);
        return help_unknown(cli, what, second, &below);
    }
    fprintf(cli->err, "gluster-block: %s %s takes one more word:", noun, verb);
    for (size_t i = 0; i < below.count; i++)
        fprintf(cli->err, "%s %s", i ? "," : "", below.items[i]);
    fprintf(cli->err, "\nMore: gluster-block help %s\n", noun);
    return STATUS_USAGE;
}

int nouns_run(struct cli *cli, int argc, char **argv)
{
    const char *noun = argv[0];
    int used;
    const struct command *command = command_take(argc, argv, &used);
    if (command)
        return run_command(cli, command, argc - used, argv + used);
    if (argc < 2) {
        help_noun(cli->err, noun);
        return STATUS_USAGE;
    }
    if (help_asked(argv[1])) {
        help_noun(cli->out, noun);
        return 0;
    }
    const struct noun_word *word = noun_word_find(noun, argv[1]);
    if (word && argc > 2 && help_asked(argv[2]) && argv[2][0] == '-') {
        help_noun_word(cli->out, word);
        return 0;
    }
    if (word)
        return word->run(cli, argc - 2, argv + 2);

    return unknown_verb(cli, noun, argv[1], argc > 2 ? argv[2] : NULL);
}
