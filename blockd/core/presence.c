/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Which nodes of the cluster are there, and which one leads: does what one of them must do for all. Each
 * node keeps a key alive/NODE by a lease; the one that has the key `leader` by its lease leads. A node
 * that cannot renew its lease leads no more when that may have ended, whether or not the store tells.
 *
 * A store that only this process writes needs no leases: its node is there, and leads.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/log.h"

#define LEASE_SECONDS 9
#define RENEW_MS      2000
#define LEADER_KEY    "leader"
#define ALIVE_PREFIX  "alive/"

struct presence {
    struct core *core;
    pthread_t thread;
    bool started; /* main thread only */
    struct store_watch *watches[2];
    int64_t lease;  /* of the thread, as the next; 0: none */
    bool announced; /* the lease holds this node's key, and the leader's if that was its own */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;
    bool stopping, changed;
    bool leads;
    int64_t sure_until;       /* monotonic ms: until then the lease lasts */
    struct string_list alive; /* names of nodes */
};

/* ---- What others ask ---- */

bool presence_leads(struct presence *presence)
{
    if (!presence->started)
        return !store_is_shared(presence->core->store);
    scoped_lock(&presence->mutex);
    return presence->leads && clock_monotonic_ms() < presence->sure_until;
}

bool presence_sees(struct presence *presence, const char *node)
{
    if (strcmp(node, presence->core->node) == 0)
        return true;
    scoped_lock(&presence->mutex);
    return string_list_contains(&presence->alive, node);
}

/* ---- The thread ---- */

static void end_lease(struct presence *presence)
{
    presence->lease = 0;
    presence->announced = false;
    scoped_lock(&presence->mutex);
    presence->leads = false;
}

/* The lease lasts from before the store was asked. */
static int keep_lease(struct presence *presence, struct error **ret_error)
{
    struct core *core = presence->core;
    int64_t now = clock_monotonic_ms();
    int r = -ENOENT;
    if (presence->lease)
        r = store_lease_renew(core->store, presence->lease, ret_error);
    if (r == -ENOENT) {
        end_lease(presence);
        if (ret_error) {
            error_free(*ret_error);
            *ret_error = NULL;
        }
        r = store_lease_grant(core->store, LEASE_SECONDS, &presence->lease, ret_error);
    }
    if (r < 0)
        return r;
    scoped_lock(&presence->mutex);
    presence->sure_until = now + (LEASE_SECONDS - 1) * 1000;
    return 0;
}

/* Holds a key by the lease. -ESTALE: somebody else came first. */
static int put_leased(struct presence *presence, const char *key, bool compare, uint64_t revision,
                      struct error **ret_error)
{
    autofree char *value = xasprintf("\"%s\"", presence->core->node);
    struct store_op op = {.kind = STORE_PUT,
                          .key = key,
                          .value = value,
                          .compare = compare,
                          .revision = revision,
                          .lease = presence->lease};
    return store_commit(presence->core->store, &op, 1, NULL, ret_error);
}

/* An earlier blockd of this node may have left the key, with a lease that ends soon. */
static int claim_leadership(struct presence *presence, bool fresh, bool *ret_leads, struct error **ret_error)
{
    struct core *core = presence->core;
    struct store_entry entry = {0};
    autofree char *own = xasprintf("\"%s\"", core->node);
    int r = store_get(core->store, LEADER_KEY, &entry, NULL);
    bool mine = r == 0 && strcmp(entry.value, own) == 0;
    uint64_t revision = r == 0 ? entry.revision : 0;
    store_entry_clear(&entry);
    if (r < 0 && r != -ENOENT)
        return error_set(ret_error, -r, "cannot read who leads: %s", strerror(-r));
    *ret_leads = mine && !fresh;
    if ((r == 0 && !mine) || *ret_leads)
        return 0;
    r = put_leased(presence, LEADER_KEY, true, revision, NULL);
    *ret_leads = r == 0;
    return r == -ESTALE ? 0 : r;
}

static int read_alive(struct presence *presence, struct string_list *ret_names, struct error **ret_error)
{
    struct store_list list = {0};
    int r = store_list(presence->core->store, ALIVE_PREFIX, NULL, 0, &list, ret_error);
    for (size_t i = 0; r == 0 && i < list.count; i++)
        string_list_add(ret_names, list.entries[i].key + strlen(ALIVE_PREFIX));
    store_list_clear(&list);
    return r;
}

static void log_difference(const struct string_list *before, const struct string_list *now)
{
    for (size_t i = 0; i < now->count; i++)
        if (!string_list_contains(before, now->items[i]))
            log_info("node %s is there", now->items[i]);
    for (size_t i = 0; i < before->count; i++)
        if (!string_list_contains(now, before->items[i]))
            log_warning("node %s does not answer", before->items[i]);
}

