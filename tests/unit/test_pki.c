/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The authority: what it signs is good for OpenSSL and certtool too, and what it did not sign is refused. */
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

static int run_in_folder(const char *text, const char *name, const char *const argv[])
{
    autofree char *path = xasprintf("%s/%s", folder, name);
    assert_int_equal(file_write_atomic(path, text, 0600, NULL), 0);
    autoerror struct error *error = NULL;
    int r = program_run(argv, 20000, NULL, NULL, &error);
    if (r < 0)
        print_message("%s\n", error_message(error));
    return r;
}

static char *sign_with(const struct pki_authority *authority, const char *key, const char *name,
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

static char *make_key(void)
{
    char *key = NULL;
    assert_int_equal(pki_key_make(&key, NULL), 0);
    return key;
}

/* ---- What is signed ---- */

static void read_what_was_signed(void **state)
{
    (void)state;
    autofree char *key = make_key(), *other_key = make_key();
    autofree char *text =
        sign_with(&ours, key, "node1", PKI_ROLE_NODE, "10.0.0.1,fd00::1,node1.example", 30 * DAY);
    autopki_certificate struct pki_certificate read = {0};
    assert_int_equal(pki_read(text, &read, NULL), 0);
    assert_string_equal(read.name, "node1");
    assert_int_equal(read.role, PKI_ROLE_NODE);
    assert_false(read.is_authority);
    assert_int_equal(read.hosts.count, 3);
    assert_true(string_list_contains(&read.hosts, "10.0.0.1"));
    assert_true(string_list_contains(&read.hosts, "fd00::1"));
    assert_true(string_list_contains(&read.hosts, "node1.example"));
    assert_int_equal(strlen(read.serial), 32);
    assert_int_equal(strlen(read.fingerprint), 64);
    int64_t now = time(NULL);
    assert_in_range(read.not_after, now + 30 * DAY - 60, now + 30 * DAY);
    assert_in_range(read.not_before, now - 400, now);

    assert_int_equal(pki_match(text, key, NULL), 0);
    assert_int_equal(pki_match(text, other_key, NULL), -EKEYREJECTED);
    assert_int_equal(pki_verify(text, ours.certificate, NULL, now, NULL), 0);

    autofree char *again = sign_with(&ours, key, "node1", PKI_ROLE_NODE, "", DAY);
    autopki_certificate struct pki_certificate second = {0};
    assert_int_equal(pki_read(again, &second, NULL), 0);
    assert_string_not_equal(read.serial, second.serial);
    assert_int_equal(second.hosts.count, 0);

    autopki_certificate struct pki_certificate authority = {0};
    assert_int_equal(pki_read(ours.certificate, &authority, NULL), 0);
    assert_true(authority.is_authority);
    assert_string_equal(authority.name, "cluster-1");
    assert_in_range(authority.not_after, now + 19 * 365 * DAY, now + 21 * 365 * DAY);
}

static void roles(void **state)
{
    (void)state;
    autofree char *key = make_key();
    for (enum pki_role role = PKI_ROLE_ADMIN; role <= PKI_ROLE_CLIENT; role++) {
        autofree char *text = sign_with(&ours, key, "x", role, "", DAY);
        autopki_certificate struct pki_certificate read = {0};
        assert_int_equal(pki_read(text, &read, NULL), 0);
        assert_int_equal(read.role, role);
        enum pki_role parsed = PKI_ROLE_NONE;
        assert_int_equal(pki_role_parse(pki_role_word(role), &parsed, NULL), 0);
        assert_int_equal(parsed, role);
    }
    enum pki_role role = PKI_ROLE_CSI;
    assert_int_equal(pki_role_parse("none", &role, NULL), -EINVAL);
    assert_int_equal(pki_role_parse("Admin", &role, NULL), -EINVAL);
    assert_int_equal(role, PKI_ROLE_CSI);
}

/* OpenSSL is what GlusterFS's transport is made of. */
static void openssl_agrees(void **state)
{
    (void)state;
    autofree char *key = make_key(), *request = NULL, *list = NULL, *revoked_list = NULL;
    assert_int_equal(pki_request_make(key, "node1", &request, NULL), 0);
    autofree char *request_path = xasprintf("%s/request", folder);
    assert_int_equal(
        run_in_folder(request, "request",
                      (const char *[]){"openssl", "req", "-verify", "-noout", "-in", request_path, NULL}),
        0);

    autofree char *text = sign_with(&ours, key, "node1", PKI_ROLE_NODE, "10.0.0.1,node1", DAY);
    autofree char *bundle_path = xasprintf("%s/bundle", folder), *path = xasprintf("%s/cert", folder);
    assert_int_equal(pki_revoke(&ours, NULL, NULL, &list, NULL), 0);
    autofree char *bundle = xasprintf("%s%s", ours.certificate, list);
    assert_int_equal(file_write_atomic(bundle_path, bundle, 0600, NULL), 0);
    const char *const verify[] = {"openssl",  "verify",    "-x509_strict", "-crl_check_all",
                                  "-purpose", "sslserver", "-verify_ip",   "10.0.0.1",
                                  "-CAfile",  bundle_path, path,           NULL};
    assert_int_equal(run_in_folder(text, "cert", verify), 0);

    autofree char *client = sign_with(&ours, key, "app", PKI_ROLE_CLIENT, "10.0.0.1", DAY);
    assert_int_equal(run_in_folder(client, "cert", verify), -EIO); /* it serves nobody */

    autopki_certificate struct pki_certificate read = {0};
    assert_int_equal(pki_read(text, &read, NULL), 0);
    assert_int_equal(pki_revoke(&ours, list, read.serial, &revoked_list, NULL), 0);
    autofree char *second = xasprintf("%s%s", ours.certificate, revoked_list);
    assert_int_equal(file_write_atomic(bundle_path, second, 0600, NULL), 0);
    assert_int_equal(run_in_folder(text, "cert", verify), -EIO);
}

/* ---- What is refused ---- */

static void other_authority(void **state)
{
    (void)state;
    autofree char *key = make_key();
    autofree char *text = sign_with(&others, key, "node1", PKI_ROLE_NODE, "", DAY);
    assert_int_equal(pki_verify(text, others.certificate, NULL, time(NULL), NULL), 0);
    assert_int_equal(pki_verify(text, ours.certificate, NULL, time(NULL), NULL), -EACCES);
    assert_int_equal(pki_verify(ours.certificate, ours.certificate, NULL, time(NULL), NULL), -EACCES);

    autofree char *request = NULL;
    char *nothing = NULL;
    struct pki_authority node = {key, text};
    struct pki_subject subject = {.name = "x", .role = PKI_ROLE_ADMIN, .seconds = DAY};
    assert_int_equal(pki_request_make(key, "x", &request, NULL), 0);
    assert_int_equal(pki_sign(&node, request, &subject, &nothing, NULL), -EKEYREJECTED);
    struct pki_authority mixed = {ours.key, others.certificate};
    assert_int_equal(pki_sign(&mixed, request, &subject, &nothing, NULL), -EKEYREJECTED);
    assert_null(nothing);
}

/* Who has a good certificate signs others with it. */
static void chain(void **state)
{
    (void)state;
    autofree char *key = make_key(), *request = NULL, *leaf = NULL;
    autofree char *text = sign_with(&ours, key, "node1", PKI_ROLE_NODE, "", DAY);
    char *paths[4];
    for (size_t i = 0; i < 4; i++)
        paths[i] = xasprintf("%s/%zu", folder, i);
    assert_int_equal(pki_request_make(key, "ops", &request, NULL), 0);
    assert_int_equal(file_write_atomic(paths[0], key, 0600, NULL), 0);
    assert_int_equal(file_write_atomic(paths[1], text, 0600, NULL), 0);
    const char *const argv[] = {"openssl", "x509",   "-req", "-CA",    paths[1], "-CAkey", paths[0],
                                "-in",     paths[2], "-out", paths[3], "-days",  "1",      NULL};
    assert_int_equal(run_in_folder(request, "2", argv), 0);
    assert_int_equal(file_read(paths[3], PKI_TEXT_MAX, &leaf, NULL, NULL), 0);
    autofree char *both = xasprintf("%s%s", leaf, text);
    assert_int_equal(pki_verify(leaf, ours.certificate, NULL, time(NULL), NULL), -EACCES);
    assert_int_equal(pki_verify(both, ours.certificate, NULL, time(NULL), NULL), -EACCES);
    assert_int_equal(pki_verify(leaf, text, NULL, time(NULL), NULL), -EACCES);
    for (size_t i = 0; i < 4; i++)
        free(paths[i]);
}

static void expired(void **state)
{
    (void)state;
    autofree char *key = make_key();
    autofree char *text = sign_with(&ours, key, "node1", PKI_ROLE_NODE, "", DAY);
    autoerror struct error *error = NULL;
    int64_t now = time(NULL);
    assert_int_equal(pki_verify(text, ours.certificate, NULL, now + DAY - 60, NULL), 0);
    assert_int_equal(pki_verify(text, ours.certificate, NULL, now + DAY + 1, &error), -EKEYEXPIRED);
    assert_non_null(strstr(error->message, "expired"));
    assert_int_equal(pki_verify(text, ours.certificate, NULL, now - DAY, NULL), -EKEYEXPIRED);
    /* Not beyond its authority, however old that grows. */
    autofree char *longest = sign_with(&ours, key, "node1", PKI_ROLE_NODE, "", PKI_LIFE_MAX);
    assert_int_equal(pki_verify(longest, ours.certificate, NULL, now + PKI_LIFE_MAX - 60, NULL), 0);
    assert_int_equal(pki_verify(longest, ours.certificate, NULL, now + 21 * 365 * DAY, NULL), -EKEYEXPIRED);
}

static void revoked(void **state)
{
    (void)state;
    autofree char *key = make_key(), *first = NULL, *second = NULL, *third = NULL, *same = NULL;
    autofree char *foreign = NULL;
    autofree char *a = sign_with(&ours, key, "a", PKI_ROLE_NODE, "", DAY);
    autofree char *b = sign_with(&ours, key, "b", PKI_ROLE_NODE, "", DAY);
    autopki_certificate struct pki_certificate read_a = {0}, read_b = {0};
    assert_int_equal(pki_read(a, &read_a, NULL), 0);
    assert_int_equal(pki_read(b, &read_b, NULL), 0);
    int64_t now = time(NULL);

    assert_int_equal(pki_revoke(&ours, NULL, NULL, &first, NULL), 0);
    assert_int_equal(pki_verify(a, ours.certificate, first, now, NULL), 0);
    assert_int_equal(pki_revoke(&ours, first, read_a.serial, &second, NULL), 0);
    assert_int_equal(pki_verify(a, ours.certificate, second, now, NULL), -EKEYREVOKED);
    assert_int_equal(pki_verify(b, ours.certificate, second, now, NULL), 0);
    assert_int_equal(pki_revoke(&ours, second, read_b.serial, &third, NULL), 0);
    assert_int_equal(pki_verify(a, ours.certificate, third, now, NULL), -EKEYREVOKED);
    assert_int_equal(pki_verify(b, ours.certificate, third, now, NULL), -EKEYREVOKED);
    assert_int_equal(pki_revoke(&ours, third, read_b.serial, &same, NULL), 0);
    assert_true(strlen(same) <= strlen(third) + 8);

    /* A list that somebody else made frees nobody, and is not signed over either. */
    assert_int_equal(pki_revoke(&others, NULL, NULL, &foreign, NULL), 0);
    assert_int_equal(pki_verify_list(ours.certificate, third, NULL), 0);
    assert_int_equal(pki_verify_list(ours.certificate, foreign, NULL), -EACCES);
    assert_int_equal(pki_verify(a, ours.certificate, foreign, now, NULL), -EACCES);
    char *nothing = NULL;
    assert_int_equal(pki_revoke(&ours, foreign, read_a.serial, &nothing, NULL), -EACCES);
    assert_int_equal(pki_revoke(&ours, third, "xy", &nothing, NULL), -EINVAL);
    assert_int_equal(pki_revoke(&ours, third, "", &nothing, NULL), -EINVAL);
    assert_null(nothing);
}

static void bad_requests(void **state)
{
    (void)state;
    autofree char *key = make_key(), *request = NULL;
    assert_int_equal(pki_request_make(key, "node1", &request, NULL), 0);
    struct pki_subject good = {.name = "node1", .role = PKI_ROLE_NODE, .seconds = DAY};
    char *nothing = NULL;

    /* One bit of the signature, which stands at the end. */
    autofree char *broken = xstrdup(request);
    char *last = strstr(broken, "-----END") - 8;
    *last = *last == 'A' ? 'B' : 'A';
    assert_int_equal(pki_sign(&ours, broken, &good, &nothing, NULL), -EINVAL);
    autofree char *half = xstrndup(request, strlen(request) / 2);
    assert_int_equal(pki_sign(&ours, half, &good, &nothing, NULL), -EINVAL);
    assert_int_equal(pki_sign(&ours, "", &good, &nothing, NULL), -EINVAL);
    assert_int_equal(pki_sign(&ours, ours.certificate, &good, &nothing, NULL), -EINVAL);
    autofree char *large = xcalloc(1, PKI_TEXT_MAX + 2);
    memset(large, 'A', PKI_TEXT_MAX + 1);
    assert_int_equal(pki_sign(&ours, large, &good, &nothing, NULL), -EFBIG);

    static const char *const names[] = {"", "*", "a b", "a,b", "-a", ".", "a/b", "a\n", "n\xc3\xa4"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct pki_subject subject = good;
        subject.name = names[i];
        assert_int_equal(pki_sign(&ours, request, &subject, &nothing, NULL), -EINVAL);
        char *unmade = NULL;
        assert_int_equal(pki_request_make(key, names[i], &unmade, NULL), -EINVAL);
    }
    static const char *const hosts[] = {"a b", "*.example", "1.2.3.4/24", "-x", "a_b"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        autostring_list struct string_list list = {0};
        string_list_add(&list, hosts[i]);
        struct pki_subject subject = good;
        subject.hosts = &list;
        assert_int_equal(pki_sign(&ours, request, &subject, &nothing, NULL), -EINVAL);
    }
    struct pki_subject subject = good;
    subject.role = PKI_ROLE_NONE;
    assert_int_equal(pki_sign(&ours, request, &subject, &nothing, NULL), -EINVAL);
    subject = good;
    subject.seconds = 0;
    assert_int_equal(pki_sign(&ours, request, &subject, &nothing, NULL), -EINVAL);
    subject.seconds = INT64_MAX;
    assert_int_equal(pki_sign(&ours, request, &subject, &nothing, NULL), -EINVAL);
    assert_null(nothing);
}

static void weak_key(void **state)
{
    (void)state;
    autofree char *key_path = xasprintf("%s/key", folder), *path = xasprintf("%s/request", folder);
    autofree char *request = NULL;
    char *nothing = NULL;
    struct pki_subject subject = {.name = "x", .role = PKI_ROLE_NODE, .seconds = DAY};
    static const char *const kinds[] = {"rsa:1024", "rsa:2048"};
    for (size_t i = 0; i < 2; i++) {
        autofree char *certificate = NULL;
        const char *const argv[] = {"openssl", "req",    "-new",    "-newkey", kinds[i], "-nodes", "-subj",
                                    "/CN=x",   "-batch", "-keyout", key_path,  "-out",   path,     NULL};
        assert_int_equal(program_run(argv, 20000, NULL, NULL, NULL), 0);
        free(request);
        request = NULL;
        assert_int_equal(file_read(path, PKI_TEXT_MAX, &request, NULL, NULL), 0);
        assert_int_equal(pki_sign(&ours, request, &subject, i ? &certificate : &nothing, NULL),
                         i ? 0 : -EKEYREJECTED);
    }
}

static void garbage(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "x", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
                                        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                                        "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct pki_certificate read = {0};
        char *nothing = NULL;
        struct pki_authority bad = {ours.key, (char *)texts[i]};
        assert_int_equal(pki_read(texts[i], &read, NULL), -EINVAL);
        assert_int_equal(pki_verify(texts[i], ours.certificate, NULL, 0, NULL), -EINVAL);
        assert_int_equal(pki_verify_list(ours.certificate, texts[i], NULL), -EINVAL);
        assert_int_equal(pki_match(ours.certificate, texts[i], NULL), -EINVAL);
        assert_int_equal(pki_revoke(&bad, NULL, NULL, &nothing, NULL), -EINVAL);
        assert_null(read.name);
    }
}

