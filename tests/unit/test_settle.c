/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "xlators/gate/settle.h"

#define SETS   2
#define BRICKS 3

static struct settle settle;
static struct settle_spot spot, other;
static struct settle_locks locks[SETS], other_locks[SETS];

enum state { INSIDE, WAITS, LEFT, ANSWERED, REFUSED };

struct change {
    struct settle_change change; /* first */
    struct settle_spot *at;
    _Atomic enum state state;
};

static void retry(struct settle_change *one)
{
    struct change *change = (struct change *)one;
    change->state = WAITS; /* first: another thread may let it in before settle_enter() has returned */
    if (settle_enter(&settle, change->at, one))
        change->state = INSIDE;
}

static void answer(struct settle_change *one, bool noted)
{
    ((struct change *)one)->state = noted ? ANSWERED : REFUSED;
}

static int set_up(void **state)
{
    (void)state;
    memset(locks, 0, sizeof locks);
    memset(other_locks, 0, sizeof other_locks);
    assert_int_equal(settle_init(&settle, SETS), 0);
    for (size_t set = 0; set < SETS; set++)
        assert_int_equal(settle_add_bricks(&settle, set, BRICKS), 0);
    settle_spot_init(&spot, locks);
    settle_spot_init(&other, other_locks);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    settle_spot_clear(&settle, &spot);
    settle_spot_clear(&settle, &other);
    settle_clear(&settle);
    return 0;
}

static void comes(size_t set, size_t brick)
{
    settle_coming(&settle, set, brick);
    settle_came(&settle, set, brick);
}

static void all_come(void)
{
    for (size_t set = 0; set < SETS; set++)
        for (size_t brick = 0; brick < BRICKS; brick++)
            comes(set, brick);
}

static void begin_at(struct change *change, struct settle_spot *at)
{
    *change = (struct change){.change = {.retry = retry, .answer = answer}, .at = at};
    if (!settle_begin(&settle, &change->change))
        retry(&change->change);
}

static void begin(struct change *change)
{
    begin_at(change, &spot);
}

/* Replicate has answered. */
static enum state end(struct change *change)
{
    if (settle_calm(&settle, &change->change))
        return change->state = ANSWERED;
    enum settle_result result = settle_leave(&settle, change->at, &change->change);
    if (result != SETTLE_WAIT)
        change->state = result == SETTLE_NOTED ? ANSWERED : REFUSED;
    else if (change->state == INSIDE)
        change->state = LEFT;
    return change->state;
}

static void lock(struct settle_spot *at, size_t set, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        settle_asks(at, set);
        settle_locked(at, set, i);
    }
}

static void unlock(struct settle_spot *at, size_t set, size_t count)
{
    for (size_t i = 0; i < count; i++)
        settle_gives_up(&settle, at, set, i);
}

static void nothing_is_held_back_while_all_bricks_are_there(void **state)
{
    (void)state;
    struct change change;
    all_come();
    for (int i = 0; i < 3; i++) {
        begin(&change);
        assert_int_equal(change.state, INSIDE);
        lock(&spot, 0, BRICKS);
        assert_int_equal(end(&change), ANSWERED);
        assert_false(spot.watched);
        unlock(&spot, 0, BRICKS);
    }
}

static void what_was_done_without_a_brick_waits_until_the_lock_is_given_up(void **state)
{
    (void)state;
    struct change first, second, later;
    all_come();
    settle_went(&settle, 0, 2);
    begin(&first);
    begin(&second);
    lock(&spot, 0, 2);
    assert_int_equal(end(&first), LEFT);
    begin(&later);
    assert_int_equal(later.state, WAITS);
    assert_int_equal(end(&second), LEFT);
    unlock(&spot, 0, 1);
    assert_int_equal(first.state, LEFT);
    unlock(&spot, 0, 1);
    assert_int_equal(first.state, ANSWERED);
    assert_int_equal(second.state, ANSWERED);
    assert_int_equal(later.state, INSIDE);
    lock(&spot, 0, 2);
    unlock(&spot, 0, 2);
    assert_int_equal(end(&later), ANSWERED);
}

