/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* One function an operation of the API: from decoded query and body to the core, and from its result to the
 * response. */
#include <errno.h>
#include <string.h>

#include "blockd/api/api_priv.h"
#include "blockd/core/certificates.h"
#include "blockd/core/cluster.h"
#include "blockd/core/examine.h"
#include "rpc/base/alloc.h"

/* ---- Helpers ---- */

/* "V/B" from the path's arguments. The caller's. */
static char *name_of(const struct call *call)
{
    struct strbuf name = {0};
    for (size_t i = 0; i < API_PATH_ARGUMENTS && call->match->arguments[i]; i++)
        strbuf_addf(&name, "%s%s", i ? "/" : "", call->match->arguments[i]);
    return strbuf_steal(&name);
}

static int add_to_text(void *data, const char *name, const char *value)
{
    if (strcmp(name, "wait") != 0) /* how long a caller waits is no part of what it asks for */
        strbuf_addf(data, " %s=%s", name, value);
    return 0;
}

/* What was asked, for the comparison of a request that comes again: method, path, query and body. */
static char *request_text(const struct http_request *request)
{
    struct strbuf text = {0};
    strbuf_addf(&text, "%s %s", request->method, request->path);
    http_request_query(request, add_to_text, &text);
    strbuf_addf(&text, " %s", request->body);
    return strbuf_steal(&text);
}

static void fill_change(const struct call *call, const char *text, struct core_change *change)
{
    /* Every change's query begins with the same three members. */
    const struct change_query *query = call->query;
    *change = (struct core_change){
        .wait = query->wait,
        .revision = query->revision,
        .force = query->force,
        .idempotency_key = http_request_header(call->request, "Idempotency-Key"),
        .request = text,
    };
}

/* The kind that a route's response describes. */
static enum object_kind kind_of(const struct call *call)
{
    for (size_t i = 0; i < KIND_COUNT; i++)
        if (object_types[i].schema == call->match->route->response)
            return object_types[i].kind;
    return KIND_COUNT;
}

/* What the change was made to, for the record: the object itself, or the job that works on it. */
static void name_result(struct call *call, const json_t *object)
{
    const char *name = json_string_value(json_object_get(object, "name"));
    bool is_job = json_object_get(json_object_get(object, "spec"), "object") != NULL;
    enum object_kind kind = is_job ? KIND_JOB : kind_of(call);
    autofree char *path_name = name ? NULL : name_of(call);
    if (kind != KIND_COUNT)
        call->object = object_key(kind, name ? name : path_name);
    call->revision = (uint64_t)json_integer_value(json_object_get(object, "revision"));
}

/* 200 (201 for what is new) when it is settled, 202 with the object or its job when
 * the reconciler goes on. */
static int answer(struct call *call, struct core_result *result)
{
    bool makes = strcmp(call->match->route->method, "POST") == 0 && !call->match->arguments[0];
    unsigned status = makes ? 201 : 200;
    name_result(call, result->object);
    respond_json(call->response, result->settled ? status : 202,
                 result->object ? json_incref(result->object) : json_object());
    core_result_clear(result);
    return 0;
}

/* A handler around one change of the core; CALL_TEXT uses name, change, result. */
#define CHANGE_HANDLER(handler, call_text)                                                                   \
    static int handler(struct call *call, struct error **ret_error)                                          \
    {                                                                                                        \
        struct core_result result = {0};                                                                     \
        struct core_change change;                                                                           \
        autofree char *text = request_text(call->request);                                                   \
        autofree char *name = name_of(call);                                                                 \
        fill_change(call, text, &change);                                                                    \
        int r = call_text;                                                                                   \
        return r < 0 ? r : answer(call, &result);                                                            \
    }

/* ---- Changes ---- */

CHANGE_HANDLER(node_patch,
               core_node_patch(call->core, name, call->body, call->present, &change, &result, ret_error))
CHANGE_HANDLER(device_create, core_device_create(call->core, call->body, &change, &result, ret_error))
CHANGE_HANDLER(device_patch,
               core_device_patch(call->core, name, call->body, call->present, &change, &result, ret_error))
CHANGE_HANDLER(device_evacuate,
               core_device_evacuate(call->core, name, call->body, &change, &result, ret_error))
