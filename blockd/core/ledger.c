/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * How much of each hosting volume is promised to blocks and shares. Their records are the truth; the ledger
 * is their sum, one small key for each volume, which changes in the transaction that makes, resizes or
 * forgets a record. So it is right after any crash, and holds for all who share the store: of two that take
 * the last room at once, one finds the key changed. A volume that nothing is promised of has no key.
 */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/examine.h"

#define PREFIX     "promises/"
#define QUEUES     16
#define TRIES_MAX  50 /* for one change, while other processes change the same volume's promises */
#define BATCH_MAX  32 /* changes in one transaction */
#define MEND_TRIES 100

/* One caller's change. Lives on its stack; belongs to the leader from the queue to `finished`. */
struct task {
    const struct ledger_change *change;
    struct txn *txn;
    bool batched; /* it is part of the transaction that is being made */
    bool finished;
    int result;
    struct error *error;
    struct task *next;
};

/* All changes of one volume pass through one of these: whoever leads makes those that wait, too. */
struct queue_of_changes {
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t done;
    bool leading;
    struct task *first, *last;
};

struct ledger {
    struct queue_of_changes queues[QUEUES]; /* by volume */
};

static const struct field promise_fields[] = {
    {.name = "bytes", .type = FIELD_UINT, .offset = offsetof(struct promise, bytes), .max = UINT64_MAX},
    {.name = "blocks", .type = FIELD_UINT, .offset = offsetof(struct promise, blocks), .max = UINT64_MAX},
    {.name = "shares", .type = FIELD_UINT, .offset = offsetof(struct promise, shares), .max = UINT64_MAX},
    {0},
};
static const struct schema promise_schema = {"Promise", sizeof(struct promise), promise_fields,
                                             "What a volume has promised."};

static char *key_of(const char *volume)
{
    return xasprintf(PREFIX "%s", volume);
}

static int parse(const char *key, const char *value, struct promise *ret_promise, struct error **ret_error)
{
    json_t *json cleanup(json_decrefp) = json_loads(value, 0, NULL);
    struct promise promise = {0};
    if (!json || schema_decode(&promise_schema, json, &promise, NULL, NULL) < 0)
        return error_set(
            ret_error, EUCLEAN,
            "the record %s in the store is damaged: gluster-block examine --repair makes it anew", key);
    *ret_promise = promise;
    return 0;
}

static int read_key(struct core *core, const char *volume, struct promise *ret_promise,
                    uint64_t *ret_revision, struct error **ret_error)
{
    autofree char *key = key_of(volume);
    struct store_entry entry = {0};
    autoerror struct error *problem = NULL;
    int r = store_get(core->store, key, &entry, &problem);
    if (r == -ENOENT) {
        *ret_promise = (struct promise){0};
        *ret_revision = 0;
        return 0;
    }
    if (r < 0)
        return error_set(ret_error, -r, "%s", error_message(problem));
    *ret_revision = entry.revision;
    r = parse(key, entry.value, ret_promise, ret_error);
    store_entry_clear(&entry);
    return r;
}

static bool is_nothing(const struct promise *promise)
{
    return !promise->bytes && !promise->blocks && !promise->shares;
}

static void put_key(struct txn *txn, const char *volume, const struct promise *promise, uint64_t revision)
{
    autofree char *key = key_of(volume);
    if (is_nothing(promise)) {
        txn_delete(txn, key, revision);
        return;
    }
    json_t *json cleanup(json_decrefp) = schema_encode(&promise_schema, promise);
    autofree char *value = json_dumps(json, JSON_COMPACT);
    txn_put_text(txn, key, value, revision);
}

/* ---- Changes ---- */

static int check_room(const char *volume, const struct promise *present, uint64_t bytes, uint64_t limit,
                      struct error **ret_error)
{
    uint64_t free_bytes = present->bytes < limit ? limit - present->bytes : 0;
    if (bytes <= free_bytes)
        return 0;
    char wanted[SIZE_TEXT_SIZE], left[SIZE_TEXT_SIZE], whole[SIZE_TEXT_SIZE];
    size_format(bytes, wanted);
    size_format(free_bytes, left);
    size_format(limit, whole);
    return error_set(ret_error, ENOSPC,
                     "volume %s has no room for %s more: %s of %s are not promised to blocks and shares "
                     "yet; add space, "
                     "delete blocks or shares, or raise the volume's overcommit",
                     volume, wanted, left, whole);
}

static void subtract(uint64_t *from, uint64_t number)
{
    *from -= number < *from ? number : *from;
}

