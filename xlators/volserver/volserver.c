/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The volfile server, alone in a glusterfsd: it answers GETSPEC out of a folder, and tells connected clients
 * when what they fetched was replaced (GF_CBK_FETCHSPEC), upon which they fetch it again and change over
 * while they run. Standard clients reach it over TCP; blockd's own processes over a unix socket that only
 * root may open.
 *
 * What comes from the network is a key of a few letters. The memory that a client can make this process take
 * is limited by the kernel (RLIMIT_DATA): the transport allocates what the head of a message claims.
 */
#include "xlators/abi.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <glusterfs/compat-errno.h>
#include <glusterfs/rpc/glusterfs3-xdr.h>
#include <glusterfs/rpc/protocol-common.h>
#include <glusterfs/rpc/rpcsvc.h>
#include <glusterfs/rpc/xdr-generic.h>

#include "xlators/volserver/changes.h"
#include "xlators/volserver/peers.h"
#include "xlators/volserver/specs.h"

#define PEERS_MAX        4096
#define PATIENCE_SECONDS 10
#define ADDRESSES_MAX    16
#define UNSENT_MAX       (4u << 20) /* of a client that asks and does not read; more than any volfile */
#define DEFAULT_PORT     "24007"
#define MEMORY_MAX       ((rlim_t)512 << 20)
#define MEMORY_KINDS     1

struct volserver {
    rpcsvc_t *service;
    int folder;
    struct peers *peers;
    struct changes *changes;
};

static rpcsvc_cbk_program_t callback_program = {
    .progname = "blockd volserver callback",
    .prognum = GLUSTER_CBK_PROGRAM,
    .progver = GLUSTER_CBK_VERSION,
};

/* ---- GETSPEC ---- */

/* The peer's address without the zone, as access lists have it; false for the unix socket. */
static bool peer_address(const rpc_transport_t *transport, char ret_text[static INET6_ADDRSTRLEN])
{
    const struct sockaddr_storage *address = &transport->peerinfo.sockaddr;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    if (address->ss_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, ret_text, INET6_ADDRSTRLEN);
        return true;
    }
    if (address->ss_family != AF_INET6)
        return false;
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
        inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], ret_text, INET6_ADDRSTRLEN);
    else
        inet_ntop(AF_INET6, &v6->sin6_addr, ret_text, INET6_ADDRSTRLEN);
    return true;
}

/* Whoever may not have a volfile learns no more than that there is none. */
static int find(struct volserver *server, const rpc_transport_t *transport, const char *key, char *ret_name,
                struct spec *ret_spec)
{
    char address[INET6_ADDRSTRLEN];
    bool own = !peer_address(transport, address);
    if (!spec_name(key, own, ret_name))
        return -ENOENT;
    int r = spec_read(server->folder, ret_name, ret_spec);
    if (r < 0) {
        if (r != -ENOENT)
            gf_log(THIS->name, GF_LOG_ERROR, "cannot read the volfile %s: %s", ret_name, strerror(-r));
        return -ENOENT;
    }
    if (own || spec_admits(ret_spec, address))
        return 0;
    gf_log(THIS->name, GF_LOG_WARNING, "%s may not have the volfile %s", address, ret_name);
    spec_clear(ret_spec);
    return -ENOENT;
}

/* Where else a client may ask, which replaces nothing that it was told on its command line. */
static int add_servers(const struct spec *spec, gf_getspec_rsp *reply)
{
    dict_t *dict = dict_new();
    if (!dict)
        return -ENOMEM;
    int r = dict_set_str(dict, "servers-list", (char *)spec->servers);
    if (r == 0)
        r = dict_allocate_and_serialize(dict, &reply->xdata.xdata_val, &reply->xdata.xdata_len);
    dict_unref(dict);
    return r;
}

