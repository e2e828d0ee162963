/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What the store promises while etcd's members are killed, frozen, cut off and away: nothing is lost, nothing
 * happens twice, nothing waits for ever.
 *
 * timeout: 600
 */
#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/store/store.h"
#include "tests/contract/etcd_proxy.h"

#define EVENTUALLY_MS 60000
/* Well above the store's own bound: machines of tests are busy. */
#define BOUND_MS 30000

static struct etcd_cluster etcd;
static struct store *store;

static void short_pause(void)
{
    struct timespec pause = {.tv_nsec = 10000000};
    nanosleep(&pause, NULL);
}

static struct store *open_at(const char *endpoints, const char *options)
{
    autofree char *url = xasprintf("etcd://%s?prefix=/t%s", endpoints, options);
    autoerror struct error *error = NULL;
    struct store *opened = NULL;
    if (store_open(url, &opened, &error) < 0)
        fail_msg("%s", error_message(error));
    return opened;
}

static void open_store(const char *endpoints, const char *options)
{
    store = open_at(endpoints, options);
}

static int try_list(void)
{
    struct store_list list = {0};
    int r = store_list(store, "", NULL, 1, &list, NULL);
    store_list_clear(&list);
    return r;
}

static void await_store(void)
{
    int64_t deadline = clock_monotonic_ms() + EVENTUALLY_MS;
    while (try_list() < 0) {
        assert_true(clock_monotonic_ms() < deadline);
        short_pause();
    }
}

static void start_cluster_with(size_t members, const char *options)
{
    etcd_start(&etcd, members, NULL);
    autofree char *endpoints = etcd_endpoints(&etcd);
    open_store(endpoints, options);
    await_store();
}

static void start_cluster(size_t members)
{
    start_cluster_with(members, "");
}

static int tear_down(void **state)
{
    (void)state;
    store_close(store);
    store = NULL;
    etcd_stop(&etcd);
    return 0;
}

static int put(const char *key, const char *value)
{
    return store_commit(store, &(struct store_op){.kind = STORE_PUT, .key = key, .value = value}, 1, NULL,
                        NULL);
}

/* ---- The load: threads that count one number up, and a watch that must see each step of it once ---- */

#define LOAD_THREADS 6

struct load {
    pthread_t threads[LOAD_THREADS];
    struct store_watch *watch;
    int stop;     /* atomic */
    int steps;    /* atomic: acknowledged */
    int failures; /* atomic: neither done nor refused by comparison */
    int seen;     /* atomic: the last number that the watch saw */
    int disorder; /* atomic: the watch saw another one than the next */
    int missed;   /* atomic */
};

static void on_step(void *data, const struct store_event *event)
{
    struct load *load = data;
    if (!event) {
        __atomic_add_fetch(&load->missed, 1, __ATOMIC_SEQ_CST);
        return;
    }
    int number = atoi(event->value), before = __atomic_exchange_n(&load->seen, number, __ATOMIC_SEQ_CST);
    if (number != before + 1)
        __atomic_add_fetch(&load->disorder, 1, __ATOMIC_SEQ_CST);
}

static void *count_up(void *data)
{
    struct load *load = data;
    while (!__atomic_load_n(&load->stop, __ATOMIC_SEQ_CST)) {
        struct store_entry entry = {0};
        autoerror struct error *error = NULL;
        int r = store_get(store, "counter", &entry, &error);
        if (r == 0) {
            autofree char *value = xasprintf("%d", atoi(entry.value) + 1);
            struct store_op op = {.kind = STORE_PUT,
                                  .key = "counter",
                                  .value = value,
                                  .compare = true,
                                  .revision = entry.revision};
            r = store_commit(store, &op, 1, NULL, &error);
            store_entry_clear(&entry);
        }
        if (r == 0)
            __atomic_add_fetch(&load->steps, 1, __ATOMIC_SEQ_CST);
        else if (r != -ESTALE) {
            fprintf(stderr, "%s\n", error_message(error));
            __atomic_add_fetch(&load->failures, 1, __ATOMIC_SEQ_CST);
        }
    }
    return NULL;
}

static void load_start(struct load *load)
{
    *load = (struct load){0};
    struct store_list list = {0};
    assert_int_equal(put("counter", "0"), 0);
    assert_int_equal(store_list(store, "", NULL, 0, &list, NULL), 0);
    assert_int_equal(store_watch(store, "counter", list.revision, on_step, load, &load->watch, NULL), 0);
    store_list_clear(&list);
    for (size_t i = 0; i < LOAD_THREADS; i++)
        assert_int_equal(pthread_create(&load->threads[i], NULL, count_up, load), 0);
}

