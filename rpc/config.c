/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

#include "rpc/base/address.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/base/sizes.h"
#include "rpc/endpoint.h"
#include "rpc/objects.h"

#define CONFIG_FILE_LIMIT (1u << 20)
#define LAST_PORT         65535
#define API_LISTENERS_MAX 16

const char *const config_supervisor_words[] = {"auto", "systemd", "children", NULL};
const char *const config_store_words[] = {"sqlite", "etcd", NULL};
const char *const config_tls_words[] = {"off", "allow", "require", NULL};
const char *const config_log_level_words[] = {"error", "warning", "info", "debug", NULL};

/* ---- Checks beyond the type ---- */

static int check_listen(const char *text, struct error **ret_error)
{
    autostring_list struct string_list list = {0};
    string_list_split(&list, text, ',');
    if (list.count > 16)
        return error_set(ret_error, EINVAL, "there are more than 16 addresses");
    int r = 0;
    for (size_t i = 0; i < list.count && r == 0; i++)
        if (strcmp(list.items[i], CONFIG_LISTEN_NODE) != 0)
            r = address_check(list.items[i], ret_error);
    return r;
}

static int check_api_listen(const char *text, struct error **ret_error)
{
    autostring_list struct string_list list = {0};
    string_list_split(&list, text, ',');
    if (list.count > API_LISTENERS_MAX)
        return error_set(ret_error, EINVAL, "there are more than %d addresses", API_LISTENERS_MAX);
    for (size_t i = 0; i < list.count; i++) {
        struct endpoint endpoint cleanup(endpoint_clear) = {0};
        int r = endpoint_parse(list.items[i], &endpoint, ret_error);
        if (r < 0)
            return r;
        if (!endpoint.numeric)
            return error_set(ret_error, EINVAL, "\"%s\" is no address of this machine", list.items[i]);
    }
    return 0;
}

static int check_audit(const char *text, struct error **ret_error)
{
    if (text[0] != '/' && strchr(text, '/'))
        return error_set(ret_error, EINVAL, "\"%s\" is neither an absolute path nor a name in log-dir", text);
    return 0;
}

static int check_advertised(const char *text, struct error **ret_error)
{
    int r = address_check(text, ret_error);
    if (r == 0 && config_address_is_any(text))
        return error_set(ret_error, EINVAL, "\"%s\" stands for all addresses; name the one that others reach",
                         text);
    return r;
}

static int check_path(const char *text, struct error **ret_error)
{
    if (text[0] != '/')
        return error_set(ret_error, EINVAL, "\"%s\" is no absolute path", text);
    return 0;
}

bool config_address_is_loopback(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, address, &v6) != 1)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

bool config_address_is_any(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1)
        return v4.s_addr == INADDR_ANY;
    return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

/* ---- The table ---- */

