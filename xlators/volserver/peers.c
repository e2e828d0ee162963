/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "xlators/volserver/peers.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "xlators/volserver/specs.h"

/* A client fetches one volfile, or a few; one that fetched more is told of every change. */
#define NAMES_MAX 4

struct peer {
    struct peer *next; /* the one that came before it */
    rpc_transport_t *transport;
    time_t since;   /* CLOCK_MONOTONIC */
    uint64_t given; /* bytes of answers */
    size_t name_count;
    char names[NAMES_MAX][SPEC_NAME_MAX + 1];
};

struct peers {
    size_t limit;
    time_t patience;
    pthread_mutex_t mutex; /* innermost; guards what follows */
    struct peer *newest;
    size_t count;
};

struct peers *peers_new(size_t limit, unsigned patience_seconds)
{
    struct peers *peers = calloc(1, sizeof *peers);
    if (!peers)
        return NULL;
    peers->limit = limit;
    peers->patience = (time_t)patience_seconds;
    pthread_mutex_init(&peers->mutex, NULL);
    return peers;
}

void peers_free(struct peers *peers)
{
    if (!peers)
        return;
    while (peers->newest) {
        struct peer *peer = peers->newest;
        peers->newest = peer->next;
        free(peer);
    }
    pthread_mutex_destroy(&peers->mutex);
    free(peers);
}

static time_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

void peers_add(struct peers *peers, rpc_transport_t *transport)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        return; /* it is served all the same, and not told of changes */
    peer->transport = transport;
    peer->since = now();
    pthread_mutex_lock(&peers->mutex);
    peer->next = peers->newest;
    peers->newest = peer;
    peers->count++;
    pthread_mutex_unlock(&peers->mutex);
}

void peers_remove(struct peers *peers, rpc_transport_t *transport)
{
    struct peer *gone = NULL;
    pthread_mutex_lock(&peers->mutex);
    for (struct peer **link = &peers->newest; *link; link = &(*link)->next) {
        if ((*link)->transport != transport)
            continue;
        gone = *link;
        *link = gone->next;
        peers->count--;
        break;
    }
    pthread_mutex_unlock(&peers->mutex);
    free(gone);
}

static bool has_name(const struct peer *peer, const char *name)
{
    if (!name || peer->name_count > NAMES_MAX)
        return peer->name_count > 0;
    for (size_t i = 0; i < peer->name_count; i++)
        if (strcmp(peer->names[i], name) == 0)
            return true;
    return false;
}

void peers_served(struct peers *peers, rpc_transport_t *transport, const char *name)
{
    pthread_mutex_lock(&peers->mutex);
    for (struct peer *peer = peers->newest; peer; peer = peer->next) {
        if (peer->transport != transport)
            continue;
        if (!has_name(peer, name)) {
            if (peer->name_count < NAMES_MAX)
                strcpy(peer->names[peer->name_count], name);
            peer->name_count++;
        }
        break;
    }
    pthread_mutex_unlock(&peers->mutex);
}

uint64_t peers_unsent(struct peers *peers, const rpc_transport_t *transport, size_t more)
{
    uint64_t given = 0;
    pthread_mutex_lock(&peers->mutex);
    for (struct peer *peer = peers->newest; peer; peer = peer->next)
        if (peer->transport == transport) {
            given = peer->given += more;
            break;
        }
    pthread_mutex_unlock(&peers->mutex);
    /* What was sent beside the answers' texts makes it more, so that nobody is taken for
     * slower than he is. */
    return given > transport->total_bytes_write ? given - transport->total_bytes_write : 0;
}

/* With the lock held, under which a transport that is listed cannot go away. */
static void take(struct peers_list *list, const struct peer *peer)
{
    list->items[list->count++] = rpc_transport_ref(peer->transport);
}

struct peers_list peers_of(struct peers *peers, const char *name)
{
    struct peers_list list = {0};
    pthread_mutex_lock(&peers->mutex);
    list.items = calloc(peers->count + 1, sizeof *list.items);
    for (struct peer *peer = peers->newest; list.items && peer; peer = peer->next)
        if (has_name(peer, name))
            take(&list, peer);
    pthread_mutex_unlock(&peers->mutex);
    return list;
}

/* Who fetched something is never cut off: above the limit it is the oldest of those who did not. */
struct peers_list peers_unwanted(struct peers *peers)
{
    struct peers_list list = {0};
    time_t latest = now() - peers->patience;
    size_t newer = 0;
    pthread_mutex_lock(&peers->mutex);
    list.items = calloc(peers->count + 1, sizeof *list.items);
    for (struct peer *peer = peers->newest; list.items && peer; peer = peer->next) {
        newer++;
        if (peer->name_count == 0 && (peer->since <= latest || newer > peers->limit))
            take(&list, peer);
    }
    pthread_mutex_unlock(&peers->mutex);
    return list;
}

void peers_release(struct peers_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        rpc_transport_unref(list->items[i]);
    free(list->items);
    *list = (struct peers_list){0};
}
