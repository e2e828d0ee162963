/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What the files about healing share; one section per .c file. */
#ifndef BLOCKD_ENGINE_HEAL_PRIV_H
#define BLOCKD_ENGINE_HEAL_PRIV_H

#include <sys/stat.h>

#include "blockd/engine/engine_priv.h"
#include "blockd/engine/heal.h"

#define GFID_SIZE      16
#define GFID_TEXT_SIZE 37
#define HEAL_WIDTH_MAX 32 /* bricks in one set */

/* ---- heal_index.c: the lists of files that each brick keeps ---- */

struct gfid {
    unsigned char bytes[GFID_SIZE];
};
/* Sorted, each once. */
struct gfid_list {
    struct gfid *items;
    size_t count;
};
void gfid_list_clear(struct gfid_list *list);
void gfid_format(const struct gfid *gfid, char text[GFID_TEXT_SIZE]);
bool gfid_parse(const char *text, struct gfid *ret_gfid);
int gfid_compare(const void *a, const void *b);
bool gfid_list_has(const struct gfid_list *list, const struct gfid *gfid);
/* Both lists' items, each once. */
struct gfid_list gfid_list_union(const struct gfid_list *a, const struct gfid_list *b);

/* One folder of a brick's index as it was read last. */
struct heal_index {
    struct gfid_list files;
    struct timespec changed; /* of the folder when it was read */
    int64_t read_ms;         /* monotonic */
    bool known;
};
/* Has the folder changed since it was read? Costs one stat(2). */
bool heal_index_changed(const char *brick, const char *folder, const struct heal_index *index);
/* A folder that is not there is an empty index. */
void heal_index_read(const char *brick, const char *folder, struct heal_index *index);
/* The number of files that the brick knows another one to be behind with, read now. */
uint64_t heal_pending_now(const char *brick);
#define HEAL_INDEX_PENDING "xattrop"
#define HEAL_INDEX_DIRTY   "dirty"
/* The names in a folder that a brick knows to differ from another one's, at most `limit`. */
void heal_index_names(const char *brick, const struct gfid *folder, size_t limit, struct string_list *names);

/* ---- heal_path.c: where a file is ---- */

/* BRICK/.glusterfs/xx/yy/GFID. The caller's. */
char *heal_handle(const char *brick, const struct gfid *gfid);
/* Is it the handle of a folder, a link that is to be followed? */
bool heal_is_folder(const char *handle);
/* The path from the volume's root, "/folder/file"; NULL when the brick does not know it. The caller's. */
char *heal_path(const char *brick, const struct gfid *gfid);

/* ---- heal_judge.c: which copies are right, as replicate decides it ---- */

enum heal_type { HEAL_DATA, HEAL_METADATA, HEAL_ENTRY, HEAL_TYPES };

struct heal_copy {
    bool exists;
    bool unseen; /* the brick cannot be looked at */
    struct stat stat;
    uint32_t dirty[HEAL_TYPES];
    uint32_t blames[HEAL_WIDTH_MAX][HEAL_TYPES]; /* [I]: of the set's brick I */
    uint64_t version[2], changing[2];            /* of a fragment: data, metadata */
};
struct heal_set {
    const struct volume *volume;
    size_t number, width;
    size_t children[HEAL_WIDTH_MAX]; /* of the volume that are replicas of each other */
    char *folders[HEAL_WIDTH_MAX];   /* of the local bricks; NULL: cannot be looked at */
    bool up[HEAL_WIDTH_MAX];         /* the brick's process runs */
};
struct heal_verdict {
    int state;                       /* enum heal_state, or -1: nothing is to be done */
    unsigned kinds, split;           /* bits: 1 << enum heal_type */
    uint32_t from, to;               /* bits: bricks of the set that blame, that are blamed */
    uint32_t blames[HEAL_WIDTH_MAX]; /* [I]: bits of those that brick I blames */
    uint64_t size;
};
/* The number of sets; 0: nothing is ever healed. A set of a single brick heals while that moves. */
size_t heal_sets(const struct volume *volume);
void heal_set_open(struct engine *engine, const struct volume *volume, size_t number,
                   struct heal_set *ret_set);
void heal_set_close(struct heal_set *set);
void heal_look(const struct heal_set *set, const struct gfid *gfid, struct heal_copy *copies);
void heal_judge(const struct heal_set *set, const struct heal_copy *copies, struct heal_verdict *ret_verdict);
/* Pure: split-brain of one kind, as replicate finds no source. */
bool heal_has_no_source(const struct heal_copy *copies, size_t width, enum heal_type type);
/*
 * Names in a folder that are another file on each brick ("name" of the folder `gfid`): appended to `names`,
 * and whether they are files of other types ("type" instead of "gfid") to `kinds`.
 */
void heal_clashes(const struct heal_set *set, const struct gfid *gfid, struct string_list *names,
                  struct string_list *kinds);
/* ---- heal_fragments.c ---- */

/* Disperse: do other bricks of its set know that the brick is behind? */
bool fragments_are_marked(struct engine *engine, const struct volume *volume, uint64_t number);

/* Seconds after which a file that is marked dirty and does not change is written by nobody. */
#define HEAL_QUIET_SECONDS 5

/* ---- heal_daemon.c: orders ---- */

char *heal_socket(const struct engine *engine);

/* ---- heal_resolve.c: the end of a split-brain ---- */

/* STATE_DIR/volfiles/V/resolve.vol. The caller's. */
char *heal_volfile(const struct engine *engine, const char *volume);

/* ---- heal_view.c: what is known of each volume ---- */

struct heal_entry {
    struct gfid gfid;
    size_t set;        /* its number */
    int state;         /* enum heal_state, -1: nothing is to be done */
    bool known_behind; /* a brick's index says so, not only that it is dirty */
    bool judged;       /* the copies were looked at; else the index alone speaks */
    bool counted;      /* it was behind, and is not counted as healed yet */
    unsigned kinds;    /* of struct heal_verdict */
    uint32_t from, to;
    uint64_t size, clashes;
    int64_t judged_ms; /* monotonic */
};
struct heal_view {
    struct heal_view *next;
    char *volume, *uid;
    size_t children;
    struct heal_index *pending, *dirty; /* of each child of the volume */
    struct heal_entry *entries;         /* by gfid, then set */
    size_t count;
    size_t turn; /* where looking again goes on */
    int64_t refreshed_ms, cost_ms;
    struct heal_counts counts;
    struct heal_record heal, ended; /* what goes on, what ended and was not asked for yet */
    bool has_ended;
};
/* With the claim "heal VOLUME"; `volume` as heal_volume() gives it. The view stays the engine's. `whole`:
 * every file is looked at, now. */
struct heal_view *heal_view_refresh(struct engine *engine, const struct volume *volume, bool whole);
/* What the self-heal daemon knows of the volume: all that follows speaks of that. The caller's to clear. */
void heal_volume(const struct volume *volume, struct volume *ret_volume);
/* "NODE/DEVICE". The caller's. */
char *heal_brick_name(const struct volume *volume, size_t child);
/* The path by any brick of the set, or "gfid:UUID". The caller's. */
char *heal_file_name(const struct heal_set *set, const struct gfid *gfid);

#define HEAL_NAMED_MAX 1000 /* files in split-brain that counts name */

/* All views; under the engine's views_mutex. */
void heal_views_clear(struct engine *engine);

#endif
