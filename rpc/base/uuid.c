/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "uuid.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/random.h>

#include "strings.h"

char *uuid_make(void)
{
    unsigned char bytes[16];
    /* Up to 256 bytes come whole once the kernel's generator is seeded; before that the call waits. */
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        abort();
    bytes[6] = (unsigned char)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80);

    struct strbuf text = {0};
    for (size_t i = 0; i < sizeof bytes; i++)
        strbuf_addf(&text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
    return strbuf_steal(&text);
}
