/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* One request, from its first line to the last byte of its reply. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "rpc/http_priv.h"
#include "rpc/api.h"
#include "rpc/base/alloc.h"
#include "rpc/base/strings.h"
#include "rpc/base/uuid.h"

#define DISCARD_LIMIT (1u << 20) /* bytes read past the limit of a body so that the answer arrives */
#define STREAM_BLOCK  (16u << 10)
#define REPLY_RATE    (32u << 10) /* bytes a second that a client with a limit of time must read at least */
#define REQUEST_ID    "X-Request-Id"

/* Belongs to the connection's thread. */
struct request {
    struct http_server *server;
    struct MHD_Connection *connection;
    struct http_connection *peer;
    char *path;
    char id[HTTP_REQUEST_ID_MAX + 1]; /* "" before the headers were seen */
    struct strbuf body;
    size_t received; /* bytes of the body so far; beyond the limit they are not kept */
    bool begun;      /* the headers were seen */
    bool counted;    /* in server->replies */
};

struct stream {
    struct http_server *server;
    struct MHD_Connection *connection;
    struct http_response response;
};

/* ---- The peer ---- */

static struct http_connection *peer_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void set_credentials(struct http_request *request, int fd)
{
    int domain = 0;
    struct ucred credentials;
    socklen_t length = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || domain != AF_UNIX)
        return;
    length = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0)
        return;
    request->peer_known = true;
    request->peer_uid = credentials.uid;
    request->peer_gid = credentials.gid;
    request->peer_pid = credentials.pid;
}

static void set_peer(struct http_request *request, const struct http_connection *peer)
{
    request->tls = peer->tls != NULL;
    if (peer->tls)
        request->peer_certificate = tls_peer_certificate(peer->tls);
    if (peer->address[0])
        request->peer_address = peer->address;
    else
        set_credentials(request, peer->fd);
}

static bool peer_is_gone(int fd)
{
    struct pollfd state = {.fd = fd, .events = POLLRDHUP};
    return poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

/*
 * The idle time must not run while a handler works: libmicrohttpd would close the connection right after it.
 * Setting a limit where there was none also starts it anew.
 */
static void idle_limit(struct MHD_Connection *connection, unsigned seconds)
{
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

/* ---- Names of requests ---- */

bool http_request_id_is_sane(const char *id)
{
    size_t length = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return length > 0 && length <= HTTP_REQUEST_ID_MAX && !id[length];
}

static void name_request(struct request *request)
{
    const char *given = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, REQUEST_ID);
    autofree char *fresh = given && http_request_id_is_sane(given) ? NULL : uuid_make();
    strcpy(request->id, fresh ? fresh : given);
}

/* ---- What handlers ask ---- */

const char *http_request_header(const struct http_request *request, const char *name)
{
    const struct request *inner = request->connection;
    return MHD_lookup_connection_value(inner->connection, MHD_HEADER_KIND, name);
}

struct query_visit {
    http_query_visit visit;
    void *data;
    int result;
};

static enum MHD_Result visit_argument(void *data, enum MHD_ValueKind kind, const char *name,
                                      const char *value)
{
    struct query_visit *query = data;
    (void)kind;
    query->result = query->visit(query->data, name, value ? value : "");
    return query->result ? MHD_NO : MHD_YES;
}

int http_request_query(const struct http_request *request, http_query_visit visit, void *data)
{
    const struct request *inner = request->connection;
    struct query_visit query = {.visit = visit, .data = data};
    MHD_get_connection_values(inner->connection, MHD_GET_ARGUMENT_KIND, visit_argument, &query);
    return query.result;
}

/* ---- Replies ---- */

static ssize_t read_stream(void *data, uint64_t position, char *buffer, size_t size)
{
    struct stream *stream = data;
    (void)position;
    idle_limit(stream->connection, 0);
    for (;;) {
        {
            scoped_lock(&stream->server->mutex);
            if (stream->server->stopping)
                return MHD_CONTENT_READER_END_OF_STREAM;
        }
        ssize_t got = stream->response.stream(stream->response.stream_data, buffer, size);
        idle_limit(stream->connection, stream->server->options.idle_seconds);
        if (got > 0)
            return got;
        if (got < 0)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (peer_is_gone(http_socket(stream->connection)))
            return MHD_CONTENT_READER_END_WITH_ERROR;
        idle_limit(stream->connection, 0);
    }
}

static void free_stream(void *data)
{
    struct stream *stream = data;
    if (stream->response.stream_free)
        stream->response.stream_free(stream->response.stream_data);
    free(stream);
}

/* Takes over what the response owns. NULL when memory is gone. */
static struct MHD_Response *make_response(struct request *request, struct http_response *response)
{
    if (!response->stream) {
        void *body = response->body ? response->body : xcalloc(1, 1);
        size_t length = response->body ? response->body_length : 0;
        struct MHD_Response *made = MHD_create_response_from_buffer(length, body, MHD_RESPMEM_MUST_FREE);
        if (!made)
            free(body);
        return made;
    }
    struct stream *stream = xcalloc(1, sizeof *stream);
    *stream = (struct stream){request->server, request->connection, *response};
    struct MHD_Response *made =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, stream, free_stream);
    if (!made)
        free_stream(stream);
    return made;
}

