/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* From a request to its handler: the route, who may call, the query, the body; and the line in the log. */
#include "api_priv.h"

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
    struct http_server *server;
    char *socket_path;
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
    if (r == 0)
        r = api_handlers[call->match->route->op](call, ret_error);
    if (call->query)
        schema_clear(call->match->route->query, call->query);
    if (call->body)
        schema_clear(call->match->route->request, call->body);
    free(call->query);
    free(call->body);
    return r;
}

/* Changes are logged with who asked, reads only when debugging. No body: it may hold what is nobody's
 * business. */
static void log_request(const struct http_request *request, unsigned status, int64_t took_ms,
                        const struct error *error)
{
    bool change = strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0;
    enum log_level level = change ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
    log_write(level, "%s %.300s by uid %d pid %d: %u in %lld ms%s%s", request->method, request->path,
              request->peer_known ? (int)request->peer_uid : -1,
              request->peer_known ? (int)request->peer_pid : -1, status, (long long)took_ms,
              error ? ": " : "", error ? error->message : "");
}

static void handle(void *data, const struct http_request *request, struct http_response *response)
{
    struct api *api = data;
    autoerror struct error *error = NULL;
    struct api_match match = {0};
    int64_t started = clock_monotonic_ms();
    int r = api_route_find(request->method, request->path, &match, &error);
    bool routed = r == 0;
    if (routed) {
        struct call call = {.core = api->core, .request = request, .response = response, .match = &match};
        r = serve(&call, &error);
        api_match_clear(&match);
    }
    if (r < 0)
        respond_error(response, error);
    if (r == -EOPNOTSUPP && !routed) {
        response->status = 405;
        response->allow = api_allowed_methods(request->path);
    }
    log_request(request, response->status ? response->status : 200, clock_monotonic_ms() - started, error);
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

int api_start(struct core *core, const struct config *config, struct api **ret_api, struct error **ret_error)
{
    struct api *api = xcalloc(1, sizeof *api);
    api->core = core;
    api->socket_path = config_socket_path(config);
    int fd = -1;
    int r = unix_listen(api->socket_path, 0600, &fd, ret_error);
    if (r == 0) {
        give_to_group(api->socket_path, config->group);
        struct http_server_options options = {
            .listen_fd = fd,
            .connection_limit = CONNECTION_LIMIT,
            .body_limit = BODY_LIMIT,
            .idle_seconds = IDLE_SECONDS,
            .handler = handle,
            .handler_data = api,
        };
        r = http_server_start(&options, &api->server, ret_error);
        if (r < 0)
            close(fd);
    }
    if (r < 0) {
        free(api->socket_path);
        free(api);
        return r;
    }
    *ret_api = api;
    return 0;
}

void api_stop(struct api *api)
{
    if (!api)
        return;
    unlink(api->socket_path); /* new clients learn at once that nobody is there */
    http_server_stop(api->server);
    free(api->socket_path);
    free(api);
}
