/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What the files of the gfapi driver share. */
#ifndef BLOCKD_IMAGE_GFAPI_PRIV_H
#define BLOCKD_IMAGE_GFAPI_PRIV_H

#include <errno.h>

#include <glusterfs/api/glfs.h>

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

static inline struct gfapi_volume *gfapi_volume(struct image_volume *volume)
{
    return (struct gfapi_volume *)volume;
}

/* libgfapi fails without errno on some paths. */
static inline int gfapi_failure(void)
{
    return errno ? errno : EIO;
}

/* "volume V: cannot WHAT FILE: ..." */
int gfapi_file_error(struct gfapi_volume *volume, const char *what, const char *file, int number,
                     struct error **ret_error);

#endif
