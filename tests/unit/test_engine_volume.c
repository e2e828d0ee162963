/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What needs no brick: the phase of a volume, and the removal of trees. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "blockd/engine/engine_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

/* ---- Phases ---- */

/* One letter a brick: o online, h online with heals pending, s starting, d offline, f failed, x stopped. */
static void expect_phase(int template_name, int state, const char *letters, const char *phase)
{
    struct brick_status bricks[3] = {0};
    struct brick_spec specs[3] = {0};
    size_t count = strlen(letters);
    struct volume volume = {.spec = {.template_name = template_name,
                                     .state = state,
                                     .bricks = {specs, template_name == TEMPLATE_SINGLE ? 1 : 3}}};
    for (size_t i = 0; i < count; i++) {
        static const char *const words[128] = {['o'] = "online",  ['h'] = "online", ['s'] = "starting",
                                               ['d'] = "offline", ['f'] = "failed", ['x'] = "stopped"};
        bricks[i].state = (char *)words[(unsigned char)letters[i]];
        bricks[i].heal_pending = letters[i] == 'h';
    }
    const char *got = volume_phase(&volume, bricks, count);
    if (strcmp(got, phase) != 0)
        fail_msg("%s gives %s, not %s", letters, got, phase);
}

static void phases(void **state)
{
    (void)state;
    static const struct {
        int template_name, state;
        const char *letters, *phase;
    } table[] = {
        {TEMPLATE_SINGLE, VOLUME_STARTED, "o", "online"},
        {TEMPLATE_SINGLE, VOLUME_STARTED, "d", "offline"},
        {TEMPLATE_SINGLE, VOLUME_STARTED, "s", "offline"},
        {TEMPLATE_SINGLE, VOLUME_STARTED, "f", "failed"},
        {TEMPLATE_SINGLE, VOLUME_STOPPED, "x", "stopped"},
        {TEMPLATE_SINGLE, VOLUME_STOPPED, "o", "online"},
        {TEMPLATE_REPLICA3, VOLUME_STARTED, "ooo", "online"},
        {TEMPLATE_REPLICA3, VOLUME_STARTED, "ooh", "degraded"},
        {TEMPLATE_REPLICA3, VOLUME_STARTED, "ood", "degraded"},
        {TEMPLATE_REPLICA3, VOLUME_STARTED, "oos", "degraded"},
        {TEMPLATE_REPLICA3, VOLUME_STARTED, "oof", "degraded"},
        {TEMPLATE_REPLICA3, VOLUME_STARTED, "odd", "offline"},
        {TEMPLATE_REPLICA3, VOLUME_STARTED, "odf", "failed"},
        {TEMPLATE_REPLICA3, VOLUME_STARTED, "ddd", "offline"},
        {TEMPLATE_REPLICA3, VOLUME_STOPPED, "xxx", "stopped"},
        {TEMPLATE_REPLICA3, VOLUME_STOPPED, "oox", "degraded"},
        {TEMPLATE_ARBITER, VOLUME_STARTED, "ood", "degraded"},
        {TEMPLATE_ARBITER, VOLUME_STARTED, "dod", "offline"},
        /* Bricks of other nodes are not seen from here, and taken for online. */
        {TEMPLATE_REPLICA3, VOLUME_STARTED, "o", "online"},
        {TEMPLATE_REPLICA3, VOLUME_STARTED, "d", "degraded"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        expect_phase(table[i].template_name, table[i].state, table[i].letters, table[i].phase);
}

/* ---- Trees ---- */

static void make_file(const char *path)
{
    assert_int_equal(file_write_atomic(path, "x", 0600, NULL), 0);
}

static void removes_a_deep_tree(void **state)
{
    (void)state;
    char folder[] = "/tmp/engine-tree-XXXXXX";
    assert_non_null(mkdtemp(folder));
    autofree char *outside = xasprintf("%s/outside", folder);
    autofree char *tree = xasprintf("%s/tree", folder);
    autofree char *kept = xasprintf("%s/kept", outside);
    assert_int_equal(mkdir(outside, 0700), 0);
    make_file(kept);
    assert_int_equal(mkdir(tree, 0700), 0);
    autofree char *link = xasprintf("%s/link", tree);
    assert_int_equal(symlink(outside, link), 0);

    /* Deeper than PATH_MAX, with names that the numbers of the removal meet. */
    autoclose int at = open(tree, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(mkdirat(at, i % 2 ? "0" : "1", 0700), 0);
        assert_int_equal(symlinkat("/etc", at, "etc"), 0);
        autoclose int file = openat(at, "file", O_CREAT | O_WRONLY, 0600);
        assert_true(file >= 0);
        int below = openat(at, i % 2 ? "0" : "1", O_RDONLY | O_DIRECTORY);
        close(at);
        at = below;
    }
    assert_int_equal(tree_remove(tree, NULL), 0);
    assert_int_equal(access(tree, F_OK), -1);
    assert_int_equal(tree_remove(tree, NULL), 0);

    /* A link in place of the tree is not followed. */
    assert_int_equal(symlink(outside, tree), 0);
    assert_int_not_equal(tree_remove(tree, NULL), 0);
    assert_int_equal(access(kept, F_OK), 0);
    unlink(tree);
    assert_int_equal(tree_remove(folder, NULL), 0);
}

/* ---- Paths ---- */

static void mounts(void **state)
{
    (void)state;
    struct mount_view view;
    struct stat status;
    assert_int_equal(mounts_at("/proc", &view, NULL), 0);
    assert_int_equal(stat("/proc", &status), 0);
    assert_true(view.device == status.st_dev);
    assert_int_equal(mounts_at("/proc/self", &view, NULL), -ENOENT);
    autofree char *folder = NULL;
    assert_int_equal(mounts_of(status.st_dev, &folder, NULL), 0);
    assert_string_equal(folder, "/proc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phases),
        cmocka_unit_test(removes_a_deep_tree),
        cmocka_unit_test(mounts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
