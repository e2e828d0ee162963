/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The HTTP server and the HTTP client against each other over a real unix socket, and raw bytes against the
 * server. */
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

static struct http_client *client_new(void)
{
    struct http_client *client = NULL;
    assert_int_equal(http_client_new(path, &client, NULL), 0);
    return client;
}

static json_t *call(struct http_client *client, const struct http_call *what, unsigned expected)
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

static const char *text_of(json_t *json, const char *name)
{
    return json_string_value(json_object_get(json, name));
}

static void methods_paths_and_queries(void **state)
{
    (void)state;
    cleanup(cleanup_http_client) struct http_client *client = client_new();
    static const char *const methods[] = {"GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        json_t *echo = call(client,
                            &(struct http_call){.method = methods[i],
                                                .path = "/a%2Fb/../c?x=1%202&y&z=",
                                                .idempotency_key = "k-1",
                                                .timeout_ms = 20000},
                            200);
        assert_string_equal(text_of(echo, "method"), methods[i]);
        assert_string_equal(text_of(echo, "path"), "/a%2Fb/../c");
        assert_string_equal(text_of(echo, "body"), "");
        assert_string_equal(text_of(echo, "key"), "k-1");
        json_t *query = json_object_get(echo, "query");
        assert_int_equal(json_object_size(query), 3);
        assert_string_equal(text_of(query, "x"), "1 2");
        assert_string_equal(text_of(query, "y"), "");
        json_decref(echo);
    }
    json_t *echo =
        call(client, &(struct http_call){.method = "GET", .path = "/?a=0&b=7&c=9", .timeout_ms = 20000}, 200);
    assert_int_equal(json_integer_value(json_object_get(echo, "stop")), 7);
    json_decref(echo);
    assert_null(call(client, &(struct http_call){.method = "HEAD", .path = "/x", .timeout_ms = 20000}, 200));
    assert_null(
        call(client, &(struct http_call){.method = "HEAD", .path = "/endless", .timeout_ms = 20000}, 200));
    assert_null(
        call(client, &(struct http_call){.method = "GET", .path = "/empty", .timeout_ms = 20000}, 204));
    assert_null(
        call(client, &(struct http_call){.method = "POST", .path = "/method", .timeout_ms = 20000}, 405));
}

static void bad_calls_are_refused_before_they_are_sent(void **state)
{
    (void)state;
    cleanup(cleanup_http_client) struct http_client *client = client_new();
    autoerror struct error *error = NULL;
    assert_int_equal(
        http_client_call(client, &(struct http_call){.method = "GET", .path = "/a b"}, NULL, NULL, &error),
        -EINVAL);
    assert_int_equal(http_client_call(client, &(struct http_call){.method = "GET", .path = "/a\r\nX: y"},
                                      NULL, NULL, &error),
                     -EINVAL);
    assert_int_equal(
        http_client_call(client, &(struct http_call){.method = "GET", .path = "/", .idempotency_key = "a\nb"},
                         NULL, NULL, &error),
        -EINVAL);
    autofree char *escaped = http_escape("a/b c%\xff.~");
    assert_string_equal(escaped, "a%2Fb%20c%25%FF.~");
}

static void peer_credentials(void **state)
{
    (void)state;
    cleanup(cleanup_http_client) struct http_client *client = client_new();
    json_t *echo = call(client, &(struct http_call){.method = "GET", .path = "/", .timeout_ms = 20000}, 200);
    assert_true(json_is_true(json_object_get(echo, "known")));
    assert_int_equal(json_integer_value(json_object_get(echo, "uid")), geteuid());
    assert_int_equal(json_integer_value(json_object_get(echo, "gid")), getegid());
    assert_int_equal(json_integer_value(json_object_get(echo, "pid")), getpid());
    json_decref(echo);
}

static void bodies_up_to_the_limit(void **state)
{
    (void)state;
    cleanup(cleanup_http_client) struct http_client *client = client_new();
    autofree char *body = xcalloc(BODY_LIMIT + (4u << 20) + 1, 1);
    static const size_t sizes[] = {1,
                                   1000,
                                   BODY_LIMIT - 1,
                                   BODY_LIMIT,
                                   BODY_LIMIT + 1,
                                   2,
                                   BODY_LIMIT + (1u << 20),
                                   BODY_LIMIT + (4u << 20),
                                   3};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memset(body, 'x', sizes[i]);
        body[sizes[i]] = '\0';
        bool fits = sizes[i] <= BODY_LIMIT;
        json_t *echo = call(
            client, &(struct http_call){.method = "POST", .path = "/", .body = body, .timeout_ms = 20000},
            fits ? 200 : 413);
        if (fits)
            assert_int_equal(json_integer_value(json_object_get(echo, "length")), sizes[i]);
        else
            assert_string_equal(text_of(json_object_get(echo, "error"), "code"), "out_of_range");
        json_decref(echo);
    }
}

