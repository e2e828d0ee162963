/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/nbd/volumes.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/files.h"
#include "rpc/base/strings.h"

#define VOLFILE_LIMIT (1u << 20)

struct waiter {
    struct waiter *next;
    struct hosting *hosting;
    volume_ready ready;
    void *data;
};

struct hosting {
    struct hosting *next;
    struct volumes *volumes;
    char *name, *volfile;
    char *id;                     /* of the hosting volume, when its volfile tells */
    struct timespec volfile_time; /* with the inode, what tells a replaced volfile */
    ino_t volfile_inode;
    bool connecting;
    unsigned references; /* users; while connecting: waiters */
    int64_t idle_since;  /* milliseconds, when there are no references */
    struct waiter *waiters;
    struct image_volume *volume;
};

struct volumes {
    char *log_dir;
    struct pool *pool;
    int64_t linger_ms;
    pthread_mutex_t mutex; /* guards the list and every hosting in it */
    struct hosting *first;
};

struct volumes *volumes_new(const char *log_dir, struct pool *pool, int64_t linger_ms)
{
    struct volumes *volumes = xcalloc(1, sizeof *volumes);
    volumes->log_dir = xstrdup(log_dir);
    volumes->pool = pool;
    volumes->linger_ms = linger_ms;
    pthread_mutex_init(&volumes->mutex, NULL);
    return volumes;
}

static void hosting_free(void *data)
{
    struct hosting *hosting = data;
    image_volume_close(hosting->volume);
    free(hosting->name);
    free(hosting->volfile);
    free(hosting->id);
    free(hosting);
}

void volumes_free(struct volumes *volumes)
{
    if (!volumes)
        return;
    while (volumes->first) {
        struct hosting *hosting = volumes->first;
        volumes->first = hosting->next;
        hosting_free(hosting);
    }
    pthread_mutex_destroy(&volumes->mutex);
    free(volumes->log_dir);
    free(volumes);
}

static void unlink_hosting(struct volumes *volumes, struct hosting *hosting)
{
    struct hosting **link = &volumes->first;
    while (*link != hosting)
        link = &(*link)->next;
    *link = hosting->next;
}

static void waiter_ready(void *data)
{
    autofree struct waiter *waiter = data;
    waiter->ready(waiter->data, 0, waiter->hosting, NULL);
}

static void connect_volume(void *data)
{
    struct hosting *hosting = data;
    struct volumes *volumes = hosting->volumes;
    autofree char *log_path = xasprintf("%s/nbd-%s.log", volumes->log_dir, hosting->name);
    autoerror struct error *error = NULL;
    struct image_volume *volume = NULL;
    int r = image_volume_open(hosting->name, hosting->volfile, log_path, &volume, &error);

    struct waiter *waiters;
    {
        scoped_lock(&volumes->mutex);
        hosting->volume = volume;
        hosting->connecting = false;
        waiters = steal_ptr(&hosting->waiters);
        if (r < 0)
            unlink_hosting(volumes, hosting);
    }
    while (waiters) {
        struct waiter *waiter = waiters;
        waiters = waiter->next;
        if (r == 0) {
            pool_submit(volumes->pool, waiter_ready, waiter);
            continue;
        }
        waiter->ready(waiter->data, r, NULL, error);
        free(waiter);
    }
    if (r < 0)
        hosting_free(hosting);
}

/* The hosting volume's UUID from its volfile; a volume that was made anew has another one. The caller's. */
static char *volume_id(const char *volfile)
{
    static const char before[] = "option volume-id \"";
    autofree char *text = NULL;
    if (file_read(volfile, VOLFILE_LIMIT, &text, NULL, NULL) < 0)
        return NULL;
    const char *found = strstr(text, before);
    return found ? xstrndup(found + strlen(before), strcspn(found + strlen(before), "\"\n")) : NULL;
}

/* One that follows changes is the same one after them, unless it is of a volume that is no more. */
static bool is_same_live(const struct hosting *hosting)
{
    if (!hosting->volume || !image_volume_live(hosting->volume))
        return false;
    autofree char *id = volume_id(hosting->volfile);
    return id && string_equal(id, hosting->id);
}

