/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * For implementers of an image driver. A driver embeds the two structures below as the first member of its
 * own and fills the table; image.c checks arguments and dispatches. Every slot is required.
 */
#ifndef BLOCKD_IMAGE_PRIV_H
#define BLOCKD_IMAGE_PRIV_H

#include "handler/image/files.h"
#include "handler/image/image.h"

struct image_files;

struct image_driver {
    const char *name;                /* for messages */
    const struct image_files *files; /* folders of a volume; NULL: the driver has none */

    /*
     * Synchronous, on any thread that may block, several at a time also on one volume. What they return and
     * when they fail is said at the function of the same name in image.h; `file` is an absolute path without
     * "." and ".." parts.
     */
    int (*volume_open)(const char *name, const char *volfile, const char *log_path,
                       struct image_volume **ret_volume, struct error **ret_error);
    bool (*volume_live)(struct image_volume *volume);
    void (*volume_close)(struct image_volume *volume); /* never NULL; no image of it is open */
    int (*create)(struct image_volume *volume, const char *file, uint64_t size, struct error **ret_error);
    int (*truncate)(struct image_volume *volume, const char *file, uint64_t size, struct error **ret_error);
    int (*allocate)(struct image_volume *volume, const char *file, uint64_t offset, uint64_t length,
                    struct error **ret_error); /* length is not 0 */
    int (*remove)(struct image_volume *volume, const char *file, struct error **ret_error);
    int (*stat)(struct image_volume *volume, const char *file, struct image_stat *ret_stat,
                struct error **ret_error);
    int (*space)(struct image_volume *volume, struct image_space *ret_space, struct error **ret_error);
    int (*open)(struct image_volume *volume, const char *file, bool read_only, struct image **ret_image,
                struct error **ret_error);
    void (*close)(struct image *image); /* never NULL; nothing is in flight */
    int (*extents)(struct image *image, uint64_t offset, uint64_t length, struct image_extent *extents,
                   size_t max, size_t *ret_count, struct error **ret_error); /* length and max are not 0 */

    /*
     * Asynchronous, on any thread, many at a time on one image; must not block. 0: `done` runs exactly once,
     * on a thread of the driver or inside the call. Negative errno: refused, `done` does not run. Lengths are
     * not 0.
     */
    int (*read)(struct image *image, void *buffer, size_t length, uint64_t offset, image_done done,
                void *data);
    int (*write)(struct image *image, const void *buffer, size_t length, uint64_t offset, bool fua,
                 image_done done, void *data);
    int (*flush)(struct image *image, image_done done, void *data);
    int (*discard)(struct image *image, uint64_t offset, uint64_t length, image_done done, void *data);
    int (*zero)(struct image *image, uint64_t offset, uint64_t length, bool allocate, image_done done,
                void *data);
};

struct image_volume {
    const struct image_driver *driver; /* set by the driver, as is image's */
};

struct image {
    const struct image_driver *driver;
};

extern const struct image_driver image_driver_gfapi;
extern const struct image_files image_files_gfapi;

/* What files.h says, for one driver; every slot is required. Threads and errors as there. */
struct image_files {
    int (*make_folder)(struct image_volume *volume, const char *path, unsigned mode,
                       struct error **ret_error);
    int (*rename)(struct image_volume *volume, const char *from, const char *to, struct error **ret_error);
    int (*is_empty)(struct image_volume *volume, const char *path, bool *ret_empty, struct error **ret_error);
    int (*get_mark)(struct image_volume *volume, const char *path, const char *name, char **ret_value,
                    struct error **ret_error);
    int (*set_mark)(struct image_volume *volume, const char *path, const char *name, const char *value,
                    struct error **ret_error);
    int (*remove_tree)(struct image_volume *volume, const char *path, files_progress progress, void *data,
                       struct error **ret_error);
};

/* A path that cannot leave the volume or name its root, and that has one spelling only. */
int image_path_check(const char *file, struct error **ret_error);

/* Volumes that are opened from now on use this driver: for tests. Without a call it is gfapi. */
void image_driver_select(const struct image_driver *driver);

#endif
