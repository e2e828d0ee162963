/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The nouns of blockd as C structures and as JSON: what is wanted (spec), what is seen (status), and the
 * envelope. An object's key in the store is PLURAL/NAME, where NAME has one part or more joined by "/":
 * nodes/N, devices/N/D, volumes/V, blocks/V/B, shares/V/S, exports/N/V/B, jobs/ID.
 */
#ifndef BLOCKD_RPC_OBJECTS_H
#define BLOCKD_RPC_OBJECTS_H

#include "rpc/schema.h"

struct meta {
    char *name;        /* "V/B": the key without its plural */
    char *uid;         /* UUID; of a block its GBID, of a volume the GlusterFS volume id. Survives a rename */
    uint64_t revision; /* of the store; set on read, never stored inside the value */
    uint64_t generation; /* grows with every change of the spec */
    int64_t created;     /* milliseconds since the epoch */
    bool deleting;       /* marked for deletion: reconcilers release, then the record goes */
};

enum object_kind {
    KIND_NODE,
    KIND_DEVICE,
    KIND_VOLUME,
    KIND_BLOCK,
    KIND_SHARE,
    KIND_EXPORT,
    KIND_JOB,
    KIND_COUNT
};

/* Every object begins with its meta, so that code for all kinds can take a struct meta *. */

enum node_state { NODE_ENABLED, NODE_STOPPED };
extern const char *const node_state_words[];

struct node_spec {
    int state; /* enum node_state: stopped means that nothing is served from it and its devices are unmounted
                */
    struct string_list addresses; /* where its bricks and exports listen; the first is advertised */
    char *zone;
};

struct node_status {
    char *phase; /* "online", "stopping", "stopped", "failed" */
    char *version;
    int64_t started;
    char *certificate;           /* fingerprint (SHA-256) of the node's certificate; NULL: it has none */
    int64_t certificate_expires; /* milliseconds since the epoch */
    char *error;
};

struct node {
    struct meta meta;
    struct node_spec spec;
    struct node_status status;
};

enum device_state { DEVICE_ENABLED, DEVICE_DISABLED };
extern const char *const device_state_words[];

struct device_spec {
    char *path;                 /* absolute: a block device, or a regular file used through a loop device */
    char *given_path;           /* what it was called when it was added, where that is no stable name */
    int state;                  /* enum device_state; disabled: gets no new bricks */
    bool destroy_existing_data; /* consent to format it although it holds something else; until it is
                                   formatted */
    struct string_list graves;  /* "VOLUME UID" of volumes that were deleted while it was gone: erased when it
                                   is  back */
    bool forced;                /* removal does not insist on wiping a disk that fails */
    uint64_t image_size; /* not 0: the path is an image file that blockd makes with this size, and removes on
                            delete */
};

struct device_status {
    char *phase; /* "pending", "ready", "failed", "stopped" */
    char *uuid;  /* of the XFS file system; how the disk is known again, whatever its path */
    char *mount; /* where it is mounted */
    uint64_t size, free;
    bool quota;                /* project quota is enforced (the kernel has it) */
    char *health;              /* "ok", "failing", "unknown": what the disk says of itself (SMART) */
    char *health_reason;       /* why, unless it is ok */
    struct string_list bricks; /* names of the volumes that have a brick on it; filled in when read */
    uint64_t failures;         /* how often it was taken out, since it was added */
    uint64_t observed_generation;
    char *error;
};

struct device {
    struct meta meta;
    struct device_spec spec;
    struct device_status status;
};

enum volume_template { TEMPLATE_SINGLE, TEMPLATE_REPLICA3, TEMPLATE_ARBITER, TEMPLATE_DISPERSE };
extern const char *const volume_template_words[];
enum volume_state { VOLUME_STARTED, VOLUME_STOPPED };
extern const char *const volume_state_words[];

/* DEFAULT is of a request only: as the configuration has it. */
enum volume_tls { VOLUME_TLS_DEFAULT = -1, VOLUME_TLS_OFF, VOLUME_TLS_ON };
extern const char *const volume_tls_words[];

struct brick_spec {
    char *node, *device;
    uint64_t port;   /* of its glusterfsd; allocated once */
    uint64_t size;   /* bytes of the device that are promised to it; 0: it may fill the device */
    uint64_t serial; /* counts from 1 over all bricks that the volume ever had; 0: its place in the list, and
                        one. Its number, which names it in volfiles and in replicas' marks, is one less */
    uint64_t
        set_serial; /* the same of its set, whose number names it in volfiles and in distribute's links */
};

/* The number of a brick in the list. */
static inline uint64_t brick_number(const struct brick_spec *bricks, size_t index)
{
    return bricks[index].serial ? bricks[index].serial - 1 : index;
}

