/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/config.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/base/sizes.h"

#define CONFIG_FILE_LIMIT (1u << 20)

/* ---- One value ---- */

static void *member_of(struct config *config, const struct config_key *key)
{
    return (char *)config + key->field.offset;
}

static void set_string(struct config *config, const struct config_key *key, const char *text)
{
    char **member = member_of(config, key);
    free(*member);
    *member = xstrdup(text);
}

static int parse_string(struct config *config, const struct config_key *key, const char *text,
                        struct error **ret_error)
{
    size_t limit = key->field.max ? key->field.max : PATH_MAX;
    if (!*text && !(key->field.flags & FIELD_OPTIONAL))
        return error_set(ret_error, EINVAL, "the value is empty");
    if (strlen(text) > limit)
        return error_set(ret_error, EINVAL, "the value is longer than %zu characters", limit);
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return error_set(ret_error, EINVAL, "the value has a control character");

    int r = 0;
    if (*text && key->field.type == FIELD_NAME)
        r = name_check(key->key, text, ret_error);
    if (*text && r == 0 && key->check)
        r = key->check(text, ret_error);
    if (r == 0)
        set_string(config, key, text);
    return r;
}

static int parse_number(struct config *config, const struct config_key *key, const char *text,
                        struct error **ret_error)
{
    uint64_t value = 0;
    if (key->field.type == FIELD_SIZE) {
        int r = size_parse(text, &value, ret_error);
        if (r < 0)
            return r;
    } else {
        size_t digits = strspn(text, "0123456789");
        /* Eighteen digits fit into 64 bits, and are more than any limit of the table. */
        if (digits == 0 || digits > 18 || text[digits])
            return error_set(ret_error, EINVAL, "\"%s\" is no number", text);
        value = strtoull(text, NULL, 10);
    }
    if (value < key->field.min || value > key->field.max)
        return error_set(ret_error, ERANGE, "%s is not between %llu and %llu", text,
                         (unsigned long long)key->field.min, (unsigned long long)key->field.max);
    *(uint64_t *)member_of(config, key) = value;
    return 0;
}