static void a_brick_that_comes_or_goes_in_between_counts_too(void **state)
{
    (void)state;
    struct change change;
    all_come();
    begin(&change);
    settle_went(&settle, 0, 1);
    lock(&spot, 0, 2);
    comes(0, 1);
    assert_int_equal(settle.unrest, 0);
    assert_int_equal(end(&change), LEFT);
    unlock(&spot, 0, 2);
    assert_int_equal(change.state, ANSWERED);
}

/* Replicate has not heard of the brick yet, and may begin without it. */
static void a_brick_is_not_there_before_replicate_knows(void **state)
{
    (void)state;
    struct change change;
    all_come();
    settle_went(&settle, 0, 1);
    settle_coming(&settle, 0, 1);
    begin(&change);
    settle_came(&settle, 0, 1);
    lock(&spot, 0, 2);
    assert_int_equal(end(&change), LEFT);
    unlock(&spot, 0, 2);
    assert_int_equal(change.state, ANSWERED);
}

static void a_refused_lock_is_unrest_until_the_others_are_given_up(void **state)
{
    (void)state;
    struct change change, joins;
    all_come();
    begin(&change);
    lock(&spot, 0, 2);
    settle_asks(&spot, 0);
    settle_refused(&settle, &spot, 0, 2);
    settle_heard(&settle, &spot, 0);
    begin(&joins);
    assert_int_equal(end(&change), LEFT);
    assert_int_equal(end(&joins), LEFT);
    unlock(&spot, 0, 2);
    assert_int_equal(change.state, ANSWERED);
    assert_int_equal(joins.state, ANSWERED);
    assert_int_equal(settle.unrest, 0);
    begin(&change);
    lock(&spot, 0, BRICKS);
    assert_int_equal(end(&change), ANSWERED);
    unlock(&spot, 0, BRICKS);
}

/* A file that was removed meanwhile, say: what is done to others has nothing to do with it. */
static void notes_that_fail_are_of_one_spot(void **state)
{
    (void)state;
    struct change change, elsewhere;
    all_come();
    begin(&change);
    begin_at(&elsewhere, &other);
    lock(&spot, 0, BRICKS);
    lock(&other, 0, BRICKS);
    for (size_t brick = 0; brick < BRICKS; brick++)
        settle_failed(&settle, &spot, 0, brick);
    assert_int_equal(end(&change), LEFT);
    assert_int_equal(end(&elsewhere), LEFT);
    unlock(&spot, 0, BRICKS);
    unlock(&other, 0, BRICKS);
    assert_int_equal(change.state, REFUSED);
    assert_int_equal(elsewhere.state, ANSWERED);
    assert_int_equal(settle.unrest, 0);
    settle_failed(&settle, &spot, 0, 0); /* a note that no change made */
    assert_int_equal(settle.unrest, 0);
}

/* It asks the next brick while it hears of the refusal. */
static void locks_that_are_asked_for_one_by_one_are_one_lock(void **state)
{
    (void)state;
    struct change change;
    all_come();
    begin(&change);
    settle_asks(&spot, 0);
    settle_refused(&settle, &spot, 0, 0);
    settle_asks(&spot, 0);
    settle_heard(&settle, &spot, 0);
    assert_int_equal(settle.unrest, 1);
    settle_locked(&spot, 0, 0);
    assert_int_equal(end(&change), LEFT);
    unlock(&spot, 0, 1);
    assert_int_equal(settle.unrest, 0);
}

static void a_lock_that_all_refuse_leaves_nothing(void **state)
{
    (void)state;
    all_come();
    for (size_t brick = 0; brick < BRICKS; brick++)
        settle_asks(&spot, 0);
    for (size_t brick = 0; brick < BRICKS; brick++) {
        settle_refused(&settle, &spot, 0, brick);
        settle_heard(&settle, &spot, 0);
    }
    assert_int_equal(settle.unrest, 0);
    assert_false(spot.watched);
}

static void a_conflict_is_no_refusal(void **state)
{
    (void)state;
    all_come();
    settle_asks(&spot, 0);
    settle_heard(&settle, &spot, 0);
    assert_int_equal(settle.unrest, 0);
    assert_int_equal(locks[0].asked, 0);
}

