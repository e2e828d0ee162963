/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/config.h"

static char folder[] = "/tmp/test-config-XXXXXX";
static char *path;

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    path = xasprintf("%s/blockd.conf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    free(path);
    return rmdir(folder);
}

static void defaults_without_a_file(void **state)
{
    (void)state;
    struct config config;
    autoerror struct error *error = NULL;
    unlink(path);
    assert_int_equal(config_load(path, &config, &error), 0);
    assert_null(error);
    assert_string_equal(config.address, "127.0.0.1");
    assert_string_equal(config.zone, "");
    assert_string_equal(config.state_dir, "/var/lib/blockd");
    assert_string_equal(config.group, "blockd");
    assert_int_equal(config.log_level, 2);
    assert_int_equal(config.supervisor, SUPERVISOR_AUTO);
    assert_int_equal(config.store_backend, CONFIG_STORE_SQLITE);
    assert_string_equal(config.store_prefix, "/blockd");
    assert_int_equal(config.port_min, 49152);
    assert_int_equal(config.port_max, 49663);
    assert_int_equal(config.ping_timeout, 5);
    assert_string_equal(config.nbd_listen, "127.0.0.1");
    assert_int_equal(config.nbd_port, 10809);
    assert_int_equal(config.nbd_tls, TLS_OFF);
    assert_false(config.nbd_plain_anywhere);
    assert_int_equal(config.nbd_memory, 64 << 20);
    assert_true(strlen(config.node_name) > 0);
    assert_null(strchr(config.node_name, '.'));
    autofree char *socket = config_nbd_control_path(&config);
    assert_string_equal(socket, "/run/blockd/nbd-control.sock");
    config_clear(&config);
    config_clear(&config); /* a second time does no harm */
}

static void every_key_is_read(void **state)
{
    (void)state;
    static const char text[] = "# comment\n"
                               "; comment\n"
                               "[node]\n"
                               "name = alpha_1\n"
                               "address=2001:db8::1\n"
                               "   zone : rack-2   ; indented, with a comment\n"
                               "\n"
                               "[daemon]\r\n"
                               "state-dir = /srv/state\r\n"
                               "run-dir = /srv/run\n"
                               "log-dir = /srv/a log/folder\n"
                               "log-level = debug\n"
                               "supervisor = children\n"
                               "group =\n"
                               "[store]\n"
                               "backend = etcd\nendpoints = a,https://[::1]:2379\nprefix = /p/q\n"
                               "ca = /srv/ca\ncert = /srv/cert\nkey = /srv/key\ntimeout = 7\n"
                               "[engine]\n"
                               "port-min = 50000\nport-max = 50001\nping-timeout = 42\n"
                               "[nbd]\n"
                               "listen = 192.0.2.7\nport = 10810\ntls = require\nplain-anywhere = TRUE\n"
                               "tls-dir = /srv/tls\npsk-file = /srv/psk\nthreads = 3\nconnections = 7\n"
                               "requests = 9\nmemory = 1.5G"; /* no newline at the end */
    assert_int_equal(file_write_atomic(path, text, 0600, NULL), 0);
    struct config config;
    autoerror struct error *error = NULL;
    int r = config_load(path, &config, &error);
    if (r < 0)
        fail_msg("%s", error_message(error));
    assert_string_equal(config.node_name, "alpha_1");
    assert_string_equal(config.address, "2001:db8::1");
    assert_string_equal(config.zone, "rack-2");
    assert_string_equal(config.state_dir, "/srv/state");
    assert_string_equal(config.run_dir, "/srv/run");
    assert_string_equal(config.log_dir, "/srv/a log/folder");
    assert_int_equal(config.log_level, 3);
    assert_int_equal(config.supervisor, SUPERVISOR_CHILDREN);
    assert_string_equal(config.group, "");
    assert_int_equal(config.store_backend, CONFIG_STORE_ETCD);
    assert_string_equal(config.store_endpoints, "a,https://[::1]:2379");
    assert_string_equal(config.store_prefix, "/p/q");
    assert_string_equal(config.store_ca, "/srv/ca");
    assert_string_equal(config.store_cert, "/srv/cert");
    assert_string_equal(config.store_key, "/srv/key");
    assert_int_equal(config.store_timeout, 7);
    assert_int_equal(config.port_min, 50000);
    assert_int_equal(config.port_max, 50001);
    assert_int_equal(config.ping_timeout, 42);
    assert_string_equal(config.nbd_listen, "192.0.2.7");
    assert_int_equal(config.nbd_port, 10810);
    assert_int_equal(config.nbd_tls, TLS_REQUIRE);
    assert_true(config.nbd_plain_anywhere);
    assert_string_equal(config.nbd_tls_dir, "/srv/tls");
    assert_string_equal(config.nbd_psk_file, "/srv/psk");
    assert_int_equal(config.nbd_threads, 3);
    assert_int_equal(config.nbd_connections, 7);
    assert_int_equal(config.nbd_requests, 9);
    assert_int_equal(config.nbd_memory, 3ull << 29);
    config_clear(&config);
}

