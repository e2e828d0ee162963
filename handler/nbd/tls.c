/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/nbd/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "rpc/base/alloc.h"
#include "rpc/tls_server.h"

#define PRIORITY_PSK      ":+ECDHE-PSK:+DHE-PSK:+PSK"
#define PRIORITY_PSK_ONLY ":-KX-ALL:+ECDHE-PSK:+DHE-PSK:+PSK"

struct tls {
    atomic_uint references;
    gnutls_certificate_credentials_t certificates; /* NULL: pre-shared keys only */
    gnutls_psk_server_credentials_t keys;          /* NULL: certificates only */
    gnutls_priority_t priority;
};

struct tls_session {
    struct tls *tls;
    gnutls_session_t gnutls;
};

static int load_certificates(struct tls *tls, const char *folder, struct error **ret_error)
{
    autofree char *ca = xasprintf("%s/ca-cert.pem", folder);
    autofree char *crl = xasprintf("%s/ca-crl.pem", folder);
    autofree char *certificate = xasprintf("%s/server-cert.pem", folder);
    autofree char *key = xasprintf("%s/server-key.pem", folder);
    if (access(ca, F_OK) < 0)
        return 0;

    int r = gnutls_certificate_allocate_credentials(&tls->certificates);
    if (r < 0)
        return error_set(ret_error, ENOMEM, "TLS: %s", gnutls_strerror(r));
    r = gnutls_certificate_set_x509_trust_file(tls->certificates, ca, GNUTLS_X509_FMT_PEM);
    if (r <= 0)
        return error_set(ret_error, EINVAL, "TLS: no certificate of an authority in %s%s%s", ca,
                         r < 0 ? ": " : "", r < 0 ? gnutls_strerror(r) : "");
    if (access(crl, F_OK) == 0) {
        r = gnutls_certificate_set_x509_crl_file(tls->certificates, crl, GNUTLS_X509_FMT_PEM);
        if (r < 0)
            return error_set(ret_error, EINVAL, "TLS: cannot use the revocation list %s: %s", crl,
                             gnutls_strerror(r));
    }
    r = gnutls_certificate_set_x509_key_file(tls->certificates, certificate, key, GNUTLS_X509_FMT_PEM);
    if (r < 0)
        return error_set(ret_error, EINVAL, "TLS: cannot use %s with %s: %s", certificate, key,
                         gnutls_strerror(r));
    return 0;
}

static int load_keys(struct tls *tls, const char *psk_file, struct error **ret_error)
{
    if (!*psk_file)
        return 0;
    if (access(psk_file, R_OK) < 0)
        return error_set(ret_error, errno, "TLS: cannot read the pre-shared keys %s: %s", psk_file,
                         strerror(errno));
    int r = gnutls_psk_allocate_server_credentials(&tls->keys);
    if (r == 0)
        r = gnutls_psk_set_server_credentials_file(tls->keys, psk_file);
    if (r < 0)
        return error_set(ret_error, EINVAL, "TLS: cannot use the pre-shared keys %s: %s", psk_file,
                         gnutls_strerror(r));
    return 0;
}

int tls_load(const char *folder, const char *psk_file, struct tls **ret_tls, struct error **ret_error)
{
    cleanup(cleanup_tls) struct tls *tls = xcalloc(1, sizeof *tls);
    atomic_init(&tls->references, 1);
    int r = load_certificates(tls, folder, ret_error);
    if (r == 0)
        r = load_keys(tls, psk_file, ret_error);
    if (r < 0)
        return r;
    if (!tls->certificates && !tls->keys)
        return error_set(ret_error, ENOENT, "TLS: there is no ca-cert.pem in %s, and no psk-file is set",
                         folder);

    const char *priority = !tls->keys          ? TLS_SERVER_PRIORITY
                           : tls->certificates ? TLS_SERVER_PRIORITY PRIORITY_PSK
                                               : TLS_SERVER_PRIORITY PRIORITY_PSK_ONLY;
    r = gnutls_priority_init(&tls->priority, priority, NULL);
    if (r < 0)
        return error_set(ret_error, EINVAL, "TLS: %s", gnutls_strerror(r));
    *ret_tls = steal_ptr(&tls);
    return 0;
}

struct tls *tls_ref(struct tls *tls)
{
    if (tls)
        atomic_fetch_add(&tls->references, 1);
    return tls;
}

