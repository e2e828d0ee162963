/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The engine's life, what serialises its calls, and the processes beside the bricks. */
#include "blockd/engine/adopt.h"
#include "blockd/engine/heal_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/files.h"
#include "rpc/base/sizes.h"

const struct engine_roots engine_default_roots = {
    .glusterfsd = "/usr/sbin/glusterfsd",
    .glusterfs = "/usr/sbin/glusterfs",
    .mkfs_xfs = "/usr/sbin/mkfs.xfs",
    .systemctl = "/usr/bin/systemctl",
    .smartctl = "/usr/sbin/smartctl",
    .by_id = "/dev/disk/by-id",
    .units_env = "/run/blockd/units.env",
};

int engine_name_check(const char *what, const char *name, struct error **ret_error)
{
    int r = name_check(what, name ? name : "", ret_error);
    if (r < 0)
        return r;
    if (strlen(name) > ENGINE_NAME_MAX)
        return error_set(ret_error, ENAMETOOLONG, "the name of %s %s is longer than %d characters", what,
                         name, ENGINE_NAME_MAX);
    return 0;
}

/* ---- One caller at a time for each device and volume ---- */

struct engine_claim engine_claim(struct engine *engine, const char *kind, const char *name)
{
    struct engine_claim claim = {.engine = engine, .thing = xasprintf("%s %s", kind, name)};
    scoped_lock(&engine->busy_mutex);
    while (string_list_contains(&engine->busy, claim.thing))
        pthread_cond_wait(&engine->busy_changed, &engine->busy_mutex);
    string_list_add(&engine->busy, claim.thing);
    return claim;
}

#define HANGS_LOOK_MS 500

int device_claim(struct engine *engine, const char *name, struct engine_claim *ret_claim,
                 struct error **ret_error)
{
    struct engine_claim claim = {.engine = engine, .thing = xasprintf("device %s", name)};
    scoped_lock(&engine->busy_mutex);
    while (string_list_contains(&engine->busy, claim.thing)) {
        if (device_hangs(engine, name)) {
            free(claim.thing);
            return error_set(ret_error, ETIMEDOUT, "device %s/%s: its disk does not answer", engine->node,
                             name);
        }
        int64_t until_ms = clock_monotonic_ms() + HANGS_LOOK_MS;
        struct timespec when = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
        pthread_cond_clockwait(&engine->busy_changed, &engine->busy_mutex, CLOCK_MONOTONIC, &when);
    }
    string_list_add(&engine->busy, claim.thing);
    *ret_claim = claim;
    return 0;
}

void engine_claim_release(struct engine_claim *claim)
{
    struct engine *engine = claim->engine;
    if (!engine)
        return;
    scoped_lock(&engine->busy_mutex);
    for (size_t i = 0; i < engine->busy.count; i++) {
        if (strcmp(engine->busy.items[i], claim->thing) != 0)
            continue;
        free(engine->busy.items[i]);
        engine->busy.items[i] = engine->busy.items[--engine->busy.count];
        break;
    }
    free(claim->thing);
    pthread_cond_broadcast(&engine->busy_changed);
}

/* ---- Life ---- */

/* Volfiles and pid files whose writing a crash cut short. */
static int sweep_all(const struct config *config, struct error **ret_error)
{
    autofree char *bricks = xasprintf("%s/bricks", config->state_dir);
    autofree char *processes = xasprintf("%s/processes", config->run_dir);
    autofree char *volfiles = xasprintf("%s/volfiles", config->state_dir);
    autofree char *served = xasprintf("%s/volserver", config->state_dir);
    autostring_list struct string_list volumes = {0};
    int r = files_sweep(config->state_dir, ret_error);
    if (r == 0)
        r = files_sweep(bricks, ret_error);
    if (r == 0)
        r = files_sweep(processes, ret_error);
    if (r == 0)
        r = files_sweep(served, ret_error);
    if (r == 0)
        r = folder_list(volfiles, &volumes, ret_error);
    for (size_t i = 0; r == 0 && i < volumes.count; i++) {
        autofree char *folder = xasprintf("%s/%s", volfiles, volumes.items[i]);
        r = files_sweep(folder, ret_error);
    }
    return r;
}

