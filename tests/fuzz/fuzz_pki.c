/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Requests, certificates and lists of strangers: what is believed of them is in the form that was promised,
 * and nothing that the authority did not sign is good. The first byte says what the rest is. */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/pki.h"

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static struct pki_authority authority;
static char *key;

static void free_authority(void)
{
    pki_authority_clear(&authority);
    free(key);
}

static void make_authority(void)
{
    if (authority.key)
        return;
    REQUIRE(pki_authority_make("fuzz", &authority, NULL) == 0);
    REQUIRE(pki_key_make(&key, NULL) == 0);
    atexit(free_authority);
}

static void check_error(const struct error *error)
{
    REQUIRE(error && *error->message);
}

static void check_request(const char *text)
{
    autofree char *certificate = NULL;
    autoerror struct error *error = NULL;
    struct pki_subject subject = {.name = "n", .role = PKI_ROLE_NODE, .seconds = 3600};
    int r = pki_sign(&authority, text, &subject, &certificate, &error);
    if (r < 0) {
        REQUIRE(r == -EINVAL || r == -EFBIG || r == -EKEYREJECTED);
        check_error(error);
        return;
    }
    autopki_certificate struct pki_certificate read = {0};
    REQUIRE(pki_read(certificate, &read, NULL) == 0);
    REQUIRE(strcmp(read.name, "n") == 0 && read.role == PKI_ROLE_NODE && !read.hosts.count);
    REQUIRE(!read.is_authority);
    REQUIRE(pki_verify(certificate, authority.certificate, NULL, read.not_before, NULL) == 0);
}

static void check_certificate(const char *text)
{
    autoerror struct error *error = NULL;
    REQUIRE(pki_verify(text, authority.certificate, NULL, 1, &error) < 0);
    check_error(error);
    pki_match(text, key, NULL);
    autopki_certificate struct pki_certificate read = {0};
    if (pki_read(text, &read, NULL) < 0)
        return;
    REQUIRE(pki_name_check(read.name, NULL) == 0);
    REQUIRE(strlen(read.fingerprint) == 64 && strlen(read.serial) <= 40);
    REQUIRE(read.hosts.count <= PKI_HOSTS_MAX);
    for (size_t i = 0; i < read.hosts.count; i++)
        REQUIRE(!strpbrk(read.hosts.items[i], "\n, *"));
}

static void check_list(const char *text)
{
    autofree char *list = NULL;
    REQUIRE(pki_verify_list(authority.certificate, text, NULL) < 0);
    REQUIRE(pki_revoke(&authority, text, "01", &list, NULL) < 0);
    REQUIRE(!list);
}

static char *as_pem(const char *label, const uint8_t *data, size_t size)
{
    gnutls_datum_t der = {(unsigned char *)data, (unsigned)size}, pem = {0};
    REQUIRE(gnutls_pem_base64_encode2(label, &der, &pem) == 0);
    char *text = xstrndup((const char *)pem.data, pem.size);
    gnutls_free(pem.data);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const labels[] = {"NEW CERTIFICATE REQUEST", "CERTIFICATE", "X509 CRL"};
    static void (*const checks[])(const char *) = {check_request, check_certificate, check_list};
    make_authority();
    if (!size)
        return 0;
    size_t kind = data[0] % 3;
    autofree char *text = data[0] & 0x80 ? xstrndup((const char *)data + 1, size - 1)
                                         : as_pem(labels[kind], data + 1, size - 1);
    checks[kind](text);
    return 0;
}
