/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What of this machine differs from what the store says: processes, mounts, brick folders, volfiles, ports.
 * A look changes nothing. Something that is being changed in this moment may be told as a difference: who
 * asks looks again.
 */
#ifndef BLOCKD_ENGINE_EXAMINE_H
#define BLOCKD_ENGINE_EXAMINE_H

#include "blockd/engine/engine.h"
#include "rpc/examine.h"

/* What the store says; lists of whole objects. */
struct examine_target {
    bool enabled;             /* this node serves */
    const struct node *nodes; /* all */
    size_t node_count;
    const struct device *devices; /* of this node */
    size_t device_count;
    const struct volume *volumes; /* all */
    size_t volume_count;
    const struct block *blocks; /* all, by name */
    size_t block_count;
};

/* Adds to *findings, and to *checked how many things were looked at. Reads much, runs nothing, and waits for
 * nothing but the disks. */
int engine_examine(struct engine *engine, const struct examine_target *target, struct object_list *findings,
                   uint64_t *checked, struct error **ret_error);

/*
 * Does what a finding's action says, when that is the engine's to do: -EOPNOTSUPP when it is not (a
 * reconciler mends it, or nobody can).
 */
int engine_repair(struct engine *engine, const struct finding *finding, struct error **ret_error);

#endif
