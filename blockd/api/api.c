/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* From a request to its handler: the route, who may call, the query, the body; and the line in the log. */
#include "blockd/api/api_priv.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/log.h"

#define CONNECTION_LIMIT 256
#define BODY_LIMIT       (256u << 10)
#define IDLE_SECONDS     3700 /* longer than the longest ?wait= */

struct api {
    struct core *core;
    struct http_server *server; /* on the unix socket */
    char *socket_path;
    struct trust *trust;
    struct rate *rate;
    struct audit *audit;
    struct listeners *listeners; /* over TLS */
};

/* ---- Query ---- */

struct query_parser {
    const struct schema *schema;
    json_t *json;
    struct error **error;
};

/* A query's values are text: the field's type says what JSON it stands for. */
static int add_parameter(void *data, const char *name, const char *value)
{
    struct query_parser *parser = data;
    const struct field *field = parser->schema ? parser->schema->fields : NULL;
    while (field && field->name && strcmp(field->name, name) != 0)
        field++;
    if (!field || !field->name)
        return error_set(parser->error, EINVAL, "there is no query parameter \"%.64s\" here", name);

    if (json_object_get(parser->json, name))
        return error_set(parser->error, EINVAL, "query parameter %s is given twice", name);

    json_t *json = NULL;
    char *end;
    errno = 0;
    if (field->type == FIELD_BOOL) {
        bool yes = strcmp(value, "1") == 0 || strcmp(value, "true") == 0;
        if (yes || strcmp(value, "0") == 0 || strcmp(value, "false") == 0)
            json = json_boolean(yes);
    } else if (field->type == FIELD_UINT) {
        long long number = strtoll(value, &end, 10);
        if (*value >= '0' && *value <= '9' && !*end && !errno)
            json = json_integer(number);
    } else {
        json = json_string(value);
    }
    if (!json)
        return error_set(parser->error, EINVAL, "query parameter %s has the bad value \"%.64s\"", name,
                         value);
    json_object_set_new(parser->json, name, json);
    return 0;
}

static int parse_query(struct call *call, struct error **ret_error)
{
    const struct schema *schema = call->match->route->query;
    struct query_parser parser = {.schema = schema, .json = json_object(), .error = ret_error};
    int r = http_request_query(call->request, add_parameter, &parser);
    if (r == 0 && schema) {
        call->query = xcalloc(1, schema->size);
        r = schema_decode(schema, parser.json, call->query, NULL, ret_error);
    }
    json_decref(parser.json);
    return r;
}

/* ---- Body ---- */

static int parse_body(struct call *call, struct error **ret_error)
{
    const struct schema *schema = call->match->route->request;
    if (!schema) {
        if (call->request->body_length)
            return error_set(ret_error, EINVAL, "%s %s takes no body", call->request->method,
                             call->request->path);
        return 0;
    }
    json_error_t problem;
    json_t *json =
        json_loadb(call->request->body, call->request->body_length, JSON_REJECT_DUPLICATES, &problem);
    if (!json)
        return error_set(ret_error, EINVAL, "the body is no JSON: %s at line %d", problem.text, problem.line);
    call->body = xcalloc(1, schema->size);
    api_body_defaults(call->match->route->op, call->body);
    int r = schema_decode(schema, json, call->body, &call->present, ret_error);
    json_decref(json);
    return r;
}

/* ---- One request ---- */

static int serve(struct call *call, struct error **ret_error)
{
    int r = parse_query(call, ret_error);
    if (r == 0)
        r = parse_body(call, ret_error);
    return r < 0 ? r : api_handlers[call->match->route->op](call, ret_error);
}

static void call_clear(struct call *call)
{
    if (call->query)
        schema_clear(call->match->route->query, call->query);
    if (call->body)
        schema_clear(call->match->route->request, call->body);
    free(call->query);
    free(call->body);
    free(call->object);
}

static bool is_change(const struct http_request *request)
{
    return strcmp(request->method, "GET") != 0;
}

/* Changes are logged with who asked, reads only when debugging. No body: it may hold what is nobody's
 * business. */
static void log_request(const struct http_request *request, const struct caller *caller, unsigned status,
                        int64_t took_ms, const struct error *error)
{
    autofree char *who = request->peer_known
                             ? xasprintf("uid %d pid %d", (int)request->peer_uid, (int)request->peer_pid)
                             : xasprintf("%s %s at %s", caller->role_word, caller->name,
                                         request->peer_address ? request->peer_address : "?");
    log_write(is_change(request) ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "%s %.300s by %s: %u in %lld ms, %s%s%s",
              request->method, request->path, who, status, (long long)took_ms, request->id, error ? ": " : "",
              error ? error->message : "");
}

static char *reason_text(const struct http_request *request, const struct error *error)
{
    return xasprintf("%s (%s %.100s, %s)", error_message(error), request->method, request->path, request->id);
}

/*
 * A browser that has an administrator's certificate sends it with what any web page makes it send. Pages are
 * no clients of the API, and browsers name the page in each request that changes something.
 */
static int refuse_pages(const struct http_request *request, struct error **ret_error)
{
    if (!http_request_header(request, "Origin"))
        return 0;
    return error_set(ret_error, EACCES, "requests of web pages (Origin) are not served");
}

/* What may not be called, or not now. Who has no good certificate does not decide how long the log gets. */
static void send_away(const struct http_request *request, const struct caller *caller,
                      struct http_response *response, const struct error *error)
{
    const char *address = request->peer_address ? request->peer_address : "a client of the socket";
    autofree char *reason = reason_text(request, error);
    if (caller->role & ROLES_KNOWN && error && error->number == EACCES)
        log_warning("refused %s: %s", address, reason);
    else
        log_stranger(address, reason);
    respond_error(response, error, request->id);
}

