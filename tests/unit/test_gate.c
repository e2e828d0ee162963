/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "handler/image/gate.h"

static struct gate gate;
static atomic_int settles, inside, wrong, settle_result, disturb_settles;
static atomic_bool settle_waits, waits, heals_after_one;

struct change {
    struct gate_waiter waiter;
    atomic_bool resumed, answered;
    atomic_int result;
    bool fails; /* at once, when it is resumed */
};

/* Nothing may be inside while this runs. */
static int settle(void *data)
{
    (void)data;
    atomic_store(&waits, true);
    while (atomic_load(&settle_waits))
        sched_yield();
    atomic_store(&waits, false);
    if (atomic_load(&inside) != 0)
        atomic_fetch_add(&wrong, 1);
    atomic_fetch_add(&settles, 1);
    if (atomic_load(&disturb_settles) > 0) {
        atomic_fetch_sub(&disturb_settles, 1);
        gate_disturb(&gate);
    }
    int result = atomic_load(&settle_result);
    if (atomic_exchange(&heals_after_one, false))
        atomic_store(&settle_result, 0);
    return result;
}

static int set_up(void **state)
{
    (void)state;
    atomic_store(&settles, 0);
    atomic_store(&inside, 0);
    atomic_store(&wrong, 0);
    atomic_store(&settle_result, 0);
    atomic_store(&disturb_settles, 0);
    gate_init(&gate, settle, NULL);
    return 0;
}

static void answer(struct gate_waiter *waiter, int result)
{
    struct change *change = (struct change *)waiter;
    atomic_store(&change->result, result);
    atomic_store(&change->answered, true);
}

static void leave(struct change *change, bool success)
{
    atomic_fetch_sub(&inside, 1);
    if (gate_leave(&gate, &change->waiter, success))
        answer(&change->waiter, success ? 0 : -EIO);
}

static void resume(struct gate_waiter *waiter)
{
    struct change *change = (struct change *)waiter;
    bool fails = change->fails; /* the change is its owner's again once it is told */
    atomic_fetch_add(&inside, 1);
    atomic_store(&change->resumed, true);
    if (fails)
        leave(change, false);
}

/* Whether it is inside. */
static bool enter(struct change *change, bool writes)
{
    *change = (struct change){.waiter = {.resume = resume, .answer = answer, .writes = writes},
                              .fails = change->fails};
    if (!gate_enter(&gate, &change->waiter))
        return false;
    atomic_fetch_add(&inside, 1);
    return true;
}

static void await(atomic_bool *flag)
{
    while (!atomic_load(flag))
        sched_yield();
}

static void an_undisturbed_gate_lets_all_pass(void **state)
{
    (void)state;
    struct change first = {0}, second = {0};
    assert_true(enter(&first, true));
    assert_true(enter(&second, true));
    leave(&first, true);
    assert_true(first.answered);
    leave(&second, true);
    assert_true(second.answered);
    gate_finish(&gate);
    assert_int_equal(settles, 0);
}

static void answers_wait_for_the_settle_and_so_do_new_changes(void **state)
{
    (void)state;
    struct change first = {0}, second = {0}, third = {0};
    assert_true(enter(&first, true));
    assert_true(enter(&second, true));
    gate_disturb(&gate);
    assert_false(enter(&third, true));
    leave(&first, true);
    assert_false(first.answered);
    assert_int_equal(settles, 0);
    leave(&second, true);
    await(&first.answered);
    await(&second.answered);
    await(&third.resumed);
    assert_int_equal(settles, 1);
    leave(&third, true);
    await(&third.answered);
    gate_finish(&gate);
    assert_int_equal(settles, 2);
    assert_int_equal(wrong, 0);
}

static void a_failure_is_answered_at_once(void **state)
{
    (void)state;
    struct change change = {0};
    assert_true(enter(&change, true));
    gate_disturb(&gate);
    leave(&change, false);
    assert_true(change.answered);
    assert_int_equal(change.result, -EIO);
    gate_finish(&gate);
    assert_int_equal(settles, 0);
}

static void the_next_change_goes_alone_until_one_was_settled(void **state)
{
    (void)state;
    struct change flush = {0}, failed = {0}, alone = {0}, next = {0}, after = {0};
    gate_disturb(&gate);
    assert_true(enter(&flush, false)); /* changes no data, and proves nothing */
    leave(&flush, true);
    assert_true(flush.answered);
    assert_true(enter(&failed, true));
    leave(&failed, false);
    assert_true(enter(&alone, true));
    assert_false(enter(&next, true));
    leave(&alone, true);
    await(&alone.answered);
    assert_int_equal(settles, 1);
    await(&next.resumed);
    assert_true(enter(&after, true));
    leave(&next, true);
    leave(&after, true);
    assert_true(next.answered && after.answered);
    gate_finish(&gate);
    assert_int_equal(settles, 1);
}

static void a_settle_that_fails_fails_what_it_was_for(void **state)
{
    (void)state;
    struct change change = {0}, next = {0};
    gate_disturb(&gate);
    settle_result = -ENOTCONN;
    assert_true(enter(&change, true));
    leave(&change, true);
    await(&change.answered);
    assert_int_equal(change.result, -ENOTCONN);
    settle_result = 0;
    if (!enter(&next, true)) /* still owed; the gate opens just now */
        await(&next.resumed);
    leave(&next, true);
    await(&next.answered);
    gate_finish(&gate);
    assert_int_equal(settles, 2);
}