CHANGE_HANDLER(device_replace, core_device_replace(call->core, name, call->body, &change, &result, ret_error))
CHANGE_HANDLER(device_delete, core_device_delete(call->core, name, &change, &result, ret_error))
CHANGE_HANDLER(volume_create_now, core_volume_create(call->core, call->body, &change, &result, ret_error))
CHANGE_HANDLER(volume_patch,
               core_volume_patch(call->core, name, call->body, call->present, &change, &result, ret_error))
CHANGE_HANDLER(volume_delete, core_volume_delete(call->core, name, &change, &result, ret_error))
CHANGE_HANDLER(block_create, core_block_create(call->core, call->body, &change, &result, ret_error))
CHANGE_HANDLER(block_patch,
               core_block_patch(call->core, name, call->body, call->present, &change, &result, ret_error))
CHANGE_HANDLER(block_rename, core_block_rename(call->core, name, call->body, &change, &result, ret_error))
CHANGE_HANDLER(block_delete, core_block_delete(call->core, name,
                                               ((const struct block_delete_query *)call->query)->keep_storage,
                                               &change, &result, ret_error))
CHANGE_HANDLER(share_create, core_share_create(call->core, call->body, &change, &result, ret_error))
CHANGE_HANDLER(share_patch,
               core_share_patch(call->core, name, call->body, call->present, &change, &result, ret_error))
CHANGE_HANDLER(share_access, core_share_access(call->core, name, call->body, &change, &result, ret_error))
CHANGE_HANDLER(share_delete,
               core_share_delete(call->core, name, ((const struct share_delete_query *)call->query)->archive,
                                 &change, &result, ret_error))
CHANGE_HANDLER(export_create, core_export_create(call->core, call->body, &change, &result, ret_error))
CHANGE_HANDLER(export_delete, core_export_delete(call->core, name, &change, &result, ret_error))
CHANGE_HANDLER(heal_start, core_heal_start(call->core, name, call->body, &change, &result, ret_error))
CHANGE_HANDLER(job_delete, core_job_delete(call->core, name, &change, &result, ret_error))

static int volume_create(struct call *call, struct error **ret_error)
{
    const struct volume_create_query *query = call->query;
    json_t *plan = NULL;
    if (!query->dry_run)
        return volume_create_now(call, ret_error);
    int r = core_volume_plan(call->core, call->body, &plan, ret_error);
    if (r == 0)
        respond_json(call->response, 200, plan);
    return r;
}

CHANGE_HANDLER(volume_expand_now,
               core_volume_expand(call->core, name, call->body, &change, &result, ret_error))
CHANGE_HANDLER(volume_shrink,
               core_volume_shrink(call->core, name, call->body, call->present, &change, &result, ret_error))
CHANGE_HANDLER(volume_rebalance, core_volume_rebalance(call->core, name, &change, &result, ret_error))

static int volume_expand(struct call *call, struct error **ret_error)
{
    const struct volume_create_query *query = call->query;
    autofree char *name = name_of(call);
    json_t *plan = NULL;
    if (!query->dry_run)
        return volume_expand_now(call, ret_error);
    int r = core_volume_expand_plan(call->core, name, call->body, &plan, ret_error);
    if (r == 0)
        respond_json(call->response, 200, plan);
    return r;
}

/* ---- Reading ---- */

static int get_object(struct call *call, struct error **ret_error)
{
    autofree char *name = name_of(call);
    json_t *object = NULL;
    int r = core_get(call->core, kind_of(call), name, &object, ret_error);
    if (r == 0)
        respond_json(call->response, 200, object);
    return r;
}

static int list_objects(struct call *call, struct error **ret_error)
{
    const struct list_query *query = call->query;
    autofree char *prefix = name_of(call);
    const char *wanted = *prefix ? prefix : NULL;
    json_t *list = NULL;
    if (query->watch)
        return respond_watch(call, kind_of(call), wanted, query->after, ret_error);
    if (*prefix) { /* none in a volume is not the same as no volume */
        int r = core_get(call->core, KIND_VOLUME, prefix, &list, ret_error);
        if (r < 0)
            return r;
        json_decref(list);
    }
    int r = core_list(call->core, kind_of(call), wanted, query->start, query->limit, &list, ret_error);
    if (r == 0)
        respond_json(call->response, 200, list);
    return r;
}

