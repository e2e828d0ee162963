/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The image layer: what it refuses before any driver sees it, and the gfapi driver where there is no volume
 * to reach. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <dirent.h>

#include <cmocka.h>

#include "rpc/base/files.h"
#include "tests/lib/image_memory.h"

static void ended(void *data, int result)
{
    *(int *)data = result;
}

static void files(void **state)
{
    (void)state;
    struct image_volume *volume = NULL;
    struct image *image = NULL;
    struct image_stat status;
    memory_start(MEMORY_INLINE);
    assert_int_equal(image_volume_open("vol", "/x", "/x", &volume, NULL), 0);
    static const char *const bad[] = {"",      "x",  "x/y", "/",     "//x",     "/x/",
                                      "/x//y", "/.", "/..", "/../x", "/x/../y", "/x/."};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        autoerror struct error *error = NULL;
        assert_int_equal(image_open(volume, bad[i], false, &image, &error), -EINVAL);
        assert_non_null(strstr(error->message, bad[i]));
        assert_int_equal(image_create(volume, bad[i], 1, NULL), -EINVAL);
        assert_int_equal(image_truncate(volume, bad[i], 1, NULL), -EINVAL);
        assert_int_equal(image_allocate(volume, bad[i], 0, 1, NULL), -EINVAL);
        assert_int_equal(image_remove(volume, bad[i], NULL), -EINVAL);
        assert_int_equal(image_stat(volume, bad[i], &status, NULL), -EINVAL);
    }
    autofree char *part = xcalloc(1, 300);
    memset(part, 'x', 299);
    part[0] = '/';
    assert_int_equal(image_create(volume, part, 1, NULL), -EINVAL);
    assert_int_equal(image_create(volume, "/.x/..y/z", 1, NULL), 0);
    assert_int_equal(image_create(volume, "/x", (uint64_t)INT64_MAX + 1, NULL), -EFBIG);
    assert_int_equal(image_truncate(volume, "/x", UINT64_MAX, NULL), -EFBIG);
    assert_int_equal(image_allocate(volume, "/x", INT64_MAX, 1, NULL), -EFBIG);
    assert_int_equal(image_allocate(volume, "/x", 0, 0, NULL), 0);
    image_volume_close(volume);
    image_volume_close(NULL);
    image_close(NULL);
}

static void ranges(void **state)
{
    (void)state;
    struct image_volume *volume = NULL;
    struct image *image = NULL;
    struct image_extent extents[2];
    char buffer[16] = {0};
    size_t count = 0;
    int result = 1;
    memory_start(MEMORY_INLINE);
    assert_int_equal(image_volume_open("vol", "/x", "/x", &volume, NULL), 0);
    assert_int_equal(image_open(volume, "/x", false, &image, NULL), 0);
    assert_int_equal(image_read(image, buffer, 0, 0, ended, &result), -EINVAL);
    assert_int_equal(image_write(image, buffer, 16, UINT64_MAX - 7, false, ended, &result), -EFBIG);
    assert_int_equal(image_write(image, buffer, 16, INT64_MAX - 7, false, ended, &result), -EFBIG);
    assert_int_equal(image_discard(image, 0, 0, ended, &result), -EINVAL);
    assert_int_equal(image_discard(image, 1, INT64_MAX, ended, &result), -EFBIG);
    assert_int_equal(image_zero(image, INT64_MAX, 1, true, ended, &result), -EFBIG);
    assert_int_equal(image_extents(image, 0, 0, extents, 2, &count, NULL), -EINVAL);
    assert_int_equal(image_extents(image, 0, 1, extents, 0, &count, NULL), -EINVAL);
    assert_int_equal(result, 1); /* what is refused does not end */
    assert_int_equal(image_write(image, "0123456789abcdef", 16, 4096, true, ended, &result), 0);
    assert_int_equal(result, 0);
    assert_int_equal(image_read(image, buffer, 16, 4096, ended, &result), 0);
    assert_memory_equal(buffer, "0123456789abcdef", 16);
    assert_int_equal(image_extents(image, 0, 3 * 4096, extents, 2, &count, NULL), 0);
    assert_int_equal(count, 2);
    assert_true(extents[0].hole && !extents[1].hole);
    image_close(image);
    image_volume_close(volume);
}

static size_t entries(const char *folder)
{
    autoclosedir DIR *dir = opendir(folder);
    size_t count = 0;
    while (readdir(dir))
        count++;
    return count;
}

static char folder[] = "/tmp/test-image-XXXXXX";

/* Trying again and again leaves neither threads nor descriptors behind. */
static void nothing_to_connect_to(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* libgfapi is not built for it: its locks are invisible, and all that it does looks like a race
             */
#endif
    assert_non_null(mkdtemp(folder));
    autofree char *volfile = xasprintf("%s/client.vol", folder), *log = xasprintf("%s/log", folder);
    struct image_volume *volume = NULL;
    autoerror struct error *error = NULL;
    image_driver_select(&image_driver_gfapi);

    assert_int_equal(image_volume_open("vol", volfile, log, &volume, &error), -ENOENT);
    assert_non_null(strstr(error->message, "volume vol"));
    assert_int_equal(file_write_atomic(volfile, "nonsense\n", 0600, NULL), 0);
    assert_int_equal(image_volume_open("vol", volfile, log, &volume, NULL), -EINVAL);

    /* Port 1 of this machine: refused at once. */
    assert_int_equal(
        file_write_atomic(volfile,
                          "volume vol-client-0\n    type protocol/client\n    option transport-type tcp\n"
                          "    option transport.address-family inet\n"
                          "    option remote-host 127.0.0.1\n    option remote-port 1\n"
                          "    option remote-subvolume brick\nend-volume\n",
                          0600, NULL),
        0);
    size_t threads = 0, files_open = 0;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(image_volume_open("vol", volfile, log, &volume, &error), -ENOTCONN);
        assert_non_null(strstr(error->message, log));
        if (i == 0) {
            threads = entries("/proc/self/task");
            files_open = entries("/proc/self/fd");
        }
    }
    assert_true(entries("/proc/self/task") <= threads);
    assert_true(entries("/proc/self/fd") <= files_open);
    assert_null(volume);
    unlink(volfile);
    unlink(log);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files),
        cmocka_unit_test(ranges),
        cmocka_unit_test(nothing_to_connect_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
