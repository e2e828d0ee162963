/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/endpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/base/address.h"
#include "rpc/base/alloc.h"

#define SCHEME   "https://"
#define HOST_MAX 253

static bool is_host_name(const char *host)
{
    size_t length = strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-");
    return length > 0 && length <= HOST_MAX && !host[length] && host[0] != '-' && host[0] != '.';
}

static int parse_port(const char *text, unsigned *ret_port)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits])
        return -EINVAL;
    unsigned long port = strtoul(text, NULL, 10);
    if (port < 1 || port > 65535)
        return -EINVAL;
    *ret_port = (unsigned)port;
    return 0;
}

/* The host's length, and where its port begins (NULL: there is none); 0 for what is neither. */
static size_t split(const char *text, const char **ret_host, const char **ret_port)
{
    *ret_host = text;
    *ret_port = NULL;
    if (*text == '[') {
        const char *end = strchr(text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return 0;
        *ret_host = text + 1;
        *ret_port = end[1] ? end + 2 : NULL;
        return (size_t)(end - text - 1);
    }
    const char *colon = strchr(text, ':');
    if (!colon || strchr(colon + 1, ':')) /* none, or an IPv6 address alone */
        return strlen(text);
    *ret_port = colon + 1;
    return (size_t)(colon - text);
}

int endpoint_parse(const char *text, struct endpoint *ret_endpoint, struct error **ret_error)
{
    const char *rest = string_starts_with(text, SCHEME) ? text + strlen(SCHEME) : text;
    size_t whole = strlen(rest);
    autofree char *clean = xstrndup(rest, whole && rest[whole - 1] == '/' ? whole - 1 : whole);
    const char *host, *port;
    size_t length = split(clean, &host, &port);
    struct endpoint endpoint = {.host = xstrndup(host, length), .port = API_PORT_DEFAULT};
    struct sockaddr_storage address;
    endpoint.numeric = address_parse(endpoint.host, 0, &address) > 0;
    bool v6 = endpoint.numeric && address.ss_family == AF_INET6;
    bool bad = clean[0] == '[' ? !v6 : !endpoint.numeric && !is_host_name(endpoint.host);
    if (bad || (port && parse_port(port, &endpoint.port) < 0)) {
        endpoint_clear(&endpoint);
        return error_set(
            ret_error, EINVAL,
            "\"%.300s\" is no endpoint: one is HOST, HOST:PORT, [IPV6]:PORT, or https:// before it", text);
    }
    *ret_endpoint = endpoint;
    return 0;
}

void endpoint_clear(struct endpoint *endpoint)
{
    free(endpoint->host);
    *endpoint = (struct endpoint){0};
}

char *endpoint_url(const struct endpoint *endpoint)
{
    bool v6 = strchr(endpoint->host, ':') != NULL;
    return xasprintf(SCHEME "%s%s%s:%u", v6 ? "[" : "", endpoint->host, v6 ? "]" : "", endpoint->port);
}

static char *trimmed(const char *text)
{
    text += strspn(text, " \t");
    size_t length = strlen(text);
    while (length && (text[length - 1] == ' ' || text[length - 1] == '\t'))
        length--;
    return xstrndup(text, length);
}

int endpoints_parse(const char *text, struct string_list *ret_urls, struct error **ret_error)
{
    autostring_list struct string_list parts = {0}, urls = {0};
    string_list_split(&parts, text, ',');
    if (parts.count == 0 || parts.count > ENDPOINTS_MAX)
        return error_set(ret_error, EINVAL, "from 1 to %d endpoints can be given, not %zu", ENDPOINTS_MAX,
                         parts.count);
    for (size_t i = 0; i < parts.count; i++) {
        autofree char *part = trimmed(parts.items[i]);
        struct endpoint endpoint cleanup(endpoint_clear) = {0};
        int r = endpoint_parse(part, &endpoint, ret_error);
        if (r < 0)
            return r;
        autofree char *url = endpoint_url(&endpoint);
        string_list_add(&urls, url);
    }
    *ret_urls = urls;
    urls = (struct string_list){0};
    return 0;
}
