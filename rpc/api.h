/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The API as one table: method, path, who may call, the body that it takes and the one that it gives, and its
 * place on the command line. The daemon's router and validation, /v1/openapi.json, the CLI's nouns with their
 * help, and the manual pages all come from here.
 */
#ifndef BLOCKD_RPC_API_H
#define BLOCKD_RPC_API_H

#include "rpc/heal.h"
#include "rpc/objects.h"

enum api_op {
    API_NODE_LIST,
    API_NODE_GET,
    API_NODE_PATCH,
    API_DEVICE_LIST,
    API_DEVICE_GET,
    API_DEVICE_CREATE,
    API_DEVICE_DELETE,
    API_DEVICE_ADOPT,
    API_DEVICE_PATCH,
    API_DEVICE_EVACUATE,
    API_DEVICE_REPLACE,
    API_VOLUME_LIST,
    API_VOLUME_GET,
    API_VOLUME_CREATE,
    API_VOLUME_PATCH,
    API_VOLUME_DELETE,
    API_VOLUME_EXPAND,
    API_VOLUME_SHRINK,
    API_VOLUME_REBALANCE,
    API_HEAL_INFO,
    API_HEAL_START,
    API_HEAL_RESOLVE,
    API_HEAL_HISTORY,
    API_BLOCK_LIST,
    API_BLOCK_LIST_VOLUME,
    API_BLOCK_GET,
    API_BLOCK_CREATE,
    API_BLOCK_PATCH,
    API_BLOCK_RENAME,
    API_BLOCK_DELETE,
    API_SHARE_LIST,
    API_SHARE_LIST_VOLUME,
    API_SHARE_GET,
    API_SHARE_CREATE,
    API_SHARE_PATCH,
    API_SHARE_ACCESS,
    API_SHARE_DELETE,
    API_EXPORT_LIST,
    API_EXPORT_GET,
    API_EXPORT_CREATE,
    API_EXPORT_DELETE,
    API_JOB_LIST,
    API_JOB_GET,
    API_JOB_DELETE,
    API_CLUSTER_INIT,
    API_CLUSTER_AUTHORITY,
    API_CLUSTER_JOIN,
    API_TOKEN_LIST,
    API_TOKEN_CREATE,
    API_TOKEN_DELETE,
    API_CERTIFICATE_LIST,
    API_CERTIFICATE_RENEW,
    API_CERTIFICATE_SIGN,
    API_CERTIFICATE_REVOKE,
    API_EXAMINE,
    API_EXAMINE_GET,
    API_STATUS,
    API_VERSION,
    API_OPENAPI,
    API_METRICS,
    API_HEALTHZ,
    API_READYZ,
    API_OP_COUNT
};

/*
 * Bits: a route's `roles` are those that may call it beside admin, who may call all. ROLE_ANYONE is everyone
 * with a certificate, ROLE_NOBODY whoever connects, without one too.
 */
enum api_role {
    ROLE_ADMIN = 1 << 0,
    ROLE_NODE = 1 << 1,
    ROLE_CSI = 1 << 2,
    ROLE_METRICS = 1 << 3,
    ROLE_ANYONE = 1 << 4,
    ROLE_NOBODY = 1 << 5
};
/* "admin", ...: word I is of bit I; ends with NULL. */
extern const char *const api_role_words[];
#define ROLES_KNOWN (ROLE_ADMIN | ROLE_NODE | ROLE_CSI | ROLE_METRICS)

enum api_response {
    RESPONSE_OBJECT, /* one of `response` */
    RESPONSE_LIST,   /* {"items":[...],"revision":N}; with ?watch=1 a stream of
                        {"type":"put|delete","key":..,"object":..} */
    RESPONSE_TEXT,   /* not JSON */
};

struct api_route {
    enum api_op op;
    const char *method;      /* "GET", "POST", "PATCH", "DELETE" */
    const char *path;        /* "/v1/blocks/{volume}/{block}" */
    const char *noun, *verb; /* command line: "block", "info"; NULL: not offered there. Two routes may share
                                them: the one without a name in its path serves when none is given */
    unsigned roles;          /* enum api_role */
    const struct schema *query;    /* query parameters; NULL: none */
    const struct schema *request;  /* JSON body; NULL: none */
    const struct schema *response; /* of one object */
    enum api_response response_kind;
    const char *help; /* one line, imperative */
};
extern const struct api_route api_routes[API_OP_COUNT]; /* row I has op I */

