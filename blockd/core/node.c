/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Nodes: registration, looking one up by name or address, and stopping and starting all that one serves. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/address.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

/* ---- This node's own record ---- */

static bool refresh_registration(void *object, void *data)
{
    struct node *node = object;
    const struct core *core = data;
    const struct config *config = core->config;
    bool spec_changed = false;
    if (node->spec.addresses.count == 0 || strcmp(node->spec.addresses.items[0], config->address) != 0) {
        string_list_clear(&node->spec.addresses);
        string_list_add(&node->spec.addresses, config->address);
        spec_changed = true;
    }
    if (config->zone && *config->zone)
        spec_changed |= string_replace(&node->spec.zone, config->zone);
    if (spec_changed)
        node->meta.generation++;
    string_replace(&node->status.version, BLOCKD_VERSION);
    node->status.started = core->started;
    return true;
}

int node_register(struct core *core, struct error **ret_error)
{
    struct node node cleanup(cleanup_node) = {0};
    int r = record_get(core, KIND_NODE, core->node, &node, NULL);
    if (r == 0)
        return record_update(core, KIND_NODE, core->node, NULL, refresh_registration, core, ret_error);
    if (r != -ENOENT)
        return error_set(ret_error, -r, "cannot read this node's record: %s", strerror(-r));

    meta_init(&node.meta, core->node);
    node.status.phase = xstrdup("online");
    refresh_registration(&node, core);
    node.meta.generation = 1;
    struct txn txn = {0};
    txn_put(&txn, KIND_NODE, &node, 0);
    r = txn_commit(core, &txn, ret_error);
    txn_clear(&txn);
    return r;
}

int node_get_enabled(struct core *core, bool *ret_enabled, struct error **ret_error)
{
    struct node node cleanup(cleanup_node) = {0};
    int r = record_get(core, KIND_NODE, core->node, &node, ret_error);
    if (r == 0)
        *ret_enabled = node.spec.state == NODE_ENABLED;
    return r;
}

/* ---- Finding ---- */

static bool node_answers_to(const struct node *node, const char *host)
{
    if (strcmp(node->meta.name, host) == 0)
        return true;
    for (size_t i = 0; i < node->spec.addresses.count; i++)
        if (address_equal(node->spec.addresses.items[i], host))
            return true;
    return false;
}

int node_find(struct core *core, const char *host, struct node *ret_node, struct error **ret_error)
{
    struct record_list nodes = {.kind = KIND_NODE};
    int r = record_list(core, KIND_NODE, NULL, &nodes, ret_error);
    if (r < 0)
        return r;
    autostrbuf struct strbuf known = {0};
    r = -ENOENT;
    for (size_t i = 0; i < nodes.list.count && r < 0; i++) {
        const struct node *node = RECORD(&nodes, node, i);
        strbuf_addf(&known, "%s%s (%s)", i ? ", " : "", node->meta.name,
                    node->spec.addresses.count ? node->spec.addresses.items[0] : "no address");
        if (node_answers_to(node, host)) {
            schema_copy(&node_schema, ret_node, node);
            r = 0;
        }
    }
    record_list_clear(&nodes);
    if (r < 0)
        return error_set(ret_error, ENOENT, "host %s is no node; the nodes are %s", host,
                         strbuf_string(&known));
    return 0;
}

int node_require_alone(struct core *core, const char *what, struct error **ret_error)
{
    struct record_list nodes = {.kind = KIND_NODE};
    int r = record_list(core, KIND_NODE, NULL, &nodes, ret_error);
    if (r == 0 && nodes.list.count > 1)
        r = error_set(ret_error, EOPNOTSUPP, "%s in a cluster of several nodes is not supported yet", what);
    record_list_clear(&nodes);
    return r;
}

/* ---- Change ---- */

enum { PATCH_STATE, PATCH_ADDRESSES, PATCH_ZONE }; /* the fields' places in node_patch_schema */

/* Where bricks listen is the node's own configuration; the API adds what else it is known by. The node that
 * answers need not be the one that is changed. */
static int check_addresses(const struct node *node, const struct string_list *addresses,
                           struct error **ret_error)
{
    const struct string_list *before = &node->spec.addresses;
    if (!addresses->count)
        return error_set(ret_error, EINVAL, "addresses is empty: a node has at least one address");
    for (size_t i = 0; i < addresses->count; i++) {
        int r = address_check(addresses->items[i], ret_error);
        if (r < 0)
            return r;
        for (size_t k = 0; k < i; k++)
            if (address_equal(addresses->items[k], addresses->items[i]))
                return error_set(ret_error, EINVAL, "the address %s is named twice", addresses->items[i]);
    }
    if (before->count && !address_equal(addresses->items[0], before->items[0]))
        return error_set(ret_error, EINVAL,
                         "the first address of node %s is %s, which its configuration sets ([node] address); "
                         "others may follow it",
                         node->meta.name, before->items[0]);
    return 0;
}