/*
 * A brick on its way to another device. A good data brick gets its successor beside it (join, heal), and goes
 * when that is whole; one that is lost, a witness, or a fragment is replaced in its place (swap_join,
 * swap_heal), and so is one that is lost meanwhile. From
 * `leave` on, and from swap_join on, `brick` is the one that goes.
 */
enum move_step {
    MOVE_PREPARE,   /* the new brick runs, and is marked as behind; no client knows it */
    MOVE_JOIN,      /* clients are being told of it */
    MOVE_HEAL,      /* the self-heal daemon fills it */
    MOVE_SWAP_JOIN, /* as join, but the old one is left out already */
    MOVE_SWAP_HEAL,
    MOVE_LEAVE, /* clients are being told to forget `brick` */
    MOVE_LEFT,  /* nobody uses `brick`: it is erased, and the move is over */
};
extern const char *const move_step_words[];

struct brick_move {
    struct brick_spec brick; /* beside those of the volume; has its serial */
    uint64_t replaces;       /* number of the volume's brick that it succeeds, or that has succeeded it */
    int step;                /* enum move_step */
    bool in_place;           /* the old one is left out before the new one is whole */
    uint64_t base;           /* bytes in use on the new brick's device when the move began */
};

/* A set of bricks on its way out of the volume. */
enum leave_step {
    LEAVE_EMPTY,  /* it gets no new files, and its files move to the other sets */
    LEAVE_FORGET, /* clients are being told to forget it */
    LEAVE_ERASE,  /* nobody uses its bricks: they are erased */
};
extern const char *const leave_step_words[];

struct volume_spec {
    int template_name;          /* enum volume_template */
    int state;                  /* enum volume_state */
    double overcommit;          /* the sum of block sizes may be this many times the volume's size */
    uint64_t data, redundancy;  /* of disperse: fragments that hold data, and those that may be lost */
    struct object_list bricks;  /* of struct brick_spec, set by set (rpc/volume_layout.h); of arbiter every
                                   third holds metadata only */
    struct string_list options; /* "TRANSLATOR.OPTION=VALUE", sorted; they come after the profile's */
    char *profile;              /* a named set of options; NULL: none */
    struct object_list moves;   /* of struct brick_move */
    uint64_t bricks_made;       /* how many it ever had; 0: those that it has */
    uint64_t sets_made;         /* the same of its sets */
    uint64_t leaving;           /* serial of the set that goes; 0: none does */
    int leaving_step;           /* enum leave_step */
    bool forced;                /* deletion leaves bricks behind on devices that are gone */
    struct string_list access;  /* who may mount it beside the nodes: engine_access_check() */
    int tls;                    /* enum volume_tls: bricks speak TLS, and know clients by certificates */
};

struct brick_status {
    char *node, *device, *path;
    uint64_t port;
    char *state; /* "online", "starting", "offline", "failed", "stopped" */
    uint64_t pid;
    uint64_t heal_pending; /* files in the brick's index of pending heals */
    uint64_t size, free;
    char *error;
};

struct set_status {
    uint64_t number;         /* from 0 */
    char *phase;             /* "online", "degraded", "offline", "failed", "stopped" */
    uint64_t bricks, online; /* how many it has, and how many of them serve */
    uint64_t quorum;         /* how many must serve */
    uint64_t size, free;
    uint64_t heal_pending; /* the largest count of its bricks */
    bool leaving;          /* its files move to the other sets; its space does not count */
};

struct volume_status {
    char *phase; /* "pending", "online", "degraded", "offline", "stopped", "failed" */
    uint64_t size, free;
    uint64_t provisioned; /* the sum of the sizes of its blocks and shares */
    uint64_t blocks;
    uint64_t shares;
    uint64_t largest;          /* bytes that one file can have: each lies in one set */
    uint64_t heal_pending;     /* files that a brick is behind with */
    uint64_t heal_dirty;       /* files that are being written, or whose writer died just now */
    uint64_t split_brain;      /* files of which no copy is known to be right */
    struct object_list sets;   /* of struct set_status */
    struct object_list bricks; /* of struct brick_status */
    uint64_t observed_generation;
    char *error;
};

struct volume {
    struct meta meta;
    struct volume_spec spec;
    struct volume_status status;
};

enum block_prealloc { PREALLOC_NO, PREALLOC_FULL };
extern const char *const block_prealloc_words[];

struct block_spec {
    uint64_t size;       /* bytes, a multiple of block_size */
    uint64_t block_size; /* 512 or 4096 */
    int prealloc;        /* enum block_prealloc */
    char *storage;       /* file in the hosting volume; /block-store/GBID, or the one that was adopted */
    bool adopted;        /* the file was there before: it is never made, and its size is its own */
    bool keep_storage;   /* on deletion the file stays */
};

