/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What every backend of the store promises (store.h), run over each of them. */
#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "blockd/store/store.h"
#include "tests/contract/etcd_server.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/strings.h"

#define EVENTUALLY_MS 60000

/* ---- Backends ---- */

struct backend {
    const char *name;
    bool (*start)(void); /* false: it is not installed */
    void (*stop)(void);
    /* A store of its own for each folder; `history` revisions are kept for watches. */
    char *(*url)(const char *folder, unsigned history);
    /* Revisions before this one are forgotten now, where that does not happen by itself. */
    void (*forget)(uint64_t revision);
    void (*wipe)(const char *folder);
};

static bool start_nothing(void)
{
    return true;
}

static void stop_nothing(void)
{
}

static char *sqlite_url(const char *folder, unsigned history)
{
    return xasprintf("sqlite:%s/store.db?history=%u", folder, history);
}

static void sqlite_forget(uint64_t revision)
{
    (void)revision;
}

static void sqlite_wipe(const char *folder)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        autofree char *path = xasprintf("%s/store.db%s", folder, suffixes[i]);
        unlink(path);
    }
}

static struct etcd_cluster etcd;
static unsigned etcd_life; /* each wiping begins another prefix */

static bool start_etcd(void)
{
    if (!etcd_is_installed())
        return false;
    etcd_start(&etcd, 1, NULL);
    return true;
}

static void stop_etcd(void)
{
    etcd_stop(&etcd);
}

static char *etcd_url(const char *folder, unsigned history)
{
    (void)history;
    autofree char *endpoints = etcd_endpoints(&etcd);
    return xasprintf("etcd://%s?prefix=%s/%u", endpoints, folder, etcd_life);
}

static void etcd_forget(uint64_t revision)
{
    assert_true(etcd_compact(&etcd, revision));
}

static void etcd_wipe(const char *folder)
{
    (void)folder;
    etcd_life++;
}

static const struct backend backends[] = {
    {"sqlite", start_nothing, stop_nothing, sqlite_url, sqlite_forget, sqlite_wipe},
    {"etcd", start_etcd, stop_etcd, etcd_url, etcd_forget, etcd_wipe},
};

static const struct backend *backend;
static char folder[32];
static struct store *store;

static void reopen(unsigned history)
{
    store_close(store);
    store = NULL;
    autofree char *url = backend->url(folder, history);
    autoerror struct error *error = NULL;
    if (store_open(url, &store, &error) < 0)
        fail_msg("%s", error_message(error));
}

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test-store-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    reopen(10000);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_close(store);
    store = NULL;
    backend->wipe(folder);
    return rmdir(folder);
}

/* ---- Shorthands ---- */

static uint64_t put(const char *key, const char *value)
{
    uint64_t revision = 0;
    autoerror struct error *error = NULL;
    if (store_commit(store, &(struct store_op){.kind = STORE_PUT, .key = key, .value = value}, 1, &revision,
                     &error) < 0)
        fail_msg("%s", error_message(error));
    return revision;
}

static int put_if(const char *key, const char *value, uint64_t revision)
{
    return store_commit(
        store,
        &(struct store_op){
            .kind = STORE_PUT, .key = key, .value = value, .compare = true, .revision = revision},
        1, NULL, NULL);
}

static int delete_key(const char *key)
{
    return store_commit(store, &(struct store_op){.kind = STORE_DELETE, .key = key}, 1, NULL, NULL);
}

static void assert_value(const char *key, const char *value)
{
    struct store_entry entry = {0};
    int r = store_get(store, key, &entry, NULL);
    if (!value) {
        assert_int_equal(r, -ENOENT);
        return;
    }
    assert_int_equal(r, 0);
    assert_string_equal(entry.key, key);
    assert_string_equal(entry.value, value);
    store_entry_clear(&entry);
}

static uint64_t revision_of(const char *key)
{
    struct store_entry entry = {0};
    assert_int_equal(store_get(store, key, &entry, NULL), 0);
    uint64_t revision = entry.revision;
    store_entry_clear(&entry);
    return revision;
}

