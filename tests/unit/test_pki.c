/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The authority: what it signs is good for OpenSSL and certtool too, and what it did not sign is refused. */
#include "authorities.h"

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
    };
    return cmocka_run_group_tests(tests, make_authorities, free_authorities);
}
