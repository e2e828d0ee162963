/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The operations on blockd's nouns, and the reconciler that makes this node look like the store says.
 *
 * A change is one transaction in the store; the reconciler does the work, again and again until it is done,
 * whatever crashes in between. Every operation checks its input whole before it changes anything. Any thread
 * may call; calls block for the store, and for `wait` seconds when asked to.
 *
 * Objects are handed out as JSON (new references), with what is seen live put over the stored status.
 */
#ifndef BLOCKD_CORE_H
#define BLOCKD_CORE_H

#include "blockd/engine/engine.h"
#include "blockd/engine/heal.h"
#include "blockd/export/export.h"
#include "blockd/store/store.h"
#include "rpc/api.h"
#include "rpc/config.h"

struct core;

/* All outlive the core. The engine's `changed` callback must lead to core_engine_changed(). */
struct core_options {
    const struct config *config;
    struct store *store;
    struct engine *engine;
    struct exports *exports;
};

int core_new(const struct core_options *options, struct core **ret_core, struct error **ret_error);
/* Registers this node in the store, starts the workers and the first pass over everything. */
int core_start(struct core *core, struct error **ret_error);
/* Wakes everybody who waits in a call, with -ECANCELED, and ends the workers. What runs on the node goes on
 * running. */
void core_stop(struct core *core);
void core_free(struct core *core);
DEFINE_CLEANUP(struct core *, cleanup_core, core_free)

/* The engine saw a process come or go. Any thread; returns at once. */
void core_engine_changed(struct core *core);
/* The first pass over everything has ended. */
bool core_ready(struct core *core);
const char *core_node(const struct core *core);

/* ---- Changes ---- */

struct core_change {
    uint64_t wait;     /* seconds to wait for the reconciler */
    uint64_t revision; /* the object must have it; 0: any */
    bool force;
    const char *idempotency_key; /* NULL: none */
    const char *request; /* what was asked, as text; a key that comes again with another request is refused */
};

struct core_result {
    json_t *object; /* the object as it is now, or the job that works on it; NULL when it is gone */
    bool settled; /* what was asked is done (or has failed, see its status); false: the reconciler goes on */
};
void core_result_clear(struct core_result *result);

#define CORE_CHANGE(name, ...)                                                                               \
    int name(struct core *core, __VA_ARGS__, const struct core_change *change,                               \
             struct core_result *ret_result, struct error **ret_error)

/* `name` arguments are whole names, "V/B". */
CORE_CHANGE(core_node_patch, const char *name, const struct node_patch *patch, uint64_t present);
CORE_CHANGE(core_device_create, const struct device_create *request);
CORE_CHANGE(core_device_patch, const char *name, const struct device_patch *patch, uint64_t present);
CORE_CHANGE(core_device_delete, const char *name);
/* Both answer with the job. */
CORE_CHANGE(core_device_evacuate, const char *name, const struct device_evacuate *request);
CORE_CHANGE(core_device_replace, const char *name, const struct device_replace *request);
CORE_CHANGE(core_volume_create, const struct volume_create *request);
/* What core_volume_create() would do, as a volume_plan; changes nothing. */
int core_volume_plan(struct core *core, const struct volume_create *request, json_t **ret_plan,
                     struct error **ret_error);
CORE_CHANGE(core_volume_expand, const char *name, const struct volume_expand *request);
int core_volume_expand_plan(struct core *core, const char *name, const struct volume_expand *request,
                            json_t **ret_plan, struct error **ret_error);
CORE_CHANGE(core_volume_shrink, const char *name, const struct volume_shrink *request, uint64_t present);
CORE_CHANGE(core_volume_rebalance, const char *name);
CORE_CHANGE(core_volume_patch, const char *name, const struct volume_patch *patch, uint64_t present);
CORE_CHANGE(core_volume_delete, const char *name);
CORE_CHANGE(core_block_create, const struct block_create *request);
CORE_CHANGE(core_block_patch, const char *name, const struct block_patch *patch, uint64_t present);
CORE_CHANGE(core_block_rename, const char *name, const struct block_rename *rename);
CORE_CHANGE(core_block_delete, const char *name, bool keep_storage);
CORE_CHANGE(core_share_create, const struct share_create *request);
CORE_CHANGE(core_share_patch, const char *name, const struct share_patch *patch, uint64_t present);
CORE_CHANGE(core_share_access, const char *name, const struct share_access *access);
CORE_CHANGE(core_share_delete, const char *name, bool archive);
CORE_CHANGE(core_export_create, const struct export_create *request);
CORE_CHANGE(core_export_delete, const char *name);
CORE_CHANGE(core_job_delete, const char *name);
/* Answers with the job. */
CORE_CHANGE(core_heal_start, const char *name, const struct heal_start *request);
/* Waits at most `wait` seconds, and at most a minute; what takes longer goes on. A struct heal_resolved. */
int core_heal_resolve(struct core *core, const char *name, const struct heal_resolve *request, uint64_t wait,
                      json_t **ret_resolved, struct error **ret_error);

/* ---- Reading ---- */

int core_get(struct core *core, enum object_kind kind, const char *name, json_t **ret_object,
             struct error **ret_error);
/*
 * {"items": [...], "revision": N}; `prefix` NULL, or the first parts of the names ("V" for the blocks of V).
 * At most `limit` items (0: all) after the name `start` (NULL: from the beginning).
 */
int core_list(struct core *core, enum object_kind kind, const char *prefix, const char *start, uint64_t limit,
              json_t **ret_list, struct error **ret_error);

/*
 * Calls back on a thread of the store with each change after the revision (0: from now on); `object` NULL: it
 * is gone; `key` NULL: list again.
 */
typedef void (*core_watch_callback)(void *data, const char *key, const json_t *object, uint64_t revision);
struct core_watch;
int core_watch(struct core *core, enum object_kind kind, const char *prefix, uint64_t after,
               core_watch_callback callback, void *data, struct core_watch **ret_watch,
               struct error **ret_error);
void core_watch_end(struct core_watch *watch);

/* A struct heal_report of at most `limit` files (0: 1000). */
int core_heal_report(struct core *core, const char *name, uint64_t limit, bool split_brain_only,
                     json_t **ret_report, struct error **ret_error);
/* A struct heal_history. */
int core_heal_history(struct core *core, const char *name, json_t **ret_history, struct error **ret_error);

/* One screen of state; *ret_report is the caller's, released with schema_clear(). */
int core_status(struct core *core, struct status_report *ret_report, struct error **ret_error);

/* Numbers of the reconciler, for metrics. */
struct core_counters {
    uint64_t passes, failures; /* reconciliations, and those that will be repeated because they failed */
    uint64_t queued;           /* keys waiting now */
};
void core_counters(struct core *core, struct core_counters *ret_counters);
struct engine *core_engine(struct core *core);
struct exports *core_exports(struct core *core);

#endif
