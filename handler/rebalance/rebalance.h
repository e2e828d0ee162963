/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Spreads the files of a distributed volume over its sets of bricks. Distribute moves each file itself when
 * it is asked for it (the copy runs in this process), and keeps its readers and writers right as long as they
 * know all sets. A file that somebody has open may be open in a client that does not: it stays where it is.
 */
#ifndef BLOCKD_REBALANCE_H
#define BLOCKD_REBALANCE_H

#include <glusterfs/api/glfs.h>
#include <stdbool.h>
#include <stdint.h>

#include "rpc/base/error.h"
#include "rpc/base/strings.h"

struct rebalance {
    glfs_t *fs;
    uint64_t done, total;           /* bytes */
    uint64_t moved, in_use, failed; /* files */
    char *error;                    /* the last one */
    /* Called after each file. */
    void (*progress)(struct rebalance *work);
    void *data;
};

/* Lays out each folder over all sets, and counts the bytes of all files. Blocks. */
int rebalance_lay_out(struct rebalance *work, struct error **ret_error);
/* Moves each file whose place is another one now. What is in its place is passed over, so that it may be
 * repeated. Blocks. */
int rebalance_move(struct rebalance *work, struct error **ret_error);

#endif
