/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What of an examination is about records: exports and their grants, ports, and manifests. */
#include <errno.h>
#include <string.h>

#include "blockd/engine/manifest.h"
#include "blockd/core/examine_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/base/sizes.h"

#define FLUSH_MS 5000

/* ---- Grants ---- */

void compare_grant(const char *export_name, const struct grant *wanted, const struct grant *found,
                   struct object_list *findings)
{
    autofree char *object = xasprintf("export %s", export_name);
    autofree char *expected =
        xasprintf("a grant for %s, %llu bytes, %s", wanted->file, (unsigned long long)wanted->size,
                  wanted->read_only ? "read-only" : "read-write");
    if (!found) {
        finding_add(findings, "grant-missing", object, expected, "no grant", "write it")->repairable = true;
        return;
    }
    json_t *a cleanup(json_decrefp) = schema_encode(&grant_schema, wanted);
    json_t *b cleanup(json_decrefp) = schema_encode(&grant_schema, found);
    json_object_del(a, "epoch"); /* the fence's, which counts on */
    json_object_del(b, "epoch");
    if (json_equal(a, b))
        return;
    autofree char *text =
        xasprintf("a grant for %s, %llu bytes, %s", found->file, (unsigned long long)found->size,
                  found->read_only ? "read-only" : "read-write");
    finding_add(findings, "grant-differs", object, expected, text, "write it again")->repairable = true;
}

