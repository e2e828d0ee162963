/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The examination: the engine's part, and what the core knows beside it (exports, ports, manifests). A
 * difference counts when it is still there a moment later, and later again: what is on its way is none.
 */
#include "blockd/core/examine.h"

#include <errno.h>
#include <string.h>

#include "blockd/core/examine_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define LOOKS        3   /* that a difference is seen in before it is told */
#define BETWEEN_MS   400 /* looks */
#define RECONCILE_MS 15000

/* ---- One look ---- */

static void survey_clear(struct survey *survey)
{
    struct record_list *const lists[] = {&survey->nodes, &survey->devices, &survey->volumes, &survey->blocks,
                                         &survey->exports};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        record_list_clear(lists[i]);
}

static int read_kind(struct survey *survey, enum object_kind kind, const char *prefix,
                     struct record_list *list, struct error **ret_error)
{
    int r = record_list_readable(survey->core, kind, prefix, list, ret_error);
    for (size_t i = 0; r == 0 && i < list->damaged.count; i++) {
        autofree char *object = xasprintf("a record of the %s", object_types[kind].plural);
        finding_add(survey->findings, "record-damaged", object, "a record that can be read",
                    list->damaged.items[i],
                    "restore the store from a copy, or adopt the devices into a new one");
    }
    return r;
}

static int read_store(struct survey *survey, struct error **ret_error)
{
    struct core *core = survey->core;
    int r = read_kind(survey, KIND_NODE, NULL, &survey->nodes, ret_error);
    if (r == 0)
        r = read_kind(survey, KIND_DEVICE, core->node, &survey->devices, ret_error);
    if (r == 0)
        r = read_kind(survey, KIND_VOLUME, NULL, &survey->volumes, ret_error);
    if (r == 0)
        r = read_kind(survey, KIND_BLOCK, NULL, &survey->blocks, ret_error);
    if (r == 0)
        r = read_kind(survey, KIND_EXPORT, core->node, &survey->exports, ret_error);
    return r;
}

static int look_once(struct core *core, struct object_list *findings, uint64_t *checked,
                     struct error **ret_error)
{
    struct survey survey cleanup(survey_clear) = {
        .core = core,
        .findings = findings,
        .checked = checked,
        .nodes = {.kind = KIND_NODE},
        .devices = {.kind = KIND_DEVICE},
        .volumes = {.kind = KIND_VOLUME},
        .blocks = {.kind = KIND_BLOCK},
        .exports = {.kind = KIND_EXPORT},
    };
    *checked = 0;
    bool enabled;
    int r = read_store(&survey, ret_error);
    if (r == 0)
        r = node_get_enabled(core, &enabled, ret_error);
    if (r < 0)
        return r;
    const struct examine_target target = {
        .enabled = enabled,
        .nodes = survey.nodes.list.items,
        .node_count = survey.nodes.list.count,
        .devices = survey.devices.list.items,
        .device_count = survey.devices.list.count,
        .volumes = survey.volumes.list.items,
        .volume_count = survey.volumes.list.count,
        .blocks = survey.blocks.list.items,
        .block_count = survey.blocks.list.count,
    };
    r = engine_examine(core->engine, &target, findings, checked, ret_error);
    if (r == 0)
        r = examine_records(&survey, ret_error);
    return r;
}

/* ---- Looking until it is sure ---- */

static bool contains(const struct object_list *findings, const struct finding *wanted)
{
    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *finding = (const struct finding *)findings->items + i;
        if (strcmp(finding->code, wanted->code) == 0 && strcmp(finding->object, wanted->object) == 0)
            return true;
    }
    return false;
}

void examine_keep_common(struct object_list *findings, const struct object_list *others)
{
    size_t kept = 0;
    struct finding *items = findings->items;
    for (size_t i = 0; i < findings->count; i++) {
        if (contains(others, &items[i]))
            items[kept++] = items[i];
        else
            schema_clear(&finding_schema, &items[i]);
    }
    findings->count = kept;
}

/* Lets the reconciler work meanwhile. -ECANCELED when blockd stops. */
static int pause_between(struct core *core)
{
    uint64_t seen = 0;
    int64_t deadline = clock_monotonic_ms() + BETWEEN_MS;
    int r;
    do
        r = queue_wait(core->queue, &seen, deadline);
    while (r == 0 && clock_monotonic_ms() < deadline);
    return r == -ECANCELED ? r : 0;
}