static enum MHD_Result reply(struct request *request, struct http_response *response)
{
    struct MHD_Response *made = make_response(request, response);
    if (!made)
        return MHD_NO;
    MHD_add_response_header(made, MHD_HTTP_HEADER_CONTENT_TYPE,
                            response->content_type ? response->content_type : "application/json");
    if (response->allow)
        MHD_add_response_header(made, MHD_HTTP_HEADER_ALLOW, response->allow);
    if (request->id[0])
        MHD_add_response_header(made, REQUEST_ID, request->id);
    if (response->last)
        MHD_add_response_header(made, MHD_HTTP_HEADER_CONNECTION, "close");
    const struct http_server_options *options = &request->server->options;
    if (options->request_seconds && !response->stream)
        http_connection_limit(request->peer,
                              options->request_seconds + (unsigned)(response->body_length / REPLY_RATE));
    enum MHD_Result queued =
        MHD_queue_response(request->connection, response->status ? response->status : MHD_HTTP_OK, made);
    MHD_destroy_response(made);
    return queued;
}

/* A refusal by the server itself, in the API's form; the connection ends with it. */
static enum MHD_Result refuse(struct request *request, unsigned status, int number, const char *message)
{
    autoerror struct error *error = NULL;
    error_set(&error, number, "%s", message);
    json_t *json = api_error_encode(error);
    if (request->id[0])
        api_error_name_request(json, request->id);
    struct http_response response = {.status = status, .last = true, .body = json_dumps(json, JSON_COMPACT)};
    json_decref(json);
    response.body_length = response.body ? strlen(response.body) : 0;
    return reply(request, &response);
}

/* ---- Requests ---- */

static enum MHD_Result refuse_large(struct request *request)
{
    autofree char *message =
        xasprintf("the body is larger than %zu bytes", request->server->options.body_limit);
    return refuse(request, MHD_HTTP_CONTENT_TOO_LARGE, EFBIG, message);
}

static bool is_hopeless(size_t length, const struct request *request)
{
    return length > request->server->options.body_limit + DISCARD_LIMIT;
}

static bool announces_too_much(const struct request *request)
{
    const char *length =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length && is_hopeless(strtoull(length, NULL, 10), request);
}

/*
 * libmicrohttpd takes a reply before the body or after it, not in between, and a client that still sends
 * while the connection closes sees a broken pipe instead of the answer. So a body is read on past its limit,
 * within reason.
 */
static enum MHD_Result take_body(struct request *request, const char *bytes, size_t length)
{
    request->received += length;
    if (request->received <= request->server->options.body_limit)
        strbuf_add(&request->body, bytes, length);
    else
        strbuf_clear(&request->body);
    return is_hopeless(request->received, request) ? MHD_NO : MHD_YES;
}

