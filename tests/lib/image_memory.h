/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * An image driver on memory, for tests of what stands on handler/image/: one disk, whatever the volume and
 * the file. Requests end inside the call, or later and elsewhere, as `mode` says.
 */
#ifndef BLOCKD_TESTS_IMAGE_MEMORY_H
#define BLOCKD_TESTS_IMAGE_MEMORY_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "handler/image/image_priv.h"
#include "rpc/base/alloc.h"

#define MEMORY_DISK_SIZE ((size_t)4 << 20)

enum memory_mode { MEMORY_INLINE, MEMORY_HELD, MEMORY_THREAD };

struct memory_request {
    struct memory_request *next;
    image_done done;
    void *data;
    int result;
};

static struct {
    enum memory_mode mode;
    atomic_int volume_error, open_error, io_error; /* negative errno: what fails from now on */
    atomic_int volumes, images;                    /* that are open */
    atomic_uint flushes, fua_writes, discards, zeroes, refused;
    bool refuse; /* do not even accept requests */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct memory_request *first, **last;
    bool ending;
    pthread_t thread;
    uint8_t disk[MEMORY_DISK_SIZE], allocated[MEMORY_DISK_SIZE / 4096];
} memory = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .last = &memory.first};

static const struct image_driver image_driver_memory;

static struct memory_request *memory_take(bool wait)
{
    scoped_lock(&memory.mutex);
    while (wait && !memory.first && !memory.ending)
        pthread_cond_wait(&memory.changed, &memory.mutex);
    struct memory_request *request = memory.first;
    if (request) {
        memory.first = request->next;
        if (!memory.first)
            memory.last = &memory.first;
    }
    return request;
}

/* Ends the oldest held request; false when there is none. */
static inline bool memory_end_one(bool wait)
{
    struct memory_request *request = memory_take(wait);
    if (!request)
        return false;
    request->done(request->data, request->result);
    free(request);
    return true;
}

static inline void memory_end_all(void)
{
    while (memory_end_one(false))
        ;
}

static void *memory_thread(void *data)
{
    (void)data;
    while (memory_end_one(true))
        ;
    return NULL;
}

static inline void memory_start(enum memory_mode mode)
{
    memory.mode = mode;
    memory.ending = false;
    image_driver_select(&image_driver_memory);
    if (mode == MEMORY_THREAD)
        pthread_create(&memory.thread, NULL, memory_thread, NULL);
}

static inline void memory_stop(void)
{
    if (memory.mode != MEMORY_THREAD)
        return;
    pthread_mutex_lock(&memory.mutex);
    memory.ending = true;
    pthread_cond_broadcast(&memory.changed);
    pthread_mutex_unlock(&memory.mutex);
    pthread_join(memory.thread, NULL);
}

static int memory_end(image_done done, void *data, int result)
{
    if (memory.refuse) {
        atomic_fetch_add(&memory.refused, 1);
        return -EIO;
    }
    if (result == 0)
        result = atomic_load(&memory.io_error);
    if (memory.mode == MEMORY_INLINE) {
        done(data, result);
        return 0;
    }
    struct memory_request *request = xcalloc(1, sizeof *request);
    *request = (struct memory_request){NULL, done, data, result};
    scoped_lock(&memory.mutex);
    *memory.last = request;
    memory.last = &request->next;
    pthread_cond_signal(&memory.changed);
    return 0;
}

static int memory_volume_open(const char *name, const char *volfile, const char *log_path,
                              struct image_volume **ret_volume, struct error **ret_error)
{
    (void)volfile;
    (void)log_path;
    int failure = atomic_load(&memory.volume_error);
    if (failure < 0)
        return error_set(ret_error, -failure, "volume %s: made to fail", name);
    *ret_volume = xcalloc(1, sizeof **ret_volume);
    (*ret_volume)->driver = &image_driver_memory;
    atomic_fetch_add(&memory.volumes, 1);
    return 0;
}

static bool memory_volume_live(struct image_volume *volume)
{
    (void)volume;
    return false;
}

static void memory_volume_close(struct image_volume *volume)
{
    atomic_fetch_sub(&memory.volumes, 1);
    free(volume);
}

static int memory_file(struct image_volume *volume, const char *file, uint64_t size, struct error **ret_error)
{
    (void)volume;
    (void)file;
    (void)size;
    (void)ret_error;
    return 0;
}

static int memory_allocate(struct image_volume *volume, const char *file, uint64_t offset, uint64_t length,
                           struct error **ret_error)
{
    (void)length;
    return memory_file(volume, file, offset, ret_error);
}

static int memory_remove(struct image_volume *volume, const char *file, struct error **ret_error)
{
    return memory_file(volume, file, 0, ret_error);
}

static int memory_stat(struct image_volume *volume, const char *file, struct image_stat *ret_stat,
                       struct error **ret_error)
{
    *ret_stat = (struct image_stat){MEMORY_DISK_SIZE, 0};
    return memory_file(volume, file, 0, ret_error);
}

