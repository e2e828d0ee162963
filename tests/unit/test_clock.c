/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "rpc/base/clock.h"

static void times_survive_the_way_through_text(void **state)
{
    (void)state;
    static const int64_t times[] = {0, 1, 999, 1000, 951782400000, 1767225599999, 253402300799999};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        char text[CLOCK_TEXT_SIZE];
        int64_t read = -1;
        clock_format(times[i], text);
        assert_int_equal(clock_parse(text, &read, NULL), 0);
        assert_int_equal(read, times[i]);
    }
}

static void fractions_are_read_by_their_digits(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"1970-01-01T00:00:01Z", 1000},           {"1970-01-01T00:00:01.5Z", 1500},
        {"1970-01-01T00:00:01.05Z", 1050},        {"1970-01-01T00:00:01.001Z", 1001},
        {"1970-01-01T00:00:01.123999999Z", 1123},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t read = -1;
        assert_int_equal(clock_parse(cases[i].text, &read, NULL), 0);
        assert_int_equal(read, cases[i].ms);
    }
}

static void what_is_no_time_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00:00+01:00",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00.-3Z",
        " 2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z ",
        "206-01-3T12:00:00.123Z",
        "2026-02-30T12:00:00Z",
        "2026-01-31T12:00:60Z",
        "1969-12-31T23:59:59Z",
        "99999-01-01T00:00:00Z",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        autoerror struct error *error = NULL;
        int64_t read = 7;
        assert_int_equal(clock_parse(texts[i], &read, &error), -EINVAL);
        assert_non_null(error);
        assert_int_equal(read, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_survive_the_way_through_text),
        cmocka_unit_test(fractions_are_read_by_their_digits),
        cmocka_unit_test(what_is_no_time_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