/* Waits for so many more steps. */
static void load_await(struct load *load, int more)
{
    int until = __atomic_load_n(&load->steps, __ATOMIC_SEQ_CST) + more;
    int64_t deadline = clock_monotonic_ms() + EVENTUALLY_MS;
    while (__atomic_load_n(&load->steps, __ATOMIC_SEQ_CST) < until) {
        assert_true(clock_monotonic_ms() < deadline);
        short_pause();
    }
}

static int counter(void)
{
    struct store_entry entry = {0};
    assert_int_equal(store_get(store, "counter", &entry, NULL), 0);
    int number = atoi(entry.value);
    store_entry_clear(&entry);
    return number;
}

/* Exactly what was acknowledged has happened, and the watch saw each of it. */
static void load_finish(struct load *load)
{
    __atomic_store_n(&load->stop, 1, __ATOMIC_SEQ_CST);
    for (size_t i = 0; i < LOAD_THREADS; i++)
        pthread_join(load->threads[i], NULL);
    int64_t deadline = clock_monotonic_ms() + EVENTUALLY_MS;
    while (__atomic_load_n(&load->seen, __ATOMIC_SEQ_CST) < load->steps && clock_monotonic_ms() < deadline)
        short_pause();
    store_watch_end(load->watch);
    assert_int_equal(load->failures, 0);
    assert_int_equal(counter(), load->steps);
    assert_int_equal(load->seen, load->steps);
    assert_int_equal(load->disorder, 0);
    assert_int_equal(load->missed, 0);
}

/* ---- Members that die ---- */

static void killed_and_started_again_under_load(void **state)
{
    (void)state;
    struct load load;
    start_cluster(1);
    load_start(&load);
    for (int round = 0; round < 3; round++) {
        load_await(&load, 30);
        etcd_kill_member(&etcd, 0);
        etcd_start_member(&etcd, 0);
    }
    load_await(&load, 30);
    load_finish(&load);
}

/* The member that says of itself that it leads. */
static size_t leader(void)
{
    for (int64_t deadline = clock_monotonic_ms() + EVENTUALLY_MS; clock_monotonic_ms() < deadline;
         short_pause())
        for (size_t i = 0; i < etcd.count; i++) {
            json_t *status = etcd_post(&etcd, i, "/v3/maintenance/status", "{}");
            const char *leads = json_string_value(json_object_get(status, "leader"));
            const char *self =
                json_string_value(json_object_get(json_object_get(status, "header"), "member_id"));
            bool found = leads && self && strcmp(leads, self) == 0;
            json_decref(status);
            if (found)
                return i;
        }
    fail_msg("etcd has no leader");
    return 0;
}

static void a_leader_dies_and_another_freezes(void **state)
{
    (void)state;
    struct load load;
    start_cluster_with(3, "&timeout=50"); /* a member whose leader is gone may keep reads waiting for 7 s */
    load_start(&load);
    load_await(&load, 30);
    size_t dead = leader();
    etcd_kill_member(&etcd, dead);
    load_await(&load, 30);
    etcd_start_member(&etcd, dead);
    load_await(&load, 30);

    pid_t frozen = etcd.members[leader()].pid;
    kill(frozen, SIGSTOP);
    load_await(&load, 30);
    kill(frozen, SIGCONT); /* what it held back must not happen now */
    load_await(&load, 30);
    load_finish(&load);
}

/* ---- The quorum ---- */

static void *call_without_quorum(void *data)
{
    int *result = data;
    autoerror struct error *error = NULL;
    struct store_op op = {.kind = STORE_PUT, .key = "a", .value = "2"};
    int64_t begin = clock_monotonic_ms();
    *result = store_commit(store, &op, 1, NULL, &error);
    if (clock_monotonic_ms() - begin > BOUND_MS || !strstr(error_message(error), "unavailable"))
        *result = -1;
    return NULL;
}