#define FDS 256

static bool is_of_the_server(int fd)
{
    struct sockaddr_un name = {0}, peer = {0};
    socklen_t length = sizeof name - 1;
    if (getsockname(fd, (struct sockaddr *)&name, &length) < 0)
        return false;
    length = sizeof peer - 1;
    if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0)
        peer.sun_path[0] = '\0';
    return string_starts_with(name.sun_path, path) || string_starts_with(peer.sun_path, path);
}

static void sockets_close_on_exec(void **state)
{
    (void)state;
    cleanup(cleanup_http_client) struct http_client *client = client_new();
    json_decref(call(client, &(struct http_call){.method = "GET", .path = "/", .timeout_ms = 20000}, 200));
    int found = 0;
    for (int fd = 0; fd < FDS; fd++) {
        if (!is_of_the_server(fd))
            continue;
        found++;
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
    assert_int_equal(found, 3); /* the listener, and both ends of the connection */
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
static char *raw_receive(int fd)
{
    struct strbuf text = {0};
    char chunk[4096];
    ssize_t got;
    while ((got = recv(fd, chunk, sizeof chunk, 0)) > 0)
        strbuf_add(&text, chunk, (size_t)got);
    return strbuf_steal(&text);
}

static char *raw_exchange(const char *text)
{
    autoclose int fd = raw_connect();
    raw_send(fd, text, strlen(text));
    return raw_receive(fd);
}

static void chunked_bodies(void **state)
{
    (void)state;
    autofree char *reply =
        raw_exchange("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");
    assert_non_null(strstr(reply, "200 OK"));
    assert_non_null(strstr(reply, "\"body\":\"abcdefg\""));

    /* A little too much gets its answer, an endless one is cut off. */
    autofree char *kilobytes = xcalloc(1, 1024 + 16);
    strcpy(kilobytes, "400\r\n");
    memset(kilobytes + 5, 'x', 1024);
    strcpy(kilobytes + 5 + 1024, "\r\n");
    for (int endless_body = 0; endless_body < 2; endless_body++) {
        autoclose int fd = raw_connect();
        const char *head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        raw_send(fd, head, strlen(head));
        size_t count = BODY_LIMIT / 1024 + 1 + (endless_body ? 4096 : 0);
        for (size_t i = 0; i < count; i++)
            raw_send(fd, kilobytes, strlen(kilobytes));
        raw_send(fd, "0\r\n\r\n", 5);
        autofree char *answer = raw_receive(fd);
        if (endless_body)
            assert_string_equal(answer, "");
        else
            assert_non_null(strstr(answer, " 413 "));
    }
}

static void a_head_reply_has_no_body(void **state)
{
    (void)state;
    static const char *const paths[] = {"/x", "/endless", "/empty"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        autofree char *text = xasprintf("HEAD %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", paths[i]);
        autofree char *reply = raw_exchange(text);
        const char *end = strstr(reply, "\r\n\r\n");
        assert_non_null(end);
        assert_string_equal(end, "\r\n\r\n");
    }
}

static void malformed_requests(void **state)
{
    (void)state;
    autofree char *no_host = raw_exchange("GET / HTTP/1.1\r\n\r\n");
    assert_non_null(strstr(no_host, " 400 "));
    autofree char *bad_length = raw_exchange("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n");
    assert_non_null(strstr(bad_length, " 400 "));
    autofree char *nul = raw_exchange("GET /?a=b%00c HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_non_null(strstr(nul, " 400 "));
    assert_non_null(strstr(nul, "invalid_argument"));
    autofree char *huge = raw_exchange("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
    assert_non_null(strstr(huge, " 413 "));
    autofree char *allow = raw_exchange("BREW /method HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_non_null(strstr(allow, " 405 "));
    assert_non_null(strstr(allow, "Allow: GET, POST"));

    autostrbuf struct strbuf long_header = {0};
    strbuf_adds(&long_header, "GET / HTTP/1.1\r\nHost: x\r\nX: ");
    for (int i = 0; i < 64 * 1024; i++)
        strbuf_adds(&long_header, "y");
    strbuf_adds(&long_header, "\r\n\r\n");
    autofree char *too_long = raw_exchange(long_header.data);
    assert_non_null(strstr(too_long, " 431 "));
}

static void idle_and_half_requests_are_closed(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "GET / HTT",
                                        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"};
    int fds[3];
    for (size_t i = 0; i < 3; i++) {
        fds[i] = raw_connect();
        raw_send(fds[i], texts[i], strlen(texts[i]));
    }
    for (size_t i = 0; i < 3; i++) {
        autofree char *answer = raw_receive(fds[i]);
        assert_null(strstr(answer, " 200 "));
        close(fds[i]);
    }
}

/* ---- Streams ---- */

static int count_lines(void *data, const char *bytes, size_t length)
{
    int *left = data;
    for (size_t i = 0; i < length; i++)
        if (bytes[i] == '\n' && --*left == 0)
            return 1;
    return 0;
}

static int gather(void *data, const char *bytes, size_t length)
{
    strbuf_add(data, bytes, length);
    return 0;
}

static void eventually(atomic_int *value, int expected)
{
    int64_t deadline = clock_monotonic_ms() + 20000;
    while (atomic_load(value) != expected) {
        assert_true(clock_monotonic_ms() < deadline);
        struct timespec pause = {.tv_nsec = 5000000};
        nanosleep(&pause, NULL);
    }
}

static void streaming(void **state)
{
    (void)state;
    cleanup(cleanup_http_client) struct http_client *client = client_new();
    autostrbuf struct strbuf text = {0};
    unsigned status = 0;
    struct http_call ten = {
        .method = "GET", .path = "/ten", .chunk = gather, .chunk_data = &text, .timeout_ms = 20000};
    assert_int_equal(http_client_call(client, &ten, &status, NULL, NULL), 0);
    assert_int_equal(status, 200);
    assert_string_equal(strbuf_string(&text), "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");

    /* The client ends it; longer than the idle time, which the stream's own pauses must not trip. */
    int left = 120;
    struct http_call endless_call = {
        .method = "GET", .path = "/endless", .chunk = count_lines, .chunk_data = &left};
    assert_int_equal(http_client_call(client, &endless_call, &status, NULL, NULL), 0);
    assert_int_equal(status, 200);
    eventually(&streams_open, 0);

    /* A client that leaves a stream on which nothing happens is noticed, too. */
    autoerror struct error *error = NULL;
    struct http_call silent_call = {
        .method = "GET", .path = "/silent", .chunk = gather, .chunk_data = &text, .timeout_ms = 1500};
    assert_int_equal(http_client_call(client, &silent_call, &status, NULL, &error), -ETIMEDOUT);
    eventually(&streams_open, 0);
}

static void slow_handlers_outlive_the_idle_time(void **state)
{
    (void)state;
    cleanup(cleanup_http_client) struct http_client *client = client_new();
    json_decref(
        call(client, &(struct http_call){.method = "GET", .path = "/slow", .timeout_ms = 20000}, 200));
    /* The connection is kept, or made again when the server closed it as idle. */
    struct timespec pause = {.tv_sec = 1, .tv_nsec = 500000000};
    nanosleep(&pause, NULL);
    json_decref(call(client, &(struct http_call){.method = "GET", .path = "/", .timeout_ms = 20000}, 200));
}

/* ---- Many, and the end ---- */

static void *one_call(void *data)
{
    struct http_call *what = data;
    struct http_client *client = NULL;
    unsigned status = 0;
    if (http_client_new(path, &client, NULL) == 0)
        http_client_call(client, what, &status, NULL, NULL);
    http_client_free(client);
    return (void *)(uintptr_t)status;
}

static void fifty_at_once(void **state)
{
    (void)state;
    pthread_t threads[50];
    meeting = 0;
    struct http_call what = {.method = "GET", .path = "/meet", .timeout_ms = 60000};
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, one_call, &what), 0);
    for (size_t i = 0; i < 50; i++) {
        void *status;
        pthread_join(threads[i], &status);
        assert_int_equal((uintptr_t)status, 200);
    }
}

static void connections_beyond_the_limit_are_told(void **state)
{
    (void)state;
    http_server_stop(server);
    start(60);
    int fds[CONNECTIONS];
    for (size_t i = 0; i < CONNECTIONS; i++)
        fds[i] = raw_connect();
    {
        cleanup(cleanup_http_client) struct http_client *client = client_new();
        json_t *answer =
            call(client, &(struct http_call){.method = "GET", .path = "/", .timeout_ms = 20000}, 503);
        assert_string_equal(text_of(json_object_get(answer, "error"), "code"), "unavailable");
        json_decref(answer);
    }
    for (size_t i = 0; i < CONNECTIONS; i++)
        close(fds[i]);
    unsigned status = 503;
    for (int64_t deadline = clock_monotonic_ms() + 20000; status == 503 && clock_monotonic_ms() < deadline;)
        status = (unsigned)(uintptr_t)one_call(
            &(struct http_call){.method = "GET", .path = "/", .timeout_ms = 20000});
    assert_int_equal(status, 200);
}

static void *stream_call(void *data)
{
    struct http_client *client = client_new();
    unsigned status = 0;
    struct http_call what = {
        .method = "GET", .path = "/endless", .chunk = gather, .chunk_data = data, .timeout_ms = 60000};
    int r = http_client_call(client, &what, &status, NULL, NULL);
    http_client_free(client);
    return (void *)(intptr_t)r;
}

static void stop_ends_streams_and_waits_for_handlers(void **state)
{
    (void)state;
    autostrbuf struct strbuf text = {0};
    pthread_t stream, slow;
    struct http_call slow_call = {.method = "GET", .path = "/slow", .timeout_ms = 60000};
    autoclose int idle = raw_connect();
    atomic_store(&slow_running, 0);
    assert_int_equal(pthread_create(&stream, NULL, stream_call, &text), 0);
    assert_int_equal(pthread_create(&slow, NULL, one_call, &slow_call), 0);
    eventually(&slow_running, 1);
    eventually(&streams_open, 1);
    http_server_stop(server);
    server = NULL;
    assert_int_equal(atomic_load(&streams_open), 0);

    void *result;
    pthread_join(stream, &result);
    assert_int_equal((intptr_t)result, 0); /* a clean end of the body, not a cut */
    pthread_join(slow, &result);
    assert_int_equal((uintptr_t)result, 200);
    autofree char *rest = raw_receive(idle);
    assert_string_equal(rest, "");

    cleanup(cleanup_http_client) struct http_client *client = client_new();
    autoerror struct error *error = NULL;
    struct http_call get = {.method = "GET", .path = "/", .timeout_ms = 1000};
    assert_int_equal(http_client_call(client, &get, NULL, NULL, &error), -ECONNREFUSED);
    assert_non_null(strstr(error_message(error), "is blockd running?"));
}

static void listening(void **state)
{
    (void)state;
    autoerror struct error *error = NULL;
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    int fd = -1;
    assert_int_equal(unix_listen(path, 0600, &fd, &error), -EADDRINUSE);
    assert_int_equal(fd, -1);
    http_server_stop(server); /* leaves the socket's name behind, as a kill would */
    start(1);

    autofree char *file = xasprintf("%s/file", folder);
    FILE *made = fopen(file, "w");
    assert_non_null(made);
    fclose(made);
    assert_int_equal(unix_listen(file, 0600, &fd, &error), -EEXIST);
    unlink(file);
    autofree char *lost = xasprintf("%s/lost/socket", folder);
    assert_int_equal(unix_listen(lost, 0600, &fd, &error), -ENOENT);
    autofree char *deep = xasprintf("%s/%0120d", folder, 0);
    assert_int_equal(unix_listen(deep, 0600, &fd, &error), -ENAMETOOLONG);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(methods_paths_and_queries),
        TEST(bad_calls_are_refused_before_they_are_sent),
        TEST(peer_credentials),
        TEST(sockets_close_on_exec),
        TEST(bodies_up_to_the_limit),
        TEST(chunked_bodies),
        TEST(a_head_reply_has_no_body),
        TEST(malformed_requests),
        TEST(idle_and_half_requests_are_closed),
        TEST(streaming),
        TEST(slow_handlers_outlive_the_idle_time),
        TEST(fifty_at_once),
        TEST(connections_beyond_the_limit_are_told),
        TEST(stop_ends_streams_and_waits_for_handlers),
        TEST(listening),
    };
    return cmocka_run_group_tests(tests, NULL, remove_folder);
}