static int make_folders(const struct config *config, struct error **ret_error)
{
    const char *const below[] = {"devices", "bricks", "volfiles", "volserver"};
    int r = volfile_path_check("state_dir", config->state_dir, ret_error);
    if (r == 0)
        r = volfile_path_check("run_dir", config->run_dir, ret_error);
    if (r == 0)
        r = volfile_path_check("log_dir", config->log_dir, ret_error);
    for (size_t i = 0; r == 0 && i < sizeof below / sizeof *below; i++) {
        autofree char *path = xasprintf("%s/%s", config->state_dir, below[i]);
        r = folder_make(path, 0700, ret_error);
    }
    autofree char *clients = xasprintf("%s/clients", config->run_dir);
    if (r == 0)
        r = folder_make(clients, 0700, ret_error);
    return r;
}

/* blockd-nbd is started in another folder, now or by systemd. */
static int absolute_path(const char *path, char **ret_path, struct error **ret_error)
{
    autofree char *absolute = path[0] == '/' ? xstrdup(path) : realpath(path, NULL);
    if (!absolute)
        return error_set(ret_error, errno, "cannot find %s: %s", path, strerror(errno));
    int r = volfile_path_check("the configuration's path", absolute, ret_error);
    if (r == 0)
        *ret_path = steal_ptr(&absolute);
    return r;
}

/* A type is a path below GlusterFS's folder of translators; this leads out of it. */
#define XLATOR_ROOT "../../../../../../../../../.."

/*
 * Threads that read from GlusterFS's sockets, in each brick and each client: half the processors, because the
 * other end runs on the same machine, and at most four. More of them than there is work for cost a third of
 * the operations a second on two processors.
 */
static unsigned event_threads(void)
{
    long half = sysconf(_SC_NPROCESSORS_ONLN) / 2;
    return half < 1 ? 1 : half > 4 ? 4 : (unsigned)half;
}

int engine_new_with(const struct engine_options *options, const struct engine_roots *roots,
                    struct engine **ret_engine, struct error **ret_error)
{
    int r = engine_name_check("node", options->node, ret_error);
    if (r == 0)
        r = make_folders(options->config, ret_error);
    if (r == 0)
        r = sweep_all(options->config, ret_error);
    autofree char *config_path = NULL;
    if (r == 0)
        r = absolute_path(options->config_path ? options->config_path : CONFIG_DEFAULT_PATH, &config_path,
                          ret_error);
    if (r < 0)
        return r;
    cleanup(cleanup_engine) struct engine *engine = xcalloc(1, sizeof *engine);
    pthread_mutex_init(&engine->busy_mutex, NULL);
    pthread_cond_init(&engine->busy_changed, NULL);
    pthread_mutex_init(&engine->ports_mutex, NULL);
    pthread_mutex_init(&engine->views_mutex, NULL);
    pthread_mutex_init(&engine->devices_mutex, NULL);
    engine->config = options->config;
    engine->node = xstrdup(options->node);
    engine->nbd_program = xstrdup(options->nbd_program);
    engine->options_program = xstrdup(options->options_program ? options->options_program : "blockd-options");
    engine->rebalance_program =
        xstrdup(options->rebalance_program ? options->rebalance_program : "blockd-rebalance");
    engine->event_threads = event_threads();
    engine->xlators = options->xlators ? xasprintf(XLATOR_ROOT "%s", options->xlators) : xstrdup("blockd");
    engine->config_path = steal_ptr(&config_path);
    engine->pki = config_tls_dir(options->config);
    engine->address = xstrdup(options->config->address);
    engine->roots = *roots;
    const struct supervisor_options supervision = {
        .config = options->config,
        .systemctl = roots->systemctl,
        .units_env = roots->units_env,
        .config_path = engine->config_path,
        .changed = options->changed,
        .changed_data = options->changed_data,
    };
    r = engine_disk_sweep(engine, ret_error);
    if (r == 0)
        r = supervisor_new(&supervision, &engine->supervisor, ret_error);
    engine->changed = options->changed;
    engine->changed_data = options->changed_data;
    if (r == 0)
        r = device_watch_start(engine, ret_error);
    if (r < 0)
        return r;
    *ret_engine = steal_ptr(&engine);
    return 0;
}

