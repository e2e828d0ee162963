/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Which certificates were signed, and which of them are revoked. A revocation is a key in the store; every
 * node puts it on its own list, so that all of them know it, whichever was asked.
 */
#include <errno.h>
#include <string.h>

#include "blockd/core/cluster.h"
#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/sizes.h"
#include "rpc/pki.h"

#define SIGNED  "certificates/"
#define KEEP_MS (30 * 86400 * INT64_C(1000)) /* after a certificate's time */

static int put_once(struct core *core, const char *key, const char *value, struct error **ret_error)
{
    struct txn txn cleanup(txn_clear) = {0};
    txn_put_text(&txn, key, value, 0);
    int r = txn_commit(core, &txn, ret_error);
    if (r == -ESTALE && ret_error) {
        error_free(*ret_error);
        *ret_error = NULL;
    }
    return r == -ESTALE ? 0 : r; /* it is there already */
}

int certificate_record(struct core *core, const char *certificate, struct error **ret_error)
{
    autopki_certificate struct pki_certificate read = {0};
    int r = pki_read(certificate, &read, ret_error);
    return r < 0 ? r : certificate_record_read(core, &read, ret_error);
}

int certificate_record_read(struct core *core, const struct pki_certificate *certificate,
                            struct error **ret_error)
{
    struct certificate_record record = {.serial = certificate->serial,
                                        .name = certificate->name,
                                        .role = (char *)pki_role_word(certificate->role),
                                        .issued = certificate->not_before * 1000,
                                        .expires = certificate->not_after * 1000};
    autofree char *key = xasprintf(SIGNED "%s", record.serial);
    json_t *json cleanup(json_decrefp) = schema_encode(&certificate_record_schema, &record);
    autofree char *value = json_dumps(json, JSON_COMPACT);
    return put_once(core, key, value, ret_error);
}

/* ---- Revocation ---- */

int certificate_record_revoked(struct core *core, const char *serial, struct error **ret_error)
{
    int r = name_check("serial number", serial, ret_error);
    autofree char *key = xasprintf(REVOKED_PREFIX "%s", serial);
    autofree char *value = xasprintf("{\"revoked\":%lld}", (long long)clock_real_ms());
    return r < 0 ? r : put_once(core, key, value, ret_error);
}

int certificate_apply_revoked(struct core *core, struct error **ret_error)
{
    struct store_list revoked cleanup(store_list_clear) = {0};
    int r = store_list(core->store, REVOKED_PREFIX, NULL, 0, &revoked, ret_error);
    uint64_t done = atomic_load(&core->revoked_done), newest = done;
    for (size_t i = 0; i < revoked.count && r == 0; i++) {
        if (revoked.entries[i].revision <= done)
            continue;
        autofree char *list = NULL;
        r = engine_certificate_revoke(core->engine, revoked.entries[i].key + strlen(REVOKED_PREFIX), &list,
                                      ret_error);
        newest = revoked.entries[i].revision > newest ? revoked.entries[i].revision : newest;
    }
    if (r == 0)
        atomic_store(&core->revoked_done, newest);
    return r;
}

/* ---- Lists ---- */

static bool is_revoked(const struct store_list *revoked, const char *serial)
{
    for (size_t i = 0; i < revoked->count; i++)
        if (strcmp(revoked->entries[i].key + strlen(REVOKED_PREFIX), serial) == 0)
            return true;
    return false;
}

static int decode(const struct store_entry *entry, struct certificate_record *ret_record)
{
    json_t *json cleanup(json_decrefp) = json_loads(entry->value, 0, NULL);
    *ret_record = (struct certificate_record){0};
    int r = json ? schema_decode(&certificate_record_schema, json, ret_record, NULL, NULL) : -EBADMSG;
    if (r < 0)
        schema_clear(&certificate_record_schema, ret_record);
    return r;
}

char *certificate_name(struct core *core, const char *serial)
{
    struct store_entry entry cleanup(store_entry_clear) = {0};
    struct certificate_record record;
    autofree char *key = xasprintf(SIGNED "%s", serial);
    if (store_get(core->store, key, &entry, NULL) < 0 || decode(&entry, &record) < 0)
        return NULL;
    char *name = steal_ptr(&record.name);
    schema_clear(&certificate_record_schema, &record);
    return name;
}

int core_certificate_list(struct core *core, struct certificate_list *ret_reply, struct error **ret_error)
{
    struct store_list made cleanup(store_list_clear) = {0}, revoked cleanup(store_list_clear) = {0};
    int r = store_list(core->store, SIGNED, NULL, 0, &made, ret_error);
    if (r == 0)
        r = store_list(core->store, REVOKED_PREFIX, NULL, 0, &revoked, ret_error);
    if (r < 0)
        return r;
    *ret_reply = (struct certificate_list){0};
    for (size_t i = 0; i < made.count; i++) {
        struct certificate_record record;
        if (decode(&made.entries[i], &record) < 0)
            continue;
        record.revoked = is_revoked(&revoked, record.serial);
        *(struct certificate_record *)object_list_add(&ret_reply->certificates, sizeof record) = record;
    }
    return 0;
}

int core_certificate_renew(struct core *core, struct certificate_record *ret_reply, struct error **ret_error)
{
    struct node node cleanup(cleanup_node) = {0};
    autopki_certificate struct pki_certificate own = {0};
    int r = record_get(core, KIND_NODE, core->node, &node, ret_error);
    if (r == 0)
        r = engine_certificate_renew(core->engine, &node, ret_error);
    if (r == 0) /* notes it in the records */
        r = node_need_certificate(core, ret_error);
    if (r == 0)
        r = engine_own_certificate(core->engine, &own, ret_error);
    if (r < 0)
        return r;
    *ret_reply = (struct certificate_record){.serial = steal_ptr(&own.serial),
                                             .name = steal_ptr(&own.name),
                                             .role = xstrdup(pki_role_word(own.role)),
                                             .issued = own.not_before * 1000,
                                             .expires = own.not_after * 1000};
    return 0;
}

void certificate_sweep(struct core *core)
{
    struct store_list made cleanup(store_list_clear) = {0};
    if (store_list(core->store, SIGNED, NULL, 0, &made, NULL) < 0)
        return;
    for (size_t i = 0; i < made.count; i++) {
        struct certificate_record record;
        if (decode(&made.entries[i], &record) < 0)
            continue;
        if (record.expires + KEEP_MS < clock_real_ms()) {
            struct txn txn cleanup(txn_clear) = {0};
            txn_delete(&txn, made.entries[i].key, made.entries[i].revision);
            txn_commit(core, &txn, NULL); /* the next sweep finds what this one could not remove */
        }
        schema_clear(&certificate_record_schema, &record);
    }
}
