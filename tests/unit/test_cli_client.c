/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What the command line does when the daemon goes away in the middle, answers nonsense, or cannot be written
 * to: raw sockets take the place of the server here, so that a connection can break at any byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "fake_daemon.h"

/* One connection after the other: reads a request and answers it with the next text; NULL breaks it off. */
struct breaker {
    int listener;
    const char *const *answers; /* ends with `end` */
    pthread_t thread;
    struct string_list requests;
};

static const char end[] = "end";
static const char ok_block[] =
    "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nConnection: close\r\n"
    "Content-Length: 2\r\n\r\n{}";

static void answer_one(struct breaker *breaker, int fd, const char *answer)
{
    char request[4096];
    size_t length = 0;
    const char *body;
    while (length < sizeof request - 1) {
        ssize_t got = read(fd, request + length, sizeof request - 1 - length);
        if (got <= 0)
            break;
        length += (size_t)got;
        request[length] = '\0';
        body = strstr(request, "\r\n\r\n");
        if (body && (!strstr(request, "Content-Length") || body[4]))
            break;
    }
    request[length] = '\0';
    string_list_add(&breaker->requests, request);
    if (answer && write(fd, answer, strlen(answer)) < 0)
        return;
}

static void *breaker_run(void *data)
{
    struct breaker *breaker = data;
    for (const char *const *answer = breaker->answers; *answer != end; answer++) {
        int fd = accept(breaker->listener, NULL, NULL);
        if (fd < 0)
            break;
        answer_one(breaker, fd, *answer);
        close(fd);
    }
    close(breaker->listener);
    unlink(fake.socket);
    return NULL;
}

static void breaker_start(struct breaker *breaker, const char *const *answers)
{
    *breaker = (struct breaker){.answers = answers};
    assert_int_equal(unix_listen(fake.socket, 0600, &breaker->listener, NULL), 0);
    assert_int_equal(fcntl(breaker->listener, F_SETFL, 0), 0); /* its thread waits in accept(2) */
    assert_int_equal(pthread_create(&breaker->thread, NULL, breaker_run, breaker), 0);
}

static void breaker_end(struct breaker *breaker)
{
    pthread_join(breaker->thread, NULL);
}

/* The value of the Idempotency-Key header. The caller's. */
static char *key_of(const char *request)
{
    const char *header = strstr(request, "Idempotency-Key: ");
    assert_non_null(header);
    header += strlen("Idempotency-Key: ");
    return xstrndup(header, strcspn(header, "\r"));
}

