/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/uuid.h"

#define WAIT_LIMIT      3600 /* of ?wait= */
#define ANSWER_SECONDS  30   /* to answer beside the time that it was asked to wait */
#define HURRY_MS        1000
#define READ_PATIENCE   15         /* seconds to repeat a broken call that only reads */
#define LINE_LIMIT      (4u << 20) /* of one change in a stream */
#define RETRY_PAUSE_MS  50
#define RETRY_PAUSE_MAX 1000

/* ---- The connection ---- */

static int connect_once(struct cli *cli, struct error **ret_error)
{
    if (cli->client)
        return 0;
    int r = cli_connect(cli, ret_error);
    if (r < 0)
        cli->no_answer = true;
    return r;
}

void cli_clear(struct cli *cli)
{
    http_client_free(cli->client);
    free(cli->socket_path);
    free(cli->note);
    cli->client = NULL;
    cli->socket_path = NULL;
    cli->note = NULL;
}

int client_exit_status(const struct cli *cli, int result)
{
    if (result >= 0)
        return 0;
    return cli->no_answer || result < -254 ? STATUS_NO_ANSWER : -result;
}

/* ---- One call ---- */

static int decode_reply(struct cli *cli, const char *path, unsigned status, const char *text, size_t length,
                        json_t **ret_reply, struct error **ret_error)
{
    json_error_t problem;
    json_t *reply = json_loadb(text, length, JSON_DECODE_ANY, &problem);
    int r = 0;
    if (status >= 400) {
        r = api_error_decode(reply, status, ret_error);
    } else if (!reply) {
        cli->no_answer = true;
        r = error_set(ret_error, EBADMSG, "blockd's answer to %s is no JSON: %s", path, problem.text);
    }
    if (r < 0 || !ret_reply)
        json_decref(reply);
    else
        *ret_reply = reply;
    return r;
}

static int call_once(struct cli *cli, const struct http_call *call, json_t **ret_reply,
                     struct error **ret_error)
{
    int r = connect_once(cli, ret_error);
    if (r < 0)
        return r;
    unsigned status = 0;
    autostrbuf struct strbuf body = {0};
    r = http_client_call(cli->client, call, &status, &body, ret_error);
    cli->no_answer = r < 0;
    if (r < 0)
        return r;
    cli->met = true;
    return decode_reply(cli, call->path, status, strbuf_string(&body), body.length, ret_reply, ret_error);
}

/*
 * Did the daemon go while it was asked? The connection breaks, or a daemon that stops in good order answers
 * "cancelled" to those who wait. It may be restarting, and the call may be made again.
 */
static bool broke(const struct cli *cli, int result)
{
    return cli->no_answer ? result == -EIO : result == -ECANCELED;
}

static bool nobody_listens(const struct cli *cli, int result)
{
    return cli->no_answer && result == -ECONNREFUSED;
}

static void forget_error(struct error **error)
{
    if (error) {
        error_free(*error);
        *error = NULL;
    }
}

/* The call, and again while the daemon restarts: from its first break on, until
 * `patience` seconds are over. */
static int call_patiently(struct cli *cli, const struct http_call *call, unsigned patience,
                          json_t **ret_reply, struct error **ret_error)
{
    int64_t deadline = deadline_after(patience);
    int pause = RETRY_PAUSE_MS;
    int r = call_once(cli, call, ret_reply, ret_error);
    bool broken = broke(cli, r) || (cli->met && nobody_listens(cli, r));
    while (broken && (broke(cli, r) || nobody_listens(cli, r)) && clock_monotonic_ms() < deadline) {
        poll(NULL, 0, pause);
        pause = pause * 2 < RETRY_PAUSE_MAX ? pause * 2 : RETRY_PAUSE_MAX;
        forget_error(ret_error);
        r = call_once(cli, call, ret_reply, ret_error);
    }
    return r;
}

/* A user who waits for a few seconds in all does not wait longer for one answer. */
static unsigned answer_seconds(const struct cli *cli)
{
    return cli->timeout && cli->timeout < ANSWER_SECONDS ? cli->timeout : ANSWER_SECONDS;
}

