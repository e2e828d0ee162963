/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <string.h>
#include <time.h>

#include "rpc/base/alloc.h"
#include "rpc/pki_priv.h"

#define AUTHORITY_LIFE (20 * 365 * 86400LL)
#define CLOCK_SKEW     300 /* seconds by which a machine's clock may be behind */
#define SERIAL_BYTES   16

/* ---- Keys and requests ---- */

static int export_key(gnutls_x509_privkey_t key, char **ret_key, struct error **ret_error)
{
    cleanup(cleanup_datum) gnutls_datum_t pem = {0};
    int r = gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN, &pem);
    if (r < 0)
        return pki_failed(ret_error, "write a private key", r);
    *ret_key = pki_datum_text(&pem);
    gnutls_memset(pem.data, 0, pem.size);
    return 0;
}

int pki_key_make(char **ret_key, struct error **ret_error)
{
    cleanup(cleanup_key) gnutls_x509_privkey_t key = NULL;
    int r = gnutls_x509_privkey_init(&key);
    if (r == 0)
        r = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                         GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    if (r < 0)
        return pki_failed(ret_error, "make a private key", r);
    return export_key(key, ret_key, ret_error);
}

int pki_request_make(const char *key_text, const char *name, char **ret_request, struct error **ret_error)
{
    cleanup(cleanup_key) gnutls_x509_privkey_t key = NULL;
    cleanup(cleanup_request) gnutls_x509_crq_t request = NULL;
    cleanup(cleanup_datum) gnutls_datum_t pem = {0};
    int r = pki_name_check(name, ret_error);
    if (r == 0)
        r = pki_import_key(key_text, &key, ret_error);
    if (r < 0)
        return r;
    if ((r = gnutls_x509_crq_init(&request)) < 0 || (r = gnutls_x509_crq_set_version(request, 1)) < 0 ||
        (r = gnutls_x509_crq_set_dn_by_oid(request, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                           (unsigned)strlen(name))) < 0 ||
        (r = gnutls_x509_crq_set_key(request, key)) < 0 ||
        (r = gnutls_x509_crq_sign2(request, key, GNUTLS_DIG_SHA256, 0)) < 0 ||
        (r = gnutls_x509_crq_export2(request, GNUTLS_X509_FMT_PEM, &pem)) < 0)
        return pki_failed(ret_error, "make a request for a certificate", r);
    *ret_request = pki_datum_text(&pem);
    return 0;
}

static bool is_strong(gnutls_pubkey_t key)
{
    unsigned bits = 0;
    int algorithm = gnutls_pubkey_get_pk_algorithm(key, &bits);
    return algorithm == GNUTLS_PK_EDDSA_ED25519 || (algorithm == GNUTLS_PK_ECDSA && bits >= 256) ||
           (algorithm == GNUTLS_PK_RSA && bits >= 2048);
}

/* The public key of a request that its private key signed. */
static int request_key(const char *text, gnutls_pubkey_t *ret_key, struct error **ret_error)
{
    gnutls_datum_t datum;
    cleanup(cleanup_request) gnutls_x509_crq_t request = NULL;
    cleanup(cleanup_public) gnutls_pubkey_t key = NULL;
    int r = pki_text_datum("the request", text, PKI_TEXT_MAX, &datum, ret_error);
    if (r < 0)
        return r;
    if ((r = gnutls_x509_crq_init(&request)) < 0 ||
        (r = gnutls_x509_crq_import(request, &datum, GNUTLS_X509_FMT_PEM)) < 0 ||
        (r = gnutls_pubkey_init(&key)) < 0 || (r = gnutls_pubkey_import_x509_crq(key, request, 0)) < 0)
        return error_set(ret_error, EINVAL, "this is no request for a certificate: %s", gnutls_strerror(r));
    if ((r = gnutls_x509_crq_verify(request, 0)) < 0)
        return error_set(ret_error, EINVAL, "the request is not signed by the key that is in it: %s",
                         gnutls_strerror(r));
    if (!is_strong(key))
        return error_set(
            ret_error, EKEYREJECTED,
            "the key of the request is weak or of a kind that TLS does not take: make one on P-256");
    *ret_key = steal_ptr(&key);
    return 0;
}

/* ---- Certificates ---- */

static int set_time(gnutls_x509_crt_t certificate, int64_t seconds, int64_t end)
{
    time_t now = time(NULL);
    time_t until = (time_t)(now + seconds);
    int r = gnutls_x509_crt_set_activation_time(certificate, now - CLOCK_SKEW);
    return r < 0 ? r : gnutls_x509_crt_set_expiration_time(certificate, until < end ? until : (time_t)end);
}

