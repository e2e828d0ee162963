/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Adoption: makes the records of devices, volumes, blocks and exports again from the manifests on disks. The
 * store says that an adoption is under way until it is complete, and no manifest is written meanwhile: one
 * that was cut short is run again, and finds what it found before.
 */
#include <errno.h>
#include <string.h>

#include "blockd/core/adopt_priv.h"
#include "blockd/core/examine.h"
#include "blockd/engine/adopt.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"

#define OPS_AT_ONCE 60 /* each with its volume's promises, below STORE_OPS_MAX */

struct adoption {
    struct core *core;
    struct found_disk *found;
    struct adopt_disk *disks;
    size_t count;
    struct string_list problems; /* paths that could not be opened, and why, in pairs */
};

/* ---- The disks ---- */

static void read_manifest(const struct found_disk *found, struct adopt_disk *disk)
{
    autofree char *text = NULL;
    autoerror struct error *error = NULL;
    *disk =
        (struct adopt_disk){.path = found->path, .device_uid = found->device_uid, .fs_uuid = found->fs_uuid};
    int r = engine_disk_manifest(found, &text, &error);
    if (r == 0)
        r = manifest_parse(text, &disk->manifest, &error);
    if (r == 0 && !string_equal(disk->manifest.device_uid, found->device_uid)) {
        manifest_view_clear(&disk->manifest);
        r = error_set(&error, ESTALE, "its manifest is the one of another device");
    }
    disk->has_manifest = r == 0;
    if (r < 0)
        disk->problem = xasprintf("it has no manifest that can be used: %s", error_message(error));
}

static void open_disks(struct adoption *adoption, const struct string_list *paths)
{
    adoption->found = xcalloc(paths->count + 1, sizeof *adoption->found);
    adoption->disks = xcalloc(paths->count + 1, sizeof *adoption->disks);
    for (size_t i = 0; i < paths->count; i++) {
        autoerror struct error *error = NULL;
        struct found_disk *found = &adoption->found[adoption->count];
        if (engine_disk_open(adoption->core->engine, paths->items[i], found, &error) < 0) {
            string_list_add(&adoption->problems, paths->items[i]);
            string_list_add(&adoption->problems, error_message(error));
            continue;
        }
        read_manifest(found, &adoption->disks[adoption->count]);
        adoption->count++;
    }
}

static void adoption_clear(struct adoption *adoption)
{
    for (size_t i = 0; i < adoption->count; i++) {
        manifest_view_clear(&adoption->disks[i].manifest);
        free(adoption->disks[i].problem);
        engine_disk_close(&adoption->found[i]);
    }
    free(adoption->found);
    free(adoption->disks);
    string_list_clear(&adoption->problems);
    *adoption = (struct adoption){0};
}

static int look_at_brick(void *data, size_t disk, const char *volume, char **ret_uid)
{
    return engine_disk_brick(&((struct adoption *)data)->found[disk], volume, ret_uid);
}

static int look_at_file(void *data, size_t disk, const char *volume, const char *file, uint64_t *ret_size)
{
    return engine_disk_file(&((struct adoption *)data)->found[disk], volume, file, ret_size);
}

static int look_at_folder(void *data, size_t disk, const char *volume, const char *folder,
                          struct string_list *ret_names)
{
    return engine_disk_folder(&((struct adoption *)data)->found[disk], volume, folder, ret_names, NULL);
}

/* ---- The plan ---- */

static int read_store(struct core *core, json_t **ret_store, struct error **ret_error)
{
    struct store_list all = {0};
    int r = store_list(core->store, "", NULL, 0, &all, ret_error);
    if (r < 0)
        return r;
    json_t *store = json_object();
    for (size_t i = 0; i < all.count; i++)
        json_object_set_new(store, all.entries[i].key,
                            json_loads(all.entries[i].value, JSON_DECODE_ANY, NULL));
    store_list_clear(&all);
    *ret_store = store;
    return 0;
}

