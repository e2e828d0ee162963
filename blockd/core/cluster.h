/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Who belongs to the cluster: its authority, the tokens by which nodes join, and the record of certificates.
 * Replies are the caller's, released with schema_clear().
 */
#ifndef BLOCKD_CORE_CLUSTER_H
#define BLOCKD_CORE_CLUSTER_H

#include "blockd/core/core.h"
#include "rpc/cluster.h"

/* Makes the authority and this node's certificate unless they are there. */
int core_cluster_init(struct core *core, struct cluster_authority *ret_reply, struct error **ret_error);
/* -ENOENT: there is no authority yet. */
int core_cluster_authority(struct core *core, struct cluster_authority *ret_reply, struct error **ret_error);

/* The store keeps a hash of the token only. */
int core_token_create(struct core *core, const struct token_create *request, struct token_created *ret_reply,
                      struct error **ret_error);
int core_token_list(struct core *core, struct token_list *ret_reply, struct error **ret_error);
int core_token_delete(struct core *core, const char *id, struct error **ret_error);

/*
 * Signs the certificate of a node that has a token, once: the same request gets an answer again while the
 * token is good, another one -EKEYREVOKED. -EACCES: no such token; -EKEYEXPIRED; -EEXIST: a node has the name
 * or an address.
 */
int core_cluster_join(struct core *core, const struct join_request *request, struct join_reply *ret_reply,
                      struct error **ret_error);

/* Signs the answering node's certificate anew. */
int core_certificate_renew(struct core *core, struct certificate_record *ret_reply, struct error **ret_error);
int core_certificate_list(struct core *core, struct certificate_list *ret_reply, struct error **ret_error);

#endif