/* The first bit would make it negative, and a zero before it is not part of how a number is written. */
static int set_serial(gnutls_x509_crt_t certificate)
{
    unsigned char serial[SERIAL_BYTES];
    int r = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial);
    if (r < 0)
        return r;
    serial[0] = (unsigned char)((serial[0] & 0x3f) | 0x40);
    return gnutls_x509_crt_set_serial(certificate, serial, sizeof serial);
}

static int set_key_id(gnutls_x509_crt_t certificate)
{
    unsigned char id[64];
    size_t size = sizeof id;
    int r = gnutls_x509_crt_get_key_id(certificate, 0, id, &size);
    return r < 0 ? r : gnutls_x509_crt_set_subject_key_id(certificate, id, size);
}

static int set_authority_key_id(gnutls_x509_crt_t certificate, gnutls_x509_crt_t authority)
{
    unsigned char id[64];
    size_t size = sizeof id;
    int r = gnutls_x509_crt_get_subject_key_id(authority, id, &size, NULL);
    return r < 0 ? r : gnutls_x509_crt_set_authority_key_id(certificate, id, size);
}

static int set_name(gnutls_x509_crt_t certificate, const char *oid, const char *name)
{
    return gnutls_x509_crt_set_dn_by_oid(certificate, oid, 0, name, (unsigned)strlen(name));
}

static int add_host(gnutls_x509_crt_t certificate, const char *host, struct error **ret_error)
{
    struct in6_addr address;
    int r = -EINVAL;
    if (inet_pton(AF_INET, host, &address) == 1)
        r = gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS, &address, 4,
                                                 GNUTLS_FSAN_APPEND);
    else if (inet_pton(AF_INET6, host, &address) == 1)
        r = gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS, &address, 16,
                                                 GNUTLS_FSAN_APPEND);
    else if (pki_is_dns_name(host))
        r = gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME, host,
                                                 (unsigned)strlen(host), GNUTLS_FSAN_APPEND);
    else
        return error_set(ret_error, EINVAL, "\"%.64s\" is neither an address nor the DNS name of a machine",
                         host);
    return r < 0 ? pki_failed(ret_error, "write a host into a certificate", r) : 0;
}

int pki_authority_make(const char *name, struct pki_authority *ret_authority, struct error **ret_error)
{
    autopki_authority struct pki_authority made = {0};
    cleanup(cleanup_key) gnutls_x509_privkey_t key = NULL;
    cleanup(cleanup_certificate) gnutls_x509_crt_t certificate = NULL;
    int r = pki_name_check(name, ret_error);
    if (r == 0)
        r = pki_key_make(&made.key, ret_error);
    if (r == 0)
        r = pki_import_key(made.key, &key, ret_error);
    if (r < 0)
        return r;
    if ((r = gnutls_x509_crt_init(&certificate)) < 0 ||
        (r = gnutls_x509_crt_set_version(certificate, 3)) < 0 || (r = set_serial(certificate)) < 0 ||
        (r = set_time(certificate, AUTHORITY_LIFE, INT64_MAX)) < 0 ||
        (r = set_name(certificate, GNUTLS_OID_X520_COMMON_NAME, name)) < 0 ||
        (r = gnutls_x509_crt_set_key(certificate, key)) < 0 ||
        (r = gnutls_x509_crt_set_basic_constraints(certificate, 1, 0)) < 0 ||
        (r = gnutls_x509_crt_set_key_usage(certificate, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN)) <
            0 ||
        (r = set_key_id(certificate)) < 0 ||
        (r = gnutls_x509_crt_sign2(certificate, certificate, key, GNUTLS_DIG_SHA256, 0)) < 0)
        return pki_failed(ret_error, "make an authority", r);
    r = pki_export_certificate(certificate, &made.certificate, ret_error);
    if (r < 0)
        return r;
    ret_authority->key = steal_ptr(&made.key);
    ret_authority->certificate = steal_ptr(&made.certificate);
    return 0;
}

void pki_authority_clear(struct pki_authority *authority)
{
    if (authority->key)
        gnutls_memset(authority->key, 0, strlen(authority->key));
    free(authority->key);
    free(authority->certificate);
    *authority = (struct pki_authority){0};
}

/* What signs: its two halves belong together. */
static int import_authority(const struct pki_authority *authority, gnutls_x509_privkey_t *ret_key,
                            gnutls_x509_crt_t *ret_certificate, struct error **ret_error)
{
    cleanup(cleanup_certificate) gnutls_x509_crt_t certificate = NULL;
    int r = pki_match(authority->certificate, authority->key, ret_error);
    if (r == 0)
        r = pki_import_certificate("the authority's certificate", authority->certificate, &certificate,
                                   ret_error);
    if (r == 0 && gnutls_x509_crt_get_ca_status(certificate, NULL) <= 0)
        r = error_set(ret_error, EKEYREJECTED, "the authority's certificate is not one to sign with");
    if (r == 0)
        r = pki_import_key(authority->key, ret_key, ret_error);
    if (r == 0)
        *ret_certificate = steal_ptr(&certificate);
    return r;
}

