/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* cluster init: the authority, this node's certificate, and one for who administers the cluster. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/client_config.h"
#include "rpc/config.h"
#include "rpc/endpoint.h"

#define PATIENCE 60 /* seconds to go on when the connection breaks */

struct init_words {
    const char *folder; /* of the administrator's certificate; borrowed */
    const char *listen; /* NULL: the configuration stays */
};

static int parse(int argc, char **argv, struct init_words *words, struct error **ret_error)
{
    for (int i = 0; i < argc; i++) {
        const char **value = strcmp(argv[i], "--admin") == 0    ? &words->folder
                             : strcmp(argv[i], "--listen") == 0 ? &words->listen
                                                                : NULL;
        if (!value)
            return error_set(ret_error, EINVAL, "\"%.64s\" is not understood", argv[i]);
        if (++i >= argc)
            return error_set(ret_error, EINVAL, "%s needs a value", argv[i - 1]);
        *value = argv[i];
    }
    return 0;
}

int config_listen(const struct cli *cli, const char *listen, bool *ret_changed, struct error **ret_error)
{
    const char *path = config_file(cli);
    struct config config cleanup(config_clear) = {0};
    int r = config_load(path, &config, ret_error);
    if (r < 0)
        return r;
    *ret_changed = strcmp(config.api_listen, listen) != 0;
    if (!*ret_changed)
        return 0;
    if (*config.api_listen)
        return error_set(ret_error, EEXIST, "%s says [api] listen = %s already; change it there", path,
                         config.api_listen);
    autofree char *lines = xasprintf("\n[api]\nlisten = %s\n", listen);
    return config_append(path, lines, ret_error);
}

/* The client's configuration, for who calls from elsewhere: where the cluster is, they add. */
static int write_client_config(const char *folder, struct error **ret_error)
{
    autofree char *path = xasprintf("%s/client.conf", folder);
    if (access(path, F_OK) == 0)
        return 0;
    return file_write_atomic(path,
                             "# endpoint = https://NODE:24010,https://OTHER:24010\n"
                             "ca = ca-cert.pem\ncert = client-cert.pem\nkey = client-key.pem\n",
                             0600, ret_error);
}

/* One that is there stays. */
static int issue_admin(struct cli *cli, const char *folder)
{
    autofree char *certificate = xasprintf("%s/client-cert.pem", folder);
    autoerror struct error *error = NULL;
    if (access(certificate, F_OK) != 0) {
        char *words[] = {(char *)"admin", (char *)folder, (char *)"--role", (char *)"admin", NULL};
        int status = certificate_issue(cli, 4, words);
        if (status != 0)
            return status;
    }
    int r = write_client_config(folder, &error);
    return r < 0 ? cli_fail(cli, r, error) : 0;
}

static void show(struct cli *cli, const json_t *reply)
{
    if (cli->json)
        print_json(cli->out, cli->json, reply);
    else
        fprintf(cli->out, "cluster %s: its authority's certificate has the SHA-256 %s\n",
                json_text(reply, "name"), json_text(reply, "fingerprint"));
}

int cluster_init_run(struct cli *cli, int argc, char **argv)
{
    const char *home = getenv("HOME");
    autofree char *own = xasprintf("%s/.config/blockd", home && *home ? home : "/root");
    struct init_words words = {.folder = own};
    autoerror struct error *error = NULL;
    json_t *reply cleanup(json_decrefp) = NULL;
    bool changed = false;
    if (parse(argc, argv, &words, &error) < 0)
        return noun_word_usage(cli, "cluster", "init", error);
    struct client_change request = {
        .method = "POST", .path = "/v1/cluster/init", .patience = PATIENCE, .at_once = true};
    int r = words.listen ? config_listen(cli, words.listen, &changed, &error) : 0;
    if (r == 0)
        r = client_change(cli, &request, &reply, &error);
    if (r < 0)
        return cli_fail(cli, r, error);
    show(cli, reply);
    FILE *out = cli->out;
    if (cli->json) /* one object is the answer */
        cli->out = cli->err;
    int status = issue_admin(cli, words.folder);
    if (changed)
        fprintf(cli->out, "%s has a new setting, [api] listen; to take it over: systemctl reload blockd\n",
                config_file(cli));
    cli->out = out;
    return status;
}

const struct classic_option cluster_init_options[] = {
    {"--admin", "FOLDER", "Where an administrator's key and certificate go; ~/.config/blockd if absent"},
    {"--listen", "ADDRESS[:PORT]",
     "Adds [api] listen to blockd.conf: where this node serves the API over TLS"},
    {NULL, NULL, NULL},
};