static int submit(rpcsvc_request_t *request, gf_getspec_rsp *reply)
{
    struct iovec out = {0};
    ssize_t size = (ssize_t)xdr_sizeof((xdrproc_t)xdr_gf_getspec_rsp, reply);
    struct iobuf *buffer = size > 0 ? iobuf_get2(request->svc->ctx->iobuf_pool, (size_t)size) : NULL;
    struct iobref *reference = buffer ? iobref_new() : NULL;
    int r = -1;
    if (reference && iobref_add(reference, buffer) == 0) {
        iobuf_to_iovec(buffer, &out);
        size = xdr_serialize_generic(out, reply, (xdrproc_t)xdr_gf_getspec_rsp);
        if (size >= 0) {
            out.iov_len = (size_t)size;
            r = rpcsvc_submit_generic(request, &out, 1, NULL, 0, reference);
        }
    }
    if (buffer)
        iobuf_unref(buffer);
    if (reference)
        iobref_unref(reference);
    return r;
}

/* The transport keeps what a client does not take. */
static bool is_too_slow(struct volserver *server, rpc_transport_t *transport, const gf_getspec_rsp *reply)
{
    size_t size = strlen(reply->spec) + reply->xdata.xdata_len;
    return peers_unsent(server->peers, transport, size) > UNSENT_MAX;
}

static int answer(struct volserver *server, rpcsvc_request_t *request, const char *key)
{
    char name[SPEC_NAME_MAX + 1];
    struct spec spec = {0};
    gf_getspec_rsp reply = {.spec = (char *)""};
    int r = find(server, request->trans, key, name, &spec);
    if (r == 0 && spec.servers)
        r = add_servers(&spec, &reply);
    if (r == 0) {
        reply.op_ret = (int)spec.length;
        reply.spec = (char *)spec.text;
        /* First: a change from now on is told, and one before is in the text or told. */
        peers_served(server->peers, request->trans, name);
    } else {
        reply.op_ret = -1;
        reply.op_errno = gf_errno_to_error(-r);
    }
    if (is_too_slow(server, request->trans, &reply)) {
        gf_log(THIS->name, GF_LOG_WARNING, "%s asks and does not read: it is cut off",
               request->trans->peerinfo.identifier);
        rpc_transport_disconnect(request->trans, _gf_false);
    }
    r = submit(request, &reply);
    GF_FREE(reply.xdata.xdata_val);
    spec_clear(&spec);
    return r;
}

static int getspec(rpcsvc_request_t *request)
{
    struct volserver *server = ((rpcsvc_program_t *)request->prog)->private;
    gf_getspec_req arguments = {0};
    ssize_t size = xdr_to_generic(request->msg[0], &arguments, (xdrproc_t)xdr_gf_getspec_req);
    int r = RPCSVC_ACTOR_SUCCESS;
    if (size < 0 || !arguments.key) {
        request->rpc_err = GARBAGE_ARGS;
        r = RPCSVC_ACTOR_ERROR;
    } else {
        answer(server, request, arguments.key);
    }
    free(arguments.key); /* of libtirpc's allocation, as what follows */
    free(arguments.xdata.xdata_val);
    return r;
}

static rpcsvc_actor_t actors[GF_HNDSK_MAXVALUE] = {
    [GF_HNDSK_GETSPEC] = {"GETSPEC", getspec, NULL, GF_HNDSK_GETSPEC, DRC_NA, _gf_true},
};

static rpcsvc_program_t program = {
    .progname = "blockd volserver",
    .prognum = GLUSTER_HNDSK_PROGRAM,
    .progver = GLUSTER_HNDSK_VERSION,
    .actors = actors,
    .numactors = GF_HNDSK_MAXVALUE,
};

/* ---- Connections and changes ---- */

static int on_connection(rpcsvc_t *service, void *data, rpcsvc_event_t event, void *transport)
{
    (void)service;
    struct volserver *server = ((xlator_t *)data)->private;
    if (event == RPCSVC_EVENT_ACCEPT) {
        peers_add(server->peers, transport);
    } else {
        peers_remove(server->peers, transport);
    }
    return 0;
}

static void on_change(void *data, const char *name)
{
    xlator_t *this = data;
    struct volserver *server = this->private;
    struct peers_list list = peers_of(server->peers, name);
    if (list.count)
        gf_log(this->name, GF_LOG_INFO, "%s changed: %zu clients are told", name ? name : "the folder",
               list.count);
    for (size_t i = 0; i < list.count; i++)
        rpcsvc_callback_submit(server->service, list.items[i], &callback_program, GF_CBK_FETCHSPEC, NULL, 0,
                               NULL);
    peers_release(&list);
}

