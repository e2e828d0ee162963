/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Inside the writers of volfiles: what they share. All append to `text`. */
#ifndef BLOCKD_ENGINE_VOLFILE_PRIV_H
#define BLOCKD_ENGINE_VOLFILE_PRIV_H

#include <arpa/inet.h>

#include "blockd/engine/engine_priv.h"

/* ---- volfile.c: translators as text ---- */

/* A translator begins, has options, and ends with the names of those below it, each in quotes ("": none). */
__attribute__((format(printf, 3, 4))) void vol_begin(struct strbuf *text, const char *type,
                                                     const char *name_format, ...);
void vol_option(struct strbuf *text, const char *key, const char *value);
void vol_number(struct strbuf *text, const char *key, uint64_t value);
__attribute__((format(printf, 2, 3))) void vol_end(struct strbuf *text, const char *below_format, ...);

/* How an address is to be written in a volfile, and its family; names are left to the resolver. */
struct vol_address {
    char text[INET6_ADDRSTRLEN];
    const char *family;
};
/* -EINVAL names the node. */
int vol_address_parse(const char *node, const char *text, struct vol_address *ret_address,
                      struct error **ret_error);
/* The first address of the node of that name. */
int vol_node_address(const struct volfile_sources *sources, const char *name, struct vol_address *ret_address,
                     struct error **ret_error);
/* The child's number in names, as printf takes it. */
unsigned long long vol_child_number(const struct volume *volume, size_t index);

/* ---- volfile_access.c ---- */

/*
 * As auth.addr has it: a list that counts for every folder, or a list for each folder that may be mounted,
 * and then no other one may be.
 */
int vol_brick_access(const struct volfile_sources *sources, struct strbuf *ret_text,
                     struct error **ret_error);

/* The names that certificates of the volume's users may bear, joined by commas; "*": any. */
void vol_brick_names(const struct volfile_sources *sources, struct strbuf *text);

/* ---- volfile_tls.c ---- */

/* What listens with TLS. */
int vol_add_server_certificates(const char *pki, struct strbuf *text, struct error **ret_error);
/* Options of a brick, resp. of its client, when the volume has TLS; else none. */
int vol_add_server_tls(const struct volfile_sources *sources, struct strbuf *text, struct error **ret_error);
int vol_add_client_tls(const struct volfile_sources *sources, struct strbuf *text, struct error **ret_error);

/* ---- volfile_client.c: what clients and the services have in common ---- */

int vol_add_clients(const struct volfile_sources *sources, struct strbuf *text, struct error **ret_error);
/* The set's number in names, as printf takes it. */
unsigned long long vol_set_number(const struct volume *volume, size_t set);
/* Has the set a translator that keeps several bricks together? */
bool vol_is_bundle(const struct volume *volume, size_t set);
/* The names of all those, each in quotes. The caller's. */
char *vol_bundle_names(const struct volume *volume);
/* The options that all who use the set must agree on; others may follow. */
void vol_begin_replicate(const struct volume *volume, size_t set, struct strbuf *text);
void vol_begin_disperse(const struct volume *volume, size_t set, struct strbuf *text);
/* Ends either, above the set's translators "V-BELOW-N". */
void vol_end_set(const struct volume *volume, size_t set, const char *below, struct strbuf *text);
/* Returns what comes after "V-" in its name. */
const char *vol_add_distribute(const struct volfile_sources *sources, struct strbuf *text);

#endif
