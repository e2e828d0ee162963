/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What a node joins a cluster with: the token's name, a secret, and the SHA-256 of the authority's
 * certificate, by which the node knows the cluster's servers before it has anything else of the cluster.
 * Three hexadecimal numbers joined by dots.
 */
#ifndef BLOCKD_RPC_JOIN_TOKEN_H
#define BLOCKD_RPC_JOIN_TOKEN_H

#include "rpc/base/error.h"
#include "rpc/digest.h"

#define TOKEN_ID_BYTES     8
#define TOKEN_SECRET_BYTES 32
#define TOKEN_TEXT_MAX     160

struct join_token {
    char id[2 * TOKEN_ID_BYTES + 1];
    char secret[2 * TOKEN_SECRET_BYTES + 1];
    char fingerprint[DIGEST_TEXT_SIZE];
};

/* A fresh one. */
void join_token_make(const char *fingerprint, struct join_token *ret_token);
void join_token_text(const struct join_token *token, char ret_text[TOKEN_TEXT_MAX]);
/* The message does not quote the token. */
int join_token_parse(const char *text, struct join_token *ret_token, struct error **ret_error);
/* What the store keeps of the secret. */
void join_token_hash(const struct join_token *token, char ret_hash[DIGEST_TEXT_SIZE]);

#endif
