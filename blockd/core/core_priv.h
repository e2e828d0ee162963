/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Inside the core: one section a file. */
#ifndef BLOCKD_CORE_PRIV_H
#define BLOCKD_CORE_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "blockd/core/core.h"
#include "blockd/core/records_priv.h"
#include "handler/image/files.h"
#include "handler/image/image.h"

struct queue;
struct ledger;
struct hosting;
struct jobs;
struct heal_watch;
struct manifest;
struct presence;
struct reports;

struct core {
    const struct config *config; /* all five are set once, before the workers start */
    struct store *store;
    struct engine *engine;
    struct exports *exports;
    char *node;

    struct queue
        *queue; /* has a lock of its own, as have the next four; none is held over a call into another */
    struct ledger *ledger;
    struct hosting *hosting;
    struct jobs *jobs;
    struct heal_watch *heal_watch; /* with a lock of its own too */
    struct manifest *manifest;
    struct presence *presence;
    struct reports *reports;

    struct store_watch *watch;
    pthread_t pass_thread;
    bool pass_running;          /* main thread only */
    pthread_mutex_t pass_mutex; /* guards the next four */
    pthread_cond_t pass_wake;
    bool engine_changed;
    bool missed; /* changes in the store were missed */
    bool stopping;
    atomic_bool ready;
    int64_t started; /* real time in milliseconds */

    pthread_mutex_t
        placement_mutex; /* one volume is placed at a time, so that ports and devices are not picked twice */
    atomic_ullong revoked_done; /* revision of the newest revocation that is on this node's list */
    atomic_ullong next_project; /* the first project id that may be free */

    pthread_mutex_t
        heal_mutex; /* the self-heal daemon's set of volumes is computed and applied as one step */

    pthread_mutex_t notes_mutex;   /* guards the next one; nothing is called with it held */
    struct string_list move_notes; /* move_wait.c */
};

/* ---- presence.c: which nodes are there, and which one leads ---- */

struct presence *presence_new(struct core *core);
/* Once it returns this node is known to be there. */
int presence_start(struct presence *presence, struct error **ret_error);
void presence_stop(struct presence *presence);
void presence_free(struct presence *presence);
/* Is it this node that does what one of them does for all? */
bool presence_leads(struct presence *presence);
bool presence_sees(struct presence *presence, const char *node);

/* ---- reports.c: what each node sees of its bricks ---- */

struct reports *reports_new(struct core *core);
int reports_start(struct reports *reports, struct error **ret_error);
void reports_stop(struct reports *reports);
void reports_free(struct reports *reports);
/* The bricks (struct brick_status) of other nodes; "unknown" are those of a node that does not answer. The
 * caller's. */
void reports_bricks(struct reports *reports, const struct volume *volume, struct object_list *ret_bricks);
/* Tells the others what is seen of the volume here, if it is news; NULL: nothing is left of it. */
int reports_publish(struct reports *reports, const struct volume *volume, const struct volume_status *seen,
                    struct error **ret_error);
/*
 * Have all other nodes that are there done what the volume's record asks of them? -EAGAIN names one that has
 * not. One that is not there counts only when its brick is to be erased: -EHOSTUNREACH, unless forced.
 */
int reports_complete(struct reports *reports, const struct volume *volume, struct error **ret_error);
/* Makes the end of all reports of a volume part of its end. */
void reports_forget(struct reports *reports, const struct volume *volume, struct txn *txn);

/* ---- queue.c: which keys need work ---- */

/* Works on one key. 0: done; -EAGAIN: not its turn yet, look again soon; other errors: logged, repeated with
 * back-off. */
typedef int (*queue_work)(struct core *core, const char *key, struct error **ret_error);
int queue_new(struct core *core, queue_work work, unsigned threads, struct queue **ret_queue,
              struct error **ret_error);
void queue_stop(struct queue *queue); /* ends the workers after what they are at */
void queue_free(struct queue *queue);
void queue_add(struct queue *queue, const char *key);
/* Works on the key now, on the caller's thread, as soon as no worker is at it. */
int queue_run(struct queue *queue, const char *key, struct error **ret_error);
/* Waits until something was worked on, or the monotonic deadline passes (-ETIMEDOUT) or the queue stops
 * (-ECANCELED). */
