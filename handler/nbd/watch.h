/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Follows the grants by inotify(7), one descriptor for all, and has catalog.c look at what changed. */
#ifndef BLOCKD_NBD_WATCH_H
#define BLOCKD_NBD_WATCH_H

#include "handler/nbd/catalog.h"
#include "rpc/base/loop.h"

struct watch;

/* Makes RUN_DIR/grants when it is missing. Checks run on the pool. */
int watch_start(struct loop *loop, const char *run_dir, struct catalog *catalog, struct pool *pool,
                struct watch **ret_watch, struct error **ret_error);
/* NULL is allowed. */
void watch_stop(struct watch *watch);
DEFINE_CLEANUP(struct watch *, cleanup_watch, watch_stop)

#endif
