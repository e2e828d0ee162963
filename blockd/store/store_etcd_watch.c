/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Watches: one thread, one endpoint at a time, a stream of etcd's for each watch.
 *
 * A stream that is silent says nothing about the member behind it, which may be frozen or cut off from the
 * others. So the thread asks the same member for a linearizable read every few seconds: without an answer it
 * takes all streams to the next endpoint, where each goes on after the last revision that it saw.
 *
 * Nor is a member that answers a proof: etcd 3.4 may leave a watch for good that was slow while its history
 * was compacted. So each stream has every key of this store, the marks of transactions too: with each change
 * of anybody's it moves on, and one that stays behind what the member answers is opened anew.
 */
#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#include "blockd/store/store_etcd_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define PULSE_MS       3000
#define PULSE_LIMIT_MS 4000
#define STUCK_MS       8000  /* of a stream that stays behind, twice that when it did so before */
#define STUCK_LAST_MS  60000 /* others' keys in the same etcd look the same */
#define FIRST_DELAY_MS 100
#define LAST_DELAY_MS  3000
#define LINE_LIMIT     ((size_t)64 << 20) /* all changes of one revision are one line */

/* A request whose answer comes in parts. */
struct stream {
    CURL *curl; /* NULL: none is under way */
    char *body;
    struct strbuf text;
    bool ended;
};

struct etcd_watch {
    struct store_watch base;
    char *prefix;
    store_watch_callback callback;
    void *data;
    struct etcd_watch *next;
    /* The thread's own. */
    uint64_t seen;  /* every change up to this revision was handed over */
    bool missed;    /* the event NULL is due */
    bool asked;     /* the pulse under way was sent after what is seen... */
    uint64_t floor; /* ... up to here */
    bool judged;    /* a pulse at this endpoint told that nothing before `seen` can be missing */
    struct stream stream;
    int64_t behind;       /* clock_monotonic_ms() since when it stays behind; 0: it does not */
    uint64_t behind_seen; /* where */
    int64_t patience;     /* ms */
    /* Guarded by watches->mutex. */
    bool ending;
};

struct etcd_watches {
    const struct etcd_settings *settings;
    pthread_t thread;
    bool started;
    CURLM *multi;
    struct curl_slist *headers;

    /* The thread's own. */
    size_t endpoint;    /* index */
    unsigned failures;  /* endpoints in a row that did not answer */
    int64_t not_before; /* clock_monotonic_ms(): when to ask the next one */
    bool alive;         /* this endpoint answered, and streams may be opened at it */
    uint64_t revision;  /* that it answered */
    int64_t next_pulse; /* clock_monotonic_ms() */
    struct stream pulse;
    struct etcd_watch *watches;

    pthread_mutex_t mutex; /* guards what follows; not held in a callback */
    pthread_cond_t changed;
    bool stopping;
    struct etcd_watch *added;
    struct etcd_watch *running; /* its callback may be running */
};

/* ---- Streams ---- */

static size_t on_bytes(char *bytes, size_t size, size_t count, void *data)
{
    struct stream *stream = data;
    size_t length = size * count;
    if (length > LINE_LIMIT - stream->text.length)
        return CURL_WRITEFUNC_ERROR;
    strbuf_add(&stream->text, bytes, length);
    return length;
}

