/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The listeners, the workers behind them, and what holds for the process as a whole: limits, TLS material,
 * the drain. */
#ifndef BLOCKD_NBD_SERVER_H
#define BLOCKD_NBD_SERVER_H

#include "handler/nbd/catalog.h"
#include "rpc/base/loop.h"
#include "rpc/config.h"

struct server;

/* Of sessions; see session.h. */
struct server_pools {
    struct pool *query, *status;
};

/* Listens on the unix socket and, where configured, on TCP; accepts on `loop`. The configuration is the
 * caller's. */
int server_start(struct loop *loop, const struct config *config, struct catalog *catalog,
                 const struct server_pools *pools, struct server **ret_server, struct error **ret_error);
/* Reads the TLS material again, for connections to come. On failure the old one stays. */
int server_reload(struct server *server, struct error **ret_error);
/* Stops listening and drains every connection; waits at most so long. -ETIMEDOUT when
 * some are left. Blocks. */
int server_drain(struct server *server, int64_t timeout_ms);
/* Only after server_drain() returned 0. NULL is allowed. */
void server_free(struct server *server);

/* Appends connection counters in Prometheus' text format. Any thread. */
void server_metrics(struct server *server, struct strbuf *text);

#endif