static void on_tick(void *data)
{
    struct volserver *server = ((xlator_t *)data)->private;
    struct peers_list list = peers_unwanted(server->peers);
    for (size_t i = 0; i < list.count; i++)
        rpc_transport_disconnect(list.items[i], _gf_false);
    peers_release(&list);
}

/* ---- Listeners ---- */

static int set(dict_t *options, const char *key, const char *value)
{
    return dict_set_dynstr(options, (char *)key, gf_strdup(value));
}

static int listen_unix(rpcsvc_t *service, const char *path)
{
    dict_t *options = dict_new();
    mode_t before = umask(0177); /* only root may open the socket, from its first moment on */
    int r = options ? rpcsvc_transport_unix_options_build(options, (char *)path) : -1;
    if (r == 0)
        r = rpcsvc_create_listeners(service, options, "volserver") == 1 ? 0 : -1;
    umask(before);
    if (options)
        dict_unref(options);
    return r;
}

static const char *const tls_options[] = {
    "transport.socket.ssl-enabled", "transport.socket.ssl-own-cert", "transport.socket.ssl-private-key",
    "transport.socket.ssl-ca-list", "transport.socket.ssl-crl-path",
};

/* As they stand in the volfile: the transport reads the files for every connection. */
static int copy_tls_options(dict_t *from, dict_t *to)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof tls_options / sizeof *tls_options; i++) {
        char *value = NULL;
        if (dict_get_str(from, (char *)tls_options[i], &value) == 0)
            r = set(to, tls_options[i], value);
    }
    return r;
}

static int listen_tcp(xlator_t *this, rpcsvc_t *service, const char *address, const char *port)
{
    const char *const pairs[][2] = {
        {"transport-type", "socket"},
        {"transport.address-family", strchr(address, ':') ? "inet6" : "inet"},
        {"transport.socket.bind-address", address},
        {"transport.socket.listen-port", port},
        {"transport.listen-backlog", "1024"},
        {"transport.socket.keepalive", "1"},
        {"transport.socket.keepalive-time", "20"},
        {"transport.socket.keepalive-interval", "5"},
        {"transport.socket.keepalive-count", "4"},
        {"transport.tcp-user-timeout", "40"},
    };
    dict_t *options = dict_new();
    int r = options ? 0 : -1;
    for (size_t i = 0; r == 0 && i < sizeof pairs / sizeof *pairs; i++)
        r = set(options, pairs[i][0], pairs[i][1]);
    if (r == 0)
        r = copy_tls_options(this->options, options);
    if (r == 0)
        r = rpcsvc_create_listeners(service, options, "volserver") == 1 ? 0 : -1;
    if (options)
        dict_unref(options);
    return r;
}

static int listen_all(xlator_t *this, rpcsvc_t *service)
{
    char *socket = NULL, *addresses = NULL, *port = NULL, *rest = NULL;
    if (dict_get_str(this->options, "socket", &socket) == 0 && listen_unix(service, socket) != 0) {
        gf_log(this->name, GF_LOG_ERROR, "cannot listen on %s", socket);
        return -1;
    }
    if (dict_get_str(this->options, "port", &port) != 0)
        port = (char *)DEFAULT_PORT;
    if (dict_get_str(this->options, "addresses", &addresses) != 0)
        return 0;
    char *list = gf_strdup(addresses);
    int r = list ? 0 : -1;
    unsigned count = 0;
    for (char *next = list ? strtok_r(list, ",", &rest) : NULL; r == 0 && next;
         next = strtok_r(NULL, ",", &rest)) {
        r = ++count > ADDRESSES_MAX ? -1 : listen_tcp(this, service, next, port);
        if (r != 0)
            gf_log(this->name, GF_LOG_ERROR, "cannot listen on %s, port %s: is another program there?", next,
                   port);
    }
    GF_FREE(list);
    return r == 0 ? 0 : -1;
}