static int heal_info(struct call *call, struct error **ret_error)
{
    const struct heal_list_query *query = call->query;
    autofree char *name = name_of(call);
    json_t *report = NULL;
    int r = core_heal_report(call->core, name, query->limit, query->split_brain, &report, ret_error);
    if (r == 0)
        respond_json(call->response, 200, report);
    return r;
}

static int heal_history(struct call *call, struct error **ret_error)
{
    autofree char *name = name_of(call);
    json_t *history = NULL;
    int r = core_heal_history(call->core, name, &history, ret_error);
    if (r == 0)
        respond_json(call->response, 200, history);
    return r;
}

static int heal_resolve(struct call *call, struct error **ret_error)
{
    const struct change_query *query = call->query;
    autofree char *name = name_of(call);
    json_t *resolved = NULL;
    int r = core_heal_resolve(call->core, name, call->body, query->wait, &resolved, ret_error);
    if (r == 0)
        respond_json(call->response, 200, resolved);
    return r;
}

/* A handler that answers with one structure; CALL_TEXT fills `reply`. */
#define REPLY_HANDLER(handler, structure, code, call_text)                                                   \
    static int handler(struct call *call, struct error **ret_error)                                          \
    {                                                                                                        \
        struct structure reply;                                                                              \
        int r = call_text;                                                                                   \
        if (r < 0)                                                                                           \
            return r;                                                                                        \
        respond_json(call->response, code, schema_encode(&structure##_schema, &reply));                      \
        schema_clear(&structure##_schema, &reply);                                                           \
        return 0;                                                                                            \
    }

REPLY_HANDLER(cluster_init, cluster_authority, 200, core_cluster_init(call->core, &reply, ret_error))
REPLY_HANDLER(cluster_authority, cluster_authority, 200,
              core_cluster_authority(call->core, &reply, ret_error))
REPLY_HANDLER(cluster_join, join_reply, 200, core_cluster_join(call->core, call->body, &reply, ret_error))
REPLY_HANDLER(token_create, token_created, 201, core_token_create(call->core, call->body, &reply, ret_error))
REPLY_HANDLER(token_list, token_list, 200, core_token_list(call->core, &reply, ret_error))
REPLY_HANDLER(certificate_renew, certificate_record, 200,
              core_certificate_renew(call->core, &reply, ret_error))
REPLY_HANDLER(certificate_list, certificate_list, 200, core_certificate_list(call->core, &reply, ret_error))
REPLY_HANDLER(certificate_sign, certificate_signed, 201,
              core_certificate_sign(call->core, call->body, &reply, ret_error))
REPLY_HANDLER(certificate_revoke, certificate_revoked, 200,
              core_certificate_revoke(call->core, call->body, &reply, ret_error))
REPLY_HANDLER(examine, examine_report, 200, core_examine(call->core, call->body, &reply, ret_error))
REPLY_HANDLER(look, examine_report, 200,
              core_examine(call->core, &(struct examine_request){0}, &reply, ret_error))
REPLY_HANDLER(adopt, adopt_report, 200, core_adopt(call->core, call->body, &reply, ret_error))
REPLY_HANDLER(get_status, status_report, 200, core_status(call->core, &reply, ret_error))

static int token_delete(struct call *call, struct error **ret_error)
{
    const char *id = call->match->arguments[0];
    int r = core_token_delete(call->core, id, ret_error);
    if (r == 0)
        respond_json(call->response, 200, json_pack("{s:s}", "id", id));
    return r;
}

static int get_version(struct call *call, struct error **ret_error)
{
    (void)ret_error;
    respond_json(call->response, 200, json_pack("{s:s, s:s}", "version", BLOCKD_VERSION, "api", "v1"));
    return 0;
}

static int get_openapi(struct call *call, struct error **ret_error)
{
    (void)ret_error;
    respond_json(call->response, 200, api_openapi());
    return 0;
}

static int get_metrics(struct call *call, struct error **ret_error)
{
    (void)ret_error;
    respond_text(call->response, 200, "text/plain; version=0.0.4", metrics_text(call->core));
    return 0;
}

static int get_healthz(struct call *call, struct error **ret_error)
{
    (void)ret_error;
    respond_text(call->response, 200, "text/plain", xstrdup("ok\n"));
    return 0;
}

static int get_readyz(struct call *call, struct error **ret_error)
{
    (void)ret_error;
    bool ready = core_ready(call->core);
    respond_text(call->response, ready ? 200 : 503, "text/plain",
                 xstrdup(ready ? "ready\n" : "the first pass has not ended yet\n"));
    return 0;
}

const api_handler api_handlers[API_OP_COUNT] = {
    [API_NODE_LIST] = list_objects,
    [API_NODE_GET] = get_object,
    [API_NODE_PATCH] = node_patch,
    [API_DEVICE_LIST] = list_objects,
    [API_DEVICE_GET] = get_object,
    [API_DEVICE_CREATE] = device_create,
    [API_DEVICE_PATCH] = device_patch,
    [API_DEVICE_EVACUATE] = device_evacuate,
    [API_DEVICE_REPLACE] = device_replace,
    [API_DEVICE_DELETE] = device_delete,
    [API_VOLUME_LIST] = list_objects,
    [API_VOLUME_GET] = get_object,
    [API_VOLUME_CREATE] = volume_create,
    [API_VOLUME_EXPAND] = volume_expand,
    [API_VOLUME_SHRINK] = volume_shrink,
    [API_VOLUME_REBALANCE] = volume_rebalance,
    [API_VOLUME_PATCH] = volume_patch,
    [API_VOLUME_DELETE] = volume_delete,
    [API_HEAL_INFO] = heal_info,
    [API_HEAL_START] = heal_start,
    [API_HEAL_RESOLVE] = heal_resolve,
    [API_HEAL_HISTORY] = heal_history,
    [API_BLOCK_LIST] = list_objects,
    [API_BLOCK_LIST_VOLUME] = list_objects,
    [API_BLOCK_GET] = get_object,
    [API_BLOCK_CREATE] = block_create,
    [API_BLOCK_PATCH] = block_patch,
    [API_BLOCK_RENAME] = block_rename,
    [API_BLOCK_DELETE] = block_delete,
    [API_SHARE_LIST] = list_objects,
    [API_SHARE_LIST_VOLUME] = list_objects,
    [API_SHARE_GET] = get_object,
    [API_SHARE_CREATE] = share_create,
    [API_SHARE_PATCH] = share_patch,
    [API_SHARE_ACCESS] = share_access,
    [API_SHARE_DELETE] = share_delete,
    [API_EXPORT_LIST] = list_objects,
    [API_EXPORT_GET] = get_object,
    [API_EXPORT_CREATE] = export_create,
    [API_EXPORT_DELETE] = export_delete,
    [API_JOB_LIST] = list_objects,
    [API_JOB_GET] = get_object,
    [API_JOB_DELETE] = job_delete,
    [API_STATUS] = get_status,
    [API_VERSION] = get_version,
    [API_OPENAPI] = get_openapi,
    [API_METRICS] = get_metrics,
    [API_HEALTHZ] = get_healthz,
    [API_DEVICE_ADOPT] = adopt,
    [API_CLUSTER_INIT] = cluster_init,
    [API_CLUSTER_AUTHORITY] = cluster_authority,
    [API_CLUSTER_JOIN] = cluster_join,
    [API_TOKEN_LIST] = token_list,
    [API_TOKEN_CREATE] = token_create,
    [API_TOKEN_DELETE] = token_delete,
    [API_CERTIFICATE_LIST] = certificate_list,
    [API_CERTIFICATE_RENEW] = certificate_renew,
    [API_CERTIFICATE_SIGN] = certificate_sign,
    [API_CERTIFICATE_REVOKE] = certificate_revoke,
    [API_EXAMINE] = examine,
    [API_EXAMINE_GET] = look,
    [API_READYZ] = get_readyz,
};

void api_body_defaults(enum api_op op, void *object)
{
    if (op == API_VOLUME_CREATE) {
        struct volume_create *request = object;
        request->template_name = TEMPLATE_REPLICA3;
        request->overcommit = 1.0;
        request->tls = VOLUME_TLS_DEFAULT;
    } else if (op == API_BLOCK_CREATE) {
        struct block_create *request = object;
        request->block_size = 512;
    } else if (op == API_TOKEN_CREATE) {
        struct token_create *request = object;
        request->ttl = TOKEN_TTL_DEFAULT;
    } else if (op == API_CERTIFICATE_SIGN) {
        struct certificate_sign *request = object;
        request->days = CERTIFICATE_DAYS;
    }
}
