/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Strings, lists, errors and the words that are parsed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/base/alloc.h"
#include "rpc/base/error.h"
#include "rpc/base/log.h"
#include "rpc/base/sizes.h"
#include "rpc/base/strings.h"

/* ---- Strings ---- */

static void buffers_grow(void **state)
{
    (void)state;
    autostrbuf struct strbuf buffer = {0};
    assert_string_equal(strbuf_string(&buffer), "");
    strbuf_add(&buffer, NULL, 0);
    assert_string_equal(strbuf_string(&buffer), "");
    for (int i = 0; i < 1000; i++)
        strbuf_addf(&buffer, "%03d", i);
    assert_int_equal(buffer.length, 3000);
    assert_int_equal(strlen(buffer.data), 3000);
    assert_memory_equal(buffer.data + 999 * 3, "999", 4);
    strbuf_add(&buffer, "a\0b", 3);
    assert_int_equal(buffer.length, 3003);
    assert_memory_equal(buffer.data + 3000, "a\0b", 4);

    char *stolen = strbuf_steal(&buffer);
    assert_int_equal(strlen(stolen), 3001);
    assert_null(buffer.data);
    free(stolen);
    stolen = strbuf_steal(&buffer);
    assert_string_equal(stolen, "");
    free(stolen);
}

static void lists_keep_copies(void **state)
{
    (void)state;
    autostring_list struct string_list list = {0}, copy = {0};
    char text[] = "first";
    string_list_add(&list, text);
    text[0] = 'X';
    for (int i = 1; i < 100; i++)
        string_list_addf(&list, "%d", i);
    assert_int_equal(list.count, 100);
    assert_string_equal(list.items[0], "first");
    assert_string_equal(list.items[99], "99");
    string_list_copy(&copy, &list);
    string_list_clear(&list);
    assert_int_equal(list.count, 0);
    assert_true(string_list_contains(&copy, "42"));
    assert_false(string_list_contains(&copy, "4x"));
    assert_false(string_list_contains(&list, "42"));
}

static void splitting(void **state)
{
    (void)state;
    static const struct {
        const char *text, *parts; /* joined by "|" */
        size_t count;
    } cases[] = {{"", "", 0}, {"a", "a", 1}, {"a,b", "a|b", 2}, {",", "|", 2}, {"a,,b,", "a||b|", 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        autostring_list struct string_list list = {0};
        autostrbuf struct strbuf joined = {0};
        string_list_split(&list, cases[i].text, ',');
        assert_int_equal(list.count, cases[i].count);
        for (size_t part = 0; part < list.count; part++)
            strbuf_addf(&joined, "%s%s", part ? "|" : "", list.items[part]);
        assert_string_equal(strbuf_string(&joined), cases[i].parts);
    }
}

static void comparing(void **state)
{
    (void)state;
    assert_true(string_starts_with("abc", "ab"));
    assert_true(string_starts_with("abc", ""));
    assert_false(string_starts_with("ab", "abc"));
    assert_true(string_equal(NULL, NULL));
    assert_false(string_equal(NULL, ""));
    assert_false(string_equal("", NULL));
    assert_true(string_equal("a", "a"));
    assert_null(xstrdup(NULL));
}

/* ---- Errors ---- */

static int outer(struct error **ret_error)
{
    int r = error_set(ret_error, ENOSPC, "device %s is full", "d1");
    error_prefix(ret_error, "volume %s", "v");
    return r;
}

static void errors(void **state)
{
    (void)state;
    autoerror struct error *error = NULL;
    assert_int_equal(outer(&error), -ENOSPC);
    assert_int_equal(error->number, ENOSPC);
    assert_string_equal(error_message(error), "volume v: device d1 is full");
    /* A later one takes the place of the first, and may be made of it. */
    assert_int_equal(error_set(&error, EIO, "again: %s", error->message), -EIO);
    assert_string_equal(error_message(error), "again: volume v: device d1 is full");

    assert_int_equal(outer(NULL), -ENOSPC);
    assert_string_equal(error_message(NULL), "unknown error");
    struct error *none = NULL;
    error_prefix(&none, "context");
    assert_null(none);
    error_free(NULL);
}

static void log_levels(void **state)
{
    (void)state;
    enum log_level level = LOG_LEVEL_INFO;
    assert_int_equal(log_level_parse("debug", &level, NULL), 0);
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_int_equal(log_level_parse("Debug", &level, NULL), -EINVAL);
    assert_int_equal(log_level_parse("", &level, NULL), -EINVAL);
    assert_int_equal(level, LOG_LEVEL_DEBUG);
}

/* ---- Sizes and names ---- */

static void sizes_that_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"0", 0},
        {"4096", 4096},
        {"512b", 512},
        {"512B", 512},
        {"1k", 1024},
        {"1K", 1024},
        {"1KB", 1024},
        {"1kib", 1024},
        {"1KiB", 1024},
        {"100m", 100u << 20},
        {"1.5G", 3ull << 29},
        {"1.5GiB", 3ull << 29},
        {"0.5k", 512},
        {"1.0000000000000000001k", 1024},
        {"1.9999k", 2047},
        {"2T", 2ull << 40},
        {"3P", 3ull << 50},
        {"7E", 7ull << 60},
        {"7.99999999999999999999E", (8ull << 60) - 1152922},
        {"9223372036854775807", INT64_MAX},
        {"00000000000000000000000000000001", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = 77;
        autoerror struct error *error = NULL;
        if (size_parse(cases[i].text, &bytes, &error) < 0)
            fail_msg("%s", error_message(error));
        /* Twelve decimals of an exbibyte are good to a megabyte. */
        if (i != 18)
            assert_int_equal(bytes, cases[i].bytes);
        else
            assert_in_range(bytes, cases[i].bytes - (1u << 21), (8ull << 60) - 1);
    }
}

