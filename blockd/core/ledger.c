/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * How much of each hosting volume is promised to blocks. The store's blocks are the truth; the ledger is
 * their sum, read once at the start and kept along with each change, so that a create need not list thousands
 * of records.
 */
#include <errno.h>
#include <string.h>

#include "core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"

struct account {
    char *volume;
    uint64_t bytes, blocks;
    bool closed;
};

struct ledger {
    pthread_mutex_t mutex; /* guards what follows */
    struct object_list accounts;
};

/* With the lock held. */
static struct account *account_of(struct ledger *ledger, const char *volume)
{
    for (size_t i = 0; i < ledger->accounts.count; i++) {
        struct account *account = (struct account *)ledger->accounts.items + i;
        if (strcmp(account->volume, volume) == 0)
            return account;
    }
    struct account *account = object_list_add(&ledger->accounts, sizeof *account);
    account->volume = xstrdup(volume);
    return account;
}

int ledger_reserve(struct ledger *ledger, const char *volume, uint64_t bytes, uint64_t blocks, uint64_t limit,
                   struct error **ret_error)
{
    scoped_lock(&ledger->mutex);
    struct account *account = account_of(ledger, volume);
    if (account->closed)
        return error_set(ret_error, ENOENT, "volume %s does not exist: it is being deleted", volume);
    uint64_t free_bytes = account->bytes < limit ? limit - account->bytes : 0;
    if (bytes > free_bytes) {
        char wanted[SIZE_TEXT_SIZE], left[SIZE_TEXT_SIZE], whole[SIZE_TEXT_SIZE];
        size_format(bytes, wanted);
        size_format(free_bytes, left);
        size_format(limit, whole);
        return error_set(
            ret_error, ENOSPC,
            "volume %s has no room for %s more: %s of %s are not promised to blocks yet; add space, delete "
            "blocks or raise the volume's overcommit",
            volume, wanted, left, whole);
    }
    account->bytes += bytes;
    account->blocks += blocks;
    return 0;
}

void ledger_release(struct ledger *ledger, const char *volume, uint64_t bytes, uint64_t blocks)
{
    scoped_lock(&ledger->mutex);
    struct account *account = account_of(ledger, volume);
    account->bytes -= bytes < account->bytes ? bytes : account->bytes;
    account->blocks -= blocks < account->blocks ? blocks : account->blocks;
}

int ledger_close(struct ledger *ledger, const char *volume, struct error **ret_error)
{
    scoped_lock(&ledger->mutex);
    struct account *account = account_of(ledger, volume);
    if (account->blocks)
        return error_set(ret_error, ENOTEMPTY, "volume %s holds %llu block%s: delete %s first", volume,
                         (unsigned long long)account->blocks, account->blocks == 1 ? "" : "s",
                         account->blocks == 1 ? "it" : "them");
    account->closed = true;
    return 0;
}

void ledger_open(struct ledger *ledger, const char *volume)
{
    scoped_lock(&ledger->mutex);
    account_of(ledger, volume)->closed = false;
}

void ledger_read(struct ledger *ledger, const char *volume, uint64_t *ret_bytes, uint64_t *ret_blocks)
{
    scoped_lock(&ledger->mutex);
    const struct account *account = account_of(ledger, volume);
    *ret_bytes = account->bytes;
    *ret_blocks = account->blocks;
}

int ledger_new(struct core *core, struct ledger **ret_ledger, struct error **ret_error)
{
    struct record_list blocks = {.kind = KIND_BLOCK};
    int r = record_list_readable(core, KIND_BLOCK, NULL, &blocks, ret_error);
    if (r < 0)
        return r;
    struct ledger *ledger = xcalloc(1, sizeof *ledger);
    pthread_mutex_init(&ledger->mutex, NULL);
    for (size_t i = 0; i < blocks.list.count; i++) {
        const struct block *block = RECORD(&blocks, block, i);
        autofree char *volume = object_name_part(block->meta.name, 0);
        struct account *account = account_of(ledger, volume);
        account->bytes += block->spec.size;
        account->blocks++;
    }
    record_list_clear(&blocks);
    *ret_ledger = ledger;
    return 0;
}

void ledger_free(struct ledger *ledger)
{
    if (!ledger)
        return;
    for (size_t i = 0; i < ledger->accounts.count; i++)
        free(((struct account *)ledger->accounts.items)[i].volume);
    free(ledger->accounts.items);
    pthread_mutex_destroy(&ledger->mutex);
    free(ledger);
}
