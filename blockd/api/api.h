/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The API's listeners: requests come in, are matched against the table of routes (rpc/api.h), checked, and
 * handed to the core. This room logs, and knows HTTP; the core knows neither.
 */
#ifndef BLOCKD_API_H
#define BLOCKD_API_H

#include "blockd/core/core.h"
#include "rpc/http_server.h"

struct api;

/*
 * Listens on the unix socket of the configuration, for root and the configured group, and on its TCP
 * addresses for who has a certificate. `core` and `config` outlive it.
 */
int api_start(struct core *core, const struct config *config, struct api **ret_api, struct error **ret_error);
/* Opens the record of changes anew, and takes over certificates that have changed. */
void api_reload(struct api *api);
/* Ends streams and waits for requests that run. NULL is allowed. */
void api_stop(struct api *api);
DEFINE_CLEANUP(struct api *, cleanup_api, api_stop)

#endif
