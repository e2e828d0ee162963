/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/pki_priv.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"

/* ---- Words ---- */

static const char *const role_words[] = {"none", "admin", "node", "csi", "metrics", "client"};
#define ROLE_COUNT (sizeof role_words / sizeof *role_words)

const char *pki_role_word(enum pki_role role)
{
    return role_words[role];
}

int pki_role_parse(const char *word, enum pki_role *ret_role, struct error **ret_error)
{
    for (size_t i = 1; i < ROLE_COUNT; i++) {
        if (strcmp(word, role_words[i]) == 0) {
            *ret_role = (enum pki_role)i;
            return 0;
        }
    }
    return error_set(ret_error, EINVAL, "a certificate's role is admin, node, csi, metrics or client");
}

static bool is_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strlen(name);
    return length && length <= PKI_NAME_MAX && strspn(name, allowed) == length && !strchr(".-", *name);
}

int pki_name_check(const char *name, struct error **ret_error)
{
    if (is_name(name))
        return 0;
    return error_set(ret_error, EINVAL,
                     "a certificate's name has 1 to %d of the characters A-Z, a-z, 0-9, \".\", \"_\" and "
                     "\"-\", and does not begin with \".\" or \"-\"",
                     PKI_NAME_MAX);
}

/* ---- PEM to objects ---- */

/* A failure of GnuTLS about something that this process made or asked for. */
int pki_failed(struct error **ret_error, const char *what, int r)
{
    return error_set(ret_error, r == GNUTLS_E_MEMORY_ERROR ? ENOMEM : EIO, "cannot %s: %s", what,
                     gnutls_strerror(r));
}

int pki_text_datum(const char *what, const char *text, size_t limit, gnutls_datum_t *ret_datum,
                   struct error **ret_error)
{
    size_t length = strlen(text);
    if (length > limit)
        return error_set(ret_error, EFBIG, "%s is larger than %zu bytes", what, limit);
    *ret_datum = (gnutls_datum_t){(unsigned char *)text, (unsigned)length};
    return 0;
}

int pki_import_key(const char *text, gnutls_x509_privkey_t *ret_key, struct error **ret_error)
{
    gnutls_datum_t datum;
    cleanup(cleanup_key) gnutls_x509_privkey_t key = NULL;
    int r = pki_text_datum("the private key", text, PKI_TEXT_MAX, &datum, ret_error);
    if (r < 0)
        return r;
    if ((r = gnutls_x509_privkey_init(&key)) < 0 ||
        (r = gnutls_x509_privkey_import2(key, &datum, GNUTLS_X509_FMT_PEM, NULL, 0)) < 0)
        return error_set(ret_error, EINVAL, "this is no private key: %s", gnutls_strerror(r));
    *ret_key = steal_ptr(&key);
    return 0;
}

int pki_import_certificate(const char *what, const char *text, gnutls_x509_crt_t *ret_certificate,
                           struct error **ret_error)
{
    gnutls_datum_t datum;
    cleanup(cleanup_certificate) gnutls_x509_crt_t certificate = NULL;
    int r = pki_text_datum(what, text, PKI_TEXT_MAX, &datum, ret_error);
    if (r < 0)
        return r;
    if ((r = gnutls_x509_crt_init(&certificate)) < 0 ||
        (r = gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_PEM)) < 0)
        return error_set(ret_error, EINVAL, "%s is none: %s", what, gnutls_strerror(r));
    *ret_certificate = steal_ptr(&certificate);
    return 0;
}

int pki_import_list(const char *text, gnutls_x509_crl_t *ret_list, struct error **ret_error)
{
    static const char what[] = "the list of revoked certificates";
    gnutls_datum_t datum;
    cleanup(cleanup_list) gnutls_x509_crl_t list = NULL;
    int r = pki_text_datum(what, text, PKI_LIST_MAX, &datum, ret_error);
    if (r < 0)
        return r;
    if ((r = gnutls_x509_crl_init(&list)) < 0 ||
        (r = gnutls_x509_crl_import(list, &datum, GNUTLS_X509_FMT_PEM)) < 0)
        return error_set(ret_error, EINVAL, "%s is none: %s", what, gnutls_strerror(r));
    *ret_list = steal_ptr(&list);
    return 0;
}

char *pki_datum_text(const gnutls_datum_t *datum)
{
    return xstrndup((const char *)datum->data, datum->size);
}