static uint64_t store_revision(void)
{
    struct store_list list = {0};
    assert_int_equal(store_list(store, "", NULL, 1, &list, NULL), 0);
    uint64_t revision = list.revision;
    store_list_clear(&list);
    return revision;
}

/* The keys, joined by blanks. */
static void assert_keys(const char *prefix, const char *after, size_t limit, const char *expected)
{
    struct store_list list = {0};
    assert_int_equal(store_list(store, prefix, after, limit, &list, NULL), 0);
    autostrbuf struct strbuf keys = {0};
    for (size_t i = 0; i < list.count; i++)
        strbuf_addf(&keys, "%s%s", i ? " " : "", list.entries[i].key);
    assert_string_equal(strbuf_string(&keys), expected);
    store_list_clear(&list);
}

static void short_pause(void)
{
    struct timespec pause = {.tv_nsec = 5000000};
    nanosleep(&pause, NULL);
}

/* ---- Keys and values ---- */

static void get_put_delete(void **state)
{
    (void)state;
    assert_value("a", NULL);
    uint64_t first = put("a", "{\"x\":1}");
    assert_true(first > 0);
    assert_value("a", "{\"x\":1}");
    assert_int_equal(revision_of("a"), first);
    uint64_t second = put("a", "2");
    assert_true(second > first);
    assert_value("a", "2");
    put("b", "");
    assert_value("b", "");
    assert_int_equal(revision_of("a"), second);
    assert_int_equal(delete_key("a"), 0);
    assert_value("a", NULL);

    /* Deleting nothing is no change, and says the revision of the store. */
    uint64_t before = store_revision(), after = 0;
    assert_int_equal(
        store_commit(store, &(struct store_op){.kind = STORE_DELETE, .key = "a"}, 1, &after, NULL), 0);
    assert_int_equal(after, before);
    assert_int_equal(store_revision(), before);
    assert_true(put("a", "3") > before);
}

static void errors_name_the_key(void **state)
{
    (void)state;
    struct store_entry entry;
    autoerror struct error *error = NULL;
    assert_int_equal(store_get(store, "blocks/v/b", &entry, &error), -ENOENT);
    assert_non_null(strstr(error_message(error), "blocks/v/b"));
    put("blocks/v/b", "1");
    struct store_op op = {.kind = STORE_PUT, .key = "blocks/v/b", .value = "2", .compare = true};
    assert_int_equal(store_commit(store, &op, 1, NULL, &error), -ESTALE);
    assert_non_null(strstr(error_message(error), "blocks/v/b"));
    assert_int_equal(error->number, ESTALE);
}

static void bad_input_is_refused(void **state)
{
    (void)state;
    autofree char *long_key = xasprintf("%0*d", STORE_KEY_MAX + 1, 0);
    const char *const keys[] = {"", "a b", "a\n", "\xc3\xa4", "a\x7f", long_key};
    struct store_entry entry;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        assert_int_equal(store_get(store, keys[i], &entry, NULL), -EINVAL);
        assert_int_equal(put_if(keys[i], "1", 0), -EINVAL);
        assert_int_equal(delete_key(keys[i]), -EINVAL);
    }
    assert_int_equal(put_if(long_key + 1, "1", 0), 0);
    assert_value(long_key + 1, "1");

    autofree char *value = xcalloc(STORE_VALUE_MAX + 2, 1);
    memset(value, 'v', STORE_VALUE_MAX + 1);
    assert_int_equal(put_if("large", value, 0), -EFBIG);
    value[STORE_VALUE_MAX] = '\0';
    assert_int_equal(put_if("large", value, 0), 0);
    assert_value("large", value);

    struct store_op twice[] = {{.kind = STORE_PUT, .key = "k", .value = "1"},
                               {.kind = STORE_DELETE, .key = "k"}};
    assert_int_equal(store_commit(store, twice, 2, NULL, NULL), -EINVAL);
    assert_int_equal(store_commit(store, twice, 0, NULL, NULL), -EINVAL);
    assert_int_equal(store_commit(store, &(struct store_op){.kind = STORE_PUT, .key = "k"}, 1, NULL, NULL),
                     -EINVAL);
    assert_value("k", NULL);
    struct store *other = NULL;
    assert_int_equal(store_open("nosuch:/tmp/x", &other, NULL), -EINVAL);
    assert_null(other);
}

