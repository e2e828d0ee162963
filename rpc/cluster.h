/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What the API says and takes about a cluster's membership: its authority, tokens, nodes that join. */
#ifndef BLOCKD_RPC_CLUSTER_H
#define BLOCKD_RPC_CLUSTER_H

#include "rpc/schema.h"

#define TOKEN_TTL_DEFAULT 3600
#define TOKEN_TTL_MAX     (7 * 86400)
#define TOKENS_MAX        1000

struct cluster_authority {
    char *name, *certificate, *fingerprint; /* PEM; SHA-256 */
    int64_t expires;
};
extern const struct schema cluster_authority_schema;

struct token_create {
    uint64_t ttl; /* seconds */
    char *node;   /* only a node of this name may use it, and it may replace one; NULL: any new one */
};
extern const struct schema token_create_schema;

struct token_created {
    char *id, *token;
    int64_t expires;
};
extern const struct schema token_created_schema;

/* A token as the store keeps it, and as lists show it: without its hash. */
struct token_record {
    char *id, *hash, *node;
    int64_t created, expires, used;
    char *used_by;      /* name of the node */
    char *used_request; /* SHA-256 of what it asked with */
};
extern const struct schema token_record_schema;

struct token_report {
    char *id, *state; /* "valid", "used", "expired" */
    char *node;
    int64_t created, expires;
    char *used_by;
};
struct token_list {
    struct object_list tokens; /* of struct token_report */
};
extern const struct schema token_list_schema;

struct token_deleted {
    char *id;
};
extern const struct schema token_deleted_schema;

struct join_request {
    char *token;
    char *name;                   /* of the node */
    struct string_list addresses; /* IP addresses by which others reach it */
    char *request;                /* PEM */
};
extern const struct schema join_request_schema;

struct join_reply {
    char *node;
    char *certificate;            /* of the node, PEM as the rest */
    char *authority, *list, *key; /* what the cluster signs by: every node can */
    struct string_list store;     /* endpoints of the cluster's etcd; none: the store is not shared yet */
    char *store_prefix;           /* of its keys there */
    bool store_tls;               /* the cluster's certificates open it */
};
extern const struct schema join_reply_schema;

/* A certificate that was signed, as the store keeps it. */
struct certificate_record {
    char *serial, *name, *role;
    int64_t issued, expires;
    bool revoked;
};
extern const struct schema certificate_record_schema;
struct certificate_list {
    struct object_list certificates; /* of struct certificate_record */
};
extern const struct schema certificate_list_schema;

#endif