/* ---- The translator ---- */

static void limit_memory(xlator_t *this)
{
    const struct rlimit limit = {MEMORY_MAX, MEMORY_MAX};
    if (setrlimit(RLIMIT_DATA, &limit) < 0)
        gf_log(this->name, GF_LOG_WARNING, "cannot limit the memory: %s", strerror(errno));
}

static int start_service(xlator_t *this, struct volserver *server)
{
    server->service = rpcsvc_init(this, this->ctx, this->options, 0);
    if (!server->service)
        return -1;
    /* Else the transport would take what stands in the options for a brick's matter only. */
    this->ctx->secure_srvr = MGMT_SSL_COPY_IO;
    /* Unprivileged ports are where glusterfs and libgfapi ask from; what they get holds no secret. */
    server->service->allow_insecure = _gf_true;
    program.private = server;
    if (rpcsvc_register_notify(server->service, on_connection, this) != 0 ||
        rpcsvc_program_register(server->service, &program, _gf_false) != 0)
        return -1;
    return listen_all(this, server->service);
}

/* A failure ends the process, and with it all that was made. */
static int32_t volserver_init(xlator_t *this)
{
    char *folder = NULL;
    if (dict_get_str(this->options, "folder", &folder) != 0) {
        gf_log(this->name, GF_LOG_ERROR, "needs the option folder");
        return -1;
    }
    struct volserver *server = calloc(1, sizeof *server);
    if (!server)
        return -1;
    server->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    server->peers = peers_new(PEERS_MAX, PATIENCE_SECONDS);
    if (server->folder < 0 || !server->peers) {
        gf_log(this->name, GF_LOG_ERROR, "cannot open the folder %s: %s", folder, strerror(errno));
        return -1;
    }
    limit_memory(this);
    this->private = server;
    const struct changes_calls calls = {on_change, on_tick, this};
    int r = start_service(this, server);
    if (r == 0 && (r = changes_start(folder, &calls, &server->changes)) < 0)
        gf_log(this->name, GF_LOG_ERROR, "cannot watch the folder %s: %s", folder, strerror(-r));
    return r;
}

static void volserver_fini(xlator_t *this)
{
    struct volserver *server = this->private;
    if (server)
        changes_stop(server->changes);
}

static int32_t volserver_notify(xlator_t *this, int32_t event, void *data, ...)
{
    (void)this;
    (void)event;
    (void)data;
    return 0;
}

static int32_t volserver_mem_acct_init(xlator_t *this)
{
    return xlator_mem_acct_init(this, gf_common_mt_end + MEMORY_KINDS);
}

static struct xlator_fops volserver_fops;
static struct xlator_cbks volserver_cbks;
static struct volume_options volserver_options[] = {
    {.key = {"folder"}, .type = GF_OPTION_TYPE_PATH},
    {.key = {"socket"}, .type = GF_OPTION_TYPE_PATH},
    {.key = {"addresses"}, .type = GF_OPTION_TYPE_STR},
    {.key = {"port"}, .type = GF_OPTION_TYPE_INT, .min = 1, .max = 65535},
    {.key = {"transport.socket.ssl-enabled"}, .type = GF_OPTION_TYPE_BOOL},
    {.key = {"transport.socket.ssl-own-cert"}, .type = GF_OPTION_TYPE_STR},
    {.key = {"transport.socket.ssl-private-key"}, .type = GF_OPTION_TYPE_STR},
    {.key = {"transport.socket.ssl-ca-list"}, .type = GF_OPTION_TYPE_STR},
    {.key = {"transport.socket.ssl-crl-path"}, .type = GF_OPTION_TYPE_STR},
    {.key = {NULL}},
};

xlator_api_t xlator_api = {
    .init = volserver_init,
    .fini = volserver_fini,
    .notify = volserver_notify,
    .mem_acct_init = volserver_mem_acct_init,
    .op_version = {1},
    .fops = &volserver_fops,
    .cbks = &volserver_cbks,
    .options = volserver_options,
    .identifier = "volserver",
    .category = GF_EXPERIMENTAL,
};
