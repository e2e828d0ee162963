/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* How much one client may ask: a bucket each, which fills with time. And how much strangers may write into
 * the log. */
#include <errno.h>
#include <string.h>

#include "blockd/api/api_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/log.h"

#define CLIENTS_MAX    256
#define STRANGER_RATE  10 /* requests a second of an address without a certificate */
#define LINES_A_SECOND 5
#define THOUSAND       1000

struct bucket {
    char *client;    /* NULL: the place is free */
    int64_t credit;  /* thousandths of requests */
    int64_t updated; /* CLOCK_MONOTONIC ms */
};

struct rate {
    pthread_mutex_t mutex;
    int64_t a_second; /* requests; 0: no limit */
    struct bucket buckets[CLIENTS_MAX];
};

struct rate *rate_new(uint64_t a_second)
{
    struct rate *rate = xcalloc(1, sizeof *rate);
    pthread_mutex_init(&rate->mutex, NULL);
    rate->a_second = (int64_t)a_second;
    return rate;
}

void rate_free(struct rate *rate)
{
    if (!rate)
        return;
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        free(rate->buckets[i].client);
    pthread_mutex_destroy(&rate->mutex);
    free(rate);
}

/* Whose bucket has not been touched for longest has the most credit to lose by it: none. */
static struct bucket *bucket_of(struct rate *rate, const char *client, int64_t full)
{
    struct bucket *oldest = &rate->buckets[0];
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        struct bucket *bucket = &rate->buckets[i];
        if (string_equal(bucket->client, client))
            return bucket;
        if (!bucket->client || (oldest->client && bucket->updated < oldest->updated))
            oldest = bucket;
    }
    free(oldest->client);
    *oldest = (struct bucket){xstrdup(client), full, clock_monotonic_ms()};
    return oldest;
}

int rate_take(struct rate *rate, const struct caller *caller, const char *address, struct error **ret_error)
{
    bool stranger = caller->role == ROLE_NOBODY;
    int64_t a_second = stranger ? STRANGER_RATE : rate->a_second;
    if (caller->local || !a_second)
        return 0;
    autofree char *client = stranger ? xasprintf("@%s", address ? address : "")
                                     : xasprintf("%s/%s", caller->role_word, caller->name);
    int64_t full = 2 * a_second * THOUSAND, now = clock_monotonic_ms();
    scoped_lock(&rate->mutex);
    struct bucket *bucket = bucket_of(rate, client, full);
    int64_t filled = bucket->credit + (now - bucket->updated) * a_second;
    bucket->credit = filled < full ? filled : full;
    bucket->updated = now;
    if (bucket->credit < THOUSAND)
        return error_set(ret_error, EUSERS, "more than %lld requests a second; try again later",
                         (long long)a_second);
    bucket->credit -= THOUSAND;
    return 0;
}

/* ---- Lines about strangers ---- */

void log_stranger(const char *address, const char *reason)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static int64_t second;
    static unsigned written, dropped;
    scoped_lock(&mutex);
    int64_t now = clock_monotonic_ms() / 1000;
    if (now != second) {
        if (dropped)
            log_warning("%u more clients of the API were refused", dropped);
        second = now;
        written = dropped = 0;
    }
    if (written++ < LINES_A_SECOND)
        log_warning("refused %s: %s", address, reason);
    else
        dropped++;
}