static void notes_that_too_few_bricks_have_do_not_count(void **state)
{
    (void)state;
    struct change goes, fails, comes_back;
    all_come();
    settle_went(&settle, 0, 2);
    begin(&goes);
    lock(&spot, 0, 2);
    assert_int_equal(end(&goes), LEFT);
    settle_went(&settle, 0, 1);
    unlock(&spot, 0, 2);
    assert_int_equal(goes.state, REFUSED);

    comes(0, 1);
    begin(&fails);
    lock(&spot, 0, 2);
    assert_int_equal(end(&fails), LEFT);
    settle_failed(&settle, &spot, 0, 0);
    unlock(&spot, 0, 2);
    assert_int_equal(fails.state, REFUSED);

    /* A brick that was away for a moment may have missed the note. */
    begin(&comes_back);
    lock(&spot, 0, 2);
    assert_int_equal(end(&comes_back), LEFT);
    settle_went(&settle, 0, 0);
    comes(0, 0);
    unlock(&spot, 0, 2);
    assert_int_equal(comes_back.state, REFUSED);
}

static void a_brick_that_refused_its_lock_has_no_note(void **state)
{
    (void)state;
    struct change change;
    all_come();
    begin(&change);
    lock(&spot, 0, 2);
    settle_asks(&spot, 0);
    settle_refused(&settle, &spot, 0, 2);
    settle_heard(&settle, &spot, 0);
    assert_int_equal(end(&change), LEFT);
    settle_went(&settle, 0, 1);
    unlock(&spot, 0, 2);
    assert_int_equal(change.state, REFUSED);
}

static void sets_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct change change;
    all_come();
    settle_went(&settle, 1, 0);
    settle_went(&settle, 1, 1);
    begin(&change);
    lock(&spot, 0, BRICKS);
    assert_int_equal(end(&change), ANSWERED);
    unlock(&spot, 0, BRICKS);
    /* Nor does it count for this one that another set has lost its quorum. */
    begin(&change);
    lock(&spot, 0, 2);
    settle_went(&settle, 0, 2);
    assert_int_equal(end(&change), LEFT);
    unlock(&spot, 0, 2);
    assert_int_equal(change.state, ANSWERED);
}

static void spots_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct change change, elsewhere;
    all_come();
    settle_went(&settle, 0, 2);
    begin(&change);
    lock(&spot, 0, 2);
    assert_int_equal(end(&change), LEFT);
    begin_at(&elsewhere, &other);
    assert_int_equal(elsewhere.state, INSIDE);
    lock(&other, 0, 2);
    unlock(&other, 0, 2);
    assert_int_equal(end(&elsewhere), ANSWERED);
    assert_int_equal(change.state, LEFT);
    unlock(&spot, 0, 2);
}

/* Otherwise a stream of new ones could keep the lock for ever. */
static void new_changes_wait_although_the_unrest_is_over(void **state)
{
    (void)state;
    struct change change, later;
    all_come();
    settle_went(&settle, 0, 2);
    begin(&change);
    lock(&spot, 0, 2);
    assert_int_equal(end(&change), LEFT);
    comes(0, 2);
    begin(&later);
    assert_int_equal(later.state, WAITS);
    unlock(&spot, 0, 2);
    assert_int_equal(later.state, INSIDE);
    assert_int_equal(settle.settling, 0);
}

static void one_request_at_a_time_wakes_replicate(void **state)
{
    (void)state;
    struct change change;
    all_come();
    settle_went(&settle, 0, 2);
    begin(&change);
    assert_false(settle_wake(&settle, &spot));
    lock(&spot, 0, 2);
    assert_int_equal(end(&change), LEFT);
    assert_true(settle_wake(&settle, &spot));
    assert_false(settle_wake(&settle, &spot));
    assert_true(settle_woken(&settle, &spot));
    assert_false(settle_woken(&settle, &spot));
    assert_true(settle_wake(&settle, &spot));
    assert_false(settle_wake(&settle, &spot));
    unlock(&spot, 0, 2);
    assert_false(settle_woken(&settle, &spot));
}

/* ---- Notes ahead: brick 2 of set 0 is away or has not given its lock ---- */

#define BIT(brick) (UINT64_C(1) << (brick))

