/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Where an API listens, as people write it: "node1:24010", "10.0.0.1", "[::1]:24010",
 * "https://node1:24010". */
#ifndef BLOCKD_RPC_ENDPOINT_H
#define BLOCKD_RPC_ENDPOINT_H

#include <stdbool.h>

#include "rpc/base/error.h"
#include "rpc/base/strings.h"

#define API_PORT_DEFAULT 24010
#define ENDPOINTS_MAX    64

struct endpoint {
    char *host; /* a name or an address, without brackets */
    unsigned port;
    bool numeric; /* the host is an IPv4 or IPv6 address */
};

/* An IPv6 address stands in brackets where a port follows. Nothing may follow the port but one "/". */
int endpoint_parse(const char *text, struct endpoint *ret_endpoint, struct error **ret_error);
void endpoint_clear(struct endpoint *endpoint);
/* "https://[::1]:24010". The caller's. */
char *endpoint_url(const struct endpoint *endpoint);

/* Parts between commas, blanks around them allowed: whole URLs of what each names. -EINVAL when there is
 * none, or more than ENDPOINTS_MAX. */
int endpoints_parse(const char *text, struct string_list *ret_urls, struct error **ret_error);

#endif
