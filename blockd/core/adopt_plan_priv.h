/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Inside the plan of an adoption: one section a file. */
#ifndef BLOCKD_CORE_ADOPT_PLAN_PRIV_H
#define BLOCKD_CORE_ADOPT_PLAN_PRIV_H

#include "blockd/core/adopt_priv.h"

/* The newest manifest of one store, and what of it is adopted. */
struct group {
    const struct adopt_input *input;
    struct adopt_plan *plan;
    const struct manifest_view *newest;
    struct string_list volumes; /* adopted, or known already */
    json_t *known;              /* "blocks/UID" -> key in the store */
    json_t *planned;            /* keys that are put */
};

/* ---- adopt_plan_record.c: what a record is, and whether it may be put into the store ---- */

/* Both texts are the plan's from now on. */
void adopt_add_item(struct adopt_plan *plan, enum adopt_outcome outcome, char *object, char *detail);
#define ITEM(group, outcome, word, name, ...)                                                                \
    adopt_add_item((group)->plan, outcome, xasprintf("%s %s", word, name), xasprintf(__VA_ARGS__))

/* The keys of a kind in the newest manifest, in order. */
void adopt_keys(const struct group *group, enum object_kind kind, struct string_list *keys);
const char *adopt_uid(const json_t *record);
/* What the store has under the key, or NULL. */
const json_t *adopt_present(const struct group *group, const char *key);
/* A record as it is put into the store: nothing was done for it yet. The caller's. */
json_t *adopt_fresh(const json_t *record);
/* Disks may hold anything: what is taken from them passes the same gate as what the store holds. */
int adopt_decode(enum object_kind kind, const char *key, const json_t *record, union any_object *object,
                 struct error **ret_error);
/* Is there one under that name or identity? Adds the item, unless it is new: then 0. */
int adopt_compare(const struct group *group, enum object_kind kind, const char *key, const json_t *record);
void adopt_add_put(const struct group *group, const char *key, json_t *value);
/* Takes the value when it is a sound record; the reference is given up in any case. */
bool adopt_put(const struct group *group, enum object_kind kind, const char *key, json_t *value);
/* A port or a project id: nobody's, or the owner's and not used twice. */
bool adopt_mark_is_free(const struct group *group, const char *key, const char *owner);
void adopt_put_mark(const struct group *group, const char *key, const char *owner);

/* ---- adopt_plan_volume.c: devices and volumes ---- */

void adopt_plan_devices(const struct group *group);
void adopt_plan_volume(const struct group *group, const char *key);
/* The disk of brick `index`, input->count when it was not named. */
size_t adopt_disk_of_brick(const struct group *group, const struct volume *volume, size_t index);

/* ---- adopt_plan_below.c: what belongs to a volume ---- */

void adopt_plan_below_volume(const struct group *group, enum object_kind kind, const char *name);

#endif
