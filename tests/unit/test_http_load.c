/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The HTTP server with much to do: streams, slow handlers, many clients, and its end under load. */
#include "http_echo.h"

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
    int64_t deadline = clock_monotonic_ms() + 60000;
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
    for (int64_t deadline = clock_monotonic_ms() + 60000; status == 503 && clock_monotonic_ms() < deadline;)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(streaming),
        TEST(slow_handlers_outlive_the_idle_time),
        TEST(fifty_at_once),
        TEST(connections_beyond_the_limit_are_told),
        TEST(stop_ends_streams_and_waits_for_handlers),
    };
    return cmocka_run_group_tests(tests, NULL, remove_folder);
}
