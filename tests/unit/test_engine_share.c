/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* How the size of a share is divided among the sets of its volume. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "blockd/engine/engine_priv.h"

#define KIB   UINT64_C(1024)
#define MIB   (UINT64_C(1) << 20)
#define UNIT  (4 * KIB)
#define SETS  4
#define PARTS (struct share_part[SETS])

static uint64_t shown(const struct share_part *parts, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += parts[i].shown;
    return sum;
}

static void assert_enforced(const struct share_part *parts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_true(parts[i].most == parts[i].shown && parts[i].most);
}

static void test_an_empty_share_has_like_parts(void **state)
{
    (void)state;
    struct share_part *parts = PARTS{0};
    share_divide(10 * MIB, UNIT, false, parts, 1);
    assert_int_equal(parts[0].shown, 10 * MIB);
    parts = PARTS{0};
    share_divide(64 * MIB, UNIT, false, parts, 3);
    /* It is no multiple of three blocks, and df shows it all the same. */
    assert_int_equal(shown(parts, 3), 64 * MIB);
    assert_true(parts[0].shown - parts[2].shown <= UNIT);
    assert_enforced(parts, 3);
    /* Fragments: a part is whole on each brick. */
    parts = PARTS{0};
    share_divide(10 * MIB, 3 * UNIT, false, parts, 2);
    assert_int_equal(parts[0].shown % (3 * UNIT) + parts[1].shown % (3 * UNIT), 0);
    assert_true(shown(parts, 2) >= 10 * MIB && shown(parts, 2) < 10 * MIB + 3 * UNIT);
}

static void test_a_new_set_takes_nothing_from_the_others(void **state)
{
    (void)state;
    struct share_part parts[] = {{.used = 24 * MIB, .shown = 32 * MIB, .most = 32 * MIB},
                                 {.used = 22 * MIB, .shown = 32 * MIB, .most = 32 * MIB},
                                 {.used = 0}};
    share_divide(64 * MIB, UNIT, false, parts, 3);
    assert_int_equal(parts[0].shown, 30 * MIB);
    assert_int_equal(parts[1].shown, 28 * MIB);
    assert_int_equal(parts[2].shown, 6 * MIB);
    assert_enforced(parts, 3);
}

static void test_a_set_gets_room_from_the_others(void **state)
{
    (void)state;
    struct share_part parts[] = {{.used = 32 * MIB, .shown = 32 * MIB, .most = 32 * MIB},
                                 {.used = 8 * MIB, .shown = 32 * MIB, .most = 32 * MIB}};
    share_divide(64 * MIB, UNIT, false, parts, 2);
    assert_int_equal(parts[0].shown, 44 * MIB);
    assert_int_equal(parts[1].shown, 20 * MIB);
    assert_enforced(parts, 2);
}

static void test_parts_that_suit_stay(void **state)
{
    (void)state;
    struct share_part parts[] = {{.used = 10 * MIB, .shown = 32 * MIB, .most = 32 * MIB},
                                 {.used = 12 * MIB, .shown = 32 * MIB, .most = 32 * MIB}};
    share_divide(64 * MIB, UNIT, false, parts, 2);
    assert_int_equal(parts[0].shown, 32 * MIB);
    assert_int_equal(parts[1].shown, 32 * MIB);
    /* But not when the size is another, or when files moved until now. */
    share_divide(80 * MIB, UNIT, false, parts, 2);
    assert_int_equal(shown(parts, 2), 80 * MIB);
    parts[0].most = 80 * MIB;
    share_divide(80 * MIB, UNIT, false, parts, 2);
    assert_enforced(parts, 2);
}

static void test_files_that_move_have_room(void **state)
{
    (void)state;
    /* A full share: each file is in two sets while it moves. */
    struct share_part parts[] = {{.used = 40 * MIB}, {.used = 24 * MIB}, {.used = 0}};
    share_divide(64 * MIB, UNIT, true, parts, 3);
    assert_int_equal(shown(parts, 3), 64 * MIB + UNIT); /* no limit is not meant by none */
    assert_true(parts[2].most >= 40 * MIB);
    /* Never more than all of the share in one set, and with too much in all of them no room at all. */
    struct share_part over[] = {{.used = 60 * MIB}, {.used = 64 * MIB}};
    share_divide(64 * MIB, UNIT, true, over, 2);
    assert_int_equal(shown(over, 2), 64 * MIB);
    assert_true(over[0].most <= 64 * MIB && over[1].most <= 64 * MIB);
    struct share_part much[] = {{.used = 60 * MIB}, {.used = 60 * MIB}, {.used = 60 * MIB}};
    share_divide(64 * MIB, UNIT, true, much, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(much[i].most <= much[i].used);
}

static void test_a_set_that_leaves_gets_nothing_new(void **state)
{
    (void)state;
    struct share_part parts[] = {{.used = 16 * MIB}, {.used = 16 * MIB, .leaving = true}};
    share_divide(64 * MIB, UNIT, true, parts, 2);
    assert_int_equal(parts[0].shown, 48 * MIB);
    assert_int_equal(parts[1].shown, 16 * MIB);
}

static void test_too_much_is_shown_as_full(void **state)
{
    (void)state;
    struct share_part parts[] = {{.used = 50 * MIB}, {.used = 30 * MIB}, {.used = 0}};
    share_divide(64 * MIB, UNIT, false, parts, 3);
    assert_true(shown(parts, 3) <= 64 * MIB + UNIT);
    for (size_t i = 0; i < 3; i++)
        assert_true(parts[i].most > 0 && parts[i].most <= parts[i].used + UNIT);
}

static void test_the_largest_size(void **state)
{
    (void)state;
    struct share_part *parts = PARTS{{.used = INT64_MAX}};
    share_divide(INT64_MAX, UNIT, true, parts, 2);
    assert_true(parts[0].shown >= INT64_MAX);
    parts = PARTS{0};
    share_divide(1, UNIT, false, parts, 1);
    assert_int_equal(parts[0].most, UNIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_share_has_like_parts),
        cmocka_unit_test(test_a_new_set_takes_nothing_from_the_others),
        cmocka_unit_test(test_a_set_gets_room_from_the_others),
        cmocka_unit_test(test_parts_that_suit_stay),
        cmocka_unit_test(test_files_that_move_have_room),
        cmocka_unit_test(test_a_set_that_leaves_gets_nothing_new),
        cmocka_unit_test(test_too_much_is_shown_as_full),
        cmocka_unit_test(test_the_largest_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
