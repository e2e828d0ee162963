/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/core/certificates.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/pki.h"

/* Bricks know a client by its name alone: whoever bore a node's would have what is the node's. */
static int check_name(struct core *core, const char *name, struct error **ret_error)
{
    struct node node cleanup(cleanup_node) = {0};
    int r = pki_name_check(name, ret_error);
    if (r < 0)
        return r;
    if (name_check("node", name, NULL) < 0)
        return 0; /* no node can have it */
    r = record_get(core, KIND_NODE, name, &node, NULL);
    if (r == 0)
        return error_set(ret_error, EEXIST, "%s is the name of a node: take another one", name);
    return r == -ENOENT ? 0 : error_set(ret_error, -r, "cannot read the store: %s", strerror(-r));
}

int core_certificate_sign(struct core *core, const struct certificate_sign *request,
                          struct certificate_signed *ret_reply, struct error **ret_error)
{
    struct pki_subject subject = {
        .name = request->name, .hosts = &request->hosts, .seconds = (int64_t)request->days * 86400};
    struct certificate_signed reply = {0};
    int r = pki_role_parse(request->role, &subject.role, ret_error);
    if (r == 0 && subject.role == PKI_ROLE_NODE)
        r = error_set(ret_error, EINVAL, "a node gets its certificate by joining the cluster");
    if (r == 0)
        r = check_name(core, request->name, ret_error);
    if (r == 0)
        r = node_need_certificate(core, ret_error);
    if (r == 0)
        r = engine_certificate_sign(core->engine, &subject, request->request, &reply.certificate,
                                    &reply.authority, ret_error);
    if (r < 0)
        return r;
    autopki_certificate struct pki_certificate made = {0};
    r = pki_read(reply.certificate, &made, ret_error);
    if (r == 0)
        r = certificate_record_read(core, &made, ret_error);
    if (r < 0) {
        schema_clear(&certificate_signed_schema, &reply);
        return r;
    }
    reply.serial = steal_ptr(&made.serial);
    reply.fingerprint = steal_ptr(&made.fingerprint);
    reply.expires = made.not_after * 1000;
    *ret_reply = reply;
    return 0;
}

int core_certificate_revoke(struct core *core, const struct certificate_revoke *request,
                            struct certificate_revoked *ret_reply, struct error **ret_error)
{
    char *list = NULL;
    autofree char *serial = xstrdup(request->serial);
    for (char *c = serial; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    int r = engine_certificate_revoke(core->engine, serial, &list, ret_error);
    if (r == 0 && (r = certificate_record_revoked(core, serial, ret_error)) < 0)
        free(list);
    if (r == 0)
        *ret_reply = (struct certificate_revoked){xstrdup(serial), list, certificate_name(core, serial)};
    return r;
}
