/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The HTTP server and the HTTP client against each other over a real unix socket, and raw bytes against the
 * server. */
#include "http_echo.h"

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
        TEST(listening),
    };
    return cmocka_run_group_tests(tests, NULL, remove_folder);
}