/* C strings end at a NUL, so a parameter that holds one would be checked in part only. */
static enum MHD_Result find_nul(void *data, enum MHD_ValueKind kind, const char *name, size_t name_length,
                                const char *value, size_t value_length)
{
    bool *found = data;
    (void)kind;
    *found = *found || strlen(name) != name_length || (value && strlen(value) != value_length);
    return *found ? MHD_NO : MHD_YES;
}

static bool enter_handler(struct request *request)
{
    struct http_server *server = request->server;
    scoped_lock(&server->mutex);
    if (server->stopping)
        return false;
    server->handlers++;
    server->replies++;
    request->counted = true;
    return true;
}

static void leave_handler(struct http_server *server)
{
    scoped_lock(&server->mutex);
    server->handlers--;
    pthread_cond_broadcast(&server->changed);
}

/* libmicrohttpd sends the end of a chunked body also where there is none, and spoils
 * the next reply with it. */
static void drop_stream(struct http_response *response)
{
    if (response->stream_free)
        response->stream_free(response->stream_data);
    response->stream = NULL;
}

static enum MHD_Result serve(struct request *request, const char *method)
{
    struct http_server *server = request->server;
    bool head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    bool has_nul = false;
    MHD_get_connection_values_n(request->connection, MHD_GET_ARGUMENT_KIND, find_nul, &has_nul);
    if (has_nul)
        return refuse(request, MHD_HTTP_BAD_REQUEST, EINVAL, "the query holds a NUL byte");
    if (!enter_handler(request))
        return refuse(request, MHD_HTTP_SERVICE_UNAVAILABLE, EAGAIN, "the server is stopping; try again");

    struct http_request seen = {
        .method = head ? MHD_HTTP_METHOD_GET : method,
        .path = request->path,
        .body = strbuf_string(&request->body),
        .body_length = request->body.length,
        .id = request->id,
        .connection = request,
    };
    set_peer(&seen, request->peer);
    struct http_response response = {0};
    http_connection_limit(request->peer, 0);
    idle_limit(request->connection, 0);
    server->options.handler(server->options.handler_data, &seen, &response);
    idle_limit(request->connection, server->options.idle_seconds);
    leave_handler(server);
    strbuf_clear(&request->body);
    if (head && response.stream)
        drop_stream(&response);
    return reply(request, &response);
}

static enum MHD_Result begin(struct request *request)
{
    request->begun = true;
    name_request(request);
    if (request->peer->beyond_limit)
        return refuse(request, MHD_HTTP_SERVICE_UNAVAILABLE, EAGAIN, "too many connections; try again");
    return announces_too_much(request) ? refuse_large(request) : MHD_YES;
}

enum MHD_Result http_on_request(void *data, struct MHD_Connection *connection, const char *url,
                                const char *method, const char *version, const char *upload,
                                size_t *upload_size, void **state)
{
    struct request *request = *state;
    (void)data;
    (void)connection;
    (void)url;
    (void)version;
    if (!request->begun)
        return begin(request);
    if (*upload_size) {
        size_t length = *upload_size;
        *upload_size = 0;
        return take_body(request, upload, length);
    }
    return request->received > request->server->options.body_limit ? refuse_large(request)
                                                                   : serve(request, method);
}

/* Runs at the request line. Only here is the path seen as it was sent, before its
 * percent signs are decoded. */
void *http_on_line(void *data, const char *uri, struct MHD_Connection *connection)
{
    struct request *request = xcalloc(1, sizeof *request);
    request->server = data;
    request->connection = connection;
    request->peer = peer_of(connection);
    request->path = xstrndup(uri, strcspn(uri, "?"));
    if (request->peer->spoke)
        http_connection_limit(request->peer, request->server->options.request_seconds);
    request->peer->spoke = true;
    return request;
}

void http_on_completed(void *data, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode code)
{
    struct http_server *server = data;
    struct request *request = *state;
    (void)connection;
    (void)code;
    if (!request)
        return;
    if (request->counted) {
        scoped_lock(&server->mutex);
        server->replies--;
        pthread_cond_broadcast(&server->changed);
    }
    http_connection_limit(request->peer, server->options.keep_seconds);
    strbuf_clear(&request->body);
    free(request->path);
    free(request);
    *state = NULL;
}
