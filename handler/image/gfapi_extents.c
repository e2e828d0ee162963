/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Where an image has data and where holes. A brick that lacks what the others have would tell of holes where
 * there is data, so that the question passes the image's gate, as a read does, and is asked again after a
 * settle.
 */
#include <pthread.h>

#include "handler/image/gfapi_priv.h"
#include "rpc/base/cleanup.h"

static bool append_extent(struct image_extent *extents, size_t max, size_t *count, uint64_t length, bool hole)
{
    if (length == 0)
        return true;
    if (*count && extents[*count - 1].hole == hole) {
        extents[*count - 1].length += length;
        return true;
    }
    if (*count == max)
        return false;
    extents[(*count)++] = (struct image_extent){.length = length, .hole = hole};
    return true;
}

/* Where the next data (or hole) begins, at most `end`. Without an answer the rest counts as data: that is
 * always true. */
static uint64_t seek(struct gfapi_image *image, uint64_t from, uint64_t end, int whence, bool *ret_failed)
{
    off_t found = glfs_lseek(image->fd, (off_t)from, whence);
    if (found < 0 && errno != ENXIO)
        *ret_failed = true;
    /* ENXIO: nothing but a hole from here on. */
    return found < 0 || (uint64_t)found > end ? end : (uint64_t)found;
}

static void list_extents(struct gfapi_image *image, uint64_t offset, uint64_t length,
                         struct image_extent *extents, size_t max, size_t *ret_count)
{
    uint64_t end = offset + length;
    size_t count = 0;
    bool failed = false;
    while (offset < end) {
        uint64_t data = seek(image, offset, end, SEEK_DATA, &failed);
        if (failed || data < offset) {
            append_extent(extents, max, &count, end - offset, false);
            break;
        }
        if (!append_extent(extents, max, &count, data - offset, true))
            break;
        if (data == end)
            break;
        uint64_t hole = seek(image, data, end, SEEK_HOLE, &failed);
        if (failed || hole <= data)
            hole = end;
        if (!append_extent(extents, max, &count, hole - data, false))
            break;
        offset = hole;
    }
    *ret_count = count;
}

/* ---- The gate, for a thread that may wait ---- */

struct asker {
    struct gate_waiter waiter; /* first, for what the gate calls */
    pthread_mutex_t mutex;
    pthread_cond_t told;
    bool may_go_on; /* under the mutex */
};

static void go_on(struct gate_waiter *waiter)
{
    struct asker *asker = (struct asker *)waiter;
    scoped_lock(&asker->mutex);
    asker->may_go_on = true;
    pthread_cond_signal(&asker->told);
}

static void go_on_settled(struct gate_waiter *waiter, int result)
{
    (void)result; /* the next answer is good whatever it was, as it is for reads */
    go_on(waiter);
}

static void wait_for_gate(struct asker *asker)
{
    scoped_lock(&asker->mutex);
    while (!asker->may_go_on)
        pthread_cond_wait(&asker->told, &asker->mutex);
    asker->may_go_on = false;
}

int gfapi_extents(struct image *base, uint64_t offset, uint64_t length, struct image_extent *extents,
                  size_t max, size_t *ret_count, struct error **ret_error)
{
    (void)ret_error;
    struct gfapi_image *image = gfapi_image(base);
    struct asker asker = {.waiter = {.resume = go_on, .answer = go_on_settled},
                          .mutex = PTHREAD_MUTEX_INITIALIZER,
                          .told = PTHREAD_COND_INITIALIZER};
    for (bool answered = false; !answered;) {
        if (!gate_enter(&image->gate, &asker.waiter))
            wait_for_gate(&asker);
        list_extents(image, offset, length, extents, max, ret_count);
        answered = gate_leave(&image->gate, &asker.waiter, true);
        if (!answered)
            wait_for_gate(&asker);
    }
    pthread_cond_destroy(&asker.told);
    pthread_mutex_destroy(&asker.mutex);
    return 0;
}
