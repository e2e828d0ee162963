/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The cluster's authority, and a node that joins with a token. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "blockd/core/cluster.h"
#include "blockd/core/core_priv.h"
#include "rpc/base/address.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/fault.h"
#include "rpc/join_token.h"
#include "rpc/pki.h"

/* ---- The authority ---- */

int core_cluster_authority(struct core *core, struct cluster_authority *ret_reply, struct error **ret_error)
{
    struct engine_authority found cleanup(engine_authority_clear) = {0};
    autopki_certificate struct pki_certificate read = {0};
    int r = engine_authority(core->engine, &found, NULL);
    if (r == -ENOENT)
        return error_set(ret_error, ENOENT,
                         "node %s is of no cluster yet; to begin one: gluster-block cluster init",
                         core->node);
    if (r < 0)
        return engine_authority(core->engine, &found, ret_error);
    r = pki_read(found.certificate, &read, ret_error);
    if (r < 0)
        return r;
    *ret_reply = (struct cluster_authority){.name = steal_ptr(&read.name),
                                            .certificate = steal_ptr(&found.certificate),
                                            .fingerprint = steal_ptr(&read.fingerprint),
                                            .expires = read.not_after * 1000};
    return 0;
}

int core_cluster_init(struct core *core, struct cluster_authority *ret_reply, struct error **ret_error)
{
    int r = node_need_certificate(core, ret_error);
    return r < 0 ? r : core_cluster_authority(core, ret_reply, ret_error);
}

/* ---- Checks ---- */

