/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The connections: what each of them fetched, so that it is told of a change; and their limits. Any thread
 * may call.
 */
#ifndef BLOCKD_XLATORS_VOLSERVER_PEERS_H
#define BLOCKD_XLATORS_VOLSERVER_PEERS_H

#include "xlators/abi.h"

#include <glusterfs/rpc/rpc-transport.h>

struct peers;

struct peers *peers_new(size_t limit, unsigned patience_seconds);
void peers_free(struct peers *peers);

void peers_add(struct peers *peers, rpc_transport_t *transport);
void peers_remove(struct peers *peers, rpc_transport_t *transport);
/* The connection was answered with the volfile of this name. */
void peers_served(struct peers *peers, rpc_transport_t *transport, const char *name);

/* The connection is about to be given `more` bytes: how many it has not taken yet, with these. */
uint64_t peers_unsent(struct peers *peers, const rpc_transport_t *transport, size_t more);

/*
 * Connections, each with a reference that peers_release() gives back: those that fetched the volfile `name`
 * (NULL: any name), or those that should be cut off, because they fetched nothing in time or are the oldest
 * of too many.
 */
struct peers_list {
    rpc_transport_t **items;
    size_t count;
};
struct peers_list peers_of(struct peers *peers, const char *name);
struct peers_list peers_unwanted(struct peers *peers);
void peers_release(struct peers_list *list);

#endif
