/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Does a mounted device still take and give back data? A disk may answer with errors, refuse writes, or not
 * answer at all; so that nobody waits for the last kind, a thread of its own asks, and is left behind if need
 * be.
 */
#include "blockd/engine/engine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define CHECK_FILE     ".blockd-check"
#define CHECK_BYTES    4096
#define ANSWER_SECONDS 10

struct device_check {
    char *name, *path;
    struct device_check *next; /* in the engine's list, under devices_mutex, as `users` */
    unsigned users;            /* the list and the thread */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t answered;
    int64_t asked_ms;
    bool running;
    int result;
};

/* ---- The thread ---- */

/* Around the page cache, which would answer for a disk that is gone. */
static int ask(const char *path)
{
    static const char line[] = "blockd writes and reads this to see that the disk answers\n";
    autofree char *text = aligned_alloc(CHECK_BYTES, CHECK_BYTES);
    if (!text)
        return -ENOMEM;
    memset(text, 0, CHECK_BYTES);
    memcpy(text, line, sizeof line);
    autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_DIRECT | O_DSYNC, 0600);
    if (fd < 0 && errno == EINVAL)
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_DSYNC, 0600);
    if (fd < 0)
        return errno == ENOSPC ? 0 : -errno;
    ssize_t count = pwrite(fd, text, CHECK_BYTES, 0);
    if (count < 0 && errno == ENOSPC) /* full, but sound */
        return 0;
    if (count < 0 || pread(fd, text, CHECK_BYTES, 0) < 0)
        return -errno;
    return 0;
}

static void release(struct device_check *check)
{
    pthread_cond_destroy(&check->answered);
    pthread_mutex_destroy(&check->mutex);
    free(check->name);
    free(check->path);
    free(check);
}

static void *run(void *data)
{
    struct device_check *check = data;
    int result = ask(check->path);
    pthread_mutex_lock(&check->mutex);
    check->result = result;
    check->running = false;
    pthread_cond_broadcast(&check->answered);
    bool last = --check->users == 0;
    pthread_mutex_unlock(&check->mutex);
    if (last)
        release(check);
    return NULL;
}

/* ---- Asking ---- */

static struct device_check *find_or_make(struct engine *engine, const char *name, const char *folder)
{
    scoped_lock(&engine->devices_mutex);
    struct device_check *check = engine->checks;
    while (check && strcmp(check->name, name) != 0)
        check = check->next;
    if (check)
        return check;
    check = xcalloc(1, sizeof *check);
    check->name = xstrdup(name);
    check->path = xasprintf("%s/" CHECK_FILE, folder);
    check->users = 1;
    pthread_mutex_init(&check->mutex, NULL);
    pthread_cond_init(&check->answered, NULL);
    check->next = engine->checks;
    engine->checks = check;
    return check;
}

static const char *meaning(int r)
{
    switch (-r) {
    case EROFS:
        return "it is read-only";
    case EIO:
    case EUCLEAN:
    case ENODEV:
    case ENXIO:
        return "its disk fails, or is gone";
    default:
        return strerror(-r);
    }
}

int device_check(struct engine *engine, const char *name, const char *folder, struct error **ret_error)
{
    struct device_check *check = find_or_make(engine, name, folder);
    scoped_lock(&check->mutex);
    if (!check->running) {
        check->running = true;
        check->asked_ms = clock_monotonic_ms();
        check->users++;
        pthread_t thread;
        int number = pthread_create(&thread, NULL, run, check);
        if (number) {
            check->running = false;
            check->users--;
            return error_set(ret_error, number, "cannot start a thread: %s", strerror(number));
        }
        pthread_detach(thread);
    }
    int64_t end_ms = check->asked_ms + ANSWER_SECONDS * 1000;
    struct timespec when = {.tv_sec = end_ms / 1000, .tv_nsec = end_ms % 1000 * 1000000};
    int late = 0;
    while (check->running && late == 0)
        late = pthread_cond_clockwait(&check->answered, &check->mutex, CLOCK_MONOTONIC, &when);
    if (check->running)
        return error_set(ret_error, ETIMEDOUT, "its disk has not answered for %lld seconds",
                         (long long)(clock_monotonic_ms() - check->asked_ms) / 1000);
    if (check->result < 0)
        return error_set(ret_error, -check->result, "%s", meaning(check->result));
    return 0;
}

/* ---- Devices that are taken out ---- */

static size_t bad_index(const struct engine *engine, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < engine->bad_devices.count; i++)
        if (strncmp(engine->bad_devices.items[i], name, length) == 0 &&
            engine->bad_devices.items[i][length] == ' ')
            return i;
    return engine->bad_devices.count;
}

void device_set_bad(struct engine *engine, const char *name, const char *reason)
{
    scoped_lock(&engine->devices_mutex);
    size_t i = bad_index(engine, name);
    if (i < engine->bad_devices.count) {
        free(engine->bad_devices.items[i]);
        engine->bad_devices.items[i] = engine->bad_devices.items[--engine->bad_devices.count];
    }
    if (reason)
        string_list_addf(&engine->bad_devices, "%s %s", name, reason);
}

char *device_bad_reason(struct engine *engine, const char *name)
{
    scoped_lock(&engine->devices_mutex);
    size_t i = bad_index(engine, name);
    return i < engine->bad_devices.count ? xstrdup(engine->bad_devices.items[i] + strlen(name) + 1) : NULL;
}

void device_checks_clear(struct engine *engine)
{
    while (engine->checks) {
        struct device_check *check = engine->checks;
        engine->checks = check->next;
        pthread_mutex_lock(&check->mutex);
        bool last = --check->users == 0;
        pthread_mutex_unlock(&check->mutex);
        if (last)
            release(check);
    }
    string_list_clear(&engine->bad_devices);
}
