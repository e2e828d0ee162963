/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/image/image.h"

#include <errno.h>
#include <string.h>

#include "handler/image/image_priv.h"

static const struct image_driver *selected = &image_driver_gfapi;

void image_driver_select(const struct image_driver *driver)
{
    selected = driver;
}

/* A path that cannot leave the volume or name its root, and that has one spelling only. */
int image_path_check(const char *file, struct error **ret_error)
{
    if (file[0] != '/' || strlen(file) >= 4096)
        return error_set(ret_error, EINVAL,
                         "image file \"%.64s\" is not an absolute path below 4096 characters", file);
    for (const char *part = file + 1;; part++) {
        size_t length = strcspn(part, "/");
        if (length == 0 || length > 255 || (length == 1 && part[0] == '.') ||
            (length == 2 && part[0] == '.' && part[1] == '.'))
            return error_set(ret_error, EINVAL,
                             "image file \"%.64s\" has an empty, \".\", \"..\" or too long part", file);
        part += length;
        if (*part == '\0')
            return 0;
    }
}

/* Files end below 2^63, and so does every range. */
static bool range_good(uint64_t offset, uint64_t length)
{
    return offset <= INT64_MAX && length <= INT64_MAX - offset;
}

static int range_check(uint64_t offset, uint64_t length)
{
    if (length == 0)
        return -EINVAL;
    return range_good(offset, length) ? 0 : -EFBIG;
}

int image_volume_open(const char *name, const char *volfile, const char *log_path,
                      struct image_volume **ret_volume, struct error **ret_error)
{
    return selected->volume_open(name, volfile, log_path, ret_volume, ret_error);
}

bool image_volume_live(struct image_volume *volume)
{
    return volume->driver->volume_live(volume);
}

void image_volume_close(struct image_volume *volume)
{
    if (volume)
        volume->driver->volume_close(volume);
}

static int sized_file_check(const char *file, uint64_t size, struct error **ret_error)
{
    int r = image_path_check(file, ret_error);
    if (r == 0 && !range_good(0, size))
        r = error_set(ret_error, EFBIG, "image file %s cannot have %llu bytes", file,
                      (unsigned long long)size);
    return r;
}

int image_create(struct image_volume *volume, const char *file, uint64_t size, struct error **ret_error)
{
    int r = sized_file_check(file, size, ret_error);
    return r < 0 ? r : volume->driver->create(volume, file, size, ret_error);
}

int image_truncate(struct image_volume *volume, const char *file, uint64_t size, struct error **ret_error)
{
    int r = sized_file_check(file, size, ret_error);
    return r < 0 ? r : volume->driver->truncate(volume, file, size, ret_error);
}

int image_allocate(struct image_volume *volume, const char *file, uint64_t offset, uint64_t length,
                   struct error **ret_error)
{
    int r = image_path_check(file, ret_error);
    if (r < 0)
        return r;
    if (!range_good(offset, length))
        return error_set(ret_error, EFBIG, "image file %s cannot reach so far", file);
    return length ? volume->driver->allocate(volume, file, offset, length, ret_error) : 0;
}

int image_remove(struct image_volume *volume, const char *file, struct error **ret_error)
{
    int r = image_path_check(file, ret_error);
    return r < 0 ? r : volume->driver->remove(volume, file, ret_error);
}

int image_stat(struct image_volume *volume, const char *file, struct image_stat *ret_stat,
               struct error **ret_error)
{
    int r = image_path_check(file, ret_error);
    return r < 0 ? r : volume->driver->stat(volume, file, ret_stat, ret_error);
}

int image_space(struct image_volume *volume, struct image_space *ret_space, struct error **ret_error)
{
    return volume->driver->space(volume, ret_space, ret_error);
}

int image_open(struct image_volume *volume, const char *file, bool read_only, struct image **ret_image,
               struct error **ret_error)
{
    int r = image_path_check(file, ret_error);
    return r < 0 ? r : volume->driver->open(volume, file, read_only, ret_image, ret_error);
}

void image_close(struct image *image)
{
    if (image)
        image->driver->close(image);
}

int image_read(struct image *image, void *buffer, size_t length, uint64_t offset, image_done done, void *data)
{
    int r = range_check(offset, length);
    return r < 0 ? r : image->driver->read(image, buffer, length, offset, done, data);
}

int image_write(struct image *image, const void *buffer, size_t length, uint64_t offset, bool fua,
                image_done done, void *data)
{
    int r = range_check(offset, length);
    return r < 0 ? r : image->driver->write(image, buffer, length, offset, fua, done, data);
}

int image_flush(struct image *image, image_done done, void *data)
{
    return image->driver->flush(image, done, data);
}

int image_discard(struct image *image, uint64_t offset, uint64_t length, image_done done, void *data)
{
    int r = range_check(offset, length);
    return r < 0 ? r : image->driver->discard(image, offset, length, done, data);
}

int image_zero(struct image *image, uint64_t offset, uint64_t length, bool allocate, image_done done,
               void *data)
{
    int r = range_check(offset, length);
    return r < 0 ? r : image->driver->zero(image, offset, length, allocate, done, data);
}

int image_extents(struct image *image, uint64_t offset, uint64_t length, struct image_extent *extents,
                  size_t max, size_t *ret_count, struct error **ret_error)
{
    int r = max == 0 ? -EINVAL : range_check(offset, length);
    if (r < 0)
        return error_set(ret_error, -r, "extents of an empty or too large range");
    return image->driver->extents(image, offset, length, extents, max, ret_count, ret_error);
}