int pki_export_certificate(gnutls_x509_crt_t certificate, char **ret_text, struct error **ret_error)
{
    cleanup(cleanup_datum) gnutls_datum_t pem = {0};
    int r = gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &pem);
    if (r < 0)
        return pki_failed(ret_error, "write a certificate", r);
    *ret_text = pki_datum_text(&pem);
    return 0;
}

bool pki_is_dns_name(const char *host)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
    size_t length = strlen(host);
    return length && length < 254 && strspn(host, allowed) == length && isalnum((unsigned char)*host);
}

static char *hex_text(const unsigned char *bytes, size_t length)
{
    struct strbuf text = {0};
    for (size_t i = 0; i < length; i++)
        strbuf_addf(&text, "%02x", bytes[i]);
    return strbuf_steal(&text);
}

/* Time is left out: see pki_verify(). */
int pki_check_list(gnutls_x509_crl_t list, gnutls_x509_crt_t authority, struct error **ret_error)
{
    unsigned status = 0;
    int r = gnutls_x509_crl_verify(list, &authority, 1, GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status);
    if (r < 0 || status)
        return error_set(ret_error, EACCES,
                         "the list of revoked certificates is not signed by this authority");
    return 0;
}

/* ---- Looking at certificates ---- */

void pki_certificate_clear(struct pki_certificate *certificate)
{
    free(certificate->name);
    free(certificate->serial);
    free(certificate->fingerprint);
    string_list_clear(&certificate->hosts);
    *certificate = (struct pki_certificate){0};
}

