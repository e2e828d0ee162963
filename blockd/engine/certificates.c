/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* This node's certificate: made where the node is the whole cluster, renewed wherever
 * the authority's key is. */
#include "blockd/engine/engine_priv.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/pki_files.h"

void engine_certificate_clear(struct engine_certificate *certificate)
{
    free(certificate->fingerprint);
    *certificate = (struct engine_certificate){0};
}

/* A name with "_" is none that DNS knows. */
static bool is_host_name(const char *name)
{
    return !strchr(name, '_') && isalnum((unsigned char)*name);
}

static void hosts_of(const struct node *node, struct string_list *hosts)
{
    string_list_copy(hosts, &node->spec.addresses);
    static const char *const loopback[] = {"127.0.0.1", "::1", "localhost"};
    for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++)
        if (!string_list_contains(hosts, loopback[i]))
            string_list_add(hosts, loopback[i]);
    if (is_host_name(node->meta.name))
        string_list_add(hosts, node->meta.name);
}

static const struct node *own_node(const struct engine *engine, const struct node *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (string_equal(nodes[i].meta.name, engine->node))
            return &nodes[i];
    return NULL;
}

static bool has_authority(const struct engine *engine)
{
    autofree char *path = pki_path(engine->pki, PKI_AUTHORITY);
    return access(path, F_OK) == 0;
}

/* In a cluster of several nodes the authority comes by joining: two of them would not know each other. */
static int need_authority(struct engine *engine, const struct node *node, size_t count,
                          struct error **ret_error)
{
    if (count > 1 && !has_authority(engine))
        return error_set(
            ret_error, ENOKEY,
            "node %s has no certificate of the cluster's authority in %s: join it to the cluster",
            engine->node, engine->pki);
    autofree char *name = xasprintf("blockd-%s", node->meta.uid);
    autofree char *key = pki_path(engine->pki, PKI_AUTHORITY_KEY);
    if (has_authority(engine) && access(key, F_OK) < 0)
        return 0;
    return pki_folder_authority(engine->pki, name, ret_error);
}

static int renew(struct engine *engine, const struct node *node, struct error **ret_error)
{
    autostring_list struct string_list hosts = {0};
    hosts_of(node, &hosts);
    const struct pki_subject subject = {node->meta.name, PKI_ROLE_NODE, &hosts, ENGINE_CERTIFICATE_SECONDS};
    return pki_folder_node(engine->pki, &subject, NULL, ret_error);
}

int engine_certificates_up(struct engine *engine, const struct node *nodes, size_t count, bool wanted,
                           struct engine_certificate *ret_certificate, struct error **ret_error)
{
    scoped_claim(engine, "certificates", "");
    *ret_certificate = (struct engine_certificate){0};
    const struct node *node = own_node(engine, nodes, count);
    if (!node || (!wanted && !has_authority(engine)))
        return 0;
    autoerror struct error *why = NULL;
    autopki_certificate struct pki_certificate read = {0};
    int r = need_authority(engine, node, count, ret_error);
    if (r < 0)
        return r;
    int renewed = renew(engine, node, &why);
    r = pki_folder_check(engine->pki, &read, NULL);
    if (r == 0) {
        ret_certificate->fingerprint = steal_ptr(&read.fingerprint);
        ret_certificate->expires = read.not_after * 1000;
    }
    if (renewed < 0)
        return error_set(ret_error, -renewed, "the certificate of node %s: %s", engine->node,
                         error_message(why));
    return 0;
}

int certificates_check(struct engine *engine, struct error **ret_error)
{
    autopki_certificate struct pki_certificate read = {0};
    int r = pki_folder_check(engine->pki, &read, ret_error);
    if (r < 0 && ret_error)
        error_prefix(ret_error, "the certificate of node %s", engine->node);
    return r;
}

int engine_certificate_sign(struct engine *engine, const struct pki_subject *subject, const char *request,
                            char **ret_certificate, char **ret_authority, struct error **ret_error)
{
    autopki_authority struct pki_authority authority = {0};
    int r = pki_folder_load_authority(engine->pki, &authority, ret_error);
    if (r == 0)
        r = pki_sign(&authority, request, subject, ret_certificate, ret_error);
    if (r == 0)
        *ret_authority = steal_ptr(&authority.certificate);
    return r;
}

int engine_certificate_revoke(struct engine *engine, const char *serial, char **ret_list,
                              struct error **ret_error)
{
    scoped_claim(engine, "certificates", "");
    autofree char *path = pki_path(engine->pki, PKI_LIST);
    int r = pki_folder_revoke(engine->pki, serial, ret_error);
    return r < 0 ? r : file_read(path, PKI_LIST_MAX, ret_list, NULL, ret_error);
}

int engine_certificate_renew(struct engine *engine, const struct node *node, struct error **ret_error)
{
    scoped_claim(engine, "certificates", "");
    autopki_authority struct pki_authority authority = {0};
    autofree char *request = NULL, *certificate = NULL;
    autostring_list struct string_list hosts = {0};
    hosts_of(node, &hosts);
    const struct pki_subject subject = {node->meta.name, PKI_ROLE_NODE, &hosts, ENGINE_CERTIFICATE_SECONDS};
    int r = pki_folder_load_authority(engine->pki, &authority, ret_error);
    if (r == 0)
        r = pki_folder_request(engine->pki, node->meta.name, &request, ret_error);
    if (r == 0)
        r = pki_sign(&authority, request, &subject, &certificate, ret_error);
    return r < 0 ? r : pki_folder_take_node(engine->pki, certificate, ret_error);
}