static const struct block *block_named(const struct survey *survey, const char *name)
{
    size_t low = 0, high = survey->blocks.list.count; /* records are listed in the order of their names */
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct block *block = RECORD(&survey->blocks, block, middle);
        int order = strcmp(block->meta.name, name);
        if (order == 0)
            return block;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void examine_export(const struct survey *survey, const struct export *export)
{
    const struct block *block = block_named(survey, strchr(export->meta.name, '/') + 1);
    ++*survey->checked;
    if (!block || export->meta.deleting || block->meta.deleting ||
        !string_equal(export->status.phase, "live") ||
        export->status.observed_generation != export->meta.generation ||
        !string_equal(block->status.phase, "ready") ||
        block->status.observed_generation != block->meta.generation)
        return;
    struct grant wanted cleanup(cleanup_grant) = {0}, found cleanup(cleanup_grant) = {0};
    export_grant(survey->core, export, block, &wanted);
    int r = grant_read(survey->core->config->run_dir, wanted.volume, wanted.block, &found, NULL);
    compare_grant(export->meta.name, &wanted, r < 0 ? NULL : &found, survey->findings);
}

static bool is_exported(const struct survey *survey, const char *volume, const char *block)
{
    autofree char *name = xasprintf("%s/%s/%s", survey->core->node, volume, block);
    struct export export cleanup(cleanup_export) = {0};
    return record_get(survey->core, KIND_EXPORT, name, &export, NULL) != -ENOENT;
}

static int examine_grants_of(const struct survey *survey, const char *volume, struct error **ret_error)
{
    autofree char *folder = xasprintf("%s/grants/%s", survey->core->config->run_dir, volume);
    autostring_list struct string_list files = {0};
    int r = folder_list(folder, &files, ret_error);
    for (size_t i = 0; r == 0 && i < files.count; i++) {
        autofree char *block = grant_file_block(files.items[i]);
        if (!block || is_exported(survey, volume, block))
            continue;
        autofree char *object = xasprintf("grant %s/%s", volume, block);
        finding_add(survey->findings, "grant-stale", object, "no grant: there is no export", "a grant",
                    "withdraw it; its clients are cut off (adopt the devices first if the store was lost)")
            ->repairable = true;
    }
    return r;
}

static int examine_grants(const struct survey *survey, struct error **ret_error)
{
    autofree char *folder = xasprintf("%s/grants", survey->core->config->run_dir);
    autostring_list struct string_list volumes = {0};
    int r = folder_list(folder, &volumes, ret_error);
    for (size_t i = 0; r == 0 && i < volumes.count; i++)
        if (name_check("volume", volumes.items[i], NULL) == 0)
            r = examine_grants_of(survey, volumes.items[i], ret_error);
    for (size_t i = 0; r == 0 && i < survey->exports.list.count; i++)
        examine_export(survey, RECORD(&survey->exports, export, i));
    return r;
}

/* ---- Ports ---- */

static char *port_key(const struct brick_spec *brick)
{
    return xasprintf("ports/%s/%llu", brick->node, (unsigned long long)brick->port);
}

static int examine_ports(const struct survey *survey, struct error **ret_error)
{
    struct store_list ports = {0};
    json_t *wanted cleanup(json_decrefp) = json_object(), *owner;
    const char *key;
    int r = store_list(survey->core->store, "ports/", NULL, 0, &ports, ret_error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < survey->volumes.list.count; i++) {
        const struct volume *volume = RECORD(&survey->volumes, volume, i);
        const struct brick_spec *bricks = volume->spec.bricks.items;
        for (size_t k = 0; k < volume->spec.bricks.count; k++) {
            autofree char *port = port_key(&bricks[k]);
            json_object_set_new(wanted, port, json_string(volume->meta.name));
        }
        const struct brick_move *moves = volume->spec.moves.items;
        for (size_t k = 0; k < volume->spec.moves.count; k++) {
            autofree char *port = port_key(&moves[k].brick);
            json_object_set_new(wanted, port, json_string(volume->meta.name));
        }
    }
    for (size_t i = 0; i < ports.count; i++) {
        ++*survey->checked;
        if (!json_object_get(wanted, ports.entries[i].key))
            finding_add(survey->findings, "port-leaked", ports.entries[i].key,
                        "no such mark: no brick has this port", ports.entries[i].value, "forget the mark")
                ->repairable = true;
        json_object_del(wanted, ports.entries[i].key);
    }
    store_list_clear(&ports);
    json_object_foreach(wanted, key, owner)
    {
        autofree char *expected = xasprintf("the port is marked as volume %s's", json_string_value(owner));
        finding_add(survey->findings, "port-unmarked", key, expected, "no mark", "mark it")->repairable =
            true;
    }
    return 0;
}

/* ---- Manifests ---- */

/* How many records of the manifest differ from those that the store had, and still has. */
static size_t count_differences(struct core *core, const struct store_list *store,
                                const struct manifest_view *view)
{
    size_t differ = 0;
    for (size_t i = 0; i < store->count; i++) {
        const struct store_entry *entry = &store->entries[i];
        if (!manifest_has_key(entry->key))
            continue;
        json_t *value cleanup(json_decrefp) = json_loads(entry->value, 0, NULL);
        struct store_entry now = {0};
        if (json_equal(value, json_object_get(view->records, entry->key)))
            continue;
        differ += store_get(core->store, entry->key, &now, NULL) == 0 && now.revision == entry->revision;
        store_entry_clear(&now);
    }
    return differ;
}

static void examine_manifest(const struct survey *survey, const struct device *device,
                             const struct store_list *store)
{
    autofree char *object = xasprintf("manifest of device %s", device->meta.name), *text = NULL;
    struct manifest_view view cleanup(manifest_view_clear) = {0};
    autoerror struct error *error = NULL;
    int r = engine_manifest_read(survey->core->engine, device, &text, &error);
    ++*survey->checked;
    if (r == -ENODEV)
        return; /* told of as a mount */
    if (r == 0)
        r = manifest_parse(text, &view, &error);
    size_t differ = r == 0 ? count_differences(survey->core, store, &view) : 0;
    if (r == 0 && !differ)
        return;
    autofree char *found = r < 0 ? xstrdup(error_message(error))
                                 : xasprintf("%zu records differ, as of revision %llu", differ,
                                             (unsigned long long)view.revision);
    finding_add(survey->findings, "manifest-behind", object, "every record of the store", found,
                "write it anew")
        ->repairable = true;
}

static int examine_manifests(const struct survey *survey, struct error **ret_error)
{
    struct core *core = survey->core;
    struct store_list store = {0};
    struct store_entry adoption = {0};
    if (store_get(core->store, ADOPTION_KEY, &adoption, NULL) == 0) {
        store_entry_clear(&adoption);
        finding_add(survey->findings, "adoption-open", "the adoption of devices", "complete",
                    "it was cut short", "run it again: gluster-block device adopt --apply PATH...");
        return 0;
    }
    int r = store_list(core->store, "", NULL, 0, &store, ret_error);
    if (r < 0)
        return r;
    manifest_flush(core, FLUSH_MS);
    for (size_t i = 0; i < survey->devices.list.count; i++) {
        const struct device *device = RECORD(&survey->devices, device, i);
        if (!device->meta.deleting && string_equal(device->status.phase, "ready"))
            examine_manifest(survey, device, &store);
    }
    store_list_clear(&store);
    return 0;
}

int examine_records(const struct survey *survey, struct error **ret_error)
{
    int r = examine_grants(survey, ret_error);
    if (r == 0)
        r = examine_ports(survey, ret_error);
    if (r == 0)
        r = ledger_examine(survey->core, survey->findings, survey->checked, ret_error);
    return r < 0 ? r : examine_manifests(survey, ret_error);
}

/* ---- Repair ---- */

static int repair_port(struct core *core, const struct finding *finding, struct error **ret_error)
{
    struct txn txn = {0};
    struct store_entry entry = {0};
    int r = 0;
    if (strcmp(finding->code, "port-leaked") == 0) {
        r = store_get(core->store, finding->object, &entry, NULL);
        if (r == 0)
            txn_delete(&txn, finding->object, entry.revision);
        r = r == -ENOENT ? 0 : r;
        store_entry_clear(&entry);
    } else {
        const char *name = strstr(finding->expected, "volume ") + strlen("volume ");
        autofree char *value = xasprintf("\"volumes/%.*s\"", (int)strcspn(name, "'"), name);
        txn_put_text(&txn, finding->object, value, 0);
    }
    if (r == 0)
        r = txn_commit(core, &txn, ret_error);
    txn_clear(&txn);
    return r;
}

static int repair_grant(struct core *core, const struct finding *finding, struct error **ret_error)
{
    const char *name = strchr(finding->object, ' ') + 1;
    if (strcmp(finding->code, "grant-stale") != 0) {
        autofree char *key = object_key(KIND_EXPORT, name);
        return queue_run(core->queue, key, ret_error);
    }
    autofree char *volume = object_name_part(name, 0), *block = object_name_part(name, 1);
    return export_down(core->exports, volume, block, ret_error);
}

static bool set_other_size(void *object, void *data)
{
    (void)data;
    ((struct block *)object)->status.observed_generation = 0; /* its file is looked at again */
    return true;
}

static int repair_block(struct core *core, const struct finding *finding, struct error **ret_error)
{
    return record_update(core, KIND_BLOCK, strchr(finding->object, ' ') + 1, NULL, set_other_size, NULL,
                         ret_error);
}

/* "VOLUME:/FILE" */
static int remove_file(struct core *core, const struct finding *finding, struct error **ret_error)
{
    const char *colon = strchr(finding->object, ':');
    autofree char *volume = xstrndup(finding->object, (size_t)(colon - finding->object));
    struct image_volume *connection = NULL;
    int r = hosting_get(core->hosting, volume, &connection, ret_error);
    if (r < 0)
        return r;
    r = image_remove(connection, colon + 1, ret_error);
    hosting_put(core->hosting, connection);
    return r;
}

/* Everything that this node has is looked at by its reconciler. */
static int reconcile_node(struct core *core, enum object_kind kind, const char *prefix,
                          struct error **ret_error)
{
    struct record_list records = {.kind = kind};
    int r = record_list_readable(core, kind, prefix, &records, ret_error);
    for (size_t i = 0; r == 0 && i < records.list.count; i++) {
        const struct meta *meta =
            (const struct meta *)((const char *)records.list.items + i * object_types[kind].schema->size);
        autofree char *key = object_key(kind, meta->name);
        queue_add(core->queue, key);
    }
    record_list_clear(&records);
    return r;
}

static int reconcile_all(struct core *core, struct error **ret_error)
{
    autofree char *node = object_key(KIND_NODE, core->node);
    queue_add(core->queue, node);
    int r = reconcile_node(core, KIND_DEVICE, core->node, ret_error);
    return r < 0 ? r : reconcile_node(core, KIND_VOLUME, NULL, ret_error);
}

int repair_records(struct core *core, const struct finding *finding, struct error **ret_error)
{
    if (string_starts_with(finding->code, "grant-"))
        return repair_grant(core, finding, ret_error);
    if (string_starts_with(finding->code, "port-"))
        return repair_port(core, finding, ret_error);
    if (strcmp(finding->code, "ledger-differs") == 0)
        return ledger_mend(core, ret_error);
    if (strcmp(finding->code, "file-unknown") == 0)
        return remove_file(core, finding, ret_error);
    if (strcmp(finding->code, "block-size") == 0)
        return repair_block(core, finding, ret_error);
    if (strcmp(finding->code, "manifest-behind") == 0) {
        manifest_write_anew(core);
        return manifest_flush(core, FLUSH_MS) == 0
                   ? 0
                   : error_set(ret_error, EIO, "it could not be written; blockd's log says why");
    }
    return reconcile_all(core, ret_error);
}
