/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/base/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

socklen_t address_parse(const char *text, unsigned port, struct sockaddr_storage *ret_address)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret_address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_address;
    *ret_address = (struct sockaddr_storage){0};
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        return sizeof *v6;
    }
    return 0;
}

int address_check(const char *text, struct error **ret_error)
{
    struct sockaddr_storage address;
    if (!address_parse(text, 0, &address))
        return error_set(ret_error, EINVAL, "\"%.64s\" is no IPv4 or IPv6 address", text);
    return 0;
}

bool address_equal(const char *a, const char *b)
{
    struct sockaddr_storage left, right;
    socklen_t length = address_parse(a, 0, &left);
    return length && address_parse(b, 0, &right) == length && memcmp(&left, &right, length) == 0;
}
