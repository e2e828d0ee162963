/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The program that spreads the files of a volume over its sets of bricks. */
#include <errno.h>
#include <string.h>

#include "blockd/engine/engine_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/volume_layout.h"

#define PROGRESS_LIMIT (1u << 16)

static char *progress_path(const struct engine *engine, const char *volume)
{
    return xasprintf("%s/rebalance.%s.json", engine->config->state_dir, volume);
}

static char *run_path(const struct engine *engine, const char *volume)
{
    return xasprintf("%s/rebalance.%s.run", engine->config->state_dir, volume);
}

static void rebalance_plan(struct engine *engine, const char *volume, const char *run,
                           struct process_plan *ret_plan)
{
    *ret_plan = (struct process_plan){
        .id = xasprintf("rebalance.%s", volume),
        .name = xasprintf("rebalance %s", volume),
        .unit = xasprintf("blockd-rebalance@%s.service", volume),
        .log_path = xasprintf("%s/rebalance.%s.log", engine->config->log_dir, volume),
        .version = xstrdup(run),
    };
    const char *const words[] = {engine->rebalance_program, volume, engine->config->state_dir,
                                 ret_plan->log_path};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        string_list_add(&ret_plan->argv, words[i]);
}

static char *volfile_path(const struct engine *engine, const char *volume, const char *name)
{
    return xasprintf("%s/volfiles/%s/%s.vol", engine->config->state_dir, volume, name);
}

/* `text`: the name of the run, and on a second line what is done when it is no rebalance. */
static int up(struct engine *engine, const char *volume, const char *run, const char *text,
              struct error **ret_error)
{
    autofree char *path = run_path(engine, volume);
    int r = engine_name_check("volume", volume, ret_error);
    if (r == 0)
        r = file_write_if_changed(path, text, 0640, NULL, ret_error);
    if (r < 0)
        return r;
    cleanup(process_plan_clear) struct process_plan plan;
    rebalance_plan(engine, volume, run, &plan);
    return engine->supervisor->ops->up(engine->supervisor, &plan, ret_error);
}

int engine_rebalance_up(struct engine *engine, const char *volume, const char *run, struct error **ret_error)
{
    return up(engine, volume, run, run, ret_error);
}

typedef int (*volfile_writer)(const struct volfile_sources *sources, struct strbuf *ret_text,
                              struct error **ret_error);

static int write_volfile(struct engine *engine, const struct volfile_sources *sources, const char *name,
                         volfile_writer writer, struct error **ret_error)
{
    autofree char *path = volfile_path(engine, sources->volume->meta.name, name);
    autostrbuf struct strbuf text = {0};
    int r = writer(sources, &text, ret_error);
    return r < 0 ? r : file_write_if_changed(path, strbuf_string(&text), 0640, NULL, ret_error);
}

int engine_evacuation_up(struct engine *engine, const struct volume *volume, const struct node *nodes,
                         size_t node_count, const char *run, struct error **ret_error)
{
    struct volfile_sources sources = volume_sources(engine, volume, nodes, node_count);
    int r = write_volfile(engine, &sources, "evacuate", volfile_evacuate, ret_error);
    sources.one_set = layout_leaving(&volume->spec) + 1;
    if (r == 0)
        r = write_volfile(engine, &sources, "leaving", volfile_client, ret_error);
    autofree char *text = xasprintf("%s\nevacuate\n", run);
    return r < 0 ? r : up(engine, volume->meta.name, run, text, ret_error);
}

bool rebalance_runs(struct engine *engine, const char *volume)
{
    autofree char *run = run_path(engine, volume);
    return access(run, F_OK) == 0;
}

int engine_rebalance_down(struct engine *engine, const char *volume, struct error **ret_error)
{
    autofree char *progress = progress_path(engine, volume), *run = run_path(engine, volume);
    autofree char *evacuate = volfile_path(engine, volume, "evacuate");
    autofree char *leaving = volfile_path(engine, volume, "leaving");
    int r = engine_name_check("volume", volume, ret_error);
    if (r < 0)
        return r;
    cleanup(process_plan_clear) struct process_plan plan;
    rebalance_plan(engine, volume, NULL, &plan);
    r = engine->supervisor->ops->down(engine->supervisor, &plan, ret_error);
    if (r == 0)
        r = file_remove(run, ret_error);
    if (r == 0)
        r = file_remove(evacuate, ret_error);
    if (r == 0)
        r = file_remove(leaving, ret_error);
    return r < 0 ? r : file_remove(progress, ret_error);
}

static uint64_t number(const json_t *json, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(json, key));
    return value > 0 ? (uint64_t)value : 0;
}

int engine_rebalance_look(struct engine *engine, const char *volume, const char *run,
                          struct engine_rebalance *ret_progress, struct error **ret_error)
{
    autofree char *path = progress_path(engine, volume), *text = NULL;
    int r = file_read(path, PROGRESS_LIMIT, &text, NULL, ret_error);
    if (r < 0)
        return r;
    json_t *json = json_loads(text, 0, NULL);
    const char *of = json_string_value(json_object_get(json, "run"));
    if (!of || strcmp(of, run) != 0) {
        json_decref(json);
        return error_set(ret_error, ENOENT, "no rebalance of volume %s has begun yet", volume);
    }
    *ret_progress = (struct engine_rebalance){
        .done = number(json, "done"),
        .total = number(json, "total"),
        .moved = number(json, "moved"),
        .in_use = number(json, "in_use"),
        .failed = number(json, "failed"),
        .left = number(json, "left"),
        .finished = json_is_true(json_object_get(json, "finished")),
        .error = xstrdup(json_string_value(json_object_get(json, "error"))),
    };
    json_decref(json);
    return 0;
}
