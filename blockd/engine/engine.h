/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The file-volume engine on this node: devices, bricks, self-heal daemon, volfiles, and the supervision of
 * processes. It knows objects (rpc/objects.h) and this machine, and nothing of the store or the API. Every
 * call is idempotent: it looks at what is there and does what is missing, so that a reconciler may repeat it
 * after a crash at any step.
 *
 * Threads: any thread may call; calls that work on one device or one volume are serialised inside. Calls
 * marked "blocks" run programs or wait for the kernel. Callbacks to the caller come on the supervisor's
 * thread.
 */
#ifndef BLOCKD_ENGINE_H
#define BLOCKD_ENGINE_H

#include "rpc/config.h"
#include "rpc/objects.h"
#include "rpc/pki.h"

struct engine;

/*
 * Names of nodes, volumes and devices become parts of file names, unit names and xattr keys of 255 bytes, two
 * of them in one: longer ones are -ENAMETOOLONG in every call.
 */
#define ENGINE_NAME_MAX 100

/* Something that the engine watches changed (a process came up or went down): the owner should refresh
 * status. */
typedef void (*engine_changed)(void *data);

struct engine_options {
    const struct config *config;   /* outlives the engine */
    const char *node;              /* this node's name */
    const char *nbd_program;       /* path of blockd-nbd; NULL: do not run it */
    const char *options_program;   /* path of blockd-options; NULL: as next */
    const char *rebalance_program; /* path of blockd-rebalance; NULL: where PATH finds it */
    const char *xlators;           /* folder of blockd's translators; NULL: where GlusterFS looks */
    const char *config_path;       /* handed on to blockd-nbd */
    engine_changed changed;
    void *changed_data;
};

int engine_new(const struct engine_options *options, struct engine **ret_engine, struct error **ret_error);
/* Ends supervision. What runs goes on running. */
void engine_free(struct engine *engine);
DEFINE_CLEANUP(struct engine *, cleanup_engine, engine_free)

/* ---- Devices ---- */

/*
 * Looks at what is at device->spec.path without changing it: -ENOENT when there is nothing, -EBUSY when it is
 * mounted or in use elsewhere, -EEXIST (naming what was found, e.g. "an ext4 file system labelled data") when
 * it holds data that blockd did not put there for this device. An image file that must be made passes when
 * its folder exists and has room.
 */
/* A name for the block device that stays the same over boots, /dev/disk/by-id/..., the caller's; NULL: it has
 * none, or is no block device. */
char *engine_device_stable_path(struct engine *engine, const char *path);
int engine_device_probe(struct engine *engine, const struct device *device, struct error **ret_error);

/*
 * Makes the device ready: image file and loop device where asked for, XFS with reflink when it is not
 * formatted for this device yet (`destroy` allows to overwrite other data), mount under
 * STATE_DIR/devices/NAME. Fills *ret_status (phase "ready"). Once formatted, the file system is known by its
 * UUID: `device->status.uuid` set and another one found is -ESTALE. One that is mounted is asked whether its
 * disk still works: if not, it is taken out (its bricks are stopped, it is unmounted), with the errno of what
 * failed, and the next call tries to bring it back. Blocks.
 */
int engine_device_up(struct engine *engine, const struct device *device, bool destroy,
                     struct device_status *ret_status, struct error **ret_error);
/* Unmounts and detaches; the data stays. -EBUSY while a brick runs on it. Blocks. */
int engine_device_down(struct engine *engine, const struct device *device, struct error **ret_error);
/* Unmounts it, wipes blockd's signature and removes an image file that blockd made. With `lost` what fails on
 * the disk counts as done. Blocks. */
int engine_device_erase(struct engine *engine, const struct device *device, bool lost,
                        struct error **ret_error);
/* Size, free space and mount state now; cheap. */
int engine_device_status(struct engine *engine, const struct device *device, struct device_status *ret_status,
                         struct error **ret_error);

/* ---- Hosting volumes ---- */