static int setup(void **state)
{
    (void)state;
    unsetenv("GB_CLI_TIMEOUT");
    strcpy(fake.folder, "/tmp/test-cli-XXXXXX");
    if (!mkdtemp(fake.folder))
        return -1;
    fake.socket = xasprintf("%s/s", fake.folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(fake.socket);
    rmdir(fake.folder);
    free(fake.socket);
    return 0;
}

/* ---- Retries ---- */

/* Broken before the answer, in the middle of it, and a daemon that stops in good order: the same request with
 * the same key comes again, and the user sees nothing of it. */
static void test_same_key_again(void **state)
{
    (void)state;
    static const char stopping[] = "HTTP/1.1 409 Conflict\r\nConnection: close\r\nContent-Length: 93\r\n\r\n"
                                   "{\"error\":{\"code\":\"cancelled\",\"message\":\"blockd is stopping; "
                                   ".\",\"details\":{\"errno\":125}}}   ";
    static const char *const answers[] = {NULL, "HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"na",
                                          stopping, ok_block, end};
    struct breaker breaker;
    breaker_start(&breaker, answers);
    struct run run autorun = run_cli("block delete v/b --no-wait");
    breaker_end(&breaker);
    assert_string_equal(run.err, "");
    assert_int_equal(run.status, 0);
    assert_int_equal(breaker.requests.count, 4);
    autofree char *first = key_of(breaker.requests.items[0]);
    for (size_t i = 1; i < 4; i++) {
        autofree char *other = key_of(breaker.requests.items[i]);
        assert_string_equal(other, first);
        assert_memory_equal(breaker.requests.items[i], breaker.requests.items[0], 40);
    }
    string_list_clear(&breaker.requests);
}

/* The daemon is away for a while between the break and its answer. */
static void *start_late(void *data)
{
    struct timespec pause = {.tv_nsec = 400000000};
    nanosleep(&pause, NULL);
    static const char *const answers[] = {ok_block, end};
    breaker_start(data, answers);
    return NULL;
}

static void test_daemon_restarts(void **state)
{
    (void)state;
    static const char *const answers[] = {NULL, end};
    struct breaker first, second;
    pthread_t starter;
    breaker_start(&first, answers);
    pthread_create(&starter, NULL, start_late, &second);
    struct run run autorun = run_cli("block delete v/b --no-wait");
    pthread_join(starter, NULL);
    breaker_end(&first);
    breaker_end(&second);
    assert_string_equal(run.err, "");
    assert_int_equal(run.status, 0);
    autofree char *key = key_of(first.requests.items[0]), *again = key_of(second.requests.items[0]);
    assert_string_equal(key, again);
    string_list_clear(&first.requests);
    string_list_clear(&second.requests);
}

/* It does not come back: the command ends when its time is over, and says that nobody answers. */
static void test_daemon_stays_away(void **state)
{
    (void)state;
    static const char *const answers[] = {NULL, end};
    struct breaker breaker;
    breaker_start(&breaker, answers);
    struct run run autorun = run_cli("timeout 1 create v/b n1 1G --json");
    breaker_end(&breaker);
    assert_int_equal(run.status, 255);
    assert_non_null(strstr(run.err, "\"errCode\": 255"));
    string_list_clear(&breaker.requests);
}

/* Without a daemon from the start there is nothing to wait for. */
static void test_nobody(void **state)
{
    (void)state;
    struct run run autorun = run_cli("delete v/b");
    assert_int_equal(run.status, 255);
    assert_non_null(strstr(run.err, "is blockd running?"));
}

/* ---- Nonsense ---- */

static void test_bad_answers(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{\"items\":",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: 5\r\n\r\nsorry",
        "HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: 12\r\n\r\n{\"error\":{}}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        const char *answers[] = {bodies[i], end};
        struct breaker breaker;
        breaker_start(&breaker, answers);
        struct run run autorun = run_cli("volume list");
        breaker_end(&breaker);
        assert_string_equal(run.out, "");
        assert_int_not_equal(run.status, 0);
        assert_int_equal(strncmp(run.err, "gluster-block: ", 15), 0);
        string_list_clear(&breaker.requests);
    }
}

/* Answers of the right form with members of the wrong type are shown without harm. */
static void test_odd_objects(void **state)
{
    (void)state;
    static const char *const objects[] = {
        "[]",
        "{\"items\":7}",
        "{\"items\":[1,null,{\"name\":[]},{\"name\":{},\"status\":3}]}",
        "null",
        "7",
        "{\"spec\":[],\"status\":{\"bricks\":[1]},\"name\":5}",
    };
    static const char *const commands[] = {"volume list", "volume info v", "list v",
                                           "info v/b",    "status",        "uri v/b"};
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++)
        for (size_t k = 0; k < sizeof commands / sizeof *commands; k++) {
            autofree char *answer =
                xasprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                          strlen(objects[i]), objects[i]);
            const char *answers[] = {answer, answer, answer, answer, answer, end};
            struct breaker breaker;
            breaker_start(&breaker, answers);
            struct run run autorun = run_cli(commands[k]);
            shutdown(breaker.listener, SHUT_RDWR);
            breaker_end(&breaker);
            assert_in_range(run.status, 0, 255);
            string_list_clear(&breaker.requests);
        }
}

/* ---- The process ---- */

/* Runs the built program with standard output on /dev/full, closed, or a pipe that nobody reads. */
static int run_program(const char *how)
{
    const char *build = getenv("BLOCKD_BUILD");
    autofree char *program = xasprintf("%s/bin/gluster-block", build ? build : "build");
    if (access(program, X_OK) != 0)
        skip();
    pid_t pid = fork();
    if (pid == 0) {
        int pipes[2];
        if (strcmp(how, "full") == 0) {
            FILE *full = freopen("/dev/full", "w", stdout);
            if (!full)
                _exit(99);
        } else if (strcmp(how, "closed") == 0) {
            close(STDOUT_FILENO);
        } else if (strcmp(how, "unread") == 0 && pipe(pipes) == 0) {
            close(pipes[0]);
            dup2(pipes[1], STDOUT_FILENO);
        } else if (!freopen("/dev/null", "w", stdout)) {
            _exit(97);
        }
        FILE *quiet = freopen("/dev/null", "w", stderr);
        if (quiet)
            execl(program, program, "help", NULL);
        _exit(98);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_output_that_fails(void **state)
{
    (void)state;
    assert_int_equal(run_program("full"), ENOSPC);
    assert_int_equal(run_program("closed"), EBADF);
    assert_int_equal(run_program("unread"), EPIPE);
    assert_int_equal(run_program("well"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_key_again),    cmocka_unit_test(test_daemon_restarts),
        cmocka_unit_test(test_daemon_stays_away), cmocka_unit_test(test_nobody),
        cmocka_unit_test(test_bad_answers),       cmocka_unit_test(test_odd_objects),
        cmocka_unit_test(test_output_that_fails),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