void tls_unref(struct tls *tls)
{
    if (!tls || atomic_fetch_sub(&tls->references, 1) != 1)
        return;
    if (tls->certificates)
        gnutls_certificate_free_credentials(tls->certificates);
    if (tls->keys)
        gnutls_psk_free_server_credentials(tls->keys);
    if (tls->priority)
        gnutls_priority_deinit(tls->priority);
    free(tls);
}

/* ---- Sessions ---- */

static unsigned char client_purpose_oid[] = GNUTLS_KP_TLS_WWW_CLIENT;
/* GnuTLS keeps the pointer until the handshake. */
static gnutls_typed_vdata_st client_purpose = {GNUTLS_DT_KEY_PURPOSE_OID, client_purpose_oid, 0};

static int session_setup(struct tls_session *session, int fd)
{
    int r = gnutls_init(&session->gnutls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    if (r < 0)
        return r;
    r = gnutls_priority_set(session->gnutls, session->tls->priority);
    if (r == 0 && session->tls->certificates) {
        r = gnutls_credentials_set(session->gnutls, GNUTLS_CRD_CERTIFICATE, session->tls->certificates);
        gnutls_certificate_server_set_request(session->gnutls, GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_cert2(session->gnutls, &client_purpose, 1, 0);
    }
    if (r == 0 && session->tls->keys)
        r = gnutls_credentials_set(session->gnutls, GNUTLS_CRD_PSK, session->tls->keys);
    gnutls_handshake_set_timeout(session->gnutls, GNUTLS_INDEFINITE_TIMEOUT); /* the server has its own */
    gnutls_transport_set_int(session->gnutls, fd);
    return r;
}

int tls_session_new(struct tls *tls, int fd, struct tls_session **ret_session, struct error **ret_error)
{
    struct tls_session *session = xcalloc(1, sizeof *session);
    session->tls = tls_ref(tls);
    int r = session_setup(session, fd);
    if (r < 0) {
        tls_session_free(session);
        return error_set(ret_error, EIO, "TLS: %s", gnutls_strerror(r));
    }
    *ret_session = session;
    return 0;
}

void tls_session_free(struct tls_session *session)
{
    if (!session)
        return;
    if (session->gnutls)
        gnutls_deinit(session->gnutls);
    tls_unref(session->tls);
    free(session);
}

static const char *verification_text(gnutls_session_t gnutls)
{
    unsigned status = gnutls_session_get_verify_cert_status(gnutls);
    if (status & GNUTLS_CERT_REVOKED)
        return "its certificate is revoked";
    if (status & GNUTLS_CERT_EXPIRED)
        return "its certificate has expired";
    if (status & (GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_INVALID))
        return "its certificate is not one of our authority's for TLS clients";
    return "its certificate is not good";
}

int tls_handshake(struct tls_session *session, struct error **ret_error)
{
    int r;
    do
        r = gnutls_handshake(session->gnutls);
    while (r < 0 && r != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(r));
    if (r == GNUTLS_E_AGAIN)
        return -EAGAIN;
    if (r == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
        gnutls_alert_send_appropriate(session->gnutls, r);
        return error_set(ret_error, EACCES, "TLS refused: %s", verification_text(session->gnutls));
    }
    if (r < 0) {
        gnutls_alert_send_appropriate(session->gnutls, r);
        return error_set(ret_error, EACCES, "TLS handshake failed: %s", gnutls_strerror(r));
    }
    return 0;
}

bool tls_wants_write(const struct tls_session *session)
{
    return gnutls_record_get_direction(session->gnutls) == 1;
}

static ssize_t result(ssize_t r)
{
    if (r >= 0)
        return r;
    if (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED)
        return -EAGAIN;
    /* The client went without a goodbye: the end of its input all the same. */
    return r == GNUTLS_E_PREMATURE_TERMINATION ? 0 : -EIO;
}

ssize_t tls_receive(struct tls_session *session, void *buffer, size_t size)
{
    return result(gnutls_record_recv(session->gnutls, buffer, size));
}

ssize_t tls_send(struct tls_session *session, const void *bytes, size_t length)
{
    return result(gnutls_record_send(session->gnutls, bytes, length));
}

bool tls_pending(const struct tls_session *session)
{
    return gnutls_record_check_pending(session->gnutls) > 0;
}

void tls_bye(struct tls_session *session)
{
    gnutls_bye(session->gnutls, GNUTLS_SHUT_WR);
}
