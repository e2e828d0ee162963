/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Tokens by which nodes join. One that is used or expired is remembered for a while, to say so. */
#include <errno.h>
#include <string.h>

#include "blockd/core/cluster.h"
#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/join_token.h"

#define PREFIX  "tokens/"
#define KEEP_MS (7 * 86400 * INT64_C(1000))

static char *token_key(const char *id)
{
    return xasprintf(PREFIX "%s", id);
}

static int decode(const struct store_entry *entry, struct token_record *ret_record, struct error **ret_error)
{
    json_t *json cleanup(json_decrefp) = json_loads(entry->value, 0, NULL);
    *ret_record = (struct token_record){0};
    int r = json ? schema_decode(&token_record_schema, json, ret_record, NULL, ret_error)
                 : error_set(ret_error, EBADMSG, "%s in the store is no JSON", entry->key);
    if (r < 0)
        schema_clear(&token_record_schema, ret_record);
    return r;
}

static void put(struct txn *txn, const struct token_record *record, uint64_t revision)
{
    autofree char *key = token_key(record->id);
    json_t *json cleanup(json_decrefp) = schema_encode(&token_record_schema, record);
    autofree char *value = json_dumps(json, JSON_COMPACT);
    txn_put_text(txn, key, value, revision);
}

int token_find(struct core *core, const char *id, struct token_record *ret_record, uint64_t *ret_revision,
               struct error **ret_error)
{
    autofree char *key = token_key(id);
    struct store_entry entry cleanup(store_entry_clear) = {0};
    int r = store_get(core->store, key, &entry, NULL);
    if (r == -ENOENT)
        return error_set(ret_error, ENOENT, "there is no token %s", id);
    if (r < 0)
        return error_set(ret_error, -r, "cannot read the store: %s", strerror(-r));
    r = decode(&entry, ret_record, ret_error);
    if (r == 0)
        *ret_revision = entry.revision;
    return r;
}

int token_save(struct core *core, const struct token_record *record, uint64_t revision,
               struct error **ret_error)
{
    struct txn txn cleanup(txn_clear) = {0};
    put(&txn, record, revision);
    return txn_commit(core, &txn, ret_error);
}

int core_token_create(struct core *core, const struct token_create *request, struct token_created *ret_reply,
                      struct error **ret_error)
{
    struct cluster_authority authority;
    struct store_list tokens cleanup(store_list_clear) = {0};
    int r = store_list(core->store, PREFIX, NULL, TOKENS_MAX, &tokens, ret_error);
    if (r == 0 && tokens.count >= TOKENS_MAX)
        return error_set(ret_error, EDQUOT, "there are %d tokens already; delete some", TOKENS_MAX);
    if (r == 0)
        r = core_cluster_authority(core, &authority, ret_error);
    if (r < 0)
        return r;
    struct join_token token;
    char hash[DIGEST_TEXT_SIZE], text[TOKEN_TEXT_MAX];
    join_token_make(authority.fingerprint, &token);
    schema_clear(&cluster_authority_schema, &authority);
    join_token_hash(&token, hash);
    join_token_text(&token, text);
    int64_t now = clock_real_ms();
    struct token_record record = {.id = token.id,
                                  .hash = hash,
                                  .node = request->node,
                                  .created = now,
                                  .expires = now + (int64_t)request->ttl * 1000};
    r = token_save(core, &record, 0, ret_error);
    if (r == 0)
        *ret_reply = (struct token_created){xstrdup(token.id), xstrdup(text), record.expires};
    return r;
}

static void report(const struct token_record *record, struct token_report *report)
{
    const char *state = record->used ? "used" : clock_real_ms() >= record->expires ? "expired" : "valid";
    *report = (struct token_report){.id = xstrdup(record->id),
                                    .state = xstrdup(state),
                                    .node = xstrdup(record->node),
                                    .created = record->created,
                                    .expires = record->expires,
                                    .used_by = xstrdup(record->used_by)};
}

int core_token_list(struct core *core, struct token_list *ret_reply, struct error **ret_error)
{
    struct store_list tokens cleanup(store_list_clear) = {0};
    int r = store_list(core->store, PREFIX, NULL, 0, &tokens, ret_error);
    if (r < 0)
        return r;
    *ret_reply = (struct token_list){0};
    for (size_t i = 0; i < tokens.count; i++) {
        struct token_record record;
        if (decode(&tokens.entries[i], &record, NULL) < 0)
            continue;
        report(&record, object_list_add(&ret_reply->tokens, sizeof(struct token_report)));
        schema_clear(&token_record_schema, &record);
    }
    return 0;
}

int core_token_delete(struct core *core, const char *id, struct error **ret_error)
{
    struct token_record record;
    uint64_t revision;
    int r = token_find(core, id, &record, &revision, ret_error);
    if (r < 0)
        return r;
    schema_clear(&token_record_schema, &record);
    autofree char *key = token_key(id);
    struct txn txn cleanup(txn_clear) = {0};
    txn_delete(&txn, key, revision);
    return txn_commit(core, &txn, ret_error);
}

void token_sweep(struct core *core)
{
    struct store_list tokens cleanup(store_list_clear) = {0};
    if (store_list(core->store, PREFIX, NULL, 0, &tokens, NULL) < 0)
        return;
    for (size_t i = 0; i < tokens.count; i++) {
        struct token_record record;
        if (decode(&tokens.entries[i], &record, NULL) < 0)
            continue;
        if (record.expires + KEEP_MS < clock_real_ms()) {
            struct txn txn cleanup(txn_clear) = {0};
            txn_delete(&txn, tokens.entries[i].key, tokens.entries[i].revision);
            txn_commit(core, &txn, NULL); /* the next sweep finds what this one could not remove */
        }
        schema_clear(&token_record_schema, &record);
    }
}