static void compare_and_set(void **state)
{
    (void)state;
    assert_int_equal(put_if("k", "1", 0), 0);
    assert_int_equal(put_if("k", "2", 0), -ESTALE);
    uint64_t revision = revision_of("k");
    assert_int_equal(put_if("k", "2", revision + 1), -ESTALE);
    assert_int_equal(put_if("k", "2", revision), 0);
    assert_int_equal(put_if("k", "3", revision), -ESTALE);
    assert_value("k", "2");

    struct store_op gone = {.kind = STORE_DELETE, .key = "k", .compare = true, .revision = revision};
    assert_int_equal(store_commit(store, &gone, 1, NULL, NULL), -ESTALE);
    gone.revision = revision_of("k");
    assert_int_equal(store_commit(store, &gone, 1, NULL, NULL), 0);
    assert_int_equal(store_commit(store, &gone, 1, NULL, NULL), -ESTALE);
    /* A key that comes again has another revision. */
    assert_int_equal(put_if("k", "4", 0), 0);
    assert_int_equal(put_if("k", "5", gone.revision), -ESTALE);
}

static void transactions_are_all_or_nothing(void **state)
{
    (void)state;
    put("a", "1");
    put("b", "1");
    struct store_op ops[] = {
        {.kind = STORE_PUT, .key = "a", .value = "2"},
        {.kind = STORE_DELETE, .key = "b"},
        {.kind = STORE_PUT, .key = "c", .value = "2"},
        {.kind = STORE_CHECK, .key = "d", .revision = 7},
    };
    uint64_t before = store_revision();
    assert_int_equal(store_commit(store, ops, 4, NULL, NULL), -ESTALE);
    assert_value("a", "1");
    assert_value("b", "1");
    assert_value("c", NULL);
    assert_int_equal(store_revision(), before);

    ops[3].revision = 0;
    uint64_t revision = 0;
    assert_int_equal(store_commit(store, ops, 4, &revision, NULL), 0);
    assert_int_equal(revision_of("a"), revision);
    assert_int_equal(revision_of("c"), revision);
    assert_value("b", NULL);
    assert_value("d", NULL);

    struct store_op check = {.kind = STORE_CHECK, .key = "a", .revision = revision};
    assert_int_equal(store_commit(store, &check, 1, NULL, NULL), 0);
    assert_int_equal(store_revision(), revision);
}

static void lists_by_prefix_and_page(void **state)
{
    (void)state;
    static const char *const keys[] = {"a/1", "a/10", "a/2", "a", "a0", "b/1", "a-b/1", "~", "!"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        put(keys[i], "1");
    assert_keys("a/", NULL, 0, "a/1 a/10 a/2");
    assert_keys("a", NULL, 0, "a a-b/1 a/1 a/10 a/2 a0");
    assert_keys("", NULL, 0, "! a a-b/1 a/1 a/10 a/2 a0 b/1 ~");
    assert_keys("a/", NULL, 2, "a/1 a/10");
    assert_keys("a/", "a/10", 2, "a/2");
    assert_keys("a/", "a/1", 0, "a/10 a/2");
    assert_keys("a/", "a/2", 0, "");
    assert_keys("a/", "a/11", 0, "a/2"); /* a page may start after a key that is gone */
    assert_keys("a/", "A", 0, "a/1 a/10 a/2");
    assert_keys("a/", "z", 0, "");
    assert_keys("x", NULL, 0, "");
    assert_int_equal(store_list(store, "a b", NULL, 0, &(struct store_list){0}, NULL), -EINVAL);
}

/* ---- Threads ---- */

static void parallel(size_t count, void *(*function)(void *), void *data)
{
    pthread_t threads[32];
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, function, data), 0);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

