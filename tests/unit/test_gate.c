/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "handler/image/gate.h"

static struct gate gate;
static atomic_int settles, inside, wrong, resumed;

/* Nothing may be inside while this runs. */
static void settle(void *data)
{
    (void)data;
    if (atomic_load(&inside) != 0)
        atomic_fetch_add(&wrong, 1);
    atomic_fetch_add(&settles, 1);
}

static int set_up(void **state)
{
    (void)state;
    atomic_store(&settles, 0);
    atomic_store(&inside, 0);
    atomic_store(&wrong, 0);
    atomic_store(&resumed, 0);
    gate_init(&gate, settle, NULL);
    return 0;
}

static void leave(void)
{
    atomic_fetch_sub(&inside, 1);
    gate_leave(&gate);
}

static void resume(struct gate_waiter *waiter)
{
    (void)waiter;
    atomic_fetch_add(&inside, 1);
    atomic_fetch_add(&resumed, 1);
    leave();
}

static void enter(struct gate_waiter *waiter)
{
    waiter->resume = resume;
    assert_true(gate_enter(&gate, waiter));
    atomic_fetch_add(&inside, 1);
}

static void an_unused_gate_has_nothing_to_settle(void **state)
{
    (void)state;
    gate_settle(&gate, false);
    gate_finish(&gate);
    assert_int_equal(atomic_load(&settles), 0);
}

static void what_is_inside_ends_before_the_settle_and_what_comes_waits(void **state)
{
    (void)state;
    struct gate_waiter first, second;
    enter(&first);
    gate_settle(&gate, false);
    second.resume = resume;
    assert_false(gate_enter(&gate, &second));
    assert_int_equal(atomic_load(&settles), 0);
    leave();
    gate_finish(&gate);
    while (atomic_load(&resumed) == 0)
        sched_yield();
    assert_int_equal(atomic_load(&settles), 1);
    assert_int_equal(atomic_load(&wrong), 0);
}

static void what_was_inside_before_is_settled(void **state)
{
    (void)state;
    struct gate_waiter waiter;
    enter(&waiter);
    leave();
    assert_int_equal(atomic_load(&settles), 0);
    gate_settle(&gate, true);
    gate_finish(&gate);
    assert_int_equal(atomic_load(&settles), 1);
}

static void an_owed_settle_follows_the_next_use(void **state)
{
    (void)state;
    struct gate_waiter waiter;
    gate_settle(&gate, true);
    assert_int_equal(atomic_load(&settles), 0);
    enter(&waiter);
    leave();
    gate_finish(&gate);
    assert_int_equal(atomic_load(&settles), 1);
}

static void a_debt_can_be_taken_back(void **state)
{
    (void)state;
    struct gate_waiter waiter;
    gate_settle(&gate, true);
    gate_settle(&gate, false);
    enter(&waiter);
    leave();
    gate_finish(&gate);
    assert_int_equal(atomic_load(&settles), 0);
}

#define THREADS 8
#define PASSES  20000

static void pass(struct gate_waiter *waiter)
{
    atomic_fetch_add(&inside, 1);
    atomic_fetch_add(&resumed, 1);
    free(waiter);
    leave();
}

static void *crowd(void *data)
{
    (void)data;
    for (int i = 0; i < PASSES; i++) {
        struct gate_waiter *waiter = calloc(1, sizeof *waiter);
        if (!waiter)
            abort();
        waiter->resume = pass;
        if (i % 1000 == 0)
            gate_settle(&gate, i % 2000 == 0);
        if (gate_enter(&gate, waiter))
            pass(waiter);
    }
    return NULL;
}

static void a_crowd_loses_nobody(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, crowd, NULL), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    while (atomic_load(&resumed) < THREADS * PASSES)
        sched_yield();
    gate_finish(&gate);
    assert_int_equal(atomic_load(&resumed), THREADS * PASSES);
    assert_int_equal(atomic_load(&inside), 0);
    assert_int_equal(atomic_load(&wrong), 0);
    assert_true(atomic_load(&settles) > 0);
}

#define TEST(function) cmocka_unit_test_setup(function, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_unused_gate_has_nothing_to_settle),
        TEST(what_is_inside_ends_before_the_settle_and_what_comes_waits),
        TEST(what_was_inside_before_is_settled),
        TEST(an_owed_settle_follows_the_next_use),
        TEST(a_debt_can_be_taken_back),
        TEST(a_crowd_loses_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
