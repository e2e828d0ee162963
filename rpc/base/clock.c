/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t read_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t clock_monotonic_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

int64_t clock_monotonic_ms(void)
{
    return read_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t clock_real_ms(void)
{
    return read_ns(CLOCK_REALTIME) / 1000000;
}

void clock_format(int64_t real_ms, char text[CLOCK_TEXT_SIZE])
{
    time_t seconds = (time_t)(real_ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t length = strftime(text, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + length, CLOCK_TEXT_SIZE - length, ".%03dZ", (int)(real_ms % 1000));
}

/* Reads the ".123456" that may follow the seconds, as whole milliseconds; returns what
 * follows it, or NULL. */
static const char *parse_fraction(const char *text, int *ret_ms)
{
    int ms = 0, digits = 0;
    if (*text != '.')
        return text;
    for (text++; *text >= '0' && *text <= '9'; text++, digits++)
        if (digits < 3)
            ms = ms * 10 + (*text - '0');
    if (digits == 0)
        return NULL;
    for (; digits < 3; digits++)
        ms *= 10;
    *ret_ms = ms;
    return text;
}

int clock_parse(const char *text, int64_t *ret_real_ms, struct error **ret_error)
{
    struct tm utc = {0};
    int ms = 0;
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
    rest = rest ? parse_fraction(rest, &ms) : NULL;
    int64_t seconds = (int64_t)timegm(&utc);

    /* strptime() takes "206-1-3" and February 30 too: what it read must print as what was given. */
    char shown[CLOCK_TEXT_SIZE];
    clock_format(seconds < 0 ? 0 : seconds * 1000, shown);
    size_t length = strlen("2026-01-31T12:00:00");
    if (!rest || strcmp(rest, "Z") != 0 || strncmp(text, shown, length) != 0)
        return error_set(ret_error, EINVAL, "\"%s\" is no RFC 3339 time in UTC after 1970", text);
    *ret_real_ms = seconds * 1000 + ms;
    return 0;
}