#define COUNTER_THREADS 20
#define COUNTER_STEPS   25

static void *count_up(void *data)
{
    (void)data;
    for (int step = 0; step < COUNTER_STEPS;) {
        struct store_entry entry = {0};
        assert(store_get(store, "counter", &entry, NULL) == 0);
        autofree char *value = xasprintf("%d", atoi(entry.value) + 1);
        int r = put_if("counter", value, entry.revision);
        assert(r == 0 || r == -ESTALE);
        step += r == 0;
        store_entry_clear(&entry);
    }
    return NULL;
}

static void a_shared_counter_loses_nothing(void **state)
{
    (void)state;
    put("counter", "0");
    parallel(COUNTER_THREADS, count_up, NULL);
    autofree char *total = xasprintf("%d", COUNTER_THREADS * COUNTER_STEPS);
    assert_value("counter", total);
}

/* "left" and "right" always change together; a list must never see one without the other. */
static void *move_pairs(void *data)
{
    int *stop = data;
    for (int i = 0; !__atomic_load_n(stop, __ATOMIC_ACQUIRE); i++) {
        autofree char *value = xasprintf("%d", i);
        struct store_op ops[] = {{.kind = STORE_PUT, .key = "pair/left", .value = value},
                                 {.kind = STORE_PUT, .key = "pair/right", .value = value}};
        assert(store_commit(store, ops, 2, NULL, NULL) == 0);
    }
    return NULL;
}

