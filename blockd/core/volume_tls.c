/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* TLS of volumes, and the certificate of this node that it needs. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/pki.h"

/* ---- The node's certificate ---- */

static bool wants_certificate(struct core *core)
{
    /* [api] listen is no reason: it waits, since a node that made an authority could not join another's. */
    if (core->config->tls_volserver || core->config->tls_volumes == VOLUME_TLS_ON)
        return true;
    struct record_list volumes = {.kind = KIND_VOLUME};
    bool wanted = false;
    if (record_list_readable(core, KIND_VOLUME, NULL, &volumes, NULL) < 0)
        return false;
    for (size_t i = 0; i < volumes.list.count; i++)
        wanted |= RECORD(&volumes, volume, i)->spec.tls == VOLUME_TLS_ON;
    record_list_clear(&volumes);
    return wanted;
}

static bool note_certificate(void *object, void *data)
{
    struct node *node = object;
    const struct engine_certificate *certificate = data;
    bool changed = string_replace(&node->status.certificate, certificate->fingerprint) ||
                   node->status.certificate_expires != certificate->expires;
    node->status.certificate_expires = certificate->expires;
    return changed;
}

/* The record of certificates, and what other nodes have revoked. Neither keeps the node from serving. */
static void keep_records(struct core *core, const char *fingerprint)
{
    autopki_certificate struct pki_certificate own = {0};
    struct node node cleanup(cleanup_node) = {0};
    if (!fingerprint)
        return;
    if (record_get(core, KIND_NODE, core->node, &node, NULL) < 0 ||
        !string_equal(node.status.certificate, fingerprint))
        if (engine_own_certificate(core->engine, &own, NULL) == 0)
            certificate_record_read(core, &own, NULL);
    certificate_apply_revoked(core, NULL);
}

static int keep_certificate(struct core *core, bool wanted, struct error **ret_error)
{
    struct record_list nodes = {.kind = KIND_NODE};
    struct engine_certificate certificate cleanup(engine_certificate_clear) = {0};
    int r = record_list(core, KIND_NODE, NULL, &nodes, ret_error);
    if (r == 0) {
        r = engine_certificates_up(core->engine, nodes.list.items, nodes.list.count, wanted, &certificate,
                                   ret_error);
        keep_records(core, certificate.fingerprint);
        int noted = record_update(core, KIND_NODE, core->node, NULL, note_certificate, &certificate,
                                  r < 0 ? NULL : ret_error);
        r = r < 0 ? r : noted;
    }
    record_list_clear(&nodes);
    return r;
}

int node_keep_certificate(struct core *core, struct error **ret_error)
{
    return keep_certificate(core, wants_certificate(core), ret_error);
}

int node_need_certificate(struct core *core, struct error **ret_error)
{
    return keep_certificate(core, true, ret_error);
}

/* ---- Volumes ---- */

static int check_shares(struct core *core, const char *volume, struct error **ret_error)
{
    struct record_list shares = {.kind = KIND_SHARE};
    int r = record_list(core, KIND_SHARE, volume, &shares, ret_error);
    for (size_t i = 0; r == 0 && i < shares.list.count; i++) {
        const struct share *share = RECORD(&shares, share, i);
        if (share->spec.access.count && !share->meta.deleting)
            r = error_set(
                ret_error, EBUSY,
                "share %s has an access list of its own, which bricks cannot keep with TLS: empty it "
                "first (gluster-block share access %s none)",
                share->meta.name, share->meta.name);
    }
    record_list_clear(&shares);
    return r;
}

int volume_change_tls(struct core *core, struct volume *volume, int tls, struct error **ret_error)
{
    if (volume->spec.tls == tls)
        return 0;
    if (volume->spec.state != VOLUME_STOPPED || !string_equal(volume->status.phase, "stopped"))
        return error_set(ret_error, EBUSY,
                         "volume %s is %s: bricks and clients change to or from TLS together, so "
                         "stop it first (gluster-block volume stop %s)",
                         volume->meta.name, volume->status.phase, volume->meta.name);
    int r = 0;
    if (tls == VOLUME_TLS_ON)
        r = check_shares(core, volume->meta.name, ret_error);
    if (r == 0 && tls == VOLUME_TLS_ON)
        r = node_need_certificate(core, ret_error);
    if (r == 0)
        volume->spec.tls = tls;
    return r;
}

int share_check_access(const struct volume *volume, const struct string_list *access,
                       struct error **ret_error)
{
    if (access->count && volume->spec.tls == VOLUME_TLS_ON)
        return error_set(
            ret_error, EOPNOTSUPP,
            "volume %s has TLS, and bricks know certificates for a whole volume only: name them in "
            "the volume's access list",
            volume->meta.name);
    return engine_access_check(access, false, ret_error);
}
