/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The table of the API. */
#include "rpc/api.h"

#include "rpc/certificates.h"
#include "rpc/cluster.h"
#include "rpc/examine.h"

const char *const api_role_words[] = {"admin", "node", "csi", "metrics", NULL};

#define ANY_NODE (ROLE_NODE | ROLE_CSI)

/* What the data path and its clients look at; and what nodes look at only. */
#define LIST(op_name, path_text, noun_word, verb_word, schema, text)                                         \
    LIST_FOR(ANY_NODE, op_name, path_text, noun_word, verb_word, schema, text)
#define GET(op_name, path_text, noun_word, verb_word, schema, text)                                          \
    GET_FOR(ANY_NODE, op_name, path_text, noun_word, verb_word, schema, text)
#define LIST_FOR(who, op_name, path_text, noun_word, verb_word, schema, text)                                \
    [op_name] = {.op = op_name,                                                                              \
                 .method = "GET",                                                                            \
                 .path = path_text,                                                                          \
                 .noun = noun_word,                                                                          \
                 .verb = verb_word,                                                                          \
                 .roles = who,                                                                               \
                 .query = &list_query_schema,                                                                \
                 .response = schema,                                                                         \
                 .response_kind = RESPONSE_LIST,                                                             \
                 .help = text}
#define GET_FOR(who, op_name, path_text, noun_word, verb_word, schema, text)                                 \
    [op_name] = {.op = op_name,                                                                              \
                 .method = "GET",                                                                            \
                 .path = path_text,                                                                          \
                 .noun = noun_word,                                                                          \
                 .verb = verb_word,                                                                          \
                 .roles = who,                                                                               \
                 .response = schema,                                                                         \
                 .help = text}
#define CHANGE(op_name, verb_text, path_text, noun_word, verb_word, who, query_schema, body, schema, text)   \
    [op_name] = {.op = op_name,                                                                              \
                 .method = verb_text,                                                                        \
                 .path = path_text,                                                                          \
                 .noun = noun_word,                                                                          \
                 .verb = verb_word,                                                                          \
                 .roles = who,                                                                               \
                 .query = query_schema,                                                                      \
                 .request = body,                                                                            \
                 .response = schema,                                                                         \
                 .help = text}

