/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* GET ...?watch=1: changes as a stream, one JSON object a line. A reader that is too slow is told to list
 * again. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "blockd/api/api_priv.h"
#include "rpc/base/alloc.h"

#define BACKLOG_MAX (4u << 20) /* bytes that wait for one reader */
#define SENT_MAX    (1u << 20) /* bytes that are with the reader and still take room */

struct stream {
    struct core_watch *watch;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t filled;
    struct strbuf backlog;
    size_t sent; /* bytes of the backlog that are with the reader */
    bool lost; /* the backlog overflowed, or the store dropped changes: the stream ends after what is there */
};

static void add_line(struct stream *stream, json_t *line)
{
    autofree char *text = json_dumps(line, JSON_COMPACT);
    json_decref(line);
    scoped_lock(&stream->mutex);
    if (stream->lost)
        return;
    if (stream->backlog.length - stream->sent > BACKLOG_MAX)
        stream->lost = true;
    else
        strbuf_addf(&stream->backlog, "%s\n", text);
    pthread_cond_signal(&stream->filled);
}

/* On a thread of the store. */
static void on_change(void *data, const char *key, const json_t *object, uint64_t revision)
{
    struct stream *stream = data;
    if (!key) {
        scoped_lock(&stream->mutex);
        stream->lost = true;
        pthread_cond_signal(&stream->filled);
        return;
    }
    add_line(stream, json_pack("{s:s, s:s, s:I, s:O?}", "type", object ? "put" : "delete", "key", key,
                               "revision", (json_int_t)revision, "object", object));
}

static ssize_t next_bytes(void *data, char *buffer, size_t size)
{
    struct stream *stream = data;
    scoped_lock(&stream->mutex);
    if (stream->sent == stream->backlog.length && !stream->lost) {
        struct timespec when;
        clock_gettime(CLOCK_MONOTONIC, &when);
        when.tv_nsec += 500 * 1000000;
        if (when.tv_nsec >= 1000000000) {
            when.tv_sec++;
            when.tv_nsec -= 1000000000;
        }
        pthread_cond_clockwait(&stream->filled, &stream->mutex, CLOCK_MONOTONIC, &when);
    }
    size_t left = stream->backlog.length - stream->sent;
    if (left == 0)
        return stream->lost ? -1 : 0;
    size_t length = left < size ? left : size;
    memcpy(buffer, stream->backlog.data + stream->sent, length);
    stream->sent += length;
    /* A reader that never quite catches up must not make the backlog grow for ever. */
    if (stream->sent == stream->backlog.length || stream->sent > SENT_MAX) {
        stream->backlog.length -= stream->sent;
        memmove(stream->backlog.data, stream->backlog.data + stream->sent, stream->backlog.length);
        stream->sent = 0;
    }
    return (ssize_t)length;
}

static void stream_free(void *data)
{
    struct stream *stream = data;
    core_watch_end(stream->watch);
    strbuf_clear(&stream->backlog);
    pthread_cond_destroy(&stream->filled);
    pthread_mutex_destroy(&stream->mutex);
    free(stream);
}

int respond_watch(struct call *call, enum object_kind kind, const char *prefix, uint64_t after,
                  struct error **ret_error)
{
    struct stream *stream = xcalloc(1, sizeof *stream);
    pthread_mutex_init(&stream->mutex, NULL);
    pthread_cond_init(&stream->filled, NULL);
    int r = core_watch(call->core, kind, prefix, after, on_change, stream, &stream->watch, ret_error);
    if (r < 0) {
        stream_free(stream);
        return r;
    }
    call->response->content_type = "application/jsonl";
    call->response->stream = next_bytes;
    call->response->stream_free = stream_free;
    call->response->stream_data = stream;
    return 0;
}