static void a_disturbed_settle_is_done_again(void **state)
{
    (void)state;
    struct change change = {0}, next = {0};
    disturb_settles = 2;
    gate_disturb(&gate);
    assert_true(enter(&change, true));
    leave(&change, true);
    await(&change.answered);
    assert_int_equal(settles, 3);
    if (!enter(&next, true)) /* its settle is owed to the last disturbance; the gate opens just now */
        await(&next.resumed);
    leave(&next, true);
    await(&next.answered);
    gate_finish(&gate);
    assert_int_equal(settles, 4);
}

static void what_was_answered_just_now_is_settled_too(void **state)
{
    (void)state;
    struct change change = {0}, read = {0}, other = {0};
    assert_true(enter(&change, true));
    leave(&change, true);
    assert_true(change.answered);
    settle_waits = true;
    gate_disturb(&gate); /* nobody is inside */
    assert_false(enter(&read, false));
    assert_false(read.resumed);
    settle_waits = false;
    await(&read.resumed);
    assert_int_equal(settles, 1);
    leave(&read, true);
    assert_true(read.answered);
    gate_disturb(&gate); /* nothing was changed since */
    assert_true(enter(&other, false));
    leave(&other, true);
    assert_true(other.answered);
    gate_finish(&gate);
    assert_int_equal(settles, 1);
    assert_int_equal(wrong, 0);
}

/* However long ago the change was: the bricks that could not note it then are asked when one comes. */
static void what_a_failed_settle_was_for_is_settled_by_the_next(void **state)
{
    (void)state;
    struct change change = {0}, read = {0}, other = {0};
    assert_true(enter(&change, true));
    settle_result = -ENOTCONN;
    gate_disturb(&gate);
    leave(&change, true);
    await(&change.answered);
    assert_int_equal(change.result, -ENOTCONN);
    /* Readers are let in: whether they can be served is replicate's to say. */
    if (!enter(&read, false))
        await(&read.resumed);
    leave(&read, true);
    await(&read.answered);
    settle_result = 0;
    int before = settles;
    settle_waits = true;
    gate_disturb(&gate); /* nothing is inside, and nothing was answered a moment ago */
    assert_false(enter(&other, false));
    settle_waits = false;
    await(&other.resumed);
    assert_int_equal(settles, before + 1);
    leave(&other, true);
    await(&other.answered);
    gate_disturb(&gate); /* it is noted */
    gate_finish(&gate);
    assert_int_equal(settles, before + 1);
    assert_int_equal(wrong, 0);
}

/* What came while it failed may mend it. */
static void a_failed_settle_that_was_disturbed_is_tried_again(void **state)
{
    (void)state;
    struct change change = {0}, next = {0};
    assert_true(enter(&change, true));
    settle_result = -ENOTCONN;
    settle_waits = true;
    gate_disturb(&gate);
    leave(&change, true);
    while (!atomic_load(&waits))
        sched_yield();
    gate_disturb(&gate);
    heals_after_one = true;
    settle_waits = false;
    await(&change.answered);
    assert_int_equal(change.result, 0);
    assert_int_equal(settles, 2);
    if (!enter(&next, true))
        await(&next.resumed);
    leave(&next, true);
    await(&next.answered);
    gate_finish(&gate);
}

#define MANY 20000

static void failures_of_those_who_wait_do_not_pile_up(void **state)
{
    (void)state;
    struct change *changes = calloc(MANY, sizeof *changes);
    struct change first = {0};
    assert_non_null(changes);
    gate_disturb(&gate);
    assert_true(enter(&first, true));
    for (size_t i = 0; i < MANY; i++) {
        changes[i].fails = true;
        assert_false(enter(&changes[i], true));
    }
    leave(&first, false);
    for (size_t i = 0; i < MANY; i++)
        assert_true(changes[i].answered);
    gate_finish(&gate);
    free(changes);
}

#define THREADS 8
#define PASSES  20000

static void *crowd(void *data)
{
    (void)data;
    struct change change = {0};
    for (int i = 0; i < PASSES; i++) {
        if (i % 1000 == 0)
            gate_disturb(&gate);
        if (!enter(&change, i % 3 != 0))
            await(&change.resumed);
        leave(&change, i % 7 != 0);
        await(&change.answered);
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
    gate_finish(&gate);
    assert_int_equal(wrong, 0);
    assert_true(settles > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_undisturbed_gate_lets_all_pass, set_up),
        cmocka_unit_test_setup(answers_wait_for_the_settle_and_so_do_new_changes, set_up),
        cmocka_unit_test_setup(a_failure_is_answered_at_once, set_up),
        cmocka_unit_test_setup(the_next_change_goes_alone_until_one_was_settled, set_up),
        cmocka_unit_test_setup(a_settle_that_fails_fails_what_it_was_for, set_up),
        cmocka_unit_test_setup(a_disturbed_settle_is_done_again, set_up),
        cmocka_unit_test_setup(what_was_answered_just_now_is_settled_too, set_up),
        cmocka_unit_test_setup(what_a_failed_settle_was_for_is_settled_by_the_next, set_up),
        cmocka_unit_test_setup(a_failed_settle_that_was_disturbed_is_tried_again, set_up),
        cmocka_unit_test_setup(failures_of_those_who_wait_do_not_pile_up, set_up),
        cmocka_unit_test_setup(a_crowd_loses_nobody, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
