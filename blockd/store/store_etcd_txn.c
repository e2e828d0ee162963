/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Transactions. An answer that is lost leaves open whether its request was done, or will be done yet by a
 * member that was frozen. So each transaction also changes a mark: a key of this process that only one
 * transaction at a time uses, and it names the revision that the mark has. Then a repetition happens only if
 * the first one did not, the mark says whether it did, and changing the mark makes sure that it never will.
 *
 * The marks hang on a lease of this process, and end with it. The lease is renewed by the way when
 * transactions come, and replaced long before it can end under one.
 */
#include <errno.h>
#include <string.h>

#include "blockd/store/store_etcd_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define LEASE_SECONDS 120
#define RENEW_MS      (INT64_C(1000) * LEASE_SECONDS / 4)
#define REPLACE_MS    (INT64_C(1000) * LEASE_SECONDS / 2)
#define MARK_TRIES    3 /* marks may be lost when somebody deletes them by hand */

struct mark {
    int64_t lease;
    unsigned number;
    uint64_t revision; /* 0: is not there yet */
    uint64_t serial;   /* of the transaction that uses it, which is its value */
    bool lost;         /* what it is in etcd is not known: never used again */
    struct mark *next;
};

struct etcd_txns {
    const struct etcd_settings *settings;
    struct etcd_transport *transport;

    pthread_mutex_t lease_mutex; /* held while the lease is renewed; guards these two */
    int64_t lease;               /* 0: none */
    int64_t renewed;             /* clock_monotonic_ms() */

    pthread_mutex_t mutex; /* guards what follows */
    struct mark *idle;
    unsigned next_number;
};

/* ---- The lease ---- */

static int ensure_lease(struct etcd_txns *txns, int64_t *ret_lease, struct error **ret_error)
{
    scoped_lock(&txns->lease_mutex);
    int64_t now = clock_monotonic_ms(), age = now - txns->renewed;
    if (txns->lease && age > RENEW_MS && age < REPLACE_MS) {
        autoerror struct error *problem = NULL;
        int r = etcd_lease_renew(txns->transport, txns->lease, &problem);
        if (r == 0)
            txns->renewed = now;
        else if (r != -ENOENT)
            return error_set(ret_error, -r, "%s", error_message(problem));
        else
            txns->lease = 0;
    }
    if (!txns->lease || now - txns->renewed >= REPLACE_MS) {
        int r = etcd_lease_grant(txns->transport, LEASE_SECONDS, &txns->lease, ret_error);
        if (r < 0)
            return r;
        txns->renewed = now;
    }
    *ret_lease = txns->lease;
    return 0;
}

/* When a transaction finds its lease gone: the next one gets another. */
static void drop_lease(struct etcd_txns *txns, int64_t lease)
{
    scoped_lock(&txns->lease_mutex);
    if (txns->lease == lease)
        txns->lease = 0;
}

/* ---- Marks ---- */

static int take_mark(struct etcd_txns *txns, struct mark **ret_mark, struct error **ret_error)
{
    int64_t lease = 0;
    int r = ensure_lease(txns, &lease, ret_error);
    if (r < 0)
        return r;
    scoped_lock(&txns->mutex);
    while (txns->idle) {
        struct mark *mark = txns->idle;
        txns->idle = mark->next;
        if (mark->lease == lease) {
            mark->serial++;
            *ret_mark = mark;
            return 0;
        }
        free(mark);
    }
    struct mark *mark = xcalloc(1, sizeof *mark);
    mark->lease = lease;
    mark->number = ++txns->next_number;
    mark->serial = 1;
    *ret_mark = mark;
    return 0;
}

static void give_mark_back(struct etcd_txns *txns, struct mark *mark)
{
    if (mark->lost) {
        free(mark);
        return;
    }
    scoped_lock(&txns->mutex);
    mark->next = txns->idle;
    txns->idle = mark;
}

static json_t *mark_key(const struct etcd_txns *txns, const struct mark *mark)
{
    autofree char *name = xasprintf("%llx/%u", (unsigned long long)mark->lease, mark->number);
    return etcd_key(txns->settings->marks, name);
}

static json_t *mark_compare(const struct etcd_txns *txns, const struct mark *mark)
{
    return json_pack("{s:o, s:s, s:o}", "key", mark_key(txns, mark), "target", "MOD", "mod_revision",
                     etcd_number(mark->revision));
}

