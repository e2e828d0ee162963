/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* When a node makes an authority, signs for itself, or has to ask another one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/engine/engine_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/spawn.h"
#include "rpc/pki_files.h"

static char folder[40];
static struct engine engine;
static struct node nodes[2];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test-certificates-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    engine = (struct engine){.node = (char *)"node1", .pki = xasprintf("%s/pki", folder)};
    pthread_mutex_init(&engine.busy_mutex, NULL);
    pthread_cond_init(&engine.busy_changed, NULL);
    for (size_t i = 0; i < 2; i++) {
        nodes[i] =
            (struct node){.meta = {.name = xasprintf("node%zu", i + 1), .uid = xasprintf("uid-%zu", i)}};
        string_list_addf(&nodes[i].spec.addresses, "192.0.2.%zu", i + 1);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++)
        cleanup_node(&nodes[i]);
    free(engine.pki);
    string_list_clear(&engine.busy);
    pthread_cond_destroy(&engine.busy_changed);
    pthread_mutex_destroy(&engine.busy_mutex);
    return program_run((const char *[]){"rm", "-rf", folder, NULL}, 10000, NULL, NULL, NULL);
}

/* The certificate's fingerprint, "" when there is none; fails unless the call gives
 * `number`. The caller's. */
static char *keep(size_t count, bool wanted, int number)
{
    struct engine_certificate certificate = {0};
    autoerror struct error *error = NULL;
    int r = engine_certificates_up(&engine, nodes, count, wanted, &certificate, &error);
    if (r != number)
        fail_msg("%d, not %d: %s", r, number, error_message(error));
    char *fingerprint = certificate.fingerprint ? steal_ptr(&certificate.fingerprint) : xstrdup("");
    assert_int_equal(certificate.expires != 0, *fingerprint != '\0');
    engine_certificate_clear(&certificate);
    return fingerprint;
}

static void lose(enum pki_file file)
{
    autofree char *path = pki_path(engine.pki, file);
    assert_int_equal(unlink(path), 0);
}

static void only_when_wanted(void **state)
{
    (void)state;
    autofree char *none = keep(1, false, 0), *made = keep(1, true, 0), *kept = keep(1, false, 0);
    assert_string_equal(none, "");
    assert_int_equal(strlen(made), 64);
    assert_string_equal(made, kept);
    assert_int_equal(certificates_check(&engine, NULL), 0);
}

static void follows_the_addresses(void **state)
{
    (void)state;
    autofree char *before = keep(1, true, 0);
    string_list_add(&nodes[0].spec.addresses, "2001:db8::1");
    autofree char *after = keep(1, false, 0);
    assert_string_not_equal(before, after);
    autopki_certificate struct pki_certificate read = {0};
    assert_int_equal(pki_folder_check(engine.pki, &read, NULL), 0);
    assert_true(string_list_contains(&read.hosts, "2001:db8::1"));
    assert_int_equal(read.role, PKI_ROLE_NODE);
}

/* Two authorities would not know each other's nodes. */
static void one_of_several_joins(void **state)
{
    (void)state;
    autofree char *nothing = keep(2, true, -ENOKEY);
    assert_string_equal(nothing, "");
    assert_int_equal(access(engine.pki, F_OK), -1);
    assert_int_equal(certificates_check(&engine, NULL), -ENOENT);
}

static void another_node_signs(void **state)
{
    (void)state;
    autofree char *before = keep(1, true, 0);
    lose(PKI_AUTHORITY_KEY);
    autofree char *same = keep(2, true, 0);
    assert_string_equal(before, same);
    string_list_add(&nodes[0].spec.addresses, "2001:db8::1");
    autofree char *serves_on = keep(2, true, -ENOKEY);
    assert_string_equal(before, serves_on);
    autofree char *request = NULL, *certificate = NULL, *authority = NULL;
    assert_int_equal(pki_folder_request(engine.pki, "x", &request, NULL), 0);
    const struct pki_subject subject = {.name = "x", .role = PKI_ROLE_CLIENT, .seconds = 60};
    assert_int_equal(engine_certificate_sign(&engine, &subject, request, &certificate, &authority, NULL),
                     -ENOKEY);
}

static void revoked(void **state)
{
    (void)state;
    autofree char *made = keep(1, true, 0), *list = NULL;
    autopki_certificate struct pki_certificate read = {0};
    assert_int_equal(pki_folder_check(engine.pki, &read, NULL), 0);
    assert_int_equal(engine_certificate_revoke(&engine, read.serial, &list, NULL), 0);
    assert_non_null(strstr(list, "BEGIN X509 CRL"));
    autofree char *nothing = keep(1, true, -EKEYREVOKED);
    assert_string_equal(nothing, "");
    assert_int_equal(certificates_check(&engine, NULL), -EKEYREVOKED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_when_wanted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(follows_the_addresses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_of_several_joins, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_node_signs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(revoked, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