/*
 * Writes the volfiles of a volume that is to run, prepares the local brick folders (with volume id and
 * indices) and tells the supervisor to keep the local bricks running. Returns once they were asked to start,
 * not once they serve. `nodes` are all nodes of the cluster: they have the bricks' addresses, and bricks
 * admit connections from these nodes only, and of root only. A brick that cannot come up keeps no other one
 * down. -ENODEV when a device is not mounted, -ESTALE when a brick folder belongs to another volume or has
 * vanished. A running brick takes over changed options by itself: engine_volume_applied().
 */
int engine_volume_up(struct engine *engine, const struct volume *volume, const struct node *nodes,
                     size_t node_count, const struct share *shares, size_t share_count,
                     struct error **ret_error);
/*
 * Waits until the local bricks that run have in force what engine_volume_up() wrote; -EAGAIN when the time is
 * over before. Blocks.
 */
int engine_volume_applied(struct engine *engine, const struct volume *volume, int timeout_ms,
                          struct error **ret_error);
/* Do its bricks, as they are written down, know each share by its folder, because one of them has a list? */
bool engine_access_has_folders(struct engine *engine, const struct volume *volume);
/* Stops the local bricks and waits for their end. Data and volfiles stay. Blocks. */
int engine_volume_down(struct engine *engine, const struct volume *volume, struct error **ret_error);
/* engine_volume_down(), then removes volfiles, logs' entries and the local brick folders with all data.
 * -ENODEV while a device that has a brick is not mounted, unless what is `lost` may stay there. Blocks. */
int engine_volume_erase(struct engine *engine, const struct volume *volume, bool lost,
                        struct error **ret_error);
/* Stops one local brick and removes all that there is of it; what lies on a device that is not mounted stays
 * there. One of another node is left to that. Blocks. */
int engine_brick_erase(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                       struct error **ret_error);
/*
 * Live state of the local bricks (process, port, heal index, space), with what `others` (struct brick_status)
 * say of those on other nodes, and the phase that follows from it. Cheap.
 */
int engine_volume_status(struct engine *engine, const struct volume *volume, const struct object_list *others,
                         struct volume_status *ret_status, struct error **ret_error);
/*
 * Checks a list of those who may use a volume beside the nodes: IPv4 and IPv6 addresses, IPv4 networks as
 * a.b.c.d/8, /16 or /24 or as "a.*", and "*". GlusterFS's bricks compare no other networks: -EINVAL. With
 * `tls` it is made of names of certificates instead, "cert:NAME" or "cert:*", or of "*".
 */
int engine_access_check(const struct string_list *access, bool tls, struct error **ret_error);
/* Path of the client volfile, STATE_DIR/volfiles/V/client.vol. The caller's. */
char *engine_client_volfile(struct engine *engine, const char *volume);

/* ---- Bricks that move to other devices ---- */

/* Live state of one brick of this node; of another node's, "online" is taken for granted. Cheap. */
void engine_brick_status(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                         struct brick_status *ret_status);
/* Writes the volfile of the client that marks a move's new brick as behind. Path and the name of the brick's
 * translator are the caller's; of a disperse volume the name is NULL. */
int engine_marking_volfile(struct engine *engine, const struct volume *volume, const struct brick_move *move,
                           const struct node *nodes, size_t node_count, char **ret_path, char **ret_brick,
                           struct error **ret_error);
/*
 * Have all clients of the set of bricks that a move is about, or of all sets (NULL), taken over the client
 * volfile as engine_volume_up() wrote it last? 0: they have, and what they began before has had its time;
 * -EAGAIN: not yet, with a message when it names who lags behind. Cheap.
 */
int engine_clients_told(struct engine *engine, const struct volume *volume, const struct brick_move *move,
                        struct error **ret_error);
/* Does a local brick of the volume know that the new brick of a move lacks everything? -ENOENT: none does. */
int engine_move_is_marked(struct engine *engine, const struct volume *volume, uint64_t number,
                          struct error **ret_error);