static int apply(struct promise *promise, const struct ledger_change *change, struct error **ret_error)
{
    const struct promise *more = &change->more, *less = &change->less;
    if (more->bytes || more->blocks || more->shares) {
        int r = check_room(change->volume, promise, more->bytes, change->limit, ret_error);
        if (r < 0)
            return r;
    }
    promise->bytes += more->bytes;
    promise->blocks += more->blocks;
    promise->shares += more->shares;
    subtract(&promise->bytes, less->bytes);
    subtract(&promise->blocks, less->blocks);
    subtract(&promise->shares, less->shares);
    return 0;
}

int ledger_add(struct core *core, struct txn *txn, const struct ledger_change *change,
               struct error **ret_error)
{
    struct promise promise;
    uint64_t revision;
    int r = read_key(core, change->volume, &promise, &revision, ret_error);
    struct promise before = promise;
    if (r == 0 && change->guarded && revision != change->revision)
        r = error_set(ret_error, ESTALE, "volume %s has promised something else meanwhile", change->volume);
    if (r == 0)
        r = apply(&promise, change, ret_error);
    if (r == 0 && memcmp(&before, &promise, sizeof promise) != 0)
        put_key(txn, change->volume, &promise, revision);
    return r;
}

static bool was_changed(struct core *core, const char *volume, uint64_t revision)
{
    struct promise promise;
    uint64_t now = revision;
    return read_key(core, volume, &promise, &now, NULL) == 0 && now != revision;
}

static uint64_t last_revision(const struct txn *txn, size_t before)
{
    return txn->count > before ? txn->ops[txn->count - 1].revision : 0;
}

/* Again when it is the ledger that another process changed meanwhile, and nothing else. */
static int commit_one(struct core *core, struct task *task, struct error **ret_error)
{
    size_t own = task->txn->count;
    for (unsigned tries = 1;; tries++) {
        autoerror struct error *problem = NULL;
        task->txn->count = own;
        int r = ledger_add(core, task->txn, task->change, &problem);
        uint64_t revision = last_revision(task->txn, own);
        if (r == 0)
            r = txn_commit(core, task->txn, &problem);
        if (r != -ESTALE || tries == TRIES_MAX || task->txn->count == own ||
            !was_changed(core, task->change->volume, revision))
            return r < 0 ? error_set(ret_error, -r, "%s", error_message(problem)) : 0;
    }
}

/* The same check by two tasks is one. False: the two cannot be one transaction. */
static bool merge_ops(struct txn *merged, const struct txn *txn)
{
    size_t before = merged->count;
    for (size_t i = 0; i < txn->count; i++) {
        const struct store_op *op = &txn->ops[i];
        bool known = false;
        for (size_t k = 0; k < before && !known; k++) {
            const struct store_op *other = &merged->ops[k];
            if (strcmp(op->key, other->key) != 0)
                continue;
            known = op->kind == STORE_CHECK && other->kind == STORE_CHECK && op->revision == other->revision;
            if (!known) {
                merged->count = before;
                return false;
            }
        }
        if (!known) {
            merged->ops = xrealloc(merged->ops, merged->count + 1, sizeof *merged->ops);
            merged->ops[merged->count++] = *op;
        }
    }
    return true;
}

/* One transaction of as many as go together. */
static int commit_together(struct core *core, struct task *first, struct error **ret_error)
{
    struct txn merged = {0};
    struct promise promise = {0};
    uint64_t revision;
    const char *volume = first->change->volume;
    int r = read_key(core, volume, &promise, &revision, ret_error);
    if (r < 0)
        return r;
    const struct promise before = promise;
    for (struct task *task = first; task; task = task->next) {
        struct promise with = promise;
        task->batched = !task->change->guarded && strcmp(task->change->volume, volume) == 0 &&
                        merged.count + task->txn->count < STORE_OPS_MAX &&
                        apply(&with, task->change, NULL) == 0 && merge_ops(&merged, task->txn);
        promise = task->batched ? with : promise;
    }
    if (memcmp(&before, &promise, sizeof promise) != 0)
        put_key(&merged, volume, &promise, revision);
    r = merged.count ? txn_commit(core, &merged, ret_error) : 0;
    txn_clear(&merged);
    return r;
}

