/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * TLS on GnuTLS (tls.c, the only file that knows it): X.509 where the client must have a certificate of the
 * CA, and pre-shared keys. Credentials are shared and counted, so that a reload leaves running connections
 * alone.
 */
#ifndef BLOCKD_NBD_TLS_H
#define BLOCKD_NBD_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "rpc/base/error.h"

struct tls;
struct tls_session;

/*
 * Loads ca-cert.pem, server-cert.pem, server-key.pem and, where it is there, ca-crl.pem from `folder`, and
 * the keys of `psk_file` ("" for none). -ENOENT when there is neither a ca-cert.pem nor a psk_file.
 */
int tls_load(const char *folder, const char *psk_file, struct tls **ret_tls, struct error **ret_error);
struct tls *tls_ref(struct tls *tls);
void tls_unref(struct tls *tls);
DEFINE_CLEANUP(struct tls *, cleanup_tls, tls_unref)

/* The server's side on a connected, non-blocking socket, which stays the caller's. One thread at a time. */
int tls_session_new(struct tls *tls, int fd, struct tls_session **ret_session, struct error **ret_error);
void tls_session_free(struct tls_session *session);
/* 0 when done, -EAGAIN to be called again when the socket is ready for what tls_wants_write() says. */
int tls_handshake(struct tls_session *session, struct error **ret_error);
bool tls_wants_write(const struct tls_session *session);
/* As recv(2) and send(2), with a negative errno. After -EAGAIN tls_send() is called again with the same bytes
 * first. */
ssize_t tls_receive(struct tls_session *session, void *buffer, size_t size);
ssize_t tls_send(struct tls_session *session, const void *bytes, size_t length);
/* Bytes are decrypted already, so that the socket need not be readable. */
bool tls_pending(const struct tls_session *session);
/* Tells the client that nothing follows; does not wait. */
void tls_bye(struct tls_session *session);

#endif