/* More words of the command line that are a route with a fixed body: `volume start V` is PATCH
 * {"state":"started"}. */
struct api_alias {
    const char *noun, *verb;
    enum api_op op;
    const char *body; /* JSON */
    const char *help;
};
extern const struct api_alias api_aliases[]; /* ends with a NULL noun */

#define API_PATH_ARGUMENTS 4
struct api_match {
    const struct api_route *route;
    char *arguments[API_PATH_ARGUMENTS]; /* percent-decoded and checked names, in the order of the path */
};
/* -ENOENT: no such path; -EOPNOTSUPP: the path exists with other methods; -EINVAL: a part is no name. */
int api_route_find(const char *method, const char *path, struct api_match *ret_match,
                   struct error **ret_error);
void api_match_clear(struct api_match *match);
/* The path without the secret that stands in one of a whole token; its id is all that counts there. The
 * caller's. */
char *api_path_without_secret(const char *path);
/* The methods of a path, as an Allow header has them; NULL when there is no such path. */
const char *api_allowed_methods(const char *path);

/* The OpenAPI 3.0 document. A new reference. */
json_t *api_openapi(void);

/* ---- Bodies and queries ---- */

/* Every changing call takes these. */
struct change_query {
    uint64_t wait;     /* seconds to wait until the change is done (or failed) before answering; 0 to 3600 */
    uint64_t revision; /* refuse (aborted) unless the object has this revision; 0: any */
    bool force;
};
extern const struct schema change_query_schema;

struct list_query {
    bool watch;     /* stream changes, one JSON object a line */
    uint64_t after; /* with watch: changes after this revision; 0: from now on */
    uint64_t limit; /* at most so many items; 0: all */
    char *start;    /* with limit: after this name */
};
extern const struct schema list_query_schema;

struct node_patch {
    int state;
    struct string_list addresses;
    char *zone; /* "none": none */
};
extern const struct schema node_patch_schema;

struct device_create {
    char *node, *name; /* node absent: this one */
    char *path;
    uint64_t image_size;
    bool destroy_existing_data;
};
extern const struct schema device_create_schema;

struct device_patch {
    int state; /* enum device_state */
};
extern const struct schema device_patch_schema;

struct device_evacuate {
    char *target; /* "NODE/DEVICE" or "DEVICE" of this node; NULL: the best one for each brick */
};
extern const struct schema device_evacuate_schema;

struct device_replace {
    char *target; /* as above */
};
extern const struct schema device_replace_schema;

struct volume_create {
    char *name;
    int template_name;         /* enum volume_template */
    uint64_t size;             /* bytes that it shall hold; 0: all that its devices have */
    uint64_t sets;             /* of bricks, each file in one of them; 0: as few as fit */
    uint64_t data, redundancy; /* of disperse */
    /* "NODE/DEVICE" or "DEVICE" of this node: with a size the planner picks among these; without one they are
     * the bricks in their order. Empty: the planner picks among all. */
    struct string_list devices;
    struct string_list nodes, zones; /* the planner picks among these; empty: all */
    double overcommit;
    bool allow_same_node; /* two bricks of one set on one node (and so in one zone) */
    bool allow_same_zone;
    struct string_list access;  /* who may mount it beside the nodes */
    char *profile;              /* named set of options; NULL: none */
    struct string_list options; /* "TRANSLATOR.OPTION=VALUE" */
    bool advanced;              /* options that are not for everybody, too */
    int tls;                    /* enum volume_tls */
};
extern const struct schema volume_create_schema;

struct volume_create_query {
    uint64_t wait, revision;
    bool force;
    bool dry_run; /* answer a volume_plan and change nothing */
};
extern const struct schema volume_create_query_schema;

struct volume_expand {
    uint64_t size, sets; /* that the whole volume shall hold then; or sets more. Neither: one set more */
    struct string_list devices, nodes, zones; /* as of volume_create */
    bool allow_same_node, allow_same_zone;
};
extern const struct schema volume_expand_schema;

