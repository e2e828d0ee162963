/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/nbd/metrics.h"

static const char *const operation_words[METRIC_OPERATIONS] = {
    [METRIC_READ] = "read",           [METRIC_WRITE] = "write", [METRIC_FLUSH] = "flush",
    [METRIC_TRIM] = "trim",           [METRIC_ZERO] = "zero",   [METRIC_CACHE] = "cache",
    [METRIC_STATUS] = "block_status",
};

/* Upper bounds. A read that a brick has cached takes about 100 us; the ping-timeout is 5 s. */
static const struct {
    int64_t nanoseconds;
    const char *label;
} bounds[METRIC_BUCKETS] = {
    {50000, "0.00005"},    {100000, "0.0001"},     {200000, "0.0002"},       {400000, "0.0004"},
    {800000, "0.0008"},    {1600000, "0.0016"},    {3200000, "0.0032"},      {6400000, "0.0064"},
    {12800000, "0.0128"},  {25600000, "0.0256"},   {51200000, "0.0512"},     {204800000, "0.2048"},
    {819200000, "0.8192"}, {3276800000, "3.2768"}, {13107200000, "13.1072"}, {INT64_MAX, "+Inf"},
};

static void add(atomic_uint_least64_t *counter, uint64_t value)
{
    atomic_fetch_add_explicit(counter, value, memory_order_relaxed);
}

static uint64_t get(const atomic_uint_least64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void metrics_start(struct metrics *metrics)
{
    add(&metrics->started, 1);
}

void metrics_count(struct metrics *metrics, enum metric_operation operation, uint64_t bytes,
                   int64_t nanoseconds, bool failed)
{
    struct metrics_operation *row = &metrics->operations[operation];
    size_t bucket = 0;
    while (nanoseconds > bounds[bucket].nanoseconds)
        bucket++;
    add(&row->count, 1);
    add(&row->buckets[bucket], 1);
    add(&row->nanoseconds, nanoseconds > 0 ? (uint64_t)nanoseconds : 0);
    if (failed)
        add(&row->errors, 1);
    else if (bytes)
        add(&row->bytes, bytes);
}

static void print_counter(const struct metrics_row *rows, size_t count, const char *name, const char *help,
                          size_t offset, struct strbuf *text)
{
    strbuf_addf(text, "# HELP %s %s\n# TYPE %s counter\n", name, help, name);
    for (size_t i = 0; i < count; i++)
        for (size_t o = 0; o < METRIC_OPERATIONS; o++) {
            const struct metrics_operation *row = &rows[i].metrics->operations[o];
            if (get(&row->count) == 0)
                continue;
            const atomic_uint_least64_t *counter = (const void *)((const char *)row + offset);
            strbuf_addf(text, "%s{volume=\"%s\",block=\"%s\",operation=\"%s\"} %llu\n", name, rows[i].volume,
                        rows[i].block, operation_words[o], (unsigned long long)get(counter));
        }
}

static void print_histogram(const struct metrics_row *row, size_t operation, struct strbuf *text)
{
    const struct metrics_operation *values = &row->metrics->operations[operation];
    if (get(&values->count) == 0)
        return;
    autofree char *labels = NULL;
    autostrbuf struct strbuf label_text = {0};
    strbuf_addf(&label_text, "volume=\"%s\",block=\"%s\",operation=\"%s\"", row->volume, row->block,
                operation_words[operation]);
    labels = strbuf_steal(&label_text);

    uint64_t sum = 0;
    for (size_t b = 0; b < METRIC_BUCKETS; b++) {
        sum += get(&values->buckets[b]);
        strbuf_addf(text, "blockd_nbd_latency_seconds_bucket{%s,le=\"%s\"} %llu\n", labels, bounds[b].label,
                    (unsigned long long)sum);
    }
    strbuf_addf(text, "blockd_nbd_latency_seconds_sum{%s} %.9f\n", labels,
                (double)get(&values->nanoseconds) / 1e9);
    /* The count is the sum of the buckets, so that a scrape between two additions is consistent in itself. */
    strbuf_addf(text, "blockd_nbd_latency_seconds_count{%s} %llu\n", labels, (unsigned long long)sum);
}

static uint64_t in_flight(const struct metrics *metrics)
{
    uint64_t ended = 0;
    for (size_t o = 0; o < METRIC_OPERATIONS; o++)
        ended += get(&metrics->operations[o].count);
    uint64_t started = get(&metrics->started); /* read last, so that it is not below what ended */
    return started > ended ? started - ended : 0;
}

void metrics_print(const struct metrics_row *rows, size_t count, struct strbuf *text)
{
    print_counter(rows, count, "blockd_nbd_operations_total", "Requests answered, by block and type.",
                  offsetof(struct metrics_operation, count), text);
    print_counter(rows, count, "blockd_nbd_errors_total", "Requests answered with an error.",
                  offsetof(struct metrics_operation, errors), text);
    print_counter(rows, count, "blockd_nbd_bytes_total", "Bytes that succeeding requests covered.",
                  offsetof(struct metrics_operation, bytes), text);
    strbuf_adds(text, "# HELP blockd_nbd_latency_seconds Time from a request's arrival to its completion.\n"
                      "# TYPE blockd_nbd_latency_seconds histogram\n");
    for (size_t i = 0; i < count; i++)
        for (size_t o = 0; o < METRIC_OPERATIONS; o++)
            print_histogram(&rows[i], o, text);
    strbuf_adds(text, "# HELP blockd_nbd_in_flight Requests that are being worked on.\n"
                      "# TYPE blockd_nbd_in_flight gauge\n");
    for (size_t i = 0; i < count; i++)
        strbuf_addf(text, "blockd_nbd_in_flight{volume=\"%s\",block=\"%s\"} %llu\n", rows[i].volume,
                    rows[i].block, (unsigned long long)in_flight(rows[i].metrics));
    strbuf_adds(text, "# HELP blockd_nbd_export_connections Connections that use an export.\n"
                      "# TYPE blockd_nbd_export_connections gauge\n");
    for (size_t i = 0; i < count; i++)
        strbuf_addf(text, "blockd_nbd_export_connections{volume=\"%s\",block=\"%s\"} %u\n", rows[i].volume,
                    rows[i].block, rows[i].connections);
}
