/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A request that carries an Idempotency-Key leaves a mark in the store, in the same transaction as its
 * change. When the same request comes again (its answer was lost), the mark gives the answer instead of a
 * second change.
 */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/sizes.h"

#define PREFIX     "idempotency/"
#define KEEP_MS    (24 * 3600 * INT64_C(1000))
#define LENGTH_MAX 128

static char *mark_key(const char *idempotency_key)
{
    return xasprintf(PREFIX "%s", idempotency_key);
}

int idempotency_find(struct core *core, const struct core_change *change, char **ret_key, char **ret_uid,
                     struct error **ret_error)
{
    if (!change->idempotency_key)
        return 0;
    int r = name_check("Idempotency-Key", change->idempotency_key, ret_error);
    if (r < 0)
        return r;
    if (strlen(change->idempotency_key) > LENGTH_MAX)
        return error_set(ret_error, EINVAL, "the Idempotency-Key is longer than %d characters", LENGTH_MAX);

    autofree char *key = mark_key(change->idempotency_key);
    struct store_entry entry = {0};
    r = store_get(core->store, key, &entry, NULL);
    if (r < 0)
        return r == -ENOENT ? 0 : error_set(ret_error, -r, "cannot read the store: %s", strerror(-r));

    json_t *mark = json_loads(entry.value, 0, NULL);
    store_entry_clear(&entry);
    const char *request = json_string_value(json_object_get(mark, "request"));
    const char *object = json_string_value(json_object_get(mark, "object"));
    const char *uid = json_string_value(json_object_get(mark, "uid"));
    if (request && object && uid && strcmp(request, change->request) == 0) {
        *ret_key = xstrdup(object);
        *ret_uid = xstrdup(uid);
        r = 1;
    } else {
        r = error_set(ret_error, EINVAL, "the Idempotency-Key \"%s\" was used for another request",
                      change->idempotency_key);
    }
    json_decref(mark);
    return r;
}

void idempotency_record(struct txn *txn, const struct core_change *change, const char *key, const char *uid)
{
    if (!change->idempotency_key)
        return;
    autofree char *name = mark_key(change->idempotency_key);
    json_t *mark = json_pack("{s:s, s:s, s:s, s:I}", "request", change->request, "object", key, "uid", uid,
                             "created", (json_int_t)clock_real_ms());
    autofree char *value = json_dumps(mark, JSON_COMPACT);
    json_decref(mark);
    txn_put_text(txn, name, value, 0);
}

void idempotency_forget(struct core *core, const struct core_change *change)
{
    if (!change->idempotency_key)
        return;
    autofree char *name = mark_key(change->idempotency_key);
    struct store_entry entry = {0};
    if (store_get(core->store, name, &entry, NULL) < 0)
        return;
    struct txn txn = {0};
    txn_delete(&txn, name, entry.revision);
    txn_commit(core, &txn, NULL); /* a mark that stays says of the object that it is gone, which is true */
    txn_clear(&txn);
    store_entry_clear(&entry);
}

void idempotency_sweep(struct core *core)
{
    struct store_list marks = {0};
    if (store_list(core->store, PREFIX, NULL, 0, &marks, NULL) < 0)
        return;
    int64_t limit = clock_real_ms() - KEEP_MS;
    for (size_t i = 0; i < marks.count; i++) {
        json_t *mark = json_loads(marks.entries[i].value, 0, NULL);
        if (json_integer_value(json_object_get(mark, "created")) < limit) {
            struct txn txn = {0};
            txn_delete(&txn, marks.entries[i].key, marks.entries[i].revision);
            txn_commit(core, &txn, NULL); /* the next sweep finds what this one could not remove */
            txn_clear(&txn);
        }
        json_decref(mark);
    }
    store_list_clear(&marks);
}
