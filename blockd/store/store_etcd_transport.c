/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Requests to etcd's JSON gateway. All callers use one endpoint while it answers, and go on to the next one
 * when it does not; one that failed is left alone for a while that doubles. Every request, and every
 * operation of several, has a bound of time.
 */
#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "blockd/store/store_etcd_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define CONNECT_MS     3000 /* the TLS handshake is part of it */
#define ATTEMPT_MS     4000 /* longer than an election, shorter than etcd's own patience of 7 s */
#define AWAY_MS        2500 /* the same while nobody answers: callers must not queue up behind etcd's absence */
#define FIRST_DELAY_MS 100
#define LAST_DELAY_MS  3000
#define IDLE_HANDLES   16
#define REPLY_LIMIT    ((size_t)64 << 20)

struct endpoint {
    const char *url;
    unsigned failures;  /* in a row */
    int64_t not_before; /* clock_monotonic_ms(); 0: it answered */
    int64_t failed;     /* when it failed last */
    char *problem;      /* how */
};

struct handle {
    CURL *curl;
    bool used; /* it has a connection */
    char problem[CURL_ERROR_SIZE];
    struct handle *next;
};

struct etcd_transport {
    const struct etcd_settings *settings;

    pthread_mutex_t mutex; /* guards what follows; not held during a request */
    pthread_cond_t answered;
    struct endpoint *endpoints;
    size_t preferred; /* index */
    bool away;        /* the last operation ran out of time */
    struct handle *idle;
    size_t idle_count;
};

/* ---- Handles: each keeps its connections open ---- */

/* Without this a program that another thread starts meanwhile would inherit the connection. */
static curl_socket_t open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)data;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

void etcd_handle_prepare(const struct etcd_settings *settings, void *curl)
{
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* the environment may name one for other purposes */
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPIDLE, 10L);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPINTVL, 5L);
    if (settings->ca)
        curl_easy_setopt(curl, CURLOPT_CAINFO, settings->ca);
    if (settings->cert) {
        curl_easy_setopt(curl, CURLOPT_SSLCERT, settings->cert);
        curl_easy_setopt(curl, CURLOPT_SSLKEY, settings->key);
    }
}

static void handle_free(struct handle *handle)
{
    curl_easy_cleanup(handle->curl);
    free(handle);
}

static struct handle *handle_take(struct etcd_transport *transport)
{
    {
        scoped_lock(&transport->mutex);
        struct handle *idle = transport->idle;
        if (idle) {
            transport->idle = idle->next;
            transport->idle_count--;
            return idle;
        }
    }
    struct handle *handle = xcalloc(1, sizeof *handle);
    handle->curl = curl_easy_init();
    if (!handle->curl) {
        free(handle);
        return NULL;
    }
    etcd_handle_prepare(transport->settings, handle->curl);
    curl_easy_setopt(handle->curl, CURLOPT_ERRORBUFFER, handle->problem);
    return handle;
}

static void handle_give_back(struct etcd_transport *transport, struct handle *handle)
{
    {
        scoped_lock(&transport->mutex);
        if (transport->idle_count < IDLE_HANDLES) {
            handle->next = transport->idle;
            transport->idle = handle;
            transport->idle_count++;
            return;
        }
    }
    handle_free(handle);
}

/* ---- Which endpoint ---- */

/* With the lock held: the preferred one, or the first after it that is not left alone at this time; or the
 * one whose time comes first. */
static size_t choose(const struct etcd_transport *transport, int64_t now)
{
    size_t count = transport->settings->endpoints.count, soonest = transport->preferred;
    for (size_t i = 0; i < count; i++) {
        size_t index = (transport->preferred + i) % count;
        if (transport->endpoints[index].not_before <= now)
            return index;
        if (transport->endpoints[index].not_before < transport->endpoints[soonest].not_before)
            soonest = index;
    }
    return soonest;
}