struct volume_shrink {
    uint64_t set; /* its place in the status; absent: the one with the least data */
};
extern const struct schema volume_shrink_schema;

/* What the planner would do, or did. */
struct plan_brick {
    uint64_t set;
    char *node, *device, *zone; /* zone NULL: the node has none */
    uint64_t size;              /* promised to it; 0: all of the device */
    uint64_t room;              /* what the device could have promised */
    bool witness;
};
struct plan_refusal {
    char *device, *reason;
};
struct volume_plan {
    char *volume, *layout;      /* "disperse 4+2" */
    uint64_t sets;              /* new ones */
    uint64_t size;              /* of the new sets; 0: all that the devices have */
    uint64_t largest;           /* file that fits */
    struct object_list bricks;  /* of struct plan_brick, set by set */
    struct object_list refused; /* of struct plan_refusal: the devices that are not taken */
    struct string_list text;    /* the same for people, line by line */
};
extern const struct schema volume_plan_schema;
static inline void cleanup_volume_plan(struct volume_plan *plan)
{
    schema_clear(&volume_plan_schema, plan);
}

struct volume_patch {
    int state;
    double overcommit;
    struct string_list access;
    char *profile;              /* "none": none */
    struct string_list options; /* changes: what is not named stays, "TRANSLATOR.OPTION=" goes */
    bool advanced;
    int tls; /* enum volume_tls */
};
extern const struct schema volume_patch_schema;

struct block_create {
    char *volume, *name;
    uint64_t size; /* with `storage`: 0, the file's */
    uint64_t block_size;
    int prealloc;             /* enum block_prealloc */
    char *storage;            /* an existing file of the hosting volume to adopt */
    struct string_list hosts; /* nodes (name or address) that export it over NBD from the start */
};
extern const struct schema block_create_schema;

struct block_patch {
    uint64_t size; /* smaller needs ?force=1 */
};
extern const struct schema block_patch_schema;

struct block_rename {
    char *name;
};
extern const struct schema block_rename_schema;

struct block_delete_query {
    uint64_t wait, revision;
    bool force;
    bool keep_storage; /* leave the file in the hosting volume */
};
extern const struct schema block_delete_query_schema;

struct share_create {
    char *volume, *name;
    uint64_t size;
    bool no_quota; /* nothing enforces the size */
    struct string_list access;
};
extern const struct schema share_create_schema;

struct share_patch {
    uint64_t size; /* not below what is used */
};
extern const struct schema share_patch_schema;

struct share_access {
    struct string_list access; /* the whole list; empty, or the one word "none": the nodes only */
};
extern const struct schema share_access_schema;

struct share_delete_query {
    uint64_t wait, revision;
    bool force;
    bool archive; /* keep the files, as an archived share */
};
extern const struct schema share_delete_query_schema;

struct export_create {
    char *volume, *block;
    char *node; /* name or address; absent: this one */
    int protocol;
    bool read_only;
};
extern const struct schema export_create_schema;

/* GET /v1/status: one screen. */
struct status_report {
    char *node, *version, *phase; /* "ok", "degraded", "failed" */
    uint64_t nodes, devices, volumes, blocks, shares, exports, jobs_running;
    struct string_list problems; /* what is wrong and what to do, a sentence each */
};
extern const struct schema status_report_schema;

struct version_report {
    char *version, *api;
};
extern const struct schema version_report_schema;

/* ---- Errors ---- */

/*
 * The table of error conversions: errno <-> code (gRPC's names) <-> HTTP status. On the wire:
 * {"error":{"code":"already_exists","message":"…","details":{"errno":17,"request_id":"…"}}}
 */
struct api_code {
    int number;       /* errno */
    const char *code; /* "already_exists" */
    unsigned status;  /* HTTP */
};
const struct api_code *api_code_of_errno(int number);
/* Each code once; NULL after the last. */
const char *api_code_word(size_t index);
/* The errno for a code that came from the wire; EIO when it is unknown. */
int api_errno_of_code(const char *code);
json_t *api_error_encode(const struct error *error);
/* Says in an encoded error by which name the log knows the request. */
void api_error_name_request(json_t *body, const char *request_id);
/* Makes the error that a reply's body describes and returns its negative errno. */
int api_error_decode(const json_t *body, unsigned status, struct error **ret_error);

#endif
