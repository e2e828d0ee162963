/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The server's side of TLS for HTTP: which certificate it shows, and which one a client showed. A client's
 * certificate is asked for and kept, not judged: whoever takes the request does that (rpc/pki.h), and can say
 * why in an answer that people read. TLS 1.2 and 1.3; sessions are not resumed, so that each connection shows
 * its certificate.
 */
#ifndef BLOCKD_RPC_TLS_SERVER_H
#define BLOCKD_RPC_TLS_SERVER_H

#include <stdbool.h>

#include "rpc/base/error.h"

/* What every server of ours speaks, as GnuTLS writes it. */
#define TLS_SERVER_PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* A certificate with its key. Counted: connections keep the one that they began with. Any thread. */
struct tls_server;

/* From PEM texts; the certificate may be followed by those that lead to its authority. */
int tls_server_new(const char *certificate, const char *key, struct tls_server **ret_server,
                   struct error **ret_error);
struct tls_server *tls_server_ref(struct tls_server *server);
/* NULL is allowed. */
void tls_server_unref(struct tls_server *server);
DEFINE_CLEANUP(struct tls_server *, cleanup_tls_server, tls_server_unref)

/* One connection. Belongs to its thread. */
struct tls_peer;

/* Prepares a gnutls_session_t of a server that has not begun on the socket. The peer outlives the session. */
int tls_peer_start(struct tls_server *server, void *session, int fd, struct tls_peer **ret_peer,
                   struct error **ret_error);
void tls_peer_free(struct tls_peer *peer);

/* PEM; NULL while none was shown. */
const char *tls_peer_certificate(const struct tls_peer *peer);
/* Did it begin with something that is no TLS? One that spoke HTTP was told to use TLS. */
bool tls_peer_is_plain(const struct tls_peer *peer);

#endif
