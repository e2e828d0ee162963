/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A block volume's bytes, wherever they lie. Servers (NBD, tcmu) and blockd know only this header; the driver
 * behind it is gfapi (image_gfapi.c), the only code that knows libgfapi's I/O calls. One glfs_t per hosting
 * volume and process, shared by all its images.
 *
 * Threads: the synchronous calls may block for as long as the hosting volume's ping-timeout; never make them
 * on an event loop. The I/O calls return at once; `done` runs exactly once per accepted request, on a thread
 * of the driver, possibly before the call returns. It must not block and must not call the synchronous calls.
 */
#ifndef BLOCKD_IMAGE_H
#define BLOCKD_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "rpc/base/error.h"

struct image_volume; /* a connection to a hosting volume */
struct image;        /* an open file in it */

/* ---- A hosting volume ---- */

/*
 * Connects to the hosting volume that a client volfile describes. Blocks until its bricks answer or their
 * ping-timeout passes; -ENOTCONN when a quorum of them did not. `log_path` receives the engine's log.
 */
int image_volume_open(const char *name, const char *volfile, const char *log_path,
                      struct image_volume **ret_volume, struct error **ret_error);
/* Whether it follows changes of its volfile by itself; otherwise it keeps the one that it was opened with. */
bool image_volume_live(struct image_volume *volume);
/* All images must be closed. The engine's threads end a while later. NULL is allowed. */
void image_volume_close(struct image_volume *volume);
DEFINE_CLEANUP(struct image_volume *, cleanup_image_volume, image_volume_close)

/*
 * Notes on the other bricks of a set that `brick` (the name of its translator right below replicate) is new
 * and lacks everything. The volfile is the caller's own, with the new brick in it. Blocks. A name that
 * replicate does not know is no error. NULL: the set is one of disperse, which sees by itself who is new.
 */
int image_mark_behind(const char *name, const char *volfile, const char *log_path, const char *brick,
                      struct error **ret_error);

struct image_stat {
    uint64_t size; /* bytes */
    uint64_t used; /* bytes allocated on one replica */
};

struct image_space {
    uint64_t size, free; /* bytes, of one replica */
};

/* Creates an empty file of `size` bytes (sparse), with its folders; one that is there with that size is
 * success. */
int image_create(struct image_volume *volume, const char *file, uint64_t size, struct error **ret_error);
/* Sets the size; growth is sparse. */
int image_truncate(struct image_volume *volume, const char *file, uint64_t size, struct error **ret_error);
/* Allocates the range on the bricks without changing its data; -ENOSPC when they are full. */
int image_allocate(struct image_volume *volume, const char *file, uint64_t offset, uint64_t length,
                   struct error **ret_error);
/* A file that is not there is success. */
int image_remove(struct image_volume *volume, const char *file, struct error **ret_error);
int image_stat(struct image_volume *volume, const char *file, struct image_stat *ret_stat,
               struct error **ret_error);
int image_space(struct image_volume *volume, struct image_space *ret_space, struct error **ret_error);

/* ---- An open image ---- */

/* Opens for I/O. Blocks. */
int image_open(struct image_volume *volume, const char *file, bool read_only, struct image **ret_image,
               struct error **ret_error);
/* No request may be in flight. NULL is allowed. */
void image_close(struct image *image);

/* `result` is 0, or a negative errno. */
typedef void (*image_done)(void *data, int result);

/*
 * Asynchronous I/O. Each returns 0 when `done` will run, or a negative errno when the request was not
 * accepted and `done` will not. The buffer stays the caller's and is untouched by the caller until `done`. A
 * short read beyond the end of the file is filled with zeroes; a short write is an error.
 */
int image_read(struct image *image, void *buffer, size_t length, uint64_t offset, image_done done,
               void *data);
/* `fua`: on stable storage on a write quorum of replicas before `done`. */
int image_write(struct image *image, const void *buffer, size_t length, uint64_t offset, bool fua,
                image_done done, void *data);
/* Everything acknowledged before is on stable storage on a write quorum of replicas. */
int image_flush(struct image *image, image_done done, void *data);
/* The range reads as zeroes afterwards and its space is returned. */
int image_discard(struct image *image, uint64_t offset, uint64_t length, image_done done, void *data);
/* The range reads as zeroes afterwards; `allocate` keeps (or makes) its space allocated. */
int image_zero(struct image *image, uint64_t offset, uint64_t length, bool allocate, image_done done,
               void *data);

struct image_extent {
    uint64_t length;
    bool hole; /* reads as zeroes, no space behind it */
};

/*
 * The extents of a range, in order, at most `max`; their sum is at least one byte and at most `length`.
 * Blocks: call it on a thread that may.
 */
int image_extents(struct image *image, uint64_t offset, uint64_t length, struct image_extent *extents,
                  size_t max, size_t *ret_count, struct error **ret_error);

#endif
