/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What the files of this room share; one section per .c file. */
#ifndef BLOCKD_ENGINE_PRIV_H
#define BLOCKD_ENGINE_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include "blockd/engine/engine.h"
#include "blockd/engine/supervise_priv.h"

/* ---- engine.c ---- */

/* What a test replaces; everything else of this machine is reached through the configuration's folders. */
struct engine_roots {
    const char *glusterfsd, *glusterfs, *mkfs_xfs, *systemctl, *smartctl; /* programs */
    const char *by_id;     /* folder of the names that disks have for good */
    const char *units_env; /* what the systemd units read their folders from */
};
extern const struct engine_roots engine_default_roots;

struct engine {
    const struct config *config;
    char *node;
    char *nbd_program; /* NULL: not run */
    char *rebalance_program, *options_program;
    char *xlators; /* how the type of one of blockd's translators begins in a volfile */
    unsigned event_threads;
    char *config_path;
    char *pki; /* folder of the certificates */
    struct engine_roots roots;
    struct supervisor *supervisor;

    /* Names of what is being worked on ("device d1", "volume demo"): one caller at a time for each. */
    pthread_mutex_t busy_mutex; /* innermost; guards what follows */
    pthread_cond_t busy_changed;
    struct string_list busy;

    pthread_mutex_t ports_mutex; /* innermost; guards what follows */
    char *address;               /* where the bricks of this node listen */
    struct port_check *ports;    /* brick.c */

    pthread_mutex_t views_mutex; /* innermost; guards the list, a view is its claim's */
    struct heal_view *views;     /* heal_view.c */

    atomic_uint calls_left; /* device_call.c: threads that hang with a disk */
    struct device_watch *watch;
    engine_changed changed; /* of struct engine_options */
    void *changed_data;

    pthread_mutex_t devices_mutex;  /* guards what follows */
    struct device_check *checks;    /* device_check.c, one a device for good */
    struct string_list bad_devices; /* "NAME REASON" */
    struct late_call *late_calls;   /* device_call.c */
    struct smart *smart;            /* smart.c, one a device for good */
    struct string_list lingering;   /* clients.c: "VOLUME MILLISECONDS" */
};

/* As engine_new(), with other roots. They are copied, the strings in them are not. */
int engine_new_with(const struct engine_options *options, const struct engine_roots *roots,
                    struct engine **ret_engine, struct error **ret_error);

/* Waits until nobody works on the thing, and takes it. */
struct engine_claim {
    struct engine *engine;
    char *thing;
};
struct engine_claim engine_claim(struct engine *engine, const char *kind, const char *name);
void engine_claim_release(struct engine_claim *claim);
/* The claim "device NAME"; -ETIMEDOUT when the device hangs, and with it who has the claim. */
int device_claim(struct engine *engine, const char *name, struct engine_claim *ret_claim,
                 struct error **ret_error);
#define scoped_claim(engine, kind, name)                                                                     \
    struct engine_claim scoped_claim_of_##engine cleanup(engine_claim_release) __attribute__((unused)) =     \
        engine_claim(engine, kind, name)

/* name_check() and ENGINE_NAME_MAX. */
int engine_name_check(const char *what, const char *name, struct error **ret_error);

/* A short name of what a process has read, to know whether one that runs has read the same (FNV-1a, 64 bits).
 * The caller's. */
char *text_version(const char *text);

/* ---- volfile*.c: pure functions of the objects ---- */

/* Texts are appended to what is in ret_text; on failure it holds a part. */
struct volfile_sources {
    const struct volume *volume;
    const struct node *nodes; /* every node that has a brick or may use the volume: bricks admit only these */
    size_t node_count;
    const struct share *shares; /* of the volume, each with its path in the status */
    size_t share_count;
    uint64_t ping_timeout; /* seconds */
    unsigned event_threads;
    const char *xlators; /* where blockd's translators are, as a volfile's type begins */
    bool evacuates;      /* a client that takes the files off the set that leaves */
    size_t one_set;      /* not 0: a client of this set alone, counted from 1, to speak with its replicate */
    const char *pki;     /* folder of the certificates; NULL: where GlusterFS looks without being told */
};

