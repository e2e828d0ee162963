/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Chooses the backend, and checks once for all of them what callers hand in. */
#include "blockd/store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/store_priv.h"

#define LEASE_SECONDS_MAX 86400

static const struct store_driver *const drivers[] = {&store_embedded_driver, &store_etcd_driver};

int store_open(const char *url, struct store **ret_store, struct error **ret_error)
{
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++) {
        size_t length = strlen(drivers[i]->scheme);
        if (strncmp(url, drivers[i]->scheme, length) == 0 && url[length] == ':')
            return drivers[i]->open(url + length + 1, ret_store, ret_error);
    }
    return error_set(ret_error, EINVAL,
                     "the store \"%s\" has no known scheme; use sqlite:/PATH or etcd://HOST:PORT", url);
}

bool store_is_shared(const struct store *store)
{
    return store->driver->shared;
}

void store_close(struct store *store)
{
    if (store)
        store->driver->close(store);
}

void store_entry_clear(struct store_entry *entry)
{
    free(entry->key);
    free(entry->value);
    *entry = (struct store_entry){0};
}

void store_list_clear(struct store_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        store_entry_clear(&list->entries[i]);
    free(list->entries);
    *list = (struct store_list){0};
}

/* Printable ASCII without blanks: the order of bytes is then the order everywhere, and
 * no escape is needed. */
static int check_key_text(const char *what, const char *key, struct error **ret_error)
{
    size_t length = strnlen(key, STORE_KEY_MAX + 1);
    if (length > STORE_KEY_MAX)
        return error_set(ret_error, EINVAL, "the %s %.64s... is longer than %u bytes", what, key,
                         STORE_KEY_MAX);
    for (size_t i = 0; i < length; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return error_set(ret_error, EINVAL,
                             "the %s has the byte 0x%02x; keys are printable ASCII without blanks", what,
                             (unsigned char)key[i]);
    return 0;
}

static int check_key(const char *key, struct error **ret_error)
{
    if (!*key)
        return error_set(ret_error, EINVAL, "the key is empty");
    return check_key_text("key", key, ret_error);
}

int store_get(struct store *store, const char *key, struct store_entry *ret_entry, struct error **ret_error)
{
    int r = check_key(key, ret_error);
    return r < 0 ? r : store->driver->get(store, key, ret_entry, ret_error);
}

int store_list(struct store *store, const char *prefix, const char *after, size_t limit,
               struct store_list *ret_list, struct error **ret_error)
{
    int r = check_key_text("prefix", prefix, ret_error);
    if (r == 0 && after)
        r = check_key_text("key to start after", after, ret_error);
    return r < 0 ? r : store->driver->list(store, prefix, after, limit, ret_list, ret_error);
}

static int check_op(const struct store_op *op, struct error **ret_error)
{
    int r = check_key(op->key, ret_error);
    if (r < 0 || op->kind != STORE_PUT)
        return r;
    if (!op->value)
        return error_set(ret_error, EINVAL, "there is no value to put at %s", op->key);
    if (strnlen(op->value, (size_t)STORE_VALUE_MAX + 1) > STORE_VALUE_MAX)
        return error_set(ret_error, EFBIG, "the value of %s is larger than %u bytes", op->key,
                         STORE_VALUE_MAX);
    return 0;
}

int store_commit(struct store *store, const struct store_op *ops, size_t count, uint64_t *ret_revision,
                 struct error **ret_error)
{
    if (count == 0 || count > STORE_OPS_MAX)
        return error_set(ret_error, EINVAL, "a transaction has 1 to %u operations, not %zu", STORE_OPS_MAX,
                         count);
    for (size_t i = 0; i < count; i++) {
        int r = check_op(&ops[i], ret_error);
        if (r < 0)
            return r;
        for (size_t other = 0; other < i; other++)
            if (strcmp(ops[i].key, ops[other].key) == 0)
                return error_set(ret_error, EINVAL, "the key %s is named twice in one transaction",
                                 ops[i].key);
    }
    uint64_t revision;
    int r = store->driver->commit(store, ops, count, &revision, ret_error);
    if (r == 0 && ret_revision)
        *ret_revision = revision;
    return r;
}

int store_watch(struct store *store, const char *prefix, uint64_t after_revision,
                store_watch_callback callback, void *data, struct store_watch **ret_watch,
                struct error **ret_error)
{
    int r = check_key_text("prefix", prefix, ret_error);
    return r < 0 ? r
                 : store->driver->watch(store, prefix, after_revision, callback, data, ret_watch, ret_error);
}

void store_watch_end(struct store_watch *watch)
{
    if (watch)
        watch->store->driver->watch_end(watch);
}

int store_lease_grant(struct store *store, unsigned seconds, int64_t *ret_lease, struct error **ret_error)
{
    if (seconds < 1 || seconds > LEASE_SECONDS_MAX)
        return error_set(ret_error, EINVAL, "a lease has 1 to %d seconds, not %u", LEASE_SECONDS_MAX,
                         seconds);
    return store->driver->lease_grant(store, seconds, ret_lease, ret_error);
}

int store_lease_renew(struct store *store, int64_t lease, struct error **ret_error)
{
    return store->driver->lease_renew(store, lease, ret_error);
}

int store_lease_revoke(struct store *store, int64_t lease, struct error **ret_error)
{
    return store->driver->lease_revoke(store, lease, ret_error);
}
