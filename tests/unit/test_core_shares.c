/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "tests/unit/core_fixture.h"

static int resize_share(const char *name, uint64_t size)
{
    struct share_patch patch = {.size = size};
    struct core_result result = {0};
    int r = core_share_patch(core, name, &patch, 1, &waits, &result, NULL);
    taken(&result);
    return r;
}

static struct share read_share(const char *name)
{
    struct share share = {0};
    assert_int_equal(record_get(core, KIND_SHARE, name, &share, NULL), 0);
    return share;
}

static void test_a_size_needs_a_kernel_that_counts(void **data)
{
    (void)data;
    assert_int_equal(create_share("s", MIB, false), -EOPNOTSUPP);
    assert_int_equal(create_share("s", MIB, true), 0);
    assert_true(fake_folder_exists("/shares/s"));
    struct share share cleanup(cleanup_share) = read_share("v/s");
    assert_string_equal(share.status.phase, "ready");
    assert_int_equal(fake_shares.limit, 0);
    assert_int_equal(create_share("s", MIB, true), -EEXIST);
    assert_int_equal(create_share("t", MIB - 1, true), -EINVAL);
    assert_int_equal(create_share("t", ROOM, true), -ENOSPC);
    assert_int_equal(delete_share("v/s", false), 0);
    assert_false(fake_folder_exists("/shares/s"));
    assert_promised(0, 0);
}

static bool count_on(void *object, void *data)
{
    (void)data;
    ((struct device *)object)->status.quota = true;
    return true;
}

static void test_no_share_shrinks_below_its_use(void **data)
{
    (void)data;
    fake_shares.quota = true;
    assert_int_equal(record_update(core, KIND_DEVICE, "n/d", NULL, count_on, NULL, NULL), 0);
    assert_int_equal(create_share("s", 10 * MIB, false), 0);
    assert_int_equal(fake_shares.limit, 10 * MIB);
    fake_shares.used = 6 * MIB;
    assert_int_equal(resize_share("v/s", 5 * MIB), -EINVAL);
    assert_int_equal(resize_share("v/s", 6 * MIB), 0);
    assert_int_equal(fake_shares.limit, 6 * MIB);
    assert_int_equal(resize_share("v/s", ROOM + MIB), -ENOSPC);
    assert_promised(6 * MIB, 0);
    assert_int_equal(delete_share("v/s", false), 0);
    fake_shares.quota = false;
}

static void test_a_foreign_folder_is_left_alone(void **data)
{
    (void)data;
    assert_int_equal(files_make_folder(NULL, "/shares/s", 0755, NULL), 0);
    assert_int_equal(files_set_mark(NULL, "/shares/s", SHARE_MARK, "{\"uid\":\"another\"}", NULL), 0);
    assert_int_equal(create_share("s", MIB, true), 0);
    struct share share cleanup(cleanup_share) = read_share("v/s");
    assert_string_equal(share.status.phase, "failed");
    assert_int_equal(delete_share("v/s", false), 0);
    assert_true(fake_folder_exists("/shares/s"));
    fake_folder_drop(fake_folder("/shares/s"));
    assert_promised(0, 0);
}

static void test_an_archived_share_frees_its_name(void **data)
{
    (void)data;
    struct record_list shares = {.kind = KIND_SHARE};
    assert_int_equal(create_share("s", MIB, true), 0);
    assert_int_equal(delete_share("v/s", true), 0);
    assert_int_equal(create_share("s", MIB, true), 0);
    assert_promised(2 * MIB, 0);
    assert_int_equal(record_list(core, KIND_SHARE, "v", &shares, NULL), 0);
    assert_int_equal(shares.list.count, 2);
    const struct share *archived = RECORD(&shares, share, 1);
    assert_string_equal(archived->status.phase, "archived");
    assert_true(fake_folder_exists(archived->status.path));
    assert_int_equal(resize_share(archived->meta.name, 2 * MIB), -EINVAL);
    assert_int_equal(delete_share(archived->meta.name, true), -EINVAL);
    assert_int_equal(delete_share(archived->meta.name, false), 0);
    assert_int_equal(delete_share("v/s", false), 0);
    assert_promised(0, 0);
    record_list_clear(&shares);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_size_needs_a_kernel_that_counts),
        TEST(test_no_share_shrinks_below_its_use),
        TEST(test_a_foreign_folder_is_left_alone),
        TEST(test_an_archived_share_frees_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