/*
 * Counts the files and folders of which a disperse volume's brick lacks what the others have, or (`others`)
 * one of the other bricks of its set does: 0 says that none does now. -ENODEV, -ETIMEDOUT when a brick of the
 * set cannot be looked at. Costs a look at each file that is written or to be healed. Blocks.
 */
int engine_fragments_behind(struct engine *engine, const struct volume *volume, uint64_t number, bool others,
                            uint64_t *ret_files, struct error **ret_error);
/*
 * Puts a brick out of the way that a move, a replacement or a deletion left on a device; *ret_trash says that
 * there is something to remove now. The caller knows that no brick of the volume is there. Blocks for a
 * moment.
 */
int engine_device_bury(struct engine *engine, const struct device *device, const struct volume *volume,
                       bool *ret_trash, struct error **ret_error);
/* Removes what was buried, which takes as long as it has files. Blocks. */
int engine_device_empty_trash(struct engine *engine, const struct device *device, const struct volume *volume,
                              struct error **ret_error);

/* ---- Shares ---- */

struct engine_share {
    const char *name; /* "V/S", for messages */
    const char *path; /* its folder in the hosting volume */
    uint32_t project; /* XFS project id */
    bool limited;     /* `size` is enforced */
    uint64_t size;    /* bytes */
};

/*
 * Gives the folders of shares on the volume's local bricks their project id and limit. A folder that a brick
 * does not have yet (it heals) is passed over, as is a brick whose device is not mounted. -EOPNOTSUPP when a
 * limited one is on a device without project quota. Cheap when all is done before. Blocks. Of a volume with
 * several sets it looks how much of each share lies where, and gives room to the set that lacks it; `moving`:
 * files move between the sets.
 */
int engine_shares_apply(struct engine *engine, const struct volume *volume, const struct engine_share *shares,
                        size_t count, bool moving, struct error **ret_error);
/* Takes a project's limit away from the local bricks, before the id is another's. */
int engine_share_forget(struct engine *engine, const struct volume *volume, uint32_t project,
                        struct error **ret_error);
/* Bytes that a share's files take, seen from the local bricks; -EOPNOTSUPP when nobody here counts. Cheap. */
int engine_share_used(struct engine *engine, const struct volume *volume, uint32_t project,
                      uint64_t *ret_used, struct error **ret_error);

/*
 * May a volume have the option, "TRANSLATOR.OPTION=VALUE"? Asks the translator itself, by a program: blocks.
 * -EINVAL, -ERANGE; one that its authors do not offer to everybody needs `advanced`.
 */
int engine_option_check(struct engine *engine, const char *text, bool advanced, struct error **ret_error);
/* -EINVAL names the profiles that there are. */
int engine_profile_check(const char *name, struct error **ret_error);

/* ---- Certificates ---- */

/* Of this node; NULL and 0 while it has none. */
struct engine_certificate {
    char *fingerprint;
    int64_t expires; /* milliseconds since the epoch */
};
void engine_certificate_clear(struct engine_certificate *certificate);
/*
 * Keeps the node's certificate good: renews it before it expires, and makes authority and certificate when
 * they are `wanted` and this is the only node. `*ret_certificate` is filled on failure too, with one that
 * serves on but cannot be renewed here (-ENOKEY: another node must sign). Cheap.
 */
int engine_certificates_up(struct engine *engine, const struct node *nodes, size_t count, bool wanted,
                           struct engine_certificate *ret_certificate, struct error **ret_error);

/* Signs a request; the texts are the caller's. -ENOKEY where the authority's key is not. */
int engine_certificate_sign(struct engine *engine, const struct pki_subject *subject, const char *request,
                            char **ret_certificate, char **ret_authority, struct error **ret_error);
/* Puts a serial number on the list of those revoked, which is the caller's then. Connections that are there
 * stay. */
int engine_certificate_revoke(struct engine *engine, const char *serial, char **ret_list,
                              struct error **ret_error);

