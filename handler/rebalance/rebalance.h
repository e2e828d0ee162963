/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Spreads the files of a distributed volume over its sets of bricks, or takes them off one. Distribute moves
 * each file itself when it is asked for it (the copy runs in this process), and keeps its readers and writers
 * right as long as they know all sets. A file that somebody has open may be open in a client that does not:
 * it stays where it is.
 */
#ifndef BLOCKD_REBALANCE_H
#define BLOCKD_REBALANCE_H

#include <glusterfs/api/glfs.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "rpc/base/error.h"
#include "rpc/base/strings.h"

struct rebalance {
    glfs_t *fs;
    glfs_t *set;                    /* of an evacuation: the set that its files leave, and nothing else */
    bool stray;                     /* of an evacuation: a folder still gives files to the set */
    bool live;                      /* of an evacuation: files in use can be moved, too (xlators/steady) */
    uint64_t done, total;           /* bytes */
    uint64_t moved, in_use, failed; /* files */
    uint64_t found;                 /* files that the last walk over the set met there */
    uint64_t left;                  /* those of them that it could not move */
    char *error;                    /* the last one */
    /* Called after each file. */
    void (*progress)(struct rebalance *work);
    void *data;
};

/* Lays out each folder over all sets that take files, and counts the bytes of all files, except for an
 * evacuation. Blocks. */
int rebalance_lay_out(struct rebalance *work, struct error **ret_error);
/* Moves each file whose place is another one now. What is in its place is passed over, so that it may be
 * repeated. Blocks. */
int rebalance_move(struct rebalance *work, struct error **ret_error);

/*
 * One walk over the set that is emptied: each file there moves to another set, if it can. What cannot yet is
 * counted, and told in `error`. `found` is 0 when the set is empty. Blocks.
 */
int rebalance_evacuate(struct rebalance *work, struct error **ret_error);

/* ---- For both ---- */

typedef void (*rebalance_visit)(struct rebalance *work, const char *path, const struct stat *status);
/*
 * All folders from the top, each added to the list before those in it, and what else is in them visited. With
 * `file` NULL nothing but folders is looked up: for what is looked up under an old layout, distribute makes
 * no link where the new one wants it.
 */
int rebalance_walk(struct rebalance *work, glfs_t *fs, rebalance_visit file, struct string_list *folders,
                   struct error **ret_error);
bool rebalance_is_open(glfs_t *fs, const char *path);
static inline uint64_t rebalance_bytes(const struct stat *status)
{
    return (uint64_t)status->st_blocks * 512;
}

#endif
