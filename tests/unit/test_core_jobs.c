/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Long work. */
#include "tests/unit/core_fixture.h"

static int create_full(const char *name)
{
    struct block_create request = {.volume = (char *)"v",
                                   .name = (char *)name,
                                   .size = MIB,
                                   .block_size = 512,
                                   .prealloc = PREALLOC_FULL};
    struct core_result result = {0};
    int r = core_block_create(core, &request, &now, &result, NULL);
    taken(&result);
    return r;
}

/* The number of jobs of a kind in a phase. */
static size_t count_jobs(int kind, const char *phase)
{
    struct record_list jobs = {.kind = KIND_JOB};
    size_t count = 0;
    assert_int_equal(record_list(core, KIND_JOB, NULL, &jobs, NULL), 0);
    for (size_t i = 0; i < jobs.list.count; i++)
        count += RECORD(&jobs, job, i)->spec.kind == kind &&
                 string_equal(RECORD(&jobs, job, i)->status.phase, phase);
    record_list_clear(&jobs);
    return count;
}

static void wait_jobs(int kind, const char *phase, size_t count)
{
    while (count_jobs(kind, phase) != count)
        sched_yield();
}

/* The volume has one copy only, so that nobody can ask for it. */
static void put_heal_job(void)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    struct job job cleanup(cleanup_job) = {0};
    struct txn txn = {0};
    assert_int_equal(record_get(core, KIND_VOLUME, "v", &volume, NULL), 0);
    job_init(&job, JOB_HEAL, KIND_VOLUME, &volume.meta);
    txn_put(&txn, KIND_JOB, &job, 0);
    assert_int_equal(txn_commit(core, &txn, NULL), 0);
    txn_clear(&txn);
}

static void test_a_long_removal_holds_nothing_up(void **data)
{
    (void)data;
    atomic_store(&fake_shares.hold_removals, true);
    static const char *const shares[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        autofree char *name = xasprintf("v/%s", shares[i]);
        assert_int_equal(create_share(shares[i], MIB, true), 0);
        assert_int_equal(delete_share(name, false), 0);
    }
    wait_jobs(JOB_REMOVE, "running", 2);
    assert_int_equal(create_full("b"), 0);
    wait_phase("v/b", "ready");
    put_heal_job();
    wait_jobs(JOB_HEAL, "succeeded", 1);
    assert_int_equal(count_jobs(JOB_REMOVE, "running"), 2);
    stop(); /* two are between two steps of theirs */
    start();
    atomic_store(&fake_shares.hold_removals, false);
    wait_jobs(JOB_REMOVE, "succeeded", 3);
}

static void test_allocations_are_bounded(void **data)
{
    (void)data;
    static const char *const names[] = {"a", "b", "c", "d"};
    atomic_store(&world.hold_allocations, true);
    atomic_store(&world.allocating_most, 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(create_full(names[i]), 0);
    while (atomic_load(&world.allocating) != 2)
        sched_yield();
    /* One that waits for its turn is canceled all the same. */
    struct record_list jobs = {.kind = KIND_JOB};
    struct core_result result = {0};
    assert_int_equal(record_list(core, KIND_JOB, NULL, &jobs, NULL), 0);
    assert_int_equal(jobs.list.count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(core_job_delete(core, RECORD(&jobs, job, i)->meta.name, &now, &result, NULL), 0);
        taken(&result);
    }
    record_list_clear(&jobs);
    atomic_store(&world.hold_allocations, false);
    for (size_t i = 0; i < 4; i++) {
        autofree char *name = xasprintf("v/%s", names[i]);
        wait_phase(name, "ready");
    }
    assert_int_equal(atomic_load(&world.allocating_most), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_long_removal_holds_nothing_up),
        TEST(test_allocations_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