const struct api_route api_routes[API_OP_COUNT] = {
    LIST_FOR(ROLE_NODE, API_NODE_LIST, "/v1/nodes", "node", "list", &node_schema, "List the nodes"),
    GET_FOR(ROLE_NODE, API_NODE_GET, "/v1/nodes/{node}", "node", "info", &node_schema, "Show a node"),
    CHANGE(API_NODE_PATCH, "PATCH", "/v1/nodes/{node}", "node", "modify", 0, &change_query_schema,
           &node_patch_schema, &node_schema, "Change a node"),

    LIST_FOR(ROLE_NODE, API_DEVICE_LIST, "/v1/devices", "device", "list", &device_schema, "List the devices"),
    GET_FOR(ROLE_NODE, API_DEVICE_GET, "/v1/devices/{node}/{device}", "device", "info", &device_schema,
            "Show a device"),
    CHANGE(API_DEVICE_CREATE, "POST", "/v1/devices", "device", "add", 0, &change_query_schema,
           &device_create_schema, &device_schema,
           "Add a disk, a partition or an image to a node, and format it"),
    CHANGE(API_DEVICE_DELETE, "DELETE", "/v1/devices/{node}/{device}", "device", "remove", 0,
           &change_query_schema, NULL, &device_schema, "Remove a device that holds no brick"),
    CHANGE(API_DEVICE_ADOPT, "POST", "/v1/devices/adopt", "device", "adopt", 0, NULL, &adopt_request_schema,
           &adopt_report_schema, "Tell which devices, volumes and blocks lie on disks, and know them again"),
    CHANGE(API_DEVICE_PATCH, "PATCH", "/v1/devices/{node}/{device}", "device", "modify", 0,
           &change_query_schema, &device_patch_schema, &device_schema, "Change a device"),
    CHANGE(API_DEVICE_EVACUATE, "POST", "/v1/devices/{node}/{device}/evacuate", "device", "evacuate", 0,
           &change_query_schema, &device_evacuate_schema, &job_schema,
           "Move every brick of a device to other devices, as a job"),
    CHANGE(API_DEVICE_REPLACE, "POST", "/v1/devices/{node}/{device}/replace", "device", "replace", 0,
           &change_query_schema, &device_replace_schema, &job_schema,
           "Rebuild the bricks of a device, dead or alive, on another one, as a job"),

    LIST(API_VOLUME_LIST, "/v1/volumes", "volume", "list", &volume_schema, "List the hosting volumes"),
    GET(API_VOLUME_GET, "/v1/volumes/{volume}", "volume", "info", &volume_schema, "Show a hosting volume"),
    CHANGE(API_VOLUME_CREATE, "POST", "/v1/volumes", "volume", "create", 0, &volume_create_query_schema,
           &volume_create_schema, &volume_schema, "Create a hosting volume and start it"),
    CHANGE(API_VOLUME_PATCH, "PATCH", "/v1/volumes/{volume}", "volume", "modify", 0, &change_query_schema,
           &volume_patch_schema, &volume_schema, "Change a hosting volume"),
    CHANGE(API_VOLUME_DELETE, "DELETE", "/v1/volumes/{volume}", "volume", "delete", 0, &change_query_schema,
           NULL, &volume_schema, "Delete a hosting volume that holds no block and no share"),
    CHANGE(API_VOLUME_EXPAND, "POST", "/v1/volumes/{volume}/expand", "volume", "expand", 0,
           &volume_create_query_schema, &volume_expand_schema, &job_schema,
           "Add sets of bricks to a hosting volume and spread its files over all of them, as a job"),
    CHANGE(API_VOLUME_SHRINK, "POST", "/v1/volumes/{volume}/shrink", "volume", "shrink", 0,
           &change_query_schema, &volume_shrink_schema, &job_schema,
           "Move all files off a set of bricks and take it out of a hosting volume, as a job"),
    CHANGE(API_VOLUME_REBALANCE, "POST", "/v1/volumes/{volume}/rebalance", "volume", "rebalance", 0,
           &change_query_schema, NULL, &job_schema,
           "Spread the files of a hosting volume over its sets of bricks, as a job"),
    [API_HEAL_INFO] = {API_HEAL_INFO, "GET", "/v1/volumes/{volume}/heal", "volume", "heal info", ANY_NODE,
                       &heal_list_query_schema, NULL, &heal_report_schema, RESPONSE_OBJECT,
                       "List the files of a hosting volume that wait for a heal or are in split-brain"},
    CHANGE(API_HEAL_START, "POST", "/v1/volumes/{volume}/heal", "volume", "heal start", 0,
           &change_query_schema, &heal_start_schema, &job_schema, "Heal a hosting volume now, as a job"),
    CHANGE(API_HEAL_RESOLVE, "POST", "/v1/volumes/{volume}/heal/resolve", "volume", "heal resolve", 0,
           &change_query_schema, &heal_resolve_schema, &heal_resolved_schema,
           "Choose the copy of a file in split-brain that is right; the others are overwritten"),
    GET(API_HEAL_HISTORY, "/v1/volumes/{volume}/heal/history", "volume", "heal history", &heal_history_schema,
        "List the last heals of a hosting volume"),

    LIST(API_BLOCK_LIST, "/v1/blocks", "block", "list", &block_schema, "List the blocks"),
    LIST(API_BLOCK_LIST_VOLUME, "/v1/blocks/{volume}", "block", "list", &block_schema,
         "List the blocks of a volume"),
    GET(API_BLOCK_GET, "/v1/blocks/{volume}/{block}", "block", "info", &block_schema, "Show a block"),
    CHANGE(API_BLOCK_CREATE, "POST", "/v1/blocks", "block", "create", ROLE_CSI, &change_query_schema,
           &block_create_schema, &block_schema, "Create a block"),
    CHANGE(API_BLOCK_PATCH, "PATCH", "/v1/blocks/{volume}/{block}", "block", "modify", ROLE_CSI,
           &change_query_schema, &block_patch_schema, &block_schema, "Change the size of a block"),
    CHANGE(API_BLOCK_RENAME, "POST", "/v1/blocks/{volume}/{block}/rename", "block", "rename", 0,
           &change_query_schema, &block_rename_schema, &block_schema, "Rename a block"),
    CHANGE(API_BLOCK_DELETE, "DELETE", "/v1/blocks/{volume}/{block}", "block", "delete", ROLE_CSI,
           &block_delete_query_schema, NULL, &block_schema, "Delete a block and its exports"),

    LIST(API_SHARE_LIST, "/v1/shares", "share", "list", &share_schema, "List the shares"),
    LIST(API_SHARE_LIST_VOLUME, "/v1/shares/{volume}", "share", "list", &share_schema,
         "List the shares of a volume"),
    GET(API_SHARE_GET, "/v1/shares/{volume}/{share}", "share", "info", &share_schema, "Show a share"),
    CHANGE(API_SHARE_CREATE, "POST", "/v1/shares", "share", "create", ROLE_CSI, &change_query_schema,
           &share_create_schema, &share_schema, "Create a share"),
    CHANGE(API_SHARE_PATCH, "PATCH", "/v1/shares/{volume}/{share}", "share", "resize", ROLE_CSI,
           &change_query_schema, &share_patch_schema, &share_schema, "Change the size of a share"),
    CHANGE(API_SHARE_ACCESS, "POST", "/v1/shares/{volume}/{share}/access", "share", "access", ROLE_CSI,
           &change_query_schema, &share_access_schema, &share_schema, "Say who may mount a share"),
    CHANGE(API_SHARE_DELETE, "DELETE", "/v1/shares/{volume}/{share}", "share", "delete", ROLE_CSI,
           &share_delete_query_schema, NULL, &share_schema, "Delete a share with its files, or archive it"),

    LIST(API_EXPORT_LIST, "/v1/exports", "export", "list", &export_schema, "List the exports"),
    GET(API_EXPORT_GET, "/v1/exports/{node}/{volume}/{block}", "export", "info", &export_schema,
        "Show an export"),
    CHANGE(API_EXPORT_CREATE, "POST", "/v1/exports", "export", "create", ROLE_CSI, &change_query_schema,
           &export_create_schema, &export_schema, "Export a block from a node"),
    CHANGE(API_EXPORT_DELETE, "DELETE", "/v1/exports/{node}/{volume}/{block}", "export", "delete", ROLE_CSI,
           &change_query_schema, NULL, &export_schema, "Withdraw an export"),

    LIST(API_JOB_LIST, "/v1/jobs", "job", "list", &job_schema, "List the jobs"),
    GET(API_JOB_GET, "/v1/jobs/{job}", "job", "info", &job_schema, "Show a job"),
    CHANGE(API_JOB_DELETE, "DELETE", "/v1/jobs/{job}", "job", "cancel", 0, &change_query_schema, NULL,
           &job_schema, "Cancel a job, or forget one that has ended"),

    CHANGE(API_CLUSTER_INIT, "POST", "/v1/cluster/init", NULL, NULL, 0, NULL, NULL, &cluster_authority_schema,
           "Make the cluster's authority, and this node's certificate, unless they are there"),
    [API_CLUSTER_AUTHORITY] = {API_CLUSTER_AUTHORITY, "GET", "/v1/cluster/authority", "cluster", "authority",
                               ROLE_NOBODY, NULL, NULL, &cluster_authority_schema, RESPONSE_OBJECT,
                               "Show who signs the cluster's certificates"},
    [API_CLUSTER_JOIN] = {API_CLUSTER_JOIN, "POST", "/v1/cluster/join", NULL, NULL, ROLE_NOBODY, NULL,
                          &join_request_schema, &join_reply_schema, RESPONSE_OBJECT,
                          "Make a node one of the cluster's, by a token"},
    GET_FOR(0, API_TOKEN_LIST, "/v1/tokens", "cluster", "token list", &token_list_schema,
            "List the tokens that nodes join with"),
    CHANGE(API_TOKEN_CREATE, "POST", "/v1/tokens", "cluster", "token create", 0, NULL, &token_create_schema,
           &token_created_schema, "Make a token that one node joins with, once"),
    CHANGE(API_TOKEN_DELETE, "DELETE", "/v1/tokens/{token}", "cluster", "token revoke", 0, NULL, NULL,
           &token_deleted_schema, "Withdraw a token"),

    GET_FOR(0, API_CERTIFICATE_LIST, "/v1/certificates", "certificate", "list", &certificate_list_schema,
            "List the certificates that were signed"),
    CHANGE(API_CERTIFICATE_RENEW, "POST", "/v1/certificates/renew", "certificate", "renew", 0, NULL, NULL,
           &certificate_record_schema,
           "Sign the answering node's certificate anew, which it does itself in time"),
    CHANGE(API_CERTIFICATE_SIGN, "POST", "/v1/certificates", "certificate", "sign", 0, NULL,
           &certificate_sign_schema, &certificate_signed_schema,
           "Sign a request for a certificate of the cluster"),
    CHANGE(API_CERTIFICATE_REVOKE, "POST", "/v1/certificates/revoke", "certificate", "revoke", 0, NULL,
           &certificate_revoke_schema, &certificate_revoked_schema,
           "Revoke a certificate: new connections with it are refused"),

    CHANGE(API_EXAMINE, "POST", "/v1/examine", "examine", NULL, 0, NULL, &examine_request_schema,
           &examine_report_schema, "Compare a node with the store, and mend what differs"),
    GET_FOR(ROLE_NODE, API_EXAMINE_GET, "/v1/examine", NULL, NULL, &examine_report_schema,
            "Compare a node with the store"),
    GET_FOR(ROLE_NODE, API_STATUS, "/v1/status", "status", NULL, &status_report_schema,
            "Show the state of everything on one screen"),
    [API_VERSION] = {API_VERSION, "GET", "/v1/version", .roles = ROLE_ANYONE,
                     .response = &version_report_schema, .help = "Say which version answers"},
    [API_OPENAPI] = {API_OPENAPI, "GET", "/v1/openapi.json", .roles = ANY_NODE,
                     .response_kind = RESPONSE_TEXT, .help = "Describe this API (OpenAPI 3.0)"},
    [API_METRICS] = {API_METRICS, "GET", "/metrics", .roles = ROLE_METRICS | ROLE_NODE,
                     .response_kind = RESPONSE_TEXT, .help = "Give metrics in Prometheus' text format"},
    [API_HEALTHZ] = {API_HEALTHZ, "GET", "/healthz", .roles = ROLE_ANYONE, .response_kind = RESPONSE_TEXT,
                     .help = "Say that the daemon runs"},
    [API_READYZ] = {API_READYZ, "GET", "/readyz", .roles = ROLE_ANYONE, .response_kind = RESPONSE_TEXT,
                    .help = "Say whether the daemon has finished its first pass and serves"},
};

const struct api_alias api_aliases[] = {
    {"node", "stop", API_NODE_PATCH, "{\"state\":\"stopped\"}",
     "Stop serving from a node and unmount its devices"},
    {"node", "start", API_NODE_PATCH, "{\"state\":\"enabled\"}", "Serve from a node again"},
    {"device", "disable", API_DEVICE_PATCH, "{\"state\":\"disabled\"}", "Put no new bricks on a device"},
    {"device", "enable", API_DEVICE_PATCH, "{\"state\":\"enabled\"}", "Put bricks on a device again"},
    {"volume", "start", API_VOLUME_PATCH, "{\"state\":\"started\"}", "Start the bricks of a hosting volume"},
    {"volume", "stop", API_VOLUME_PATCH, "{\"state\":\"stopped\"}", "Stop the bricks of a hosting volume"},
    {.noun = NULL},
};
