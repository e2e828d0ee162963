/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The folder that holds a node's part of the cluster's certificates (pki.h). Every file is replaced in one
 * step, so that programs may read at any time; private keys are readable by their owner only. Calls are
 * idempotent and finish what a crash left half done. One process works on a folder at a time; any thread of
 * it, one at a time.
 */
#ifndef BLOCKD_RPC_PKI_FILES_H
#define BLOCKD_RPC_PKI_FILES_H

#include "rpc/pki.h"

enum pki_file {
    PKI_AUTHORITY,     /* ca-cert.pem */
    PKI_AUTHORITY_KEY, /* ca-key.pem, only on nodes that sign */
    PKI_LIST,          /* ca-crl.pem: who is revoked */
    PKI_BUNDLE,        /* ca-bundle.pem: authority and list in one, as GlusterFS's transport reads them */
    PKI_NODE,          /* node-cert.pem */
    PKI_NODE_KEY,      /* node-key.pem: made here, goes nowhere */
};
/* The caller's. */
char *pki_path(const char *folder, enum pki_file file);

/* Makes an authority of that name, with a list of nobody, unless the folder has one. -ENOENT when the list is
 * gone: with an empty one the revoked would be let in again. */
int pki_folder_authority(const char *folder, const char *name, struct error **ret_error);
/* -ENOKEY where this node does not sign. */
int pki_folder_load_authority(const char *folder, struct pki_authority *ret_authority,
                              struct error **ret_error);
/* Takes over what another node signs by: certificate, list and, where it came along, the key (else NULL). */
int pki_folder_take_authority(const char *folder, const char *certificate, const char *list, const char *key,
                              struct error **ret_error);
/* Puts a serial number on the list. */
int pki_folder_revoke(const char *folder, const char *serial, struct error **ret_error);

/* The node's request; makes its key where there is none. */
int pki_folder_request(const char *folder, const char *name, char **ret_request, struct error **ret_error);
/* Takes over a certificate for the node's key, once it is good. */
int pki_folder_take_node(const char *folder, const char *certificate, struct error **ret_error);
/*
 * Sees that the node has a good certificate with that name, role and those hosts, and signs it a new one for
 * the same key when not, or when less than a third of its time is left. `*ret_changed` (may be NULL) says so.
 * -EKEYREVOKED stays that until both of the node's files are removed; -ENOKEY: another node must sign.
 */
int pki_folder_node(const char *folder, const struct pki_subject *subject, bool *ret_changed,
                    struct error **ret_error);

/* The node's certificate, verified against authority, list and clock. -ENOENT: it has none. */
int pki_folder_check(const char *folder, struct pki_certificate *ret_certificate, struct error **ret_error);
/* Is who shows this certificate one of the cluster's, now? As pki_verify(). */
int pki_folder_verify(const char *folder, const char *certificate, struct error **ret_error);

#endif