/* Waits until an endpoint may be asked. False: the time is over. */
static bool await_endpoint(struct etcd_transport *transport, int64_t deadline, size_t *ret_index)
{
    scoped_lock(&transport->mutex);
    for (;;) {
        int64_t now = clock_monotonic_ms();
        if (now >= deadline)
            return false;
        size_t index = choose(transport, now);
        int64_t when = transport->endpoints[index].not_before;
        if (when <= now) {
            *ret_index = index;
            return true;
        }
        when = when < deadline ? when : deadline;
        struct timespec until = {.tv_sec = when / 1000, .tv_nsec = when % 1000 * 1000000};
        pthread_cond_clockwait(&transport->answered, &transport->mutex, CLOCK_MONOTONIC, &until);
    }
}

static void note_success(struct etcd_transport *transport, size_t index)
{
    scoped_lock(&transport->mutex);
    struct endpoint *endpoint = &transport->endpoints[index];
    endpoint->failures = 0;
    endpoint->not_before = 0;
    transport->preferred = index;
    transport->away = false;
    pthread_cond_broadcast(&transport->answered);
}

/* Requests that were under way together count as one failure. */
static void note_failure(struct etcd_transport *transport, size_t index, int64_t started, const char *problem)
{
    scoped_lock(&transport->mutex);
    struct endpoint *endpoint = &transport->endpoints[index];
    free(endpoint->problem);
    endpoint->problem = xstrdup(problem);
    if (started < endpoint->failed)
        return;
    int64_t delay = FIRST_DELAY_MS;
    for (unsigned i = 0; i < endpoint->failures && delay < LAST_DELAY_MS; i++)
        delay *= 2;
    endpoint->failures++;
    endpoint->failed = clock_monotonic_ms();
    endpoint->not_before = endpoint->failed + (delay < LAST_DELAY_MS ? delay : LAST_DELAY_MS);
    if (transport->preferred == index)
        transport->preferred = (index + 1) % transport->settings->endpoints.count;
}

static int give_up(struct etcd_transport *transport, const struct etcd_effort *effort,
                   struct error **ret_error)
{
    scoped_lock(&transport->mutex);
    transport->away = true;
    autostrbuf struct strbuf problems = {0};
    for (size_t i = 0; i < transport->settings->endpoints.count; i++)
        strbuf_addf(&problems, "%s%s: %s", i ? "; " : "", transport->endpoints[i].url,
                    transport->endpoints[i].problem ? transport->endpoints[i].problem : "not asked");
    return error_set(ret_error, ENOTCONN, "the store is unavailable, etcd does not answer%s (%s)",
                     effort->uncertain ? "; whether the change was made is not known" : "",
                     strbuf_string(&problems));
}

/* ---- Requests ---- */

struct sink {
    struct strbuf body;
    bool too_large;
};

static size_t on_bytes(char *bytes, size_t size, size_t count, void *data)
{
    struct sink *sink = data;
    size_t length = size * count;
    sink->too_large = length > REPLY_LIMIT - sink->body.length;
    if (sink->too_large)
        return CURL_WRITEFUNC_ERROR;
    strbuf_add(&sink->body, bytes, length);
    return length;
}

/* Can the request have reached etcd? */
static bool was_sent(const struct handle *handle)
{
    curl_off_t began = 0; /* microseconds: when the connection was there */
    curl_easy_getinfo(handle->curl, CURLINFO_PRETRANSFER_TIME_T, &began);
    return began > 0;
}

/* libcurl repeats a request by itself when it finds that a connection that it kept is closed. */
static bool was_repeated(const struct handle *handle)
{
    long connections = 0;
    curl_easy_getinfo(handle->curl, CURLINFO_NUM_CONNECTS, &connections);
    return handle->used && connections > 0;
}

