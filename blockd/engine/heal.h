/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What waits for a heal on this node's bricks, the self-heal daemon's orders, and the choice of a copy in a
 * split-brain. Read off the bricks' disks: an entry in a brick's index for each file, and on each copy the
 * xattrs by which it blames others. Bricks of other nodes are not looked at.
 *
 * Any thread may call. A count costs one stat(2) a brick while nothing changes; when an index has changed it
 * is read again at most for a twentieth of the time, however long it is.
 */
#ifndef BLOCKD_ENGINE_HEAL_H
#define BLOCKD_ENGINE_HEAL_H

#include "blockd/engine/engine.h"
#include "rpc/heal.h"

struct heal_counts {
    uint64_t
        pending;    /* files that a brick is known to be behind with, or that nobody writes and may differ */
    uint64_t dirty; /* files that are being written, or whose writer died within the last seconds */
    uint64_t split_brain;              /* of those pending */
    struct string_list in_split_brain; /* the first few of those: paths */
};
void heal_counts_clear(struct heal_counts *counts);
/* The files of the volume, each once however many bricks name it. *ret_counts is the caller's to clear. */
int engine_heal_counts(struct engine *engine, const struct volume *volume, struct heal_counts *ret_counts,
                       struct error **ret_error);

/* A heal of the volume that ended since the last call; false when none did. The caller's to clear, by
 * heal_record_schema. */
bool engine_heal_ended(struct engine *engine, const struct volume *volume, struct heal_record *ret_record);

/* Looks at every file now. `block` and `share` are left NULL. At most `limit` files, those in split-brain
 * first.
 */
int engine_heal_report(struct engine *engine, const struct volume *volume, uint64_t limit,
                       bool split_brain_only, struct heal_report *ret_report, struct error **ret_error);

/* Forgets what is known of a volume that is no more. */
void engine_heal_forget(struct engine *engine, const char *volume);

/*
 * Tells the self-heal daemon to go through the index, or through every file. -ENOTCONN while it does not
 * answer; -EAGAIN when not all bricks are up.
 */
int engine_heal_start(struct engine *engine, const struct volume *volume, bool full,
                      struct error **ret_error);

struct heal_crawl {
    bool running;  /* one that began at or after the asked time goes on */
    bool finished; /* and has come to its end on every brick */
    uint64_t healed, failed, split_brain;
};
/* How far such a crawl is that began at `since` (milliseconds since the epoch) or later. -EOPNOTSUPP: the
 * template's translator does not say. */
int engine_heal_crawl(struct engine *engine, const struct volume *volume, bool full, int64_t since,
                      struct heal_crawl *ret_crawl, struct error **ret_error);

/*
 * Makes one copy of a file in split-brain the right one and heals the others from it. `file` is as a report
 * names it, `keep` as in struct heal_resolve. Waits at most `wait_ms`: a large file is healed on, and
 * ret_resolution->state is "resolving". -EEXIST: the file is in no split-brain. -EINVAL: `keep` names no copy
 * of it, or the copies do not differ in that. -ENOTCONN: not all bricks are up. Blocks.
 */
int engine_heal_resolve(struct engine *engine, const struct volume *volume, const struct node *nodes,
                        size_t node_count, const char *file, const char *keep, int wait_ms,
                        struct heal_resolution *ret_resolution, struct error **ret_error);

#endif