static int change_spec(struct core *core, const struct change_call *call, const struct core_change *change,
                       struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    const struct node_patch *patch = call->request;
    uint64_t present = call->present;
    struct node node cleanup(cleanup_node) = {0};
    int r = change_get(core, KIND_NODE, name, change, &node, ret_error);
    if (r < 0)
        return r;
    if ((present >> PATCH_ADDRESSES & 1) && (r = check_addresses(&node, &patch->addresses, ret_error)) < 0)
        return r;
    if (present >> PATCH_STATE & 1)
        node.spec.state = patch->state;
    if (present >> PATCH_ADDRESSES & 1) {
        string_list_clear(&node.spec.addresses);
        string_list_copy(&node.spec.addresses, &patch->addresses);
    }
    if (present >> PATCH_ZONE & 1)
        string_replace(&node.spec.zone, strcmp(patch->zone, "none") == 0 ? NULL : patch->zone);
    node.meta.generation++;

    autofree char *key = object_key(KIND_NODE, name);
    struct txn txn = {0};
    txn_put(&txn, KIND_NODE, &node, node.meta.revision);
    r = change_commit(core, change, &txn, key, node.meta.uid, ret_error);
    return r < 0 ? r : result_make(core, key, node.meta.uid, change, ret_result, ret_error);
}

int core_node_patch(struct core *core, const char *name, const struct node_patch *patch, uint64_t present,
                    const struct core_change *change, struct core_result *ret_result,
                    struct error **ret_error)
{
    struct change_call call = {.name = name, .request = patch, .present = present};
    return change_run(core, change_spec, &call, change, ret_result, ret_error);
}

/* ---- Reconcile ---- */

static int record_phase(struct core *core, const struct node *node, const char *phase, const char *error,
                        struct error **ret_error)
{
    struct status_seen seen = {.phase = phase, .error = error};
    return status_record(core, KIND_NODE, &node->meta, &seen, ret_error);
}

/* Have all of this node's devices been brought down? */
static int devices_stopped(struct core *core, bool *ret_stopped, struct error **ret_error)
{
    struct record_list devices = {.kind = KIND_DEVICE};
    int r = record_list(core, KIND_DEVICE, core->node, &devices, ret_error);
    if (r < 0)
        return r;
    *ret_stopped = true;
    for (size_t i = 0; i < devices.list.count; i++)
        if (!string_equal(RECORD(&devices, device, i)->status.phase, "stopped"))
            *ret_stopped = false;
    record_list_clear(&devices);
    return 0;
}

/* Everything on this node depends on the node's state: look at all of it again. */
static void wake_dependents(struct core *core, enum object_kind kind)
{
    struct record_list records = {.kind = kind};
    if (record_list_readable(core, kind, NULL, &records, NULL) < 0)
        return;
    for (size_t i = 0; i < records.list.count; i++) {
        const struct meta *meta =
            (const struct meta *)((const char *)records.list.items + i * object_types[kind].schema->size);
        autofree char *key = object_key(kind, meta->name);
        queue_add(core->queue, key);
    }
    record_list_clear(&records);
}

static int bring_down(struct core *core, const struct node *node, struct error **ret_error)
{
    const char *phase = node->status.phase;
    int r = engine_nbd_down(core->engine, ret_error);
    if (r < 0)
        return r;
    bool stopped;
    r = devices_stopped(core, &stopped, ret_error);
    if (r < 0)
        return r;
    if (!string_equal(phase, "stopping") && !string_equal(phase, "stopped")) {
        r = record_phase(core, node, "stopping", NULL, ret_error);
        wake_dependents(core, KIND_EXPORT);
        wake_dependents(core, KIND_VOLUME);
        wake_dependents(core, KIND_DEVICE);
        return r < 0 ? r : -EAGAIN;
    }
    if (!stopped)
        return -EAGAIN;
    r = engine_volserver_down(core->engine, ret_error);
    if (r < 0)
        return r;
    return record_phase(core, node, "stopped", NULL, ret_error);
}

static int bring_up(struct core *core, const struct node *node, struct error **ret_error)
{
    /* What needs no certificate goes on without one. */
    autoerror struct error *problem = NULL;
    int certificate = node_keep_certificate(core, &problem);
    int r = engine_volserver_up(core->engine, node, ret_error);
    if (r == 0)
        r = engine_nbd_up(core->engine, ret_error);
    bool was_online = string_equal(node->status.phase, "online");
    if (r < 0 || (was_online && !node->status.error && certificate == 0))
        return r;
    r = record_phase(core, node, "online", problem ? problem->message : NULL, ret_error);
    if (!was_online) {
        wake_dependents(core, KIND_DEVICE);
        wake_dependents(core, KIND_VOLUME);
        wake_dependents(core, KIND_EXPORT);
    }
    if (r == 0 && certificate < 0)
        r = error_set(ret_error, -certificate, "%s", error_message(problem));
    return r;
}

int node_reconcile(struct core *core, const char *name, struct error **ret_error)
{
    if (strcmp(name, core->node) != 0) { /* its addresses are in the volfiles of all */
        wake_dependents(core, KIND_VOLUME);
        return 0;
    }
    struct node node cleanup(cleanup_node) = {0};
    int r = record_get(core, KIND_NODE, name, &node, ret_error);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    autoerror struct error *problem = NULL;
    r = node.spec.state == NODE_STOPPED ? bring_down(core, &node, &problem) : bring_up(core, &node, &problem);
    if (r == 0 || r == -EAGAIN)
        return r;
    record_phase(core, &node, NULL, problem ? problem->message : NULL, NULL);
    return error_set(ret_error, -r, "%s", error_message(problem));
}
