/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What is promised to blocks and shares. */
#include "tests/unit/core_fixture.h"

static atomic_bool busy;

/* Another process that makes and forgets blocks of the volume all the time. */
static void *promise_elsewhere(void *data)
{
    const struct promise one = {.bytes = MIB, .blocks = 1};
    const struct ledger_change add = {.volume = "v", .more = one, .limit = UINT64_MAX},
                               subtract = {.volume = "v", .less = one};
    (void)data;
    for (bool more = true; atomic_load(&busy) || !more;) {
        struct txn txn = {0};
        int r = ledger_add(core, &txn, more ? &add : &subtract, NULL);
        assert_int_equal(r, 0);
        r = txn_commit(core, &txn, NULL);
        txn_clear(&txn);
        assert_true(r == 0 || r == -ESTALE);
        more ^= r == 0;
        usleep(2000);
    }
    return NULL;
}

static void test_promises_hold_for_other_processes(void **data)
{
    (void)data;
    pthread_t thread;
    atomic_store(&busy, true);
    assert_int_equal(pthread_create(&thread, NULL, promise_elsewhere, NULL), 0);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(create("b", MIB, &waits), 0);
        struct block block cleanup(cleanup_block) = read_block("v/b");
        struct core_change insisting = {.wait = 60, .revision = block.meta.revision, .request = ""};
        assert_int_equal(resize("v/b", 3 * MIB, &insisting), 0);
        assert_int_equal(resize("v/b", 4 * MIB, &insisting), -ESTALE); /* it is another one by now */
        assert_int_equal(delete ("v/b", false, &waits), 1);
    }
    assert_int_equal(create("kept", 2 * MIB, &waits), 0);
    atomic_store(&busy, false);
    pthread_join(thread, NULL);
    assert_promised(2 * MIB, 1);

    /* The last room is gone, and a block that this process has not seen keeps the volume. */
    assert_int_equal(delete ("v/kept", false, &waits), 1);
    put("promises/v", "{\"bytes\":9223372036854775807,\"blocks\":1,\"shares\":0}");
    assert_int_equal(create("b", MIB, &now), -ENOSPC);
    struct core_result result = {0};
    assert_int_equal(core_volume_delete(core, "v", &now, &result, NULL), -ENOTEMPTY);
}

static atomic_size_t made, refused;

static void *take_room(void *data)
{
    static atomic_size_t serial;
    (void)data;
    autofree char *name = xasprintf("r%zu", atomic_fetch_add(&serial, 1));
    int r = create(name, MIB, &now);
    assert_true(r == 0 || r == -ENOSPC);
    atomic_fetch_add(r == 0 ? &made : &refused, 1);
    return NULL;
}

static void test_the_last_room_goes_to_as_many_as_fit(void **data)
{
    (void)data;
    struct volume volume cleanup(cleanup_volume) = {0};
    uint64_t limit = 0;
    assert_int_equal(record_get(core, KIND_VOLUME, "v", &volume, NULL), 0);
    assert_int_equal(volume_require_online(core, &volume, NULL), 0);
    assert_int_equal(volume_limit(&volume, &limit, NULL), 0);
    autofree char *taken_room = xasprintf("{\"bytes\":%llu}", (unsigned long long)(limit - 5 * MIB));
    put("promises/v", taken_room);
    pthread_t threads[24];
    for (size_t i = 0; i < 24; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_room, NULL), 0);
    for (size_t i = 0; i < 24; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&made), 5);
    assert_int_equal(atomic_load(&refused), 19);
    assert_promised(limit, 5);
}

static size_t count_findings(void)
{
    struct object_list findings cleanup(findings_clear) = {0};
    uint64_t checked = 0;
    assert_int_equal(ledger_examine(core, &findings, &checked, NULL), 0);
    assert_true(checked > 0);
    return findings.count;
}

static void test_wrong_promises_are_found_and_mended(void **data)
{
    (void)data;
    assert_int_equal(create("b", MIB, &waits), 0);
    assert_int_equal(create_share("s", 3 * MIB, true), 0);
    assert_int_equal(count_findings(), 0);
    put("promises/v", "{\"bytes\":1,\"blocks\":1,\"shares\":1}");
    put("promises/never", "{\"bytes\":1,\"blocks\":1,\"shares\":0}");
    assert_int_equal(count_findings(), 2);
    put("promises/v", "{");
    assert_int_equal(count_findings(), 2);
    assert_int_equal(create("c", MIB, &now), -EUCLEAN);
    assert_int_equal(ledger_mend(core, NULL), 0);
    assert_int_equal(count_findings(), 0);
    assert_promised(4 * MIB, 1);

    /* A store of an older version has no such keys. */
    struct store_op op = {.kind = STORE_DELETE, .key = "promises/v"};
    assert_int_equal(store_commit(store, &op, 1, NULL, NULL), 0);
    assert_int_equal(count_findings(), 1);
    stop();
    start();
    assert_promised(4 * MIB, 1);
    assert_int_equal(delete ("v/b", false, &waits), 1);
    assert_int_equal(delete_share("v/s", false), 0);
    assert_promised(0, 0);
    struct store_entry entry = {0};
    assert_int_equal(store_get(store, "promises/v", &entry, NULL), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_promises_hold_for_other_processes),
        TEST(test_the_last_room_goes_to_as_many_as_fit),
        TEST(test_wrong_promises_are_found_and_mended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