static void bad_files_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int line; /* 0: the file as a whole */
        const char *part;
    } cases[] = {
        {"[node]\nname = a b\n", 2, "[node] name"},
        {"[node]\nname =\n", 2, "empty"},
        {"[node]\nname = -x\n", 2, "begins with"},
        {"\n\n[bogus]\n", 3, "no section [bogus]"},
        {"[nodes]\nname = a\n", 1, "no section [nodes]"},
        {"[node]\nnmae = a\n", 2, "no key \"nmae\""},
        {"name = a\n", 1, "before the first"},
        {"[node]\nname\n", 2, "neither"},
        {"[node\nname = a\n", 1, "neither"},
        {"[node]\nname = a\nname = b\n", 3, "second time"},
        {"[node]\nname = a\n[nbd]\n[node]\nname = a\n", 5, "second time"},
        {"[node]\naddress = storage.example\n", 2, "no IPv4 or IPv6 address"},
        {"[node]\naddress = 300.0.0.1\n", 2, "no IPv4 or IPv6 address"},
        {"[node]\naddress = 0.0.0.0\n", 2, "all addresses"},
        {"[node]\naddress = ::\n", 2, "all addresses"},
        {"[daemon]\nstate-dir = relative\n", 2, "no absolute path"},
        {"[daemon]\nlog-level = loud\n", 2, "none of error, warning, info, debug"},
        {"[daemon]\nsupervisor =\n", 2, "none of auto"},
        {"[daemon]\nzone = a\x01"
         "b\n",
         2, "no key"},
        {"[daemon]\ngroup = a\x01"
         "b\n",
         2, "control character"},
        {"[store]\nbackend = etcd2\n", 2, "none of sqlite, etcd"},
        {"[store]\nbackend = etcd\n", 0, "needs endpoints"},
        {"[store]\nkey = /k\n", 0, "together"},
        {"[store]\nprefix =\n", 2, "empty"},
        {"[engine]\nport-min = 0\n", 2, "not between 1 and 65535"},
        {"[engine]\nport-max = 65536\n", 2, "not between"},
        {"[engine]\nport-max = 18446744073709551617\n", 2, "no number"},
        {"[engine]\nport-max = -1\n", 2, "no number"},
        {"[engine]\nport-max = 0x10\n", 2, "no number"},
        {"[engine]\nport-max =\n", 2, "no number"},
        {"[engine]\nport-min = 50000\nport-max = 49999\n", 0, "above port-max"},
        {"[nbd]\nport = 49200\n", 0, "ports of bricks"},
        {"[nbd]\nlisten = 192.0.2.1\n", 0, "is not loopback"},
        {"[nbd]\nlisten = ::\ntls = allow\n", 0, "is not loopback"},
        {"[nbd]\nplain-anywhere = maybe\n", 2, "neither yes nor no"},
        {"[nbd]\nmemory = 1MiB\n", 2, "not between"},
        {"[nbd]\nmemory = lots\n", 2, "no size"},
        {"[nbd]\npsk-file = psk\n", 2, "no absolute path"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        autoerror struct error *error = NULL;
        struct config config;
        memset(&config, 0xa5, sizeof config);
        assert_int_equal(file_write_atomic(path, cases[i].text, 0600, NULL), 0);
        int r = config_load(path, &config, &error);
        if (r != -EINVAL && r != -ERANGE)
            fail_msg("case %zu: result %d", i, r);
        autofree char *place =
            cases[i].line ? xasprintf("%s:%d: ", path, cases[i].line) : xasprintf("%s: ", path);
        if (!strstr(error_message(error), place) || !strstr(error_message(error), cases[i].part))
            fail_msg("case %zu: %s", i, error_message(error));
        /* The output is untouched. */
        for (size_t byte = 0; byte < sizeof config; byte++)
            assert_int_equal(((unsigned char *)&config)[byte], 0xa5);
        assert_int_equal(config_load(path, &config, NULL), r);
    }
}

static void long_and_binary_files(void **state)
{
    (void)state;
    struct config config;
    autoerror struct error *error = NULL;
    autostrbuf struct strbuf text = {0};
    strbuf_adds(&text, "[daemon]\nlog-dir = /");
    for (int i = 0; i < 300; i++)
        strbuf_adds(&text, "x");
    strbuf_adds(&text, "\n");
    assert_int_equal(file_write_atomic(path, text.data, 0600, NULL), 0);
    assert_int_equal(config_load(path, &config, &error), -EINVAL);
    assert_non_null(strstr(error_message(error), ":2: the line is longer"));

    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite("[node]\n\0name = a\n", 1, 17, file), 17);
    fclose(file);
    assert_int_equal(config_load(path, &config, &error), -EINVAL);
    assert_non_null(strstr(error_message(error), "NUL"));

    assert_int_equal(config_load(folder, &config, &error), -EISDIR);
}

static void addresses(void **state)
{
    (void)state;
    assert_true(config_address_is_loopback("127.0.0.1"));
    assert_true(config_address_is_loopback("127.9.9.9"));
    assert_true(config_address_is_loopback("::1"));
    assert_true(config_address_is_loopback("::ffff:127.0.0.1"));
    assert_false(config_address_is_loopback("::"));
    assert_false(config_address_is_loopback("128.0.0.1"));
    assert_false(config_address_is_loopback("localhost"));
    assert_false(config_address_is_loopback(""));
    assert_true(config_address_is_any("0.0.0.0"));
    assert_true(config_address_is_any("::"));
    assert_false(config_address_is_any("::1"));
    assert_false(config_address_is_any(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_without_a_file),
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(bad_files_name_the_line),
        cmocka_unit_test(long_and_binary_files),
        cmocka_unit_test(addresses),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
