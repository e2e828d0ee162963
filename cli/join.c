/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * node join: makes this machine a node of a cluster. The token says by which fingerprint the cluster's
 * authority is known, so that its servers can be checked before anything secret goes to them. The node's key
 * is made here and stays here. What was asked for is kept until the answer has been taken over: the token is
 * good for one request, and that may be repeated.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"
#include "rpc/config.h"
#include "rpc/endpoint.h"
#include "rpc/join_token.h"
#include "rpc/pki_files.h"

#define PATIENCE 60 /* seconds to go on when the connection breaks */

struct join {
    const char *where, *token_word, *token_file, *name, *listen; /* words, borrowed */
    struct string_list addresses;
    struct config config;
    char *folder; /* of the certificates */
    char *token_text;
    struct join_token token;
    struct string_list urls;
};

static void join_clear(struct join *join)
{
    string_list_clear(&join->addresses);
    string_list_clear(&join->urls);
    config_clear(&join->config);
    free(join->folder);
    free(join->token_text);
}

/* ---- Words ---- */

static int parse(int argc, char **argv, struct join *join, struct error **ret_error)
{
    const struct {
        const char *word;
        const char **value;
    } options[] = {{"--token", &join->token_word},
                   {"--token-file", &join->token_file},
                   {"--name", &join->name},
                   {"--listen", &join->listen}};
    for (int i = 0; i < argc; i++) {
        bool known = strcmp(argv[i], "--address") == 0;
        if (argv[i][0] != '-' && !join->where) {
            join->where = argv[i];
            continue;
        }
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (known && value)
            string_list_add(&join->addresses, value);
        for (size_t k = 0; k < sizeof options / sizeof *options; k++)
            if (strcmp(argv[i], options[k].word) == 0) {
                *options[k].value = value;
                known = true;
            }
        if (!known)
            return error_set(ret_error, EINVAL, "\"%.64s\" is not understood", argv[i]);
        if (!value)
            return error_set(ret_error, EINVAL, "%s needs a value", argv[i]);
        i++;
    }
    if (!join->where || !join->token_word == !join->token_file)
        return error_set(ret_error, EINVAL, "it takes HOST[:PORT] and one of --token and --token-file");
    return 0;
}

static int read_token(struct join *join, struct error **ret_error)
{
    if (join->token_word)
        join->token_text = xstrdup(join->token_word);
    const char *path =
        join->token_file && strcmp(join->token_file, "-") == 0 ? "/dev/stdin" : join->token_file;
    int r = join->token_word ? 0 : file_read(path, TOKEN_TEXT_MAX, &join->token_text, NULL, ret_error);
    if (r < 0)
        return r;
    join->token_text[strcspn(join->token_text, "\r\n")] = '\0';
    return join_token_parse(join->token_text, &join->token, ret_error);
}

static int prepare(const struct cli *cli, struct join *join, struct error **ret_error)
{
    int r = config_load(config_file(cli), &join->config, ret_error);
    if (r == 0)
        r = endpoints_parse(join->where, &join->urls, ret_error);
    if (r == 0)
        r = read_token(join, ret_error);
    if (r < 0)
        return r;
    if (!join->name)
        join->name = join->config.node_name;
    if (join->addresses.count == 0 && config_address_is_loopback(join->config.address))
        return error_set(ret_error, EINVAL,
                         "say with --address by which address the other nodes reach this one, or set [node] "
                         "address in %s",
                         config_file(cli));
    if (join->addresses.count == 0)
        string_list_add(&join->addresses, join->config.address);
    join->folder = config_tls_dir(&join->config);
    return 0;
}

/* ---- The cluster ---- */

static char *in_folder(const struct join *join, const char *name)
{
    return xasprintf("%s/%s", join->folder, name);
}

static int is_authority_of_token(const struct join *join, const char *certificate, const char *what,
                                 struct error **ret_error)
{
    autopki_certificate struct pki_certificate read = {0};
    int r = pki_read(certificate, &read, ret_error);
    if (r == 0 && !digest_equal(read.fingerprint, join->token.fingerprint))
        r = error_set(ret_error, EACCES, "%s is not the cluster that the token is for", what);
    return r;
}