/* Replicate marks the file on the first bricks. */
static void mark(size_t bricks, uint64_t behind)
{
    for (size_t i = 0; i < bricks; i++)
        assert_int_equal(settle_ahead(&settle, &spot, 0), behind);
    for (size_t i = 0; behind && i < bricks; i++)
        settle_has_note(&settle, &spot, 0, i);
}

static void what_is_noted_ahead_is_answered_under_the_lock(void **state)
{
    (void)state;
    struct change first, second, later;
    all_come();
    settle_went(&settle, 0, 2);
    begin(&first);
    lock(&spot, 0, 2);
    mark(2, BIT(2));
    begin(&second);
    assert_int_equal(end(&first), ANSWERED);
    assert_int_equal(end(&second), ANSWERED);
    comes(0, 2); /* it is behind, and has the note on the others */
    begin(&later);
    assert_int_equal(later.state, INSIDE);
    assert_int_equal(end(&later), ANSWERED);
    assert_false(spot.watched);
    unlock(&spot, 0, 2);
}

static void a_note_ends_with_its_lock(void **state)
{
    (void)state;
    struct change before, after;
    all_come();
    settle_went(&settle, 0, 2);
    begin(&before);
    lock(&spot, 0, 2);
    mark(2, BIT(2));
    settle_gives_up(&settle, &spot, 0, 0);
    assert_int_equal(end(&before), LEFT);
    settle_gives_up(&settle, &spot, 0, 1);
    assert_int_equal(before.state, ANSWERED);
    begin(&after);
    lock(&spot, 0, 2);
    assert_int_equal(end(&after), LEFT);
    unlock(&spot, 0, 2);
    assert_int_equal(after.state, ANSWERED);
}

static void a_note_must_be_on_all_that_are_not_behind(void **state)
{
    (void)state;
    struct change change;
    all_come();
    settle_went(&settle, 0, 2);
    begin(&change);
    lock(&spot, 0, 2);
    assert_int_equal(settle_ahead(&settle, &spot, 0), BIT(2));
    assert_int_equal(settle_ahead(&settle, &spot, 0), BIT(2));
    settle_has_note(&settle, &spot, 0, 1);
    assert_int_equal(end(&change), LEFT);
    unlock(&spot, 0, 2);
    assert_int_equal(change.state, ANSWERED);
}

static void a_note_does_not_outlive_its_brick(void **state)
{
    (void)state;
    struct change change;
    all_come();
    settle_went(&settle, 0, 2);
    lock(&spot, 0, 2);
    mark(2, BIT(2));
    settle_went(&settle, 0, 1);
    comes(0, 1);
    begin(&change);
    assert_int_equal(end(&change), LEFT);
    unlock(&spot, 0, 2);
    assert_int_equal(change.state, ANSWERED);
}

static void a_brick_that_goes_later_is_not_in_the_note(void **state)
{
    (void)state;
    struct change change;
    all_come();
    lock(&spot, 0, BRICKS);
    mark(BRICKS, 0);
    settle_went(&settle, 0, 2);
    begin(&change);
    assert_int_equal(end(&change), LEFT);
    mark(2, 0); /* it gave its lock, and may have what was done so far */
    unlock(&spot, 0, BRICKS);
    assert_int_equal(change.state, ANSWERED);
}

static void a_brick_that_comes_and_has_no_lock_yet_is_not_behind(void **state)
{
    (void)state;
    all_come();
    settle_went(&settle, 0, 2);
    settle_went(&settle, 1, 2); /* unrest lasts */
    lock(&spot, 0, 2);
    comes(0, 2);
    mark(2, 0);
    unlock(&spot, 0, 2);
}

static void a_brick_that_refused_its_lock_is_behind(void **state)
{
    (void)state;
    struct change change;
    all_come();
    begin(&change);
    lock(&spot, 0, 2);
    settle_asks(&spot, 0);
    settle_refused(&settle, &spot, 0, 2);
    settle_heard(&settle, &spot, 0);
    mark(2, BIT(2));
    assert_int_equal(end(&change), ANSWERED);
    begin(&change);
    settle_failed(&settle, &spot, 0, 1);
    assert_int_equal(end(&change), LEFT);
    unlock(&spot, 0, 2);
    assert_int_equal(change.state, REFUSED);
    assert_int_equal(settle.unrest, 0);
}

