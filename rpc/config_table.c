/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The keys of the configuration. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "rpc/base/address.h"
#include "rpc/config.h"
#include "rpc/endpoint.h"
#include "rpc/objects.h"

#define LAST_PORT     65535
#define LISTENERS_MAX 16

const char *const config_supervisor_words[] = {"auto", "systemd", "children", NULL};
const char *const config_store_words[] = {"sqlite", "etcd", NULL};
const char *const config_tls_words[] = {"off", "allow", "require", NULL};
const char *const config_log_level_words[] = {"error", "warning", "info", "debug", NULL};

/* ---- Checks beyond the type ---- */

static int check_listen(const char *text, struct error **ret_error)
{
    autostring_list struct string_list list = {0};
    string_list_split(&list, text, ',');
    if (list.count > LISTENERS_MAX)
        return error_set(ret_error, EINVAL, "there are more than %d addresses", LISTENERS_MAX);
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
    if (list.count > LISTENERS_MAX)
        return error_set(ret_error, EINVAL, "there are more than %d addresses", LISTENERS_MAX);
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