static int memory_space(struct image_volume *volume, struct image_space *ret_space, struct error **ret_error)
{
    *ret_space = (struct image_space){MEMORY_DISK_SIZE, 0};
    return memory_file(volume, "/", 0, ret_error);
}

static int memory_open(struct image_volume *volume, const char *file, bool read_only,
                       struct image **ret_image, struct error **ret_error)
{
    (void)volume;
    (void)read_only;
    int failure = atomic_load(&memory.open_error);
    if (failure < 0)
        return error_set(ret_error, -failure, "image %s: made to fail", file);
    *ret_image = xcalloc(1, sizeof **ret_image);
    (*ret_image)->driver = &image_driver_memory;
    atomic_fetch_add(&memory.images, 1);
    return 0;
}

static void memory_close(struct image *image)
{
    atomic_fetch_sub(&memory.images, 1);
    free(image);
}

static bool memory_fits(uint64_t offset, uint64_t length)
{
    return offset <= MEMORY_DISK_SIZE && length <= MEMORY_DISK_SIZE - offset;
}

static int memory_read(struct image *image, void *buffer, size_t length, uint64_t offset, image_done done,
                       void *data)
{
    (void)image;
    if (!memory_fits(offset, length))
        abort(); /* nobody may ask beyond the export */
    pthread_mutex_lock(&memory.mutex);
    memcpy(buffer, memory.disk + offset, length);
    pthread_mutex_unlock(&memory.mutex);
    return memory_end(done, data, 0);
}

static void memory_mark(uint64_t offset, uint64_t length, uint8_t allocated)
{
    for (uint64_t page = offset / 4096; page <= (offset + length - 1) / 4096; page++)
        memory.allocated[page] = allocated;
}

static int memory_write(struct image *image, const void *buffer, size_t length, uint64_t offset, bool fua,
                        image_done done, void *data)
{
    (void)image;
    if (!memory_fits(offset, length))
        abort();
    atomic_fetch_add(&memory.fua_writes, fua);
    pthread_mutex_lock(&memory.mutex);
    memcpy(memory.disk + offset, buffer, length);
    memory_mark(offset, length, 1);
    pthread_mutex_unlock(&memory.mutex);
    return memory_end(done, data, 0);
}

static int memory_flush(struct image *image, image_done done, void *data)
{
    (void)image;
    atomic_fetch_add(&memory.flushes, 1);
    return memory_end(done, data, 0);
}

static int memory_clear(uint64_t offset, uint64_t length, uint8_t allocated, image_done done, void *data)
{
    if (!memory_fits(offset, length))
        abort();
    pthread_mutex_lock(&memory.mutex);
    memset(memory.disk + offset, 0, length);
    memory_mark(offset, length, allocated);
    pthread_mutex_unlock(&memory.mutex);
    return memory_end(done, data, 0);
}

static int memory_discard(struct image *image, uint64_t offset, uint64_t length, image_done done, void *data)
{
    (void)image;
    atomic_fetch_add(&memory.discards, 1);
    return memory_clear(offset, length, 0, done, data);
}

static int memory_zero(struct image *image, uint64_t offset, uint64_t length, bool allocate, image_done done,
                       void *data)
{
    (void)image;
    atomic_fetch_add(&memory.zeroes, 1);
    return memory_clear(offset, length, allocate, done, data);
}

static int memory_extents(struct image *image, uint64_t offset, uint64_t length, struct image_extent *extents,
                          size_t max, size_t *ret_count, struct error **ret_error)
{
    (void)image;
    if (!memory_fits(offset, length))
        abort();
    int failure = atomic_load(&memory.io_error);
    if (failure < 0)
        return error_set(ret_error, -failure, "made to fail");
    scoped_lock(&memory.mutex);
    uint64_t end = offset + length;
    size_t count = 0;
    while (offset < end) {
        uint64_t next = (offset / 4096 + 1) * 4096;
        bool hole = !memory.allocated[offset / 4096];
        next = next < end ? next : end;
        if (count && extents[count - 1].hole == hole)
            extents[count - 1].length += next - offset;
        else if (count == max)
            break;
        else
            extents[count++] = (struct image_extent){next - offset, hole};
        offset = next;
    }
    *ret_count = count;
    return 0;
}

static const struct image_driver image_driver_memory = {
    .name = "memory",
    .volume_open = memory_volume_open,
    .volume_live = memory_volume_live,
    .volume_close = memory_volume_close,
    .create = memory_file,
    .truncate = memory_file,
    .allocate = memory_allocate,
    .remove = memory_remove,
    .stat = memory_stat,
    .space = memory_space,
    .open = memory_open,
    .close = memory_close,
    .extents = memory_extents,
    .read = memory_read,
    .write = memory_write,
    .flush = memory_flush,
    .discard = memory_discard,
    .zero = memory_zero,
};

#endif
