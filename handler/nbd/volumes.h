/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Connections to hosting volumes, one for all exports of a volume. A volume is told apart by its name and its
 * volfile as it is now: after a volfile was replaced, exports that open later connect by the new one.
 */
#ifndef BLOCKD_NBD_VOLUMES_H
#define BLOCKD_NBD_VOLUMES_H

#include "handler/image/image.h"
#include "handler/nbd/pool.h"

struct volumes;
struct hosting; /* a hosting volume that is in use */

/* `pool` runs the connecting (NULL: the caller does); engine logs go to LOG_DIR/nbd-VOLUME.log. Strings are
 * copied. */
struct volumes *volumes_new(const char *log_dir, struct pool *pool, int64_t linger_ms);
/* Nothing may be in use; closes what lingers. Blocks. NULL is allowed. */
void volumes_free(struct volumes *volumes);
DEFINE_CLEANUP(struct volumes *, cleanup_volumes, volumes_free)

/*
 * Connects, or shares a connection. `ready` runs once, on a thread that may block, with a reference for
 * volumes_put(), or with an errno and a message that is valid during the call. A volume that cannot be
 * reached holds one thread, however many ask for it.
 */
typedef void (*volume_ready)(void *data, int result, struct hosting *hosting, const struct error *error);
void volumes_get(struct volumes *volumes, const char *name, const char *volfile, volume_ready ready,
                 void *data);
struct image_volume *hosting_volume(struct hosting *hosting);
/* Gives the reference back; the connection stays for a while, for the next one. */
void volumes_put(struct volumes *volumes, struct hosting *hosting);

/*
 * Do the bricks answer on the connections to a volume, if there are any? NULL, or what is wrong; the
 * caller's. Blocks for as long as the bricks take.
 */
char *volumes_problem(struct volumes *volumes, const char *name);

/* Closes connections that nobody used for linger_ms. Call it now and then; closing runs on the pool. */
void volumes_tick(struct volumes *volumes);

#endif
