/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/http_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "rpc/base/alloc.h"

#define REPLY_LIMIT ((size_t)256 << 20)

struct http_client {
    CURL *curl;
    char *socket_path;
    char problem[CURL_ERROR_SIZE];
};

/* Where the reply of one call goes. */
struct sink {
    const struct http_call *call;
    struct strbuf body;
    bool ended; /* by the chunk callback */
    bool too_large;
};

static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static size_t on_bytes(char *bytes, size_t size, size_t count, void *data)
{
    struct sink *sink = data;
    size_t length = size * count;
    if (sink->call->chunk) {
        sink->ended = sink->call->chunk(sink->call->chunk_data, bytes, length) != 0;
        return sink->ended ? CURL_WRITEFUNC_ERROR : length;
    }
    sink->too_large = length > REPLY_LIMIT - sink->body.length;
    if (sink->too_large)
        return CURL_WRITEFUNC_ERROR;
    strbuf_add(&sink->body, bytes, length);
    return length;
}

/* Without this a program that another thread starts meanwhile would inherit the connection. */
static curl_socket_t open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)data;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

int http_client_new(const char *socket_path, struct http_client **ret_client, struct error **ret_error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    CURL *curl = curl_easy_init();
    if (!curl)
        return error_set(ret_error, EIO, "cannot start libcurl");
    struct http_client *client = xcalloc(1, sizeof *client);
    client->curl = curl;
    client->socket_path = xstrdup(socket_path);
    *ret_client = client;
    return 0;
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->curl);
    free(client->socket_path);
    free(client);
}

/* curl_easy_reset() keeps the connection, so each call starts from the same options. */
static struct curl_slist *prepare(struct http_client *client, const struct http_call *call, const char *url,
                                  struct sink *sink)
{
    CURL *curl = client->curl;
    curl_easy_reset(curl);
    client->problem[0] = '\0';
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->problem);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, client->socket_path);
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* the environment may name one for other purposes */
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)call->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, sink);

    struct curl_slist *headers = curl_slist_append(NULL, "Accept: application/json");
    if (call->body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(call->body));
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, call->body);
        headers = curl_slist_append(headers, "Content-Type: application/json");
    } else if (strcmp(call->method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else if (strcmp(call->method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)0);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
    if (call->idempotency_key) {
        autofree char *line = xasprintf("Idempotency-Key: %s", call->idempotency_key);
        headers = curl_slist_append(headers, line);
    }
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    return headers;
}

static int explain(struct http_client *client, CURLcode code, const struct http_call *call,
                   const struct sink *sink, struct error **ret_error)
{
    const char *problem = client->problem[0] ? client->problem : curl_easy_strerror(code);
    long number = 0;
    curl_easy_getinfo(client->curl, CURLINFO_OS_ERRNO, &number);
    if (code == CURLE_COULDNT_CONNECT && (number == EACCES || number == EPERM))
        return error_set(ret_error, EACCES,
                         "the socket %s is not for this user: run as root or as a member of its group",
                         client->socket_path);
    if (code == CURLE_COULDNT_CONNECT)
        return error_set(ret_error, ECONNREFUSED, "nobody answers on %s: is blockd running?",
                         client->socket_path);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return error_set(ret_error, ETIMEDOUT, "%s %s on %s was not answered within %d ms", call->method,
                         call->path, client->socket_path, call->timeout_ms);
    if (sink->too_large)
        return error_set(ret_error, EIO, "the answer to %s %s is larger than %zu bytes", call->method,
                         call->path, REPLY_LIMIT);
    return error_set(ret_error, EIO, "%s %s on %s failed: %s", call->method, call->path, client->socket_path,
                     problem);
}

int http_client_call(struct http_client *client, const struct http_call *call, unsigned *ret_status,
                     struct strbuf *ret_body, struct error **ret_error)
{
    /* A control character would end the request line or the header and begin another one. */
    for (const char *c = call->path; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f)
            return error_set(ret_error, EINVAL, "the request path %s is not percent-encoded", call->path);
    for (const char *c = call->idempotency_key; c && *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return error_set(ret_error, EINVAL, "the idempotency key has a control character");

    autofree char *url = xasprintf("http://localhost%s", call->path);
    struct sink sink = {.call = call};
    struct curl_slist *headers = prepare(client, call, url, &sink);
    CURLcode code = curl_easy_perform(client->curl);
    curl_slist_free_all(headers);
    if (code != CURLE_OK && !sink.ended) {
        int r = explain(client, code, call, &sink, ret_error);
        strbuf_clear(&sink.body);
        return r;
    }
    long status = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (ret_status)
        *ret_status = (unsigned)status;
    if (ret_body && !call->chunk)
        *ret_body = sink.body;
    else
        strbuf_clear(&sink.body);
    return 0;
}

char *http_escape(const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    struct strbuf escaped = {0};
    for (const char *c = text; *c; c++) {
        if (strchr(plain, *c))
            strbuf_add(&escaped, c, 1);
        else
            strbuf_addf(&escaped, "%%%02X", (unsigned char)*c);
    }
    return strbuf_steal(&escaped);
}
