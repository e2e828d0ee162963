/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Comparing this node with the store, and making the store again from what lies on disks. */
#ifndef BLOCKD_CORE_EXAMINE_H
#define BLOCKD_CORE_EXAMINE_H

#include "blockd/core/core.h"
#include "rpc/examine.h"

/*
 * Compares the store with what is on this node, and repairs what is asked for. What is being changed in this
 * moment is looked at again before it is told. The report is the caller's, released with schema_clear().
 */
int core_examine(struct core *core, const struct examine_request *request, struct examine_report *ret_report,
                 struct error **ret_error);

/*
 * Tells what becomes of the devices, volumes and blocks on the named disks, and does it when that is asked
 * for and nothing stands in its way (`applied`). May be repeated.
 */
int core_adopt(struct core *core, const struct adopt_request *request, struct adopt_report *ret_report,
               struct error **ret_error);

#endif
