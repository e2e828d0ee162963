/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Image files in memory, for the core without bricks. */
#ifndef BLOCKD_TESTS_FAKE_IMAGES_H
#define BLOCKD_TESTS_FAKE_IMAGES_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "handler/image/image.h"
#include "rpc/base/alloc.h"
#include "rpc/base/strings.h"

#define FAKE_ROOM (UINT64_C(1000) << 20)
#define FILES_MAX 64

struct file {
    char *path;
    uint64_t size;
};

static struct {
    pthread_mutex_t mutex; /* guards the files */
    struct file files[FILES_MAX];
    max_align_t volumes[FILES_MAX]; /* connections: only their addresses count */
    atomic_uint opened;
    atomic_bool online;
    atomic_int create_error;    /* what image_create() returns instead of making the file */
    atomic_bool create_crashes; /* makes the file, and fails once all the same */
    atomic_bool hold_allocations;
    atomic_bool connected;                   /* a client, to every block */
    atomic_uint allocating, allocating_most; /* at once */
} world = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static inline struct file *find_file(const char *path)
{
    for (size_t i = 0; i < FILES_MAX; i++)
        if (world.files[i].path && strcmp(world.files[i].path, path) == 0)
            return &world.files[i];
    return NULL;
}

static inline size_t count_files(void)
{
    scoped_lock(&world.mutex);
    size_t count = 0;
    for (size_t i = 0; i < FILES_MAX; i++)
        count += world.files[i].path != NULL;
    return count;
}

static inline void remove_files(void)
{
    scoped_lock(&world.mutex);
    for (size_t i = 0; i < FILES_MAX; i++) {
        free(world.files[i].path);
        world.files[i] = (struct file){0};
    }
}

int image_volume_open(const char *name, const char *volfile, const char *log_path,
                      struct image_volume **ret_volume, struct error **ret_error)
{
    (void)name, (void)volfile, (void)log_path, (void)ret_error;
    *ret_volume = (struct image_volume *)&world.volumes[atomic_fetch_add(&world.opened, 1) % FILES_MAX];
    return 0;
}

int image_space(struct image_volume *volume, struct image_space *ret_space, struct error **ret_error)
{
    (void)volume, (void)ret_error;
    *ret_space = (struct image_space){.size = FAKE_ROOM, .free = FAKE_ROOM};
    return 0;
}

bool image_volume_live(struct image_volume *volume)
{
    return volume != NULL;
}

void image_volume_close(struct image_volume *volume)
{
    (void)volume;
}

int image_create(struct image_volume *volume, const char *path, uint64_t size, struct error **ret_error)
{
    (void)volume;
    int number = atomic_load(&world.create_error);
    if (number)
        return error_set(ret_error, number, "no: %s", strerror(number));
    scoped_lock(&world.mutex);
    struct file *file = find_file(path);
    if (file && file->size != size)
        return error_set(ret_error, EEXIST, "%s exists with another size", path);
    for (size_t i = 0; i < FILES_MAX && !file; i++)
        if (!world.files[i].path) {
            file = &world.files[i];
            *file = (struct file){xstrdup(path), size};
        }
    assert_non_null(file);
    return atomic_exchange(&world.create_crashes, false) ? error_set(ret_error, EIO, "cut short") : 0;
}

int image_truncate(struct image_volume *volume, const char *path, uint64_t size, struct error **ret_error)
{
    (void)volume;
    scoped_lock(&world.mutex);
    struct file *file = find_file(path);
    if (!file)
        return error_set(ret_error, ENOENT, "there is no %s", path);
    file->size = size;
    return 0;
}

int image_stat(struct image_volume *volume, const char *path, struct image_stat *ret_stat,
               struct error **ret_error)
{
    (void)volume;
    scoped_lock(&world.mutex);
    struct file *file = find_file(path);
    if (!file)
        return error_set(ret_error, ENOENT, "there is no %s", path);
    *ret_stat = (struct image_stat){.size = file->size};
    return 0;
}

int image_allocate(struct image_volume *volume, const char *path, uint64_t offset, uint64_t length,
                   struct error **ret_error)
{
    struct image_stat file = {0};
    unsigned at_once = atomic_fetch_add(&world.allocating, 1) + 1, most = atomic_load(&world.allocating_most);
    while (most < at_once && !atomic_compare_exchange_weak(&world.allocating_most, &most, at_once))
        ;
    while (atomic_load(&world.hold_allocations))
        sched_yield();
    atomic_fetch_sub(&world.allocating, 1);
    int r = image_stat(volume, path, &file, ret_error);
    return r == 0 && offset + length > file.size ? error_set(ret_error, EINVAL, "beyond the end") : r;
}

int image_remove(struct image_volume *volume, const char *path, struct error **ret_error)
{
    (void)volume, (void)ret_error;
    scoped_lock(&world.mutex);
    struct file *file = find_file(path);
    if (file) {
        free(file->path);
        *file = (struct file){0};
    }
    return 0;
}

int image_mark_behind(const char *name, const char *volfile, const char *log_path, const char *brick,
                      struct error **ret_error)
{
    (void)name, (void)volfile, (void)log_path, (void)brick, (void)ret_error;
    return 0;
}

#endif
