/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Counters of one export. Any thread may count; reading is not a consistent cut, as Prometheus does not ask
 * for one. */
#ifndef BLOCKD_NBD_METRICS_H
#define BLOCKD_NBD_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "rpc/base/strings.h"

enum metric_operation {
    METRIC_READ,
    METRIC_WRITE,
    METRIC_FLUSH,
    METRIC_TRIM,
    METRIC_ZERO,
    METRIC_CACHE,
    METRIC_STATUS,
    METRIC_OPERATIONS
};

#define METRIC_BUCKETS 16

struct metrics {
    atomic_uint_least64_t started; /* requests, of all operations */
    struct metrics_operation {
        atomic_uint_least64_t count, errors, bytes, nanoseconds;
        atomic_uint_least64_t buckets[METRIC_BUCKETS]; /* the last is +Inf; not cumulative */
    } operations[METRIC_OPERATIONS];
};

void metrics_start(struct metrics *metrics);
/* Ends what metrics_start() began. */
void metrics_count(struct metrics *metrics, enum metric_operation operation, uint64_t bytes,
                   int64_t nanoseconds, bool failed);

/* One export's row for metrics_print(). */
struct metrics_row {
    const char *volume, *block;
    const struct metrics *metrics;
    unsigned connections;
};
/* Appends the rows in Prometheus' text format; operations that never ran are left out. */
void metrics_print(const struct metrics_row *rows, size_t count, struct strbuf *text);

#endif