static void a_list_is_one_moment(void **state)
{
    (void)state;
    int stop = 0;
    pthread_t writer;
    put("pair/left", "0");
    put("pair/right", "0");
    assert_int_equal(pthread_create(&writer, NULL, move_pairs, &stop), 0);
    uint64_t last = 0;
    for (int i = 0; i < 500; i++) {
        struct store_list list = {0};
        assert_int_equal(store_list(store, "pair/", NULL, 0, &list, NULL), 0);
        assert_int_equal(list.count, 2);
        if (last)
            assert_string_equal(list.entries[0].value, list.entries[1].value);
        if (i == 0)
            last = list.revision;
        assert_true(list.revision >= last);
        assert_true(list.entries[0].revision <= list.revision);
        last = list.revision;
        store_list_clear(&list);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    pthread_join(writer, NULL);
}

/* ---- Watches ---- */

struct log {
    pthread_mutex_t mutex;
    struct strbuf text; /* "key=value;", "key!;" for a deletion, "MISSED;" */
    uint64_t last;
    bool out_of_order;
    size_t count;
};

static void note(void *data, const struct store_event *event)
{
    struct log *log = data;
    scoped_lock(&log->mutex);
    log->count++;
    if (!event) {
        strbuf_adds(&log->text, "MISSED;");
        return;
    }
    log->out_of_order |= event->revision < log->last;
    log->last = event->revision;
    strbuf_addf(&log->text, event->value ? "%s=%s;" : "%s!;", event->key, event->value);
}

static void await_log(struct log *log, const char *expected)
{
    for (int64_t deadline = clock_monotonic_ms() + EVENTUALLY_MS;;) {
        {
            scoped_lock(&log->mutex);
            assert_false(log->out_of_order);
            if (strcmp(strbuf_string(&log->text), expected) == 0)
                return;
            if (clock_monotonic_ms() > deadline)
                fail_msg("expected %s, got %s", expected, strbuf_string(&log->text));
        }
        short_pause();
    }
}

static struct store_watch *watch(struct log *log, const char *prefix, uint64_t after)
{
    struct store_watch *made = NULL;
    *log = (struct log){.mutex = PTHREAD_MUTEX_INITIALIZER};
    assert_int_equal(store_watch(store, prefix, after, note, log, &made, NULL), 0);
    return made;
}

static void watches_see_each_change_once(void **state)
{
    (void)state;
    struct log blocks, all;
    put("blocks/old", "0");
    struct store_watch *blocks_watch = watch(&blocks, "blocks/", store_revision());
    struct store_watch *all_watch = watch(&all, "", store_revision());
    put("blocks/a", "1");
    put("volumes/v", "1");
    put("blocks/a", "2");
    struct store_op ops[] = {{.kind = STORE_DELETE, .key = "blocks/a"},
                             {.kind = STORE_PUT, .key = "blocks/b", .value = "3"}};
    assert_int_equal(store_commit(store, ops, 2, NULL, NULL), 0);
    assert_int_equal(put_if("blocks/b", "4", 0), -ESTALE); /* no change, no event */
    delete_key("blocks/none");
    put("blocks/c", "5");
    await_log(&blocks, "blocks/a=1;blocks/a=2;blocks/a!;blocks/b=3;blocks/c=5;");
    await_log(&all, "blocks/a=1;volumes/v=1;blocks/a=2;blocks/a!;blocks/b=3;blocks/c=5;");
    store_watch_end(blocks_watch);
    put("blocks/d", "6");
    await_log(&all, "blocks/a=1;volumes/v=1;blocks/a=2;blocks/a!;blocks/b=3;blocks/c=5;blocks/d=6;");
    store_watch_end(all_watch);
    assert_int_equal(blocks.count, 5);
    strbuf_clear(&blocks.text);
    strbuf_clear(&all.text);
}

static void watches_resume_from_a_revision(void **state)
{
    (void)state;
    struct log log;
    put("k", "1");
    uint64_t seen = put("k", "2");
    put("k", "3");
    delete_key("k");
    reopen(10000); /* the history survives */
    put("k", "4");
    struct store_watch *made = watch(&log, "k", seen);
    await_log(&log, "k=3;k!;k=4;");
    store_watch_end(made);
    strbuf_clear(&log.text);

    made = watch(&log, "", 0);
    await_log(&log, "k=1;k=2;k=3;k!;k=4;");
    store_watch_end(made);
    strbuf_clear(&log.text);
}

static void old_revisions_are_forgotten_and_said_so(void **state)
{
    (void)state;
    struct log log;
    reopen(10);
    uint64_t first = put("kept/forever", "0");
    for (int i = 0; i < 50; i++)
        put("k", "x");
    delete_key("k");
    for (int i = 0; i < 20; i++)
        put("l", "x");
    backend->forget(store_revision() - 10);

    struct store_watch *made = watch(&log, "", first);
    await_log(&log, "MISSED;");
    put("m", "1"); /* it goes on after that */
    await_log(&log, "MISSED;m=1;");
    store_watch_end(made);
    strbuf_clear(&log.text);

    /* What is near enough is still there, and so is every present value. */
    made = watch(&log, "", store_revision() - 2);
    await_log(&log, "l=x;m=1;");
    store_watch_end(made);
    strbuf_clear(&log.text);
    assert_keys("", NULL, 0, "kept/forever l m");
    assert_value("kept/forever", "0");
    assert_int_equal(revision_of("kept/forever"), first);

    /* A revision that never was: the store was put back from a copy. */
    made = watch(&log, "", store_revision() + 1);
    await_log(&log, "MISSED;");
    store_watch_end(made);
    strbuf_clear(&log.text);
}

static void *put_many(void *data)
{
    const int *index = data;
    for (int i = 0; i < 100; i++) {
        autofree char *key = xasprintf("k/%p/%d", (void *)index, i);
        put(key, "1");
    }
    return NULL;
}

static void reader_of_the_store(void *data, const struct store_event *event)
{
    size_t *seen = data;
    /* The store may be called from here, and shows at least this change. */
    struct store_entry entry = {0};
    assert(event && store_get(store, event->key, &entry, NULL) == 0);
    assert(entry.revision >= event->revision);
    store_entry_clear(&entry);
    __atomic_add_fetch(seen, 1, __ATOMIC_RELAXED);
}

static void watches_under_load(void **state)
{
    (void)state;
    size_t seen[3] = {0};
    struct store_watch *watches[3];
    struct log log;
    uint64_t start = store_revision();
    struct store_watch *ordered = watch(&log, "k/", start);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(store_watch(store, "k/", start, reader_of_the_store, &seen[i], &watches[i], NULL),
                         0);
    pthread_t threads[8];
    int marks[8];
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_many, &marks[i]), 0);
    store_watch_end(watches[2]); /* in the middle of it */
    for (size_t i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    for (int64_t deadline = clock_monotonic_ms() + EVENTUALLY_MS;; short_pause()) {
        scoped_lock(&log.mutex);
        assert_false(log.out_of_order);
        assert_true(clock_monotonic_ms() < deadline);
        if (log.count == 800 && __atomic_load_n(&seen[0], __ATOMIC_RELAXED) == 800 &&
            __atomic_load_n(&seen[1], __ATOMIC_RELAXED) == 800)
            break;
    }
    store_watch_end(watches[0]);
    store_watch_end(ordered);
    strbuf_clear(&log.text);
    /* The third is left for store_close(). */
}