static void without_quorum_calls_fail_in_time(void **state)
{
    (void)state;
    struct load seen = {0};
    struct store_watch *watch = NULL;
    start_cluster_with(3, "&timeout=4");
    assert_int_equal(put("a", "1"), 0);
    assert_int_equal(put("counter", "0"), 0);
    struct store_list list = {0};
    assert_int_equal(store_list(store, "", NULL, 0, &list, NULL), 0);
    assert_int_equal(store_watch(store, "counter", list.revision, on_step, &seen, &watch, NULL), 0);
    store_list_clear(&list);

    etcd_kill_member(&etcd, 0);
    etcd_kill_member(&etcd, 1);
    pthread_t threads[8];
    int results[8];
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_without_quorum, &results[i]), 0);
    for (size_t i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(results[i], -ENOTCONN);
    int64_t lease = 0;
    assert_int_equal(try_list(), -ENOTCONN);
    assert_int_equal(store_lease_grant(store, 10, &lease, NULL), -ENOTCONN);

    etcd_start_member(&etcd, 0);
    await_store();
    assert_int_equal(put("counter", "1"), 0);
    for (int64_t deadline = clock_monotonic_ms() + EVENTUALLY_MS;
         __atomic_load_n(&seen.seen, __ATOMIC_SEQ_CST) != 1; short_pause())
        assert_true(clock_monotonic_ms() < deadline);
    store_watch_end(watch);
    assert_int_equal(seen.disorder + seen.missed, 0);
}

/* ---- Answers that are lost ---- */

static void a_lost_answer_is_no_second_change(void **state)
{
    (void)state;
    struct load load;
    struct proxy proxy;
    etcd_start(&etcd, 1, NULL);
    proxy_start(&proxy, etcd.members[0].client_port, 3, "/v3/kv/txn");
    /* The watch goes past the proxy, which knows no streams. */
    autofree char *direct = etcd_endpoints(&etcd), *through = xasprintf("127.0.0.1:%u", proxy.port);
    open_store(direct, "");
    await_store();
    load_start(&load);
    load_await(&load, 20);
    struct store *to_proxy = open_at(through, "");

    /* Beside the load, one counts through the proxy; a step that took place twice would leave a gap. */
    int steps = 0;
    while (steps < 20) {
        struct store_entry entry = {0};
        assert_int_equal(store_get(to_proxy, "counter", &entry, NULL), 0);
        autofree char *value = xasprintf("%d", atoi(entry.value) + 1);
        struct store_op ops[] = {{.kind = STORE_PUT,
                                  .key = "counter",
                                  .value = value,
                                  .compare = true,
                                  .revision = entry.revision},
                                 {.kind = STORE_DELETE, .key = "none"}};
        int r = store_commit(to_proxy, ops, 2, NULL, NULL);
        store_entry_clear(&entry);
        assert_true(r == 0 || r == -ESTALE);
        steps += r == 0;
        if (steps == 5)
            __atomic_store_n(&load.stop, 1, __ATOMIC_SEQ_CST); /* from here on only this one counts */
    }
    __atomic_add_fetch(&load.steps, steps, __ATOMIC_SEQ_CST);
    struct timespec pause = {.tv_nsec = 2 * PROXY_LATE_MS * 1000000L};
    nanosleep(&pause, NULL); /* what the proxy holds back is sent by then */
    load_finish(&load);
    store_close(to_proxy);
    proxy_stop(&proxy);
    assert_true(proxy.swallowed > 0 && proxy.late > 0);
}

/* A creation that is held back on its way, reported as failed for another reason, must
 * not come true later. */
static void what_failed_stays_undone(void **state)
{
    (void)state;
    struct proxy proxy;
    etcd_start(&etcd, 1, NULL);
    autofree char *direct = etcd_endpoints(&etcd);
    open_store(direct, "");
    await_store();
    proxy_start(&proxy, etcd.members[0].client_port, 1, "/v3/kv/txn");
    autofree char *through = xasprintf("127.0.0.1:%u,%s", proxy.port, direct);
    for (int round = 0; round < 6; round++) {
        autofree char *key = xasprintf("k%d", round);
        assert_int_equal(put(key, "theirs"), 0);
        struct store *to_proxy = open_at(through, "");
        struct store_op create = {.kind = STORE_PUT, .key = key, .value = "ours", .compare = true};
        assert_int_equal(store_commit(to_proxy, &create, 1, NULL, NULL), -ESTALE);
        struct store_op remove = {.kind = STORE_DELETE, .key = key};
        assert_int_equal(store_commit(store, &remove, 1, NULL, NULL), 0);
        store_close(to_proxy);
    }
    proxy_stop(&proxy); /* everything that it held back has been sent */
    struct store_list list = {0};
    assert_int_equal(store_list(store, "", NULL, 0, &list, NULL), 0);
    assert_int_equal(list.count, 0);
    assert_true(proxy.late > 0);
}

/* ---- Endpoints ---- */

