/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A volfile that this node's volfile server serves too, under a key, on a unix socket. Who fetches it there
 * follows its changes while it runs.
 */
#ifndef BLOCKD_IMAGE_LIVE_H
#define BLOCKD_IMAGE_LIVE_H

#include <stdbool.h>

#include "rpc/base/cleanup.h"

struct live_volfile {
    char *key, *socket; /* NULL when the volfile is a file only */
};

/* From the first line of a client volfile (VOLFILE_LIVE_MARK). */
void live_volfile_parse(const char *text, struct live_volfile *ret_live);
void live_volfile_clear(struct live_volfile *live);

/*
 * Whether the server has it now. libgfapi itself would wait for a server that hangs as long as it hangs, so
 * this asks first, as libgfapi would, and waits a second at most. Blocks.
 */
bool live_volfile_served(const struct live_volfile *live);

#endif