int queue_wait(struct queue *queue, uint64_t *seen, int64_t deadline_ms);
void queue_counters(struct queue *queue, struct core_counters *ret_counters);

/* ---- ledger.c: how much of each hosting volume is promised to blocks and shares ---- */

struct promise {
    uint64_t bytes, blocks, shares;
};

/* Sums up the records where the ledger differs from them. */
int ledger_new(struct core *core, struct ledger **ret_ledger, struct error **ret_error);
void ledger_free(struct ledger *ledger);
struct ledger_change {
    const char *volume;
    struct promise more, less;
    uint64_t limit;    /* of the volume's bytes, when there are more: -ENOSPC */
    bool guarded;      /* only while the promises have this revision: -ESTALE */
    uint64_t revision; /* ledger_revision() */
};
/*
 * txn_commit() with a change of the ledger. Changes of one volume that come together share a transaction
 * where they can. -ESTALE is about the transaction's own keys, hardly ever about the ledger's.
 */
int ledger_commit(struct core *core, struct txn *txn, const struct ledger_change *change,
                  struct error **ret_error);
/* Only makes it part of a transaction, which fails with -ESTALE when somebody else is quicker. */
int ledger_add(struct core *core, struct txn *txn, const struct ledger_change *change,
               struct error **ret_error);
/* -ENOTEMPTY; otherwise the transaction happens only if no block or share is made before it. */
int ledger_check_empty(struct core *core, struct txn *txn, const char *volume, struct error **ret_error);
int ledger_read(struct core *core, const char *volume, struct promise *ret_promise, struct error **ret_error);
/* It is another one after each change of the volume's blocks and shares. */
int ledger_revision(struct core *core, const char *volume, uint64_t *ret_revision, struct error **ret_error);
/* Makes each volume's sum anew where it differs from the records. */
int ledger_mend(struct core *core, struct error **ret_error);
int ledger_examine(struct core *core, struct object_list *findings, uint64_t *checked,
                   struct error **ret_error);

/* ---- block_sets.c: blocks in volumes of several sets ---- */

struct block_set {
    uint64_t serial;          /* struct block_status */
    size_t place;             /* among the sets */
    bool leaving, filled;     /* it takes no new files; distribute would rather put them elsewhere */
    uint64_t limit, promised; /* bytes */
    uint64_t free;            /* bytes that its bricks have */
};
struct block_sets {
    const char *volume;
    struct block_set *items;
    size_t count, takers; /* sets, and those of them that take new files */
    uint64_t revision;    /* of the promises that this was seen with */
};
/* What the sets have promised, without the block `except` (NULL: with all); the volume's status is live. */
int block_sets_read(struct core *core, const struct volume *volume, const char *except,
                    struct block_sets *ret_sets, struct error **ret_error);
void block_sets_clear(struct block_sets *sets);
/* Bytes that it may promise, and also has when they are to be allocated at once. */
uint64_t block_set_room(const struct block_set *set, bool allocate);
/* -ENOSPC names the sets and their room, unless the set has room for so much, or with serial 0 any set. */
int block_sets_check(const struct block_sets *sets, uint64_t serial, uint64_t size, bool allocate,
                     struct error **ret_error);
/* The refusal itself. */
int block_sets_refuse(const struct block_sets *sets, const char *what, uint64_t size, bool allocate,
                      struct error **ret_error);
/* Gives a new block an identity, and with it a file, that lands in a set with room for it: -ENOSPC. */
int block_sets_place(struct core *core, const struct volume *volume, const struct block_sets *sets,
                     struct block *block, struct error **ret_error);
