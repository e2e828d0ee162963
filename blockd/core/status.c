/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* One screen of state: how many of what, and what is wrong with what to do about it. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"

#define PROBLEMS_MAX 50

struct survey {
    struct core *core;
    struct status_report *report;
    bool failed;
};

static void add_problem(struct survey *survey, char *text)
{
    if (survey->report->problems.count < PROBLEMS_MAX)
        string_list_add(&survey->report->problems, text);
    free(text);
}

static void survey_node(struct survey *survey, const struct node *node)
{
    if (node->status.error)
        add_problem(survey, xasprintf("node %s: %s", node->meta.name, node->status.error));
    if (!string_equal(node->status.phase, "online"))
        add_problem(survey, xasprintf("node %s is %s; to serve from it: gluster-block node start %s",
                                      node->meta.name, node->status.phase, node->meta.name));
}

/* Errors name their device, as the problem does already. */
static const char *without_name(const struct device *device)
{
    autofree char *prefix = xasprintf("device %s: ", device->meta.name);
    const char *error = device->status.error;
    return error && string_starts_with(error, prefix) ? error + strlen(prefix) : error;
}

static void survey_device(struct survey *survey, const struct device *device)
{
    const char *name = device->meta.name, *error = without_name(device);
    if (string_equal(device->status.phase, "failed"))
        add_problem(survey,
                    xasprintf("device %s failed: %s; it is used again when it works; one that is gone for "
                              "good: gluster-block device %s %s%s",
                              name, error ? error : "no reason was recorded",
                              device->status.bricks.count ? "replace" : "remove", name,
                              device->status.bricks.count ? " OTHER" : ""));
    else if (error)
        add_problem(survey, xasprintf("device %s: %s", name, error));
    if (string_equal(device->status.health, "failing"))
        add_problem(survey, xasprintf("device %s: %s", name, device->status.health_reason));
}

static void survey_volume(struct survey *survey, const struct volume *volume)
{
    const struct volume_status *status = &volume->status;
    const struct brick_status *bricks = status->bricks.items;
    for (size_t i = 0; i < status->bricks.count; i++)
        if (volume->spec.state == VOLUME_STARTED && !string_equal(bricks[i].state, "online"))
            add_problem(survey,
                        xasprintf("brick of volume %s on %s/%s is %s%s%s", volume->meta.name, bricks[i].node,
                                  bricks[i].device, bricks[i].state, bricks[i].error ? ": " : "",
                                  bricks[i].error ? bricks[i].error : ""));
    uint64_t healing =
        status->heal_pending > status->split_brain ? status->heal_pending - status->split_brain : 0;
    if (healing)
        add_problem(survey,
                    xasprintf("volume %s heals %llu file%s; nothing to do but wait", volume->meta.name,
                              (unsigned long long)healing, healing == 1 ? "" : "s"));
    if (status->split_brain)
        heal_look_now(survey->core->heal_watch, volume); /* so that its blocks know */
    if (status->split_brain)
        add_problem(survey,
                    xasprintf("volume %s has %llu file%s in split-brain, and nobody but you can say which "
                              "copy is right; see: gluster-block volume heal info %s --split-brain",
                              volume->meta.name, (unsigned long long)status->split_brain,
                              status->split_brain == 1 ? "" : "s", volume->meta.name));
    if (string_equal(status->phase, "failed") || string_equal(status->phase, "offline")) {
        survey->failed = true;
        add_problem(survey, xasprintf("volume %s is %s%s%s; see: gluster-block volume info %s",
                                      volume->meta.name, status->phase, status->error ? ": " : "",
                                      status->error ? status->error : "", volume->meta.name));
    }
    if (status->size && status->free < status->size / 20)
        add_problem(survey, xasprintf("volume %s has less than 5%% of its space left", volume->meta.name));
}

