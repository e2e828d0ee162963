/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The plan of an adoption: a pure function of what lies on disks and of what the store has. A file's size on
 * the bricks counts, not the record's, and a block without a file is not made again: what was done to a block
 * after the last manifest shows in its file.
 */
#ifndef BLOCKD_CORE_ADOPT_PRIV_H
#define BLOCKD_CORE_ADOPT_PRIV_H

#include "blockd/core/manifest_priv.h"
#include "rpc/examine.h"

/* One of the disks that were named. */
struct adopt_disk {
    const char *path, *device_uid, *fs_uuid;
    bool has_manifest;
    struct manifest_view manifest;
    char *problem; /* why the manifest cannot be read */
};

/* How the plan sees what lies in the bricks; each as the function of blockd/engine/adopt.h. */
struct adopt_lookup {
    void *data;
    int (*brick)(void *data, size_t disk, const char *volume, char **ret_uid);
    int (*file)(void *data, size_t disk, const char *volume, const char *file, uint64_t *ret_size);
    int (*folder)(void *data, size_t disk, const char *volume, const char *folder,
                  struct string_list *ret_names);
};

struct adopt_input {
    const char *node; /* this one */
    uint64_t port_min, port_max;
    const struct adopt_disk *disks;
    size_t count;
    json_t *present; /* the store: key -> value */
    bool unknown;
    struct adopt_lookup lookup;
};

struct adopt_plan {
    struct object_list items;          /* of struct adopt_item */
    json_t *puts;                      /* [[key, value], ...] in their order */
    struct manifest_identity identity; /* of the state that was found; store NULL: nothing was */
    struct string_list moved;          /* volumes whose bricks get other ports */
};

void adopt_plan(const struct adopt_input *input, struct adopt_plan *ret_plan);
void adopt_plan_clear(struct adopt_plan *plan);

#endif
