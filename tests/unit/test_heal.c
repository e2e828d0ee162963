/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Which copies are right, and the lists of files that bricks keep, without a brick. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "blockd/engine/heal_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

static char folder[] = "/tmp/test_heal.XXXXXX";
static struct brick_spec bricks[3];
static struct volume volume = {
    .meta.name = "v", .spec = {.template_name = TEMPLATE_REPLICA3, .bricks = {.items = bricks, .count = 3}}};

/* "0>1 2>0": brick 0 blames 1, brick 2 blames 0; "-1": brick 1 has no copy; "?2": it cannot be seen; "d0":
 * dirty. */
static void parse(const char *text, struct heal_copy copies[3])
{
    memset(copies, 0, 3 * sizeof *copies);
    for (int i = 0; i < 3; i++)
        copies[i].exists = true;
    for (; *text; text += *text == ' ') {
        if (text[0] == '-') {
            copies[text[1] - '0'].exists = false;
            text += 2;
        } else if (text[0] == '?') {
            copies[text[1] - '0'].exists = false;
            copies[text[1] - '0'].unseen = true;
            text += 2;
        } else if (text[0] == 'd') {
            copies[text[1] - '0'].dirty[HEAL_DATA] = 1;
            text += 2;
        } else {
            copies[text[0] - '0'].blames[text[2] - '0'][HEAL_DATA] = 1;
            text += 3;
        }
    }
}

static bool split(const char *text)
{
    struct heal_copy copies[3];
    parse(text, copies);
    return heal_has_no_source(copies, 3, HEAL_DATA);
}

static void test_sources(void **state)
{
    (void)state;
    assert_false(split(""));
    assert_false(split("0>2 1>2"));
    assert_false(split("0>1 0>2"));
    assert_true(split("0>1 0>2 1>0 1>2 2>0 2>1"));
    /* Each of two blames the other, and both the third: less than a quorum blames either. */
    assert_false(split("0>1 0>2 1>0 1>2"));
    /* Who blames itself is not believed: 0 and 1 may be right. */
    assert_false(split("0>1 0>2 1>0 1>2 2>0 2>1 2>2"));
    /* What is not there is no source, what cannot be seen may be one. */
    assert_true(split("-0 -1 -2"));
    assert_true(split("-2 0>1 1>0 2>0 2>1"));
    assert_false(split("?2 0>1 1>0"));
    assert_false(split("?2 0>1 0>2 1>0"));
    struct heal_copy copies[3];
    parse("0>1 0>2 1>0 1>2 2>0 2>1", copies);
    assert_false(heal_has_no_source(copies, 3, HEAL_METADATA));
}

static struct heal_verdict judge(const char *text, bool fresh, bool up)
{
    struct heal_set set = {.volume = &volume, .width = 3, .children = {0, 1, 2}, .up = {up, up, up}};
    struct heal_copy copies[3];
    struct heal_verdict verdict;
    parse(text, copies);
    for (int i = 0; i < 3; i++) {
        copies[i].stat.st_mode = S_IFREG;
        copies[i].stat.st_size = 10 + i;
        copies[i].stat.st_ctim.tv_sec = fresh ? time(NULL) : 1;
    }
    heal_judge(&set, copies, &verdict);
    return verdict;
}

static void test_states(void **state)
{
    (void)state;
    assert_int_equal(judge("", true, true).state, -1);
    assert_int_equal(judge("d0", true, true).state, HEAL_DIRTY);
    assert_int_equal(judge("d0", false, true).state, HEAL_PENDING);
    assert_int_equal(judge("0>2 1>2", false, true).state, HEAL_PENDING);
    assert_int_equal(judge("0>2 1>2", true, true).state, HEAL_HEALING);
    assert_int_equal(judge("0>2 1>2", true, false).state, HEAL_PENDING);
    assert_int_equal(judge("0>1 0>2 1>0 1>2 2>0 2>1", true, true).state, HEAL_SPLIT_BRAIN);
    struct heal_verdict verdict = judge("0>2 1>2 d0", false, true);
    assert_int_equal(verdict.from, 3);
    assert_int_equal(verdict.to, 4);
    assert_int_equal(verdict.kinds, 1 << HEAL_DATA);
    assert_int_equal(verdict.size, 12);
    volume.spec.template_name = TEMPLATE_ARBITER; /* whose third copy has no data */
    assert_int_equal(judge("0>2", false, true).size, 11);
    volume.spec.template_name = TEMPLATE_REPLICA3;
}