/* *ret_lost: the request, or a first one like it, may have reached etcd without this answer being its. */
static int send_request(struct handle *handle, const char *url, const char *body, int64_t timeout_ms,
                        bool *ret_lost, json_t **ret_reply, struct error **ret_error)
{
    struct sink sink = {0};
    handle->problem[0] = '\0';
    curl_easy_setopt(handle->curl, CURLOPT_URL, url);
    curl_easy_setopt(handle->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(handle->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
    curl_easy_setopt(handle->curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(handle->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(handle->curl, CURLOPT_WRITEDATA, &sink);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:"); /* no round trip before a large body */
    curl_easy_setopt(handle->curl, CURLOPT_HTTPHEADER, headers);
    CURLcode code = curl_easy_perform(handle->curl);
    curl_easy_setopt(handle->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);

    autofree char *text = strbuf_steal(&sink.body);
    *ret_lost = (code != CURLE_OK && was_sent(handle)) || was_repeated(handle);
    handle->used = true;
    if (sink.too_large)
        return error_set(ret_error, EMSGSIZE, "etcd's answer is larger than %zu bytes", REPLY_LIMIT);
    if (code != CURLE_OK)
        return error_set(ret_error, EAGAIN, "%s",
                         handle->problem[0] ? handle->problem : curl_easy_strerror(code));
    long status = 0;
    curl_easy_getinfo(handle->curl, CURLINFO_RESPONSE_CODE, &status);
    int r = etcd_reply_parse(text, strlen(text), (unsigned)status, ret_reply, ret_error);
    *ret_lost |= etcd_is_transient(r);
    return r;
}

struct etcd_effort etcd_effort_begin(struct etcd_transport *transport)
{
    int patience = transport->settings->patience_ms, away = patience < AWAY_MS ? patience : AWAY_MS;
    scoped_lock(&transport->mutex);
    return (struct etcd_effort){.deadline = clock_monotonic_ms() + (transport->away ? away : patience)};
}

int etcd_attempt(struct etcd_transport *transport, struct etcd_effort *effort, const char *path,
                 const char *body, json_t **ret_reply, struct error **ret_error)
{
    size_t index;
    if (!await_endpoint(transport, effort->deadline, &index))
        return give_up(transport, effort, ret_error);
    struct handle *handle = handle_take(transport);
    if (!handle)
        return error_set(ret_error, EIO, "cannot start libcurl");
    autofree char *url = xasprintf("%s%s", transport->settings->endpoints.items[index], path);
    int64_t started = clock_monotonic_ms(), left = effort->deadline - started;
    autoerror struct error *problem = NULL;
    bool lost;
    int r = send_request(handle, url, body,
                         left < 1            ? 1
                         : left < ATTEMPT_MS ? left
                                             : ATTEMPT_MS,
                         &lost, ret_reply, &problem);
    handle_give_back(transport, handle);
    effort->uncertain |= lost;
    if (!etcd_is_transient(r)) {
        note_success(transport, index);
        return r < 0 ? error_set(ret_error, -r, "%s", error_message(problem)) : 0;
    }
    note_failure(transport, index, started, error_message(problem));
    return error_set(ret_error, EAGAIN, "%s", error_message(problem));
}

int etcd_ask(struct etcd_transport *transport, struct etcd_effort *effort, const char *path, json_t *request,
             json_t **ret_reply, struct error **ret_error)
{
    autofree char *body = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    for (;;) {
        autoerror struct error *problem = NULL;
        int r = etcd_attempt(transport, effort, path, body, ret_reply, &problem);
        if (r == 0)
            return 0;
        if (!etcd_is_transient(r))
            return error_set(ret_error, -r, "%s", error_message(problem));
    }
}

/* ---- Open and close ---- */

static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

int etcd_transport_new(const struct etcd_settings *settings, struct etcd_transport **ret_transport,
                       struct error **ret_error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    struct etcd_transport *transport = xcalloc(1, sizeof *transport);
    transport->settings = settings;
    transport->endpoints = xcalloc(settings->endpoints.count, sizeof *transport->endpoints);
    for (size_t i = 0; i < settings->endpoints.count; i++)
        transport->endpoints[i].url = settings->endpoints.items[i];
    pthread_mutex_init(&transport->mutex, NULL);
    pthread_cond_init(&transport->answered, NULL);
    struct handle *handle = handle_take(transport);
    if (!handle) {
        etcd_transport_free(transport);
        return error_set(ret_error, EIO, "cannot start libcurl");
    }
    handle_give_back(transport, handle);
    *ret_transport = transport;
    return 0;
}

void etcd_transport_free(struct etcd_transport *transport)
{
    if (!transport)
        return;
    while (transport->idle) {
        struct handle *handle = transport->idle;
        transport->idle = handle->next;
        handle_free(handle);
    }
    for (size_t i = 0; i < transport->settings->endpoints.count; i++)
        free(transport->endpoints[i].problem);
    free(transport->endpoints);
    pthread_cond_destroy(&transport->answered);
    pthread_mutex_destroy(&transport->mutex);
    free(transport);
}
