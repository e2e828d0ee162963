/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Zeroes by the cheapest way that all bricks know: a hole, where that is wanted; else zeroes that the bricks
 * make; else, on a disperse volume, zeroes that are written. Each begins where the one before it was not
 * supported.
 */
#include <stdlib.h>

#include "handler/image/gfapi_priv.h"
#include "rpc/base/cleanup.h"

#define WRITTEN_AT_ONCE ((size_t)1 << 20)

struct zeroing {
    struct image *image;
    uint64_t offset, length; /* of what is left */
    image_done done;
    void *data;
};

static char zeroes[WRITTEN_AT_ONCE]; /* not const, which would make the programs larger */

static void write_done(void *data, int result);

static int write_some(struct zeroing *zeroing)
{
    size_t some = zeroing->length < WRITTEN_AT_ONCE ? (size_t)zeroing->length : WRITTEN_AT_ONCE;
    uint64_t offset = zeroing->offset;
    zeroing->offset += some;
    zeroing->length -= some;
    return gfapi_write(zeroing->image, zeroes, some, offset, false, write_done, zeroing);
}

static void end(struct zeroing *zeroing, int result)
{
    image_done done = zeroing->done;
    void *data = zeroing->data;
    free(zeroing);
    done(data, result);
}

static void write_done(void *data, int result)
{
    struct zeroing *zeroing = data;
    if (result == 0 && zeroing->length) {
        result = write_some(zeroing);
        if (result == 0)
            return;
    }
    end(zeroing, result);
}

static void fill_done(void *data, int result)
{
    struct zeroing *zeroing = data;
    if (result == -EOPNOTSUPP) {
        result = write_some(zeroing);
        if (result == 0)
            return;
    }
    end(zeroing, result);
}

static void hole_done(void *data, int result)
{
    struct zeroing *zeroing = data;
    if (result == -EOPNOTSUPP) {
        result = gfapi_fill(zeroing->image, zeroing->offset, zeroing->length, fill_done, zeroing);
        if (result == 0)
            return;
    }
    end(zeroing, result);
}

int gfapi_zero(struct image *image, uint64_t offset, uint64_t length, bool allocate, image_done done,
               void *data)
{
    autofree struct zeroing *zeroing = malloc(sizeof *zeroing);
    if (!zeroing)
        return -ENOMEM;
    *zeroing = (struct zeroing){image, offset, length, done, data};
    int r = allocate ? gfapi_fill(image, offset, length, fill_done, zeroing)
                     : gfapi_discard(image, offset, length, hole_done, zeroing);
    if (r == 0)
        (void)steal_ptr(&zeroing); /* whoever ends it has it */
    return r;
}