/* `word` tells a transaction's own change of the mark from the one that locks it out. */
static json_t *mark_put(const struct etcd_txns *txns, const struct mark *mark, const char *word)
{
    autofree char *value = xasprintf("%s%llu", word, (unsigned long long)mark->serial);
    return json_pack("{s:{s:o, s:o, s:o}}", "request_put", "key", mark_key(txns, mark), "value",
                     etcd_bytes(value, strlen(value)), "lease", etcd_number((uint64_t)mark->lease));
}

static json_t *mark_range(const struct etcd_txns *txns, const struct mark *mark)
{
    return json_pack("{s:{s:o}}", "request_range", "key", mark_key(txns, mark));
}

/* ---- The request ---- */

static bool compares(const struct store_op *op)
{
    return op->compare || op->kind == STORE_CHECK;
}

static json_t *op_request(const struct etcd_txns *txns, const struct store_op *op)
{
    json_t *key = etcd_key(txns->settings->prefix, op->key);
    if (op->kind == STORE_DELETE)
        return json_pack("{s:{s:o}}", "request_delete_range", "key", key);
    json_t *put = json_pack("{s:o, s:o}", "key", key, "value", etcd_bytes(op->value, strlen(op->value)));
    if (op->lease)
        json_object_set_new(put, "lease", etcd_number((uint64_t)op->lease));
    return json_pack("{s:o}", "request_put", put);
}

static bool any_kind(const struct store_op *ops, size_t count, int kind)
{
    for (size_t i = 0; i < count; i++)
        if ((int)ops[i].kind == kind)
            return true;
    return false;
}

/* Deletions of what is not there are no change, so they must not change the mark either. */
static json_t *only_if_something_is_there(const struct etcd_txns *txns, const struct store_op *ops,
                                          size_t count, json_t *changes)
{
    json_t *absent = json_array();
    for (size_t i = 0; i < count; i++)
        if (ops[i].kind == STORE_DELETE)
            json_array_append_new(absent, json_pack("{s:o, s:s, s:s}", "key",
                                                    etcd_key(txns->settings->prefix, ops[i].key), "target",
                                                    "VERSION", "version", "0"));
    return json_pack("[{s:{s:o, s:o}}]", "request_txn", "compare", absent, "failure", changes);
}

/* `mark` is NULL when nothing but comparisons is asked for. */
static char *build(const struct etcd_txns *txns, const struct mark *mark, const struct store_op *ops,
                   size_t count)
{
    json_t *compare = json_array(), *success = json_array(), *failure = json_array();
    if (mark) {
        json_array_append_new(compare, mark_compare(txns, mark));
        json_array_append_new(failure, mark_range(txns, mark));
        json_array_append_new(success, mark_put(txns, mark, ""));
    }
    for (size_t i = 0; i < count; i++) {
        if (ops[i].kind != STORE_CHECK)
            json_array_append_new(success, op_request(txns, &ops[i]));
        if (!compares(&ops[i]))
            continue;
        json_t *key = etcd_key(txns->settings->prefix, ops[i].key);
        json_array_append_new(compare, json_pack("{s:O, s:s, s:o}", "key", key, "target", "MOD",
                                                 "mod_revision", etcd_number(ops[i].revision)));
        json_array_append_new(failure,
                              json_pack("{s:{s:o, s:b}}", "request_range", "key", key, "keys_only", 1));
    }
    if (mark && !any_kind(ops, count, STORE_PUT))
        success = only_if_something_is_there(txns, ops, count, success);
    json_t *request =
        json_pack("{s:o, s:o, s:o}", "compare", compare, "success", success, "failure", failure);
    char *body = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    return body;
}

/* ---- The answer ---- */

/* The revision and the value of the one key that a range in an answer is about; 0 when it is not there. */
static int read_range(const json_t *responses, size_t index, const char *prefix, uint64_t *ret_revision,
                      char **ret_value, struct error **ret_error)
{
    const json_t *range = json_object_get(json_array_get(responses, index), "response_range");
    if (!range)
        return error_set(ret_error, EBADMSG, "etcd's answer lacks a part");
    struct store_list list = {0};
    bool more;
    int r = etcd_range_parse(range, prefix, &list, &more, NULL, ret_error);
    if (r == 0) {
        *ret_revision = list.count ? list.entries[0].revision : 0;
        if (ret_value)
            *ret_value = list.count ? steal_ptr(&list.entries[0].value) : NULL;
    }
    store_list_clear(&list);
    return r;
}

