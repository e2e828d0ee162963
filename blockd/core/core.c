/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/core/core_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define WORKERS 4

int core_new(const struct core_options *options, struct core **ret_core, struct error **ret_error)
{
    cleanup(cleanup_core) struct core *core = xcalloc(1, sizeof *core);
    core->config = options->config;
    core->store = options->store;
    core->engine = options->engine;
    core->exports = options->exports;
    core->node = xstrdup(options->config->node_name);
    core->started = clock_real_ms();
    pthread_mutex_init(&core->pass_mutex, NULL);
    pthread_cond_init(&core->pass_wake, NULL);
    pthread_mutex_init(&core->placement_mutex, NULL);
    pthread_mutex_init(&core->heal_mutex, NULL);
    pthread_mutex_init(&core->notes_mutex, NULL);
    core->hosting = hosting_new(core);
    core->jobs = jobs_new(core);
    core->heal_watch = heal_watch_new(core);
    core->manifest = manifest_new(core);
    core->presence = presence_new(core);
    core->reports = reports_new(core);
    int r = ledger_new(core, &core->ledger, ret_error);
    if (r < 0)
        return r;
    *ret_core = steal_ptr(&core);
    return 0;
}

int core_start(struct core *core, struct error **ret_error)
{
    int r = node_register(core, ret_error);
    if (r == 0)
        r = queue_new(core, reconcile_key, WORKERS, &core->queue, ret_error);
    if (r == 0)
        r = manifest_start(core, ret_error);
    if (r == 0)
        r = presence_start(core->presence, ret_error);
    if (r == 0)
        r = reports_start(core->reports, ret_error);
    if (r == 0)
        r = pass_start(core, ret_error);
    if (r == 0)
        r = jobs_start(core->jobs, ret_error);
    if (r == 0)
        r = heal_watch_start(core->heal_watch, ret_error);
    return r;
}

void core_stop(struct core *core)
{
    if (!core)
        return;
    store_watch_end(core->watch);
    core->watch = NULL;
    queue_stop(core->queue); /* first: it wakes who waits, the pass among them */
    pass_stop(core);
    jobs_stop(core->jobs);
    heal_watch_stop(core->heal_watch);
    manifest_stop(core);
    reports_stop(core->reports);
    presence_stop(core->presence); /* last: while this node leads nobody else does */
}

void core_free(struct core *core)
{
    if (!core)
        return;
    core_stop(core);
    manifest_free(core->manifest);
    reports_free(core->reports);
    presence_free(core->presence);
    jobs_free(core->jobs);
    heal_watch_free(core->heal_watch);
    queue_free(core->queue);
    hosting_free(core->hosting);
    ledger_free(core->ledger);
    pthread_cond_destroy(&core->pass_wake);
    pthread_mutex_destroy(&core->pass_mutex);
    pthread_mutex_destroy(&core->placement_mutex);
    pthread_mutex_destroy(&core->heal_mutex);
    pthread_mutex_destroy(&core->notes_mutex);
    string_list_clear(&core->move_notes);
    free(core->node);
    free(core);
}

bool core_ready(struct core *core)
{
    return atomic_load(&core->ready);
}

const char *core_node(const struct core *core)
{
    return core->node;
}

struct engine *core_engine(struct core *core)
{
    return core->engine;
}

struct exports *core_exports(struct core *core)
{
    return core->exports;
}

void core_counters(struct core *core, struct core_counters *ret_counters)
{
    queue_counters(core->queue, ret_counters);
}
