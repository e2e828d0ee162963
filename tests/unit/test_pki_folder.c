/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Where certificates are used and kept: in TLS sessions, and in the folder of a node. */
#include "authorities.h"

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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers),
        cmocka_unit_test_setup_teardown(a_node_of_its_own, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_is_lost, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(half_made, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, make_authorities, free_authorities);
}
