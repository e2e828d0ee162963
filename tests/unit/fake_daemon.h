/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A blockd that answers from a script, for tests of the command line as an ordinary user: the program's own
 * code runs in the test's process against it, over a real socket. The real daemon is in tests/cluster.
 */
#ifndef BLOCKD_TESTS_FAKE_DAEMON_H
#define BLOCKD_TESTS_FAKE_DAEMON_H

#include <pthread.h>
#include <string.h>

#include "cli/cli.h"
#include "rpc/base/alloc.h"
#include "rpc/http_server.h"

#define FAKE_ANSWERS 32

struct fake_answer {
    const char *method, *path;
    unsigned status;
    const char *body;
    unsigned times; /* how often it is given before the next of the same method and path; 0: always */
};

static struct fake_daemon {
    char folder[32];
    char *socket;
    struct http_server *server;
    pthread_mutex_t mutex; /* guards what follows */
    struct fake_answer answers[FAKE_ANSWERS];
    size_t count;
    struct strbuf seen;      /* "METHOD /path?query BODY\n" a call, in their order; GETs too */
    struct string_list keys; /* Idempotency-Keys of the calls that had one */
} fake = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static inline int fake_note_query(void *data, const char *name, const char *value)
{
    struct strbuf *text = data;
    strbuf_addf(text, "%s%s=%s", strchr(strbuf_string(text), '?') ? "&" : "?", name, value);
    return 0;
}

static inline struct fake_answer *fake_find(const char *method, const char *path)
{
    for (size_t i = 0; i < fake.count; i++)
        if (strcmp(fake.answers[i].method, method) == 0 && strcmp(fake.answers[i].path, path) == 0)
            return &fake.answers[i];
    return NULL;
}

static inline void fake_handle(void *data, const struct http_request *request, struct http_response *response)
{
    (void)data;
    autostrbuf struct strbuf line = {0};
    strbuf_addf(&line, "%s %s", request->method, request->path);
    http_request_query(request, fake_note_query, &line);
    const char *key = http_request_header(request, "Idempotency-Key");

    scoped_lock(&fake.mutex);
    if (key)
        string_list_add(&fake.keys, key);
    strbuf_addf(&fake.seen, "%s%s%s\n", strbuf_string(&line), request->body_length ? " " : "", request->body);
    struct fake_answer *answer = fake_find(request->method, request->path);
    if (answer) {
        response->status = answer->status;
        response->body = xstrdup(answer->body);
        if (answer->times && --answer->times == 0)
            answer->method = "";
    } else {
        response->status = 404;
        response->body = xasprintf("{\"error\":{\"code\":\"not_found\",\"message\":\"nothing at %s\","
                                   "\"details\":{\"errno\":2}}}",
                                   request->path);
    }
    response->body_length = strlen(response->body);
}

/* ---- For the tests ---- */

static inline void fake_start(void)
{
    strcpy(fake.folder, "/tmp/test-cli-XXXXXX");
    if (!mkdtemp(fake.folder))
        abort();
    fake.socket = xasprintf("%s/s", fake.folder);
    struct http_server_options options = {
        .connection_limit = 16, .body_limit = 65536, .idle_seconds = 60, .handler = fake_handle};
    if (unix_listen(fake.socket, 0600, &options.listen_fd, NULL) < 0 ||
        http_server_start(&options, &fake.server, NULL) < 0)
        abort();
}

static inline void fake_stop(void)
{
    http_server_stop(fake.server);
    unlink(fake.socket);
    rmdir(fake.folder);
    free(fake.socket);
    strbuf_clear(&fake.seen);
    string_list_clear(&fake.keys);
}

/* Forgets all answers and all that was seen. */
static inline void fake_reset(void)
{
    scoped_lock(&fake.mutex);
    fake.count = 0;
    strbuf_clear(&fake.seen);
    string_list_clear(&fake.keys);
}

static inline void fake_answer_times(const char *method, const char *path, unsigned status, const char *body,
                                     unsigned times)
{
    scoped_lock(&fake.mutex);
    if (fake.count == FAKE_ANSWERS)
        abort();
    fake.answers[fake.count++] = (struct fake_answer){method, path, status, body, times};
}

static inline void fake_answer(const char *method, const char *path, unsigned status, const char *body)
{
    fake_answer_times(method, path, status, body, 0);
}

/* What a run of the program printed, and its exit status. */
struct run {
    int status;
    char *out, *err;
};

