/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Where a client finds a cluster's API: lines KEY = VALUE, "#" begins a comment. Keys are endpoint (several
 * between commas), ca, cert and key; a path that is not absolute starts in the file's folder.
 */
#ifndef BLOCKD_RPC_CLIENT_CONFIG_H
#define BLOCKD_RPC_CLIENT_CONFIG_H

#include <stddef.h>

#include "rpc/base/error.h"

#define CLIENT_CONFIG_PATH "/etc/blockd/client.conf"
#define CLIENT_CONFIG_HOME ".config/blockd/client.conf" /* below $HOME; it counts first */

struct client_config {
    char *endpoint, *ca, *cert, *key; /* NULL: not said */
};
void client_config_clear(struct client_config *config);

/* `path` is for messages and for paths that are not absolute. An unknown key is
 * -EINVAL with file and line. */
int client_config_parse(const char *text, const char *path, struct client_config *ret_config,
                        struct error **ret_error);
/* A file that is not there says nothing. */
int client_config_load(const char *path, struct client_config *ret_config, struct error **ret_error);

#endif
