/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * How a volume's bricks make sets: a set is one bundle of replicas, of fragments, or one brick alone, and
 * each file lies in one set. Bricks are in the order of their sets. Pure functions.
 */
#ifndef BLOCKD_RPC_VOLUME_LAYOUT_H
#define BLOCKD_RPC_VOLUME_LAYOUT_H

#include "rpc/objects.h"

#define DISPERSE_DATA_MAX 16 /* what cluster/disperse can compute with */
/* A volume is one transaction of the store with its ports, and etcd's limit is 128 operations. */
#define VOLUME_BRICKS_MAX 120

/* Bricks in one set; 0 when the numbers of a disperse volume make no sense. */
size_t layout_set_bricks(const struct volume_spec *spec);
/* Sets of the volume, 0 when the bricks make no whole sets. */
size_t layout_sets(const struct volume_spec *spec);
/* What names the set at a place, whatever sets went before it. */
uint64_t layout_set_number(const struct volume_spec *spec, size_t set);
/* The place of the set that leaves the volume; SIZE_MAX: none does. */
size_t layout_leaving(const struct volume_spec *spec);
/* Bricks whose space counts in one set: a file of N bytes needs N divided by this on each data brick. */
size_t layout_set_data(const struct volume_spec *spec);
/* Bricks of a set that must be up for it to serve. */
size_t layout_set_quorum(const struct volume_spec *spec);
/* The brick keeps names and marks only. */
bool layout_is_witness(const struct volume_spec *spec, size_t index);
/* There is something to heal a brick from. */
bool layout_heals(const struct volume_spec *spec);
/* -EINVAL unless `data` and `redundancy` fit the template. */
int layout_check(const struct volume_spec *spec, struct error **ret_error);
/* "replica3", "disperse 4+2". The caller's. */
char *layout_text(const struct volume_spec *spec);

#endif