static void commit_batch(struct core *core, struct task *first)
{
    autoerror struct error *problem = NULL;
    int r = first->next ? commit_together(core, first, &problem) : -ESTALE;
    for (struct task *task = first; task; task = task->next) {
        if (!task->batched || (r < 0 && r != -ENOTCONN))
            task->result = commit_one(core, task, &task->error);
        else if (r < 0) /* whether it was done may not be known: once is enough */
            task->result = error_set(&task->error, -r, "%s", error_message(problem));
    }
}

/* With the lock held: those that go at once. */
static struct task *take_batch(struct queue_of_changes *queue)
{
    struct task *first = queue->first, *last = first;
    for (unsigned count = 1; count < BATCH_MAX && last->next; count++)
        last = last->next;
    queue->first = last->next;
    if (!queue->first)
        queue->last = NULL;
    last->next = NULL;
    return first;
}

static struct queue_of_changes *queue_of(struct ledger *ledger, const char *volume)
{
    unsigned sum = 0;
    for (const char *c = volume; *c; c++)
        sum = sum * 31 + (unsigned char)*c;
    return &ledger->queues[sum % QUEUES];
}

int ledger_commit(struct core *core, struct txn *txn, const struct ledger_change *change,
                  struct error **ret_error)
{
    struct queue_of_changes *queue = queue_of(core->ledger, change->volume);
    struct task task = {.change = change, .txn = txn};
    pthread_mutex_lock(&queue->mutex);
    *(queue->last ? &queue->last->next : &queue->first) = &task;
    queue->last = &task;
    while (queue->leading && !task.finished)
        pthread_cond_wait(&queue->done, &queue->mutex);
    while (!task.finished) {
        struct task *batch = take_batch(queue);
        queue->leading = true;
        pthread_mutex_unlock(&queue->mutex);
        commit_batch(core, batch);
        pthread_mutex_lock(&queue->mutex);
        queue->leading = false;
        for (struct task *next; batch; batch = next) {
            next = batch->next;
            batch->finished = true;
        }
        pthread_cond_broadcast(&queue->done);
    }
    pthread_mutex_unlock(&queue->mutex);
    autoerror struct error *error = task.error;
    return task.result < 0 ? error_set(ret_error, -task.result, "%s", error_message(error)) : 0;
}

int ledger_check_empty(struct core *core, struct txn *txn, const char *volume, struct error **ret_error)
{
    struct promise promise;
    uint64_t revision;
    int r = read_key(core, volume, &promise, &revision, ret_error);
    if (r < 0)
        return r;
    if (promise.blocks)
        return error_set(ret_error, ENOTEMPTY, "volume %s holds %llu block%s: delete %s first", volume,
                         (unsigned long long)promise.blocks, promise.blocks == 1 ? "" : "s",
                         promise.blocks == 1 ? "it" : "them");
    if (promise.shares)
        return error_set(ret_error, ENOTEMPTY, "volume %s holds %llu share%s: delete %s first", volume,
                         (unsigned long long)promise.shares, promise.shares == 1 ? "" : "s",
                         promise.shares == 1 ? "it" : "them");
    autofree char *key = key_of(volume);
    txn_check(txn, key, revision);
    return 0;
}

int ledger_read(struct core *core, const char *volume, struct promise *ret_promise, struct error **ret_error)
{
    uint64_t revision;
    return read_key(core, volume, ret_promise, &revision, ret_error);
}

int ledger_revision(struct core *core, const char *volume, uint64_t *ret_revision, struct error **ret_error)
{
    struct promise promise;
    return read_key(core, volume, &promise, ret_revision, ret_error);
}

/* ---- Comparing with the records ---- */

/* What one volume is found to have promised, and what its key says. */
struct account {
    char *volume;
    struct promise counted, kept;
    uint64_t revision; /* of the key; 0: there is none */
    bool damaged;
};

static void accounts_clear(struct object_list *accounts)
{
    for (size_t i = 0; i < accounts->count; i++)
        free(((struct account *)accounts->items)[i].volume);
    free(accounts->items);
    *accounts = (struct object_list){0};
}

static struct account *account_of(struct object_list *accounts, const char *volume)
{
    for (size_t i = 0; i < accounts->count; i++) {
        struct account *account = (struct account *)accounts->items + i;
        if (strcmp(account->volume, volume) == 0)
            return account;
    }
    struct account *account = object_list_add(accounts, sizeof *account);
    account->volume = xstrdup(volume);
    return account;
}