int client_get(struct cli *cli, const char *path, json_t **ret_reply, struct error **ret_error)
{
    struct http_call call = {
        .method = "GET", .path = path, .timeout_ms = cli->hurry ? HURRY_MS : (int)answer_seconds(cli) * 1000};
    unsigned patience = cli->timeout < READ_PATIENCE ? cli->timeout : READ_PATIENCE;
    return call_patiently(cli, &call, patience, ret_reply, ret_error);
}

int client_change(struct cli *cli, const struct client_change *change, json_t **ret_reply,
                  struct error **ret_error)
{
    autofree char *key = uuid_make();
    autofree char *body = change->body ? json_dumps(change->body, JSON_COMPACT) : NULL;
    unsigned wait = change->wait < WAIT_LIMIT ? change->wait : WAIT_LIMIT;
    autofree char *path =
        change->at_once ? xstrdup(change->path)
                        : xasprintf("%s%cwait=%u", change->path, strchr(change->path, '?') ? '&' : '?', wait);
    struct http_call call = {.method = change->method,
                             .path = path,
                             .body = body,
                             .idempotency_key = key,
                             .timeout_ms = (int)(wait + answer_seconds(cli)) * 1000};
    interrupt_says("the change may go on in blockd");
    int r = call_patiently(cli, &call, change->patience, ret_reply, ret_error);
    interrupt_says(NULL);
    if (r == -ETIMEDOUT && cli->no_answer)
        error_set(ret_error, ETIMEDOUT, "blockd has not answered within %u s; the change may go on there",
                  wait + answer_seconds(cli));
    return r;
}

int client_this_node(struct cli *cli, char **ret_node, struct error **ret_error)
{
    json_t *status cleanup(json_decrefp) = NULL;
    int r = client_get(cli, "/v1/status", &status, ret_error);
    if (r < 0)
        return r;
    const char *node = json_text(status, "node");
    if (!*node)
        return error_set(ret_error, EIO, "blockd does not say which node it is");
    *ret_node = xstrdup(node);
    return 0;
}

/* ---- Streams ---- */

struct stream {
    client_visit visit;
    void *data;
    struct strbuf line; /* what has come of the present line */
    bool ended;         /* visit() wants no more */
    bool too_long;
};

static void take_line(struct stream *stream)
{
    json_t *change cleanup(json_decrefp) =
        json_loadb(strbuf_string(&stream->line), stream->line.length, 0, NULL);
    /* A line that is no change is an error's body, which the caller looks at, or a sign of life. */
    if (!json_object_get(change, "type") || !json_object_get(change, "key"))
        return;
    if (stream->visit(stream->data, change) != 0)
        stream->ended = true;
}

static int take_chunk(void *data, const char *bytes, size_t length)
{
    struct stream *stream = data;
    while (length > 0 && !stream->ended) {
        const char *end = memchr(bytes, '\n', length);
        size_t part = end ? (size_t)(end - bytes) : length;
        strbuf_add(&stream->line, bytes, part);
        if (stream->line.length > LINE_LIMIT) {
            stream->too_long = true;
            return 1;
        }
        if (!end)
            return 0;
        take_line(stream);
        strbuf_clear(&stream->line);
        bytes += part + 1;
        length -= part + 1;
    }
    return stream->ended;
}

int client_watch(struct cli *cli, const char *path, int timeout_ms, client_visit visit, void *data,
                 struct error **ret_error)
{
    int r = connect_once(cli, ret_error);
    if (r < 0)
        return r;
    struct stream stream = {.visit = visit, .data = data};
    struct http_call call = {
        .method = "GET", .path = path, .timeout_ms = timeout_ms, .chunk = take_chunk, .chunk_data = &stream};
    unsigned status = 0;
    autostrbuf struct strbuf body = {0};
    r = http_client_call(cli->client, &call, &status, &body, ret_error);
    if (stream.ended) {
        forget_error(ret_error);
        r = 0;
    } else if (stream.too_long) {
        forget_error(ret_error);
        r = error_set(ret_error, EIO, "a line of blockd's stream %s has no end", path);
    } else if (r == 0 && status >= 400) {
        r = decode_reply(cli, path, status, strbuf_string(&stream.line), stream.line.length, NULL, ret_error);
        strbuf_clear(&stream.line);
        return r;
    }
    strbuf_clear(&stream.line);
    cli->no_answer = r < 0 && r != -ETIMEDOUT;
    return r;
}