static int parse_bool(struct config *config, const struct config_key *key, const char *text,
                      struct error **ret_error)
{
    static const char *const words[][2] = {{"no", "yes"}, {"false", "true"}, {"off", "on"}, {"0", "1"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (int value = 0; value < 2; value++)
            if (strcasecmp(text, words[i][value]) == 0) {
                *(bool *)member_of(config, key) = value;
                return 0;
            }
    return error_set(ret_error, EINVAL, "\"%s\" is neither yes nor no", text);
}

static int parse_enum(struct config *config, const struct config_key *key, const char *text,
                      struct error **ret_error)
{
    autostrbuf struct strbuf known = {0};
    for (int i = 0; key->field.words[i]; i++) {
        if (strcmp(key->field.words[i], text) == 0) {
            *(int *)member_of(config, key) = i;
            return 0;
        }
        strbuf_addf(&known, "%s%s", i ? ", " : "", key->field.words[i]);
    }
    return error_set(ret_error, EINVAL, "\"%s\" is none of %s", text, strbuf_string(&known));
}

static int parse_value(struct config *config, const struct config_key *key, const char *text,
                       struct error **ret_error)
{
    switch (key->field.type) {
    case FIELD_UINT:
    case FIELD_SIZE:
        return parse_number(config, key, text, ret_error);
    case FIELD_BOOL:
        return parse_bool(config, key, text, ret_error);
    case FIELD_ENUM:
        return parse_enum(config, key, text, ret_error);
    default:
        return parse_string(config, key, text, ret_error);
    }
}

/* ---- The file ---- */

struct parser {
    const char *path;
    const char *next; /* rest of the file's text */
    int line;         /* that inih works on */
    uint64_t seen;    /* bit I: config_keys[I] was set */
    struct config *config;
    struct error *error; /* the first one */
};

static void fail(struct parser *parser, struct error *cause)
{
    error_prefix(&cause, "%s:%d", parser->path, parser->line);
    if (parser->error)
        error_free(cause);
    else
        parser->error = cause;
}

static bool section_exists(const char *name, size_t length)
{
    for (const struct config_key *key = config_keys; key->section; key++)
        if (strlen(key->section) == length && memcmp(key->section, name, length) == 0)
            return true;
    return false;
}

/* inih tells of keys only, so a section is looked at here, where its line passes. */
static void check_section(struct parser *parser, const char *line)
{
    size_t length = strcspn(line + 1, "]\n");
    if (line[1 + length] != ']' || section_exists(line + 1, length))
        return;
    struct error *error = NULL;
    error_set(&error, EINVAL, "there is no section [%.*s]", (int)length, line + 1);
    fail(parser, error);
}

/* Gives inih one line as fgets(3) does. Leading blanks go: to inih they would continue the value before. */
static char *next_line(char *line, int size, void *data)
{
    struct parser *parser = data;
    if (!*parser->next || parser->error)
        return NULL;
    parser->line++;

    size_t length = strcspn(parser->next, "\n");
    const char *text = parser->next;
    parser->next += length + (text[length] == '\n');
    while (length && isblank((unsigned char)*text)) {
        text++;
        length--;
    }
    if (length + 2 > (size_t)size) {
        struct error *error = NULL;
        error_set(&error, EINVAL, "the line is longer than %d characters", size - 2);
        fail(parser, error);
        return NULL;
    }
    memcpy(line, text, length);
    memcpy(line + length, "\n", 2);
    if (*line == '[')
        check_section(parser, line);
    return line;
}

static int set_key(struct parser *parser, const char *section, const char *name, const char *value,
                   struct error **ret_error)
{
    if (!*section)
        return error_set(ret_error, EINVAL, "\"%s\" stands before the first [section]", name);
    for (size_t i = 0; config_keys[i].section; i++) {
        const struct config_key *key = &config_keys[i];
        if (strcmp(key->section, section) != 0 || strcmp(key->key, name) != 0)
            continue;
        if (parser->seen & UINT64_C(1) << i)
            return error_set(ret_error, EINVAL, "[%s] %s is set a second time", section, name);
        parser->seen |= UINT64_C(1) << i;
        int r = parse_value(parser->config, key, value, ret_error);
        if (r < 0 && ret_error)
            error_prefix(ret_error, "[%s] %s", section, name);
        return r;
    }
    return error_set(ret_error, EINVAL, "section [%s] has no key \"%s\"", section, name);
}

static int on_key(void *data, const char *section, const char *name, const char *value)
{
    struct parser *parser = data;
    struct error *error = NULL;
    if (parser->error || set_key(parser, section, name, value, &error) == 0)
        return 1;
    fail(parser, error);
    return 0;
}

static int parse_file(const char *path, struct config *config, struct error **ret_error)
{
    autofree char *text = NULL;
    size_t length;
    int r = file_read(path, CONFIG_FILE_LIMIT, &text, &length, ret_error);
    if (r == -ENOENT && ret_error) {
        error_free(*ret_error);
        *ret_error = NULL;
    }
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (strlen(text) != length)
        return error_set(ret_error, EINVAL, "%s is no text file: it holds a NUL byte", path);

    struct parser parser = {.path = path, .next = text, .config = config};
    int bad_line = ini_parse_stream(next_line, &parser, on_key, &parser);
    cleanup(cleanup_error) struct error *error = parser.error;
    /* inih goes on after a line that it does not understand, so a later one may have failed too. */
    if (error && (bad_line <= 0 || bad_line >= parser.line))
        return error_set(ret_error, error->number, "%s", error->message);
    if (bad_line > 0)
        return error_set(ret_error, EINVAL, "%s:%d: the line is neither [SECTION] nor KEY = VALUE", path,
                         bad_line);
    if (bad_line < 0)
        return error_set(ret_error, EIO, "cannot parse %s", path);
    return 0;
}

/* ---- The whole ---- */

static int set_default(struct config *config, const struct config_key *key, struct error **ret_error)
{
    if (key->default_text)
        return parse_value(config, key, key->default_text, ret_error);
    char host[HOST_NAME_MAX + 1];
    if (gethostname(host, sizeof host) < 0)
        return error_set(ret_error, errno, "cannot read the host's name: %s", strerror(errno));
    host[strcspn(host, ".")] = '\0';
    set_string(config, key, host);
    return 0;
}

static int check_together(const struct config *config, const char *path, struct error **ret_error)
{
    int r = name_check("node", config->node_name, ret_error);
    if (r < 0) {
        if (ret_error)
            error_prefix(ret_error, "%s: set [node] name, the host's name does not do", path);
        return r;
    }
    if (config->store_backend == CONFIG_STORE_ETCD && !*config->store_endpoints)
        return error_set(ret_error, EINVAL, "%s: [store] backend = etcd needs endpoints = HOST:PORT,...",
                         path);
    if (!*config->store_cert != !*config->store_key)
        return error_set(ret_error, EINVAL, "%s: [store] cert and key are set together or not at all", path);
    if (config->port_min > config->port_max)
        return error_set(ret_error, EINVAL, "%s: [engine] port-min %llu is above port-max %llu", path,
                         (unsigned long long)config->port_min, (unsigned long long)config->port_max);
    if (config->nbd_port >= config->port_min && config->nbd_port <= config->port_max)
        return error_set(ret_error, EINVAL,
                         "%s: [nbd] port %llu lies among the ports of bricks ([engine] port-min, port-max)",
                         path, (unsigned long long)config->nbd_port);
    if (config->volserver_port >= config->port_min && config->volserver_port <= config->port_max)
        return error_set(
            ret_error, EINVAL,
            "%s: [volserver] port %llu lies among the ports of bricks ([engine] port-min, port-max)", path,
            (unsigned long long)config->volserver_port);
    if (config->volserver_port == config->nbd_port)
        return error_set(ret_error, EINVAL, "%s: [volserver] port and [nbd] port are the same", path);
    if (*config->nbd_listen && !config_address_is_loopback(config->nbd_listen) &&
        config->nbd_tls != TLS_REQUIRE && !config->nbd_plain_anywhere)
        return error_set(
            ret_error, EINVAL,
            "%s: [nbd] listen %s is not loopback: set tls = require, or plain-anywhere = yes to serve "
            "clients without TLS",
            path, config->nbd_listen);
    return 0;
}

int config_load(const char *path, struct config *ret_config, struct error **ret_error)
{
    struct config config = {0};
    int r = 0;
    for (const struct config_key *key = config_keys; key->section && r == 0; key++)
        r = set_default(&config, key, ret_error);
    if (r == 0)
        r = parse_file(path, &config, ret_error);
    if (r == 0)
        r = check_together(&config, path, ret_error);
    if (r < 0) {
        config_clear(&config);
        return r;
    }
    *ret_config = config;
    return 0;
}

void config_clear(struct config *config)
{
    for (const struct config_key *key = config_keys; key->section; key++)
        if (key->field.type == FIELD_STRING || key->field.type == FIELD_NAME)
            free(*(char **)member_of(config, key));
    *config = (struct config){0};
}

char *config_text(const struct config *config, const char *section)
{
    struct strbuf text = {0};
    for (const struct config_key *key = config_keys; key->section; key++) {
        const void *member = member_of((struct config *)config, key);
        if (section && strcmp(section, key->section) != 0)
            continue;
        strbuf_addf(&text, "%s.%s = ", key->section, key->key);
        if (key->field.type == FIELD_UINT || key->field.type == FIELD_SIZE)
            strbuf_addf(&text, "%llu\n", (unsigned long long)*(const uint64_t *)member);
        else if (key->field.type == FIELD_BOOL)
            strbuf_addf(&text, "%d\n", *(const bool *)member);
        else if (key->field.type == FIELD_ENUM)
            strbuf_addf(&text, "%s\n", key->field.words[*(const int *)member]);
        else
            strbuf_addf(&text, "%s\n", *(char *const *)member);
    }
    return strbuf_steal(&text);
}