static void survey_block(struct survey *survey, const struct block *block)
{
    if (string_equal(block->status.phase, "failed"))
        add_problem(survey, xasprintf("block %s failed: %s", block->meta.name,
                                      block->status.error ? block->status.error : "no reason was recorded"));
    if (block->status.heal)
        add_problem(survey,
                    xasprintf("block %s is in %s and cannot be used; choose the copy to keep: "
                              "gluster-block volume heal resolve %.*s %s --keep NODE/DEVICE",
                              block->meta.name, block->status.heal, (int)strcspn(block->meta.name, "/"),
                              block->meta.name, block->meta.name));
}

static void survey_share(struct survey *survey, const struct share *share)
{
    if (string_equal(share->status.phase, "failed"))
        add_problem(survey, xasprintf("share %s failed: %s", share->meta.name,
                                      share->status.error ? share->status.error : "no reason was recorded"));
}

static void survey_export(struct survey *survey, const struct export *export)
{
    if (string_equal(export->status.phase, "failed"))
        add_problem(survey,
                    xasprintf("export %s failed: %s", export->meta.name,
                              export->status.error ? export->status.error : "no reason was recorded"));
}

static int survey_kind(struct survey *survey, enum object_kind kind, uint64_t *count,
                       struct error **ret_error)
{
    struct record_list records = {.kind = kind};
    int r = record_list_readable(survey->core, kind, NULL, &records, ret_error);
    for (size_t i = 0; r == 0 && i < records.damaged.count; i++)
        add_problem(survey, xstrdup(records.damaged.items[i]));
    for (size_t i = 0; r == 0 && i < records.list.count; i++) {
        void *object = (char *)records.list.items + i * object_types[kind].schema->size;
        if (kind != KIND_EXPORT && kind != KIND_SHARE) /* asked once, not once for each of thousands */
            overlay_status(survey->core, kind, object, false);
        switch (kind) {
        case KIND_NODE:
            survey_node(survey, object);
            break;
        case KIND_DEVICE:
            survey_device(survey, object);
            break;
        case KIND_VOLUME:
            survey_volume(survey, object);
            break;
        case KIND_BLOCK:
            survey_block(survey, object);
            break;
        case KIND_SHARE:
            survey_share(survey, object);
            break;
        case KIND_EXPORT:
            survey_export(survey, object);
            break;
        case KIND_JOB:
            if (!string_equal(((struct job *)object)->status.phase, "running") &&
                !string_equal(((struct job *)object)->status.phase, "pending"))
                continue;
            break;
        case KIND_COUNT:
            break;
        }
        ++*count;
    }
    record_list_clear(&records);
    return r;
}

static void survey_processes(struct survey *survey)
{
    struct engine_process *processes = NULL;
    size_t count = 0;
    engine_processes(survey->core->engine, &processes, &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(processes[i].state, "backoff") == 0)
            add_problem(survey,
                        xasprintf("process %s ended and is about to be started again (%llu times so far)",
                                  processes[i].name, (unsigned long long)processes[i].restarts));
    free(processes);
}

int core_status(struct core *core, struct status_report *ret_report, struct error **ret_error)
{
    struct status_report report = {.node = xstrdup(core->node), .version = xstrdup(BLOCKD_VERSION)};
    struct survey survey = {.core = core, .report = &report};
    int r = survey_kind(&survey, KIND_NODE, &report.nodes, ret_error);
    if (r == 0)
        r = survey_kind(&survey, KIND_DEVICE, &report.devices, ret_error);
    if (r == 0)
        r = survey_kind(&survey, KIND_VOLUME, &report.volumes, ret_error);
    if (r == 0)
        r = survey_kind(&survey, KIND_BLOCK, &report.blocks, ret_error);
    if (r == 0)
        r = survey_kind(&survey, KIND_SHARE, &report.shares, ret_error);
    if (r == 0)
        r = survey_kind(&survey, KIND_EXPORT, &report.exports, ret_error);
    if (r == 0)
        r = survey_kind(&survey, KIND_JOB, &report.jobs_running, ret_error);
    if (r < 0) {
        schema_clear(&status_report_schema, &report);
        return r;
    }
    survey_processes(&survey);
    report.phase = xstrdup(survey.failed ? "failed" : report.problems.count ? "degraded" : "ok");
    *ret_report = report;
    return 0;
}
