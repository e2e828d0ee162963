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

int clock_parse(const char *text, int64_t *ret_real_ms, struct error **ret_error)
{
    struct tm utc = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
    int ms = 0;
    if (rest && *rest == '.') {
        int consumed = 0;
        if (sscanf(rest, ".%3d%n", &ms, &consumed) != 1 || ms < 0)
            rest = NULL;
        else
            rest += consumed;
    }
    if (!rest || strcmp(rest, "Z") != 0)
        return error_set(ret_error, EINVAL, "\"%s\" is no RFC 3339 time in UTC", text);
    *ret_real_ms = (int64_t)timegm(&utc) * 1000 + ms;
    return 0;
}
