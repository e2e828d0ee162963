/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* From a request's method and path to its row of the table. */
#include <errno.h>
#include <string.h>

#include "rpc/api.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/base/strings.h"

/* Percent-decodes `length` bytes; NULL when the encoding is wrong or hides a NUL. */
static char *decode_segment(const char *text, size_t length)
{
    autostrbuf struct strbuf decoded = {0};
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '%') {
            unsigned value;
            char hex[3] = {0};
            if (i + 2 >= length)
                return NULL;
            memcpy(hex, text + i + 1, 2);
            if (strspn(hex, "0123456789abcdefABCDEF") != 2)
                return NULL;
            value = (unsigned)strtoul(hex, NULL, 16);
            if (!value)
                return NULL;
            c = (char)value;
            i += 2;
        }
        strbuf_add(&decoded, &c, 1);
    }
    return strbuf_steal(&decoded);
}

static size_t segment_length(const char *path)
{
    return strcspn(path, "/");
}

/* Does the path have the shape of the pattern? Names are not looked at. */
static bool shape_matches(const char *pattern, const char *path)
{
    while (*pattern && *path) {
        size_t p = segment_length(pattern), q = segment_length(path);
        if (*pattern == '{' ? q == 0 : p != q || strncmp(pattern, path, p) != 0)
            return false;
        pattern += p;
        path += q;
        if (*pattern != *path)
            return false;
        if (*pattern) {
            pattern++;
            path++;
        }
    }
    return *pattern == *path;
}

static int collect_arguments(const char *pattern, const char *path, struct api_match *match,
                             struct error **ret_error)
{
    unsigned count = 0;
    while (*pattern) {
        size_t p = segment_length(pattern), q = segment_length(path);
        if (*pattern == '{') {
            autofree char *what = xstrndup(pattern + 1, p - 2);
            char *name = match->arguments[count++] = decode_segment(path, q);
            if (!name)
                return error_set(ret_error, EINVAL, "the %s name in the path is badly encoded", what);
            int r = name_check(what, name, ret_error);
            if (r < 0)
                return r;
        }
        pattern += p + (pattern[p] == '/');
        path += q + (path[q] == '/');
    }
    return 0;
}

int api_route_find(const char *method, const char *path, struct api_match *ret_match,
                   struct error **ret_error)
{
    bool path_known = false;
    for (size_t i = 0; i < API_OP_COUNT; i++) {
        const struct api_route *route = &api_routes[i];
        if (!shape_matches(route->path, path))
            continue;
        path_known = true;
        if (strcmp(route->method, method) != 0)
            continue;
        struct api_match match = {.route = route};
        int r = collect_arguments(route->path, path, &match, ret_error);
        if (r < 0) {
            api_match_clear(&match);
            return r;
        }
        *ret_match = match;
        return 0;
    }
    if (path_known)
        return error_set(ret_error, EOPNOTSUPP, "%s is not a method of %.200s", method, path);
    return error_set(ret_error, ENOENT, "there is nothing at %.200s", path);
}

char *api_path_without_secret(const char *path)
{
    static const char tokens[] = "/v1/tokens/";
    size_t length = strlen(path);
    if (string_starts_with(path, tokens)) /* "ID.SECRET.FINGERPRINT", perhaps percent-encoded */
        length = strlen(tokens) + strcspn(path + strlen(tokens), ".%");
    return xstrndup(path, length);
}

const char *api_allowed_methods(const char *path)
{
    static const char *const methods[] = {"GET", "POST", "PATCH", "DELETE"};
    static const char *const lists[] = {
        NULL,
        "GET, HEAD",
        "POST",
        "GET, HEAD, POST",
        "PATCH",
        "GET, HEAD, PATCH",
        "POST, PATCH",
        "GET, HEAD, POST, PATCH",
        "DELETE",
        "GET, HEAD, DELETE",
        "POST, DELETE",
        "GET, HEAD, POST, DELETE",
        "PATCH, DELETE",
        "GET, HEAD, PATCH, DELETE",
        "POST, PATCH, DELETE",
        "GET, HEAD, POST, PATCH, DELETE",
    };
    unsigned found = 0; /* bit I: methods[I] */
    for (size_t i = 0; i < API_OP_COUNT; i++)
        for (size_t k = 0; k < sizeof methods / sizeof *methods; k++)
            if (strcmp(api_routes[i].method, methods[k]) == 0 && shape_matches(api_routes[i].path, path))
                found |= 1u << k;
    return lists[found];
}

void api_match_clear(struct api_match *match)
{
    for (size_t i = 0; i < API_PATH_ARGUMENTS; i++)
        free(match->arguments[i]);
    *match = (struct api_match){0};
}