#define KEY(in_section, word, member, kind, text, ...)                                                       \
    {                                                                                                        \
        .section = in_section, .key = word, .default_text = text, .field = {                                 \
            .name = word,                                                                                    \
            .type = kind,                                                                                    \
            .offset = offsetof(struct config, member),                                                       \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }
#define CHECKED_KEY(in_section, word, member, verify, text, ...)                                             \
    {                                                                                                        \
        .section = in_section, .key = word, .default_text = text, .check = verify, .field = {                \
            .name = word,                                                                                    \
            .type = FIELD_STRING,                                                                            \
            .offset = offsetof(struct config, member),                                                       \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }

const struct config_key config_keys[] = {
    KEY("node", "name", node_name, FIELD_NAME, NULL,
        .help = "Name of this node in the cluster. Must not change once devices or exports exist on it."),
    CHECKED_KEY("node", "address", address, check_advertised, "127.0.0.1",
                .help = "Address on which bricks listen, and that clients and other nodes are told."),
    KEY("node", "zone", zone, FIELD_NAME, "", .flags = FIELD_OPTIONAL,
        .help = "Failure domain of the node: a rack, a room. Replicas are kept in different zones."),

    CHECKED_KEY("daemon", "state-dir", state_dir, check_path, "/var/lib/blockd",
                .help = "Folder of the store, the volfiles and the mount points of devices."),
    /* The longest socket name and its temporary suffix must still fit into sockaddr_un. */
    CHECKED_KEY("daemon", "run-dir", run_dir, check_path, "/run/blockd", .max = 80,
                .help = "Folder of sockets, pid files and grants. Emptied by a reboot."),
    CHECKED_KEY("daemon", "log-dir", log_dir, check_path, "/var/log/blockd",
                .help = "Folder of the logs of bricks and of the self-heal daemon."),
    KEY("daemon", "log-level", log_level, FIELD_ENUM, "info", .words = config_log_level_words,
        .help = "The least important messages that are still logged."),
    KEY("daemon", "supervisor", supervisor, FIELD_ENUM, "auto", .words = config_supervisor_words,
        .help = "Who keeps bricks running: systemd, or blockd itself. With auto it is systemd where systemd "
                "runs."),
    KEY("daemon", "group", group, FIELD_STRING, "blockd", .flags = FIELD_OPTIONAL, .max = 32,
        .help = "Group whose members may use the API beside root. Empty: only root."),

    CHECKED_KEY("api", "listen", api_listen, check_api_listen, "", .flags = FIELD_OPTIONAL,
                .help =
                    "Addresses where the API is served over mutual TLS, separated by commas without blanks: "
                    "ADDRESS or ADDRESS:PORT, the port being 24010 if absent. Empty: the unix socket only."),
    CHECKED_KEY("api", "ca", api_ca, check_path, "", .flags = FIELD_OPTIONAL,
                .help = "Certificate of the authority whose certificates clients show. Empty: ca-cert.pem in "
                        "[tls] dir."),
    CHECKED_KEY("api", "cert", api_cert, check_path, "", .flags = FIELD_OPTIONAL,
                .help = "Certificate that clients are shown. Empty: node-cert.pem in [tls] dir."),
    CHECKED_KEY("api", "key", api_key, check_path, "", .flags = FIELD_OPTIONAL,
                .help = "Its private key. Empty: node-key.pem in [tls] dir."),
    CHECKED_KEY("api", "crl", api_crl, check_path, "", .flags = FIELD_OPTIONAL,
                .help = "List of revoked certificates; none are revoked where the file is missing. Empty: "
                        "ca-crl.pem in [tls] dir."),
    KEY("api", "connections", api_connections, FIELD_UINT, "256", .min = 1, .max = 4096,
        .help = "Limit of connections at once, of each address in listen."),
    KEY("api", "connections-per-address", api_address_connections, FIELD_UINT, "64", .min = 1, .max = 4096,
        .help = "Limit of connections at once of one IPv4 address, or of one IPv6 network /64."),
    KEY("api", "rate", api_rate, FIELD_UINT, "500", .max = 100000,
        .help = "Limit of requests a second of one client certificate; twice as many at once. 0: no limit."),
    CHECKED_KEY("api", "audit", api_audit, check_audit, "audit.log", .flags = FIELD_OPTIONAL,
                .help =
                    "Where changes are recorded, one JSON object a line: an absolute path, a file's name in "
                    "log-dir, or journal for blockd's own log. Empty: nowhere."),

    KEY("store", "backend", store_backend, FIELD_ENUM, "sqlite", .words = config_store_words,
        .help = "Where the state is kept: in a file of this node, or in etcd, which several nodes share."),
    KEY("store", "endpoints", store_endpoints, FIELD_STRING, "", .flags = FIELD_OPTIONAL,
        .help = "Members of etcd, separated by commas without blanks: HOST, HOST:PORT, or either behind "
                "http:// or "
                "https://. The port is 2379 unless said. The first one that answers is used."),
    KEY("store", "prefix", store_prefix, FIELD_STRING, "/blockd", .max = 256,
        .help = "What stands before each key in etcd. Clusters that share an etcd have one of their own."),
    CHECKED_KEY(
        "store", "ca", store_ca, check_path, "", .flags = FIELD_OPTIONAL,
        .help = "File with the certificates by which etcd's members are judged. With it they are spoken to "
                "by TLS."),
    CHECKED_KEY("store", "cert", store_cert, check_path, "", .flags = FIELD_OPTIONAL,
                .help = "File with the certificate that is shown to etcd."),
    CHECKED_KEY("store", "key", store_key, check_path, "", .flags = FIELD_OPTIONAL,
                .help = "File with the key of that certificate."),
    KEY("store", "timeout", store_timeout, FIELD_UINT, "15", .min = 1, .max = 60,
        .help = "Seconds after which a change fails while no etcd answers, or those that do have no quorum."),

    KEY("engine", "port-min", port_min, FIELD_UINT, "49152", .min = 1, .max = LAST_PORT,
        .help = "First TCP port that is given to bricks."),
    KEY("engine", "port-max", port_max, FIELD_UINT, "49663", .min = 1, .max = LAST_PORT,
        .help = "Last TCP port that is given to bricks."),
    KEY("engine", "ping-timeout", ping_timeout, FIELD_UINT, "5", .min = 1, .max = 3600,
        .help = "Seconds after which a client gives up a brick that does not answer."),

    CHECKED_KEY(
        "volserver", "listen", volserver_listen, check_listen, CONFIG_LISTEN_NODE, .flags = FIELD_OPTIONAL,
        .help = "Addresses of the volfile server, separated by commas without blanks; node stands for "
                "the node's address and 127.0.0.1. Empty: standard clients are not served."),
    KEY("volserver", "port", volserver_port, FIELD_UINT, "24007", .min = 1, .max = LAST_PORT,
        .help = "TCP port of the volfile server, the same on all nodes. Standard clients expect 24007."),

    KEY("tls", "volumes", tls_volumes, FIELD_ENUM, "off", .words = volume_tls_words,
        .help = "Whether volumes are made with TLS between bricks and clients, unless their creator says."),
    KEY("tls", "volserver", tls_volserver, FIELD_BOOL, "no",
        .help = "Whether the volfile server speaks TLS with standard clients, and only that."),
    CHECKED_KEY("tls", "dir", tls_dir, check_path, "", .flags = FIELD_OPTIONAL,
                .help = "Folder of the cluster's certificates. Empty: pki in state-dir."),

    CHECKED_KEY("nbd", "listen", nbd_listen, address_check, "127.0.0.1", .flags = FIELD_OPTIONAL,
                .help = "Address of the NBD server. Empty: no TCP, only the unix socket."),
    KEY("nbd", "port", nbd_port, FIELD_UINT, "10809", .min = 1, .max = LAST_PORT,
        .help = "TCP port of the NBD server."),
    KEY("nbd", "tls", nbd_tls, FIELD_ENUM, "off", .words = config_tls_words,
        .help = "Whether TCP clients may or must use TLS."),
    KEY("nbd", "plain-anywhere", nbd_plain_anywhere, FIELD_BOOL, "no",
        .help = "Allow clients without TLS on an address that is not loopback."),
    CHECKED_KEY("nbd", "tls-dir", nbd_tls_dir, check_path, "/etc/blockd/tls",
                .help = "Folder with ca-cert.pem, server-cert.pem and server-key.pem."),
    CHECKED_KEY("nbd", "psk-file", nbd_psk_file, check_path, "", .flags = FIELD_OPTIONAL,
                .help = "File with a line USER:HEXKEY for each pre-shared key. Empty: no pre-shared keys."),
    KEY("nbd", "threads", nbd_threads, FIELD_UINT, "0", .max = 64,
        .help = "Worker threads of the NBD server. 0 is one for each processor, at most 4."),
    KEY("nbd", "connections", nbd_connections, FIELD_UINT, "1024", .min = 1, .max = 65536,
        .help = "Limit of client connections at once."),
    KEY("nbd", "requests", nbd_requests, FIELD_UINT, "128", .min = 1, .max = 4096,
        .help = "Limit of requests in flight on a connection."),
    KEY("nbd", "memory", nbd_memory, FIELD_SIZE, "64MiB", .min = 32u << 20, .max = 16ull << 30,
        .help = "Limit of payload in flight on a connection. A single request may have 32 MiB."),
    {0},
};

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

void config_volserver_addresses(const struct config *config, struct string_list *ret_addresses)
{
    if (*config->volserver_listen)
        string_list_split(ret_addresses, config->volserver_listen, ',');
}

char *config_volserver_socket_path(const struct config *config)
{
    return xasprintf("%s/volserver.sock", config->run_dir);
}

char *config_tls_dir(const struct config *config)
{
    return *config->tls_dir ? xstrdup(config->tls_dir) : xasprintf("%s/pki", config->state_dir);
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

static char *pki_file(const struct config *config, const char *path, const char *name)
{
    autofree char *folder = config_tls_dir(config);
    return *path ? xstrdup(path) : xasprintf("%s/%s", folder, name);
}

void config_api_files(const struct config *config, struct config_api_files *ret_files)
{
    *ret_files = (struct config_api_files){.ca = pki_file(config, config->api_ca, "ca-cert.pem"),
                                           .cert = pki_file(config, config->api_cert, "node-cert.pem"),
                                           .key = pki_file(config, config->api_key, "node-key.pem"),
                                           .crl = pki_file(config, config->api_crl, "ca-crl.pem")};
}

void config_api_files_clear(struct config_api_files *files)
{
    free(files->ca);
    free(files->cert);
    free(files->key);
    free(files->crl);
    *files = (struct config_api_files){0};
}

char *config_audit_path(const struct config *config)
{
    const char *audit = config->api_audit;
    if (!*audit || strcmp(audit, CONFIG_AUDIT_JOURNAL) == 0)
        return NULL;
    return audit[0] == '/' ? xstrdup(audit) : xasprintf("%s/%s", config->log_dir, audit);
}

char *config_socket_path(const struct config *config)
{
    return xasprintf("%s/blockd.sock", config->run_dir);
}

char *config_nbd_socket_path(const struct config *config)
{
    return xasprintf("%s/nbd.sock", config->run_dir);
}

char *config_nbd_control_path(const struct config *config)
{
    return xasprintf("%s/nbd-control.sock", config->run_dir);
}
