/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Where blockd is: what the command line says counts first, then the environment, then the client's
 * configuration, and at last this machine's own socket.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/client_config.h"
#include "rpc/config.h"
#include "rpc/endpoint.h"
#include "rpc/pki.h"

/* ---- The options of all commands that have a value ---- */

const char **global_option(struct cli *cli, const char *word, size_t length)
{
    const struct {
        const char *word;
        const char **value;
    } known[] = {{"--socket", &cli->socket_option},     {"--config", &cli->config_option},
                 {"--endpoint", &cli->endpoint_option}, {"--ca", &cli->ca_option},
                 {"--cert", &cli->cert_option},         {"--key", &cli->key_option}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].word) == length && memcmp(known[i].word, word, length) == 0)
            return known[i].value;
    return NULL;
}

/* ---- The socket of this machine ---- */

static int find_socket(struct cli *cli, struct error **ret_error)
{
    struct config config = {0};
    if (cli->config_option && access(cli->config_option, F_OK) < 0)
        return error_set(ret_error, errno, "cannot read %s: %s", cli->config_option, strerror(errno));
    int r = config_load(cli->config_option ? cli->config_option : CONFIG_DEFAULT_PATH, &config, ret_error);
    /* The daemon's file need not be readable to those who may call it: then the defaults hold. */
    if (r == -EACCES && !cli->config_option) {
        if (ret_error) {
            error_free(*ret_error);
            *ret_error = NULL;
        }
        r = config_load("/dev/null", &config, ret_error);
    }
    if (r < 0)
        return r;
    cli->socket_path = config_socket_path(&config);
    config_clear(&config);
    return 0;
}

/* ---- A cluster ---- */

static const char *from_environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static int load_client_config(struct client_config *config, struct error **ret_error)
{
    const char *named = from_environment("BLOCKD_CLIENT_CONFIG"), *home = from_environment("HOME");
    if (named)
        return client_config_load(named, config, ret_error);
    autofree char *own = home ? xasprintf("%s/%s", home, CLIENT_CONFIG_HOME) : NULL;
    int r = own ? client_config_load(own, config, ret_error) : 0;
    if (r < 0 || (own && access(own, F_OK) == 0))
        return r;
    r = client_config_load(CLIENT_CONFIG_PATH, config, ret_error);
    /* One that is for other users does not keep this one from the socket. */
    if (r == -EACCES) {
        if (ret_error) {
            error_free(*ret_error);
            *ret_error = NULL;
        }
        r = 0;
    }
    return r;
}

static const char *first_of(const char *option, const char *variable, const char *configured)
{
    if (option)
        return option;
    const char *value = from_environment(variable);
    return value ? value : configured;
}

/* TLS would say only that something is wrong with one of them. */
static int check_pair(const char *certificate, const char *key, struct error **ret_error)
{
    autofree char *certificate_text = NULL, *key_text = NULL;
    int r = file_read(certificate, PKI_TEXT_MAX, &certificate_text, NULL, ret_error);
    if (r == 0)
        r = file_read(key, PKI_TEXT_MAX, &key_text, NULL, ret_error);
    if (r < 0)
        return r;
    r = pki_match(certificate_text, key_text, ret_error);
    if (r < 0 && ret_error)
        error_prefix(ret_error, "%s and %s", certificate, key);
    return r;
}

static int connect_cluster(struct cli *cli, const char *endpoints, const struct client_config *config,
                           struct error **ret_error)
{
    struct http_client_tls tls = {.ca = first_of(cli->ca_option, "BLOCKD_CA", config->ca),
                                  .cert = first_of(cli->cert_option, "BLOCKD_CERT", config->cert),
                                  .key = first_of(cli->key_option, "BLOCKD_KEY", config->key)};
    if (!tls.ca || !tls.cert || !tls.key)
        return error_set(
            ret_error, EINVAL,
            "to call %s takes --ca, --cert and --key (or BLOCKD_CA, BLOCKD_CERT and BLOCKD_KEY, or "
            "ca, cert and key in " CLIENT_CONFIG_PATH ")",
            endpoints);
    autostring_list struct string_list urls = {0};
    int r = endpoints_parse(endpoints, &urls, ret_error);
    if (r == 0)
        r = check_pair(tls.cert, tls.key, ret_error);
    return r < 0 ? r : http_client_new_tls(&urls, &tls, &cli->client, ret_error);
}

int cli_connect(struct cli *cli, struct error **ret_error)
{
    struct client_config config cleanup(client_config_clear) = {0};
    if (cli->socket_option && cli->endpoint_option)
        return error_set(ret_error, EINVAL, "--socket and --endpoint cannot stand together");
    const char *path = cli->socket_option, *endpoints = cli->endpoint_option;
    if (!path && !endpoints)
        path = from_environment("BLOCKD_SOCKET");
    if (!path && !endpoints)
        endpoints = from_environment("BLOCKD_ENDPOINT");
    int r = path ? 0 : load_client_config(&config, ret_error);
    if (r < 0)
        return r;
    if (!path && !endpoints && !cli->config_option)
        endpoints = config.endpoint;
    if (endpoints)
        return connect_cluster(cli, endpoints, &config, ret_error);
    if (path)
        cli->socket_path = xstrdup(path);
    r = path ? 0 : find_socket(cli, ret_error);
    return r < 0 ? r : http_client_new(cli->socket_path, &cli->client, ret_error);
}
