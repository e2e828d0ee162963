/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/grant.h"

static char run_dir[] = "/tmp/test-grant-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(run_dir) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    autofree char *grants = xasprintf("%s/grants", run_dir);
    autofree char *volume = xasprintf("%s/vol", grants);
    grant_remove(run_dir, "vol", "disk", NULL);
    rmdir(volume);
    rmdir(grants);
    return rmdir(run_dir);
}

static struct grant sample = {
    .volume = (char *)"vol",
    .block = (char *)"disk",
    .gbid = (char *)"6d4e1f3c-0000-4000-8000-000000000001",
    .file = (char *)"/block-store/6d4e1f3c-0000-4000-8000-000000000001",
    .volfile = (char *)"/var/lib/blockd/volfiles/vol/client.vol",
    .size = 1 << 30,
    .block_size = 512,
    .epoch = 7,
};

static void write_read_remove(void **state)
{
    (void)state;
    bool changed = false;
    autoerror struct error *error = NULL;
    assert_int_equal(grant_write(run_dir, &sample, &changed, &error), 0);
    assert_true(changed);
    autofree char *path = grant_path(run_dir, "vol", "disk");
    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(before.st_mode & 07777, 0600);

    assert_int_equal(grant_write(run_dir, &sample, &changed, &error), 0);
    assert_false(changed);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);

    struct grant grant = {0};
    assert_int_equal(grant_read(run_dir, "vol", "disk", &grant, &error), 0);
    assert_string_equal(grant.gbid, sample.gbid);
    assert_string_equal(grant.file, sample.file);
    assert_string_equal(grant.volfile, sample.volfile);
    assert_int_equal(grant.size, sample.size);
    assert_int_equal(grant.block_size, 512);
    assert_int_equal(grant.epoch, 7);
    assert_false(grant.read_only);
    cleanup_grant(&grant);

    sample.size = 2u << 30;
    assert_int_equal(grant_write(run_dir, &sample, NULL, &error), 0);
    assert_int_equal(grant_read(run_dir, "vol", "disk", &grant, &error), 0);
    assert_int_equal(grant.size, 2u << 30);
    cleanup_grant(&grant);

    assert_int_equal(grant_remove(run_dir, "vol", "disk", &error), 0);
    assert_int_equal(grant_remove(run_dir, "vol", "disk", &error), 0);
    assert_int_equal(grant_read(run_dir, "vol", "disk", &grant, &error), -ENOENT);
}

static void hostile_names_make_no_path(void **state)
{
    (void)state;
    static const char *const names[] = {"",    ".",   "..",  "../etc", "a/b",   "/etc",
                                        "-rf", "a b", "a\n", "\xff",   "a.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct grant grant = {0};
        autoerror struct error *error = NULL;
        assert_int_equal(grant_read(run_dir, names[i], "disk", &grant, &error), -EINVAL);
        assert_int_equal(grant_read(run_dir, "vol", names[i], &grant, &error), -EINVAL);
        assert_int_equal(grant_remove(run_dir, names[i], "disk", &error), -EINVAL);
        assert_int_equal(grant_remove(run_dir, "vol", names[i], &error), -EINVAL);
        struct grant bad = sample;
        bad.block = (char *)names[i];
        assert_int_equal(grant_write(run_dir, &bad, NULL, &error), -EINVAL);
    }
}

static void bad_values_are_not_written(void **state)
{
    (void)state;
    autoerror struct error *error = NULL;
    static const char *const paths[] = {"block-store/x", "/a/../b", "/a//b", "/a/./b", "/", "/a/", "/..", ""};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct grant bad = sample;
        bad.file = (char *)paths[i];
        assert_int_equal(grant_write(run_dir, &bad, NULL, &error), -EINVAL);
        bad = sample;
        bad.volfile = (char *)paths[i];
        assert_int_equal(grant_write(run_dir, &bad, NULL, &error), -EINVAL);
    }
    struct grant bad = sample;
    bad.block_size = 1024;
    assert_int_equal(grant_write(run_dir, &bad, NULL, &error), -EINVAL);
    bad = sample;
    bad.size = 0;
    assert_int_equal(grant_write(run_dir, &bad, NULL, &error), -EINVAL);
    bad.size = 513;
    assert_int_equal(grant_write(run_dir, &bad, NULL, &error), -EINVAL);
    struct grant grant;
    assert_int_equal(grant_read(run_dir, "vol", "disk", &grant, NULL), -ENOENT);
}