static int check_subject(const struct pki_subject *subject, struct error **ret_error)
{
    int r = pki_name_check(subject->name, ret_error);
    if (r < 0)
        return r;
    if (subject->role <= PKI_ROLE_NONE || subject->role > PKI_ROLE_CLIENT)
        return error_set(ret_error, EINVAL, "certificate %s needs a role", subject->name);
    if (subject->seconds <= 0 || subject->seconds > PKI_LIFE_MAX)
        return error_set(ret_error, EINVAL, "certificate %s can be valid for 1 to %lld seconds",
                         subject->name, PKI_LIFE_MAX);
    if (subject->hosts && subject->hosts->count > PKI_HOSTS_MAX)
        return error_set(ret_error, EINVAL, "certificate %s can name %d hosts at most", subject->name,
                         PKI_HOSTS_MAX);
    return 0;
}

static int set_subject(gnutls_x509_crt_t certificate, const struct pki_subject *subject,
                       struct error **ret_error)
{
    int r = set_name(certificate, GNUTLS_OID_X520_COMMON_NAME, subject->name);
    if (r == 0)
        r = set_name(certificate, GNUTLS_OID_X520_ORGANIZATIONAL_UNIT_NAME, pki_role_word(subject->role));
    if (r == 0)
        r = gnutls_x509_crt_set_key_purpose_oid(certificate, GNUTLS_KP_TLS_WWW_CLIENT, 0);
    if (r == 0 && subject->role == PKI_ROLE_NODE)
        r = gnutls_x509_crt_set_key_purpose_oid(certificate, GNUTLS_KP_TLS_WWW_SERVER, 0);
    if (r < 0)
        return pki_failed(ret_error, "write a certificate's name", r);
    for (size_t i = 0; subject->hosts && i < subject->hosts->count; i++) {
        r = add_host(certificate, subject->hosts->items[i], ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

static int sign_key(gnutls_pubkey_t key, const struct pki_subject *subject, gnutls_x509_crt_t authority,
                    gnutls_x509_privkey_t authority_key, char **ret_certificate, struct error **ret_error)
{
    cleanup(cleanup_certificate) gnutls_x509_crt_t certificate = NULL;
    int64_t end = gnutls_x509_crt_get_expiration_time(authority);
    int r = gnutls_x509_crt_init(&certificate);
    if (r < 0)
        return pki_failed(ret_error, "make a certificate", r);
    r = set_subject(certificate, subject, ret_error);
    if (r < 0)
        return r;
    if ((r = gnutls_x509_crt_set_version(certificate, 3)) < 0 || (r = set_serial(certificate)) < 0 ||
        (r = set_time(certificate, subject->seconds, end)) < 0 ||
        (r = gnutls_x509_crt_set_pubkey(certificate, key)) < 0 ||
        (r = gnutls_x509_crt_set_basic_constraints(certificate, 0, -1)) < 0 ||
        (r = gnutls_x509_crt_set_key_usage(certificate, GNUTLS_KEY_DIGITAL_SIGNATURE)) < 0 ||
        (r = set_key_id(certificate)) < 0 || (r = set_authority_key_id(certificate, authority)) < 0 ||
        (r = gnutls_x509_crt_sign2(certificate, authority, authority_key, GNUTLS_DIG_SHA256, 0)) < 0)
        return pki_failed(ret_error, "sign a certificate", r);
    return pki_export_certificate(certificate, ret_certificate, ret_error);
}

int pki_sign(const struct pki_authority *authority, const char *request, const struct pki_subject *subject,
             char **ret_certificate, struct error **ret_error)
{
    cleanup(cleanup_key) gnutls_x509_privkey_t signing_key = NULL;
    cleanup(cleanup_certificate) gnutls_x509_crt_t signer = NULL;
    cleanup(cleanup_public) gnutls_pubkey_t key = NULL;
    int r = check_subject(subject, ret_error);
    if (r == 0)
        r = import_authority(authority, &signing_key, &signer, ret_error);
    if (r == 0)
        r = request_key(request, &key, ret_error);
    return r < 0 ? r : sign_key(key, subject, signer, signing_key, ret_certificate, ret_error);
}

/* ---- The list of revoked certificates ---- */

static int serial_bytes(const char *text, unsigned char bytes[PKI_SERIAL_MAX], size_t *ret_length,
                        struct error **ret_error)
{
    size_t length = strlen(text);
    if (!length || length % 2 || length > 2 * PKI_SERIAL_MAX ||
        strspn(text, "0123456789abcdefABCDEF") != length)
        return error_set(ret_error, EINVAL, "a serial number has 1 to %d pairs of hexadecimal digits",
                         PKI_SERIAL_MAX);
    for (size_t i = 0; i < length / 2; i++)
        bytes[i] = (unsigned char)strtoul((char[]){text[2 * i], text[2 * i + 1], '\0'}, NULL, 16);
    *ret_length = length / 2;
    return 0;
}

/* Copies who is on a list; whether it is ours was looked at before. */
static int copy_revoked(gnutls_x509_crl_t from, gnutls_x509_crl_t to, const unsigned char *serial,
                        size_t serial_length, bool *ret_found)
{
    gnutls_x509_crl_iter_t iterator = NULL;
    int r = 0;
    while (r == 0) {
        unsigned char bytes[PKI_SERIAL_MAX];
        size_t length = sizeof bytes;
        time_t when;
        r = gnutls_x509_crl_iter_crt_serial(from, &iterator, bytes, &length, &when);
        if (r == 0)
            r = gnutls_x509_crl_set_crt_serial(to, bytes, length, when);
        if (r == 0 && serial && length == serial_length && memcmp(bytes, serial, length) == 0)
            *ret_found = true;
    }
    gnutls_x509_crl_iter_deinit(iterator);
    return r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE ? 0 : r;
}

/* A list's number grows with each one, and it must say until when it is good: as long as its authority. */
static int sign_list(gnutls_x509_crl_t list, uint64_t number, gnutls_x509_crt_t authority,
                     gnutls_x509_privkey_t key)
{
    unsigned char bytes[8], id[64];
    size_t id_size = sizeof id;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(number >> (8 * (sizeof bytes - 1 - i)));
    int r;
    if ((r = gnutls_x509_crl_set_version(list, 2)) < 0 ||
        (r = gnutls_x509_crl_set_this_update(list, time(NULL) - CLOCK_SKEW)) < 0 ||
        (r = gnutls_x509_crl_set_next_update(list, gnutls_x509_crt_get_expiration_time(authority))) < 0 ||
        (r = gnutls_x509_crl_set_number(list, bytes, sizeof bytes)) < 0 ||
        (r = gnutls_x509_crt_get_subject_key_id(authority, id, &id_size, NULL)) < 0 ||
        (r = gnutls_x509_crl_set_authority_key_id(list, id, id_size)) < 0)
        return r;
    return gnutls_x509_crl_sign2(list, authority, key, GNUTLS_DIG_SHA256, 0);
}

static uint64_t list_number(gnutls_x509_crl_t list)
{
    unsigned char bytes[8];
    size_t size = sizeof bytes;
    uint64_t number = 0;
    if (gnutls_x509_crl_get_number(list, bytes, &size, NULL) < 0)
        return 0;
    for (size_t i = 0; i < size; i++)
        number = number << 8 | bytes[i];
    return number;
}

int pki_revoke(const struct pki_authority *authority, const char *old_text, const char *serial_text,
               char **ret_list, struct error **ret_error)
{
    cleanup(cleanup_key) gnutls_x509_privkey_t key = NULL;
    cleanup(cleanup_certificate) gnutls_x509_crt_t signer = NULL;
    cleanup(cleanup_list) gnutls_x509_crl_t old = NULL, list = NULL;
    cleanup(cleanup_datum) gnutls_datum_t pem = {0};
    unsigned char serial[PKI_SERIAL_MAX];
    size_t serial_length = 0;
    bool found = false;
    int r = import_authority(authority, &key, &signer, ret_error);
    if (r == 0 && serial_text)
        r = serial_bytes(serial_text, serial, &serial_length, ret_error);
    if (r == 0 && old_text)
        r = pki_import_list(old_text, &old, ret_error);
    if (r == 0 && old)
        r = pki_check_list(old, signer, ret_error);
    if (r < 0)
        return r;
    r = gnutls_x509_crl_init(&list);
    if (r == 0 && old)
        r = copy_revoked(old, list, serial_text ? serial : NULL, serial_length, &found);
    if (r == 0 && serial_text && !found)
        r = gnutls_x509_crl_set_crt_serial(list, serial, serial_length, time(NULL));
    if (r == 0)
        r = sign_list(list, (old ? list_number(old) : 0) + 1, signer, key);
    if (r == 0)
        r = gnutls_x509_crl_export2(list, GNUTLS_X509_FMT_PEM, &pem);
    if (r < 0)
        return pki_failed(ret_error, "make the list of revoked certificates", r);
    *ret_list = pki_datum_text(&pem);
    return 0;
}
