/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* GET /metrics in Prometheus' text format: this daemon's numbers, then those of the servers that it keeps. */
#include <string.h>

#include "blockd/api/api_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

static void header(struct strbuf *text, const char *name, const char *type, const char *help)
{
    strbuf_addf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Objects of a kind with live status, as JSON items; an empty array when the store does not answer. */
static json_t *items_of(struct core *core, enum object_kind kind)
{
    json_t *list = NULL;
    if (core_list(core, kind, NULL, NULL, 0, &list, NULL) < 0)
        return json_array();
    json_t *items = json_incref(json_object_get(list, "items"));
    json_decref(list);
    return items;
}

static long long number_at(const json_t *item, const char *part, const char *member)
{
    return json_integer_value(json_object_get(json_object_get(item, part), member));
}

static const char *text_at(const json_t *item, const char *part, const char *member)
{
    const char *text = json_string_value(json_object_get(json_object_get(item, part), member));
    return text ? text : "";
}

static const char *name_at(const json_t *item)
{
    return json_string_value(json_object_get(item, "name"));
}

static void volume_number(struct strbuf *text, const json_t *volumes, const char *name, const char *help,
                          const char *member)
{
    size_t index;
    json_t *volume;
    header(text, name, "gauge", help);
    json_array_foreach(volumes, index, volume) strbuf_addf(
        text, "%s{volume=\"%s\"} %lld\n", name, name_at(volume), number_at(volume, "status", member));
}

static void bricks(struct strbuf *text, const json_t *volumes)
{
    size_t index, brick_index;
    json_t *volume, *brick;
    header(text, "blockd_brick_up", "gauge", "Whether a brick serves.");
    json_array_foreach(volumes, index, volume)
        json_array_foreach(json_object_get(json_object_get(volume, "status"), "bricks"), brick_index, brick)
            strbuf_addf(text, "blockd_brick_up{volume=\"%s\",node=\"%s\",device=\"%s\"} %d\n",
                        name_at(volume), json_string_value(json_object_get(brick, "node")),
                        json_string_value(json_object_get(brick, "device")),
                        string_equal(json_string_value(json_object_get(brick, "state")), "online"));
}

struct set_metric {
    const char *name, *help, *member; /* `member` NULL: whether it serves */
};

/* Of volumes with several sets: a file lies in one, so that the sums say little of what fits. */
static void sets(struct strbuf *text, const json_t *volumes)
{
    static const struct set_metric metrics[] = {
        {"blockd_volume_set_up", "Whether a set of bricks serves reads and writes.", NULL},
        {"blockd_volume_set_size_bytes", "Bytes that a set of bricks can hold.", "size"},
        {"blockd_volume_set_free_bytes", "Bytes of a set of bricks that are free.", "free"},
    };
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) {
        const struct set_metric *metric = &metrics[i];
        size_t index, place;
        json_t *volume, *set;
        header(text, metric->name, "gauge", metric->help);
        json_array_foreach(volumes, index, volume)
        {
            const json_t *all = json_object_get(json_object_get(volume, "status"), "sets");
            json_array_foreach(all, place, set)
            {
                const char *phase = json_string_value(json_object_get(set, "phase"));
                long long up = string_equal(phase, "online") || string_equal(phase, "degraded");
                if (json_array_size(all) > 1)
                    strbuf_addf(
                        text, "%s{volume=\"%s\",set=\"%zu\"} %lld\n", metric->name, name_at(volume), place,
                        metric->member ? json_integer_value(json_object_get(set, metric->member)) : up);
            }
        }
    }
}

static void add_volumes(struct strbuf *text, struct core *core)
{
    json_t *volumes = items_of(core, KIND_VOLUME);
    size_t index;
    json_t *volume;
    header(text, "blockd_volume_up", "gauge", "Whether a hosting volume serves reads and writes.");
    json_array_foreach(volumes, index, volume)
    {
        const char *phase = text_at(volume, "status", "phase");
        strbuf_addf(text, "blockd_volume_up{volume=\"%s\"} %d\n", name_at(volume),
                    strcmp(phase, "online") == 0 || strcmp(phase, "degraded") == 0);
    }
    volume_number(text, volumes, "blockd_volume_size_bytes", "Bytes that a hosting volume can hold.", "size");
    volume_number(text, volumes, "blockd_volume_free_bytes", "Bytes of a hosting volume that are free.",
                  "free");
    volume_number(text, volumes, "blockd_volume_provisioned_bytes",
                  "Sum of the sizes of a volume's blocks and shares.", "provisioned");
    volume_number(text, volumes, "blockd_volume_blocks", "Number of a volume's blocks.", "blocks");
    volume_number(text, volumes, "blockd_volume_heal_pending_files", "Files that wait for a heal.",
                  "heal_pending");
    volume_number(text, volumes, "blockd_volume_heal_dirty_files",
                  "Files that are being written, or whose writer died just now.", "heal_dirty");
    volume_number(text, volumes, "blockd_volume_split_brain_files",
                  "Files of which no copy is known to be right.", "split_brain");
    bricks(text, volumes);
    sets(text, volumes);
    json_decref(volumes);
}

