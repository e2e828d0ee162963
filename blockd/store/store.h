/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The one place of truth: keys and JSON values, each with a revision, changed by compare-and-set transactions
 * and watched. Backends: SQLite here; etcd v3 in a cluster. The contract tests (tests/contract) run over
 * every backend.
 *
 * Revisions are numbers that grow with every transaction of the whole store, as in etcd. A key's revision is
 * that of its last change; 0 means "is not there".
 *
 * Threads: any thread may call, at once. Calls block for the disk (or network).
 */
#ifndef BLOCKD_STORE_H
#define BLOCKD_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "rpc/base/error.h"

struct store;

/*
 * "sqlite:/path/of/file". The file and its folder are made with mode 0600 and 0700. -EBUSY while another
 * process has it open (the message names the file), -EUCLEAN when it is corrupt, -EPROTONOSUPPORT when a
 * newer blockd made it.
 * "?history=N" after the path keeps the changes of N revisions for watches instead of 10,000.
 *
 * "etcd://ENDPOINT,...": an etcd v3 cluster, by one or more of its members' client addresses: HOST,
 * HOST:PORT, or either behind http:// or https://. After a question mark, joined by "&", values
 * percent-encoded: "prefix=/P" stands before each key (default /blockd), "ca=FILE" judges the servers,
 * "cert=FILE" and "key=FILE" show who this is, and "timeout=SECONDS" bounds each call (default 15). -EINVAL,
 * and the errno of a file that cannot be read; etcd itself is not asked yet.
 *
 * While no etcd answers, or those that do have no quorum, every call fails with -ENOTCONN within that
 * time, and watches wait. Where a failed store_commit() may have been done, its message says so.
 */
int store_open(const char *url, struct store **ret_store, struct error **ret_error);
/* No call may be under way. Open watches are ended first (their callback does not run again). NULL is
 * allowed. */
void store_close(struct store *store);
DEFINE_CLEANUP(struct store *, cleanup_store, store_close)

/* Do other processes, on other machines, write it too? Then what one of them must do
 * for all needs a leader. */
bool store_is_shared(const struct store *store);

#define STORE_KEY_MAX   1024u      /* bytes; printable ASCII without blanks */
#define STORE_VALUE_MAX (1u << 20) /* bytes */
#define STORE_OPS_MAX   126u       /* in one transaction: etcd takes 128, and some are the store's own */

struct store_entry {
    char *key;
    char *value;       /* JSON text, NUL terminated; NULL for a deletion in a watch */
    uint64_t revision; /* of its last change */
};
void store_entry_clear(struct store_entry *entry);

/* -ENOENT when it is not there (with a message that names the key). */
int store_get(struct store *store, const char *key, struct store_entry *ret_entry, struct error **ret_error);

struct store_list {
    struct store_entry *entries; /* by key */
    size_t count;
    uint64_t revision; /* of the store when the list was read: all of it is one moment */
};
void store_list_clear(struct store_list *list);

/*
 * Keys that begin with `prefix`, in order, at most `limit` (0: all) and after the key `after` (NULL: from the
 * start) for pages.
 */
int store_list(struct store *store, const char *prefix, const char *after, size_t limit,
               struct store_list *ret_list, struct error **ret_error);

/* ---- Transactions ---- */

struct store_op {
    enum { STORE_PUT, STORE_DELETE, STORE_CHECK } kind;
    const char *key;
    const char *value; /* STORE_PUT only */
    bool compare; /* the key must have `revision` now (0: must not be there); STORE_CHECK always compares */
    uint64_t revision;
    int64_t lease; /* STORE_PUT: the key goes when this lease ends; 0: none */
};

/*
 * All operations or none; durable when it returns. -ESTALE when a comparison fails; the message names the
 * key. A key may be named once only; deleting one that is not there is no change. *ret_revision (may be NULL)
 * is the revision of every key that was put; of the store, when nothing changed. -ENOENT: a lease has ended.
 * -ENOSPC and -EIO leave the store as it was, and usable.
 * etcd limits a transaction to 1.5 MiB in all (-EFBIG).
 */
int store_commit(struct store *store, const struct store_op *ops, size_t count, uint64_t *ret_revision,
                 struct error **ret_error);

/* ---- Watches ---- */

struct store_watch;
struct store_event {
    const char *key;
    const char *value; /* NULL: deleted */
    uint64_t revision;
};

/*
 * Runs on a thread of the store, in the order of revisions, once per change of a key with the prefix after
 * `after_revision`. It may call the store, but not store_watch_end(). It must not block for long: all watches
 * share the thread. `event` NULL says: changes were missed (their history is no longer kept, or
 * `after_revision` is one that this store never had); list again. The watch then goes on with what changes
 * from there on.
 */
typedef void (*store_watch_callback)(void *data, const struct store_event *event);
int store_watch(struct store *store, const char *prefix, uint64_t after_revision,
                store_watch_callback callback, void *data, struct store_watch **ret_watch,
                struct error **ret_error);
/* When it returns the callback runs no more. */
void store_watch_end(struct store_watch *watch);

/* ---- Leases ---- */

/*
 * A lease ends `seconds` (1 to 86,400) after its last renewal, and its keys are then deleted as in a
 * transaction. One that is there when the store is opened may get its full time again.
 */
int store_lease_grant(struct store *store, unsigned seconds, int64_t *ret_lease, struct error **ret_error);
/* -ENOENT: it has ended. */
int store_lease_renew(struct store *store, int64_t lease, struct error **ret_error);
/* Ends it now. */
int store_lease_revoke(struct store *store, int64_t lease, struct error **ret_error);

#endif