/* Takes over `request`. `timeout_ms` 0: none. */
static void stream_open(struct etcd_watches *watches, struct stream *stream, const char *path,
                        json_t *request, int timeout_ms)
{
    autofree char *url = xasprintf("%s%s", watches->settings->endpoints.items[watches->endpoint], path);
    stream->body = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    stream->ended = false;
    stream->curl = curl_easy_init();
    if (!stream->curl) {
        stream->ended = true;
        return;
    }
    etcd_handle_prepare(watches->settings, stream->curl);
    curl_easy_setopt(stream->curl, CURLOPT_URL, url);
    curl_easy_setopt(stream->curl, CURLOPT_HTTPHEADER, watches->headers);
    curl_easy_setopt(stream->curl, CURLOPT_POSTFIELDS, stream->body);
    curl_easy_setopt(stream->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(stream->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(stream->curl, CURLOPT_WRITEDATA, stream);
    curl_easy_setopt(stream->curl, CURLOPT_PRIVATE, stream);
    curl_multi_add_handle(watches->multi, stream->curl);
}

static void stream_close(struct etcd_watches *watches, struct stream *stream)
{
    if (stream->curl) {
        curl_multi_remove_handle(watches->multi, stream->curl);
        curl_easy_cleanup(stream->curl);
    }
    free(stream->body);
    strbuf_clear(&stream->text);
    *stream = (struct stream){0};
}

/* The header asks the member to end the stream when it loses its leader. */
static void open_watch(struct etcd_watches *watches, struct etcd_watch *watch)
{
    const struct etcd_settings *settings = watches->settings;
    json_t *create = json_pack("{s:o, s:o, s:o, s:b}", "key", etcd_key(settings->marks, ""), "range_end",
                               etcd_prefix_end(settings->prefix, ""), "start_revision",
                               etcd_number(watch->seen + 1), "progress_notify", 1);
    stream_open(watches, &watch->stream, "/v3/watch", json_pack("{s:o}", "create_request", create), 0);
}

/* ---- Callbacks ---- */

/* False: the watch is to end. */
static bool begin_callback(struct etcd_watches *watches, struct etcd_watch *watch)
{
    scoped_lock(&watches->mutex);
    if (watch->ending || watches->stopping)
        return false;
    watches->running = watch;
    return true;
}

static void end_callback(struct etcd_watches *watches)
{
    scoped_lock(&watches->mutex);
    watches->running = NULL;
    pthread_cond_broadcast(&watches->changed);
}

static void deliver(struct etcd_watches *watches, struct etcd_watch *watch, const struct store_event *event)
{
    if (!begin_callback(watches, watch))
        return;
    watch->callback(watch->data, event);
    end_callback(watches);
}

/* What the caller lists from now on has at least what the last pulse saw. */
static void deliver_missed(struct etcd_watches *watches, struct etcd_watch *watch)
{
    stream_close(watches, &watch->stream);
    watch->missed = false;
    if (watch->seen < watches->revision)
        watch->seen = watches->revision;
    deliver(watches, watch, NULL);
}

/* A message that is none, or the end of the stream, closes it; the next pulse decides where to go on. */
static void handle_line(struct etcd_watches *watches, struct etcd_watch *watch, const char *line,
                        size_t length)
{
    struct etcd_watch_message message = {0};
    if (etcd_watch_parse(line, length, watches->settings->prefix, &message, NULL) < 0) {
        watch->stream.ended = true;
        return;
    }
    for (size_t i = 0; i < message.count; i++) {
        const struct store_entry *entry = &message.events[i];
        if (entry->revision <= watch->seen || !string_starts_with(entry->key, watch->prefix))
            continue;
        deliver(watches, watch, &(struct store_event){entry->key, entry->value, entry->revision});
    }
    /* A message has all changes of its revisions. */
    if (watch->seen < message.until)
        watch->seen = message.until;
    if (watches->revision < message.revision)
        watches->revision = message.revision;
    watch->missed |= message.compacted > watch->seen + 1;
    watch->stream.ended |= message.canceled;
    etcd_watch_message_clear(&message);
}

static void handle_text(struct etcd_watches *watches, struct etcd_watch *watch)
{
    struct strbuf *text = &watch->stream.text;
    size_t done = 0;
    for (;;) {
        const char *line = text->data ? text->data + done : NULL;
        const char *end = line ? memchr(line, '\n', text->length - done) : NULL;
        if (!end)
            break;
        size_t length = (size_t)(end - line);
        if (length)
            handle_line(watches, watch, line, length);
        done += length + 1;
    }
    if (done) {
        memmove(text->data, text->data + done, text->length - done + 1);
        text->length -= done;
    }
}

/* ---- The endpoint ---- */

static void close_all(struct etcd_watches *watches)
{
    stream_close(watches, &watches->pulse);
    for (struct etcd_watch *watch = watches->watches; watch; watch = watch->next) {
        stream_close(watches, &watch->stream);
        watch->asked = watch->judged = false;
    }
    watches->alive = false;
}

/* The first round over all endpoints is at once. */
static void next_endpoint(struct etcd_watches *watches)
{
    close_all(watches);
    size_t count = watches->settings->endpoints.count;
    watches->endpoint = (watches->endpoint + 1) % count;
    watches->failures++;
    int64_t delay = watches->failures < count ? 0 : FIRST_DELAY_MS;
    for (size_t i = count; i < watches->failures && delay < LAST_DELAY_MS; i++)
        delay *= 2;
    watches->not_before = clock_monotonic_ms() + (delay < LAST_DELAY_MS ? delay : LAST_DELAY_MS);
}

static void open_pulse(struct etcd_watches *watches)
{
    json_t *request =
        json_pack("{s:o, s:b}", "key", etcd_key(watches->settings->marks, "none"), "count_only", 1);
    stream_open(watches, &watches->pulse, "/v3/kv/range", request, PULSE_LIMIT_MS);
    for (struct etcd_watch *watch = watches->watches; watch; watch = watch->next) {
        watch->asked = true;
        watch->floor = watch->seen;
    }
}

/* A revision that is lower than what was seen is another life of etcd: it was put back from a copy. */
static void take_revision(struct etcd_watches *watches, uint64_t revision)
{
    watches->revision = revision;
    for (struct etcd_watch *watch = watches->watches; watch; watch = watch->next) {
        if (!watch->asked)
            continue;
        watch->judged = true;
        if (watch->floor > revision) {
            watch->missed = true;
            watch->seen = 0;
        }
    }
}

/* Closes a stream that got nothing since an earlier pulse although the member is further. */
static void close_if_stuck(struct etcd_watches *watches, struct etcd_watch *watch, int64_t now)
{
    if (watch->seen >= watches->revision || watch->behind_seen != watch->seen || !watch->behind) {
        if (watch->behind_seen != watch->seen)
            watch->patience = STUCK_MS;
        watch->behind = watch->seen < watches->revision ? now : 0;
        watch->behind_seen = watch->seen;
    } else if (now - watch->behind >= watch->patience) {
        stream_close(watches, &watch->stream);
        watch->behind = now;
        watch->patience = watch->patience * 2 < STUCK_LAST_MS ? watch->patience * 2 : STUCK_LAST_MS;
    }
}

static void finish_pulse(struct etcd_watches *watches)
{
    long status = 0;
    uint64_t revision = 0;
    json_t *reply = NULL;
    if (watches->pulse.curl)
        curl_easy_getinfo(watches->pulse.curl, CURLINFO_RESPONSE_CODE, &status);
    int r = etcd_reply_parse(strbuf_string(&watches->pulse.text), watches->pulse.text.length,
                             (unsigned)status, &reply, NULL);
    if (r == 0)
        r = etcd_header_revision(reply, &revision, NULL);
    json_decref(reply);
    stream_close(watches, &watches->pulse);
    if (r < 0) {
        next_endpoint(watches);
        return;
    }
    watches->alive = true;
    watches->failures = 0;
    watches->next_pulse = clock_monotonic_ms() + PULSE_MS;
    take_revision(watches, revision);
    for (struct etcd_watch *watch = watches->watches; watch; watch = watch->next)
        close_if_stuck(watches, watch, clock_monotonic_ms());
}

/* After a stream ended by itself no other is opened before the member answered again. */
static void drop_ended(struct etcd_watches *watches)
{
    for (struct etcd_watch *watch = watches->watches; watch; watch = watch->next) {
        if (!watch->stream.ended)
            continue;
        stream_close(watches, &watch->stream);
        watches->alive = false;
        watches->next_pulse = 0;
        watches->not_before = clock_monotonic_ms() + FIRST_DELAY_MS;
    }
}

static void open_what_is_due(struct etcd_watches *watches)
{
    int64_t now = clock_monotonic_ms();
    bool due = !watches->alive || now >= watches->next_pulse;
    for (struct etcd_watch *watch = watches->watches; watch; watch = watch->next) {
        due |= !watch->judged;
        if (!watches->alive || !watch->judged)
            continue;
        if (watch->missed)
            deliver_missed(watches, watch);
        if (!watch->stream.body)
            open_watch(watches, watch);
    }
    if (watches->watches && due && !watches->pulse.body && now >= watches->not_before)
        open_pulse(watches);
}

/* ---- The thread ---- */

static void watch_free(struct etcd_watches *watches, struct etcd_watch *watch)
{
    stream_close(watches, &watch->stream);
    free(watch->prefix);
    free(watch);
}

/* False: the thread is to end. */
static bool take_changes(struct etcd_watches *watches)
{
    scoped_lock(&watches->mutex);
    while (watches->added) {
        struct etcd_watch *watch = watches->added;
        watches->added = watch->next;
        watch->next = watches->watches;
        watches->watches = watch;
    }
    for (struct etcd_watch **link = &watches->watches; *link;) {
        struct etcd_watch *watch = *link;
        if (!watch->ending) {
            link = &watch->next;
            continue;
        }
        *link = watch->next;
        watch_free(watches, watch);
    }
    return !watches->stopping;
}

static void note_ended(struct etcd_watches *watches)
{
    int left;
    CURLMsg *message;
    while ((message = curl_multi_info_read(watches->multi, &left))) {
        struct stream *stream = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &stream);
        stream->ended = true;
        if (message->data.result != CURLE_OK && stream == &watches->pulse)
            strbuf_clear(&stream->text); /* half an answer is none */
    }
}

static int wait_ms(const struct etcd_watches *watches)
{
    int64_t until = watches->alive ? watches->next_pulse : watches->not_before;
    for (const struct etcd_watch *watch = watches->watches; watch; watch = watch->next)
        if (!watch->judged)
            until = watches->not_before;
    int64_t left = until - clock_monotonic_ms();
    if (!watches->watches || watches->pulse.body || left > PULSE_MS)
        return PULSE_MS;
    return left < 0 ? 0 : (int)left;
}

static void *run(void *data)
{
    struct etcd_watches *watches = data;
    while (take_changes(watches)) {
        open_what_is_due(watches);
        int running;
        curl_multi_perform(watches->multi, &running);
        note_ended(watches);
        for (struct etcd_watch *watch = watches->watches; watch; watch = watch->next)
            handle_text(watches, watch);
        drop_ended(watches);
        if (watches->pulse.ended)
            finish_pulse(watches);
        else
            curl_multi_poll(watches->multi, NULL, 0, wait_ms(watches), NULL);
    }
    return NULL;
}

/* ---- The callers' side ---- */

int etcd_watches_new(const struct etcd_settings *settings, struct etcd_watches **ret_watches,
                     struct error **ret_error)
{
    struct etcd_watches *watches = xcalloc(1, sizeof *watches);
    watches->settings = settings;
    watches->multi = curl_multi_init();
    watches->headers = curl_slist_append(NULL, "Content-Type: application/json");
    watches->headers = curl_slist_append(watches->headers, "Grpc-Metadata-hasleader: true");
    pthread_mutex_init(&watches->mutex, NULL);
    pthread_cond_init(&watches->changed, NULL);
    int number = watches->multi ? pthread_create(&watches->thread, NULL, run, watches) : ENOMEM;
    if (number) {
        etcd_watches_free(watches);
        return error_set(ret_error, number, "cannot start the thread for watches: %s", strerror(number));
    }
    watches->started = true;
    *ret_watches = watches;
    return 0;
}

void etcd_watches_free(struct etcd_watches *watches)
{
    if (!watches)
        return;
    {
        scoped_lock(&watches->mutex);
        watches->stopping = true;
    }
    if (watches->started) {
        curl_multi_wakeup(watches->multi);
        pthread_join(watches->thread, NULL);
    }
    while (watches->watches) {
        struct etcd_watch *watch = watches->watches;
        watches->watches = watch->next;
        watch_free(watches, watch);
    }
    stream_close(watches, &watches->pulse);
    curl_multi_cleanup(watches->multi);
    curl_slist_free_all(watches->headers);
    pthread_cond_destroy(&watches->changed);
    pthread_mutex_destroy(&watches->mutex);
    free(watches);
}

struct store_watch *etcd_watches_add(struct etcd_watches *watches, struct store *store, const char *prefix,
                                     uint64_t after_revision, store_watch_callback callback, void *data)
{
    struct etcd_watch *watch = xcalloc(1, sizeof *watch);
    watch->base.store = store;
    watch->prefix = xstrdup(prefix);
    watch->callback = callback;
    watch->data = data;
    watch->seen = after_revision;
    watch->patience = STUCK_MS;
    {
        scoped_lock(&watches->mutex);
        watch->next = watches->added;
        watches->added = watch;
    }
    curl_multi_wakeup(watches->multi);
    return &watch->base;
}

void etcd_watches_remove(struct etcd_watches *watches, struct store_watch *base)
{
    struct etcd_watch *watch = (struct etcd_watch *)base;
    {
        scoped_lock(&watches->mutex);
        while (watches->running == watch)
            pthread_cond_wait(&watches->changed, &watches->mutex);
        watch->ending = true; /* the thread frees it */
    }
    curl_multi_wakeup(watches->multi);
}