static int make_plan(struct core *core, const struct adopt_request *request, struct adopt_plan *ret_plan,
                     struct error **ret_error)
{
    struct adoption adoption cleanup(adoption_clear) = {.core = core};
    json_t *store cleanup(json_decrefp) = NULL;
    int r = read_store(core, &store, ret_error);
    if (r < 0)
        return r;
    open_disks(&adoption, &request->paths);
    const struct adopt_input input = {
        .node = core->node,
        .port_min = core->config->port_min,
        .port_max = core->config->port_max,
        .disks = adoption.disks,
        .count = adoption.count,
        .present = store,
        .unknown = request->unknown,
        .lookup = {.data = &adoption, .brick = look_at_brick, .file = look_at_file, .folder = look_at_folder},
    };
    adopt_plan(&input, ret_plan);
    for (size_t i = 0; i + 1 < adoption.problems.count; i += 2) {
        struct adopt_item *item = object_list_add(&ret_plan->items, sizeof *item);
        *item = (struct adopt_item){.object = xasprintf("disk %s", adoption.problems.items[i]),
                                    .outcome = ADOPT_REFUSED,
                                    .detail = xstrdup(adoption.problems.items[i + 1])};
    }
    return 0;
}

/* ---- Doing it ---- */

static int begin(struct core *core, struct error **ret_error)
{
    struct store_entry entry = {0};
    int r = store_get(core->store, ADOPTION_KEY, &entry, NULL);
    store_entry_clear(&entry);
    if (r != -ENOENT)
        return r < 0 ? error_set(ret_error, -r, "cannot read the store: %s", strerror(-r)) : 0;
    struct txn txn = {0};
    txn_put_text(&txn, ADOPTION_KEY, "{}", 0);
    r = txn_commit(core, &txn, ret_error);
    txn_clear(&txn);
    return r;
}

/* Before a volume is known: what its bricks need, and what they must not keep. */
static int prepare_volume(struct core *core, const char *key, const json_t *value,
                          const struct string_list *moved, struct error **ret_error)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    if (!string_starts_with(key, "volumes/"))
        return 0;
    int r = schema_decode(&volume_schema, value, &volume, NULL, ret_error);
    if (r == 0 && !volume.meta.deleting)
        r = engine_volume_expect(core->engine, &volume, ret_error);
    /* Bricks that run on with their former ports would not be found. */
    if (r == 0 && string_list_contains(moved, volume.meta.name))
        r = engine_volume_down(core->engine, &volume, ret_error);
    return r;
}

/* What a block or a share is promised of its volume, added to what others of the transaction are. */
static void count_promise(json_t *promises, const char *key, const json_t *value)
{
    bool share = string_starts_with(key, "shares/");
    if (!share && !string_starts_with(key, "blocks/"))
        return;
    autofree char *volume = object_name_part(strchr(key, '/') + 1, 0);
    const json_t *sum = json_object_get(promises, volume);
    json_int_t size = json_integer_value(json_object_get(json_object_get(value, "spec"), "size"));
    json_object_set_new(promises, volume,
                        json_pack("[I, I, I]", json_integer_value(json_array_get(sum, 0)) + size,
                                  json_integer_value(json_array_get(sum, 1)) + !share,
                                  json_integer_value(json_array_get(sum, 2)) + share));
}

static uint64_t number_at(const json_t *array, size_t index)
{
    return (uint64_t)json_integer_value(json_array_get(array, index));
}