static bool hosting_matches(const struct hosting *hosting, const char *name, const char *volfile,
                            const struct stat *status)
{
    if (!string_equal(hosting->name, name) || !string_equal(hosting->volfile, volfile))
        return false;
    return (hosting->volfile_inode == status->st_ino &&
            hosting->volfile_time.tv_sec == status->st_mtim.tv_sec &&
            hosting->volfile_time.tv_nsec == status->st_mtim.tv_nsec) ||
           is_same_live(hosting);
}

void volumes_get(struct volumes *volumes, const char *name, const char *volfile, volume_ready ready,
                 void *data)
{
    struct stat status = {0}; /* a volfile that is not there fails in image_volume_open(), with its message */
    (void)stat(volfile, &status);

    struct waiter *waiter = xcalloc(1, sizeof *waiter);
    waiter->ready = ready;
    waiter->data = data;
    bool fresh = false, connecting;
    {
        scoped_lock(&volumes->mutex);
        struct hosting *hosting = volumes->first;
        while (hosting && !hosting_matches(hosting, name, volfile, &status))
            hosting = hosting->next;
        if (!hosting) {
            fresh = true;
            hosting = xcalloc(1, sizeof *hosting);
            hosting->volumes = volumes;
            hosting->name = xstrdup(name);
            hosting->volfile = xstrdup(volfile);
            hosting->id = volume_id(volfile);
            hosting->volfile_inode = status.st_ino;
            hosting->volfile_time = status.st_mtim;
            hosting->connecting = true;
            hosting->next = volumes->first;
            volumes->first = hosting;
        }
        hosting->references++;
        connecting = hosting->connecting;
        waiter->hosting = hosting;
        if (connecting) {
            waiter->next = hosting->waiters;
            hosting->waiters = waiter;
        }
    }
    if (fresh)
        pool_submit(volumes->pool, connect_volume, waiter->hosting);
    else if (!connecting)
        pool_submit(volumes->pool, waiter_ready, waiter);
}

struct image_volume *hosting_volume(struct hosting *hosting)
{
    return hosting->volume;
}

void volumes_put(struct volumes *volumes, struct hosting *hosting)
{
    scoped_lock(&volumes->mutex);
    if (--hosting->references == 0)
        hosting->idle_since = clock_monotonic_ms();
}

/* Not of a volume that was deleted, and made again under its name. */
static bool is_current(const struct hosting *hosting)
{
    struct stat status = {0};
    (void)stat(hosting->volfile, &status);
    return hosting_matches(hosting, hosting->name, hosting->volfile, &status);
}

char *volumes_problem(struct volumes *volumes, const char *name)
{
    struct hosting *used = NULL;
    {
        scoped_lock(&volumes->mutex);
        for (struct hosting *hosting = volumes->first; hosting && !used; hosting = hosting->next)
            if (string_equal(hosting->name, name) && is_current(hosting))
                used = hosting;
        if (used && used->connecting)
            return xasprintf("volume %s is being connected", name);
        if (used)
            used->references++;
    }
    if (!used)
        return NULL;
    /* Every set of bricks is asked for a name that is nowhere. */
    struct image_stat none;
    autoerror struct error *error = NULL;
    int r = image_stat(used->volume, "/blockd-nbd-asks", &none, &error);
    {
        scoped_lock(&volumes->mutex);
        used->references--; /* a question is no use: it does not keep the connection */
    }
    return r < 0 && r != -ENOENT ? xstrdup(error_message(error)) : NULL;
}

void volumes_tick(struct volumes *volumes)
{
    int64_t now = clock_monotonic_ms();
    struct hosting *old = NULL;
    {
        scoped_lock(&volumes->mutex);
        for (struct hosting **link = &volumes->first; *link;) {
            struct hosting *hosting = *link;
            if (hosting->references || hosting->connecting ||
                now - hosting->idle_since < volumes->linger_ms) {
                link = &hosting->next;
                continue;
            }
            *link = hosting->next;
            hosting->next = old;
            old = hosting;
        }
    }
    while (old) {
        struct hosting *next = old->next;
        pool_submit(volumes->pool, hosting_free, old);
        old = next;
    }
}
