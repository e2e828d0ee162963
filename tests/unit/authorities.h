/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Two authorities and a folder, and what they sign: for the tests of certificates. */
#ifndef BLOCKD_TESTS_AUTHORITIES_H
#define BLOCKD_TESTS_AUTHORITIES_H

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/base/spawn.h"
#include "rpc/pki_files.h"

#define DAY 86400LL

static struct pki_authority ours, others;
static char folder[32];

static int make_authorities(void **state)
{
    (void)state;
    int r = pki_authority_make("cluster-1", &ours, NULL);
    return r < 0 ? r : pki_authority_make("cluster-1", &others, NULL);
}

static int free_authorities(void **state)
{
    (void)state;
    pki_authority_clear(&ours);
    pki_authority_clear(&others);
    return 0;
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test-pki-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return program_run((const char *[]){"rm", "-rf", folder, NULL}, 10000, NULL, NULL, NULL);
}

static inline char *sign_with(const struct pki_authority *authority, const char *key, const char *name,
                              enum pki_role role, const char *hosts, int64_t seconds)
{
    autostring_list struct string_list list = {0};
    autofree char *request = NULL;
    autoerror struct error *error = NULL;
    char *certificate = NULL;
    string_list_split(&list, hosts, ',');
    assert_int_equal(pki_request_make(key, "wish", &request, &error), 0);
    struct pki_subject subject = {.name = name, .role = role, .hosts = &list, .seconds = seconds};
    if (pki_sign(authority, request, &subject, &certificate, &error) < 0)
        fail_msg("%s", error_message(error));
    return certificate;
}

static inline char *make_key(void)
{
    char *key = NULL;
    assert_int_equal(pki_key_make(&key, NULL), 0);
    return key;
}

#endif