/* Certificates of others, with what ours never have. */
static void foreign_names(void **state)
{
    (void)state;
    static const char *const subjects[] = {"/O=nobody", "/CN=a/CN=b", "/CN=*", "/CN=a b", "/CN=a,b"};
    autofree char *key_path = xasprintf("%s/key", folder), *path = xasprintf("%s/cert", folder);
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects + 1; i++) {
        bool good = i == sizeof subjects / sizeof *subjects;
        const char *const argv[] = {"openssl",
                                    "req",
                                    "-x509",
                                    "-newkey",
                                    "ec",
                                    "-pkeyopt",
                                    "ec_paramgen_curve:P-256",
                                    "-nodes",
                                    "-batch",
                                    "-subj",
                                    good ? "/OU=root/CN=a" : subjects[i],
                                    "-keyout",
                                    key_path,
                                    "-out",
                                    path,
                                    NULL};
        autofree char *text = NULL;
        autopki_certificate struct pki_certificate read = {0};
        assert_int_equal(program_run(argv, 20000, NULL, NULL, NULL), 0);
        assert_int_equal(file_read(path, PKI_TEXT_MAX, &text, NULL, NULL), 0);
        assert_int_equal(pki_read(text, &read, NULL), good ? 0 : -EINVAL);
        if (good)
            assert_int_equal(read.role, PKI_ROLE_NONE);
    }
}

