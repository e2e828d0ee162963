/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What an examination of a node and the adoption of what lies on disks are asked, and what they tell.
 */
#ifndef BLOCKD_RPC_EXAMINE_H
#define BLOCKD_RPC_EXAMINE_H

#include "rpc/schema.h"

/* One difference between the store and the machine. */
struct finding {
    char *code;     /* "grant-stale": the kind of difference */
    char *object;   /* "export node1/v/b", or the path of what is there: what --confirm names */
    char *expected; /* by the store */
    char *found;    /* on the machine */
    char *action;   /* what --repair does, or what the administrator should do */
    bool repairable;
    bool destroys; /* the repair removes something that may be somebody's: done only when confirmed by name */
    bool repaired;
    char *error; /* why the repair failed */
};
extern const struct schema finding_schema;

/* Adds a finding with all texts copied; its flags are the caller's to set. */
struct finding *finding_add(struct object_list *findings, const char *code, const char *object,
                            const char *expected, const char *found, const char *action);
void findings_clear(struct object_list *findings);

struct examine_request {
    bool repair;
    struct string_list confirm; /* objects of findings whose repair destroys something */
};
extern const struct schema examine_request_schema;

struct examine_report {
    char *node;
    uint64_t checked; /* things that were looked at */
    uint64_t repaired, remaining;
    struct object_list findings; /* of struct finding */
};
extern const struct schema examine_report_schema;

struct adopt_request {
    struct string_list paths; /* of disks and image files */
    bool apply;               /* false: only tell */
    bool unknown;             /* files that no record names become blocks called by their file name */
};
extern const struct schema adopt_request_schema;

/* What becomes of one thing that lies on the disks. */
enum adopt_outcome { ADOPT_NEW, ADOPT_PRESENT, ADOPT_SKIPPED, ADOPT_REFUSED };
extern const char *const adopt_outcome_words[];

struct adopt_item {
    char *object; /* "block v/b", or the path of a disk */
    int outcome;  /* enum adopt_outcome */
    char *detail;
};
extern const struct schema adopt_item_schema;

struct adopt_report {
    bool applied;
    uint64_t adopted, present, skipped, refused;
    struct object_list items; /* of struct adopt_item */
};
extern const struct schema adopt_report_schema;

#endif