static int look_surely(struct core *core, struct object_list *findings, uint64_t *checked,
                       struct error **ret_error)
{
    int r = look_once(core, findings, checked, ret_error);
    for (int i = 1; r == 0 && i < LOOKS && findings->count; i++) {
        struct object_list again cleanup(findings_clear) = {0};
        r = pause_between(core);
        if (r < 0)
            return error_set(ret_error, ECANCELED, "blockd is stopping");
        r = look_once(core, &again, checked, ret_error);
        if (r == 0)
            examine_keep_common(&again, findings);
        struct object_list former = *findings;
        *findings = again;
        again = former;
    }
    return r;
}

/* ---- Repairing ---- */

static bool may_repair(const struct finding *finding, const struct string_list *confirmed)
{
    return finding->repairable && !finding->error &&
           (!finding->destroys || string_list_contains(confirmed, finding->object));
}

static void repair_one(struct core *core, struct finding *finding)
{
    autoerror struct error *error = NULL;
    int r = engine_repair(core->engine, finding, &error);
    if (r == -EOPNOTSUPP)
        r = repair_records(core, finding, &error);
    if (r < 0 && r != -EAGAIN)
        string_replace(&finding->error, error ? error_message(error) : strerror(-r));
}

/*
 * What was repaired is what is no longer found. A repair is done again as long as there is time: a reconciler
 * has its turns, and a connection that was just made does not see all bricks yet.
 */
static int repair_all(struct core *core, const struct string_list *confirmed, struct object_list *findings,
                      struct error **ret_error)
{
    int64_t deadline = clock_monotonic_ms() + RECONCILE_MS;
    struct finding *items = findings->items;
    bool left = true;
    while (left) {
        struct object_list now cleanup(findings_clear) = {0};
        uint64_t checked;
        for (size_t i = 0; i < findings->count; i++)
            if (!items[i].repaired && may_repair(&items[i], confirmed))
                repair_one(core, &items[i]);
        int r = look_once(core, &now, &checked, ret_error);
        if (r < 0)
            return r;
        left = false;
        for (size_t i = 0; i < findings->count; i++)
            if (may_repair(&items[i], confirmed)) {
                items[i].repaired = !contains(&now, &items[i]);
                left |= !items[i].repaired;
            }
        if (left && clock_monotonic_ms() >= deadline)
            break;
        if (left && pause_between(core) < 0)
            return error_set(ret_error, ECANCELED, "blockd is stopping");
    }
    for (size_t i = 0; i < findings->count; i++)
        if (!items[i].repaired && may_repair(&items[i], confirmed))
            items[i].error = xstrdup("it is still there; gluster-block status may say why");
    return 0;
}

static int check_confirmed(const struct examine_request *request, const struct object_list *findings,
                           struct error **ret_error)
{
    for (size_t i = 0; i < request->confirm.count; i++) {
        bool known = false;
        for (size_t k = 0; k < findings->count; k++)
            known |=
                strcmp(((const struct finding *)findings->items)[k].object, request->confirm.items[i]) == 0;
        if (!known)
            return error_set(ret_error, EINVAL, "confirm names \"%s\", which is no object of a finding",
                             request->confirm.items[i]);
    }
    return 0;
}

int core_examine(struct core *core, const struct examine_request *request, struct examine_report *ret_report,
                 struct error **ret_error)
{
    struct object_list findings cleanup(findings_clear) = {0};
    uint64_t checked = 0;
    if (request->confirm.count && !request->repair)
        return error_set(ret_error, EINVAL, "confirm is for a repair: ask for that too");
    int r = look_surely(core, &findings, &checked, ret_error);
    if (r == 0)
        r = check_confirmed(request, &findings, ret_error);
    if (r == 0 && request->repair)
        r = repair_all(core, &request->confirm, &findings, ret_error);
    if (r < 0)
        return r;
    struct examine_report report = {.node = xstrdup(core->node), .checked = checked};
    for (size_t i = 0; i < findings.count; i++)
        report.repaired += ((struct finding *)findings.items)[i].repaired;
    report.remaining = findings.count - report.repaired;
    report.findings = findings;
    findings = (struct object_list){0};
    *ret_report = report;
    return 0;
}