/* ---- Sessions ---- */

struct end {
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
};

static struct end make_end(unsigned flags, int fd, const char *certificate, const char *key)
{
    struct end end;
    gnutls_certificate_allocate_credentials(&end.credentials);
    gnutls_datum_t text = {(unsigned char *)certificate, (unsigned)(certificate ? strlen(certificate) : 0)};
    gnutls_datum_t key_text = {(unsigned char *)key, (unsigned)(key ? strlen(key) : 0)};
    if (certificate)
        assert_int_equal(
            gnutls_certificate_set_x509_key_mem(end.credentials, &text, &key_text, GNUTLS_X509_FMT_PEM), 0);
    gnutls_init(&end.session, flags | GNUTLS_NONBLOCK);
    gnutls_set_default_priority(end.session);
    gnutls_credentials_set(end.session, GNUTLS_CRD_CERTIFICATE, end.credentials);
    if (flags & GNUTLS_SERVER)
        gnutls_certificate_server_set_request(end.session, GNUTLS_CERT_REQUEST);
    gnutls_transport_set_int(end.session, fd);
    return end;
}

static void free_end(struct end *end)
{
    gnutls_deinit(end->session);
    gnutls_certificate_free_credentials(end->credentials);
}

static void check_peer(const char *certificate, const char *key)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    autofree char *server_key = make_key(), *shown = NULL;
    autofree char *server = sign_with(&ours, server_key, "node1", PKI_ROLE_NODE, "", DAY);
    struct end ends[2] = {make_end(GNUTLS_SERVER, fds[0], server, server_key),
                          make_end(GNUTLS_CLIENT, fds[1], certificate, key)};
    int done[2] = {GNUTLS_E_AGAIN, GNUTLS_E_AGAIN};
    for (int i = 0; done[0] == GNUTLS_E_AGAIN || done[1] == GNUTLS_E_AGAIN; i ^= 1)
        if (done[i] == GNUTLS_E_AGAIN)
            done[i] = gnutls_handshake(ends[i].session);
    assert_int_equal(done[0], 0);
    int r = pki_peer(ends[0].session, &shown, NULL);
    assert_int_equal(r, certificate ? 0 : -ENOENT);
    if (certificate)
        assert_int_equal(pki_match(shown, key, NULL), 0);
    for (int i = 0; i < 2; i++) {
        free_end(&ends[i]);
        close(fds[i]);
    }
}

