/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The reconcile queue: one thread a key, repeats with back-off, nothing lost that is added while a key is
 * worked on. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define KEYS    16
#define ADDS    2000
#define TIMEOUT 60000 /* milliseconds, far more than anything here takes */

static struct {
    atomic_int running[KEYS], turns[KEYS];
    atomic_int overlaps, failures_left;
    pthread_mutex_t gate;
} state;

static int count_turn(struct core *core, const char *key, struct error **ret_error)
{
    (void)core;
    int index = (int)strtol(key + 1, NULL, 10);
    if (atomic_fetch_add(&state.running[index], 1) != 0)
        atomic_fetch_add(&state.overlaps, 1);
    sched_yield();
    atomic_fetch_add(&state.turns[index], 1);
    atomic_fetch_sub(&state.running[index], 1);
    if (atomic_load(&state.failures_left) > 0 && atomic_fetch_sub(&state.failures_left, 1) > 0)
        return error_set(ret_error, EAGAIN, "not yet");
    return 0;
}

static void wait_until_idle(struct queue *queue)
{
    uint64_t seen = UINT64_MAX;
    int64_t deadline = clock_monotonic_ms() + TIMEOUT;
    for (;;) {
        struct core_counters counters;
        queue_counters(queue, &counters);
        if (!counters.queued)
            return;
        assert_true(clock_monotonic_ms() < deadline);
        queue_wait(queue, &seen, clock_monotonic_ms() + 20);
    }
}

static int setup(void **data)
{
    memset(&state, 0, sizeof state);
    pthread_mutex_init(&state.gate, NULL);
    struct queue *queue = NULL;
    assert_int_equal(queue_new(NULL, count_turn, 4, &queue, NULL), 0);
    *data = queue;
    return 0;
}

static int teardown(void **data)
{
    queue_free(*data);
    pthread_mutex_destroy(&state.gate);
    return 0;
}

static void *add_many(void *data)
{
    for (int i = 0; i < ADDS; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i % KEYS);
        queue_add(data, key);
        if (i % 7 == 0)
            assert_int_equal(queue_run(data, key, NULL), 0);
    }
    return NULL;
}

static void a_key_is_worked_on_by_one_thread_at_a_time(void **data)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, *data), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    wait_until_idle(*data);
    assert_int_equal(atomic_load(&state.overlaps), 0);
    for (int i = 0; i < KEYS; i++)
        assert_true(atomic_load(&state.turns[i]) > 0);
}

static void a_key_that_fails_is_repeated_until_it_does_not(void **data)
{
    atomic_store(&state.failures_left, 3);
    queue_add(*data, "k5");
    uint64_t seen = UINT64_MAX;
    int64_t deadline = clock_monotonic_ms() + TIMEOUT;
    while (atomic_load(&state.turns[5]) < 4) {
        assert_true(clock_monotonic_ms() < deadline);
        queue_wait(*data, &seen, clock_monotonic_ms() + 50);
    }
    wait_until_idle(*data);
    assert_int_equal(atomic_load(&state.turns[5]), 4);
}

static void a_failing_key_holds_no_other_back(void **data)
{
    atomic_store(&state.failures_left, 1);
    assert_int_equal(queue_run(*data, "k1", NULL), -EAGAIN);
    assert_int_equal(queue_run(*data, "k2", NULL), 0);
    assert_int_equal(atomic_load(&state.turns[2]), 1);
}

static int hold_gate(struct core *core, const char *key, struct error **ret_error)
{
    (void)core;
    (void)key;
    (void)ret_error;
    atomic_fetch_add(&state.turns[0], 1);
    pthread_mutex_lock(&state.gate);
    pthread_mutex_unlock(&state.gate);
    return 0;
}

static void a_key_added_while_it_is_worked_on_is_worked_on_once_more(void **data)
{
    (void)data;
    struct queue *queue = NULL;
    assert_int_equal(queue_new(NULL, hold_gate, 2, &queue, NULL), 0);
    pthread_mutex_lock(&state.gate);
    queue_add(queue, "k0");
    while (atomic_load(&state.turns[0]) == 0)
        sched_yield();
    queue_add(queue, "k0");
    queue_add(queue, "k0");
    pthread_mutex_unlock(&state.gate);
    int64_t deadline = clock_monotonic_ms() + TIMEOUT;
    while (atomic_load(&state.turns[0]) < 2)
        assert_true(clock_monotonic_ms() < deadline);
    wait_until_idle(queue);
    queue_free(queue);
    assert_int_equal(atomic_load(&state.turns[0]), 2);
}

static void *run_key(void *data)
{
    return (void *)(intptr_t)queue_run(data, "k0", NULL);
}

static void *stop_queue(void *data)
{
    queue_stop(data);
    return NULL;
}

static void stopping_wakes_who_waits(void **data)
{
    (void)data;
    struct queue *queue = NULL;
    assert_int_equal(queue_new(NULL, hold_gate, 1, &queue, NULL), 0);
    pthread_mutex_lock(&state.gate);
    queue_add(queue, "k0");
    while (atomic_load(&state.turns[0]) == 0)
        sched_yield();
    pthread_t waiter, stopper;
    void *result = NULL;
    assert_int_equal(pthread_create(&waiter, NULL, run_key, queue), 0);
    assert_int_equal(pthread_create(&stopper, NULL, stop_queue, queue), 0);
    pthread_join(waiter, &result); /* returns though the worker still holds the key */
    assert_true((intptr_t)result == -ECANCELED);
    pthread_mutex_unlock(&state.gate);
    pthread_join(stopper, NULL);
    queue_free(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_key_is_worked_on_by_one_thread_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_that_fails_is_repeated_until_it_does_not, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failing_key_holds_no_other_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_added_while_it_is_worked_on_is_worked_on_once_more, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(stopping_wakes_who_waits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