static void dead_and_silent_endpoints_are_passed_over(void **state)
{
    (void)state;
    etcd_start(&etcd, 1, NULL);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    autoclose int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* connects, and never answers */
    assert_int_equal(bind(silent, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(silent, 64), 0);
    assert_int_equal(getsockname(silent, (struct sockaddr *)&address, &length), 0);
    autofree char *good = etcd_endpoints(&etcd);
    autofree char *endpoints =
        xasprintf("127.0.0.1:%u,http://127.0.0.1:%u,%s", etcd_free_port(), ntohs(address.sin_port), good);
    open_store(endpoints, "");
    await_store();
    struct load load;
    load_start(&load);
    load_await(&load, 20);
    load_finish(&load);

    store_close(store);
    store = NULL;
    autofree char *bad = xasprintf("127.0.0.1:%u", etcd_free_port());
    open_store(bad, "&timeout=1");
    autoerror struct error *error = NULL;
    struct store_entry entry;
    assert_int_equal(store_get(store, "k", &entry, &error), -ENOTCONN);
    assert_non_null(strstr(error_message(error), bad));
}

static void make_certificates(const char *folder)
{
    static const char *const words[][2] = {{"ca", "ca"},
                                           {"other", "ca"},
                                           {"server", "tls_www_server"},
                                           {"client", "tls_www_client"},
                                           {"stranger", "tls_www_client"}};
    for (size_t i = 0; i < 5; i++) {
        bool authority = i < 2;
        autofree char *template = xasprintf("%s/%s.template", folder, words[i][0]);
        autofree char *key = xasprintf("%s/%s-key.pem", folder, words[i][0]);
        autofree char *cert = xasprintf("%s/%s.pem", folder, words[i][0]);
        const char *signer = i == 4 ? "other" : "ca";
        autofree char *ca = xasprintf("%s/%s.pem", folder, signer),
                      *ca_key = xasprintf("%s/%s-key.pem", folder, signer);
        FILE *file = fopen(template, "we");
        assert_non_null(file);
        fprintf(file, "cn = %s\nexpiration_days = 2\nip_address = 127.0.0.1\n%s\n%s\n", words[i][0],
                words[i][1], authority ? "cert_signing_key" : "signing_key\nencryption_key");
        /* etcd is a client of itself: its gateway calls its own port. */
        fputs(i == 2 ? "tls_www_client\n" : "", file);
        fclose(file);
        autoerror struct error *error = NULL;
        const char *const make_key[] = {
            "certtool", "--generate-privkey", "--key-type=ecdsa", "--outfile", key, NULL};
        const char *const self[] = {"certtool",
                                    "--generate-self-signed",
                                    "--load-privkey",
                                    key,
                                    "--template",
                                    template,
                                    "--outfile",
                                    cert,
                                    NULL};
        const char *const sign[] = {"certtool",
                                    "--generate-certificate",
                                    "--load-privkey",
                                    key,
                                    "--load-ca-certificate",
                                    ca,
                                    "--load-ca-privkey",
                                    ca_key,
                                    "--template",
                                    template,
                                    "--outfile",
                                    cert,
                                    NULL};
        if (program_run(make_key, 60000, NULL, NULL, &error) < 0 ||
            program_run(authority ? self : sign, 60000, NULL, NULL, &error) < 0)
            fail_msg("%s", error_message(error));
    }
}

/* `client` NULL: without a certificate of its own. */
static int open_and_list(const char *endpoints, const char *folder, const char *ca, const char *client)
{
    autofree char *options = xasprintf("&timeout=2&ca=%s/%s.pem", folder, ca);
    if (client) {
        autofree char *before = options;
        options = xasprintf("%s&cert=%s/%s.pem&key=%s/%s-key.pem", before, folder, client, folder, client);
    }
    open_store(endpoints, options);
    int r = try_list();
    store_close(store);
    store = NULL;
    return r;
}

static void only_certificates_of_the_ca_come_in(void **state)
{
    (void)state;
    char folder[] = "/tmp/test-store-tls-XXXXXX";
    assert_non_null(mkdtemp(folder));
    make_certificates(folder);
    autofree char *trusted = xasprintf("%s/ca.pem", folder);
    etcd_start(&etcd, 1, folder);
    autofree char *endpoints = etcd_endpoints(&etcd);
    for (int64_t deadline = clock_monotonic_ms() + EVENTUALLY_MS;
         open_and_list(endpoints, folder, "ca", "client");)
        assert_true(clock_monotonic_ms() < deadline);
    /* The same with a watch, which has connections of its own. */
    autofree char *options = xasprintf("&timeout=50&ca=%s/ca.pem&cert=%s/client.pem&key=%s/client-key.pem",
                                       folder, folder, folder);
    struct load load;
    open_store(endpoints, options);
    load_start(&load);
    load_await(&load, 10);
    load_finish(&load);
    store_close(store);

    assert_int_equal(open_and_list(endpoints, folder, "ca", NULL), -ENOTCONN);
    assert_int_equal(open_and_list(endpoints, folder, "ca", "stranger"), -ENOTCONN);
    assert_int_equal(open_and_list(endpoints, folder, "other", "client"), -ENOTCONN);
    program_run((const char *[]){"rm", "-rf", folder, NULL}, 60000, NULL, NULL, NULL);
}

/* ---- Compaction under a watch ---- */

/* Keeps a copy of the store, as a consumer does. */
struct copy {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool hold, holding; /* the callback stays where it is */
    json_t *values;
    size_t missed;
};

static void list_again(struct copy *copy)
{
    struct store_list list = {0};
    assert(store_list(store, "", NULL, 0, &list, NULL) == 0);
    json_object_clear(copy->values);
    for (size_t i = 0; i < list.count; i++)
        json_object_set_new(copy->values, list.entries[i].key,
                            json_integer((json_int_t)list.entries[i].revision));
    store_list_clear(&list);
}

static void on_copy(void *data, const struct store_event *event)
{
    struct copy *copy = data;
    scoped_lock(&copy->mutex);
    while (copy->hold) {
        copy->holding = true;
        pthread_cond_broadcast(&copy->changed);
        pthread_cond_wait(&copy->changed, &copy->mutex);
    }
    if (!event) {
        copy->missed++;
        list_again(copy);
    } else if (event->value) {
        json_object_set_new(copy->values, event->key, json_integer((json_int_t)event->revision));
    } else {
        json_object_del(copy->values, event->key);
    }
}

static bool copy_is_true(struct copy *copy)
{
    struct store_list list = {0};
    assert_int_equal(store_list(store, "", NULL, 0, &list, NULL), 0);
    scoped_lock(&copy->mutex);
    bool equal = json_object_size(copy->values) == list.count;
    for (size_t i = 0; i < list.count; i++)
        equal &= (uint64_t)json_integer_value(json_object_get(copy->values, list.entries[i].key)) ==
                 list.entries[i].revision;
    store_list_clear(&list);
    return equal;
}

static void a_watch_survives_compaction(void **state)
{
    (void)state;
    struct copy copy = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER,
                        .hold = true,
                        .values = json_object()};
    struct store_watch *watch = NULL;
    start_cluster(1);
    struct store_list list = {0};
    assert_int_equal(store_list(store, "", NULL, 0, &list, NULL), 0);
    assert_int_equal(store_watch(store, "", list.revision, on_copy, &copy, &watch, NULL), 0);
    store_list_clear(&list);
    assert_int_equal(put("first", "1"), 0);
    {
        scoped_lock(&copy.mutex);
        while (!copy.holding)
            pthread_cond_wait(&copy.changed, &copy.mutex);
    }
    /* While the watch stands still, more happens than the buffers on the way hold: first in bytes, then in
     * changes. */
    autofree char *large = xcalloc(STORE_VALUE_MAX / 2 + 1, 1);
    memset(large, 'v', STORE_VALUE_MAX / 2);
    for (int i = 0; i < 400; i++) {
        autofree char *key = xasprintf("large/%d", i % 4);
        assert_int_equal(put(key, i < 16 ? large : "small"), 0);
    }
    struct store_op gone = {.kind = STORE_DELETE, .key = "large/0"};
    assert_int_equal(store_commit(store, &gone, 1, NULL, NULL), 0);
    assert_int_equal(store_list(store, "", NULL, 1, &list, NULL), 0);
    assert_true(etcd_compact(&etcd, list.revision));
    store_list_clear(&list);
    {
        scoped_lock(&copy.mutex);
        copy.hold = false;
        pthread_cond_broadcast(&copy.changed);
    }
    assert_int_equal(put("last", "1"), 0);
    for (int64_t deadline = clock_monotonic_ms() + EVENTUALLY_MS; !copy_is_true(&copy); short_pause())
        assert_true(clock_monotonic_ms() < deadline);
    assert_int_equal(put("after", "1"), 0); /* it goes on by itself */
    for (int64_t deadline = clock_monotonic_ms() + EVENTUALLY_MS; !copy_is_true(&copy); short_pause())
        assert_true(clock_monotonic_ms() < deadline);
    store_watch_end(watch);
    assert_true(copy.missed > 0);
    json_decref(copy.values);
}