/* Where distribute has a file, by what it tells of the place: the set's serial, 0 when it is not known. */
uint64_t block_sets_parse_place(const struct volume *volume, const char *text);
uint64_t block_locate(struct core *core, const struct volume *volume, const char *file);
/* Notes in the block's status in which set its file lies; for all of a volume, after files have moved. */
uint64_t block_note_set(struct core *core, const struct volume *volume, const struct block *block);
void blocks_note_sets(struct core *core, const char *volume);
/* Has each set room for its part of so much more of a share? -ENOSPC. The revision is of the promises. */
int share_sets_check(struct core *core, const struct volume *volume, uint64_t more, uint64_t *ret_revision,
                     struct error **ret_error);

/* ---- hosting.c: connections to hosting volumes ---- */

struct hosting *hosting_new(struct core *core);
void hosting_free(struct hosting *hosting);
/* The connection, made when there is none; hand it back with hosting_put(). -ENOTCONN names the volume.
 * Blocks. */
int hosting_get(struct hosting *hosting, const char *volume, struct image_volume **ret_volume,
                struct error **ret_error);
void hosting_put(struct hosting *hosting, struct image_volume *volume);
/* Forgets the connection; when its last user has handed it back it is closed, on a thread of its own. */
void hosting_drop(struct hosting *hosting, const char *volume);
/* The connection takes the volume's volfile into use as it is now; one that cannot is dropped. Blocks. */
void hosting_refresh(struct hosting *hosting, const char *volume);

/* ---- placement.c ---- */

/*
 * Adds bricks (without ports) to volume->spec.bricks as the planner finds them. The request's lists are set;
 * its volume, spec and the full names of its devices are filled in here. *ret_plan is the caller's.
 */
struct planner_request;
int placement_plan(struct core *core, const struct planner_request *request, struct volume *volume,
                   struct volume_plan *ret_plan, struct error **ret_error);
/* The lowest free brick port of a node that is not in `taken`. */
int placement_port(struct core *core, const char *node, const struct string_list *taken, uint64_t *ret_port,
                   struct error **ret_error);

/*
 * The device for the successor of a brick: the wanted one ("NODE/DEVICE"), or the one with most room. Its
 * name is the caller's; *ret_used are its bytes in use.
 */
int placement_move(struct core *core, const struct volume *volume, size_t index, const char *wanted,
                   char **ret_device, uint64_t *ret_used, struct error **ret_error);

/* Bytes that the volume's brick at `index` holds; 0 also when that is not known now. */
uint64_t placement_held(struct core *core, const struct volume *volume, size_t index);
/* -ENOSPC unless all bricks of these volumes that are on the device fit on others, or on the wanted one. */
int placement_check_moves(struct core *core, const struct record_list *volumes, const char *device,
                          const char *wanted, struct error **ret_error);

/* ---- moves.c: bricks on their way to other devices ---- */

/* `device` is "NODE/DEVICE" throughout. */
bool brick_is_on(const struct brick_spec *brick, const char *device);
/* Has the volume a brick there, or one that comes or goes? */
bool volume_uses_device(const struct volume *volume, const char *device);
/* A move of the volume that the device takes part in, from or to; NULL: none. */
const struct brick_move *move_off_device(const struct volume *volume, const char *device);
/* Begins the move of the volume's brick on the device, to `wanted` or to the best one. -EBUSY: not now. */
int move_begin(struct core *core, const char *volume_name, const char *device, const char *wanted,
               struct error **ret_error);
/* Takes the new brick away again, unless the old one is gone already. */
int move_cancel(struct core *core, const struct volume *volume, const struct brick_move *move,
                struct error **ret_error);
/* Takes each move a step on; -EAGAIN while there is one. */
int moves_advance(struct core *core, const struct volume *volume, struct error **ret_error);

/* Why the volume's brick at `index` cannot be moved now; `lost`: move_is_lost(). */
int move_check_may_begin(const struct volume *volume, size_t index, bool lost, struct error **ret_error);
uint64_t move_number(const struct brick_move *move); /* of its brick */
/* The volume's brick that a move is about: the one to be succeeded, or its successor. */
struct brick_spec *move_peer(const struct volume *volume, const struct brick_move *move);
/* The old brick is left out, or both are in their final place. */
bool move_has_swapped(const struct brick_move *move);

