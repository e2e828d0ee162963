/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/core/core_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/uuid.h"

void any_object_clear(enum object_kind kind, union any_object *object)
{
    schema_clear(object_types[kind].schema, object);
}

/* The words that existing callers of the classic command line look for. */
static int missing(enum object_kind kind, const char *name, struct error **ret_error)
{
    return error_set(ret_error, ENOENT, "%s %s %s", object_types[kind].word, name,
                     kind == KIND_VOLUME ? "does not exist" : "doesn't exist");
}

int record_decode(enum object_kind kind, const struct store_entry *entry, void *ret_object,
                  struct error **ret_error)
{
    const struct schema *schema = object_types[kind].schema;
    union any_object object = {0};
    json_error_t json_error;
    json_t *json = json_loads(entry->value, 0, &json_error);
    int r = json ? schema_decode(schema, json, &object, NULL, ret_error)
                 : error_set(ret_error, EBADMSG, "%s", json_error.text);
    json_decref(json);
    if (r < 0) {
        schema_clear(schema, &object);
        if (ret_error) {
            (*ret_error)->number = EUCLEAN; /* not the caller's fault, whatever is wrong with it */
            error_prefix(ret_error, "the record %s in the store is damaged", entry->key);
        }
        return -EUCLEAN;
    }
    object.meta.revision = entry->revision;
    memcpy(ret_object, &object, schema->size);
    return 0;
}

int record_get(struct core *core, enum object_kind kind, const char *name, void *ret_object,
               struct error **ret_error)
{
    autofree char *key = object_key(kind, name);
    struct store_entry entry = {0};
    int r = store_get(core->store, key, &entry, ret_error);
    if (r == -ENOENT)
        return missing(kind, name, ret_error);
    if (r < 0)
        return r;
    r = record_decode(kind, &entry, ret_object, ret_error);
    store_entry_clear(&entry);
    return r;
}

static int list_records(struct core *core, enum object_kind kind, const char *prefix, bool tolerant,
                        struct record_list *ret_records, struct error **ret_error)
{
    const struct schema *schema = object_types[kind].schema;
    autofree char *key_prefix =
        xasprintf("%s/%s%s", object_types[kind].plural, prefix ? prefix : "", prefix ? "/" : "");
    struct store_list entries = {0};
    int r = store_list(core->store, key_prefix, NULL, 0, &entries, ret_error);
    if (r < 0)
        return r;

    struct record_list records = {.kind = kind, .revision = entries.revision};
    records.list.items = xcalloc(entries.count, schema->size);
    for (size_t i = 0; i < entries.count && r == 0; i++) {
        autoerror struct error *problem = NULL;
        r = record_decode(kind, &entries.entries[i],
                          (char *)records.list.items + records.list.count * schema->size, &problem);
        if (r == 0) {
            records.list.count++;
        } else if (tolerant) {
            string_list_add(&records.damaged, error_message(problem));
            r = 0;
        } else {
            error_set(ret_error, -r, "%s", error_message(problem));
        }
    }
    store_list_clear(&entries);
    if (r < 0) {
        record_list_clear(&records);
        return r;
    }
    *ret_records = records;
    return 0;
}

int record_list(struct core *core, enum object_kind kind, const char *prefix, struct record_list *ret_records,
                struct error **ret_error)
{
    return list_records(core, kind, prefix, false, ret_records, ret_error);
}

int record_list_readable(struct core *core, enum object_kind kind, const char *prefix,
                         struct record_list *ret_records, struct error **ret_error)
{
    return list_records(core, kind, prefix, true, ret_records, ret_error);
}

void record_list_clear(struct record_list *records)
{
    const struct schema *schema = object_types[records->kind].schema;
    for (size_t i = 0; i < records->list.count; i++)
        schema_clear(schema, (char *)records->list.items + i * schema->size);
    free(records->list.items);
    string_list_clear(&records->damaged);
    *records = (struct record_list){0};
}

