/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What the files of the gfapi driver share: image_gfapi.c (volumes, files, what is open), gfapi_io.c,
 * gfapi_zero.c, gfapi_extents.c (an open image), files_gfapi.c (folders).
 */
#ifndef BLOCKD_IMAGE_GFAPI_PRIV_H
#define BLOCKD_IMAGE_GFAPI_PRIV_H

#include <errno.h>

#include <glusterfs/api/glfs.h>

#include "handler/image/gate.h"
#include "handler/image/image_priv.h"

struct gfapi_image;

struct gfapi_volume {
    struct image_volume base;
    glfs_t *fs;
    char *name;
    bool live;                         /* its volfile comes from the volfile server */
    struct gfapi_volume *next, **link; /* among all volumes, under volumes_mutex, as is what follows */
    struct gfapi_image *first;
};

struct gfapi_image {
    struct image base;
    glfs_fd_t *fd;
    char *name; /* VOLUME FILE, for messages */
    struct gfapi_volume *volume;
    struct gfapi_image *next, **link; /* among the volume's images, under volumes_mutex */
    struct gate gate;                 /* of all changes */
};

static inline struct gfapi_volume *gfapi_volume(struct image_volume *volume)
{
    return (struct gfapi_volume *)volume;
}

static inline struct gfapi_image *gfapi_image(struct image *image)
{
    return (struct gfapi_image *)image;
}

/* libgfapi fails without errno on some paths. */
static inline int gfapi_failure(void)
{
    return errno ? errno : EIO;
}

/* "volume V: cannot WHAT FILE: ..." */
int gfapi_file_error(struct gfapi_volume *volume, const char *what, const char *file, int number,
                     struct error **ret_error);

/* ---- An open image: the slots of the same names of the driver ---- */

/* gfapi_io.c */
int gfapi_read(struct image *image, void *buffer, size_t length, uint64_t offset, image_done done,
               void *data);
int gfapi_write(struct image *image, const void *buffer, size_t length, uint64_t offset, bool fua,
                image_done done, void *data);
int gfapi_flush(struct image *image, image_done done, void *data);
int gfapi_discard(struct image *image, uint64_t offset, uint64_t length, image_done done, void *data);
/* Zeroes and allocates the range; -EOPNOTSUPP where a translator below does not know how. */
int gfapi_fill(struct image *image, uint64_t offset, uint64_t length, image_done done, void *data);

/* gfapi_zero.c */
int gfapi_zero(struct image *image, uint64_t offset, uint64_t length, bool allocate, image_done done,
               void *data);

/* gfapi_extents.c; blocks */
int gfapi_extents(struct image *image, uint64_t offset, uint64_t length, struct image_extent *extents,
                  size_t max, size_t *ret_count, struct error **ret_error);

#endif
