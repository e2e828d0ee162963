/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The words that people type: sizes, names and times. What is accepted must survive the way back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/sizes.h"

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static void check_size(const char *text)
{
    autoerror struct error *error = NULL;
    uint64_t bytes = UINT64_MAX;
    int r = size_parse(text, &bytes, &error);
    REQUIRE(r == 0 ? bytes <= INT64_MAX && !error : (r == -EINVAL || r == -ERANGE) && error);
    if (r < 0) {
        REQUIRE(bytes == UINT64_MAX);
        return;
    }
    autofree char *plain = xasprintf("%llu", (unsigned long long)bytes);
    uint64_t again = 0;
    REQUIRE(size_parse(plain, &again, NULL) == 0 && again == bytes);
    char shown[SIZE_TEXT_SIZE];
    size_format(bytes, shown);
    REQUIRE(strlen(shown) > 0);
}

static void check_name(const char *text)
{
    autoerror struct error *error = NULL;
    int r = name_check("block", text, &error);
    if (r < 0) {
        REQUIRE(r == -EINVAL && error);
        return;
    }
    /* A name becomes a part of paths and of keys. */
    REQUIRE(*text && *text != '-' && strlen(text) <= NAME_MAX_LENGTH && !strpbrk(text, "/. \t\n%\"'\\"));
}

static void check_time(const char *text)
{
    autoerror struct error *error = NULL;
    int64_t time = 0, again = 0;
    if (clock_parse(text, &time, &error) < 0) {
        REQUIRE(error);
        return;
    }
    char shown[CLOCK_TEXT_SIZE];
    clock_format(time, shown);
    REQUIRE(clock_parse(shown, &again, NULL) == 0 && again == time);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autofree char *text = xstrndup((const char *)data, size);
    check_size(text);
    check_name(text);
    check_time(text);
    return 0;
}