struct block_status {
    char *phase;   /* "pending", "preallocating", "ready", "failed" */
    char *job;     /* name of the job that preallocates it, while there is one */
    uint64_t size; /* of the file, once it is there */
    uint64_t used; /* bytes allocated on one replica; filled in when one block is read, 0 in lists */
    char *heal;    /* "split-brain": no copy is known to be right; else NULL. Seen live, never stored */
    uint64_t set;  /* serial of the set of bricks that its file lies in; 0: one set only, or not known yet */
    uint64_t observed_generation;
    char *error;
};

struct block {
    struct meta meta;
    struct block_spec spec;
    struct block_status status;
};

#define SHARE_ACCESS_MAX 256 /* entries of one share's access list */

struct share_spec {
    uint64_t size;    /* bytes that its files may take */
    bool no_quota;    /* nothing enforces the size: it is a promise and counts against the volume only */
    uint64_t project; /* XFS project id of its files on every brick; allotted once */
    struct string_list access; /* addresses, networks and patterns that may mount it, beside the nodes */
    bool archived;             /* taken out of service: its files lie in the archive */
    char *archive_as; /* while it is deleted: the name of the archived share that it becomes; NULL: none */
};

struct share_status {
    char *phase;   /* "pending", "ready", "archived", "failed" */
    char *path;    /* folder in the hosting volume */
    uint64_t size; /* that is enforced (or promised) now */
    uint64_t used; /* bytes that its files take, where quota counts them */
    uint64_t observed_generation;
    char *error;
};

struct share {
    struct meta meta;
    struct share_spec spec;
    struct share_status status;
};

enum export_protocol { EXPORT_NBD };
extern const char *const export_protocol_words[];

struct export_spec {
    int protocol; /* enum export_protocol */
    bool read_only;
};

struct export_status {
    char *phase; /* "pending", "live", "offline", "failed" */
    char *uri;   /* NBD URI over TCP (or the unix socket where TCP is off) */
    uint64_t observed_generation;
    char *error;
};

struct export
{
    struct meta meta;
    struct export_spec spec;
    struct export_status status;
};

enum job_kind {
    JOB_PREALLOCATE,
    JOB_REBALANCE,
    JOB_REMOVE,
    JOB_EVACUATE,
    JOB_REPLACE,
    JOB_HEAL,
    JOB_HEAL_FULL,
    JOB_SHRINK
};
extern const char *const job_kind_words[];

struct job_spec {
    int kind;     /* enum job_kind */
    char *object; /* key of the object that it works on, "blocks/V/B" */
    char *object_uid;
    char *target;     /* replace: NODE/DEVICE that takes the bricks */
    char *path;       /* remove: the folder of the hosting volume that is emptied and removed */
    uint64_t project; /* remove: the project id that is free afterwards; 0: none */
};

struct job_status {
    char *phase;          /* "pending", "running", "succeeded", "failed", "canceled" */
    uint64_t done, total; /* bytes */
    int64_t started, finished;
    char *message; /* what is worth knowing of one that goes on or went well */
    char *error;
};

struct job {
    struct meta meta;
    struct job_spec spec;
    struct job_status status;
};

struct object_type {
    enum object_kind kind;
    const char *word;            /* "block" */
    const char *plural;          /* "blocks": the first part of the key and of the API path */
    unsigned parts;              /* of the name: 2 for V/B */
    const struct schema *schema; /* of the whole object; its fields are name, uid, …, spec, status */
};

extern const struct object_type object_types[KIND_COUNT];
extern const struct schema node_schema, device_schema, volume_schema, block_schema, share_schema,
    export_schema, job_schema;
extern const struct schema node_spec_schema, device_spec_schema, volume_spec_schema, block_spec_schema,
    share_spec_schema, export_spec_schema, job_spec_schema, brick_spec_schema, brick_status_schema,
    brick_move_schema;

/* "blocks/V/B" from the kind and "V/B". The caller's. */
char *object_key(enum object_kind kind, const char *name);
/* The kind whose plural begins a key, and the name inside the key; -EINVAL for anything else. */
int object_key_parse(const char *key, enum object_kind *ret_kind, const char **ret_name);
/* Part `index` of a name: object_name_part("V/B", 1) is "B". The caller's; NULL when there is none. */
char *object_name_part(const char *name, unsigned index);

/* Destructors of whole objects held by value; NULL members are fine. */
static inline void cleanup_node(struct node *object)
{
    schema_clear(&node_schema, object);
}
static inline void cleanup_device(struct device *object)
{
    schema_clear(&device_schema, object);
}
static inline void cleanup_volume(struct volume *object)
{
    schema_clear(&volume_schema, object);
}
static inline void cleanup_block(struct block *object)
{
    schema_clear(&block_schema, object);
}
static inline void cleanup_share(struct share *object)
{
    schema_clear(&share_schema, object);
}
static inline void cleanup_export(struct export *object)
{
    schema_clear(&export_schema, object);
}
static inline void cleanup_job(struct job *object)
{
    schema_clear(&job_schema, object);
}

#endif
