/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What this server may serve and what is open of it. The truth is the grants on disk; an export is in memory
 * only while somebody uses it, and for a short while after. All connections of an export share one image, so
 * that a flush on one covers the writes of all.
 */
#ifndef BLOCKD_NBD_CATALOG_H
#define BLOCKD_NBD_CATALOG_H

#include "handler/image/image.h"
#include "handler/nbd/metrics.h"
#include "handler/nbd/pool.h"
#include "rpc/base/strings.h"

struct catalog;
struct entry;

struct catalog_options {
    const char *run_dir; /* the grants lie below it */
    const char *log_dir;
    struct pool *pool;        /* for opening and closing; NULL: on the caller's thread */
    int64_t image_linger_ms;  /* an image without users stays open so long */
    int64_t volume_linger_ms; /* and a connection to a volume without images */
};

struct catalog *catalog_new(const struct catalog_options *options);
/* Nobody may use an export any more, and nobody submits work to the pool. Closes what is open. Blocks. NULL
 * is allowed. */
void catalog_free(struct catalog *catalog);
DEFINE_CLEANUP(struct catalog *, cleanup_catalog, catalog_free)

struct catalog_info {
    uint64_t size;       /* bytes */
    uint32_t block_size; /* 512 or 4096 */
    bool read_only;
};

/* What the grant of "V/B" says, without opening it. -ENOENT when there is none. Blocks. */
int catalog_info(struct catalog *catalog, const char *name, struct catalog_info *ret_info,
                 struct error **ret_error);
/* The names "V/B" of all grants, sorted. Blocks. */
int catalog_list(struct catalog *catalog, struct string_list *ret_names, struct error **ret_error);

/* One connection's use of an export. The first part is the caller's, the rest belongs to catalog.c. */
struct catalog_user {
    /*
     * The grant was withdrawn or became another block: end the connection. Any thread, with a lock held: only
     * set a flag, post, or shut a socket down. May come again.
     */
    void (*cut)(struct catalog_user *user);
    char peer[64]; /* for GET /exports */

    struct entry *entry; /* NULL while none is used */
    struct catalog_info info;
    struct catalog_user *next, *previous;
};

/*
 * Opens "V/B" for `user`. `opened` runs once, on a thread of the pool: 0 and user->entry and user->info are
 * set until catalog_leave(), or a negative errno and a message that is valid during the call. Does not block.
 */
typedef void (*catalog_opened)(void *data, int result, const struct error *error);
void catalog_open(struct catalog *catalog, const char *name, struct catalog_user *user, catalog_opened opened,
                  void *data);
/* Ends a use; none of the user's requests may be in flight. Does nothing when there is none. Any thread, does
 * not block. */
void catalog_leave(struct catalog *catalog, struct catalog_user *user);

struct image *entry_image(struct entry *entry);
struct metrics *entry_metrics(struct entry *entry);

/*
 * Compares what is open with the grant of one block, or of all (NULL, NULL), and cuts off who has what is not
 * granted any more: the export, or a size that has shrunk. A grant that cannot be read now, say for want of
 * descriptors, is an error, cuts nobody off and is looked at again. Blocks.
 */
int catalog_check(struct catalog *catalog, const char *volume, const char *block, struct error **ret_error);
/* catalog_check() of all, then waits until what was cut is closed; -ETIMEDOUT. Blocks. */
int catalog_sync(struct catalog *catalog, int64_t timeout_ms, struct error **ret_error);
/* Call it about every second: closes what lingered long enough. */
void catalog_tick(struct catalog *catalog);

/*
 * {"clients":[{"export":"V/B","peer"}]} as text, of one block, of all of a volume (block NULL), or of all. A
 * client that has just gone may still be listed: waits until there is none, or `patience_ms` are over. The
 * caller's.
 */
char *catalog_clients(struct catalog *catalog, const char *volume, const char *block, int64_t patience_ms);
/* volumes_problem() of one of its volumes. */
char *catalog_problem(struct catalog *catalog, const char *volume);
/* {"exports":[{"name","gbid","size","read_only","state","clients":[...]}]} as text. The caller's. */
char *catalog_report(struct catalog *catalog);
/* Appends the counters of every export that was open since it was granted. */
void catalog_metrics(struct catalog *catalog, struct strbuf *text);

#endif
