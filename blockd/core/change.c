/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What all operations that change an object have in common. */
#include "blockd/core/core_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"

#define TRIES_MAX 20 /* a revision that is never right is a fault, not a race */

int change_get(struct core *core, enum object_kind kind, const char *name, const struct core_change *change,
               void *ret_object, struct error **ret_error)
{
    union any_object object = {0};
    int r = record_get(core, kind, name, &object, ret_error);
    if (r < 0)
        return r;
    if (change->revision && change->revision != object.meta.revision) {
        r = error_set(ret_error, ESTALE, "%s %s has revision %llu, not %llu: read it again",
                      object_types[kind].word, name, (unsigned long long)object.meta.revision,
                      (unsigned long long)change->revision);
        any_object_clear(kind, &object);
        return r;
    }
    memcpy(ret_object, &object, object_types[kind].schema->size);
    return 0;
}

int change_commit_promise(struct core *core, const struct core_change *change, struct txn *txn,
                          const char *key, const char *uid, const struct ledger_change *promise,
                          struct error **ret_error)
{
    idempotency_record(txn, change, key, uid);
    int r = promise ? ledger_commit(core, txn, promise, ret_error) : txn_commit(core, txn, ret_error);
    txn_clear(txn);
    return r;
}

int change_commit(struct core *core, const struct core_change *change, struct txn *txn, const char *key,
                  const char *uid, struct error **ret_error)
{
    return change_commit_promise(core, change, txn, key, uid, NULL, ret_error);
}

/*
 * Shall an operation that ended with `r` be done again? Yes when somebody else (the reconciler, most often)
 * wrote between its reading and its writing and the caller did not insist on a revision, and once when the
 * same request was done meanwhile. Forgets the error.
 */
static bool again(struct core *core, const struct core_change *change, int r, unsigned *tries,
                  struct error **ret_error)
{
    if (r == 0 || *tries >= TRIES_MAX)
        return false;
    autofree char *key = NULL, *uid = NULL;
    if (r == -ESTALE && !change->revision) {
        ++*tries;
    } else if (idempotency_find(core, change, &key, &uid, NULL) == 1) {
        /* The same request, sent twice at once: the other one came between, and its answer is this one's. */
        *tries = TRIES_MAX;
    } else {
        return false;
    }
    if (ret_error) {
        error_free(*ret_error);
        *ret_error = NULL;
    }
    return true;
}

int change_run(struct core *core, change_operation operation, const struct change_call *call,
               const struct core_change *change, struct core_result *ret_result, struct error **ret_error)
{
    unsigned tries = 0;
    int r;
    do {
        r = result_replay(core, change, ret_result, ret_error);
        if (r > 0)
            return 0;
        if (r == 0)
            r = operation(core, call, change, ret_result, ret_error);
    } while (again(core, change, r, &tries, ret_error));
    return r;
}