int record_delete(struct core *core, enum object_kind kind, const struct meta *meta, struct error **ret_error)
{
    struct txn txn = {0};
    autofree char *key = object_key(kind, meta->name);
    txn_delete(&txn, key, meta->revision);
    int r = txn_commit(core, &txn, ret_error);
    txn_clear(&txn);
    return r == -ESTALE ? -EAGAIN : r;
}

/* ---- Transactions ---- */

static const char *keep(struct txn *txn, const char *string)
{
    string_list_add(&txn->strings, string);
    return txn->strings.items[txn->strings.count - 1];
}

static void add_op(struct txn *txn, struct store_op op)
{
    txn->ops = xrealloc(txn->ops, txn->count + 1, sizeof *txn->ops);
    txn->ops[txn->count++] = op;
}

void txn_put_text(struct txn *txn, const char *key, const char *value, uint64_t revision)
{
    const char *kept_key = keep(txn, key), *kept_value = keep(txn, value);
    add_op(
        txn,
        (struct store_op){
            .kind = STORE_PUT, .key = kept_key, .value = kept_value, .compare = true, .revision = revision});
}

void txn_put(struct txn *txn, enum object_kind kind, const void *object, uint64_t revision)
{
    autofree char *key = object_key(kind, ((const struct meta *)object)->name);
    json_t *json = schema_encode(object_types[kind].schema, object);
    json_object_del(json, "revision"); /* the store's to say */
    autofree char *value = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    txn_put_text(txn, key, value, revision);
}

void txn_delete(struct txn *txn, const char *key, uint64_t revision)
{
    add_op(txn, (struct store_op){
                    .kind = STORE_DELETE, .key = keep(txn, key), .compare = true, .revision = revision});
}

void txn_delete_any(struct txn *txn, const char *key)
{
    add_op(txn, (struct store_op){.kind = STORE_DELETE, .key = keep(txn, key)});
}

void txn_check(struct txn *txn, const char *key, uint64_t revision)
{
    add_op(txn, (struct store_op){
                    .kind = STORE_CHECK, .key = keep(txn, key), .compare = true, .revision = revision});
}

int txn_delete_port(struct core *core, struct txn *txn, const struct brick_spec *brick,
                    struct error **ret_error)
{
    autofree char *port = xasprintf("ports/%s/%llu", brick->node, (unsigned long long)brick->port);
    struct store_entry entry = {0};
    autoerror struct error *problem = NULL;
    int r = store_get(core->store, port, &entry, &problem);
    if (r == 0)
        txn_delete(txn, port, entry.revision);
    store_entry_clear(&entry);
    if (r == 0 || r == -ENOENT)
        return 0;
    return error_set(ret_error, -r, "cannot read %s: %s", port, error_message(problem));
}

int txn_commit(struct core *core, struct txn *txn, struct error **ret_error)
{
    return store_commit(core->store, txn->ops, txn->count, NULL, ret_error);
}

void txn_clear(struct txn *txn)
{
    free(txn->ops);
    string_list_clear(&txn->strings);
    *txn = (struct txn){0};
}

int record_update(struct core *core, enum object_kind kind, const char *name, const char *uid,
                  record_edit edit, void *data, struct error **ret_error)
{
    int r;
    do {
        union any_object object = {0};
        r = record_get(core, kind, name, &object, ret_error);
        if (r < 0)
            return r;
        if (uid && !string_equal(uid, object.meta.uid))
            r = missing(kind, name, ret_error);
        else if (edit(&object, data)) {
            struct txn txn = {0};
            autoerror struct error *conflict = NULL;
            txn_put(&txn, kind, &object, object.meta.revision);
            r = txn_commit(core, &txn, &conflict);
            txn_clear(&txn);
            if (r < 0 && r != -ESTALE)
                error_set(ret_error, -r, "%s", error_message(conflict));
        }
        any_object_clear(kind, &object);
    } while (r == -ESTALE);
    return r;
}

void meta_init(struct meta *meta, const char *name)
{
    meta->name = xstrdup(name);
    meta->uid = uuid_make();
    meta->generation = 1;
    meta->created = clock_real_ms();
}

bool string_replace(char **member, const char *text)
{
    if (string_equal(*member, text))
        return false;
    free(*member);
    *member = xstrdup(text);
    return true;
}
