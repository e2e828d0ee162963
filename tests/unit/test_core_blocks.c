/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Blocks, and what a volume makes of them. */
#include "tests/unit/core_fixture.h"

static void test_a_failed_block_recovers(void **data)
{
    (void)data;
    atomic_store(&world.create_error, ENOSPC);
    assert_int_equal(create("b", 2 * MIB, &now), 0);
    wait_phase("v/b", "failed");
    struct block block cleanup(cleanup_block) = read_block("v/b");
    assert_string_equal(block.status.phase, "failed");
    assert_non_null(strstr(block.status.error, "No space"));
    assert_promised(2 * MIB, 1);
    atomic_store(&world.create_error, 0);
    queue_add(core->queue, "blocks/v/b"); /* as each full pass does */
    wait_phase("v/b", "ready");
    assert_int_equal(delete ("v/b", false, &waits), 1);
    assert_promised(0, 0);
    assert_int_equal(count_files(), 0);
}

static void test_a_create_that_failed_leaves_nothing(void **data)
{
    (void)data;
    const struct core_change keyed = {.wait = waits.wait, .idempotency_key = "k", .request = "r"};
    struct store_entry entry = {0};
    atomic_store(&world.create_error, ENOSPC);
    assert_int_equal(create("b", 2 * MIB, &keyed), -ENOSPC);
    assert_int_equal(store_get(store, "blocks/v/b", &entry, NULL), -ENOENT);
    assert_promised(0, 0);
    atomic_store(&world.create_error, 0);
    assert_true(create("b", 2 * MIB, &keyed) >= 0); /* the same request is a new one */
    wait_phase("v/b", "ready");
    assert_promised(2 * MIB, 1);
}

static void test_a_resize_after_half_a_create(void **data)
{
    (void)data;
    atomic_store(&world.create_crashes, true);
    assert_int_equal(create("b", 2 * MIB, &now), 0);
    while (atomic_load(&world.create_crashes))
        sched_yield();
    assert_int_equal(resize("v/b", 3 * MIB, &waits), 0);
    struct block block cleanup(cleanup_block) = read_block("v/b");
    assert_string_equal(block.status.phase, "ready");
    assert_int_equal(block.status.size, 3 * MIB);
    assert_promised(3 * MIB, 1);
}

static void test_growth_that_failed_is_taken_back(void **data)
{
    (void)data;
    atomic_store(&world.create_error, EFBIG);
    assert_int_equal(create("b", 8 * MIB, &now), 0);
    wait_phase("v/b", "failed");
    assert_int_equal(resize("v/b", 4 * MIB, &now), 0); /* nothing is lost: no force */
    atomic_store(&world.create_error, 0);
    queue_add(core->queue, "blocks/v/b");
    wait_phase("v/b", "ready");
    assert_promised(4 * MIB, 1);
    assert_int_equal(resize("v/b", 2 * MIB, &now), -EINVAL);
    assert_promised(4 * MIB, 1);
}

static void test_an_unreadable_node_stops_nothing(void **data)
{
    (void)data;
    assert_int_equal(create("b", MIB, &waits), 0);
    assert_int_equal(export_block("b"), 0);
    assert_int_equal(queue_run(core->queue, "exports/n/v/b", NULL), 0);
    atomic_store(&fake_engine_downs, 0);
    put("nodes/n", "{");
    assert_int_equal(queue_run(core->queue, "exports/n/v/b", NULL), -EUCLEAN);
    assert_int_equal(queue_run(core->queue, "volumes/v", NULL), -EUCLEAN);
    assert_int_equal(queue_run(core->queue, "devices/n/d", NULL), -EUCLEAN);
    assert_int_equal(atomic_load(&fake_engine_downs), 0);
    put("nodes/n", "{\"name\":\"n\",\"uid\":\"u\",\"spec\":{\"state\":\"stopped\"}}");
    queue_run(core->queue, "exports/n/v/b", NULL);
    assert_true(atomic_load(&fake_engine_downs) > 0);
}