/* A node is of one cluster, for good. */
static int check_own(const struct join *join, struct error **ret_error)
{
    autofree char *path = pki_path(join->folder, PKI_AUTHORITY);
    autofree char *certificate = NULL;
    if (access(path, F_OK) != 0)
        return 0;
    int r = file_read(path, PKI_TEXT_MAX, &certificate, NULL, ret_error);
    if (r == 0 && is_authority_of_token(join, certificate, path, NULL) < 0)
        r = error_set(ret_error, EEXIST,
                      "this node is of another cluster already, as %s says; a node that holds nothing can be "
                      "begun anew without %s",
                      path, join->folder);
    return r;
}

/* The certificate by which the servers are checked from then on, in a file: over a connection that proves
 * nothing yet, but it has the token's fingerprint or is not taken. */
static int fetch_authority(const struct join *join, const char *path, struct error **ret_error)
{
    static const struct http_client_tls unverified;
    struct cli asking cleanup(cli_clear) = {.timeout = PATIENCE};
    json_t *reply cleanup(json_decrefp) = NULL;
    int r = http_client_new_tls(&join->urls, &unverified, &asking.client, ret_error);
    if (r == 0)
        r = client_get(&asking, "/v1/cluster/authority", &reply, ret_error);
    const char *certificate = json_text(reply, "certificate");
    if (r == 0)
        r = is_authority_of_token(join, certificate, join->where, ret_error);
    if (r == 0)
        r = folder_make(join->folder, 0755, ret_error);
    return r < 0 ? r : file_write_atomic(path, certificate, 0644, ret_error);
}

/* The request as it was made the first time. */
static int need_request(const struct join *join, char **ret_request, struct error **ret_error)
{
    autofree char *path = in_folder(join, "join-request.pem");
    if (access(path, F_OK) == 0)
        return file_read(path, PKI_TEXT_MAX, ret_request, NULL, ret_error);
    autofree char *request = NULL;
    int r = pki_folder_request(join->folder, join->name, &request, ret_error);
    if (r == 0)
        r = file_write_atomic(path, request, 0600, ret_error);
    if (r == 0)
        *ret_request = steal_ptr(&request);
    return r;
}

static int ask(const struct join *join, const char *ca, const char *request, json_t **ret_reply,
               struct error **ret_error)
{
    const struct http_client_tls verified = {.ca = ca};
    struct cli asking cleanup(cli_clear) = {.timeout = PATIENCE};
    json_t *addresses = json_array();
    for (size_t i = 0; i < join->addresses.count; i++)
        json_array_append_new(addresses, json_string_lossy(join->addresses.items[i]));
    json_t *body cleanup(json_decrefp) = json_pack("{s:s, s:s, s:o, s:s}", "token", join->token_text, "name",
                                                   join->name, "addresses", addresses, "request", request);
    int r = http_client_new_tls(&join->urls, &verified, &asking.client, ret_error);
    struct client_change change = {
        .method = "POST", .path = "/v1/cluster/join", .body = body, .patience = PATIENCE, .at_once = true};
    return r < 0 ? r : client_change(&asking, &change, ret_reply, ret_error);
}

/* ---- What was given ---- */

static int take_over(const struct join *join, const json_t *reply, struct error **ret_error)
{
    const char *key = json_text(reply, "key");
    const char *authority = json_text(reply, "authority");
    int r = is_authority_of_token(join, authority, "what the cluster signs by", ret_error);
    if (r == 0)
        r = pki_folder_take_authority(join->folder, authority, json_text(reply, "list"), *key ? key : NULL,
                                      ret_error);
    fault_point("join-authority-taken");
    return r < 0 ? r : pki_folder_take_node(join->folder, json_text(reply, "certificate"), ret_error);
}