static void peers(void **state)
{
    (void)state;
    autofree char *key = make_key();
    autofree char *text = sign_with(&ours, key, "ops", PKI_ROLE_ADMIN, "", DAY);
    check_peer(text, key);
    check_peer(NULL, NULL);
}

/* ---- The folder ---- */

static mode_t mode_of(enum pki_file file)
{
    autofree char *path = pki_path(folder, file);
    struct stat status;
    return stat(path, &status) < 0 ? 0 : status.st_mode & 07777;
}

static char *text_of(enum pki_file file)
{
    autofree char *path = pki_path(folder, file);
    char *text = NULL;
    assert_int_equal(file_read(path, PKI_LIST_MAX, &text, NULL, NULL), 0);
    return text;
}

static void lose(enum pki_file file)
{
    autofree char *path = pki_path(folder, file);
    assert_int_equal(unlink(path), 0);
}

static void a_node_of_its_own(void **state)
{
    (void)state;
    autostring_list struct string_list hosts = {0};
    string_list_add(&hosts, "FD00:0::1");
    struct pki_subject subject = {"node1", PKI_ROLE_NODE, &hosts, 90 * DAY};
    bool changed = false;
    assert_int_equal(pki_folder_node(folder, &subject, &changed, NULL), -ENOKEY);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pki_folder_authority(folder, "cluster-1", NULL), 0);
        assert_int_equal(pki_folder_node(folder, &subject, &changed, NULL), 0);
        assert_int_equal(changed, i == 0);
    }
    assert_int_equal(mode_of(PKI_AUTHORITY_KEY), 0600);
    assert_int_equal(mode_of(PKI_NODE_KEY), 0600);
    assert_int_equal(mode_of(PKI_NODE), 0644);
    autopki_certificate struct pki_certificate read = {0}, moved = {0};
    assert_int_equal(pki_folder_check(folder, &read, NULL), 0);
    assert_string_equal(read.hosts.items[0], "fd00::1");

    /* Another address: another certificate, the same key. */
    autofree char *key = text_of(PKI_NODE_KEY);
    string_list_add(&hosts, "10.0.0.1");
    assert_int_equal(pki_folder_node(folder, &subject, &changed, NULL), 0);
    assert_true(changed);
    autofree char *key_after = text_of(PKI_NODE_KEY);
    assert_string_equal(key, key_after);

    /* Near its end: renewed, and then it stays. */
    subject.seconds = 60;
    lose(PKI_NODE);
    assert_int_equal(pki_folder_node(folder, &subject, &changed, NULL), 0);
    subject.seconds = 90 * DAY;
    assert_int_equal(pki_folder_node(folder, &subject, &changed, NULL), 0);
    assert_true(changed);
    assert_int_equal(pki_folder_node(folder, &subject, &changed, NULL), 0);
    assert_false(changed);

    /* Revoked: not mended by signing anew. */
    assert_int_equal(pki_folder_check(folder, &moved, NULL), 0);
    assert_int_equal(pki_folder_revoke(folder, moved.serial, NULL), 0);
    assert_int_equal(pki_folder_node(folder, &subject, &changed, NULL), -EKEYREVOKED);
    lose(PKI_NODE);
    lose(PKI_NODE_KEY);
    assert_int_equal(pki_folder_node(folder, &subject, &changed, NULL), 0);
    autofree char *bundle = text_of(PKI_BUNDLE), *list = text_of(PKI_LIST);
    assert_non_null(strstr(bundle, list));
}

