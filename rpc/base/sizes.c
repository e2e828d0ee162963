/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "sizes.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char unit_letters[] = "bkmgtpe";

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The power of 1024 that a unit stands for, or -1. */
static int unit_power(const char *unit)
{
    if (!*unit)
        return 0;
    char lower = (char)(*unit | 0x20);
    const char *letter = strchr(unit_letters, lower);
    if (!letter)
        return -1;
    int power = (int)(letter - unit_letters);
    const char *rest = unit + 1;
    if (!*rest || (power > 0 && (strcasecmp(rest, "b") == 0 || strcasecmp(rest, "ib") == 0)))
        return power;
    return -1;
}

static int malformed(const char *text, struct error **ret_error)
{
    return error_set(
        ret_error, EINVAL,
        "\"%.64s\" is no size: a number of bytes, or a number with KiB, MiB, GiB, TiB, PiB or EiB", text);
}

int size_parse(const char *text, uint64_t *ret_bytes, struct error **ret_error)
{
    const char *c = text;
    if (!is_digit(*c))
        return malformed(text, ret_error);

    unsigned __int128 whole = 0;
    for (; is_digit(*c); c++) {
        whole = whole * 10 + (unsigned)(*c - '0');
        if (whole > INT64_MAX)
            return error_set(ret_error, ERANGE, "\"%.64s\" is larger than the largest size, 8 EiB - 1", text);
    }
    /* Twelve decimals are finer than a byte of an exbibyte needs; more are read and dropped. */
    uint64_t fraction = 0, scale = 1;
    bool has_fraction = *c == '.';
    if (has_fraction) {
        c++;
        if (!is_digit(*c))
            return malformed(text, ret_error);
        for (; is_digit(*c); c++)
            if (scale < 1000000000000) {
                fraction = fraction * 10 + (unsigned)(*c - '0');
                scale *= 10;
            }
    }
    int power = unit_power(c);
    if (power < 0 || (has_fraction && power == 0))
        return malformed(text, ret_error);

    unsigned __int128 unit = (unsigned __int128)1 << (10 * power);
    unsigned __int128 bytes = whole * unit + fraction * unit / scale;
    if (bytes > INT64_MAX)
        return error_set(ret_error, ERANGE, "\"%.64s\" is larger than the largest size, 8 EiB - 1", text);
    *ret_bytes = (uint64_t)bytes;
    return 0;
}

void size_format(uint64_t bytes, char text[SIZE_TEXT_SIZE])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    double value = (double)bytes;
    /* What would be shown as 1024.0 is one of the next unit. */
    while (value >= 1023.95 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    snprintf(text, SIZE_TEXT_SIZE, "%.*f %s", unit ? 1 : 0, value, units[unit]);
}

int name_check(const char *what, const char *name, struct error **ret_error)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t length = strlen(name);
    const char *blank = " ";
    if (strcmp(what, "name") == 0) /* "the name", not "the name name" */
        what = blank = "";
    if (length == 0)
        return error_set(ret_error, EINVAL, "the %s%sname is empty", what, blank);
    if (length > NAME_MAX_LENGTH)
        return error_set(ret_error, EINVAL, "the %s%sname \"%.32s...\" is longer than %d characters", what,
                         blank, name, NAME_MAX_LENGTH);
    if (name[0] == '-')
        return error_set(ret_error, EINVAL, "the %s%sname \"%s\" begins with \"-\"", what, blank, name);
    if (strspn(name, allowed) != length)
        return error_set(ret_error, EINVAL,
                         "the %s%sname \"%s\" may hold letters, digits, \"_\" and \"-\" only", what, blank,
                         name);
    return 0;
}
