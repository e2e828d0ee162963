/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * How much of each hosting volume is promised to blocks and shares. Their records are the truth; the ledger
 * is their sum, one small key for each volume, which changes in the transaction that makes, resizes or
 * forgets a record. So it is right after any crash, and holds for all who share the store: of two that take
 * the last room at once, one finds the key changed. A volume that nothing is promised of has no key.
 */
#include <errno.h>
#include <string.h>

#include "core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/examine.h"

#define PREFIX     "promises/"
#define LOCKS      16
#define MEND_TRIES 100

struct ledger {
    pthread_mutex_t locks[LOCKS]; /* by volume; only to spare this process the races with itself */
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

pthread_mutex_t *ledger_lock(struct ledger *ledger, const char *volume)
{
    unsigned sum = 0;
    for (const char *c = volume; *c; c++)
        sum = sum * 31 + (unsigned char)*c;
    return lock_mutex(&ledger->locks[sum % LOCKS]);
}

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

int ledger_add(struct core *core, struct txn *txn, const char *volume, const struct promise *more,
               uint64_t limit, struct error **ret_error)
{
    struct promise promise;
    uint64_t revision;
    if (is_nothing(more))
        return 0;
    int r = read_key(core, volume, &promise, &revision, ret_error);
    if (r == 0)
        r = check_room(volume, &promise, more->bytes, limit, ret_error);
    if (r < 0)
        return r;
    promise.bytes += more->bytes;
    promise.blocks += more->blocks;
    promise.shares += more->shares;
    put_key(txn, volume, &promise, revision);
    return 0;
}

static void subtract(uint64_t *from, uint64_t number)
{
    *from -= number < *from ? number : *from;
}

int ledger_subtract(struct core *core, struct txn *txn, const char *volume, const struct promise *less,
                    struct error **ret_error)
{
    struct promise promise;
    uint64_t revision;
    if (is_nothing(less))
        return 0;
    int r = read_key(core, volume, &promise, &revision, ret_error);
    if (r < 0 || !revision)
        return r;
    subtract(&promise.bytes, less->bytes);
    subtract(&promise.blocks, less->blocks);
    subtract(&promise.shares, less->shares);
    put_key(txn, volume, &promise, revision);
    return 0;
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
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&ledger->locks[i], NULL);
    *ret_ledger = ledger;
    return 0;
}

void ledger_free(struct ledger *ledger)
{
    if (!ledger)
        return;
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&ledger->locks[i]);
    free(ledger);
}