/* ---- Leases ---- */

/* Seconds: longer than a busy machine may keep a test waiting between two calls. */
#define BRIEF 3

static int put_leased(const char *key, int64_t lease)
{
    return store_commit(store,
                        &(struct store_op){.kind = STORE_PUT, .key = key, .value = "1", .lease = lease}, 1,
                        NULL, NULL);
}

static void await_gone(const char *key)
{
    struct store_entry entry = {0};
    for (int64_t deadline = clock_monotonic_ms() + EVENTUALLY_MS; store_get(store, key, &entry, NULL) == 0;) {
        store_entry_clear(&entry);
        assert_true(clock_monotonic_ms() < deadline);
        short_pause();
    }
}

static void leases_end_and_take_their_keys(void **state)
{
    (void)state;
    struct log log;
    int64_t brief = 0, lasting = 0;
    assert_int_equal(store_lease_grant(store, BRIEF, &brief, NULL), 0);
    assert_int_equal(store_lease_grant(store, 3600, &lasting, NULL), 0);
    assert_int_not_equal(brief, lasting);
    assert_int_equal(put_leased("a", brief), 0);
    assert_int_equal(put_leased("b", brief), 0);
    assert_int_equal(put_leased("c", brief), 0);
    assert_int_equal(put_leased("d", lasting), 0);
    put("c", "2"); /* without the lease now */
    struct store_watch *made = watch(&log, "", store_revision());
    await_gone("a");
    assert_value("b", NULL); /* in one transaction */
    assert_value("c", "2");
    assert_value("d", "1");
    await_log(&log, "a!;b!;");
    store_watch_end(made);
    strbuf_clear(&log.text);

    assert_int_equal(store_lease_renew(store, brief, NULL), -ENOENT);
    assert_int_equal(store_lease_revoke(store, brief, NULL), -ENOENT);
    assert_int_equal(put_leased("e", brief), -ENOENT);
    assert_int_equal(store_lease_revoke(store, lasting, NULL), 0);
    assert_value("d", NULL);
    assert_int_equal(store_lease_grant(store, 0, &brief, NULL), -EINVAL);
    assert_int_equal(store_lease_grant(store, 1u << 31, &brief, NULL), -EINVAL);
}

static void renewed_leases_stay(void **state)
{
    (void)state;
    int64_t renewed = 0, left = 0;
    assert_int_equal(store_lease_grant(store, BRIEF, &renewed, NULL), 0);
    assert_int_equal(put_leased("renewed", renewed), 0);
    /* Another one of the same length that is granted later ends while the first, renewed, stays. */
    assert_int_equal(store_lease_grant(store, BRIEF, &left, NULL), 0);
    assert_int_equal(put_leased("left", left), 0);
    struct store_entry entry = {0};
    for (int64_t deadline = clock_monotonic_ms() + EVENTUALLY_MS;
         store_get(store, "left", &entry, NULL) == 0;) {
        store_entry_clear(&entry);
        assert_int_equal(store_lease_renew(store, renewed, NULL), 0);
        assert_true(clock_monotonic_ms() < deadline);
        short_pause();
    }
    assert_value("renewed", "1");
    await_gone("renewed");
}

