/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What pki.c, which looks at certificates, and pki_sign.c, which makes them, share. */
#ifndef BLOCKD_RPC_PKI_PRIV_H
#define BLOCKD_RPC_PKI_PRIV_H

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "rpc/pki.h"

#define PKI_SERIAL_MAX 20 /* what X.509 allows */

DEFINE_CLEANUP(gnutls_x509_privkey_t, cleanup_key, gnutls_x509_privkey_deinit)
DEFINE_CLEANUP(gnutls_x509_crq_t, cleanup_request, gnutls_x509_crq_deinit)
DEFINE_CLEANUP(gnutls_x509_crt_t, cleanup_certificate, gnutls_x509_crt_deinit)
DEFINE_CLEANUP(gnutls_x509_crl_t, cleanup_list, gnutls_x509_crl_deinit)
DEFINE_CLEANUP(gnutls_pubkey_t, cleanup_public, gnutls_pubkey_deinit)

static inline void cleanup_datum(gnutls_datum_t *datum)
{
    gnutls_free(datum->data);
}

/* GnuTLS failed at what must work: -ENOMEM or -EIO. */
int pki_failed(struct error **ret_error, const char *what, int r);

/* Points at the text. */
int pki_text_datum(const char *what, const char *text, size_t limit, gnutls_datum_t *ret_datum,
                   struct error **ret_error);
int pki_import_key(const char *text, gnutls_x509_privkey_t *ret_key, struct error **ret_error);
/* `what` is for the message: "the certificate". */
int pki_import_certificate(const char *what, const char *text, gnutls_x509_crt_t *ret_certificate,
                           struct error **ret_error);
int pki_import_list(const char *text, gnutls_x509_crl_t *ret_list, struct error **ret_error);

char *pki_datum_text(const gnutls_datum_t *datum);
int pki_export_certificate(gnutls_x509_crt_t certificate, char **ret_text, struct error **ret_error);

bool pki_is_dns_name(const char *host);
/* -EACCES: the authority did not sign the list. */
int pki_check_list(gnutls_x509_crl_t list, gnutls_x509_crt_t authority, struct error **ret_error);

#endif