static void damaged_files_are_refused(void **state)
{
    (void)state;
    autoerror struct error *error = NULL;
    assert_int_equal(grant_write(run_dir, &sample, NULL, &error), 0);
    autofree char *path = grant_path(run_dir, "vol", "disk");
    autofree char *good = NULL;
    size_t length;
    assert_int_equal(file_read(path, 65536, &good, &length, &error), 0);

    /* Every prefix of a good file, as a writer without rename would leave it. */
    for (size_t cut = 0; cut < length; cut++) {
        autofree char *half = xstrndup(good, cut);
        assert_int_equal(file_write_atomic(path, half, 0600, &error), 0);
        struct grant grant;
        memset(&grant, 0xa5, sizeof grant);
        assert_int_equal(grant_read(run_dir, "vol", "disk", &grant, &error), -EINVAL);
        assert_int_equal(((unsigned char *)&grant)[0], 0xa5);
    }

    static const char *const texts[] = {
        "[]",
        "null",
        "{}",
        "{\"volume\":\"vol\"}",
        "{\"volume\":1}",
        "\"vol\"",
        /* another block's grant under this name */
        "{\"volume\":\"vol\",\"block\":\"other\",\"gbid\":\"g\",\"file\":\"/f\",\"volfile\":\"/"
        "v\",\"size\":512,"
        "\"block_size\":512}",
        /* an unknown member */
        "{\"volume\":\"vol\",\"block\":\"disk\",\"gbid\":\"g\",\"file\":\"/f\",\"volfile\":\"/"
        "v\",\"size\":512,"
        "\"block_size\":512,\"extra\":1}",
        /* a member twice */
        "{\"volume\":\"vol\",\"block\":\"disk\",\"gbid\":\"g\",\"gbid\":\"h\",\"file\":\"/f\",\"volfile\":\"/"
        "v\","
        "\"size\":512,\"block_size\":512}",
        /* a negative size */
        "{\"volume\":\"vol\",\"block\":\"disk\",\"gbid\":\"g\",\"file\":\"/f\",\"volfile\":\"/"
        "v\",\"size\":-512,"
        "\"block_size\":512}",
        /* a path with a way out */
        "{\"volume\":\"vol\",\"block\":\"disk\",\"gbid\":\"g\",\"file\":\"/../f\",\"volfile\":\"/"
        "v\",\"size\":512,"
        "\"block_size\":512}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(file_write_atomic(path, texts[i], 0600, &error), 0);
        struct grant grant = {0};
        int r = grant_read(run_dir, "vol", "disk", &grant, &error);
        if (r != -EINVAL && r != -ERANGE)
            fail_msg("text %zu: result %d", i, r);
        assert_non_null(strstr(error_message(error), path));
    }
    assert_int_equal(grant_remove(run_dir, "vol", "disk", &error), 0);
}

static void the_longest_names_have_grants(void **state)
{
    (void)state;
    for (size_t length = 249; length <= 254; length++) {
        autofree char *name = xasprintf("%0*d", (int)length, 0);
        struct grant grant = sample, read = {0};
        grant.block = name;
        autoerror struct error *error = NULL;
        if (grant_write(run_dir, &grant, NULL, &error) < 0)
            fail_msg("%zu characters: %s", length, error_message(error));
        assert_int_equal(grant_read(run_dir, "vol", name, &read, &error), 0);
        cleanup_grant(&read);
        autofree char *path = grant_path(run_dir, "vol", name);
        autofree char *found = grant_file_block(strrchr(path, '/') + 1);
        assert_string_equal(found, name);
        assert_int_equal(grant_remove(run_dir, "vol", name, &error), 0);
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void files_that_are_no_grants(void **state)
{
    (void)state;
    static const char *const files[] = {"",         ".json",   "a",        "a.jso",   "a.json.tmp",
                                        ".1.2.tmp", "-a.json", "a b.json", "a.b.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        assert_null(grant_file_block(files[i]));
    autofree char *block = grant_file_block("a.json");
    assert_string_equal(block, "a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_read_remove),
        cmocka_unit_test(hostile_names_make_no_path),
        cmocka_unit_test(bad_values_are_not_written),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(the_longest_names_have_grants),
        cmocka_unit_test(files_that_are_no_grants),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