static int add_promises(struct core *core, struct txn *txn, json_t *promises, struct error **ret_error)
{
    const char *volume;
    json_t *sum;
    json_object_foreach(promises, volume, sum)
    {
        const struct ledger_change change = {
            .volume = volume,
            .more = {number_at(sum, 0), number_at(sum, 1), number_at(sum, 2)},
            .limit = UINT64_MAX};
        int r = ledger_add(core, txn, &change, ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Puts the records from `first` on that fit into one transaction. */
static int put_some(struct core *core, const struct adopt_plan *plan, size_t first, size_t *ret_next,
                    struct error **ret_error)
{
    struct txn txn = {0};
    json_t *promises cleanup(json_decrefp) = json_object();
    size_t all = json_array_size(plan->puts), next = first;
    int r = 0;
    for (; next < all && next - first < OPS_AT_ONCE && r == 0; next++) {
        const json_t *put = json_array_get(plan->puts, next), *value = json_array_get(put, 1);
        const char *key = json_string_value(json_array_get(put, 0));
        autofree char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        r = prepare_volume(core, key, value, &plan->moved, ret_error);
        txn_put_text(&txn, key, text, 0);
        count_promise(promises, key, value);
    }
    if (r == 0)
        r = add_promises(core, &txn, promises, ret_error);
    if (r == 0)
        r = txn_commit(core, &txn, ret_error);
    txn_clear(&txn);
    *ret_next = next;
    return r;
}

/* The store goes on as the later incarnation of the one whose manifests were found. */
static int finish(struct core *core, const struct adopt_plan *plan, struct error **ret_error)
{
    struct store_entry mark = {0}, former = {0};
    struct manifest_identity own cleanup(manifest_identity_clear) = {0};
    int r = store_get(core->store, ADOPTION_KEY, &mark, ret_error);
    if (r == 0)
        r = store_get(core->store, MANIFEST_KEY, &former, ret_error);
    if (r == 0)
        r = manifest_identity_parse(former.value, &own, ret_error);
    if (r == 0) {
        if (plan->identity.store)
            string_replace(&own.store, plan->identity.store);
        if (plan->identity.incarnation > own.incarnation)
            own.incarnation = plan->identity.incarnation;
        own.incarnation++;
        autofree char *text = manifest_identity_text(&own);
        struct txn txn = {0};
        txn_delete(&txn, ADOPTION_KEY, mark.revision);
        txn_put_text(&txn, MANIFEST_KEY, text, former.revision);
        r = txn_commit(core, &txn, ret_error);
        txn_clear(&txn);
    }
    store_entry_clear(&mark);
    store_entry_clear(&former);
    return r;
}

static int apply(struct core *core, const struct adopt_plan *plan, struct error **ret_error)
{
    if (!json_array_size(plan->puts) && !adoption_is_open(core))
        return 0;
    int r = begin(core, ret_error);
    fault_point("adopt.after-begin");
    for (size_t next = 0; r == 0 && next < json_array_size(plan->puts);) {
        r = put_some(core, plan, next, &next, ret_error);
        fault_point("adopt.after-records");
    }
    if (r == 0)
        r = finish(core, plan, ret_error);
    fault_point("adopt.after-end");
    return r;
}

/* ---- The operation ---- */

static void fill_report(struct adopt_plan *plan, struct adopt_report *report)
{
    uint64_t *const counts[] = {&report->adopted, &report->present, &report->skipped, &report->refused};
    const struct adopt_item *items = plan->items.items;
    for (size_t i = 0; i < plan->items.count; i++)
        ++*counts[items[i].outcome];
    report->items = plan->items;
    plan->items = (struct object_list){0};
}

int core_adopt(struct core *core, const struct adopt_request *request, struct adopt_report *ret_report,
               struct error **ret_error)
{
    if (!request->paths.count)
        return error_set(ret_error, EINVAL, "paths is empty: name the disks to adopt");
    scoped_lock(&core->placement_mutex); /* nothing is placed, and no device added, meanwhile */
    struct adopt_plan plan cleanup(adopt_plan_clear) = {0};
    struct adopt_report report = {0};
    int r = make_plan(core, request, &plan, ret_error);
    if (r < 0)
        return r;
    fill_report(&plan, &report);
    if (request->apply && !report.refused) {
        r = apply(core, &plan, ret_error);
        report.applied = true;
    }
    if (r < 0) {
        schema_clear(&adopt_report_schema, &report);
        return r == -ESTALE ? -EAGAIN : r;
    }
    *ret_report = report;
    return 0;
}