static void add_store(const struct join *join, const json_t *reply, struct strbuf *lines)
{
    const json_t *endpoints = json_object_get(reply, "store");
    size_t index;
    json_t *endpoint;
    if (json_array_size(endpoints) == 0 || join->config.store_backend == CONFIG_STORE_ETCD)
        return;
    strbuf_adds(lines, "\n[store]\nbackend = etcd\nendpoints = ");
    json_array_foreach(endpoints, index, endpoint)
        strbuf_addf(lines, "%s%s", index ? "," : "", json_string_value(endpoint));
    strbuf_addf(lines, "\nprefix = %s\n", json_text(reply, "store_prefix"));
    if (json_is_true(json_object_get(reply, "store_tls"))) {
        autofree char *ca = pki_path(join->folder, PKI_AUTHORITY);
        autofree char *cert = pki_path(join->folder, PKI_NODE);
        autofree char *key = pki_path(join->folder, PKI_NODE_KEY);
        strbuf_addf(lines, "ca = %s\ncert = %s\nkey = %s\n", ca, cert, key);
    }
}

/* Only what still has its default is set. */
static int configure(const struct cli *cli, const struct join *join, const json_t *reply,
                     struct error **ret_error)
{
    autostrbuf struct strbuf lines = {0};
    bool named = strcmp(join->name, join->config.node_name) != 0;
    bool placed = strcmp(join->config.address, join->addresses.items[0]) != 0;
    if (named || placed)
        strbuf_adds(&lines, "\n[node]\n");
    if (named)
        strbuf_addf(&lines, "name = %s\n", join->name);
    if (placed)
        strbuf_addf(&lines, "address = %s\n", join->addresses.items[0]);
    if (!*join->config.api_listen)
        strbuf_addf(&lines, "\n[api]\nlisten = %s\n", join->listen ? join->listen : join->addresses.items[0]);
    add_store(join, reply, &lines);
    if (!lines.length)
        return 0;
    int r = config_append(config_file(cli), lines.data, ret_error);
    if (r < 0 && ret_error)
        error_prefix(ret_error, "set these in %s yourself: %s", config_file(cli), lines.data);
    return r;
}

static void forget_request(const struct join *join)
{
    static const char *const names[] = {"join-request.pem", "join-ca.pem"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        autofree char *path = in_folder(join, names[i]);
        file_remove(path, NULL);
    }
}

static int run(struct cli *cli, struct join *join, json_t **ret_reply, struct error **ret_error)
{
    autofree char *request = NULL;
    int r = prepare(cli, join, ret_error);
    if (r == 0)
        r = check_own(join, ret_error);
    autofree char *ca = r == 0 ? in_folder(join, "join-ca.pem") : NULL;
    if (r == 0)
        r = fetch_authority(join, ca, ret_error);
    if (r == 0)
        r = need_request(join, &request, ret_error);
    fault_point("join-request-made");
    if (r == 0)
        r = ask(join, ca, request, ret_reply, ret_error);
    fault_point("join-answered");
    if (r == 0)
        r = take_over(join, *ret_reply, ret_error);
    if (r == 0)
        r = configure(cli, join, *ret_reply, ret_error);
    if (r == 0)
        forget_request(join);
    return r;
}

int node_join_run(struct cli *cli, int argc, char **argv)
{
    struct join join cleanup(join_clear) = {0};
    autoerror struct error *error = NULL;
    json_t *reply cleanup(json_decrefp) = NULL;
    if (parse(argc, argv, &join, &error) < 0)
        return noun_word_usage(cli, "node", "join", error);
    int r = run(cli, &join, &reply, &error);
    if (r < 0)
        return cli_fail(cli, r, error);
    json_t *store = json_object_get(reply, "store");
    json_t *summary cleanup(json_decrefp) =
        json_pack("{s:s, s:s, s:O}", "node", join.name, "folder", join.folder, "store", store);
    if (cli->json)
        print_json(cli->out, cli->json, summary);
    else
        fprintf(cli->out, "node %s: joined; its certificate is in %s; to serve: systemctl restart blockd\n",
                join.name, join.folder);
    return 0;
}

const struct classic_option node_join_options[] = {
    {"--token", "TOKEN", "What gluster-block cluster token create printed on a node of the cluster"},
    {"--token-file", "FILE",
     "A file with the token, or - for standard input: nobody sees it in the list of processes"},
    {"--name", "NAME", "Name of this node; as configured if absent"},
    {"--address", "ADDRESS", "By which others reach it, may be repeated; as configured if absent"},
    {"--listen", "ADDRESS[:PORT]", "Where it will serve the API over TLS; its address if absent"},
    {NULL, NULL, NULL},
};
