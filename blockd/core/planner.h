/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Where the bricks of a volume go. A pure function of what is known of the devices: nothing is read or
 * written, and the same input gives the same plan.
 *
 * The bricks of one set stand in zones of their own where zones are named, on nodes of their own where they
 * are not; a request that allows less is still spread as evenly as it can be. Among the devices that may be
 * taken the one with the most room is, where room is what the device has not promised to bricks yet.
 */
#ifndef BLOCKD_CORE_PLANNER_H
#define BLOCKD_CORE_PLANNER_H

#include "rpc/api.h"

struct planner_device {
    char *node, *device; /* its name is "NODE/DEVICE" */
    char *zone;          /* of the node; NULL: none */
    char *unusable;      /* why nothing new may go there; NULL: it may */
    uint64_t size, free; /* of its file system, bytes */
    uint64_t promised;   /* to the bricks that are there */
    char *whole;         /* a volume without a size that has a brick there; NULL: none */
};

struct planner_request {
    const char *volume;
    const struct volume_spec *spec; /* template, data, redundancy, and the bricks that are there already */
    uint64_t size;                  /* of the new sets together; 0: bricks may fill their devices */
    uint64_t brick_size;            /* not 0: each new set has bricks of this size, whatever `size` is */
    uint64_t sets;                  /* new ones; 0: as few as hold the size */
    const struct string_list *devices, *nodes, *zones; /* pick among these; NULL or empty: all */
    bool allow_same_node, allow_same_zone;
};

/*
 * -ENOSPC names every device and why it cannot be taken; -EINVAL for numbers that make no volume. On success
 * *ret_plan is the caller's, released with schema_clear(&volume_plan_schema, …).
 */
int planner_run(const struct planner_request *request, const struct planner_device *devices, size_t count,
                struct volume_plan *ret_plan, struct error **ret_error);

/* Bytes that a device can promise to one more brick. */
uint64_t planner_room(const struct planner_device *device);
/* What the witness of an arbiter set needs beside data bricks of this size. */
uint64_t planner_witness_size(uint64_t brick_size);

#endif