static void count_entry(struct object_list *accounts, const struct store_entry *entry)
{
    enum object_kind kind;
    const char *name;
    if (string_starts_with(entry->key, PREFIX)) {
        struct account *account = account_of(accounts, entry->key + strlen(PREFIX));
        account->revision = entry->revision;
        account->damaged = parse(entry->key, entry->value, &account->kept, NULL) < 0;
        return;
    }
    if (object_key_parse(entry->key, &kind, &name) < 0 || (kind != KIND_BLOCK && kind != KIND_SHARE))
        return;
    union any_object object = {0};
    if (record_decode(kind, entry, &object, NULL) < 0)
        return; /* it is told of as damaged, wherever it is read */
    autofree char *volume = object_name_part(name, 0);
    struct promise *counted = &account_of(accounts, volume)->counted;
    counted->bytes += kind == KIND_BLOCK ? object.block.spec.size : object.share.spec.size;
    counted->blocks += kind == KIND_BLOCK;
    counted->shares += kind == KIND_SHARE;
    any_object_clear(kind, &object);
}

/* All of one moment, so that changes that are under way make no difference. */
static int count_all(struct core *core, struct object_list *ret_accounts, struct error **ret_error)
{
    struct store_list all = {0};
    int r = store_list(core->store, "", NULL, 0, &all, ret_error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < all.count; i++)
        count_entry(ret_accounts, &all.entries[i]);
    store_list_clear(&all);
    return 0;
}

static bool differs(const struct account *account)
{
    return account->damaged || account->kept.bytes != account->counted.bytes ||
           account->kept.blocks != account->counted.blocks || account->kept.shares != account->counted.shares;
}

/* -ESTALE: it changed since it was counted. */
static int mend(struct core *core, const struct account *account, struct error **ret_error)
{
    struct txn txn = {0};
    put_key(&txn, account->volume, &account->counted, account->revision);
    int r = txn_commit(core, &txn, ret_error);
    txn_clear(&txn);
    return r;
}

int ledger_mend(struct core *core, struct error **ret_error)
{
    int r;
    unsigned tries = 0;
    do {
        struct object_list accounts cleanup(accounts_clear) = {0};
        autoerror struct error *problem = NULL;
        r = count_all(core, &accounts, &problem);
        for (size_t i = 0; r == 0 && i < accounts.count; i++) {
            const struct account *account = (const struct account *)accounts.items + i;
            if (differs(account))
                r = mend(core, account, &problem);
        }
        if (r < 0 && (r != -ESTALE || tries == MEND_TRIES))
            error_set(ret_error, -r, "cannot sum up what the volumes have promised: %s",
                      error_message(problem));
    } while (r == -ESTALE && tries++ < MEND_TRIES);
    return r;
}

static char *describe(const struct promise *promise)
{
    char size[SIZE_TEXT_SIZE];
    size_format(promise->bytes, size);
    return xasprintf("%s for %llu blocks and %llu shares", size, (unsigned long long)promise->blocks,
                     (unsigned long long)promise->shares);
}

int ledger_examine(struct core *core, struct object_list *findings, uint64_t *checked,
                   struct error **ret_error)
{
    struct object_list accounts cleanup(accounts_clear) = {0};
    int r = count_all(core, &accounts, ret_error);
    for (size_t i = 0; r == 0 && i < accounts.count; i++) {
        const struct account *account = (const struct account *)accounts.items + i;
        ++*checked;
        if (!differs(account))
            continue;
        autofree char *object = xasprintf("promises of volume %s", account->volume);
        autofree char *expected = describe(&account->counted);
        autofree char *found = account->damaged ? xstrdup("a damaged record") : describe(&account->kept);
        finding_add(findings, "ledger-differs", object, expected, found, "sum up the records again")
            ->repairable = true;
    }
    return r;
}

/* ---- Open and close ---- */

int ledger_new(struct core *core, struct ledger **ret_ledger, struct error **ret_error)
{
    int r = ledger_mend(core, ret_error); /* a store of an older blockd has no keys */
    if (r < 0)
        return r;
    struct ledger *ledger = xcalloc(1, sizeof *ledger);
    for (size_t i = 0; i < QUEUES; i++) {
        pthread_mutex_init(&ledger->queues[i].mutex, NULL);
        pthread_cond_init(&ledger->queues[i].done, NULL);
    }
    *ret_ledger = ledger;
    return 0;
}

void ledger_free(struct ledger *ledger)
{
    if (!ledger)
        return;
    for (size_t i = 0; i < QUEUES; i++) {
        pthread_cond_destroy(&ledger->queues[i].done);
        pthread_mutex_destroy(&ledger->queues[i].mutex);
    }
    free(ledger);
}