/* Serves child `index` of the volume out of `folder`, and keeps the list of its
 * clients in the file `roll`. */
int volfile_brick(const struct volfile_sources *sources, size_t index, const char *folder, const char *roll,
                  struct strbuf *ret_text, struct error **ret_error);
/* What block servers (libgfapi) load. */
int volfile_client(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error);
/* What takes the files off the set that leaves. */
int volfile_evacuate(const struct volfile_sources *sources, struct strbuf *ret_text,
                     struct error **ret_error);
/* What standard clients load (mount -t glusterfs, qemu): nothing of blockd's own in it. */
int volfile_mount(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error);
/* What mounts on machines with blockd load: the same, with translators of our own (xlators/gate). */
int volfile_share(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error);
/* The volfile server's own; each address has been checked. With a folder of certificates it speaks TLS. */
int volfile_volserver(const char *xlators, const char *folder, const char *socket,
                      const struct string_list *addresses, uint64_t port, const char *pki,
                      struct strbuf *ret_text, struct error **ret_error);
/* Who may connect, joined by commas: this machine, the nodes, and the volume's access list as patterns. */
int volfile_access(const struct volfile_sources *sources, struct strbuf *ret_list, struct error **ret_error);
/* An entry of an access list as a pattern for bricks and for the volfile server. The caller's. */
int volfile_access_pattern(const char *entry, char **ret_pattern, struct error **ret_error);
/* volfile_options.c: puts the volume's options into the volfile that begins at `from`. */
void volfile_set_options(const struct volume *volume, struct strbuf *text, size_t from);
/* One self-heal daemon for several volumes, each with more than one replica. */
int volfile_heal(const struct volfile_sources *sources, size_t count, const char *node_uuid,
                 struct strbuf *ret_text, struct error **ret_error);
/* One volume for the program that ends a split-brain: replicate right above the clients, healing. */
int volfile_resolve(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error);

/*
 * Refuses a path that is not absolute or holds a byte that a volfile or a unit's environment file would take
 * for something else: glusterfs runs what stands between backticks as a shell command.
 */
int volfile_path_check(const char *what, const char *path, struct error **ret_error);
/* Checks names, ports, and that the number of bricks fits the template. */
int volfile_volume_check(const struct volume *volume, struct error **ret_error);
static inline const struct brick_spec *volume_brick(const struct volume *volume, size_t index)
{
    return (const struct brick_spec *)volume->spec.bricks.items + index;
}

/* ---- moves.c ---- */

/* The bricks of a volume and those of its moves. */
size_t volume_children(const struct volume *volume);
const struct brick_spec *volume_child(const struct volume *volume, size_t index);
/* Names it in volfiles. */
uint64_t volume_child_number(const struct volume *volume, size_t index);
size_t volume_child_set(const struct volume *volume, size_t index);
/* Is it of the set that leaves the volume? */
bool volume_child_leaves(const struct volume *volume, size_t index);
bool volume_child_is_witness(const struct volume *volume, size_t index);
/* Does replicate stand above the set? Above a single brick it does while that moves. */
bool volume_set_is_replicated(const struct volume *volume, size_t set);

enum volume_audience { AUDIENCE_CLIENTS, AUDIENCE_HEAL };
/* Takes the set out that clients are to forget, if there is one. The numbers of all others stay. */
void volume_forget_leaving(struct volume *volume);
/* A copy of the volume that has only the moves and sets that the audience is to know of. The self-heal daemon
 * is told of a set that leaves until it is forgotten (heal_text()), and its state is looked at until its end.
 */
void volume_view(const struct volume *volume, enum volume_audience audience, struct volume *ret_view);
/* What the client that marks the new brick of a move as behind is to know. */
void volume_view_marking(const struct volume *volume, const struct brick_move *move, struct volume *ret_view);
/* `volume` is the self-heal daemon's view, before anything of it was left out. */
bool volume_heals(const struct volume *volume);

