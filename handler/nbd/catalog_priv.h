/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The inside of the catalog, for the files that make it: catalog.c (what is open, and its end),
 * catalog_open.c (how it gets so), catalog_names.c (grants), catalog_report.c (what is seen from outside).
 */
#ifndef BLOCKD_NBD_CATALOG_PRIV_H
#define BLOCKD_NBD_CATALOG_PRIV_H

#include <pthread.h>

#include "handler/nbd/catalog.h"
#include "handler/nbd/counters.h"
#include "handler/nbd/volumes.h"
#include "rpc/grant.h"

enum entry_state { ENTRY_OPENING, ENTRY_OPEN, ENTRY_CLOSING };

struct opening; /* a connection whose open is under way */

struct entry {
    struct entry *next;
    struct catalog *catalog;
    char *volume, *block;
    enum entry_state state;
    bool revoked;       /* to be closed as soon as nobody uses it; not found by name any more */
    bool recheck;       /* the grant changed while it was opening: the opener reads it again */
    struct grant grant; /* the opener's until ENTRY_OPEN */
    struct hosting *hosting;
    struct image *image;
    struct counters *counters;
    struct catalog_user *users;
    struct opening *waiters;
    int64_t idle_since;
};

struct catalog {
    char *run_dir;
    struct pool *pool;
    int64_t image_linger_ms;
    struct volumes *volumes;
    pthread_mutex_t mutex; /* guards what follows and every export in the list; taken before volumes' */
    pthread_cond_t closed; /* an export left the list, or finished its recheck, or a client left */
    bool doubtful;         /* a grant could not be read: the next tick compares all again */
    struct entry *first;
    struct counters_table counters;
};

/* ---- catalog_names.c ---- */

/* "V/B" into its parts, the caller's; -ENOENT for what can be no name. */
int name_split(const char *name, char **ret_volume, char **ret_block, struct error **ret_error);

/* ---- catalog.c ---- */

void entry_free(struct entry *entry);
/* With the mutex held. */
void unlink_entry(struct entry *entry);
/* With the mutex held. The export that new clients of the block use; NULL: there is none. */
struct entry *find_live(struct catalog *catalog, const char *volume, const char *block);
/* Two grants for the same open image: they differ in size at most. */
bool same_image(const struct grant *a, const struct grant *b);

#endif
