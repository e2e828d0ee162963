/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Healing as the API shows it: files that are behind or in split-brain, what to do, and what was done. */
#ifndef BLOCKD_RPC_HEAL_H
#define BLOCKD_RPC_HEAL_H

#include "rpc/schema.h"

/* A file is in one of these; of several that apply, the last one counts. */
enum heal_state {
    HEAL_DIRTY,      /* being written, or its writer died: the bricks may differ and none is blamed */
    HEAL_PENDING,    /* a brick is known to be behind */
    HEAL_HEALING,    /* and what it has changes right now */
    HEAL_SPLIT_BRAIN /* every copy is blamed: only a person can say which one is right */
};
extern const char *const heal_state_words[];

struct heal_file {
    char *file;                /* path in the hosting volume; "gfid:UUID" when it is not known */
    char *block, *share;       /* "V/B" and "V/S" whose file it is; NULL: none */
    char *gfid;                /* UUID; NULL for a name with a different file on each brick */
    int state;                 /* enum heal_state */
    struct string_list kinds;  /* what differs: "data", "metadata", "entry", "gfid", "type" */
    struct string_list blames; /* "NODE/DEVICE blames NODE/DEVICE" */
    uint64_t size;             /* of the largest copy */
};
extern const struct schema heal_file_schema;

struct heal_report {
    char *volume;
    uint64_t pending, dirty, split_brain; /* numbers of files; those in split-brain are pending too */
    bool truncated;                       /* there are more files than are listed */
    struct object_list files;             /* of struct heal_file */
};
extern const struct schema heal_report_schema;

struct heal_list_query {
    uint64_t limit;   /* at most so many files */
    bool split_brain; /* only those */
};
extern const struct schema heal_list_query_schema;

struct heal_start {
    bool full;
};
extern const struct schema heal_start_schema;

struct heal_resolve {
    char *file; /* as in a report: path, block "V/B", or "gfid:UUID" */
    bool all;
    char *keep; /* "newest", "largest", or the brick "NODE", "DEVICE", "NODE/DEVICE" */
};
extern const struct schema heal_resolve_schema;

struct heal_resolution {
    char *file, *kept; /* kept: "NODE/DEVICE" */
    char *state;       /* "resolved", "resolving", "failed" */
    char *error;
};
struct heal_resolved {
    char *volume;
    struct object_list files; /* of struct heal_resolution */
};
extern const struct schema heal_resolved_schema;

/* A time from the first file that was behind to none. */
struct heal_record {
    int64_t started, finished;
    uint64_t files, bytes; /* bytes: the sum of the sizes of files whose data differed */
    struct string_list from, to;
};
extern const struct schema heal_record_schema;
struct heal_history {
    char *volume;
    struct object_list heals; /* of struct heal_record, the newest first */
};
extern const struct schema heal_history_schema;

#endif