static void what_is_lost(void **state)
{
    (void)state;
    struct pki_subject subject = {.name = "node1", .role = PKI_ROLE_NODE, .seconds = DAY};
    assert_int_equal(pki_folder_authority(folder, "cluster-1", NULL), 0);
    assert_int_equal(pki_folder_node(folder, &subject, NULL, NULL), 0);

    lose(PKI_BUNDLE);
    assert_int_equal(pki_folder_authority(folder, "cluster-1", NULL), 0);
    assert_int_equal(mode_of(PKI_BUNDLE), 0644);

    autofree char *list = text_of(PKI_LIST);
    autoerror struct error *error = NULL;
    lose(PKI_LIST);
    assert_int_equal(pki_folder_authority(folder, "cluster-1", &error), -ENOENT);
    assert_non_null(strstr(error->message, "ca-crl.pem"));
    assert_int_equal(pki_folder_check(folder, &(struct pki_certificate){0}, NULL), -ENOENT);

    /* As a node has it that does not sign. */
    autofree char *authority = text_of(PKI_AUTHORITY), *certificate = text_of(PKI_NODE);
    lose(PKI_AUTHORITY_KEY);
    assert_int_equal(pki_folder_take_authority(folder, authority, list, NULL, NULL), 0);
    assert_int_equal(pki_folder_node(folder, &subject, NULL, NULL), 0);
    subject.name = "node2";
    assert_int_equal(pki_folder_node(folder, &subject, NULL, NULL), -ENOKEY);
    lose(PKI_NODE_KEY);
    autofree char *request = NULL, *request_again = NULL;
    assert_int_equal(pki_folder_request(folder, "node2", &request, NULL), 0);
    assert_int_equal(pki_folder_take_node(folder, certificate, NULL), -EKEYREJECTED);
    assert_int_equal(pki_folder_take_authority(folder, others.certificate, list, NULL, NULL), -EACCES);
    assert_int_equal(pki_folder_take_authority(folder, authority, list, others.key, NULL), -EKEYREJECTED);
    assert_int_equal(pki_folder_take_authority(folder, certificate, list, NULL, NULL), -EINVAL);
}