#define ENGINE_CERTIFICATE_SECONDS (90 * 86400LL) /* of a node's; it is renewed after sixty days */

/* What the cluster signs by, as PEM texts. */
struct engine_authority {
    char *certificate, *list;
    char *key; /* NULL: another node signs */
};
void engine_authority_clear(struct engine_authority *authority);
/* -ENOENT: there is none yet. */
int engine_authority(struct engine *engine, struct engine_authority *ret_authority, struct error **ret_error);
/* Signs this node's certificate anew, for the same key. */
int engine_certificate_renew(struct engine *engine, const struct node *node, struct error **ret_error);
/* This node's certificate, if it is good; released with pki_certificate_clear(). */
int engine_own_certificate(struct engine *engine, struct pki_certificate *ret_certificate,
                           struct error **ret_error);

/* ---- What runs beside the bricks ---- */

/*
 * Tells which volumes the node's self-heal daemon serves (those with more than one replica that are up); it
 * is restarted when the set or a volfile changed, and stopped when the set is empty.
 */
int engine_heal_up(struct engine *engine, const struct volume *volumes, size_t volume_count,
                   const struct node *nodes, size_t node_count, struct error **ret_error);

/*
 * Keeps the volfile server running, or stops it and waits for its end. It serves the volfiles of the volumes
 * that are up; it is restarted when where it listens changed, which its clients survive.
 */
int engine_volserver_up(struct engine *engine, const struct node *node, struct error **ret_error);
int engine_volserver_down(struct engine *engine, struct error **ret_error);

/* Keeps blockd-nbd running, or stops it and waits for its end. */
int engine_nbd_up(struct engine *engine, struct error **ret_error);
int engine_nbd_down(struct engine *engine, struct error **ret_error);

/*
 * Keeps blockd-rebalance running on a volume until it is told to end, also when its work is done: its
 * progress stays to be read. `run` names the work: with another one it begins anew.
 */
struct engine_rebalance {
    uint64_t done, total;           /* bytes */
    uint64_t moved, in_use, failed; /* files; those in use stay where they are */
    uint64_t left;                  /* of an evacuation: files that the last walk could not move */
    bool finished;
    char *error; /* the last one, NULL: none. The caller's */
};
int engine_rebalance_up(struct engine *engine, const char *volume, const char *run, struct error **ret_error);
/*
 * The same for the set that leaves the volume: takes its files to the other sets, again and again, until it
 * finds none. What keeps files there is told as `in_use` and `error`. engine_rebalance_down() ends it.
 */
int engine_evacuation_up(struct engine *engine, const struct volume *volume, const struct node *nodes,
                         size_t node_count, const char *run, struct error **ret_error);
/* Looks into the local bricks of the set that leaves, and says whether a file is there: it has data, or is no
 * link of distribute's to another set. *ret_file is the caller's, NULL: there is none. Blocks. */
int engine_leaving_look(struct engine *engine, const struct volume *volume, char **ret_file,
                        struct error **ret_error);
/* -EBUSY when a local brick of the set that leaves has files open that have no name any more: nothing can
 * move them, and who has them open in a client loses them with the set. Blocks. */
int engine_leaving_check_open(struct engine *engine, const struct volume *volume, struct error **ret_error);
int engine_rebalance_down(struct engine *engine, const char *volume, struct error **ret_error);
/* -ENOENT until there is progress of that run. */
int engine_rebalance_look(struct engine *engine, const char *volume, const char *run,
                          struct engine_rebalance *ret_progress, struct error **ret_error);

/* What the supervisor knows about one of its processes: for status and metrics. */
struct engine_process {
    char name[96];  /* "brick demo/node1/d1", "self-heal", "nbd" */
    char state[16]; /* "starting", "running", "backoff", "stopping", "stopped" */
    pid_t pid;      /* 0 when none */
    uint64_t restarts;
};
/* The caller frees *ret_processes. */
void engine_processes(struct engine *engine, struct engine_process **ret_processes, size_t *ret_count);

#endif
