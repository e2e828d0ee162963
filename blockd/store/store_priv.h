/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* For the room's own files: the vtable of a backend, and one section for each .c file that backends are made
 * of. */
#ifndef BLOCKD_STORE_PRIV_H
#define BLOCKD_STORE_PRIV_H

#include <pthread.h>

#include "blockd/store/store.h"

/* ---- The vtable (store.c chooses by the URL's scheme) ---- */

/*
 * All slots are required. Unless said otherwise a slot is called on any thread, several at once, may block
 * for the disk or the network, and returns 0 or a negative errno with a message. Keys, values, counts and
 * seconds were checked before.
 */
struct store_driver {
    const char *scheme; /* "sqlite", "etcd" */
    bool shared;        /* as store_is_shared() */

    /* `location` is the URL after "SCHEME:". *ret_store begins with a struct store whose driver is set. */
    int (*open)(const char *location, struct store **ret_store, struct error **ret_error);
    /* Called once, while no other call is under way. Ends watches, releases everything. */
    void (*close)(struct store *store);

    /* -ENOENT when the key is not there. */
    int (*get)(struct store *store, const char *key, struct store_entry *ret_entry, struct error **ret_error);
    /* One moment of the store. `after` may be NULL; `limit` 0 is none. */
    int (*list)(struct store *store, const char *prefix, const char *after, size_t limit,
                struct store_list *ret_list, struct error **ret_error);
    /* Atomic and durable. -ESTALE, -ENOENT (lease), -ENOSPC, -EIO. ret_revision is not NULL. */
    int (*commit)(struct store *store, const struct store_op *ops, size_t count, uint64_t *ret_revision,
                  struct error **ret_error);

    /* Does not wait for the callback. *ret_watch begins with a struct store_watch whose store is set. */
    int (*watch)(struct store *store, const char *prefix, uint64_t after_revision,
                 store_watch_callback callback, void *data, struct store_watch **ret_watch,
                 struct error **ret_error);
    /* Waits until the callback does not run, and frees the watch. Never on the callback's thread. */
    void (*watch_end)(struct store_watch *watch);

    int (*lease_grant)(struct store *store, unsigned seconds, int64_t *ret_lease, struct error **ret_error);
    int (*lease_renew)(struct store *store, int64_t lease, struct error **ret_error);
    int (*lease_revoke)(struct store *store, int64_t lease, struct error **ret_error);
};

struct store {
    const struct store_driver *driver;
};

struct store_watch {
    struct store *store;
};

extern const struct store_driver store_embedded_driver, store_etcd_driver;

/* ---- store_sqlite.c and store_sqlite_....c: one SQLite file ---- */

/*
 * Each change has a number that grows: the revision of its transaction, and its place there. A cursor is such
 * a number, and means "up to and with this change".
 */
#define CURSOR_PLACE_BITS 20
static inline uint64_t cursor_of_revision(uint64_t revision)
{
    return ((revision + 1) << CURSOR_PLACE_BITS) - 1;
}
#define REVISION_MAX ((UINT64_C(1) << (63 - CURSOR_PLACE_BITS)) - 2)

struct database;

/* The caller makes sure that nobody else has the file open. */
int database_open(const char *path, struct database **ret_database, struct error **ret_error);
void database_close(struct database *database);

/* Reads: any thread; they see the last committed state and never wait for a writer. */
int database_get(struct database *database, const char *key, struct store_entry *ret_entry,
                 struct error **ret_error);
int database_list(struct database *database, const char *prefix, const char *after, size_t limit,
                  struct store_list *ret_list, struct error **ret_error);
int database_revision(struct database *database, uint64_t *ret_revision, struct error **ret_error);

struct store_change {
    struct store_entry entry;
    uint64_t cursor;
};
struct store_changes {
    struct store_change *items;
    size_t count;
    uint64_t kept;  /* changes up to this cursor are no longer known */
    uint64_t until; /* this list has every change up to here */
};
void store_changes_clear(struct store_changes *changes);
/* At most `limit` changes after a cursor. */
int database_changes(struct database *database, uint64_t after, size_t limit,
                     struct store_changes *ret_changes, struct error **ret_error);

/*
 * Writes: one thread at a time. After database_begin() come any number of changes, then database_commit() or
 * database_rollback(). A change that fails with *ret_refused set has changed nothing and others may follow;
 * after any other failure only a rollback may.
 */
int database_begin(struct database *database, struct error **ret_error);
int database_apply(struct database *database, const struct store_op *ops, size_t count,
                   uint64_t *ret_revision, bool *ret_refused, struct error **ret_error);
int database_lease_add(struct database *database, unsigned seconds, int64_t *ret_lease,
                       struct error **ret_error);
/* Deletes the lease and its keys. */
int database_lease_end(struct database *database, int64_t lease, struct error **ret_error);
/* Forgets changes older than `keep` revisions, a bounded number at a time. */
int database_trim(struct database *database, uint64_t keep, struct error **ret_error);
int database_commit(struct database *database, struct error **ret_error);
void database_rollback(struct database *database);
/* The revision of the last commit, on the writing thread. */
uint64_t database_written_revision(const struct database *database);

struct database_lease {
    int64_t id;
    unsigned seconds;
};
/* The caller frees *ret_leases. Before any other thread uses the database. */
int database_leases(struct database *database, struct database_lease **ret_leases, size_t *ret_count,
                    struct error **ret_error);

/* ---- store_watch.c: one thread that hands changes to watches ---- */

struct watch_hub;

struct watch_source {
    /* As database_changes(). Called on the hub's thread only. */
    int (*read)(void *data, uint64_t after, size_t limit, struct store_changes *ret_changes,
                struct error **ret_error);
    void *data;
    uint64_t revision; /* of now */
};

int watch_hub_new(const struct watch_source *source, struct watch_hub **ret_hub, struct error **ret_error);
/* Ends the thread and frees every watch that is left. */
void watch_hub_free(struct watch_hub *hub);
/* Changes up to this revision can be read now. Any thread. */
void watch_hub_notify(struct watch_hub *hub, uint64_t revision);
/* `missed`: the first thing that it gets is the event NULL. */
struct store_watch *watch_hub_add(struct watch_hub *hub, struct store *store, const char *prefix,
                                  uint64_t after_revision, bool missed, store_watch_callback callback,
                                  void *data);
void watch_hub_remove(struct watch_hub *hub, struct store_watch *watch);

/* ---- store_lease.c: when leases end ---- */

struct lease_clock;

/* Ends a lease in the backend; a failure is tried again a second later. On the clock's thread. */
typedef int (*lease_expire)(void *data, int64_t lease);

int lease_clock_new(lease_expire expire, void *data, struct lease_clock **ret_clock,
                    struct error **ret_error);
void lease_clock_free(struct lease_clock *clock);
void lease_clock_add(struct lease_clock *clock, int64_t lease, unsigned seconds);
/* False: there is no such lease, or it is being ended. */
bool lease_clock_renew(struct lease_clock *clock, int64_t lease);
/* Takes the lease away, so that only the caller ends it. *ret_seconds is for putting it back. */
bool lease_clock_take(struct lease_clock *clock, int64_t lease, unsigned *ret_seconds);

#endif
