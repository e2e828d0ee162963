/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/cluster.h"

#include "rpc/join_token.h"
#include "rpc/pki.h"
#include "rpc/schema_table.h"

static const struct field cluster_authority_fields[] = {
    {"name", FIELD_STRING, OF(cluster_authority, name), 0, .help = "Name (CN) of the authority"},
    {"certificate", FIELD_STRING, OF(cluster_authority, certificate), FIELD_LINES,
     .help = "Its certificate as PEM"},
    {"fingerprint", FIELD_STRING, OF(cluster_authority, fingerprint), 0, .help = "SHA-256 of it"},
    {"expires", FIELD_TIME, OF(cluster_authority, expires), 0, .help = "Until when it is good"},
    END,
};
SCHEMA(cluster_authority, "ClusterAuthority", "Who signs the cluster's certificates");

static const struct field token_create_fields[] = {
    {"ttl", FIELD_UINT, OF(token_create, ttl), 0, 60, TOKEN_TTL_MAX,
     .help = "Seconds that it is good; 3600 if absent"},
    {"node", FIELD_NAME, OF(token_create, node), 0,
     .help = "Name of the node that may use it, which may be one that is replaced; any new node if absent"},
    END,
};
SCHEMA(token_create, "TokenCreate", "A token to join with");

static const struct field token_created_fields[] = {
    {"id", FIELD_STRING, OF(token_created, id), 0, .help = "Name of the token"},
    {"token", FIELD_STRING, OF(token_created, token), 0, .help = "The token; it is shown this once"},
    {"expires", FIELD_TIME, OF(token_created, expires), 0, .help = "Until when it is good"},
    END,
};
SCHEMA(token_created, "TokenCreated", "A token that a node joins with");

static const struct field token_record_fields[] = {
    {"id", FIELD_STRING, OF(token_record, id), FIELD_REQUIRED, .help = "Name"},
    {"hash", FIELD_STRING, OF(token_record, hash), FIELD_REQUIRED, .help = "SHA-256 of its secret"},
    {"node", FIELD_STRING, OF(token_record, node), FIELD_OPTIONAL, .help = "Who may use it"},
    {"created", FIELD_TIME, OF(token_record, created), 0, .help = "When it was made"},
    {"expires", FIELD_TIME, OF(token_record, expires), 0, .help = "Until when it is good"},
    {"used", FIELD_TIME, OF(token_record, used), FIELD_OPTIONAL, .help = "When it was used"},
    {"used_by", FIELD_STRING, OF(token_record, used_by), FIELD_OPTIONAL, .help = "Node that used it"},
    {"used_request", FIELD_STRING, OF(token_record, used_request), FIELD_OPTIONAL,
     .help = "SHA-256 of the request that it was used for"},
    END,
};
SCHEMA(token_record, "TokenRecord", "A token in the store");

static const struct field token_report_fields[] = {
    {"id", FIELD_STRING, OF(token_report, id), 0, .help = "Name"},
    {"state", FIELD_STRING, OF(token_report, state), 0, .help = "valid, used or expired"},
    {"node", FIELD_STRING, OF(token_report, node), FIELD_OPTIONAL, .help = "Who may use it"},
    {"created", FIELD_TIME, OF(token_report, created), 0, .help = "When it was made"},
    {"expires", FIELD_TIME, OF(token_report, expires), 0, .help = "Until when it is good"},
    {"used_by", FIELD_STRING, OF(token_report, used_by), FIELD_OPTIONAL, .help = "Node that used it"},
    END,
};
SCHEMA(token_report, "TokenReport", "A token, without its secret");

static const struct field token_list_fields[] = {
    {"tokens", FIELD_OBJECTS, OF(token_list, tokens), 0, .object = &token_report_schema,
     .help = "The tokens, by their names"},
    END,
};
SCHEMA(token_list, "TokenList", "The tokens that there are");

static const struct field token_deleted_fields[] = {
    {"id", FIELD_STRING, OF(token_deleted, id), 0, .help = "Name of the token"},
    END,
};
SCHEMA(token_deleted, "TokenDeleted", "A token that counts no more");

static const struct field join_request_fields[] = {
    {"token", FIELD_STRING, OF(join_request, token), FIELD_REQUIRED | FIELD_SECRET, 1, TOKEN_TEXT_MAX,
     .help = "The token"},
    {"name", FIELD_NAME, OF(join_request, name), FIELD_REQUIRED, .help = "Name of the node"},
    {"addresses", FIELD_STRINGS, OF(join_request, addresses), FIELD_REQUIRED, .max = 16,
     .help = "IP addresses by which others reach it"},
    {"request", FIELD_STRING, OF(join_request, request), FIELD_REQUIRED | FIELD_LINES, 1, PKI_TEXT_MAX,
     .help = "Request (PKCS #10) for its certificate as PEM"},
    END,
};
SCHEMA(join_request, "JoinRequest", "A node that joins");

static const struct field join_reply_fields[] = {
    {"node", FIELD_STRING, OF(join_reply, node), 0, .help = "Name of the node"},
    {"certificate", FIELD_STRING, OF(join_reply, certificate), FIELD_LINES, .help = "Its certificate as PEM"},
    {"authority", FIELD_STRING, OF(join_reply, authority), FIELD_LINES,
     .help = "Certificate of the cluster's authority as PEM"},
    {"list", FIELD_STRING, OF(join_reply, list), FIELD_LINES, .help = "Who is revoked, as PEM"},
    {"key", FIELD_STRING, OF(join_reply, key), FIELD_LINES | FIELD_SECRET,
     .help = "The authority's key as PEM: each node signs"},
    {"store", FIELD_STRINGS, OF(join_reply, store), 0, .help = "Endpoints of the cluster's etcd"},
    {"store_prefix", FIELD_STRING, OF(join_reply, store_prefix), FIELD_OPTIONAL,
     .help = "Prefix of keys there"},
    {"store_tls", FIELD_BOOL, OF(join_reply, store_tls), 0, .help = "The cluster's certificates open it"},
    END,
};
SCHEMA(join_reply, "JoinReply", "What a node needs to be of the cluster");

static const struct field certificate_record_fields[] = {
    {"serial", FIELD_STRING, OF(certificate_record, serial), FIELD_REQUIRED, .help = "Serial number"},
    {"name", FIELD_STRING, OF(certificate_record, name), 0, .help = "Whom it is for (CN)"},
    {"role", FIELD_STRING, OF(certificate_record, role), 0, .help = "What they may do (OU)"},
    {"issued", FIELD_TIME, OF(certificate_record, issued), 0, .help = "Since when it is good"},
    {"expires", FIELD_TIME, OF(certificate_record, expires), 0, .help = "Until when it is good"},
    {"revoked", FIELD_BOOL, OF(certificate_record, revoked), 0, .help = "It counts no more"},
    END,
};
SCHEMA(certificate_record, "CertificateRecord", "A certificate that was signed");

static const struct field certificate_list_fields[] = {
    {"certificates", FIELD_OBJECTS, OF(certificate_list, certificates), 0,
     .object = &certificate_record_schema, .help = "The certificates, by serial number"},
    END,
};
SCHEMA(certificate_list, "CertificateList", "The certificates that were signed");
