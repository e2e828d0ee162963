/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What a brick may hold of a share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "blockd/engine/engine_priv.h"

#define MIB (UINT64_C(1) << 20)

static uint64_t limit(int template_name, size_t bricks, uint64_t data, uint64_t redundancy, uint64_t size)
{
    struct volume volume = {.spec = {.template_name = template_name, .data = data, .redundancy = redundancy}};
    for (size_t i = 0; i < bricks; i++)
        object_list_add(&volume.spec.bricks, sizeof(struct brick_spec));
    uint64_t bytes = share_brick_limit(&volume, size);
    free(volume.spec.bricks.items);
    return bytes;
}

static void test_replicas_hold_all(void **state)
{
    (void)state;
    assert_int_equal(limit(TEMPLATE_SINGLE, 1, 0, 0, 10 * MIB), 10 * MIB);
    assert_int_equal(limit(TEMPLATE_REPLICA3, 3, 0, 0, 10 * MIB), 10 * MIB);
    assert_int_equal(limit(TEMPLATE_ARBITER, 3, 0, 0, 10 * MIB), 10 * MIB);
}

static void test_sets_hold_parts(void **state)
{
    (void)state;
    assert_int_equal(limit(TEMPLATE_REPLICA3, 6, 0, 0, 10 * MIB), 5 * MIB);
    assert_int_equal(limit(TEMPLATE_SINGLE, 4, 0, 0, 8 * MIB), 2 * MIB);
    /* Never less than the share's size in sum, and whole blocks. */
    assert_int_equal(limit(TEMPLATE_SINGLE, 3, 0, 0, MIB), 352256);
    assert_true(limit(TEMPLATE_SINGLE, 3, 0, 0, MIB) * 3 >= MIB);
}

static void test_fragments_hold_parts_of_parts(void **state)
{
    (void)state;
    assert_int_equal(limit(TEMPLATE_DISPERSE, 6, 4, 2, 8 * MIB), 2 * MIB);
    assert_int_equal(limit(TEMPLATE_DISPERSE, 12, 4, 2, 8 * MIB), MIB);
}

static void test_the_largest_size(void **state)
{
    (void)state;
    assert_true(limit(TEMPLATE_SINGLE, 1, 0, 0, INT64_MAX) >= INT64_MAX);
    assert_true(limit(TEMPLATE_SINGLE, 1, 0, 0, 1) == 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replicas_hold_all),
        cmocka_unit_test(test_sets_hold_parts),
        cmocka_unit_test(test_fragments_hold_parts_of_parts),
        cmocka_unit_test(test_the_largest_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