static void sizes_that_are_refused(void **state)
{
    (void)state;
    static const char *const malformed[] = {
        "",    " 1", "1 ",  "-1",   "+1",  "1.5",  "1.5b", ".5k", "1.k",  "k",  "1kk",   "1bb",  "1bib",
        "1ki", "1x", "1 k", "0x10", "1e3", "1,5k", "1z",   "1y",  "1k\n", "1-", "1KiBB", "\xff", "1\xff"};
    static const char *const large[] = {"8E",
                                        "9223372036854775808",
                                        "18446744073709551616",
                                        "8192P",
                                        "99999999999999999999999999999999999999999999999999E",
                                        "340282366920938463463374607431768211456"};
    uint64_t bytes = 77;
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++)
        if (size_parse(malformed[i], &bytes, NULL) != -EINVAL)
            fail_msg("\"%s\" is taken", malformed[i]);
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        if (size_parse(large[i], &bytes, NULL) != -ERANGE)
            fail_msg("\"%s\" is taken", large[i]);
    assert_int_equal(bytes, 77);
}

static void sizes_that_are_shown(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0 B"},
                 {1023, "1023 B"},
                 {1024, "1.0 KiB"},
                 {3ull << 29, "1.5 GiB"},
                 {1ull << 30, "1.0 GiB"},
                 {(1ull << 20) - 1, "1.0 MiB"},
                 {UINT64_MAX, "16.0 EiB"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[SIZE_TEXT_SIZE];
        size_format(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void names(void **state)
{
    (void)state;
    autofree char *longest = xasprintf("%0*d", NAME_MAX_LENGTH, 0);
    autofree char *longer = xasprintf("%0*d", NAME_MAX_LENGTH + 1, 0);
    const char *const good[] = {"a", "_", "0", "A-b_9", "a-", longest};
    const char *const bad[] = {"", "-", "-a", "a.b", "a/b", "..", "a b", "a\n", "\xc3\xa4", "a:b", longer};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(name_check("block", good[i], NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        autoerror struct error *error = NULL;
        assert_int_equal(name_check("block", bad[i], &error), -EINVAL);
        assert_non_null(strstr(error_message(error), "block"));
        assert_true(strlen(error_message(error)) < 200);
    }
}

static void test_mask_controls(void **state)
{
    (void)state;
    char text[] = "a\tb\x1b[31m\x7f \xc2\x9b\xc2\x80 \xc3\xa4 \xc2\xa0 \xc2";
    string_mask_controls(text, '?');
    assert_string_equal(text, "a?b?[31m? ???? \xc3\xa4 \xc2\xa0 \xc2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mask_controls),
        cmocka_unit_test(buffers_grow),
        cmocka_unit_test(lists_keep_copies),
        cmocka_unit_test(splitting),
        cmocka_unit_test(comparing),
        cmocka_unit_test(errors),
        cmocka_unit_test(log_levels),
        cmocka_unit_test(sizes_that_are_read),
        cmocka_unit_test(sizes_that_are_refused),
        cmocka_unit_test(sizes_that_are_shown),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