int engine_new(const struct engine_options *options, struct engine **ret_engine, struct error **ret_error)
{
    return engine_new_with(options, &engine_default_roots, ret_engine, ret_error);
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    device_watch_stop(engine);
    if (atomic_load(&engine->calls_left)) /* for as long as they hang, they need it */
        return;
    supervisor_free(engine->supervisor);
    brick_ports_clear(engine);
    heal_views_clear(engine);
    device_checks_clear(engine);
    smart_clear(engine);
    string_list_clear(&engine->lingering);
    pthread_mutex_destroy(&engine->devices_mutex);
    string_list_clear(&engine->busy);
    pthread_mutex_destroy(&engine->views_mutex);
    pthread_mutex_destroy(&engine->ports_mutex);
    pthread_cond_destroy(&engine->busy_changed);
    pthread_mutex_destroy(&engine->busy_mutex);
    free(engine->address);
    free(engine->config_path);
    free(engine->pki);
    free(engine->xlators);
    free(engine->nbd_program);
    free(engine->rebalance_program);
    free(engine->options_program);
    free(engine->node);
    free(engine);
}

char *text_version(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return xasprintf("%016llx", (unsigned long long)hash);
}

/* ---- blockd-nbd ---- */

/* It reads its part of the configuration at its start: with another one it is started again. */
static void nbd_plan(const struct engine *engine, struct process_plan *ret_plan)
{
    autofree char *settings = config_text(engine->config, "nbd");
    *ret_plan = (struct process_plan){
        .id = xstrdup("nbd"),
        .name = xstrdup("nbd"),
        .unit = xstrdup("blockd-nbd.service"),
        .log_path = xasprintf("%s/nbd.log", engine->config->log_dir),
        .version = text_version(settings),
    };
    string_list_add(&ret_plan->argv, engine->nbd_program);
    string_list_add(&ret_plan->argv, "--config");
    string_list_add(&ret_plan->argv, engine->config_path);
}

int engine_nbd_up(struct engine *engine, struct error **ret_error)
{
    if (!engine->nbd_program)
        return 0;
    cleanup(process_plan_clear) struct process_plan plan;
    nbd_plan(engine, &plan);
    return engine->supervisor->ops->up(engine->supervisor, &plan, ret_error);
}

int engine_nbd_down(struct engine *engine, struct error **ret_error)
{
    if (!engine->nbd_program)
        return 0;
    cleanup(process_plan_clear) struct process_plan plan;
    nbd_plan(engine, &plan);
    return engine->supervisor->ops->down(engine->supervisor, &plan, ret_error);
}

/* ---- What runs ---- */

void engine_processes(struct engine *engine, struct engine_process **ret_processes, size_t *ret_count)
{
    autostring_list struct string_list ids = {0}, names = {0};
    engine->supervisor->ops->list(engine->supervisor, &ids, &names);
    struct engine_process *processes = xcalloc(ids.count + 1, sizeof *processes);
    size_t count = 0;
    for (size_t i = 0; i < ids.count; i++) {
        cleanup(process_view_clear) struct process_view view = {0};
        if (!engine->supervisor->ops->look(engine->supervisor, ids.items[i], &view))
            continue;
        struct engine_process *process = &processes[count++];
        snprintf(process->name, sizeof process->name, "%s", names.items[i]);
        snprintf(process->state, sizeof process->state, "%s", process_state_words[view.state]);
        process->pid = view.pid;
        process->restarts = view.restarts;
    }
    *ret_processes = processes;
    *ret_count = count;
}