/* ---- device.c ---- */

/* STATE_DIR/devices/NAME, `name` without the node. The caller's. */
char *device_mount_point(const struct engine *engine, const char *name);
#define DEVICE_MARKER ".blockd-device" /* in the root of each device: the uid of the device object */
/* 0 when the device is mounted at its place and is one of ours; else -ENODEV. */
int device_check_mounted(struct engine *engine, const char *name, struct error **ret_error);

/* The space of the file system of a mounted device; `folder` lies on it. */
int device_space(struct engine *engine, const char *name, const char *folder, struct statvfs *ret_space);

/* ---- device_find.c ---- */

/* Reads from what is no device yet. -ETIMEDOUT: it does not answer; nothing else is told. */
int disk_path_answers(struct engine *engine, const char *path, struct error **ret_error);

/* ---- device_check.c ---- */

/*
 * Writes and reads at a device's folder. -ETIMEDOUT: it does not answer; -EROFS, -EIO and others: it fails.
 * The message is a part of a sentence about the device. Blocks for ten seconds at most. From then on the
 * device is watched: it is asked every few seconds, and the engine's owner is told when it begins to fail or
 * to hang, and when it answers again.
 */
int device_check(struct engine *engine, const char *name, const char *folder, struct error **ret_error);
/* Before it is unmounted; waits for a question that is under way, unless the device hangs. */
void device_unwatch(struct engine *engine, const char *name);
/* Milliseconds for which the device has not answered, once these are too many; 0: it does not hang. */
int64_t device_hangs(struct engine *engine, const char *name);
/* It is watched, and did not fail when it was asked last. */
bool device_answers(struct engine *engine, const char *name);
int device_watch_start(struct engine *engine, struct error **ret_error);
void device_watch_stop(struct engine *engine);
/* What is bad has no bricks running, and no brick is started on it. NULL: it is good. */
void device_set_bad(struct engine *engine, const char *name, const char *reason);
/* NULL when it is good; the caller's. */
char *device_bad_reason(struct engine *engine, const char *name);
void device_checks_clear(struct engine *engine);

/* ---- device_call.c ---- */

/* What works on a device. It owns copies of all it needs, for it may outlive its caller. */
struct device_call {
    struct engine *engine;
    struct string_list names; /* of the devices, without the node: it is waited for as long as they answer */
    int64_t limit_ms;         /* and no longer than that, after which the device hangs; 0: no limit */
    struct device device;
    struct volume volume;
    char *text;
    uint64_t number;
    bool flag;
    void *data;
    void (*clear)(void *data); /* or NULL */
    /* What comes of it; meaningful when device_call_run() is done. */
    struct device seen; /* its status */
    struct statvfs space;
    size_t length;
    bool left; /* it was left behind, and goes on */

    int (*work)(struct device_call *call, struct error **ret_error);
    pthread_mutex_t mutex; /* guards what follows, and `left` */
    pthread_cond_t ended;
    unsigned users;
    bool done;
    int result;
    struct error *error;
};
/* `name` may be NULL. */
struct device_call *device_call_new(struct engine *engine, const char *name);
void device_call_free(struct device_call *call);
DEFINE_CLEANUP(struct device_call *, cleanup_device_call, device_call_free)
/* The work's result; -ETIMEDOUT, too, when one of the devices hangs. Blocks. Nothing that the work needs may
 * be held by the caller. Once a call. */
int device_call_run(struct device_call *call, int (*work)(struct device_call *call, struct error **ret_error),
                    struct error **ret_error);

/* Milliseconds that the longest call with a limit has taken that was left behind on
 * the device; 0: none was. */
int64_t device_call_late_ms(struct engine *engine, const char *name);

/* The call's data goes with the call, from now on. */
void device_call_give(struct device_call *call, void (*clear)(void *data));

/* ---- disk_users.c ---- */

/* What the kernel uses a disk, one of its partitions or a file for: "is mounted at /home"; NULL: nothing
 * known. The caller's. */