/* Who has a certificate of the cluster learns what there is; who has none does not. */
static int admit(struct api *api, const struct http_request *request, const struct caller *caller,
                 const struct api_match *match, int found, struct error **ret_error)
{
    static const struct api_route nothing = {.method = "", .path = "the API"};
    int r = rate_take(api->rate, caller, request->peer_address, ret_error);
    if (r < 0)
        return r;
    if (found == 0)
        return caller_check(caller, match->route, ret_error);
    return caller->role & ROLES_KNOWN ? 0 : caller_check(caller, &nothing, ret_error);
}

/* Who is revoked is refused from the answer on, not from the next look at the files. */
static void trust_no_more(struct api *api)
{
    autoerror struct error *error = NULL;
    if (listeners_trust(api->listeners, &error) < 0)
        log_warning("a revoked certificate may still be taken: %s", error_message(error));
}

/* One that may be called: it is answered, logged and recorded. */
static void answer(struct api *api, struct call *call, int found, struct error **error, int64_t started)
{
    const struct http_request *request = call->request;
    struct http_response *response = call->response;
    int r = found < 0 ? found : serve(call, error);
    if (r == 0 && call->match->route->op == API_CERTIFICATE_REVOKE)
        trust_no_more(api);
    if (r < 0)
        respond_error(response, *error, request->id);
    if (found == -EOPNOTSUPP) {
        response->status = 405;
        response->allow = api_allowed_methods(request->path);
    }
    unsigned status = response->status ? response->status : 200;
    int64_t took_ms = clock_monotonic_ms() - started;
    /* Who has no certificate does not decide how much is written about it. */
    if (r < 0 && call->caller->role == ROLE_NOBODY) {
        autofree char *reason = reason_text(request, *error);
        log_stranger(request->peer_address, reason);
        return;
    }
    log_request(request, call->caller, status, took_ms, *error);
    if (is_change(request) && found == 0)
        audit_change(api->audit, call, status, took_ms, *error);
}

static void handle(void *data, const struct http_request *sent, struct http_response *response)
{
    struct api *api = data;
    autofree char *path = api_path_without_secret(sent->path);
    struct http_request copy = *sent, *request = &copy;
    copy.path = path;
    autoerror struct error *error = NULL, *refusal = NULL;
    struct caller caller cleanup(caller_clear) = {0};
    struct api_match match = {0};
    int64_t started = clock_monotonic_ms();
    if (caller_identify(api->trust, request, &caller, &refusal) < 0 || refuse_pages(request, &refusal) < 0) {
        send_away(request, &caller, response, refusal);
        response->last = true; /* to try again costs such a client a handshake */
        return;
    }
    int found = api_route_find(request->method, request->path, &match, &error);
    struct call call = {
        .core = api->core, .request = request, .response = response, .match = &match, .caller = &caller};
    if (admit(api, request, &caller, &match, found, &refusal) == 0) {
        answer(api, &call, found, &error, started);
        guard_stream(api->trust, request, response);
    } else {
        send_away(request, &caller, response, refusal);
        if (caller.role & ROLES_KNOWN && is_change(request) && found == 0)
            audit_change(api->audit, &call, response->status, clock_monotonic_ms() - started, refusal);
    }
    call_clear(&call);
    api_match_clear(&match);
}

/* Of a client over TCP that was turned away below HTTP. */
static void on_notice(void *data, const char *address, const char *reason)
{
    (void)data;
    log_stranger(address, reason);
}

/* ---- Life ---- */

/* The socket's permissions say who may call: root, and the configured group where the system has it. */
static void give_to_group(const char *path, const char *name)
{
    const struct group *group = name && *name ? getgrnam(name) : NULL;
    if (!group)
        return;
    if (chown(path, 0, group->gr_gid) < 0 || chmod(path, 0660) < 0)
        log_warning("cannot give %s to the group %s: %s", path, name, strerror(errno));
}

static int serve_socket(struct api *api, const struct config *config, struct http_server_options options,
                        struct error **ret_error)
{
    int fd = -1;
    int r = unix_listen(api->socket_path, 0600, &fd, ret_error);
    if (r < 0)
        return r;
    give_to_group(api->socket_path, config->group);
    options.listen_fd = fd;
    options.connection_limit = CONNECTION_LIMIT;
    options.idle_seconds = IDLE_SECONDS;
    r = http_server_start(&options, &api->server, ret_error);
    if (r < 0)
        close(fd);
    return r;
}

int api_start(struct core *core, const struct config *config, struct api **ret_api, struct error **ret_error)
{
    cleanup(cleanup_api) struct api *api = xcalloc(1, sizeof *api);
    api->core = core;
    api->socket_path = config_socket_path(config);
    api->trust = trust_new();
    api->rate = rate_new(config->api_rate);
    api->audit = audit_new(config);
    struct http_server_options options = {
        .body_limit = BODY_LIMIT, .handler = handle, .notice = on_notice, .handler_data = api};
    int r = serve_socket(api, config, options, ret_error);
    if (r == 0)
        r = listeners_new(config, &options, api->trust, &api->listeners, ret_error);
    if (r < 0)
        return r;
    *ret_api = steal_ptr(&api);
    return 0;
}

void api_reload(struct api *api)
{
    audit_reopen(api->audit);
    listeners_reload(api->listeners);
}

void api_stop(struct api *api)
{
    if (!api)
        return;
    if (api->server)
        unlink(api->socket_path); /* new clients learn at once that nobody is there */
    listeners_free(api->listeners);
    http_server_stop(api->server);
    audit_free(api->audit);
    rate_free(api->rate);
    trust_free(api->trust);
    free(api->socket_path);
    free(api);
}
