/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* "etcd:ENDPOINT,...?prefix=/P&ca=FILE&cert=FILE&key=FILE". */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "blockd/store/store_etcd_priv.h"
#include "rpc/base/alloc.h"

#define ENDPOINTS_MAX  16
#define PREFIX_MAX     256
#define PATIENCE_MAX   60
#define PATIENCE       15000
#define DEFAULT_PREFIX "/blockd"
#define DEFAULT_PORT   "2379"

static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits && digits <= 5 && !text[digits] && strtoul(text, NULL, 10) - 1 < 65535;
}

/* Letters, digits, dots and dashes, or an IPv6 address in brackets; what follows is nothing or ":PORT". */
static bool is_host_and_port(const char *text, bool *ret_has_port)
{
    size_t length;
    if (*text == '[') {
        length = 1 + strspn(text + 1, "0123456789abcdefABCDEF:.");
        if (length < 3 || text[length++] != ']')
            return false;
    } else {
        length = 0;
        while (isalnum((unsigned char)text[length]) || strchr("-._", text[length] ? text[length] : ' '))
            length++;
        if (!length)
            return false;
    }
    *ret_has_port = text[length] == ':';
    return text[length] == '\0' || (*ret_has_port && is_port(text + length + 1));
}

/* Without a scheme the endpoint speaks TLS when there is a CA to judge it by. */
static int add_endpoint(struct etcd_settings *settings, const char *text, struct error **ret_error)
{
    const char *scheme = settings->ca ? "https" : "http", *rest = text;
    if (string_starts_with(text, "https://")) {
        scheme = "https";
        rest += strlen("https://");
    } else if (string_starts_with(text, "http://")) {
        scheme = "http";
        rest += strlen("http://");
    }
    bool has_port;
    if (!is_host_and_port(rest, &has_port))
        return error_set(ret_error, EINVAL,
                         "the etcd endpoint \"%s\" is none: write https://HOST:PORT, an IPv6 address in "
                         "brackets",
                         text);
    if (strcmp(scheme, "https") == 0 && !settings->ca)
        return error_set(ret_error, EINVAL,
                         "the etcd endpoint %s needs a CA certificate to judge its server by", text);
    if (strcmp(scheme, "http") == 0 && settings->cert)
        return error_set(
            ret_error, EINVAL,
            "the etcd endpoint %s is plain http, which never shows the client certificate: write "
            "https, or set no certificate",
            text);
    string_list_addf(&settings->endpoints, "%s://%s%s", scheme, rest, has_port ? "" : ":" DEFAULT_PORT);
    return 0;
}

static int add_endpoints(struct etcd_settings *settings, const char *text, struct error **ret_error)
{
    autostring_list struct string_list parts = {0};
    string_list_split(&parts, text, ',');
    if (parts.count == 0 || parts.count > ENDPOINTS_MAX)
        return error_set(ret_error, EINVAL, "etcd has 1 to %d endpoints, not %zu", ENDPOINTS_MAX,
                         parts.count);
    int r = 0;
    for (size_t i = 0; i < parts.count && r == 0; i++)
        r = add_endpoint(settings, parts.items[i], ret_error);
    return r;
}

/* Any number of slashes around it means the same. */
static int set_prefix(struct etcd_settings *settings, const char *text, struct error **ret_error)
{
    text += strspn(text, "/");
    size_t length = strlen(text);
    while (length && text[length - 1] == '/')
        length--;
    bool good = length && length <= PREFIX_MAX;
    for (size_t i = 0; i < length && good; i++)
        good = isalnum((unsigned char)text[i]) || strchr("-._/", text[i]);
    if (!good)
        return error_set(ret_error, EINVAL,
                         "the prefix of keys in etcd has 1 to %d letters, digits and any of - . _ /",
                         PREFIX_MAX);
    settings->prefix = xasprintf("/%.*s/", (int)length, text);
    settings->marks = xasprintf("/%.*s.txn/", (int)length, text);
    return 0;
}