/* Returns whether something changed that a pass should look at. */
static bool take_over(struct presence *presence, struct string_list *alive, bool leads)
{
    scoped_lock(&presence->mutex);
    bool same = alive->count == presence->alive.count;
    for (size_t i = 0; same && i < alive->count; i++)
        same = strcmp(alive->items[i], presence->alive.items[i]) == 0;
    log_difference(&presence->alive, alive);
    struct string_list before = presence->alive;
    presence->alive = *alive;
    *alive = before;
    bool elected = leads && !presence->leads;
    if (elected)
        log_info("this node leads the cluster");
    presence->leads = leads;
    return elected || !same;
}

static int look(struct presence *presence, struct error **ret_error)
{
    autostring_list struct string_list alive = {0};
    autofree char *key = xasprintf(ALIVE_PREFIX "%s", presence->core->node);
    bool leads = false;
    int r = keep_lease(presence, ret_error);
    bool fresh = !presence->announced;
    if (r == 0 && fresh)
        r = put_leased(presence, key, false, 0, ret_error);
    if (r == 0)
        r = claim_leadership(presence, fresh, &leads, ret_error);
    if (r == 0)
        presence->announced = true; /* not before: what failed is done again by the next look */
    if (r == 0)
        r = read_alive(presence, &alive, ret_error);
    if (r == 0 && !string_list_contains(&alive, presence->core->node))
        presence->announced = false; /* somebody took the key away */
    if (r == 0 && take_over(presence, &alive, leads))
        core_presence_changed(presence->core);
    return r;
}

static void *run(void *data)
{
    struct presence *presence = data;
    bool failing = false;
    for (;;) {
        {
            scoped_lock(&presence->mutex);
            struct timespec when;
            clock_gettime(CLOCK_MONOTONIC, &when);
            when.tv_sec += RENEW_MS / 1000;
            if (!presence->changed && !presence->stopping)
                pthread_cond_clockwait(&presence->wake, &presence->mutex, CLOCK_MONOTONIC, &when);
            if (presence->stopping)
                return NULL;
            presence->changed = false;
        }
        autoerror struct error *problem = NULL;
        int r = look(presence, &problem);
        if (r < 0 && !failing)
            log_warning("this node cannot tell the cluster that it is there: %s", error_message(problem));
        if (r == 0 && failing)
            log_info("the cluster's store answers again");
        failing = r < 0;
    }
}

/* On a thread of the store. */
static void on_change(void *data, const struct store_event *event)
{
    struct presence *presence = data;
    autofree char *own = xasprintf(ALIVE_PREFIX "%s", presence->core->node);
    /* This node's own key is news only when it is gone. */
    if (event && event->value && strcmp(event->key, own) == 0)
        return;
    scoped_lock(&presence->mutex);
    presence->changed = true;
    pthread_cond_signal(&presence->wake);
}

/* ---- Life ---- */

struct presence *presence_new(struct core *core)
{
    struct presence *presence = xcalloc(1, sizeof *presence);
    presence->core = core;
    pthread_mutex_init(&presence->mutex, NULL);
    pthread_cond_init(&presence->wake, NULL);
    return presence;
}

int presence_start(struct presence *presence, struct error **ret_error)
{
    struct core *core = presence->core;
    if (!store_is_shared(core->store))
        return 0;
    presence->started = true;
    static const char *const prefixes[] = {ALIVE_PREFIX, LEADER_KEY};
    int r = look(presence, ret_error);
    for (size_t i = 0; r == 0 && i < 2; i++)
        r = store_watch(core->store, prefixes[i], 0, on_change, presence, &presence->watches[i], ret_error);
    if (r < 0)
        return r;
    int number = pthread_create(&presence->thread, NULL, run, presence);
    if (number) {
        presence->started = false;
        return error_set(ret_error, number, "cannot start the thread of presence: %s", strerror(number));
    }
    return 0;
}

/* Another node may lead at once; that this one is there stays known until its lease ends, since a restart
 * takes less. */
static void hand_over(struct presence *presence)
{
    struct store_entry entry = {0};
    if (!presence_leads(presence) || store_get(presence->core->store, LEADER_KEY, &entry, NULL) < 0)
        return;
    struct store_op op = {
        .kind = STORE_DELETE, .key = LEADER_KEY, .compare = true, .revision = entry.revision};
    store_commit(presence->core->store, &op, 1, NULL, NULL);
    store_entry_clear(&entry);
}

void presence_stop(struct presence *presence)
{
    if (!presence || !presence->started)
        return;
    for (size_t i = 0; i < 2; i++) {
        if (presence->watches[i])
            store_watch_end(presence->watches[i]);
        presence->watches[i] = NULL;
    }
    {
        scoped_lock(&presence->mutex);
        presence->stopping = true;
        pthread_cond_signal(&presence->wake);
    }
    pthread_join(presence->thread, NULL);
    hand_over(presence);
    presence->started = false;
}

void presence_free(struct presence *presence)
{
    if (!presence)
        return;
    presence_stop(presence);
    string_list_clear(&presence->alive);
    pthread_cond_destroy(&presence->wake);
    pthread_mutex_destroy(&presence->mutex);
    free(presence);
}
