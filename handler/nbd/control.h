/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* HTTP on RUN_DIR/nbd-control.sock, for root: GET /metrics, GET /exports, POST /sync. */
#ifndef BLOCKD_NBD_CONTROL_H
#define BLOCKD_NBD_CONTROL_H

#include "handler/nbd/server.h"

struct control;

int control_start(const struct config *config, struct catalog *catalog, struct server *server,
                  struct control **ret_control, struct error **ret_error);
/* Waits for calls that run. NULL is allowed. */
void control_stop(struct control *control);
DEFINE_CLEANUP(struct control *, cleanup_control, control_stop)

#endif
