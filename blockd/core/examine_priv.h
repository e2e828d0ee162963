/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The core's part of an examination. */
#ifndef BLOCKD_CORE_EXAMINE_PRIV_H
#define BLOCKD_CORE_EXAMINE_PRIV_H

#include "blockd/core/examine.h"
#include "blockd/engine/examine.h"
#include "blockd/core/manifest_priv.h"

/* What one look found in the store. */
struct survey {
    struct core *core;
    struct object_list *findings;
    uint64_t *checked;
    struct record_list nodes, devices, volumes, blocks, exports; /* devices and exports: of this node */
};

/* Keeps of `findings` those that are in `others` too. */
void examine_keep_common(struct object_list *findings, const struct object_list *others);

/* ---- examine_records.c: exports and their grants, ports, manifests ---- */

int examine_records(const struct survey *survey, struct error **ret_error);
/* Repairs what the engine does not. */
int repair_records(struct core *core, const struct finding *finding, struct error **ret_error);

/* `found` NULL: there is no grant. Pure. */
void compare_grant(const char *export_name, const struct grant *wanted, const struct grant *found,
                   struct object_list *findings);

#endif
