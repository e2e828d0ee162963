/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Which block has which metrics. They live from the first open of a block to the withdrawal of its grant,
 * over any number of opens between. The caller serialises calls; counting itself needs no lock (metrics.h).
 */
#ifndef BLOCKD_NBD_COUNTERS_H
#define BLOCKD_NBD_COUNTERS_H

#include "handler/nbd/metrics.h"

struct counters {
    struct counters *next;
    char *volume, *block, *gbid;
    bool listed;         /* reachable by name */
    unsigned references; /* of those who count here */
    struct metrics metrics;
};

struct counters_table {
    struct counters *first;
};

/* Those of the block, new if need be, with a reference. What another block of this name had counted is
 * dropped. */
struct counters *counters_get(struct counters_table *table, const char *volume, const char *block,
                              const char *gbid);
/* `withdrawn`: the grant is gone, so the last one drops them. */
void counters_put(struct counters_table *table, struct counters *counters, bool withdrawn);
/* The block is withdrawn: its name has no counters any more. */
void counters_drop(struct counters_table *table, const char *volume, const char *block);
/* Nobody may hold a reference. */
void counters_clear(struct counters_table *table);

#endif
