/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Certificates for others than nodes. Replies are the caller's, released with schema_clear(). */
#ifndef BLOCKD_CORE_CERTIFICATES_H
#define BLOCKD_CORE_CERTIFICATES_H

#include "blockd/core/core.h"
#include "rpc/certificates.h"

/* -ENOKEY where the authority's key is on another node, -EEXIST for the name of a node. */
int core_certificate_sign(struct core *core, const struct certificate_sign *request,
                          struct certificate_signed *ret_reply, struct error **ret_error);
int core_certificate_revoke(struct core *core, const struct certificate_revoke *request,
                            struct certificate_revoked *ret_reply, struct error **ret_error);

#endif