static int stale(const struct store_op *op, uint64_t revision, struct error **ret_error)
{
    if (!op->revision)
        return error_set(ret_error, ESTALE, "%s exists already", op->key);
    if (!revision)
        return error_set(ret_error, ESTALE, "%s does not exist any more", op->key);
    return error_set(ret_error, ESTALE, "%s was changed meanwhile (revision %llu, not %llu)", op->key,
                     (unsigned long long)revision, (unsigned long long)op->revision);
}

/* Which comparison failed. `index` is the place of the first one in the answer. */
static int explain_stale(const struct etcd_txns *txns, const json_t *responses, size_t index,
                         const struct store_op *ops, size_t count, struct error **ret_error)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t revision;
        if (!compares(&ops[i]))
            continue;
        int r = read_range(responses, index++, txns->settings->prefix, &revision, NULL, ret_error);
        if (r < 0)
            return r;
        if (revision != ops[i].revision)
            return stale(&ops[i], revision, ret_error);
    }
    return error_set(ret_error, EBADMSG, "etcd refused a transaction whose comparisons all hold");
}

/* -EOWNERDEAD: the mark is not what this process made it. */
static int read_refusal(const struct etcd_txns *txns, struct mark *mark, const json_t *responses,
                        const struct store_op *ops, size_t count, uint64_t *ret_revision,
                        struct error **ret_error)
{
    if (!mark)
        return explain_stale(txns, responses, 0, ops, count, ret_error);
    uint64_t revision;
    autofree char *value = NULL;
    int r = read_range(responses, 0, txns->settings->marks, &revision, &value, ret_error);
    if (r < 0)
        return r;
    if (revision == mark->revision)
        return explain_stale(txns, responses, 1, ops, count, ret_error);
    autofree char *own = xasprintf("%llu", (unsigned long long)mark->serial);
    if (!string_equal(value, own))
        return error_set(ret_error, EOWNERDEAD, "the store's marks of this process are gone from etcd");
    mark->revision = revision; /* it was done, and this is a repetition */
    *ret_revision = revision;
    return 0;
}

static bool mark_was_put(const json_t *responses)
{
    const json_t *nested = json_object_get(json_array_get(responses, 0), "response_txn");
    return !nested || !json_is_true(json_object_get(nested, "succeeded"));
}

static int read_answer(const struct etcd_txns *txns, struct mark *mark, const json_t *reply,
                       const struct store_op *ops, size_t count, uint64_t *ret_revision,
                       struct error **ret_error)
{
    const json_t *responses = json_object_get(reply, "responses");
    if (!json_is_true(json_object_get(reply, "succeeded")))
        return read_refusal(txns, mark, responses, ops, count, ret_revision, ret_error);
    int r = etcd_header_revision(reply, ret_revision, ret_error);
    if (r == 0 && mark && mark_was_put(responses))
        mark->revision = *ret_revision;
    return r;
}

/* ---- One transaction ---- */

/*
 * Makes sure that no earlier request with this mark is done from now on. 0: none was; 1: one was, at
 * *ret_revision.
 */
static int lock_out(struct etcd_txns *txns, struct mark *mark, struct etcd_effort *effort,
                    uint64_t *ret_revision, struct error **ret_error)
{
    json_t *request = json_pack("{s:[o], s:[o], s:[o]}", "compare", mark_compare(txns, mark), "success",
                                mark_put(txns, mark, "locked "), "failure", mark_range(txns, mark));
    json_t *reply = NULL;
    int r = etcd_ask(txns->transport, effort, "/v3/kv/txn", request, &reply, ret_error);
    if (r < 0)
        return r;
    uint64_t revision = 0;
    autofree char *value = NULL;
    if (json_is_true(json_object_get(reply, "succeeded")))
        r = etcd_header_revision(reply, &revision, ret_error);
    else
        r = read_range(json_object_get(reply, "responses"), 0, txns->settings->marks, &revision, &value,
                       ret_error);
    json_decref(reply);
    if (r < 0)
        return r;
    autofree char *own = xasprintf("%llu", (unsigned long long)mark->serial);
    mark->revision = revision;
    mark->lost = revision == 0;
    *ret_revision = revision;
    return string_equal(value, own) ? 1 : 0;
}

