/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/digest.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void hexadecimal(const unsigned char *bytes, size_t count, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * count] = '\0';
}

void digest_text(const char *text, char ret_digest[DIGEST_TEXT_SIZE])
{
    unsigned char bytes[32];
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, text, strlen(text), bytes) < 0)
        abort();
    hexadecimal(bytes, sizeof bytes, ret_digest);
}

bool digest_equal(const char *a, const char *b)
{
    size_t length = strlen(a);
    return length == strlen(b) && gnutls_memcmp(a, b, length) == 0;
}

void random_text(size_t bytes, char *ret_text)
{
    unsigned char drawn[64];
    if (bytes > sizeof drawn || getrandom(drawn, bytes, 0) != (ssize_t)bytes)
        abort();
    hexadecimal(drawn, bytes, ret_text);
}
