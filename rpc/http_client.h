/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* HTTP requests over a unix socket or over TLS, on libcurl (http_client.c, the only file that knows it). */
#ifndef BLOCKD_RPC_HTTP_CLIENT_H
#define BLOCKD_RPC_HTTP_CLIENT_H

#include "rpc/base/error.h"
#include "rpc/base/strings.h"

struct http_client; /* one connection, kept open; one thread at a time */

int http_client_new(const char *socket_path, struct http_client **ret_client, struct error **ret_error);

/* Paths of PEM files. */
struct http_client_tls {
    const char *ca;         /* of the authority that has signed the servers' certificates; NULL: unverified */
    const char *cert, *key; /* that are shown to them; NULL: none */
};
/*
 * To any of several servers ("https://HOST:PORT"), which are one to the caller: a call goes to the one that
 * answered last, and to the next where no connection comes about. One that breaks after the request was sent
 * fails; the next call then goes to the next server.
 */
int http_client_new_tls(const struct string_list *urls, const struct http_client_tls *tls,
                        struct http_client **ret_client, struct error **ret_error);
/* The server that the next call goes to first: its URL, or the socket's path. Valid until that call. */
const char *http_client_server(const struct http_client *client);
void http_client_free(struct http_client *client);
DEFINE_CLEANUP(struct http_client *, cleanup_http_client, http_client_free)

struct http_call {
    const char *method, *path;   /* path with its query, percent-encoded */
    const char *body;            /* NULL: none; sent as application/json */
    const char *idempotency_key; /* NULL: none */
    int timeout_ms;              /* of the whole call; 0: none, for streams */
    /* When given, parts of the body come here as they arrive, and ret_body stays empty. Non-zero ends the
     * call. */
    int (*chunk)(void *data, const char *bytes, size_t length);
    void *chunk_data;
};

/*
 * 0 with the HTTP status whatever it is; -ECONNREFUSED when nobody listens ("is blockd running?"), -EACCES
 * when the socket is not for this user or the server's certificate is not to be trusted, -ENOENT when a file
 * of certificates is missing, -ETIMEDOUT, -EIO otherwise.
 */
int http_client_call(struct http_client *client, const struct http_call *call, unsigned *ret_status,
                     struct strbuf *ret_body, struct error **ret_error);

/* Percent-encodes one path segment or query value. The caller's. */
char *http_escape(const char *text);

#endif
