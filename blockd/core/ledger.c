/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * How much of each hosting volume is promised to blocks and shares. Their records are the truth; the ledger
 * is their sum, read once at the start and kept along with each change, so that a create need not list
 * thousands of records.
 */
#include <errno.h>
#include <string.h>

#include "core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"

struct account {
    char *volume;
    uint64_t bytes, blocks, shares;
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

/* With the lock held. */
static int reserve(struct account *account, uint64_t bytes, uint64_t limit, struct error **ret_error)
{
    const char *volume = account->volume;
    if (account->closed)
        return error_set(ret_error, ENOENT, "volume %s does not exist: it is being deleted", volume);
    uint64_t free_bytes = account->bytes < limit ? limit - account->bytes : 0;
    if (bytes > free_bytes) {
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
    account->bytes += bytes;
    return 0;
}

static void subtract(uint64_t *from, uint64_t number)
{
    *from -= number < *from ? number : *from;
}

int ledger_reserve(struct ledger *ledger, const char *volume, uint64_t bytes, uint64_t blocks, uint64_t limit,
                   struct error **ret_error)
{
    scoped_lock(&ledger->mutex);
    struct account *account = account_of(ledger, volume);
    int r = reserve(account, bytes, limit, ret_error);
    account->blocks += r == 0 ? blocks : 0;
    return r;
}

void ledger_release(struct ledger *ledger, const char *volume, uint64_t bytes, uint64_t blocks)
{
    scoped_lock(&ledger->mutex);
    struct account *account = account_of(ledger, volume);
    subtract(&account->bytes, bytes);
    subtract(&account->blocks, blocks);
}

int ledger_reserve_share(struct ledger *ledger, const char *volume, uint64_t bytes, uint64_t shares,
                         uint64_t limit, struct error **ret_error)
{
    scoped_lock(&ledger->mutex);
    struct account *account = account_of(ledger, volume);
    int r = reserve(account, bytes, limit, ret_error);
    account->shares += r == 0 ? shares : 0;
    return r;
}

void ledger_release_share(struct ledger *ledger, const char *volume, uint64_t bytes, uint64_t shares)
{
    scoped_lock(&ledger->mutex);
    struct account *account = account_of(ledger, volume);
    subtract(&account->bytes, bytes);
    subtract(&account->shares, shares);
}

int ledger_close(struct ledger *ledger, const char *volume, struct error **ret_error)
{
    scoped_lock(&ledger->mutex);
    struct account *account = account_of(ledger, volume);
    if (account->blocks)
        return error_set(ret_error, ENOTEMPTY, "volume %s holds %llu block%s: delete %s first", volume,
                         (unsigned long long)account->blocks, account->blocks == 1 ? "" : "s",
                         account->blocks == 1 ? "it" : "them");
    if (account->shares)
        return error_set(ret_error, ENOTEMPTY, "volume %s holds %llu share%s: delete %s first", volume,
                         (unsigned long long)account->shares, account->shares == 1 ? "" : "s",
                         account->shares == 1 ? "it" : "them");
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

uint64_t ledger_shares(struct ledger *ledger, const char *volume)
{
    scoped_lock(&ledger->mutex);
    return account_of(ledger, volume)->shares;
}

static int add_shares(struct core *core, struct ledger *ledger, struct error **ret_error)
{
    struct record_list shares = {.kind = KIND_SHARE};
    int r = record_list_readable(core, KIND_SHARE, NULL, &shares, ret_error);
    for (size_t i = 0; r == 0 && i < shares.list.count; i++) {
        const struct share *share = RECORD(&shares, share, i);
        autofree char *volume = object_name_part(share->meta.name, 0);
        struct account *account = account_of(ledger, volume);
        account->bytes += share->spec.size;
        account->shares++;
    }
    record_list_clear(&shares);
    return r;
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
    r = add_shares(core, ledger, ret_error);
    if (r < 0) {
        ledger_free(ledger);
        return r;
    }
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
