/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What follows from the configuration: files, sockets, addresses. */
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/config.h"

void config_volserver_addresses(const struct config *config, struct string_list *ret_addresses)
{
    if (*config->volserver_listen)
        string_list_split(ret_addresses, config->volserver_listen, ',');
}

char *config_volserver_socket_path(const struct config *config)
{
    return xasprintf("%s/volserver.sock", config->run_dir);
}

char *config_tls_dir(const struct config *config)
{
    return *config->tls_dir ? xstrdup(config->tls_dir) : xasprintf("%s/pki", config->state_dir);
}

static char *pki_file(const struct config *config, const char *path, const char *name)
{
    autofree char *folder = config_tls_dir(config);
    return *path ? xstrdup(path) : xasprintf("%s/%s", folder, name);
}

void config_api_files(const struct config *config, struct config_api_files *ret_files)
{
    *ret_files = (struct config_api_files){.ca = pki_file(config, config->api_ca, "ca-cert.pem"),
                                           .cert = pki_file(config, config->api_cert, "node-cert.pem"),
                                           .key = pki_file(config, config->api_key, "node-key.pem"),
                                           .crl = pki_file(config, config->api_crl, "ca-crl.pem")};
}

void config_api_files_clear(struct config_api_files *files)
{
    free(files->ca);
    free(files->cert);
    free(files->key);
    free(files->crl);
    *files = (struct config_api_files){0};
}

char *config_audit_path(const struct config *config)
{
    const char *audit = config->api_audit;
    if (!*audit || strcmp(audit, CONFIG_AUDIT_JOURNAL) == 0)
        return NULL;
    return audit[0] == '/' ? xstrdup(audit) : xasprintf("%s/%s", config->log_dir, audit);
}

char *config_socket_path(const struct config *config)
{
    return xasprintf("%s/blockd.sock", config->run_dir);
}

char *config_nbd_socket_path(const struct config *config)
{
    return xasprintf("%s/nbd.sock", config->run_dir);
}

char *config_nbd_control_path(const struct config *config)
{
    return xasprintf("%s/nbd-control.sock", config->run_dir);
}