static void add_devices(struct strbuf *text, struct core *core)
{
    json_t *devices = items_of(core, KIND_DEVICE);
    size_t index;
    json_t *device;
    header(text, "blockd_device_ready", "gauge", "Whether a device is mounted and used.");
    json_array_foreach(devices, index, device)
        strbuf_addf(text, "blockd_device_ready{device=\"%s\"} %d\n", name_at(device),
                    strcmp(text_at(device, "status", "phase"), "ready") == 0);
    header(text, "blockd_device_failures_total", "counter",
           "How often a device was taken out because its disk failed.");
    json_array_foreach(devices, index, device)
        strbuf_addf(text, "blockd_device_failures_total{device=\"%s\"} %lld\n", name_at(device),
                    number_at(device, "status", "failures"));
    header(
        text, "blockd_device_healthy", "gauge",
        "What a disk says of itself: 1 it is well, 0 it foresees its failure; absent where it says nothing.");
    json_array_foreach(devices, index, device)
    {
        const char *health = text_at(device, "status", "health");
        if (strcmp(health, "ok") == 0 || strcmp(health, "failing") == 0)
            strbuf_addf(text, "blockd_device_healthy{device=\"%s\"} %d\n", name_at(device),
                        strcmp(health, "ok") == 0);
    }
    header(text, "blockd_device_free_bytes", "gauge", "Bytes of a device that are free.");
    json_array_foreach(devices, index, device)
        strbuf_addf(text, "blockd_device_free_bytes{device=\"%s\"} %lld\n", name_at(device),
                    number_at(device, "status", "free"));
    json_decref(devices);
}

static void add_nodes(struct strbuf *text, struct core *core)
{
    json_t *nodes = items_of(core, KIND_NODE);
    size_t index;
    json_t *node;
    header(text, "blockd_certificate_seconds_left", "gauge",
           "Seconds until the certificate of a node expires; absent where it has none.");
    json_array_foreach(nodes, index, node)
    {
        int64_t expires = 0;
        if (*text_at(node, "status", "certificate") &&
            clock_parse(text_at(node, "status", "certificate_expires"), &expires, NULL) == 0)
            strbuf_addf(text, "blockd_certificate_seconds_left{node=\"%s\"} %lld\n", name_at(node),
                        (long long)(expires - clock_real_ms()) / 1000);
    }
    json_decref(nodes);
}

static void add_processes(struct strbuf *text, struct core *core)
{
    struct engine_process *processes = NULL;
    size_t count = 0;
    engine_processes(core_engine(core), &processes, &count);
    header(text, "blockd_process_running", "gauge", "Whether a process that blockd keeps is running.");
    for (size_t i = 0; i < count; i++)
        strbuf_addf(text, "blockd_process_running{process=\"%s\"} %d\n", processes[i].name,
                    strcmp(processes[i].state, "running") == 0);
    header(text, "blockd_process_restarts_total", "counter", "How often a process was started again.");
    for (size_t i = 0; i < count; i++)
        strbuf_addf(text, "blockd_process_restarts_total{process=\"%s\"} %llu\n", processes[i].name,
                    (unsigned long long)processes[i].restarts);
    free(processes);
}

char *metrics_text(struct core *core)
{
    struct strbuf text = {0};
    struct core_counters counters;
    core_counters(core, &counters);
    header(&text, "blockd_info", "gauge", "The version that runs.");
    strbuf_addf(&text, "blockd_info{version=\"%s\",node=\"%s\"} 1\n", BLOCKD_VERSION, core_node(core));
    header(&text, "blockd_reconcile_total", "counter", "Reconciliations of one object.");
    strbuf_addf(&text, "blockd_reconcile_total %llu\n", (unsigned long long)counters.passes);
    header(&text, "blockd_reconcile_failures_total", "counter",
           "Reconciliations that failed and are repeated.");
    strbuf_addf(&text, "blockd_reconcile_failures_total %llu\n", (unsigned long long)counters.failures);
    header(&text, "blockd_reconcile_queue", "gauge", "Objects that wait for the reconciler.");
    strbuf_addf(&text, "blockd_reconcile_queue %llu\n", (unsigned long long)counters.queued);
    add_volumes(&text, core);
    add_nodes(&text, core);
    add_devices(&text, core);
    add_processes(&text, core);
    autofree char *servers = export_metrics(core_exports(core));
    strbuf_adds(&text, servers);
    return strbuf_steal(&text);
}