static void leases_survive_a_restart_and_end_after_it(void **state)
{
    (void)state;
    int64_t lease = 0, next = 0;
    assert_int_equal(store_lease_grant(store, BRIEF, &lease, NULL), 0);
    assert_int_equal(put_leased("k", lease), 0);
    reopen(10000);
    await_gone("k");
    assert_int_equal(store_lease_grant(store, 1, &next, NULL), 0);
    assert_int_not_equal(next, lease);
}

/* ---- Crashes ---- */

/* Commits without end and tells through the pipe what was acknowledged. */
static void commit_until_killed(int fd)
{
    autofree char *url = backend->url(folder, 10000);
    if (store_open(url, &store, NULL) < 0)
        _exit(1);
    for (int32_t i = 1;; i++) {
        autofree char *left = xasprintf("left/%d", i), *right = xasprintf("right/%d", i);
        struct store_op ops[] = {{.kind = STORE_PUT, .key = left, .value = "1"},
                                 {.kind = STORE_PUT, .key = right, .value = "1"}};
        if (store_commit(store, ops, 2, NULL, NULL) < 0 || write(fd, &i, sizeof i) != sizeof i)
            _exit(1);
    }
}

static int32_t kill_in_the_middle(unsigned commits)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        commit_until_killed(fds[1]);
    close(fds[1]);
    int32_t acknowledged = 0, last = 0;
    while (acknowledged < (int32_t)commits && read(fds[0], &last, sizeof last) == sizeof last)
        acknowledged = last;
    kill(child, SIGKILL);
    while (read(fds[0], &last, sizeof last) == sizeof last)
        acknowledged = last;
    close(fds[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    return acknowledged;
}

static void what_was_acknowledged_survives_a_kill(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 5; round++) {
        store_close(store);
        store = NULL;
        backend->wipe(folder);
        int32_t acknowledged = kill_in_the_middle(20 + 37 * round);
        reopen(10000);
        struct store_list left = {0}, right = {0};
        assert_int_equal(store_list(store, "left/", NULL, 0, &left, NULL), 0);
        assert_int_equal(store_list(store, "right/", NULL, 0, &right, NULL), 0);
        /* One more may have reached the disk without its answer; none is there by half. */
        assert_true(left.count >= (size_t)acknowledged && left.count <= (size_t)acknowledged + 1);
        assert_int_equal(left.count, right.count);
        for (size_t i = 0; i < left.count; i++) {
            assert_int_equal(left.entries[i].revision, right.entries[i].revision);
            assert_string_equal(strchr(left.entries[i].key, '/'), strchr(right.entries[i].key, '/'));
        }
        for (int32_t i = 1; i <= acknowledged; i++) {
            autofree char *key = xasprintf("left/%d", i);
            assert_value(key, "1");
        }
        assert_int_equal(put_if("after", "1", 0), 0);
        store_list_clear(&left);
        store_list_clear(&right);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(get_put_delete),
        TEST(errors_name_the_key),
        TEST(bad_input_is_refused),
        TEST(compare_and_set),
        TEST(transactions_are_all_or_nothing),
        TEST(lists_by_prefix_and_page),
        TEST(a_shared_counter_loses_nothing),
        TEST(a_list_is_one_moment),
        TEST(watches_see_each_change_once),
        TEST(watches_resume_from_a_revision),
        TEST(old_revisions_are_forgotten_and_said_so),
        TEST(watches_under_load),
        TEST(leases_end_and_take_their_keys),
        TEST(renewed_leases_stay),
        TEST(leases_survive_a_restart_and_end_after_it),
        TEST(what_was_acknowledged_survives_a_kill),
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        backend = &backends[i];
        if (!backend->start()) {
            printf("%s is not installed: its tests are left out\n", backend->name);
            continue;
        }
        failed += _cmocka_run_group_tests(backend->name, tests, sizeof tests / sizeof *tests, NULL, NULL);
        backend->stop();
    }
    return failed;
}
