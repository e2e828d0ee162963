/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>

#include "rpc/base/address.h"

static void only_whole_addresses_are_read(void **state)
{
    (void)state;
    static const char *const none[] = {"",     "host",  "10.0.0", "10.0.0.256", "10.0.0.1 ",
                                       " ::1", "[::1]", "::1%lo", "fe80::1::2", "10.0.0.1:80"};
    struct sockaddr_storage address;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_int_equal(address_parse(none[i], 80, &address), 0);
        assert_int_equal(address_check(none[i], NULL), -EINVAL);
    }
    assert_int_equal(address_parse("127.0.0.1", 80, &address), sizeof(struct sockaddr_in));
    assert_int_equal(address.ss_family, AF_INET);
    assert_int_equal(((struct sockaddr_in *)&address)->sin_port, htons(80));
    assert_int_equal(((struct sockaddr_in *)&address)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(address_parse("::1", 443, &address), sizeof(struct sockaddr_in6));
    assert_int_equal(address.ss_family, AF_INET6);
    assert_int_equal(((struct sockaddr_in6 *)&address)->sin6_port, htons(443));
    assert_true(IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&address)->sin6_addr));
}

static void spellings_of_one_address_are_equal(void **state)
{
    (void)state;
    assert_true(address_equal("10.0.0.1", "10.0.0.1"));
    assert_true(address_equal("fe80::1", "FE80:0:0:0::0001"));
    assert_false(address_equal("fe80::1", "fe80::2"));
    assert_false(address_equal("10.0.0.1", "10.0.0.2"));
    assert_false(address_equal("10.0.0.1", "::ffff:10.0.0.1"));
    assert_false(address_equal("host", "host"));
    assert_false(address_equal("", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_whole_addresses_are_read),
        cmocka_unit_test(spellings_of_one_address_are_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
