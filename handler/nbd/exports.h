/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What this server may serve and what is open of it. The truth is the grants on disk; an export is in memory
 * only while somebody uses it, and for a short while after. All connections of an export share one image, so
 * that a flush on one covers the writes of all.
 */
#ifndef BLOCKD_NBD_EXPORTS_H
#define BLOCKD_NBD_EXPORTS_H

#include "handler/image/image.h"
#include "handler/nbd/metrics.h"
#include "handler/nbd/pool.h"
#include "rpc/base/strings.h"

struct exports;
struct export;

struct exports_options {
    const char *run_dir; /* the grants lie below it */
    const char *log_dir;
    struct pool *pool;        /* for opening and closing; NULL: on the caller's thread */
    int64_t image_linger_ms;  /* an image without users stays open so long */
    int64_t volume_linger_ms; /* and a connection to a volume without images */
};

struct exports *exports_new(const struct exports_options *options);
/* Nobody may use an export any more. Closes what is open. Blocks. NULL is allowed. */
void exports_free(struct exports *exports);
DEFINE_CLEANUP(struct exports *, cleanup_exports, exports_free)

struct export_info {
    uint64_t size;       /* bytes */
    uint32_t block_size; /* 512 or 4096 */
    bool read_only;
};

/* What the grant of "V/B" says, without opening it. -ENOENT when there is none. Blocks. */
int exports_info(struct exports *exports, const char *name, struct export_info *ret_info,
                 struct error **ret_error);
/* The names "V/B" of all grants, sorted. Blocks. */
int exports_list(struct exports *exports, struct string_list *ret_names, struct error **ret_error);

/* One connection's use of an export. The first part is the caller's, the rest belongs to exports.c. */
struct export_user {
    /*
     * The grant was withdrawn or became another block: end the connection. Any thread, with a lock held: only
     * set a flag, post, or shut a socket down. May come again.
     */
    void (*cut)(struct export_user *user);
    char peer[64]; /* for GET /exports */

    struct export *export; /* NULL while none is used */
    struct export_info info;
    struct export_user *next, *previous;
};

/*
 * Opens "V/B" for `user`. `opened` runs once, on a thread of the pool: 0 and user->export and user->info are
 * set until exports_leave(), or a negative errno and a message that is valid during the call. Does not block.
 */
typedef void (*export_opened)(void *data, int result, const struct error *error);
void exports_open(struct exports *exports, const char *name, struct export_user *user, export_opened opened,
                  void *data);
/* Ends a use; none of the user's requests may be in flight. Does nothing when there is none. Any thread, does
 * not block. */
void exports_leave(struct exports *exports, struct export_user *user);

struct image *export_image(struct export *export);
struct metrics *export_metrics(struct export *export);

/* Compares what is open with the grant of one block, or of all (NULL, NULL), and cuts what does not match.
 * Blocks. */
void exports_check(struct exports *exports, const char *volume, const char *block);
/* exports_check() of all, then waits until what was cut is closed; -ETIMEDOUT. Blocks. */
int exports_sync(struct exports *exports, int64_t timeout_ms, struct error **ret_error);
/* Call it about every second: closes what lingered long enough. */
void exports_tick(struct exports *exports);

/* {"exports":[{"name","gbid","size","read_only","state","clients":[...]}]} as text. The caller's. */
char *exports_report(struct exports *exports);
/* Appends the counters of every export that was open since it was granted. */
void exports_metrics(struct exports *exports, struct strbuf *text);

#endif