static inline void run_clear(struct run *run)
{
    free(run->out);
    free(run->err);
    *run = (struct run){0};
}

/* Runs `gluster-block WORDS`, split at blanks, against the fake daemon or the socket that the words name. */
static inline struct run run_cli_on(const char *words, bool terminal)
{
    struct run run = {0};
    size_t out_size, err_size;
    struct cli cli = {.socket_option = fake.socket,
                      .terminal = terminal,
                      .out = open_memstream(&run.out, &out_size),
                      .err = open_memstream(&run.err, &err_size)};
    autostring_list struct string_list list = {0};
    string_list_split(&list, words, ' ');
    char **argv cleanup(cleanup_free) = xcalloc(list.count + 2, sizeof *argv);
    char program[] = "gluster-block";
    argv[0] = program;
    if (list.count)
        memcpy(argv + 1, list.items, list.count * sizeof *argv);
    run.status = cli_run(&cli, (int)list.count + 1, argv);
    cli_clear(&cli);
    fclose(cli.out);
    fclose(cli.err);
    return run;
}

static inline struct run run_cli(const char *words)
{
    return run_cli_on(words, false);
}

#define autorun cleanup(run_clear)

/* All calls since the last reset. The caller's. */
static inline char *fake_seen(void)
{
    scoped_lock(&fake.mutex);
    return xstrdup(strbuf_string(&fake.seen));
}

/* An object as the API gives it. */
#define FAKE_VOLUME                                                                                          \
    "{\"name\":\"v\",\"uid\":\"u-v\",\"generation\":1,\"spec\":{\"template\":\"replica3\",\"state\":"        \
    "\"started\",\"overcommit\":1.0,\"bricks\":[]},\"status\":{\"phase\":\"online\",\"size\":1073741824,"    \
    "\"free\":1073741824,\"provisioned\":0,\"blocks\":0,\"heal_pending\":0,\"bricks\":[],"                   \
    "\"observed_generation\":1}}"
#define FAKE_BLOCK_AS(phase, more)                                                                           \
    "{\"name\":\"v/b\",\"uid\":\"gbid-1\",\"revision\":7,\"generation\":1,\"created\":"                      \
    "\"2026-01-01T00:00:00.000Z\",\"spec\":{\"size\":1073741824,\"block_size\":512,\"prealloc\":\"no\","     \
    "\"storage\":\"/block-store/gbid-1\"},\"status\":{\"phase\":\"" phase                                    \
    "\",\"size\":1073741824,\"observed_generation\":1" more "}}"
#define FAKE_BLOCK FAKE_BLOCK_AS("ready", "")
#define FAKE_EXPORT_AS(node, phase, uri)                                                                     \
    "{\"name\":\"" node "/v/b\",\"uid\":\"u-e\",\"revision\":8,\"generation\":1,\"spec\":{\"protocol\":"     \
    "\"nbd\",\"read_only\":false},\"status\":{\"phase\":\"" phase "\",\"uri\":\"" uri                        \
    "\",\"observed_generation\":1}}"
#define FAKE_EXPORT FAKE_EXPORT_AS("n1", "live", "nbd://127.0.0.1:10809/v/b")
#define FAKE_OTHER_EXPORT                                                                                    \
    "{\"name\":\"n1/v/other\",\"spec\":{},\"status\":{\"phase\":\"live\",\"uri\":\"nbd://h:1/v/other\"}}"
#define FAKE_NODES                                                                                           \
    "{\"items\":[{\"name\":\"n1\",\"spec\":{\"state\":\"enabled\",\"addresses\":[\"127.0.0.1\"]}},"          \
    "{\"name\":\"n2\",\"spec\":{\"state\":\"enabled\",\"addresses\":[\"::1\"]}}],\"revision\":9}"
#define FAKE_LIST(items) "{\"items\":[" items "],\"revision\":9}"
#define FAKE_STATUS                                                                                          \
    "{\"node\":\"n1\",\"version\":\"0\",\"phase\":\"ok\",\"nodes\":1,\"devices\":3,\"volumes\":1,"           \
    "\"blocks\":1,\"exports\":1,\"jobs_running\":0,\"problems\":[]}"
#define FAKE_ERROR(number, code, message)                                                                    \
    "{\"error\":{\"code\":\"" code "\",\"message\":\"" message "\",\"details\":{\"errno\":" #number "}}}"

#endif