static void test_fragments(void **state)
{
    (void)state;
    struct volume disperse = {.meta.name = "e",
                              .spec = {.template_name = TEMPLATE_DISPERSE, .data = 2, .redundancy = 1}};
    struct heal_set set = {.volume = &disperse, .width = 3, .children = {0, 1, 2}, .up = {true, true, true}};
    struct heal_copy copies[3] = {0};
    struct heal_verdict verdict;
    for (int i = 0; i < 3; i++)
        copies[i] = (struct heal_copy){.exists = true, .version = {7, 3}, .stat.st_ctim.tv_sec = 1};
    heal_judge(&set, copies, &verdict);
    assert_int_equal(verdict.state, -1);
    copies[1].changing[0] = 1;
    heal_judge(&set, copies, &verdict);
    assert_int_equal(verdict.state, HEAL_PENDING);
    copies[1].stat.st_ctim.tv_sec = time(NULL);
    heal_judge(&set, copies, &verdict);
    assert_int_equal(verdict.state, HEAL_DIRTY);
    copies[2].version[0] = 6;
    copies[1].changing[0] = 0;
    heal_judge(&set, copies, &verdict);
    assert_int_equal(verdict.state, HEAL_PENDING);
    assert_int_equal(verdict.to, 4);
    assert_int_equal(verdict.kinds, 1 << HEAL_DATA);
    copies[2] = (struct heal_copy){.exists = false};
    heal_judge(&set, copies, &verdict);
    assert_int_equal(verdict.to, 4);
    assert_int_equal(verdict.kinds, 1 << HEAL_ENTRY);
}

static void test_gfids(void **state)
{
    (void)state;
    static const char good[] = "00112233-4455-6677-8899-aabbccddeeff";
    struct gfid gfid;
    char text[GFID_TEXT_SIZE];
    assert_true(gfid_parse(good, &gfid));
    gfid_format(&gfid, text);
    assert_string_equal(text, good);
    static const char *const bad[] = {"",
                                      "xattrop-00112233-4455-6677-8899-aabbccddeeff",
                                      "00112233-4455-6677-8899-aabbccddeef",
                                      "00112233-4455-6677-8899-aabbccddeeff0",
                                      "00112233-4455-6677-8899-aabbccddeefg",
                                      "0011223344556677-8899-aabbccddeeff--",
                                      "00112233-4455-6677-8899-AABBCCDDEEFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(gfid_parse(bad[i], &gfid));
}

static void touch(const char *index, const char *name)
{
    autofree char *path = xasprintf("%s/.glusterfs/indices/%s", folder, index);
    assert_int_equal(folder_make(path, 0700, NULL), 0);
    autofree char *file = xasprintf("%s/%s", path, name);
    autoclose int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
}

static void test_index(void **state)
{
    (void)state;
    struct heal_index pending = {0}, dirty = {0};
    heal_index_read(folder, HEAL_INDEX_PENDING, &pending);
    assert_int_equal(pending.files.count, 0);
    assert_false(heal_index_changed(folder, HEAL_INDEX_PENDING, &pending));
    touch("xattrop", "xattrop-00112233-4455-6677-8899-aabbccddeeff");
    touch("xattrop", "00112233-4455-6677-8899-aabbccddee02");
    touch("xattrop", "00112233-4455-6677-8899-aabbccddee01");
    touch("dirty", "00112233-4455-6677-8899-aabbccddee02");
    touch("dirty", "00112233-4455-6677-8899-aabbccddee03");
    assert_true(heal_index_changed(folder, HEAL_INDEX_PENDING, &pending));
    heal_index_read(folder, HEAL_INDEX_PENDING, &pending);
    heal_index_read(folder, HEAL_INDEX_DIRTY, &dirty);
    assert_int_equal(pending.files.count, 2);
    /* Read in the tick in which it changed: something may have changed since. */
    assert_true(heal_index_changed(folder, HEAL_INDEX_PENDING, &pending));

    struct gfid_list all = gfid_list_union(&pending.files, &dirty.files);
    assert_int_equal(all.count, 3);
    for (size_t i = 0; i < all.count; i++)
        assert_int_equal(all.items[i].bytes[GFID_SIZE - 1], i + 1);
    assert_true(gfid_list_has(&dirty.files, &all.items[2]));
    assert_false(gfid_list_has(&dirty.files, &all.items[0]));

    struct gfid parent = all.items[0];
    autostring_list struct string_list names = {0};
    touch("entry-changes/00112233-4455-6677-8899-aabbccddee01", "name");
    touch("entry-changes/00112233-4455-6677-8899-aabbccddee01", "other");
    heal_index_names(folder, &parent, 100, &names);
    heal_index_names(folder, &parent, 100, &names);
    assert_int_equal(names.count, 2);
    gfid_list_clear(&all);
    gfid_list_clear(&pending.files);
    gfid_list_clear(&dirty.files);
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return tree_remove(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sources), cmocka_unit_test(test_states), cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_gfids),   cmocka_unit_test(test_index),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
