/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/tls_server.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

#include "rpc/base/alloc.h"

#define RECORD_HANDSHAKE 22 /* the first byte of what a TLS client sends */

struct tls_server {
    atomic_uint references;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
};

struct tls_peer {
    struct tls_server *server;
    int fd;
    bool begun, plain;
    char *certificate;
};

int tls_server_new(const char *certificate, const char *key, struct tls_server **ret_server,
                   struct error **ret_error)
{
    cleanup(cleanup_tls_server) struct tls_server *server = xcalloc(1, sizeof *server);
    atomic_init(&server->references, 1);
    gnutls_datum_t certificate_text = {(unsigned char *)certificate, (unsigned)strlen(certificate)};
    gnutls_datum_t key_text = {(unsigned char *)key, (unsigned)strlen(key)};
    int r = gnutls_certificate_allocate_credentials(&server->credentials);
    if (r == 0)
        r = gnutls_certificate_set_x509_key_mem(server->credentials, &certificate_text, &key_text,
                                                GNUTLS_X509_FMT_PEM);
    if (r >= 0)
        r = gnutls_priority_init(&server->priority, TLS_SERVER_PRIORITY, NULL);
    if (r < 0)
        return error_set(ret_error, EINVAL, "TLS cannot use the certificate and its key: %s",
                         gnutls_strerror(r));
    *ret_server = steal_ptr(&server);
    return 0;
}

struct tls_server *tls_server_ref(struct tls_server *server)
{
    if (server)
        atomic_fetch_add(&server->references, 1);
    return server;
}

void tls_server_unref(struct tls_server *server)
{
    if (!server || atomic_fetch_sub(&server->references, 1) != 1)
        return;
    if (server->credentials)
        gnutls_certificate_free_credentials(server->credentials);
    if (server->priority)
        gnutls_priority_deinit(server->priority);
    free(server);
}

/* ---- One connection ---- */

#define PLAIN_ANSWER                                                                                         \
    "{\"error\":{\"code\":\"invalid_argument\",\"message\":\"this port speaks TLS only; use https and a "    \
    "client "                                                                                                \
    "certificate\",\"details\":{\"errno\":22}}}"

/* Fits into one segment; what else the client sends is not read. */
static void refuse_plain_http(int fd)
{
    autofree char *answer = xasprintf("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
                                      "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                                      strlen(PLAIN_ANSWER), PLAIN_ANSWER);
    send(fd, answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
}

static ssize_t receive(gnutls_transport_ptr_t data, void *buffer, size_t size)
{
    struct tls_peer *peer = data;
    if (peer->plain)
        return 0;
    ssize_t got = recv(peer->fd, buffer, size, 0);
    if (got <= 0 || peer->begun)
        return got;
    unsigned char first = *(unsigned char *)buffer;
    peer->begun = true;
    peer->plain = first != RECORD_HANDSHAKE;
    if (first >= 'A' && first <= 'Z')
        refuse_plain_http(peer->fd);
    return peer->plain ? 0 : got;
}

static int wait_readable(gnutls_transport_ptr_t data, unsigned ms)
{
    const struct tls_peer *peer = data;
    struct pollfd state = {.fd = peer->fd, .events = POLLIN};
    return poll(&state, 1, (int)ms);
}

/* Runs in the handshake when the client has shown its certificate, or none. */
static int keep_certificate(gnutls_session_t session)
{
    struct tls_peer *peer = gnutls_session_get_ptr(session);
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    gnutls_datum_t text = {0};
    if (!chain || count == 0 || gnutls_certificate_type_get2(session, GNUTLS_CTYPE_PEERS) != GNUTLS_CRT_X509)
        return 0;
    if (gnutls_pem_base64_encode2("CERTIFICATE", &chain[0], &text) < 0)
        return GNUTLS_E_CERTIFICATE_ERROR;
    free(peer->certificate);
    peer->certificate = xstrndup((const char *)text.data, text.size);
    gnutls_free(text.data);
    return 0;
}

int tls_peer_start(struct tls_server *server, void *session, int fd, struct tls_peer **ret_peer,
                   struct error **ret_error)
{
    struct tls_peer *peer = xcalloc(1, sizeof *peer);
    peer->server = tls_server_ref(server);
    peer->fd = fd;
    int r = gnutls_priority_set(session, server->priority);
    if (r == 0)
        r = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, server->credentials);
    if (r < 0) {
        tls_peer_free(peer);
        return error_set(ret_error, EIO, "TLS: %s", gnutls_strerror(r));
    }
    gnutls_session_set_ptr(session, peer);
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUEST);
    gnutls_session_set_verify_function(session, keep_certificate);
    gnutls_transport_set_ptr2(session, peer, (gnutls_transport_ptr_t)(intptr_t)fd);
    gnutls_transport_set_pull_function(session, receive);
    gnutls_transport_set_pull_timeout_function(session, wait_readable);
    *ret_peer = peer;
    return 0;
}

void tls_peer_free(struct tls_peer *peer)
{
    if (!peer)
        return;
    tls_server_unref(peer->server);
    free(peer->certificate);
    free(peer);
}

const char *tls_peer_certificate(const struct tls_peer *peer)
{
    return peer->certificate;
}

bool tls_peer_is_plain(const struct tls_peer *peer)
{
    return peer->plain;
}