char *disk_use(const struct stat *what);
/* A name below `by_id` for the block device, the caller's; NULL: there is none. */
char *disk_stable_name(const char *by_id, const char *path);
/* "/dev/sdb" of a disk or of one of its partitions; the caller's, NULL when it is gone. */
char *disk_whole(dev_t device);

/* ---- smart.c ---- */

/* The words of device_status.health and its reason (or NULL); both are the caller's. One caller a device at a
 * time. */
void smart_look(struct engine *engine, const char *name, dev_t device, char **ret_health, char **ret_reason);
/* Asks anew at the next look: the disk may be another one. */
void smart_forget(struct engine *engine, const char *name);
void smart_clear(struct engine *engine);

/* ---- disk.c: what lies on a disk ---- */

enum disk_content {
    DISK_BLANK,
    DISK_OURS,        /* XFS with the UUID that was asked for */
    DISK_INTERRUPTED, /* mkfs.xfs with that UUID did not come to its end */
    DISK_FOREIGN,
};
struct disk_view {
    enum disk_content content;
    uint64_t size;
    char *uuid; /* of the file system, if any */
    bool xfs;   /* it is one */
    char *text; /* "an ext4 file system labelled data" */
};
/* Reads the signatures of an open block device or image file; `uuid` is the one that is ours. */
int disk_look(int fd, const char *path, const char *uuid, struct disk_view *ret_view,
              struct error **ret_error);
void disk_view_clear(struct disk_view *view);
/* Removes every signature that disk_look() would find. */
int disk_wipe(int fd, const char *path, struct error **ret_error);

/* ---- loopdev.c: loop devices ---- */

/*
 * Finds the loop device that serves the file, or with `attach` sets one up (direct I/O where the file system
 * below allows it). The device detaches itself at its last close, so that a crash before the mount leaves
 * none: the caller holds *ret_fd until it is mounted. -ENOENT when there is none and `attach` is false.
 */
int loopdev_open(const char *file, bool attach, char **ret_device, int *ret_fd, struct error **ret_error);
/* Detaches the loop device of a file, if there is one; -EBUSY while it is mounted. */
int loopdev_detach(const char *file, struct error **ret_error);

/* ---- mounts.c ---- */

struct mount_view {
    dev_t device; /* of what is mounted */
    bool quota;   /* project quota is on */
};
/* What is mounted on top at a folder; -ENOENT when nothing is. */
int mounts_at(const char *folder, struct mount_view *ret_view, struct error **ret_error);
/* Is something mounted at a folder? Unlike mounts_at() it does not read the table of mounts: for what each
 * request asks. */
bool mounts_has(const char *folder);
/* Where a block device is mounted first, NULL when nowhere. The caller's. */
int mounts_of(dev_t device, char **ret_folder, struct error **ret_error);
/* Every folder below `folder` (without links) at which something is mounted; one with two mounts twice. */
int mounts_below(const char *folder, struct string_list *ret_folders, struct error **ret_error);

/* ---- brick.c ---- */

/* STATE_DIR/devices/D/bricks/V. The caller's. */
char *brick_folder(const struct engine *engine, const char *device, const char *volume);
/* STATE_DIR/bricks/V.D.vol. The caller's. */
char *brick_volfile(const struct engine *engine, const char *device, const char *volume);
/*
 * Makes the folder with volume id, brick number and index; -ESTALE when it belongs to another volume, or to
 * another brick of this one, or was there and is gone. With `fresh` the brick holds nothing yet: what an
 * earlier brick of the volume left there is removed.
 */
int brick_prepare(struct engine *engine, const char *device, const struct volume *volume, uint64_t number,
                  bool fresh, struct error **ret_error);
/* Removes the folder with all data, in steps that a crash may interrupt. */
int brick_erase(struct engine *engine, const char *device, const struct volume *volume,
                struct error **ret_error);
void brick_plan(const struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                struct process_plan *ret_plan);

/* ---- brick_folder.c ---- */