/* ---- move_wait.c: what moves wait for; all checks are -EAGAIN with the reason, and cheap ---- */

/* What the volume's move waits for (NULL: nothing), until the next note. Any thread. */
void move_note(struct core *core, const char *volume, const char *text);
/* A line for people: from where to where, what it is at, what it waits for. The caller's. */
char *move_describe(struct core *core, const struct volume *volume, const struct brick_move *move);
/* It is lost to all clients, so that leaving it out at once takes nothing away. */
bool move_is_lost(struct core *core, const struct volume *volume, const struct brick_spec *brick);
int move_require_online(struct core *core, const struct volume *volume, const struct brick_spec *brick,
                        uint64_t *ret_pending, struct error **ret_error);
/* Can the others do without the old brick, if the move leaves it out at once? */
int move_check_rest(struct core *core, const struct volume *volume, const struct brick_move *move,
                    struct error **ret_error);
/* Has the new brick all that it must have, and do all of its set serve? */
int move_check_whole(struct core *core, const struct volume *volume, const struct brick_move *move,
                     struct error **ret_error);

/* ---- evacuate.c: the job that empties a device ---- */

/* Works on the job; returns whether it is to be tried again later. */
bool evacuate_run(struct core *core, const struct job *job);

/* ---- jobs.c: long work ---- */

/* A job of a kind (enum job_kind) that works on an object; pending. */
void job_init(struct job *job, int kind, enum object_kind object_kind, const struct meta *object);

/* ---- job_workers.c: who works on the jobs, several at once ---- */

struct jobs *jobs_new(struct core *core);
int jobs_start(struct jobs *jobs, struct error **ret_error);
void jobs_stop(struct jobs *jobs); /* waits for each worker's next step */
void jobs_free(struct jobs *jobs);
/* There may be something to do. */
void jobs_wake(struct jobs *jobs);
/* Progress that is newer than the store's. */
void jobs_overlay(struct jobs *jobs, struct job *job);

/* A worker's turn at a job; for what takes longer than a look. */
struct job_turn;
bool job_must_stop(const struct job_turn *turn);
/* Notes what is done, now and then in the store, whose refusal it returns. */
int job_progress(struct job_turn *turn, uint64_t done);

/* ---- allocate.c: the job that takes a block's space at once ---- */

/* A job that allocates the block's file from `done` on. */
void job_init_allocation(struct job *job, const struct block *block, uint64_t done);
/* Returns whether to try again later, as all that run jobs do. */
bool allocation_run(struct core *core, const struct job *job, struct job_turn *turn);
/* The job's block. -ECANCELED: it does not want the work, or no more; other errors:
 * the store did not answer. */
int allocation_block(struct core *core, const struct job *job, struct block *ret_block);

/* ---- heal.c ---- */

/* One look at a job that heals; returns whether to look again. */
bool heal_job_run(struct core *core, const struct job *job);

/* ---- heal_watch.c: heals as they go on, on a thread of its own ---- */

struct heal_watch *heal_watch_new(struct core *core);
int heal_watch_start(struct heal_watch *watch, struct error **ret_error);
void heal_watch_stop(struct heal_watch *watch);
void heal_watch_free(struct heal_watch *watch);
/* Looks at the volume's heals now, and not only when it is their turn. */
void heal_look_now(struct heal_watch *watch, const struct volume *volume);
/* Says in the block's status when its file is in split-brain. */
void heal_overlay_block(struct heal_watch *watch, struct block *block);
/* The volume is gone. */
void heal_forget(struct core *core, const char *volume);

/* ---- manifest.c: the store's records on each device ---- */

struct manifest *manifest_new(struct core *core);
int manifest_start(struct core *core, struct error **ret_error);
void manifest_stop(struct core *core); /* writes what is left to write */
void manifest_free(struct manifest *manifest);
/*
 * Waits until what the store holds now lies on the devices that can be written; -ETIMEDOUT. For changes that
 * nothing but the store knows of, such as a name.
 */
int manifest_flush(struct core *core, int timeout_ms);
/* Is an adoption of devices not complete, so that the store has not everything yet? */
bool adoption_is_open(struct core *core);
/* Writes every manifest as a whole, soon. */
void manifest_write_anew(struct core *core);

