/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/http_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/base/alloc.h"

#define REPLY_LIMIT     ((size_t)256 << 20)
#define CONNECT_SECONDS 5 /* for a connection over TCP with its TLS handshake */

struct http_client {
    CURL *curl;
    char *socket_path;       /* NULL: over TLS */
    struct string_list urls; /* of the servers */
    size_t server;           /* index of the one that answered last */
    char *ca, *cert, *key;
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

static int make(struct http_client **ret_client, struct error **ret_error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    CURL *curl = curl_easy_init();
    if (!curl)
        return error_set(ret_error, EIO, "cannot start libcurl");
    struct http_client *client = xcalloc(1, sizeof *client);
    client->curl = curl;
    *ret_client = client;
    return 0;
}

int http_client_new(const char *socket_path, struct http_client **ret_client, struct error **ret_error)
{
    int r = make(ret_client, ret_error);
    if (r == 0)
        (*ret_client)->socket_path = xstrdup(socket_path);
    return r;
}

/* libcurl says of a file that is missing only that there is a problem with a certificate. */
static int check_file(const char *path, struct error **ret_error)
{
    if (!path || access(path, R_OK) == 0)
        return 0;
    return error_set(ret_error, errno, "cannot read %s: %s", path, strerror(errno));
}

int http_client_new_tls(const struct string_list *urls, const struct http_client_tls *tls,
                        struct http_client **ret_client, struct error **ret_error)
{
    struct http_client *client = NULL;
    int r = check_file(tls->ca, ret_error);
    if (r == 0)
        r = check_file(tls->cert, ret_error);
    if (r == 0)
        r = check_file(tls->key, ret_error);
    if (r == 0)
        r = make(&client, ret_error);
    if (r < 0)
        return r;
    string_list_copy(&client->urls, urls);
    client->ca = xstrdup(tls->ca);
    client->cert = xstrdup(tls->cert);
    client->key = xstrdup(tls->key);
    *ret_client = client;
    return 0;
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->curl);
    string_list_clear(&client->urls);
    free(client->socket_path);
    free(client->ca);
    free(client->cert);
    free(client->key);
    free(client);
}

const char *http_client_server(const struct http_client *client)
{
    return client->socket_path ? client->socket_path : client->urls.items[client->server];
}

static void set_up_tls(struct http_client *client)
{
    CURL *curl = client->curl;
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPIDLE, 30L);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPINTVL, 10L);
    curl_easy_setopt(curl, CURLOPT_CAPATH, NULL); /* the machine's own authorities are not the cluster's */
    curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, client->ca ? 1L : 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, client->ca ? 2L : 0L);
    curl_easy_setopt(curl, CURLOPT_SSLCERT, client->cert);
    curl_easy_setopt(curl, CURLOPT_SSLKEY, client->key);
}

static void set_up_socket(struct http_client *client)
{
    curl_easy_setopt(client->curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(client->curl, CURLOPT_UNIX_SOCKET_PATH, client->socket_path);
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
    client->socket_path ? set_up_socket(client) : set_up_tls(client);
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* the environment may name one for other purposes */
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

static int explain_tls(const struct http_client *client, CURLcode code, const char *problem,
                       struct error **ret_error)
{
    const char *server = http_client_server(client);
    if (code == CURLE_COULDNT_RESOLVE_HOST)
        return error_set(ret_error, ECONNREFUSED, "%s: %s", server, problem);
    if (code == CURLE_PEER_FAILED_VERIFICATION)
        return error_set(
            ret_error, EACCES,
            "%s does not show a certificate of the authority in %s with that name or address: %s", server,
            client->ca, problem);
    if (code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CACERT_BADFILE)
        return error_set(ret_error, EINVAL,
                         "the certificate in %s with the key in %s, or the authority in %s, "
                         "cannot be used: %s",
                         client->cert ? client->cert : "no file", client->key ? client->key : "no file",
                         client->ca ? client->ca : "no file", problem);
    if (code == CURLE_SSL_CONNECT_ERROR)
        return error_set(ret_error, ECONNREFUSED, "no TLS connection with %s comes about: %s", server,
                         problem);
    return 0;
}

static int explain(struct http_client *client, CURLcode code, const struct http_call *call,
                   const struct sink *sink, struct error **ret_error)
{
    const char *problem = client->problem[0] ? client->problem : curl_easy_strerror(code);
    const char *server = http_client_server(client);
    long number = 0;
    curl_easy_getinfo(client->curl, CURLINFO_OS_ERRNO, &number);
    int r = client->socket_path ? 0 : explain_tls(client, code, problem, ret_error);
    if (r < 0)
        return r;
    if (code == CURLE_COULDNT_CONNECT && client->socket_path && (number == EACCES || number == EPERM))
        return error_set(ret_error, EACCES,
                         "the socket %s is not for this user: run as root or as a member of its group",
                         server);
    if (code == CURLE_COULDNT_CONNECT)
        return error_set(ret_error, ECONNREFUSED, "nobody answers on %s: is blockd running?", server);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return error_set(ret_error, ETIMEDOUT, "%s %s on %s was not answered within %d ms", call->method,
                         call->path, server, call->timeout_ms);
    if (sink->too_large)
        return error_set(ret_error, EIO, "the answer to %s %s is larger than %zu bytes", call->method,
                         call->path, REPLY_LIMIT);
    return error_set(ret_error, EIO, "%s %s on %s failed: %s", call->method, call->path, server, problem);
}

/* Did it end before anything of the request was sent? Then it may be made elsewhere, whatever it is. */
static bool never_sent(struct http_client *client, CURLcode code)
{
    curl_off_t ready = 0; /* time when the connection stood, handshake and all */
    curl_easy_getinfo(client->curl, CURLINFO_PRETRANSFER_TIME_T, &ready);
    return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
           code == CURLE_SSL_CONNECT_ERROR || (code == CURLE_OPERATION_TIMEDOUT && ready == 0);
}

/* One try with one server. 1: it did not get to sending, and another server may be tried. */
static int call_server(struct http_client *client, const struct http_call *call, struct sink *sink,
                       struct error **ret_error)
{
    autofree char *url =
        xasprintf("%s%s", client->socket_path ? "http://localhost" : http_client_server(client), call->path);
    struct curl_slist *headers = prepare(client, call, url, sink);
    CURLcode code = curl_easy_perform(client->curl);
    curl_slist_free_all(headers);
    if (code == CURLE_OK || sink->ended)
        return 0;
    bool elsewhere = never_sent(client, code);
    /* The time of one connection is not that of the whole call. */
    if (elsewhere && code == CURLE_OPERATION_TIMEDOUT && !client->socket_path)
        code = CURLE_COULDNT_CONNECT;
    int r = explain(client, code, call, sink, ret_error);
    if (client->urls.count)
        client->server = (client->server + 1) % client->urls.count;
    return elsewhere && client->urls.count ? 1 : r;
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

    struct sink sink = {.call = call};
    autoerror struct error *error = NULL;
    size_t servers = client->urls.count ? client->urls.count : 1;
    int r = 1;
    for (size_t tries = 0; r == 1 && tries < servers; tries++) {
        error_free(steal_ptr(&error));
        r = call_server(client, call, &sink, &error);
    }
    if (r != 0) {
        strbuf_clear(&sink.body);
        return error_set(ret_error, error->number, "%s%s", error->message,
                         r == 1 && servers > 1 ? "; no other endpoint answers either" : "");
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
