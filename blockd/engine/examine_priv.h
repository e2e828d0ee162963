/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The parts of an examination. The compare_ functions are pure: what is wanted and what is seen in, findings
 * out. */
#ifndef BLOCKD_ENGINE_EXAMINE_PRIV_H
#define BLOCKD_ENGINE_EXAMINE_PRIV_H

#include "blockd/engine/engine_priv.h"
#include "blockd/engine/examine.h"

struct look {
    struct engine *engine;
    const struct examine_target *target;
    struct object_list *findings;
    uint64_t *checked;
};

static inline bool volume_runs(const struct look *look, const struct volume *volume)
{
    return look->target->enabled && volume->spec.state == VOLUME_STARTED && !volume->meta.deleting;
}

/* Does child `index` of a volume that runs run on this node? */
static inline bool child_runs(const struct look *look, const struct volume *volume, size_t index)
{
    const struct brick_move *moves = volume->spec.moves.items;
    size_t bricks = volume->spec.bricks.count;
    return brick_is_local(look->engine, volume_child(volume, index)) &&
           (index < bricks || moves[index - bricks].step != MOVE_LEFT);
}

/* ---- examine_processes.c ---- */

struct wanted_process {
    char *name;    /* "brick v/node1/d1" */
    char *program; /* path */
    char *file;    /* that it was started with: its volfile or configuration */
    pid_t pid;     /* as the supervisor knows it, 0: none */
    char *state;   /* of supervision */
    char *error;   /* why it ended last; NULL */
};
struct seen_process {
    pid_t pid;
    char *program, *file;
};
void compare_processes(const struct object_list *wanted, const struct object_list *seen,
                       struct object_list *findings);
/* The inode of the nth socket that listens on the port in the text of /proc/net/tcp or tcp6; 0: none. */
uint64_t listener_inode(const char *text, uint64_t port, size_t nth);
int examine_processes(const struct look *look, struct error **ret_error);
int repair_process(const struct finding *finding, struct error **ret_error);

/* ---- examine_mounts.c ---- */

struct seen_mount {
    bool mounted;
    bool readable;       /* its flags and its marker could be read */
    unsigned long flags; /* ST_... of statvfs(3) */
    char *uid;           /* in its marker; NULL: none */
};
void compare_mount(const struct device *device, const char *folder, const struct seen_mount *seen,
                   struct object_list *findings);
int examine_mounts(const struct look *look, struct error **ret_error);
/* Unmounts a leftover. */
int repair_mount(const struct finding *finding, struct error **ret_error);
int repair_mount_options(const char *folder, struct error **ret_error);

/* ---- examine_bricks.c ---- */

/* One block on the bricks of one set that were looked at. */
struct seen_block {
    size_t bricks;        /* of the set */
    size_t looked, found; /* bricks that were looked at, and those that have the file */
    bool healing;         /* some of them are behind others, which is no difference */
    size_t sized;         /* bricks that have its data */
    uint64_t smallest, largest;
};
void compare_block(const struct block *block, const struct seen_block *seen, struct object_list *findings);
/* As seen in each of a volume's sets: one has the file. */
void compare_sets(const struct block *block, const struct seen_block *sets, size_t count,
                  struct object_list *findings);
int examine_bricks(const struct look *look, struct error **ret_error);
int repair_brick(const struct finding *finding, struct error **ret_error);

/* ---- examine_files.c ---- */

/* `found` NULL: there is none. */
void compare_text(const char *path, const char *owner, const char *wanted, const char *found,
                  struct object_list *findings);
int examine_files(const struct look *look, struct error **ret_error);

#endif