static int set_file(char **member, const char *what, const char *path, struct error **ret_error)
{
    if (path[0] != '/')
        return error_set(ret_error, EINVAL, "etcd's %s \"%s\" is no absolute path", what, path);
    if (access(path, R_OK) < 0)
        return error_set(ret_error, errno, "cannot read etcd's %s %s: %s", what, path, strerror(errno));
    *member = xstrdup(path);
    return 0;
}

static int set_patience(struct etcd_settings *settings, const char *text, struct error **ret_error)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long seconds = digits && digits < 4 && !text[digits] ? strtoul(text, NULL, 10) : 0;
    if (seconds < 1 || seconds > PATIENCE_MAX)
        return error_set(ret_error, EINVAL, "etcd's timeout \"%s\" is not between 1 and %d seconds", text,
                         PATIENCE_MAX);
    settings->patience_ms = (int)seconds * 1000;
    return 0;
}

static int hex_value(char digit)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = digit ? strchr(digits, tolower((unsigned char)digit)) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* "%2F" is a slash; in place. */
static int percent_decode(char *text, struct error **ret_error)
{
    char *out = text;
    for (const char *in = text; *in; in++) {
        int high = *in == '%' ? hex_value(in[1]) : -1, low = high >= 0 ? hex_value(in[2]) : -1;
        if (*in == '%' && (low < 0 || high + low == 0))
            return error_set(ret_error, EINVAL, "the store's URL has a %% that begins no character");
        *out++ = low < 0 ? *in : (char)(unsigned char)(high * 16 + low);
        in += low < 0 ? 0 : 2;
    }
    *out = '\0';
    return 0;
}

static int set_option(struct etcd_settings *settings, char *option, struct error **ret_error)
{
    char *value = strchr(option, '=');
    if (!value)
        return error_set(ret_error, EINVAL, "the store's URL has \"%s\" without a value", option);
    *value++ = '\0';
    int r = percent_decode(value, ret_error);
    if (r < 0)
        return r;
    if (strcmp(option, "prefix") == 0 && !settings->prefix)
        return set_prefix(settings, value, ret_error);
    if (strcmp(option, "ca") == 0 && !settings->ca)
        return set_file(&settings->ca, "CA certificate", value, ret_error);
    if (strcmp(option, "cert") == 0 && !settings->cert)
        return set_file(&settings->cert, "client certificate", value, ret_error);
    if (strcmp(option, "key") == 0 && !settings->key)
        return set_file(&settings->key, "client key", value, ret_error);
    if (strcmp(option, "timeout") == 0 && !settings->patience_ms)
        return set_patience(settings, value, ret_error);
    return error_set(ret_error, EINVAL, "the store's URL has an unknown or repeated option \"%s\"", option);
}

static int parse(const char *location, struct etcd_settings *settings, struct error **ret_error)
{
    const char *rest = string_starts_with(location, "//") ? location + 2 : location;
    size_t length = strcspn(rest, "?");
    autostring_list struct string_list options = {0};
    if (rest[length])
        string_list_split(&options, rest + length + 1, '&');
    int r = 0;
    for (size_t i = 0; i < options.count && r == 0; i++)
        r = set_option(settings, options.items[i], ret_error);
    if (!settings->patience_ms)
        settings->patience_ms = PATIENCE;
    if (r == 0 && !settings->prefix)
        r = set_prefix(settings, DEFAULT_PREFIX, ret_error);
    if (r == 0 && !settings->cert != !settings->key)
        r = error_set(ret_error, EINVAL,
                      "etcd's client certificate and its key are set together or not at all");
    autofree char *endpoints = xstrndup(rest, length);
    return r < 0 ? r : add_endpoints(settings, endpoints, ret_error);
}

int etcd_settings_parse(const char *location, struct etcd_settings *ret_settings, struct error **ret_error)
{
    struct etcd_settings settings = {0};
    int r = parse(location, &settings, ret_error);
    if (r < 0) {
        etcd_settings_clear(&settings);
        return r;
    }
    *ret_settings = settings;
    return 0;
}

void etcd_settings_clear(struct etcd_settings *settings)
{
    string_list_clear(&settings->endpoints);
    free(settings->prefix);
    free(settings->marks);
    free(settings->ca);
    free(settings->cert);
    free(settings->key);
    *settings = (struct etcd_settings){0};
}