static int commit_with(struct etcd_txns *txns, struct mark *mark, const struct store_op *ops, size_t count,
                       uint64_t *ret_revision, struct error **ret_error)
{
    struct etcd_effort effort = etcd_effort_begin(txns->transport);
    autofree char *body = build(txns, mark, ops, count);
    autoerror struct error *problem = NULL;
    int r;
    do {
        json_t *reply = NULL;
        error_free(steal_ptr(&problem));
        r = etcd_attempt(txns->transport, &effort, "/v3/kv/txn", body, &reply, &problem);
        if (r == 0)
            r = read_answer(txns, mark, reply, ops, count, ret_revision, &problem);
        json_decref(reply);
    } while (etcd_is_transient(r));

    if (r < 0 && mark && effort.uncertain && r != -ENOTCONN && r != -EOWNERDEAD) {
        autoerror struct error *doubt = NULL;
        int locked = lock_out(txns, mark, &effort, ret_revision, &doubt);
        if (locked == 1)
            return 0;
        if (locked < 0) {
            mark->lost = true;
            return error_set(ret_error, -locked, "%s", error_message(doubt));
        }
    }
    if (r < 0 && mark)
        mark->lost |= effort.uncertain || r == -EOWNERDEAD;
    if (r == -EOWNERDEAD && effort.uncertain)
        return error_set(ret_error, ENOTCONN,
                         "etcd lost this process's marks: whether the change was made is not known");
    return r < 0 ? error_set(ret_error, -r, "%s", error_message(problem)) : 0;
}

/* -ENOENT is about a lease: the caller's, or that of the marks. */
static bool is_own_lease(struct etcd_txns *txns, const struct mark *mark)
{
    return etcd_lease_renew(txns->transport, mark->lease, NULL) == -ENOENT;
}

static int no_lease(const struct store_op *ops, size_t count, struct error **ret_error)
{
    size_t i = 0;
    while (i < count - 1 && !ops[i].lease)
        i++;
    return error_set(ret_error, ENOENT, "%s: the lease %lld has ended", ops[i].key, (long long)ops[i].lease);
}

int etcd_txns_commit(struct etcd_txns *txns, const struct store_op *ops, size_t count, uint64_t *ret_revision,
                     struct error **ret_error)
{
    if (!any_kind(ops, count, STORE_PUT) && !any_kind(ops, count, STORE_DELETE))
        return commit_with(txns, NULL, ops, count, ret_revision, ret_error);
    for (unsigned tries = 1;; tries++) {
        struct mark *mark = NULL;
        int r = take_mark(txns, &mark, ret_error);
        if (r < 0)
            return r;
        autoerror struct error *problem = NULL;
        r = commit_with(txns, mark, ops, count, ret_revision, &problem);
        bool again = r == -EOWNERDEAD || (r == -ENOENT && is_own_lease(txns, mark));
        if (again)
            drop_lease(txns, mark->lease);
        give_mark_back(txns, mark);
        if (r == 0)
            return 0;
        if (!again && r == -ENOENT)
            return no_lease(ops, count, ret_error);
        if (!again || tries == MARK_TRIES)
            return error_set(ret_error, -r, "%s", error_message(problem));
    }
}

/* ---- Open and close ---- */

struct etcd_txns *etcd_txns_new(const struct etcd_settings *settings, struct etcd_transport *transport)
{
    struct etcd_txns *txns = xcalloc(1, sizeof *txns);
    txns->settings = settings;
    txns->transport = transport;
    pthread_mutex_init(&txns->lease_mutex, NULL);
    pthread_mutex_init(&txns->mutex, NULL);
    return txns;
}

void etcd_txns_free(struct etcd_txns *txns)
{
    if (!txns)
        return;
    if (txns->lease)
        etcd_lease_revoke(txns->transport, txns->lease, NULL); /* without an answer it ends by itself */
    while (txns->idle) {
        struct mark *mark = txns->idle;
        txns->idle = mark->next;
        free(mark);
    }
    pthread_mutex_destroy(&txns->lease_mutex);
    pthread_mutex_destroy(&txns->mutex);
    free(txns);
}