/* What an export's create that ran between a delete's reading and its commit would leave. */
static void test_a_stray_export_holds_no_delete_up(void **data)
{
    (void)data;
    assert_int_equal(create("b", MIB, &waits), 0);
    atomic_store(&world.online, false);
    assert_int_equal(delete ("v/b", false, &now), 0);
    put("exports/n/v/b", "{\"name\":\"n/v/b\",\"uid\":\"u\",\"spec\":{}}");
    put("exports/n/v/none", "{\"name\":\"n/v/none\",\"uid\":\"w\",\"spec\":{}}");
    atomic_store(&world.online, true);
    assert_int_equal(delete ("v/b", false, &waits), 1);
    struct store_entry entry = {0};
    assert_int_equal(store_get(store, "exports/n/v/b", &entry, NULL), -ENOENT);
    while (store_get(store, "exports/n/v/none", &entry, NULL) == 0)
        store_entry_clear(&entry);
    assert_promised(0, 0);
}

static void test_a_second_delete_keeps_what_the_first_kept(void **data)
{
    (void)data;
    assert_int_equal(create("b", MIB, &waits), 0);
    put("exports/other/v/b", "{\"name\":\"other/v/b\",\"uid\":\"u\",\"spec\":{}}");
    put("nodes/other", "{\"name\":\"other\",\"uid\":\"o\",\"spec\":{}}"); /* a node that does not answer */
    assert_int_equal(delete ("v/b", true, &now), 0);
    assert_int_equal(delete ("v/b", false, &now), -EBUSY);
    assert_int_equal(delete ("v/b", true, &now), 0);
    assert_int_equal(create("b", MIB, &now), -EEXIST);
    struct store_op op = {.kind = STORE_DELETE, .key = "exports/other/v/b"};
    assert_int_equal(store_commit(store, &op, 1, NULL, NULL), 0);
    assert_int_equal(delete ("v/b", true, &waits), 1);
    assert_int_equal(count_files(), 1);
}

static void test_clients_are_cut_by_force_only(void **data)
{
    (void)data;
    const struct core_change forced = {.wait = 60, .request = "", .force = true};
    struct volume_patch stopped = {.state = VOLUME_STOPPED};
    struct core_result result = {0};
    autoerror struct error *error = NULL;
    assert_int_equal(create("b", MIB, &waits), 0);
    assert_int_equal(export_block("b"), 0);
    assert_int_equal(queue_run(core->queue, "exports/n/v/b", NULL),
                     0); /* nobody is connected before it serves */
    atomic_store(&world.connected, true);
    assert_int_equal(rename_to("v/b", "c"), -EBUSY);
    assert_int_equal(delete ("v/b", false, &waits), -EBUSY);
    assert_int_equal(core_export_delete(core, "n/v/b", &waits, &result, NULL), -EBUSY);
    assert_int_equal(core_volume_patch(core, "v", &stopped, 1, &waits, &result, &error), -EBUSY);
    assert_non_null(strstr(error_message(error), "v/any by somebody"));
    struct block block cleanup(cleanup_block) = read_block("v/b");
    assert_false(block.meta.deleting);
    assert_int_equal(core_volume_patch(core, "v", &stopped, 1, &forced, &result, NULL), 0);
    taken(&result);
    assert_int_equal(delete ("v/b", true, &forced), 1);
    atomic_store(&world.connected, false);
}

