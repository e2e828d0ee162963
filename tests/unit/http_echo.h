/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* An HTTP server whose handler shows what it was asked, and clients of it. Setup and
 * teardown of each test. */
#ifndef BLOCKD_TESTS_HTTP_ECHO_H
#define BLOCKD_TESTS_HTTP_ECHO_H

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>
#include <jansson.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/strings.h"
#include "rpc/http_client.h"
#include "rpc/http_server.h"

#define BODY_LIMIT  (256u << 10)
#define CONNECTIONS 60

static char folder[] = "/tmp/test-http-XXXXXX";
static char *path;
static struct http_server *server;

/* What the handler's streams and slow requests share with the tests. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int meeting; /* requests that wait at /meet */
static atomic_int streams_open, streams_freed, slow_running;

static int show_query(void *data, const char *name, const char *value)
{
    json_object_set_new(data, name, json_string(value));
    return 0;
}

static int stop_at_first(void *data, const char *name, const char *value)
{
    (void)data;
    (void)name;
    return atoi(value);
}

static ssize_t endless(void *data, char *buffer, size_t size)
{
    int *turn = data;
    (void)size;
    if (++*turn % 3 == 0) {
        struct timespec pause = {.tv_nsec = 20000000};
        nanosleep(&pause, NULL);
        return 0; /* nothing yet */
    }
    int length = sprintf(buffer, "{\"line\":%d}\n", *turn);
    return length;
}

static ssize_t silent(void *data, char *buffer, size_t size)
{
    (void)data;
    (void)buffer;
    (void)size;
    struct timespec pause = {.tv_nsec = 20000000};
    nanosleep(&pause, NULL);
    return 0;
}

static ssize_t ten_lines(void *data, char *buffer, size_t size)
{
    int *turn = data;
    (void)size;
    if (*turn == 10)
        return -1;
    return sprintf(buffer, "%d\n", (*turn)++);
}

static void free_turn(void *data)
{
    free(data);
    atomic_fetch_add(&streams_freed, 1);
    atomic_fetch_sub(&streams_open, 1);
}

static void start_stream(struct http_response *response, ssize_t (*stream)(void *, char *, size_t))
{
    atomic_fetch_add(&streams_open, 1);
    response->content_type = "application/x-ndjson";
    response->stream = stream;
    response->stream_free = free_turn;
    response->stream_data = xcalloc(1, sizeof(int));
}

/* Answers only when `count` requests are inside at once: shows that handlers run in parallel. */
static void meet(int count)
{
    scoped_lock(&mutex);
    meeting++;
    pthread_cond_broadcast(&changed);
    while (meeting < count)
        pthread_cond_wait(&changed, &mutex);
}

static void handle(void *data, const struct http_request *request, struct http_response *response)
{
    assert(data == &server);
    if (strcmp(request->path, "/endless") == 0) {
        start_stream(response, endless);
        return;
    }
    if (strcmp(request->path, "/silent") == 0) {
        start_stream(response, silent);
        return;
    }
    if (strcmp(request->path, "/ten") == 0) {
        start_stream(response, ten_lines);
        return;
    }
    if (strcmp(request->path, "/empty") == 0) {
        response->status = 204;
        return;
    }
    if (strcmp(request->path, "/method") == 0) {
        response->status = 405;
        response->allow = "GET, POST";
        return;
    }
    if (strcmp(request->path, "/meet") == 0)
        meet(50);
    if (strcmp(request->path, "/slow") == 0) {
        atomic_store(&slow_running, 1);
        struct timespec pause = {.tv_sec = 1, .tv_nsec = 300000000};
        nanosleep(&pause, NULL);
    }

    json_t *query = json_object();
    http_request_query(request, show_query, query);
    json_t *echo =
        json_pack("{s:s, s:s, s:s, s:I, s:o, s:s?, s:b, s:I, s:I, s:I, s:i}", "method", request->method,
                  "path", request->path, "body", request->body_length < 4096 ? request->body : "", "length",
                  (json_int_t)request->body_length, "query", query, "key",
                  http_request_header(request, "idempotency-key"), "known", request->peer_known, "uid",
                  (json_int_t)request->peer_uid, "gid", (json_int_t)request->peer_gid, "pid",
                  (json_int_t)request->peer_pid, "stop", http_request_query(request, stop_at_first, NULL));
    response->body = json_dumps(echo, JSON_COMPACT);
    response->body_length = strlen(response->body);
    json_decref(echo);
}

static void start(unsigned idle_seconds)
{
    int fd = -1;
    autoerror struct error *error = NULL;
    assert_int_equal(unix_listen(path, 0600, &fd, &error), 0);
    struct http_server_options options = {
        .listen_fd = fd,
        .connection_limit = CONNECTIONS,
        .body_limit = BODY_LIMIT,
        .idle_seconds = idle_seconds,
        .handler = handle,
        .handler_data = &server,
    };
    assert_int_equal(http_server_start(&options, &server, &error), 0);
}

static int set_up(void **state)
{
    (void)state;
    if (!path) {
        assert_non_null(mkdtemp(folder));
        path = xasprintf("%s/socket", folder);
    }
    start(1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_server_stop(server);
    server = NULL;
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    free(path);
    return rmdir(folder);
}

static inline struct http_client *client_new(void)
{
    struct http_client *client = NULL;
    assert_int_equal(http_client_new(path, &client, NULL), 0);
    return client;
}

static inline json_t *call(struct http_client *client, const struct http_call *what, unsigned expected)
{
    autostrbuf struct strbuf body = {0};
    autoerror struct error *error = NULL;
    unsigned status = 0;
    int r = http_client_call(client, what, &status, &body, &error);
    if (r < 0)
        fail_msg("%s %s: %s", what->method, what->path, error_message(error));
    assert_int_equal(status, expected);
    return json_loads(strbuf_string(&body), 0, NULL);
}

static inline const char *text_of(json_t *json, const char *name)
{
    return json_string_value(json_object_get(json, name));
}

/* ---- Raw bytes ---- */

static int raw_connect(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void raw_send(int fd, const char *text, size_t length)
{
    while (length) {
        ssize_t sent = send(fd, text, length, MSG_NOSIGNAL);
        if (sent < 0)
            return; /* the server hung up: what it said before is still there to be read */
        text += sent;
        length -= (size_t)sent;
    }
}

/* Everything until the server closes. */
static inline char *raw_receive(int fd)
{
    struct strbuf text = {0};
    char chunk[4096];
    ssize_t got;
    while ((got = recv(fd, chunk, sizeof chunk, 0)) > 0)
        strbuf_add(&text, chunk, (size_t)got);
    return strbuf_steal(&text);
}

static inline char *raw_exchange(const char *text)
{
    autoclose int fd = raw_connect();
    raw_send(fd, text, strlen(text));
    return raw_receive(fd);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

#endif