/* ---- One reconciler a noun: makes the node look like the record, which may be gone ---- */

int node_reconcile(struct core *core, const char *name, struct error **ret_error);
int device_reconcile(struct core *core, const char *name, struct error **ret_error);
int volume_reconcile(struct core *core, const char *name, struct error **ret_error);
int block_reconcile(struct core *core, const char *name, struct error **ret_error);
int share_reconcile(struct core *core, const char *name, struct error **ret_error);
int export_reconcile(struct core *core, const char *name, struct error **ret_error);
int job_reconcile(struct core *core, const char *name, struct error **ret_error);
/* The same on a node that does not lead. */
int block_follow(struct core *core, const char *name, struct error **ret_error);
int share_follow(struct core *core, const char *name, struct error **ret_error);
int job_follow(struct core *core, const char *name, struct error **ret_error);

/* pass.c: what starts reconciliation: the first pass, changes in the store, the engine, and time */
int pass_start(struct core *core, struct error **ret_error);
void pass_stop(struct core *core);
int reconcile_key(struct core *core, const char *key, struct error **ret_error);
/* A node came or went, or this one leads from now on. Any thread. */
void core_presence_changed(struct core *core);

/* node.c */
int node_register(struct core *core, struct error **ret_error);
/* Is this node to serve? A store that does not answer says neither: what runs goes on. */
int node_get_enabled(struct core *core, bool *ret_enabled, struct error **ret_error);
/*
 * -EOPNOTSUPP in a cluster of several nodes: `what` is work that no node can do there, because it waits for
 * clients of other nodes' bricks.
 */
int node_require_alone(struct core *core, const char *what, struct error **ret_error);
/* The node that a host name or address stands for. */
int node_find(struct core *core, const char *host, struct node *ret_node, struct error **ret_error);

/* export.c */
/* The exports of a block on every node; looked up by key, however many exports there are. */
int exports_of_block(struct core *core, const char *block_name, struct record_list *ret_exports,
                     struct error **ret_error);

/*
 * Waits until exports (keys) can be connected to, as long as the caller of the change has patience, but not
 * for ever. False: not all can be yet. Blocks.
 */
bool exports_wait_live(struct core *core, const struct string_list *keys, const struct core_change *change);

/*
 * -EBUSY with the names of clients that are connected to the block, or to any of the volume (`block` NULL),
 * and would be cut off; 0 with `force`. Clients of other nodes are not seen.
 */
int check_no_clients(struct core *core, const char *volume, const char *block, bool force,
                     struct error **ret_error);

/* The grant that an export of a block stands for; the caller's. */
void export_grant(struct core *core, const struct export *export, const struct block *block,
                  struct grant *ret_grant);

/* device.c */

/* "NODE/D" from "D" or "NODE/D". The caller's. */
char *device_full_name(const struct core *core, const char *word);

/* volume_options.c */
/* Sets and unsets options after checking each. */
int volume_change_options(struct core *core, struct volume_spec *spec, const struct string_list *changes,
                          bool advanced, struct error **ret_error);
int volume_change_profile(struct volume_spec *spec, const char *profile, struct error **ret_error);

/* ---- token.c ---- */

struct token_record;
/* The record is the caller's. */
int token_find(struct core *core, const char *id, struct token_record *ret_record, uint64_t *ret_revision,
               struct error **ret_error);
int token_save(struct core *core, const struct token_record *record, uint64_t revision,
               struct error **ret_error);
/* Forgets those that expired long ago. */
void token_sweep(struct core *core);

/* ---- certificate_record.c ---- */

#define REVOKED_PREFIX "revoked/" /* keys of the store: SERIAL */
struct pki_certificate;
/* Notes that a certificate was signed: PEM, or read already. */
int certificate_record(struct core *core, const char *certificate, struct error **ret_error);
int certificate_record_read(struct core *core, const struct pki_certificate *certificate,
                            struct error **ret_error);