static void test_a_volume_that_is_deleted_takes_no_block(void **data)
{
    (void)data;
    struct volume volume cleanup(cleanup_volume) = {0};
    assert_int_equal(record_get(core, KIND_VOLUME, "v", &volume, NULL), 0);
    stop();
    autofree char *url = xasprintf("sqlite:%s/store.db", folder);
    assert_int_equal(store_open(url, &store, NULL), 0);
    struct core_options options = {.config = &config, .store = store};
    assert_int_equal(core_new(&options, &core, NULL), 0);
    /* Marked before the restart, and not worked on yet: the ledger knows nothing of it. */
    volume.meta.deleting = true;
    struct txn txn = {0};
    txn_put(&txn, KIND_VOLUME, &volume, volume.meta.revision);
    assert_int_equal(txn_commit(core, &txn, NULL), 0);
    txn_clear(&txn);
    assert_int_equal(create("b", MIB, &now), -ENOENT);
    assert_promised(0, 0);
    assert_int_equal(core_start(core, NULL), 0);
}

/* More than a transaction takes, and with ports that are another volume's by now. */
static void test_a_large_volume_can_be_deleted(void **data)
{
    enum { BRICKS = 120 };
    (void)data;
    struct volume volume cleanup(cleanup_volume) = {0};
    const struct core_change forced = {.wait = 60, .request = "", .force = true};
    struct core_result result = {0};
    assert_int_equal(record_get(core, KIND_VOLUME, "v", &volume, NULL), 0);
    free(volume.meta.name);
    volume.meta.name = xstrdup("large");
    for (uint64_t i = volume.spec.bricks.count; i < BRICKS; i++) {
        struct brick_spec *brick = object_list_add(&volume.spec.bricks, sizeof *brick);
        *brick =
            (struct brick_spec){.node = xstrdup("n"), .device = xasprintf("d%d", (int)i), .port = 2000 + i};
        autofree char *port = xasprintf("ports/n/%d", 2000 + (int)i),
                      *device = xasprintf("devices/n/d%d", (int)i);
        autofree char *record = xasprintf("{\"name\":\"n/d%d\",\"uid\":\"u%d\",\"spec\":{\"path\":\"/d%d\"},"
                                          "\"status\":{\"phase\":\"failed\"}}",
                                          (int)i, (int)i, (int)i);
        put(port, i % 2 ? "\"volumes/large\"" : "\"volumes/other\"");
        put(device, record);
    }
    struct txn txn = {0};
    txn_put(&txn, KIND_VOLUME, &volume, 0);
    assert_int_equal(txn_commit(core, &txn, NULL), 0);
    txn_clear(&txn);
    assert_int_equal(core_volume_delete(core, "large", &forced, &result, NULL), 0);
    assert_false(taken(&result));
    struct store_list ports = {0};
    assert_int_equal(store_list(store, "ports/n/2", NULL, 0, &ports, NULL), 0);
    assert_int_equal(ports.count, BRICKS / 2 - 1); /* the first brick has v's */
    store_list_clear(&ports);
}

static void test_a_damaged_record_stops_nothing_else(void **data)
{
    (void)data;
    assert_int_equal(create("good", MIB, &waits), 0);
    put("blocks/v/bad", "{\"name\":\"v/bad\",\"spec\":{\"size\":\"much\"}}");
    put("blocks/v/worse", "{");
    stop();
    start();
    assert_int_equal(create("new", MIB, &waits), 0);
    json_t *list = NULL, *object = NULL;
    assert_int_equal(core_list(core, KIND_BLOCK, NULL, NULL, 0, &list, NULL), 0);
    assert_int_equal(json_array_size(json_object_get(list, "items")), 2);
    json_decref(list);
    autoerror struct error *error = NULL;
    assert_int_equal(core_get(core, KIND_BLOCK, "v/bad", &object, &error), -EUCLEAN);
    assert_int_equal(error->number, EUCLEAN);
    assert_int_equal(api_code_of_errno(error->number)->status, 500);
    struct status_report report;
    assert_int_equal(core_status(core, &report, NULL), 0);
    assert_int_equal(report.problems.count, 2);
    schema_clear(&status_report_schema, &report);
    /* Its file may be there: the volume stays. */
    assert_int_equal(delete ("v/good", false, &waits), 1);
    assert_int_equal(delete ("v/new", false, &waits), 1);
    struct core_result result = {0};
    assert_int_equal(core_volume_delete(core, "v", &now, &result, NULL), -EUCLEAN);
    assert_int_equal(create("again", MIB, &waits), 0);
}

