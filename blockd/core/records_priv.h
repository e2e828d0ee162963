/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Inside the core: reading and changing what the store holds, one section a file. */
#ifndef BLOCKD_CORE_RECORDS_PRIV_H
#define BLOCKD_CORE_RECORDS_PRIV_H

#include "blockd/core/core.h"

struct ledger_change;

/* ---- records.c: objects in the store ---- */

/* A zeroed structure that is large enough for every kind. */
union any_object {
    struct meta meta;
    struct node node;
    struct device device;
    struct volume volume;
    struct block block;
    struct share share;
    struct export export;
    struct job job;
};
void any_object_clear(enum object_kind kind, union any_object *object);

/* -ENOENT names the object as the command line's users know it. */
int record_get(struct core *core, enum object_kind kind, const char *name, void *ret_object,
               struct error **ret_error);
int record_decode(enum object_kind kind, const struct store_entry *entry, void *ret_object,
                  struct error **ret_error);

/* Objects of a kind whose names begin with `prefix` (whole parts; NULL: all). Elements have the kind's schema
 * size. */
struct record_list {
    enum object_kind kind;
    struct object_list list;
    uint64_t revision;
    struct string_list damaged; /* messages, each with its key */
};
int record_list(struct core *core, enum object_kind kind, const char *prefix, struct record_list *ret_records,
                struct error **ret_error);
/*
 * As record_list(), but a record that cannot be read is left out, and named in `damaged`: for what must go on
 * with all others. What decides by the absence of a record wants record_list(), which fails.
 */
int record_list_readable(struct core *core, enum object_kind kind, const char *prefix,
                         struct record_list *ret_records, struct error **ret_error);
void record_list_clear(struct record_list *records);
#define RECORD(records, type, index) (&((struct type *)(records)->list.items)[index])

/* A transaction under construction; all zero is an empty one. */
struct txn {
    struct store_op *ops;
    size_t count;
    struct string_list strings; /* keys and values that the operations point to */
};
/* The object must have `revision` in the store (0: must not be there). */
void txn_put(struct txn *txn, enum object_kind kind, const void *object, uint64_t revision);
void txn_put_text(struct txn *txn, const char *key, const char *value, uint64_t revision);
void txn_delete(struct txn *txn, const char *key, uint64_t revision);
/* Gives a brick's port back. */
int txn_delete_port(struct core *core, struct txn *txn, const struct brick_spec *brick,
                    struct error **ret_error);
void txn_delete_any(struct txn *txn, const char *key); /* whatever revision it has */
void txn_check(struct txn *txn, const char *key, uint64_t revision);
int txn_commit(struct core *core, struct txn *txn, struct error **ret_error);
void txn_clear(struct txn *txn);

/*
 * Reads, edits and writes one object until no other writer comes between. The edit returns false to leave the
 * object as it is. `uid` (NULL: any): another identity under the name is -ENOENT.
 */
typedef bool (*record_edit)(void *object, void *data);
int record_update(struct core *core, enum object_kind kind, const char *name, const char *uid,
                  record_edit edit, void *data, struct error **ret_error);

/* Removes a record that its reconciler is done with; -EAGAIN when somebody wrote it meanwhile: look at it
 * again. */
int record_delete(struct core *core, enum object_kind kind, const struct meta *meta,
                  struct error **ret_error);

/* A new object's meta. */
void meta_init(struct meta *meta, const char *name);
/* Replaces an owned string; NULL empties it. Returns whether it differs. */
bool string_replace(char **member, const char *text);

/* ---- status_record.c: what was seen of an object goes into its status ---- */

struct status_seen {
    const char *phase; /* NULL: as it was */
    const char *error; /* NULL: none */
    uint64_t size;     /* of a block or a share */
    record_edit more;  /* sets what else the kind has, while the phase is still the old one; NULL: nothing */
    void *data;
};
/* Notes meta's generation as observed. -ENOENT when another object has the name by now. */
int status_record(struct core *core, enum object_kind kind, const struct meta *meta,
                  const struct status_seen *seen, struct error **ret_error);

bool job_has_ended(const struct job *job);
int job_record(struct core *core, const struct job *job, const char *phase, uint64_t done, const char *error);
struct job_news {
    const char *phase, *error;
    const char *message;  /* NULL: as it was */
    uint64_t done, total; /* a total of 0: as it was */
    int64_t began;        /* when it is the first news; 0: now */
};
int job_record_news(struct core *core, const struct job *job, const struct job_news *news);

/* ---- idempotency.c ---- */

/* 1: the request was done before; the key and the uid of its object are the caller's. 0: it is new. -EINVAL:
 * the key belongs to another request. */
int idempotency_find(struct core *core, const struct core_change *change, char **ret_key, char **ret_uid,
                     struct error **ret_error);
/* Makes the request's mark part of its transaction. */
void idempotency_record(struct txn *txn, const struct core_change *change, const char *key, const char *uid);
/* The change was taken back: the same request is a new one. */
void idempotency_forget(struct core *core, const struct core_change *change);
/* Forgets marks that are older than a day. */
void idempotency_sweep(struct core *core);

/* ---- result.c: waiting for the reconciler, and the answer ---- */

/* The object's JSON with live status; NULL when it is gone, or when another one has its name by now. */
int result_make(struct core *core, const char *key, const char *uid, const struct core_change *change,
                struct core_result *ret_result, struct error **ret_error);
/* If the request was done before, answers it: 1. Otherwise 0. */
int result_replay(struct core *core, const struct core_change *change, struct core_result *ret_result,
                  struct error **ret_error);

/* ---- change.c: what all operations that change an object have in common ---- */

/* record_get(), and -ESTALE when the caller wants a revision that is not the object's. */
int change_get(struct core *core, enum object_kind kind, const char *name, const struct core_change *change,
               void *ret_object, struct error **ret_error);
/* Commits the operation's transaction with the request's mark, and empties it. `key` and `uid` are the
 * object's. */
int change_commit(struct core *core, const struct core_change *change, struct txn *txn, const char *key,
                  const char *uid, struct error **ret_error);
/* The same with a change of the ledger. */
int change_commit_promise(struct core *core, const struct core_change *change, struct txn *txn,
                          const char *key, const char *uid, const struct ledger_change *promise,
                          struct error **ret_error);
/* What an operation is asked for. */
struct change_call {
    const char *name;    /* of the object; NULL where one is made */
    const void *request; /* of the operation's own type */
    uint64_t present;    /* the fields of a patch that were given */
};
typedef int (*change_operation)(struct core *core, const struct change_call *call,
                                const struct core_change *change, struct core_result *ret_result,
                                struct error **ret_error);
/* Does the operation, once more while others write between its reading and its writing; or answers a request
 * that was done before. */
int change_run(struct core *core, change_operation operation, const struct change_call *call,
               const struct core_change *change, struct core_result *ret_result, struct error **ret_error);
/* Puts what is seen live over the stored status; `whole` also asks what is costly (a block's use). */
void overlay_status(struct core *core, enum object_kind kind, void *object, bool whole);

#endif
