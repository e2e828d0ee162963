/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Who may connect to a brick and to the volfile server, as GlusterFS compares it. */
#include "blockd/engine/volfile_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/pki.h"

/* "*", "10.*", "10.1.*", "10.1.2.*": whole parts of an IPv4 address. */
static bool is_pattern(const char *text)
{
    for (int parts = 0; parts < 4; parts++) {
        if (strcmp(text, "*") == 0)
            return true;
        size_t digits = strspn(text, "0123456789");
        if (digits < 1 || digits > 3 || text[digits] != '.')
            return false;
        text += digits + 1;
    }
    return false;
}

/*
 * GlusterFS compares with the peer's address as text. It would take networks too, but its masks are right for
 * whole bytes only, those of /32 match everything, and those of IPv6 write past their buffer.
 */
int volfile_access_pattern(const char *entry, char **ret_pattern, struct error **ret_error)
{
    static const char *const suffixes[] = {"/8", "/16", "/24"};
    struct in_addr v4;
    struct in6_addr v6;
    char text[INET6_ADDRSTRLEN];
    const char *slash = strchr(entry, '/');
    autofree char *address = slash ? xstrndup(entry, (size_t)(slash - entry)) : xstrdup(entry);
    if (!slash && inet_pton(AF_INET6, address, &v6) == 1) {
        *ret_pattern = xstrdup(inet_ntop(AF_INET6, &v6, text, sizeof text));
        return 0;
    }
    if (is_pattern(entry)) {
        *ret_pattern = xstrdup(entry);
        return 0;
    }
    if (inet_pton(AF_INET, address, &v4) == 1) {
        const unsigned char *bytes = (const unsigned char *)&v4;
        if (!slash) {
            *ret_pattern = xstrdup(inet_ntop(AF_INET, &v4, text, sizeof text));
            return 0;
        }
        for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
            if (strcmp(slash, suffixes[i]) != 0)
                continue;
            struct strbuf pattern = {0};
            for (size_t k = 0; k <= i; k++)
                strbuf_addf(&pattern, "%u.", bytes[k]);
            strbuf_adds(&pattern, "*");
            *ret_pattern = strbuf_steal(&pattern);
            return 0;
        }
    }
    return error_set(ret_error, EINVAL,
                     "access \"%.64s\" is none of: an IPv4 or IPv6 address, an IPv4 network /8, /16 or /24 "
                     "(or 10.*), \"*\"",
                     entry);
}

#define CERTIFICATE_PREFIX "cert:"

/* The name in an entry, resp. "*"; NULL: it is an address. */
static const char *entry_name(const char *entry)
{
    size_t length = strlen(CERTIFICATE_PREFIX);
    return strncmp(entry, CERTIFICATE_PREFIX, length) == 0 ? entry + length : NULL;
}

static int check_entry(const char *entry, bool tls, struct error **ret_error)
{
    autofree char *pattern = NULL;
    const char *name = entry_name(entry);
    if (name && !tls)
        return error_set(ret_error, EINVAL,
                         "access \"%.80s\" needs TLS: without it bricks know clients by their addresses",
                         entry);
    if (name)
        return strcmp(name, "*") == 0 ? 0 : pki_name_check(name, ret_error);
    if (tls && strcmp(entry, "*") != 0)
        return error_set(ret_error, EINVAL,
                         "access \"%.64s\" is no certificate: with TLS, take cert:NAME, or cert:* for every "
                         "certificate of the cluster",
                         entry);
    return volfile_access_pattern(entry, &pattern, ret_error);
}

int engine_access_check(const struct string_list *access, bool tls, struct error **ret_error)
{
    int r = 0;
    for (size_t i = 0; i < access->count && r == 0; i++)
        r = check_entry(access->items[i], tls, ret_error);
    return r;
}

static void add_once(struct string_list *list, const char *text)
{
    if (!string_list_contains(list, text))
        string_list_add(list, text);
}

static int add_patterns(const struct string_list *access, struct string_list *list, struct error **ret_error)
{
    for (size_t i = 0; i < access->count; i++) {
        autofree char *pattern = NULL;
        /* Who has such a certificate is told at any address where to show it. */
        const char *entry = entry_name(access->items[i]) ? "*" : access->items[i];
        int r = volfile_access_pattern(entry, &pattern, ret_error);
        if (r < 0)
            return r;
        add_once(list, pattern);
    }
    return 0;
}

/* This machine, every address of the nodes, and the volume's own list. */
static int may_have_all(const struct volfile_sources *sources, struct string_list *list,
                        struct error **ret_error)
{
    string_list_add(list, "127.0.0.1");
    string_list_add(list, "::1");
    for (size_t i = 0; i < sources->node_count; i++) {
        const struct node *node = &sources->nodes[i];
        for (size_t k = 0; k < node->spec.addresses.count; k++) {
            struct vol_address address;
            int r = vol_address_parse(node->meta.name, node->spec.addresses.items[k], &address, ret_error);
            if (r < 0)
                return r;
            add_once(list, address.text);
        }
    }
    return add_patterns(&sources->volume->spec.access, list, ret_error);
}

static void join(const struct string_list *list, const char *separator, struct strbuf *text)
{
    for (size_t i = 0; i < list->count; i++)
        strbuf_addf(text, "%s%s", i ? separator : "", list->items[i]);
}

static bool shares_have_lists(const struct volfile_sources *sources)
{
    for (size_t i = 0; i < sources->share_count; i++)
        if (sources->shares[i].spec.access.count)
            return true;
    return false;
}

int volfile_access(const struct volfile_sources *sources, struct strbuf *ret_list, struct error **ret_error)
{
    autostring_list struct string_list list = {0};
    int r = may_have_all(sources, &list, ret_error);
    for (size_t i = 0; r == 0 && i < sources->share_count; i++)
        r = add_patterns(&sources->shares[i].spec.access, &list, ret_error);
    join(&list, ",", ret_list);
    return r;
}

void vol_brick_names(const struct volfile_sources *sources, struct strbuf *text)
{
    const struct string_list *access = &sources->volume->spec.access;
    autostring_list struct string_list names = {0};
    for (size_t i = 0; i < sources->node_count; i++)
        add_once(&names, sources->nodes[i].meta.name);
    for (size_t i = 0; i < access->count; i++) {
        const char *name = entry_name(access->items[i]);
        if (name || strcmp(access->items[i], "*") == 0)
            add_once(&names, name ? name : "*");
    }
    join(&names, ",", text);
}

int vol_brick_access(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error)
{
    autostring_list struct string_list all = {0};
    if (sources->volume->spec.tls == VOLUME_TLS_ON) {
        strbuf_adds(ret_text, "*"); /* a certificate's name decides, and root's port */
        return 0;
    }
    int r = may_have_all(sources, &all, ret_error);
    if (r < 0 || !shares_have_lists(sources)) {
        join(&all, ",", ret_text);
        return r;
    }
    strbuf_adds(ret_text, "/(");
    join(&all, "|", ret_text);
    strbuf_adds(ret_text, ")");
    for (size_t i = 0; r == 0 && i < sources->share_count; i++) {
        const struct share *share = &sources->shares[i];
        autostring_list struct string_list list = {0};
        string_list_copy(&list, &all);
        r = add_patterns(&share->spec.access, &list, ret_error);
        strbuf_addf(ret_text, ",%s(", share->status.path);
        join(&list, "|", ret_text);
        strbuf_adds(ret_text, ")");
    }
    return r;
}