/* The volume id that a folder carries, as text; -ENOENT, -ENODATA when it carries none. The caller's. */
int brick_volume_id(const char *folder, char **ret_uid);

/* ---- brick_look.c ---- */

void brick_look(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                struct brick_status *ret_status);
void brick_ports_clear(struct engine *engine);

/* ---- manifest.c ---- */

#define MANIFEST_FOLDER ".blockd" /* in the root of each device */
#define MANIFEST_FILE   "manifest"
/* `folder` is a device's MANIFEST_FOLDER, wherever it is mounted. */
int manifest_read_below(const char *folder, char **ret_text, struct error **ret_error);

/* ---- clients.c ---- */

/* RUN_DIR/clients/V.D. The caller's. */
char *brick_roll(const struct engine *engine, const char *device, const char *volume);

/* ---- applied.c ---- */

/* Behind the name of a brick's roll: the file that tells which volfile the brick has in force. */
#define APPLIED_SUFFIX ".applied"
int engine_applied_forget(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                          struct error **ret_error);

/* ---- rebalance.c, leaving.c ---- */

/* Is a program at work that moves the volume's files between its sets? */
bool rebalance_runs(struct engine *engine, const char *volume);
/* Distribute's link to a file in another set: no mode but the sticky bit, and where it leads to. */
bool brick_is_link(const char *path, const struct stat *status);

/* ---- share_parts.c ---- */

/* What one set of bricks has of a share: bytes of files, whatever copies or fragments lie on its bricks. */
struct share_part {
    uint64_t used;
    bool leaving;   /* the set takes no new files */
    uint64_t shown; /* its part of the share's size, as statfs has it; 0: it has none yet */
    uint64_t most;  /* where writes end */
};
/*
 * Sets `shown` and `most` of each part, in whole units of at least one, and rounds `used` up; leaves parts
 * that suit as they are. `moving`: files move between the sets.
 */
void share_divide(uint64_t size, uint64_t unit, bool moving, struct share_part *parts, size_t count);

/* ---- tree.c ---- */

/* Removes a folder and all below it without following links or leaving the file system; may be repeated. */
int tree_remove(const char *path, struct error **ret_error);

/* ---- volume.c ---- */

static inline bool brick_is_local(const struct engine *engine, const struct brick_spec *brick)
{
    return string_equal(brick->node, engine->node);
}

struct volfile_sources volume_sources(const struct engine *engine, const struct volume *volume,
                                      const struct node *nodes, size_t node_count);

/* ---- certificates.c ---- */

/* Is this node's certificate good now? Cheap. */
int certificates_check(struct engine *engine, struct error **ret_error);

/* ---- volserver.c ---- */

/* Hands the volume's volfiles to the volfile server; connected clients follow a change. */
int volserver_publish(struct engine *engine, const struct volfile_sources *sources, struct error **ret_error);
/* Takes them back. Connected clients keep what they have. */
int volserver_withdraw(struct engine *engine, const char *volume, struct error **ret_error);
/* The first line of a client volfile, which tells handler/image where the volfile is had live. */
void volserver_mark(const struct engine *engine, const char *volume, struct strbuf *ret_text);

/* The texts of volfiles, as they are written. */
int volume_client_text(struct engine *engine, const struct volume *volume, const struct node *nodes,
                       size_t node_count, struct strbuf *ret_text, struct error **ret_error);
int volume_brick_text(struct engine *engine, const struct volume *volume, size_t index,
                      const struct node *nodes, size_t node_count, struct strbuf *ret_text,
                      struct error **ret_error);
/* Empty when nothing is to be healed on this node. */
int heal_text(struct engine *engine, const struct volume *volumes, size_t volume_count,
              const struct node *nodes, size_t node_count, struct strbuf *ret_text, struct error **ret_error);

/* ---- status.c ---- */

/* The phase of a volume from its local bricks; bricks of other nodes are taken for online. */
const char *volume_phase(const struct volume *volume, const struct brick_status *bricks, size_t count);

#endif
