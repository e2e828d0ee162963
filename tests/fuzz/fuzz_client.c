/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What comes from people and from strangers on the way into a cluster: endpoints, the client's configuration,
 * tokens, names of requests. What is accepted must survive the way back. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/client_config.h"
#include "rpc/endpoint.h"
#include "rpc/http_server.h"
#include "rpc/join_token.h"

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static void check_endpoint(const char *text)
{
    autoerror struct error *error = NULL;
    struct endpoint endpoint cleanup(endpoint_clear) = {0}, again cleanup(endpoint_clear) = {0};
    int r = endpoint_parse(text, &endpoint, &error);
    REQUIRE(r == 0 ? !error : r == -EINVAL && error && !endpoint.host);
    if (r < 0)
        return;
    autofree char *url = endpoint_url(&endpoint);
    REQUIRE(endpoint.port >= 1 && endpoint.port <= 65535 && !strpbrk(endpoint.host, "/@?# \t\r\n[]%\\\""));
    REQUIRE(endpoint_parse(url, &again, NULL) == 0 && again.port == endpoint.port &&
            strcmp(again.host, endpoint.host) == 0 && again.numeric == endpoint.numeric);
}

static void check_endpoints(const char *text)
{
    autoerror struct error *error = NULL;
    autostring_list struct string_list urls = {0};
    int r = endpoints_parse(text, &urls, &error);
    REQUIRE(r == 0 ? urls.count >= 1 && urls.count <= ENDPOINTS_MAX : r == -EINVAL && error && !urls.count);
}

static void check_client_config(const char *text)
{
    autoerror struct error *error = NULL;
    struct client_config config cleanup(client_config_clear) = {0};
    int r = client_config_parse(text, "/etc/blockd/client.conf", &config, &error);
    REQUIRE(r == 0 ? !error : r == -EINVAL && error && !config.ca && !config.endpoint);
    const char *const paths[] = {config.ca, config.cert, config.key};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        REQUIRE(!paths[i] || (paths[i][0] == '/' && !strchr(paths[i], '\n')));
}

static void check_token(const char *text)
{
    autoerror struct error *error = NULL;
    struct join_token token;
    char again[TOKEN_TEXT_MAX];
    if (join_token_parse(text, &token, &error) < 0) {
        REQUIRE(error && error->number == EINVAL);
        return;
    }
    join_token_text(&token, again);
    REQUIRE(strcmp(again, text) == 0);
}

static void check_request_id(const char *text)
{
    if (http_request_id_is_sane(text))
        REQUIRE(*text && strlen(text) <= HTTP_REQUEST_ID_MAX && !strpbrk(text, " \r\n\"\\:"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autofree char *text = xstrndup((const char *)data, size);
    check_endpoint(text);
    check_endpoints(text);
    check_client_config(text);
    check_token(text);
    check_request_id(text);
    return 0;
}