static void test_the_live_error_is_told(void **data)
{
    (void)data;
    atomic_store(&world.online, false);
    json_t *volume = NULL;
    assert_int_equal(core_get(core, KIND_VOLUME, "v", &volume, NULL), 0);
    assert_string_equal(json_string_value(json_object_get(json_object_get(volume, "status"), "error")),
                        "a brick is away");
    json_decref(volume);
}

static atomic_bool busy;

static void *keep_busy(void *data)
{
    (void)data;
    for (unsigned i = 0; atomic_load(&busy); i++) {
        char key[32];
        snprintf(key, sizeof key, "jobs/none%u", i % 64);
        queue_add(core->queue, key);
    }
    return NULL;
}

static void test_a_wait_ends_on_a_busy_node(void **data)
{
    (void)data;
    pthread_t thread;
    assert_int_equal(create("b", MIB, &waits), 0);
    atomic_store(&world.online, false);
    atomic_store(&busy, true);
    assert_int_equal(pthread_create(&thread, NULL, keep_busy, NULL), 0);
    struct core_change second = {.wait = 1, .request = ""};
    int at_once = delete ("v/b", false, &now), soon = delete ("v/b", false, &second);
    atomic_store(&busy, false);
    pthread_join(thread, NULL);
    assert_int_equal(at_once, 0);
    assert_int_equal(soon, 0);
}

static void *live_and_die(void *data)
{
    const char *names[] = {(const char *)data, "shared"};
    for (int i = 0; i < 30; i++) {
        const char *name = names[i % 3 == 2];
        bool own = name == names[0];
        autofree char *whole = xasprintf("v/%s", name);
        autofree char *other = xasprintf("%s-renamed", name);
        autofree char *whole_other = xasprintf("v/%s", other);
        int r[] = {create(name, MIB, i % 2 ? &waits : &now), export_block(name),
                   resize(whole, 2 * MIB, i % 2 ? &now : &waits), rename_to(whole, other)};
        for (size_t k = 0; k < sizeof r / sizeof *r; k++)
            if (own) /* its own objects are touched by the reconciler only, and that never makes a change fail
                      */
                assert_int_equal(r[k], 0);
            else
                assert_int_not_equal(r[k], -ESTALE);
        int gone = delete (whole_other, false, &waits);
        assert_true(own ? gone == 1 : gone == 1 || gone == -ENOENT);
        if (!own)
            delete (whole, false, &waits);
    }
    return NULL;
}

static void test_many_at_once_leave_nothing(void **data)
{
    (void)data;
    static char names[4][8] = {"a", "b", "c", "d"};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, live_and_die, names[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    static const char *const kinds[] = {"blocks/", "exports/", "jobs/"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct store_list left = {0};
        assert_int_equal(store_list(store, kinds[i], NULL, 0, &left, NULL), 0);
        assert_int_equal(left.count, 0);
        store_list_clear(&left);
    }
    assert_promised(0, 0);
    assert_int_equal(count_files(), 0);
    stop();
    start();
    assert_promised(0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_failed_block_recovers),
        TEST(test_a_create_that_failed_leaves_nothing),
        TEST(test_a_resize_after_half_a_create),
        TEST(test_growth_that_failed_is_taken_back),
        TEST(test_an_unreadable_node_stops_nothing),
        TEST(test_a_stray_export_holds_no_delete_up),
        TEST(test_a_second_delete_keeps_what_the_first_kept),
        TEST(test_clients_are_cut_by_force_only),
        TEST(test_a_volume_that_is_deleted_takes_no_block),
        TEST(test_a_large_volume_can_be_deleted),
        TEST(test_a_damaged_record_stops_nothing_else),
        TEST(test_the_live_error_is_told),
        TEST(test_a_wait_ends_on_a_busy_node),
        TEST(test_many_at_once_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