/* Tells all nodes that a serial number counts no more. */
int certificate_record_revoked(struct core *core, const char *serial, struct error **ret_error);
/* Whom the certificate was signed for; NULL where none of that number is known. The caller's. */
char *certificate_name(struct core *core, const char *serial);
/* Puts on this node's list what others have revoked. */
int certificate_apply_revoked(struct core *core, struct error **ret_error);
/* Forgets certificates whose time was over long ago. */
void certificate_sweep(struct core *core);

/* volume_tls.c */
/* Renews this node's certificate, and makes it once something wants one; notes it in the node's record. */
int node_keep_certificate(struct core *core, struct error **ret_error);
/* As above, and something is about to want one. */
int node_need_certificate(struct core *core, struct error **ret_error);
/* -EBUSY unless the volume is stopped. */
int volume_change_tls(struct core *core, struct volume *volume, int tls, struct error **ret_error);
/* Who may mount a share beside those who may mount the whole volume. */
int share_check_access(const struct volume *volume, const struct string_list *access,
                       struct error **ret_error);

/* rebalance.c */
/* One look at a job that spreads the files of a volume; true: look again. */
bool rebalance_run(struct core *core, const struct job *job);
/* Do files move between the volume's sets? */
bool rebalance_is_on(struct core *core, const struct volume *volume);
/* -EBUSY while a job does so already. */
int rebalance_check_none(struct core *core, const char *volume, struct error **ret_error);
/* shrink.c */
/* One look at a job that takes a set of bricks out of a volume; true: look again. */
bool shrink_run(struct core *core, const struct job *job);

/* Makes the job a part of the transaction; *job is the caller's. */
void rebalance_begin(const struct volume *volume, struct txn *txn, struct job *job);

/* block.c */
int block_check_name(const char *name, struct error **ret_error);
/* -EBUSY while the block is being deleted, or a job works on it. */
int block_check_idle(struct core *core, const struct block *block, struct error **ret_error);
/* The block's exports on this node follow it before the caller gets its answer. */
void block_run_exports(struct core *core, const char *block_name);

/* volume.c */
/* Gives each brick that has none a port of its node's. */
int volume_allocate_ports(struct core *core, struct volume *volume, struct txn *txn,
                          struct error **ret_error);
int volume_live_status(struct core *core, struct volume *volume, struct error **ret_error);
/* Brings up what the volume's record, its shares and the nodes say; its bricks take
 * over who may mount what. */
int volume_serve(struct core *core, const struct volume *volume, struct error **ret_error);
/* -ENOTCONN unless the volume serves; its size and free bytes. */
int volume_require_online(struct core *core, struct volume *volume, struct error **ret_error);

/* The bytes that may be promised on a volume; -ENOTCONN while its size is not known. */
int volume_limit(const struct volume *volume, uint64_t *ret_limit, struct error **ret_error);

/* ---- share.c ---- */

/* Folders of the hosting volume. */
#define SHARE_FOLDER   "/shares"              /* NAME: shares in service */
#define SHARE_ARCHIVE  "/shares-archive"      /* UID: archived ones */
#define SHARE_REMOVED  "/shares-removed"      /* UID: what a job removes */
#define SHARE_MARK     "trusted.blockd.share" /* on each of these: the share as JSON, without its status */
#define SHARE_PROJECTS "projects"             /* keys of the store: who has which project id */
char *share_path(const struct share *share);
/* "projects/N". The caller's. */
char *share_project_key(uint64_t project);
struct engine_share share_for_engine(const struct share *share);

/* ---- share_reconcile.c ---- */

/* Gives all shares of a volume that serves their quota again, where it is missing. */
int shares_apply(struct core *core, const struct volume *volume, struct error **ret_error);
/*
 * Looks at each share's folder, upon which distribute makes it on sets of bricks that are new: a mount of a
 * share cannot take them over before.
 */
void shares_spread(struct core *core, const struct volume *volume);

/* ---- share_remove.c ---- */

/* Removes the job's folder, and frees its project id. */
bool share_remove_run(struct core *core, const struct job *job, struct job_turn *turn);

#endif