/* ---- Limits ---- */

static void many_keys_come_in_pages(void **state)
{
    (void)state;
    start_cluster(1);
    for (int from = 0; from < 1200; from += 100) {
        struct store_op ops[100] = {0};
        autostring_list struct string_list keys = {0};
        for (int i = 0; i < 100; i++)
            string_list_addf(&keys, "k/%04d", from + i);
        for (int i = 0; i < 100; i++)
            ops[i] = (struct store_op){.kind = STORE_PUT, .key = keys.items[i], .value = "1"};
        assert_int_equal(store_commit(store, ops, 100, NULL, NULL), 0);
    }
    static const size_t limits[][2] = {{0, 1200}, {1, 1}, {500, 500}, {501, 501}, {5000, 1200}};
    for (size_t i = 0; i < 5; i++) {
        struct store_list list = {0};
        assert_int_equal(store_list(store, "k/", NULL, limits[i][0], &list, NULL), 0);
        assert_int_equal(list.count, limits[i][1]);
        for (size_t k = 0; k < list.count; k++)
            assert_int_equal(atoi(list.entries[k].key + 2), k);
        store_list_clear(&list);
    }
    /* As large a transaction as is allowed, and one that etcd finds too large. */
    struct store_op ops[STORE_OPS_MAX] = {0};
    autostring_list struct string_list keys = {0};
    for (size_t i = 0; i < STORE_OPS_MAX; i++)
        string_list_addf(&keys, "o/%zu", i);
    for (size_t i = 0; i < STORE_OPS_MAX; i++)
        ops[i] = (struct store_op){.kind = STORE_PUT, .key = keys.items[i], .value = "1", .compare = true};
    assert_int_equal(store_commit(store, ops, STORE_OPS_MAX, NULL, NULL), 0);
    autofree char *large = xcalloc(STORE_VALUE_MAX + 1, 1);
    memset(large, 'v', STORE_VALUE_MAX);
    for (size_t i = 0; i < 2; i++)
        ops[i] = (struct store_op){.kind = STORE_PUT, .key = keys.items[i], .value = large};
    assert_int_equal(store_commit(store, ops, 2, NULL, NULL), -EFBIG);
}

