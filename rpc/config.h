/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * /etc/blockd/blockd.conf: INI, one table of keys (config_table.c) from which come the parser, the defaults
 * and blockd.conf(5). A file that is not there means the defaults; an unknown section or key, or a value out
 * of its limits, is an error that names file and line.
 */
#ifndef BLOCKD_RPC_CONFIG_H
#define BLOCKD_RPC_CONFIG_H

#include "rpc/schema.h"

#define CONFIG_DEFAULT_PATH  "/etc/blockd/blockd.conf"
#define CONFIG_LISTEN_NODE   "node"
#define CONFIG_AUDIT_JOURNAL "journal"

enum config_supervisor { SUPERVISOR_AUTO, SUPERVISOR_SYSTEMD, SUPERVISOR_CHILDREN };

struct config {
    /* [node] */
    char *node_name; /* default: the host's name up to the first dot */
    char *address;   /* where bricks listen and what is advertised; default 127.0.0.1 */
    char *zone;      /* failure domain; "" for none */
    /* [daemon] */
    char *state_dir; /* /var/lib/blockd */
    char *run_dir;   /* /run/blockd */
    char *log_dir;   /* /var/log/blockd: of bricks and self-heal */
    int log_level;   /* index into config_log_level_words */
    int supervisor;  /* enum config_supervisor */
    char *group;     /* who may use the socket beside root; default "blockd" */
    /* [api] */
    char *api_listen;                            /* endpoints over TLS, separated by commas; "" for none */
    char *api_ca, *api_cert, *api_key, *api_crl; /* "": in tls_dir; see config_api_files() */
    uint64_t api_connections, api_address_connections; /* of each listener; 256, and 64 of one address */
    uint64_t api_rate;                                 /* requests a second of one client; 0: no limit; 500 */
    char *api_audit; /* a path, a name in log_dir, CONFIG_AUDIT_JOURNAL, or "" for none; audit.log */
    /* [store] */
    int store_backend;     /* enum config_store */
    char *store_endpoints; /* of etcd, separated by commas; "" for sqlite */
    char *store_prefix;    /* of keys in etcd; /blockd */
    char *store_ca;        /* PEM files; "" for none */
    char *store_cert, *store_key;
    uint64_t store_timeout; /* seconds of one call to etcd; 15 */
    /* [engine] */
    uint64_t port_min, port_max; /* of bricks; 49152 to 49663 */
    uint64_t ping_timeout;       /* seconds; 5 */
    /* [volserver] */
    char *volserver_listen; /* addresses, separated by commas; "node": the node's and 127.0.0.1; "": no TCP */
    uint64_t volserver_port; /* 24007 */
    /* [tls] */
    int tls_volumes;    /* enum volume_tls (rpc/objects.h): of a volume whose creator did not say */
    bool tls_volserver; /* the volfile server speaks TLS only, but for the unix socket */
    char *tls_dir;      /* certificates (rpc/pki_files.h); "": STATE_DIR/pki */
    /* [nbd] */
    char *nbd_listen;         /* address of the TCP listener, "" for none; 127.0.0.1 */
    uint64_t nbd_port;        /* 10809 */
    int nbd_tls;              /* enum config_tls */
    bool nbd_plain_anywhere;  /* allow plain TCP beyond loopback */
    char *nbd_tls_dir;        /* ca-cert.pem, server-cert.pem, server-key.pem; /etc/blockd/tls */
    char *nbd_psk_file;       /* "user:hexkey" lines; "" for none */
    uint64_t nbd_threads;     /* worker loops; 0: one per processor, at most 4 */
    uint64_t nbd_connections; /* limit of connections at once; 1024 */
    uint64_t nbd_requests;    /* limit of requests in flight a connection; 128 */
    uint64_t nbd_memory;      /* limit of bytes of request and reply payload in flight a connection; 64 MiB */
};

enum config_store { CONFIG_STORE_SQLITE, CONFIG_STORE_ETCD };
extern const char *const config_store_words[];
enum config_tls { TLS_OFF, TLS_ALLOW, TLS_REQUIRE };
extern const char *const config_supervisor_words[], *const config_tls_words[],
                                                        *const config_log_level_words[];

/* One row a key; also the source of the manual page. FIELD_OPTIONAL: the value may be empty. */
struct config_key {
    const char *section, *key;
    struct field field;       /* offset into struct config, type, limits and help */
    const char *default_text; /* parsed like a value of the file; NULL: the host's name */
    /* What the type does not say: an address, an absolute path. Not called for an empty value. */
    int (*check)(const char *text, struct error **ret_error);
};
extern const struct config_key config_keys[]; /* ends with a NULL section */

/* *ret_config owns its strings; release with config_clear(). */
int config_load(const char *path, struct config *ret_config, struct error **ret_error);
void config_clear(struct config *config);

/* The effective values of a section, or of all (NULL), as "section.key = value" lines: to see whether two
 * configurations differ. The caller's. */
char *config_text(const struct config *config, const char *section);

/* "127.0.0.1", "::1": an address that no other machine reaches. False for what is no address. */
bool config_address_is_loopback(const char *address);
/* "0.0.0.0", "::": every address of the machine. */
bool config_address_is_any(const char *address);

/* Each address of volserver_listen in turn; the word "node" is one of them. */
void config_volserver_addresses(const struct config *config, struct string_list *ret_addresses);

/* The files of the API's TLS, where the configuration names none in tls_dir. Each is the caller's. */
struct config_api_files {
    char *ca, *cert, *key, *crl;
};
void config_api_files(const struct config *config, struct config_api_files *ret_files);
void config_api_files_clear(struct config_api_files *files);
/* Where changes are recorded; NULL for the journal and for nowhere. The caller's. */
char *config_audit_path(const struct config *config);

/* The well-known paths below run_dir; the caller's. */
char *config_socket_path(const struct config *config);      /* RUN/blockd.sock: the API */
char *config_nbd_socket_path(const struct config *config);  /* RUN/nbd.sock: NBD over a unix socket */
char *config_nbd_control_path(const struct config *config); /* RUN/nbd-control.sock: HTTP, metrics and sync */
char *config_volserver_socket_path(const struct config *config); /* RUN/volserver.sock: volfiles, for root */
char *config_tls_dir(const struct config *config);               /* the certificates of the cluster */

#endif
