/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/nbd/control.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "rpc/api.h"
#include "rpc/base/alloc.h"
#include "rpc/http_server.h"

#define CONNECTION_LIMIT 64
#define BODY_LIMIT       4096
#define IDLE_SECONDS     60
#define SYNC_TIMEOUT_MS  10000
#define LEAVE_MS         500 /* a client that has closed its connection is gone within it */

struct control {
    struct catalog *catalog;
    struct server *server;
    struct http_server *http;
};

static void answer_text(struct http_response *response, char *text, const char *type)
{
    response->body = text;
    response->body_length = strlen(text);
    response->content_type = type;
}

static void answer_error(struct http_response *response, const struct error *error)
{
    json_t *body = api_error_encode(error);
    response->status = api_code_of_errno(error->number)->status;
    answer_text(response, json_dumps(body, 0), "application/json");
    json_decref(body);
}

static void get_metrics(struct control *control, const struct http_request *request,
                        struct http_response *response)
{
    (void)request;
    autostrbuf struct strbuf text = {0};
    server_metrics(control->server, &text);
    catalog_metrics(control->catalog, &text);
    answer_text(response, strbuf_steal(&text), "text/plain; version=0.0.4");
}

static void post_sync(struct control *control, const struct http_request *request,
                      struct http_response *response)
{
    (void)request;
    autoerror struct error *error = NULL;
    if (catalog_sync(control->catalog, SYNC_TIMEOUT_MS, &error) < 0)
        answer_error(response, error);
    else
        answer_text(response, xstrdup("{}"), "application/json");
}

static void get_exports(struct control *control, const struct http_request *request,
                        struct http_response *response)
{
    (void)request;
    answer_text(response, catalog_report(control->catalog), "application/json");
}

struct query {
    char *volume, *block; /* NULL: any */
};

static int read_query(void *data, const char *name, const char *value)
{
    struct query *query = data;
    char **member = strcmp(name, "volume") == 0 ? &query->volume : &query->block;
    free(*member);
    *member = xstrdup(value);
    return 0;
}

static void get_clients(struct control *control, const struct http_request *request,
                        struct http_response *response)
{
    struct query query = {0};
    http_request_query(request, read_query, &query);
    answer_text(response, catalog_clients(control->catalog, query.volume, query.block, LEAVE_MS),
                "application/json");
    free(query.volume);
    free(query.block);
}

/* Whether requests get through to a volume's bricks: {"problem"}, null where they do. */
static void get_health(struct control *control, const struct http_request *request,
                       struct http_response *response)
{
    struct query query = {0};
    http_request_query(request, read_query, &query);
    autofree char *problem = query.volume ? catalog_problem(control->catalog, query.volume) : NULL;
    json_t *report = json_pack("{s:s?}", "problem", problem);
    answer_text(response, json_dumps(report, 0), "application/json");
    json_decref(report);
    free(query.volume);
    free(query.block);
}

static const struct {
    const char *method, *path;
    void (*run)(struct control *control, const struct http_request *request, struct http_response *response);
} routes[] = {
    {"GET", "/metrics", get_metrics}, {"GET", "/exports", get_exports}, {"GET", "/clients", get_clients},
    {"GET", "/health", get_health},   {"POST", "/sync", post_sync},
};

static int find_route(const struct http_request *request, size_t *ret_index, struct error **ret_error)
{
    if (!request->peer_known || (request->peer_uid != 0 && request->peer_uid != geteuid()))
        return error_set(ret_error, EACCES, "only root may use this socket");
    bool path_known = false;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (strcmp(routes[i].path, request->path) != 0)
            continue;
        path_known = true;
        if (strcmp(routes[i].method, request->method) == 0) {
            *ret_index = i;
            return 0;
        }
    }
    return error_set(ret_error, path_known ? EOPNOTSUPP : ENOENT, "there is no %s %s here", request->method,
                     request->path);
}

static void handle(void *data, const struct http_request *request, struct http_response *response)
{
    autoerror struct error *error = NULL;
    size_t index = 0;
    if (find_route(request, &index, &error) < 0)
        answer_error(response, error);
    else
        routes[index].run(data, request, response);
}

int control_start(const struct config *config, struct catalog *catalog, struct server *server,
                  struct control **ret_control, struct error **ret_error)
{
    cleanup(cleanup_control) struct control *control = xcalloc(1, sizeof *control);
    control->catalog = catalog;
    control->server = server;
    autofree char *path = config_nbd_control_path(config);
    autoclose int fd = -1;
    int r = unix_listen(path, 0600, &fd, ret_error);
    if (r < 0)
        return r;
    struct http_server_options options = {
        .listen_fd = fd,
        .connection_limit = CONNECTION_LIMIT,
        .body_limit = BODY_LIMIT,
        .idle_seconds = IDLE_SECONDS,
        .handler = handle,
        .handler_data = control,
    };
    r = http_server_start(&options, &control->http, ret_error);
    if (r < 0)
        return r;
    steal_fd(&fd);
    *ret_control = steal_ptr(&control);
    return 0;
}

void control_stop(struct control *control)
{
    if (!control)
        return;
    http_server_stop(control->http);
    free(control);
}