/* A process that died between two files: the authority's certificate is the last of them. */
static void half_made(void **state)
{
    (void)state;
    assert_int_equal(pki_folder_authority(folder, "cluster-1", NULL), 0);
    autofree char *before = text_of(PKI_AUTHORITY_KEY);
    lose(PKI_AUTHORITY);
    assert_int_equal(pki_folder_authority(folder, "cluster-1", NULL), 0);
    autofree char *after = text_of(PKI_AUTHORITY_KEY);
    assert_string_not_equal(before, after);
    struct pki_subject subject = {.name = "node1", .role = PKI_ROLE_NODE, .seconds = DAY};
    assert_int_equal(pki_folder_node(folder, &subject, NULL, NULL), 0);
}

int main(void)
{
    if (program_run((const char *[]){"openssl", "version", NULL}, 10000, NULL, NULL, NULL) < 0) {
        print_message("needs openssl\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_what_was_signed),
        cmocka_unit_test(roles),
        cmocka_unit_test_setup_teardown(openssl_agrees, make_folder, remove_folder),
        cmocka_unit_test(other_authority),
        cmocka_unit_test_setup_teardown(chain, make_folder, remove_folder),
        cmocka_unit_test(expired),
        cmocka_unit_test(revoked),
        cmocka_unit_test(bad_requests),
        cmocka_unit_test_setup_teardown(weak_key, make_folder, remove_folder),
        cmocka_unit_test(garbage),
        cmocka_unit_test_setup_teardown(foreign_names, make_folder, remove_folder),
        cmocka_unit_test(peers),
        cmocka_unit_test_setup_teardown(a_node_of_its_own, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_is_lost, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(half_made, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, make_authorities, free_authorities);
}
