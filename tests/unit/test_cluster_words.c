/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Endpoints, the client's configuration, join tokens, names of requests. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/base/alloc.h"
#include "rpc/client_config.h"
#include "rpc/endpoint.h"
#include "rpc/http_server.h"
#include "rpc/join_token.h"

static void good_endpoints(void **state)
{
    (void)state;
    static const struct {
        const char *text, *url;
        bool numeric;
    } cases[] = {
        {"node1", "https://node1:24010", false},
        {"node1.example:1", "https://node1.example:1", false},
        {"https://node1:65535/", "https://node1:65535", false},
        {"10.0.0.1", "https://10.0.0.1:24010", true},
        {"10.0.0.1:80", "https://10.0.0.1:80", true},
        {"::1", "https://[::1]:24010", true},
        {"[::1]", "https://[::1]:24010", true},
        {"https://[2001:db8::5]:7", "https://[2001:db8::5]:7", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct endpoint endpoint cleanup(endpoint_clear) = {0};
        assert_int_equal(endpoint_parse(cases[i].text, &endpoint, NULL), 0);
        autofree char *url = endpoint_url(&endpoint);
        assert_string_equal(url, cases[i].url);
        assert_int_equal(endpoint.numeric, cases[i].numeric);
    }
}

static void bad_endpoints(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",     "https://", "http://a",     "a:",     "a:0",   "a:65536",     "a:1x",      "a:-1",
        "[::1", "[::1]x",   "[::1]:",       "[a]:1",  "a b",   "a/b",         "user@host", "-a",
        ".a",   "a?x",      "[10.0.0.1]:1", "::1:x:", "a:1:2", "https://a//", "a\n"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        autoerror struct error *error = NULL;
        struct endpoint endpoint cleanup(endpoint_clear) = {0};
        assert_int_equal(endpoint_parse(cases[i], &endpoint, &error), -EINVAL);
        assert_non_null(strstr(error->message, "is no endpoint"));
    }
}

static void several_endpoints(void **state)
{
    (void)state;
    autostring_list struct string_list urls = {0}, none = {0};
    assert_int_equal(endpoints_parse(" a , [::1]:2,10.0.0.1", &urls, NULL), 0);
    assert_int_equal(urls.count, 3);
    assert_string_equal(urls.items[0], "https://a:24010");
    assert_string_equal(urls.items[1], "https://[::1]:2");
    static const char *const bad[] = {"", ",", "a,", "a,,b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(endpoints_parse(bad[i], &none, NULL), -EINVAL);
    struct strbuf many cleanup(strbuf_clear) = {0};
    for (int i = 0; i <= ENDPOINTS_MAX; i++)
        strbuf_adds(&many, i ? ",a" : "a");
    assert_int_equal(endpoints_parse(strbuf_string(&many), &none, NULL), -EINVAL);
}

static void client_configuration(void **state)
{
    (void)state;
    struct client_config config cleanup(client_config_clear) = {0};
    assert_int_equal(
        client_config_parse("# x\n\n endpoint=a,b\r\nca = ca.pem\ncert = /y/c.pem\nkey\t=  k e y  ",
                            "/etc/blockd/client.conf", &config, NULL),
        0);
    assert_string_equal(config.endpoint, "a,b");
    assert_string_equal(config.ca, "/etc/blockd/ca.pem");
    assert_string_equal(config.cert, "/y/c.pem");
    assert_string_equal(config.key, "/etc/blockd/k e y");
}

static void bad_client_configuration(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"x", "f:1: the line is not KEY = VALUE"},
                                           {"\n\nca", "f:3:"},
                                           {"ca =", "the value of ca is empty"},
                                           {"ca = a\nca = b", "f:2: ca is set a second time"},
                                           {"port = 1", "there is no key \"port\""},
                                           {"ca = a\x01", "control character"},
                                           {"= x", "there is no key \"\""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        autoerror struct error *error = NULL;
        struct client_config config = {0};
        assert_int_equal(client_config_parse(cases[i][0], "f", &config, &error), -EINVAL);
        assert_non_null(strstr(error->message, cases[i][1]));
        assert_null(config.ca);
    }
}

static void tokens(void **state)
{
    (void)state;
    char fingerprint[DIGEST_TEXT_SIZE], text[TOKEN_TEXT_MAX], hash[DIGEST_TEXT_SIZE], other[DIGEST_TEXT_SIZE];
    struct join_token made, read, second;
    digest_text("abc", fingerprint);
    assert_string_equal(fingerprint, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    join_token_make(fingerprint, &made);
    join_token_make(fingerprint, &second);
    assert_string_not_equal(made.id, second.id);
    assert_string_not_equal(made.secret, second.secret);
    join_token_text(&made, text);
    assert_int_equal(join_token_parse(text, &read, NULL), 0);
    assert_string_equal(read.id, made.id);
    assert_string_equal(read.secret, made.secret);
    assert_string_equal(read.fingerprint, fingerprint);
    join_token_hash(&made, hash);
    join_token_hash(&second, other);
    assert_null(strstr(text, hash));
    assert_true(digest_equal(hash, hash));
    assert_false(digest_equal(hash, other));
    assert_false(digest_equal(hash, "x"));
}

static void bad_tokens(void **state)
{
    (void)state;
    char text[TOKEN_TEXT_MAX], fingerprint[DIGEST_TEXT_SIZE];
    struct join_token token;
    digest_text("", fingerprint);
    join_token_make(fingerprint, &token);
    join_token_text(&token, text);
    for (size_t i = 0; text[i]; i++) {
        struct join_token read;
        autoerror struct error *error = NULL;
        autofree char *cut = xstrndup(text, i);
        autofree char *changed = xstrdup(text);
        changed[i] = 'G';
        assert_int_equal(join_token_parse(cut, &read, NULL), -EINVAL);
        assert_int_equal(join_token_parse(changed, &read, &error), -EINVAL);
        assert_null(strstr(error->message, token.secret)); /* it may be nearly right */
    }
    autofree char *longer = xasprintf("%s0", text);
    assert_int_equal(join_token_parse(longer, &token, NULL), -EINVAL);
}

static void request_names(void **state)
{
    (void)state;
    char longest[HTTP_REQUEST_ID_MAX + 2];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_false(http_request_id_is_sane(longest));
    longest[HTTP_REQUEST_ID_MAX] = '\0';
    assert_true(http_request_id_is_sane(longest));
    assert_true(http_request_id_is_sane("A-z.0_9"));
    static const char *const bad[] = {"", " ", "a b", "a\r\nX: y", "\xc3\xa4", "a/b", "a\"b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(http_request_id_is_sane(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_endpoints),
        cmocka_unit_test(bad_endpoints),
        cmocka_unit_test(several_endpoints),
        cmocka_unit_test(client_configuration),
        cmocka_unit_test(bad_client_configuration),
        cmocka_unit_test(tokens),
        cmocka_unit_test(bad_tokens),
        cmocka_unit_test(request_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