static void too_few_bricks_blame_nobody(void **state)
{
    (void)state;
    all_come();
    settle_went(&settle, 0, 2);
    settle_went(&settle, 0, 1);
    lock(&spot, 0, 1);
    mark(1, 0);
    unlock(&spot, 0, 1);
}

static void locks_that_overlap_blame_nobody(void **state)
{
    (void)state;
    struct change change;
    all_come();
    settle_went(&settle, 0, 2);
    begin(&change);
    lock(&spot, 0, 2);
    mark(2, BIT(2));
    lock(&spot, 0, 1);
    mark(2, 0);
    assert_int_equal(end(&change), LEFT);
    unlock(&spot, 0, 2);
    unlock(&spot, 0, 1);
    assert_int_equal(change.state, ANSWERED);
}

static void a_change_of_another_set_is_settled_there(void **state)
{
    (void)state;
    struct change change;
    all_come();
    settle_went(&settle, 0, 2);
    settle_went(&settle, 1, 2);
    begin(&change);
    lock(&spot, 0, 2);
    mark(2, BIT(2));
    lock(&spot, 1, 2);
    assert_int_equal(end(&change), LEFT);
    unlock(&spot, 1, 2);
    assert_int_equal(change.state, ANSWERED);
    unlock(&spot, 0, 2);
}

/* Many threads, one spot: each change is answered, and none before its lock is given up. */

static atomic_int mistakes;

static void work(struct change *change)
{
    begin(change);
    while (change->state == WAITS)
        sched_yield();
    settle_asks(&spot, 0);
    settle_locked(&spot, 0, 0);
    change->state = LEFT;
    enum settle_result result = settle_leave(&settle, &spot, &change->change);
    if (result == SETTLE_WAIT && change->state != LEFT)
        atomic_fetch_add(&mistakes, 1); /* this one's own lock is held still */
    settle_gives_up(&settle, &spot, 0, 0);
    while (result == SETTLE_WAIT && change->state == LEFT)
        sched_yield();
}

static void *work_often(void *data)
{
    (void)data;
    struct change change;
    for (int i = 0; i < 2000; i++)
        work(&change);
    return NULL;
}

static void threads(void **state)
{
    (void)state;
    pthread_t others[4];
    all_come();
    settle_went(&settle, 0, 2);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&others[i], NULL, work_often, NULL), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(others[i], NULL);
    assert_int_equal(mistakes, 0);
    assert_int_equal(locks[0].held, 0);
    assert_int_equal(settle.settling, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_held_back_while_all_bricks_are_there),
        TEST(what_was_done_without_a_brick_waits_until_the_lock_is_given_up),
        TEST(a_brick_that_comes_or_goes_in_between_counts_too),
        TEST(a_brick_is_not_there_before_replicate_knows),
        TEST(a_refused_lock_is_unrest_until_the_others_are_given_up),
        TEST(notes_that_fail_are_of_one_spot),
        TEST(locks_that_are_asked_for_one_by_one_are_one_lock),
        TEST(a_lock_that_all_refuse_leaves_nothing),
        TEST(a_conflict_is_no_refusal),
        TEST(notes_that_too_few_bricks_have_do_not_count),
        TEST(a_brick_that_refused_its_lock_has_no_note),
        TEST(sets_do_not_disturb_each_other),
        TEST(spots_do_not_disturb_each_other),
        TEST(new_changes_wait_although_the_unrest_is_over),
        TEST(one_request_at_a_time_wakes_replicate),
        TEST(what_is_noted_ahead_is_answered_under_the_lock),
        TEST(a_note_ends_with_its_lock),
        TEST(a_note_must_be_on_all_that_are_not_behind),
        TEST(a_note_does_not_outlive_its_brick),
        TEST(a_brick_that_goes_later_is_not_in_the_note),
        TEST(a_brick_that_comes_and_has_no_lock_yet_is_not_behind),
        TEST(a_brick_that_refused_its_lock_is_behind),
        TEST(too_few_bricks_blame_nobody),
        TEST(locks_that_overlap_blame_nobody),
        TEST(a_change_of_another_set_is_settled_there),
        TEST(threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
