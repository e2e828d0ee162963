/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/join_token.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void join_token_make(const char *fingerprint, struct join_token *ret_token)
{
    random_text(TOKEN_ID_BYTES, ret_token->id);
    random_text(TOKEN_SECRET_BYTES, ret_token->secret);
    snprintf(ret_token->fingerprint, sizeof ret_token->fingerprint, "%s", fingerprint);
}

void join_token_text(const struct join_token *token, char ret_text[TOKEN_TEXT_MAX])
{
    snprintf(ret_text, TOKEN_TEXT_MAX, "%s.%s.%s", token->id, token->secret, token->fingerprint);
}

/* The next part of exactly so many digits, and what must follow it. */
static bool take(const char **text, char *part, size_t size, char end)
{
    size_t length = strspn(*text, "0123456789abcdef");
    if (length != size - 1 || (*text)[length] != end)
        return false;
    memcpy(part, *text, length);
    part[length] = '\0';
    *text += length + (end != '\0');
    return true;
}

int join_token_parse(const char *text, struct join_token *ret_token, struct error **ret_error)
{
    struct join_token token;
    if (!take(&text, token.id, sizeof token.id, '.') ||
        !take(&text, token.secret, sizeof token.secret, '.') ||
        !take(&text, token.fingerprint, sizeof token.fingerprint, '\0'))
        return error_set(ret_error, EINVAL,
                         "this is no join token; gluster-block cluster token create makes one");
    *ret_token = token;
    return 0;
}

void join_token_hash(const struct join_token *token, char ret_hash[DIGEST_TEXT_SIZE])
{
    digest_text(token->secret, ret_hash);
}