static void bad_urls_are_refused(void **state)
{
    (void)state;
    static const char *const urls[] = {"etcd:",
                                       "etcd://",
                                       "etcd://a b",
                                       "etcd://a:0",
                                       "etcd://a:65536",
                                       "etcd://a:2379,",
                                       "etcd://a/path",
                                       "etcd://[::1",
                                       "etcd://https://a",
                                       "etcd://a?prefix=",
                                       "etcd://a?prefix=/%",
                                       "etcd://a?prefix=a%20b",
                                       "etcd://a?prefix=/a&prefix=/b",
                                       "etcd://a?ca=relative",
                                       "etcd://a?cert=/dev/null",
                                       "etcd://a?what=1",
                                       "etcd://a?timeout=0",
                                       "etcd://a?timeout=61",
                                       "etcd://a?prefix",
                                       "etcd://http://a?ca=/dev/null&cert=/dev/null&key=/dev/null",
                                       "etcd://user:word@a"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct store *refused = NULL;
        autoerror struct error *error = NULL;
        if (store_open(urls[i], &refused, &error) != -EINVAL)
            fail_msg("%s is taken: %s", urls[i], error_message(error));
    }
    struct store *refused = NULL;
    assert_int_equal(store_open("etcd://a?ca=/nonexistent/ca.pem", &refused, NULL), -ENOENT);
}

#define TEST(function) cmocka_unit_test_teardown(function, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_urls_are_refused),
        TEST(killed_and_started_again_under_load),
        TEST(a_leader_dies_and_another_freezes),
        TEST(without_quorum_calls_fail_in_time),
        TEST(a_lost_answer_is_no_second_change),
        TEST(what_failed_stays_undone),
        TEST(dead_and_silent_endpoints_are_passed_over),
        TEST(only_certificates_of_the_ca_come_in),
        TEST(a_watch_survives_compaction),
        TEST(many_keys_come_in_pages),
    };
    if (!etcd_is_installed()) {
        puts("etcd-server is not installed");
        return 77;
    }
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