static int check_addresses(const struct string_list *addresses, struct error **ret_error)
{
    if (addresses->count == 0)
        return error_set(ret_error, EINVAL, "a node that joins says by which addresses it is reached");
    for (size_t i = 0; i < addresses->count; i++) {
        int r = address_check(addresses->items[i], ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A certificate for another node's address would be that node to whoever connects there. */
static int check_node(const struct node *node, const struct join_request *request, bool replaces,
                      struct error **ret_error)
{
    if (strcmp(node->meta.name, request->name) == 0)
        return replaces ? 0
                        : error_set(ret_error, EEXIST,
                                    "there is a node %s; to replace it make a token for that name: "
                                    "gluster-block cluster token create --node %s",
                                    request->name, request->name);
    for (size_t i = 0; i < request->addresses.count; i++) {
        const char *address = request->addresses.items[i];
        if (string_list_contains(&node->spec.addresses, address) && !config_address_is_loopback(address))
            return error_set(ret_error, EEXIST, "node %s has the address %s", node->meta.name, address);
    }
    return 0;
}

static int check_free(struct core *core, const struct join_request *request, bool replaces,
                      struct error **ret_error)
{
    struct record_list nodes cleanup(record_list_clear) = {.kind = KIND_NODE};
    int r = record_list(core, KIND_NODE, NULL, &nodes, ret_error);
    for (size_t i = 0; i < nodes.list.count && r == 0; i++)
        r = check_node(RECORD(&nodes, node, i), request, replaces, ret_error);
    return r;
}

/* Whoever guesses learns nothing but that it was wrong. */
static int check_secret(const struct join_token *token, const struct token_record *record,
                        struct error **ret_error)
{
    char hash[DIGEST_TEXT_SIZE];
    join_token_hash(token, hash);
    if (!record || !digest_equal(hash, record->hash))
        return error_set(ret_error, EACCES, "the join token is not one of this cluster, or was withdrawn");
    return 0;
}

static int check_state(const struct token_record *record, const struct join_request *request,
                       const char *digest, struct error **ret_error)
{
    if (clock_real_ms() >= record->expires)
        return error_set(ret_error, EKEYEXPIRED,
                         "the join token has expired; make another one: gluster-block cluster token create");
    if (record->used &&
        (!string_equal(record->used_request, digest) || !string_equal(record->used_by, request->name)))
        return error_set(ret_error, EKEYREVOKED,
                         "the join token was used already, by node %s; each node takes one of its own",
                         record->used_by);
    if (record->node && strcmp(record->node, request->name) != 0)
        return error_set(ret_error, EACCES, "the join token is for node %s only", record->node);
    return 0;
}

/* ---- Joining ---- */

/* Marks the token as used for this request. -ESTALE: somebody else changed it meanwhile. */
static int use_token(struct core *core, const struct join_request *request, struct error **ret_error)
{
    struct join_token token;
    struct token_record record = {0};
    uint64_t revision = 0;
    char digest[DIGEST_TEXT_SIZE];
    digest_text(request->request, digest);
    int r = join_token_parse(request->token, &token, ret_error);
    if (r < 0)
        return r;
    r = token_find(core, token.id, &record, &revision, NULL);
    if (r < 0 && r != -ENOENT)
        return error_set(ret_error, -r, "cannot read the join token: %s", strerror(-r));
    r = check_secret(&token, r == 0 ? &record : NULL, ret_error);
    if (r == 0)
        r = check_state(&record, request, digest, ret_error);
    if (r == 0)
        r = check_free(core, request, record.node != NULL || record.used, ret_error);
    if (r == 0 && !record.used) {
        record.used = clock_real_ms();
        string_replace(&record.used_by, request->name);
        string_replace(&record.used_request, digest);
        r = token_save(core, &record, revision, ret_error);
    }
    schema_clear(&token_record_schema, &record);
    return r;
}

static void hosts_of(const struct join_request *request, struct string_list *hosts)
{
    static const char *const loopback[] = {"127.0.0.1", "::1", "localhost"};
    string_list_copy(hosts, &request->addresses);
    for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++)
        if (!string_list_contains(hosts, loopback[i]))
            string_list_add(hosts, loopback[i]);
    /* A name with "_" is none that DNS knows. */
    if (!strchr(request->name, '_') && isalnum((unsigned char)*request->name))
        string_list_add(hosts, request->name);
}

static void name_store(const struct config *config, struct join_reply *reply)
{
    if (config->store_backend != CONFIG_STORE_ETCD)
        return;
    string_list_split(&reply->store, config->store_endpoints, ',');
    reply->store_prefix = xstrdup(config->store_prefix);
    reply->store_tls = *config->store_cert != '\0';
}

static int sign(struct core *core, const struct join_request *request, struct join_reply *reply,
                struct error **ret_error)
{
    struct engine_authority found cleanup(engine_authority_clear) = {0};
    autostring_list struct string_list hosts = {0};
    hosts_of(request, &hosts);
    const struct pki_subject subject = {request->name, PKI_ROLE_NODE, &hosts, ENGINE_CERTIFICATE_SECONDS};
    int r = engine_certificate_sign(core->engine, &subject, request->request, &reply->certificate,
                                    &reply->authority, ret_error);
    if (r == 0)
        r = engine_authority(core->engine, &found, ret_error);
    if (r == 0)
        r = certificate_record(core, reply->certificate, ret_error);
    if (r < 0)
        return r;
    reply->node = xstrdup(request->name);
    reply->list = steal_ptr(&found.list);
    reply->key = steal_ptr(&found.key);
    name_store(core->config, reply);
    return 0;
}

int core_cluster_join(struct core *core, const struct join_request *request, struct join_reply *ret_reply,
                      struct error **ret_error)
{
    struct join_reply reply = {0};
    int r = check_addresses(&request->addresses, ret_error);
    if (r == 0)
        r = pki_name_check(request->name, ret_error);
    if (r == 0)
        r = use_token(core, request, ret_error);
    fault_point("join-token-used");
    if (r == 0)
        r = sign(core, request, &reply, ret_error);
    if (r < 0) {
        schema_clear(&join_reply_schema, &reply);
        return r;
    }
    *ret_reply = reply;
    return 0;
}