/* A part of the name that is there once; NULL otherwise. The caller's. */
static char *name_part(gnutls_x509_crt_t certificate, const char *oid)
{
    char text[256];
    size_t size = sizeof text;
    if (gnutls_x509_crt_get_dn_by_oid(certificate, oid, 0, 0, text, &size) < 0 || strlen(text) != size)
        return NULL;
    size_t more = 0;
    if (gnutls_x509_crt_get_dn_by_oid(certificate, oid, 1, 0, NULL, &more) !=
        GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
        return NULL;
    return xstrndup(text, size);
}

static int read_hosts(gnutls_x509_crt_t certificate, struct string_list *hosts)
{
    for (unsigned i = 0;; i++) {
        char host[256], text[INET6_ADDRSTRLEN];
        size_t size = sizeof host;
        int type = gnutls_x509_crt_get_subject_alt_name(certificate, i, host, &size, NULL);
        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            return 0;
        if (type < 0 || i >= PKI_HOSTS_MAX)
            return -EINVAL;
        if (type == GNUTLS_SAN_DNSNAME && size < sizeof host && strlen(host) == size && pki_is_dns_name(host))
            string_list_add(hosts, host);
        else if (type == GNUTLS_SAN_IPADDRESS && (size == 4 || size == 16) &&
                 inet_ntop(size == 4 ? AF_INET : AF_INET6, host, text, sizeof text))
            string_list_add(hosts, text);
        else
            return -EINVAL;
    }
}

static int read_numbers(gnutls_x509_crt_t certificate, struct pki_certificate *read)
{
    unsigned char serial[PKI_SERIAL_MAX], fingerprint[32];
    size_t serial_size = sizeof serial, size = sizeof fingerprint;
    int r = gnutls_x509_crt_get_serial(certificate, serial, &serial_size);
    if (r == 0)
        r = gnutls_x509_crt_get_fingerprint(certificate, GNUTLS_DIG_SHA256, fingerprint, &size);
    if (r < 0)
        return r;
    read->serial = hex_text(serial, serial_size);
    read->fingerprint = hex_text(fingerprint, size);
    read->not_before = gnutls_x509_crt_get_activation_time(certificate);
    read->not_after = gnutls_x509_crt_get_expiration_time(certificate);
    read->is_authority = gnutls_x509_crt_get_ca_status(certificate, NULL) > 0;
    return read->not_before < 0 || read->not_after < 0 ? -EINVAL : 0;
}

int pki_read(const char *text, struct pki_certificate *ret_certificate, struct error **ret_error)
{
    cleanup(cleanup_certificate) gnutls_x509_crt_t certificate = NULL;
    autopki_certificate struct pki_certificate read = {0};
    int r = pki_import_certificate("the certificate", text, &certificate, ret_error);
    if (r < 0)
        return r;
    read.name = name_part(certificate, GNUTLS_OID_X520_COMMON_NAME);
    if (!read.name || !is_name(read.name))
        return error_set(ret_error, EINVAL, "the certificate's CN is no name of this cluster's kind");
    if (read_numbers(certificate, &read) < 0 || read_hosts(certificate, &read.hosts) < 0)
        return error_set(ret_error, EINVAL, "certificate %s has parts that this cluster's have not",
                         read.name);
    autofree char *role = name_part(certificate, GNUTLS_OID_X520_ORGANIZATIONAL_UNIT_NAME);
    if (role)
        pki_role_parse(role, &read.role, NULL);
    *ret_certificate = read;
    read = (struct pki_certificate){0};
    return 0;
}

static int check_time(gnutls_x509_crt_t certificate, int64_t now, struct error **ret_error)
{
    if (now < gnutls_x509_crt_get_activation_time(certificate))
        return error_set(ret_error, EKEYEXPIRED, "the certificate is not valid yet: compare the clocks");
    if (now > gnutls_x509_crt_get_expiration_time(certificate))
        return error_set(ret_error, EKEYEXPIRED, "the certificate has expired");
    return 0;
}

int pki_verify(const char *text, const char *authority_text, const char *list_text, int64_t now,
               struct error **ret_error)
{
    cleanup(cleanup_certificate) gnutls_x509_crt_t certificate = NULL, authority = NULL;
    cleanup(cleanup_list) gnutls_x509_crl_t list = NULL;
    int r = pki_import_certificate("the certificate", text, &certificate, ret_error);
    if (r == 0)
        r = pki_import_certificate("the authority's certificate", authority_text, &authority, ret_error);
    if (r == 0 && list_text)
        r = pki_import_list(list_text, &list, ret_error);
    if (r == 0 && list)
        r = pki_check_list(list, authority, ret_error);
    if (r < 0)
        return r;
    unsigned status = 0;
    r = gnutls_x509_crt_verify(certificate, &authority, 1, GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status);
    if (r < 0 || status)
        return error_set(ret_error, EACCES, "the certificate is not one of this cluster's authority");
    if (gnutls_x509_crt_get_ca_status(certificate, NULL) > 0)
        return error_set(ret_error, EACCES, "the certificate is an authority's");
    if (list && gnutls_x509_crt_check_revocation(certificate, &list, 1) != 0)
        return error_set(ret_error, EKEYREVOKED, "the certificate is revoked");
    r = check_time(authority, now, ret_error);
    if (r < 0) {
        if (ret_error)
            error_prefix(ret_error, "the authority");
        return r;
    }
    return check_time(certificate, now, ret_error);
}

int pki_verify_list(const char *authority_text, const char *list_text, struct error **ret_error)
{
    cleanup(cleanup_certificate) gnutls_x509_crt_t authority = NULL;
    cleanup(cleanup_list) gnutls_x509_crl_t list = NULL;
    int r = pki_import_certificate("the authority's certificate", authority_text, &authority, ret_error);
    if (r == 0)
        r = pki_import_list(list_text, &list, ret_error);
    return r < 0 ? r : pki_check_list(list, authority, ret_error);
}

int pki_match(const char *text, const char *key_text, struct error **ret_error)
{
    cleanup(cleanup_certificate) gnutls_x509_crt_t certificate = NULL;
    cleanup(cleanup_key) gnutls_x509_privkey_t key = NULL;
    int r = pki_import_certificate("the certificate", text, &certificate, ret_error);
    if (r == 0)
        r = pki_import_key(key_text, &key, ret_error);
    if (r < 0)
        return r;
    unsigned char ours[64], theirs[64];
    size_t ours_size = sizeof ours, theirs_size = sizeof theirs;
    if (gnutls_x509_crt_get_key_id(certificate, 0, ours, &ours_size) < 0 ||
        gnutls_x509_privkey_get_key_id(key, 0, theirs, &theirs_size) < 0 || ours_size != theirs_size ||
        memcmp(ours, theirs, ours_size) != 0)
        return error_set(ret_error, EKEYREJECTED, "the private key is not the certificate's");
    return 0;
}

int pki_peer(void *session, char **ret_certificate, struct error **ret_error)
{
    unsigned count = 0;
    const gnutls_datum_t *shown = gnutls_certificate_get_peers(session, &count);
    if (!shown || !count)
        return error_set(ret_error, ENOENT, "who connects showed no certificate");
    cleanup(cleanup_certificate) gnutls_x509_crt_t certificate = NULL;
    int r = gnutls_x509_crt_init(&certificate);
    if (r == 0)
        r = gnutls_x509_crt_import(certificate, shown, GNUTLS_X509_FMT_DER);
    if (r < 0)
        return error_set(ret_error, EINVAL, "what was shown is no certificate: %s", gnutls_strerror(r));
    return pki_export_certificate(certificate, ret_certificate, ret_error);
}
