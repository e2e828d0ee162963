/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * certificate issue, sign and revoke. A key is made where it is used and stays there: only the request goes
 * to blockd. The files have the names that libnbd and QEMU look for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/certificates.h"
#include "rpc/pki.h"

#define PATIENCE 60 /* seconds to go on when the connection breaks */

static int ask(struct cli *cli, const char *path, json_t *body, json_t **ret_reply, struct error **ret_error)
{
    struct client_change request = {
        .method = "POST", .path = path, .body = body, .patience = PATIENCE, .at_once = true};
    return client_change(cli, &request, ret_reply, ret_error);
}

/* ---- From the API's table ---- */

/* The word is a file's name, but where a script gives the text itself. */
static int read_request(json_t *body, struct error **ret_error)
{
    const char *word = json_text(body, "request");
    autofree char *text = NULL;
    if (!*word || strstr(word, "-----BEGIN"))
        return 0;
    int r = file_read(strcmp(word, "-") == 0 ? "/dev/stdin" : word, PKI_TEXT_MAX, &text, NULL, ret_error);
    if (r == 0)
        json_object_set_new(body, "request", json_string_lossy(text));
    return r;
}

int certificate_run(struct cli *cli, const struct arguments *arguments)
{
    autoerror struct error *error = NULL;
    json_t *reply cleanup(json_decrefp) = NULL;
    autofree char *path = arguments_path(arguments);
    int r = read_request(arguments->body, &error);
    if (r == 0)
        r = ask(cli, path, arguments->body, &reply, &error);
    if (r < 0)
        return cli_fail(cli, r, error);
    if (cli->json)
        print_json(cli->out, cli->json, reply);
    else if (arguments->route->op == API_CERTIFICATE_SIGN)
        fputs(json_text(reply, "certificate"), cli->out);
    else if (*json_text(reply, "name"))
        fprintf(cli->out, "certificate %s of %s: revoked\n", json_text(reply, "serial"),
                json_text(reply, "name"));
    else
        fprintf(cli->out,
                "certificate %s: revoked, though no certificate of that number is known; those that are: "
                "gluster-block "
                "certificate list\n",
                json_text(reply, "serial"));
    return 0;
}

/* ---- issue ---- */

struct issue_words {
    const char *name, *folder, *role, *days; /* borrowed */
    json_t *hosts;
};

static void issue_words_clear(struct issue_words *words)
{
    json_decref(words->hosts);
}

static int take_option(struct issue_words *words, const char *option, const char *value,
                       struct error **ret_error)
{
    if (!value)
        return error_set(ret_error, EINVAL, "%.64s needs a value", option);
    if (strcmp(option, "--role") == 0)
        words->role = value;
    else if (strcmp(option, "--days") == 0)
        words->days = value;
    else if (strcmp(option, "--host") == 0)
        json_array_append_new(words->hosts, json_string(value));
    else
        return error_set(ret_error, EINVAL, "there is no option %.64s here", option);
    return 0;
}

static int parse_issue(int argc, char **argv, struct issue_words *words, struct error **ret_error)
{
    words->hosts = json_array();
    words->role = "client";
    words->days = "365";
    int r = 0;
    for (int i = 0; i < argc && r == 0; i++) {
        if (argv[i][0] == '-') {
            r = take_option(words, argv[i], i + 1 < argc ? argv[i + 1] : NULL, ret_error);
            i++;
        } else if (!words->name) {
            words->name = argv[i];
        } else if (!words->folder) {
            words->folder = argv[i];
        } else {
            r = error_set(ret_error, EINVAL, "\"%.64s\" is one word too many", argv[i]);
        }
    }
    size_t digits = strspn(words->days, "0123456789");
    if (r == 0 && (!digits || digits > 6 || words->days[digits]))
        r = error_set(ret_error, EINVAL, "--days needs a number of days");
    if (r == 0 && !words->folder)
        r = error_set(ret_error, EINVAL, words->name ? "FOLDER is missing" : "NAME is missing");
    return r;
}

/* A certificate that is renewed keeps its key. */
static int need_key(const char *folder, char **ret_key, struct error **ret_error)
{
    autofree char *path = xasprintf("%s/client-key.pem", folder);
    if (access(path, F_OK) == 0)
        return file_read(path, PKI_TEXT_MAX, ret_key, NULL, ret_error);
    autofree char *key = NULL;
    int r = folder_make(folder, 0700, ret_error);
    if (r == 0)
        r = pki_key_make(&key, ret_error);
    if (r == 0)
        r = file_write_atomic(path, key, 0600, ret_error);
    if (r == 0)
        *ret_key = steal_ptr(&key);
    return r;
}

static int write_reply(const char *folder, const json_t *reply, struct error **ret_error)
{
    static const char *const files[][2] = {{"authority", "ca-cert.pem"}, {"certificate", "client-cert.pem"}};
    int r = 0;
    for (size_t i = 0; i < 2 && r == 0; i++) {
        autofree char *path = xasprintf("%s/%s", folder, files[i][1]);
        r = file_write_atomic(path, json_text(reply, files[i][0]), 0644, ret_error);
    }
    return r;
}

static int issue(struct cli *cli, const struct issue_words *words, json_t **ret_reply,
                 struct error **ret_error)
{
    autofree char *key = NULL, *request = NULL;
    int r = pki_name_check(words->name, ret_error);
    if (r == 0)
        r = need_key(words->folder, &key, ret_error);
    if (r == 0)
        r = pki_request_make(key, words->name, &request, ret_error);
    if (r < 0)
        return r;
    json_t *body cleanup(json_decrefp) =
        json_pack("{s:s, s:s, s:s, s:O, s:I}", "name", words->name, "role", words->role, "request", request,
                  "hosts", words->hosts, "days", (json_int_t)strtoll(words->days, NULL, 10));
    r = ask(cli, "/v1/certificates", body, ret_reply, ret_error);
    return r < 0 ? r : write_reply(words->folder, *ret_reply, ret_error);
}

int certificate_issue(struct cli *cli, int argc, char **argv)
{
    struct issue_words words cleanup(issue_words_clear) = {0};
    autoerror struct error *error = NULL;
    json_t *reply cleanup(json_decrefp) = NULL;
    if (parse_issue(argc, argv, &words, &error) < 0)
        return noun_word_usage(cli, "certificate", "issue", error);
    int r = issue(cli, &words, &reply, &error);
    if (r < 0)
        return cli_fail(cli, r, error);
    if (cli->json)
        print_json(cli->out, cli->json, reply);
    else
        fprintf(cli->out, "certificate %s: serial number %s, good until %s; its files are in %s\n",
                words.name, json_text(reply, "serial"), json_text(reply, "expires"), words.folder);
    return 0;
}

const struct classic_option certificate_issue_options[] = {
    {"--role", "ROLE", "client (uses volumes only) if absent; admin, csi or metrics"},
    {"--days", "N", "How long it is good; 365 if absent"},
    {"--host", "HOST", "A DNS name or address that it also stands for; may be repeated"},
    {NULL, NULL, NULL},
};
