/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Does a mounted device still take and give back data? A disk may answer with errors, refuse writes, or not
 * answer at all; so that nobody waits for the last kind, a thread of its own asks, and is left behind if need
 * be. One thread has all mounted devices asked every few seconds: a client of a brick on a disk that hangs
 * waits until the brick is taken away.
 */
#include "blockd/engine/engine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define CHECK_FILE  ".blockd-check"
#define CHECK_BYTES 4096
#define ANSWER_MS   10000 /* a disk that spins up, or remaps a sector, takes some of it */
#define ASK_EACH_MS 5000
#define WATCH_MS    1000

struct device_check {
    char *name, *folder;
    struct device_check *next; /* in the engine's list, under devices_mutex, as `users` */
    unsigned users;            /* the list and the thread */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t answered;
    int64_t asked_ms; /* monotonic */
    bool running;
    int result;   /* of the last answer */
    bool watched; /* it is mounted */
    int told;     /* what the owner was told last: 0, or the negative errno */
};

/* ---- The thread ---- */

/* Nothing is to be written below the place of a mount that is gone. */
static bool is_mount(int folder)
{
    struct stat here, above;
    return fstat(folder, &here) == 0 && fstatat(folder, "..", &above, 0) == 0 && here.st_dev != above.st_dev;
}

/* Around the page cache, which would answer for a disk that is gone. */
static int ask(const char *path)
{
    static const char line[] = "blockd writes and reads this to see that the disk answers\n";
    autofree char *text = aligned_alloc(CHECK_BYTES, CHECK_BYTES);
    if (!text)
        return -ENOMEM;
    memset(text, 0, CHECK_BYTES);
    memcpy(text, line, sizeof line);
    autoclose int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || !is_mount(folder))
        return -ENODEV;
    autoclose int fd = openat(folder, CHECK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_DIRECT | O_DSYNC, 0600);
    if (fd < 0 && errno == EINVAL)
        fd = openat(folder, CHECK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_DSYNC, 0600);
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
    free(check->folder);
    free(check);
}

static void *run(void *data)
{
    struct device_check *check = data;
    int result = ask(check->folder);
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

static struct device_check *find(struct engine *engine, const char *name)
{
    struct device_check *check = engine->checks;
    while (check && strcmp(check->name, name) != 0)
        check = check->next;
    return check;
}

static struct device_check *find_or_make(struct engine *engine, const char *name, const char *folder)
{
    scoped_lock(&engine->devices_mutex);
    struct device_check *check = find(engine, name);
    if (check)
        return check;
    check = xcalloc(1, sizeof *check);
    check->name = xstrdup(name);
    check->folder = xstrdup(folder);
    check->users = 1;
    pthread_mutex_init(&check->mutex, NULL);
    pthread_cond_init(&check->answered, NULL);
    check->next = engine->checks;
    engine->checks = check;
    return check;
}

/* The checks are the engine's for good, so that nobody needs the list's lock to look at one. */
static struct device_check *find_known(struct engine *engine, const char *name)
{
    scoped_lock(&engine->devices_mutex);
    return find(engine, name);
}

/* With the check's lock, as what follows. */
static int begin(struct device_check *check)
{
    if (check->running)
        return 0;
    check->running = true;
    check->asked_ms = clock_monotonic_ms();
    check->users++;
    pthread_t thread;
    int number = pthread_create(&thread, NULL, run, check);
    if (number) {
        check->running = false;
        check->users--;
        return -number;
    }
    pthread_detach(thread);
    return 0;
}

/* Waits until it has answered, or hangs. */
static void await(struct device_check *check)
{
    int64_t end_ms = check->asked_ms + ANSWER_MS;
    struct timespec when = {.tv_sec = end_ms / 1000, .tv_nsec = end_ms % 1000 * 1000000};
    int late = 0;
    while (check->running && late == 0)
        late = pthread_cond_clockwait(&check->answered, &check->mutex, CLOCK_MONOTONIC, &when);
}

static int64_t late_ms(const struct device_check *check)
{
    int64_t waited = check->running ? clock_monotonic_ms() - check->asked_ms : 0;
    return waited >= ANSWER_MS ? waited : 0;
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
    int r = begin(check);
    if (r < 0)
        return error_set(ret_error, -r, "cannot start a thread: %s", strerror(-r));
    check->watched = true;
    await(check);
    if (check->running)
        r = error_set(ret_error, ETIMEDOUT, "its disk has not answered for %lld seconds",
                      (long long)late_ms(check) / 1000);
    else if (check->result < 0)
        r = error_set(ret_error, -check->result, "%s", meaning(check->result));
    check->told = r;
    return r;
}

void device_unwatch(struct engine *engine, const char *name)
{
    struct device_check *check = find_known(engine, name);
    if (!check)
        return;
    scoped_lock(&check->mutex);
    check->watched = false;
    await(check);
}

int64_t device_hangs(struct engine *engine, const char *name)
{
    int64_t late = device_call_late_ms(engine, name);
    struct device_check *check = find_known(engine, name);
    if (!check || late)
        return late;
    scoped_lock(&check->mutex);
    return late_ms(check);
}

bool device_answers(struct engine *engine, const char *name)
{
    struct device_check *check = find_known(engine, name);
    if (!check)
        return false;
    scoped_lock(&check->mutex);
    return check->watched && check->told == 0 && !late_ms(check);
}

/* ---- Watching ---- */

struct device_watch {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool stopping; /* under mutex */
};

/* Returns whether there are news. */
static bool watch_one(struct device_check *check)
{
    scoped_lock(&check->mutex);
    int state = late_ms(check) ? -ETIMEDOUT : check->running ? check->told : check->result;
    bool news = check->watched && state != check->told;
    if (news)
        check->told = state;
    if (check->watched && clock_monotonic_ms() >= check->asked_ms + ASK_EACH_MS)
        begin(check); /* a thread that cannot be had now can be later */
    return news;
}

static void *watch(void *data)
{
    struct engine *engine = data;
    struct device_watch *watch = engine->watch;
    pthread_mutex_lock(&watch->mutex);
    while (!watch->stopping) {
        pthread_mutex_unlock(&watch->mutex);
        struct device_check *check;
        bool news = false;
        {
            scoped_lock(&engine->devices_mutex);
            check = engine->checks; /* new ones come before it */
        }
        for (; check; check = check->next)
            news |= watch_one(check);
        if (news && engine->changed)
            engine->changed(engine->changed_data);
        pthread_mutex_lock(&watch->mutex);
        int64_t until_ms = clock_monotonic_ms() + WATCH_MS;
        struct timespec when = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
        if (!watch->stopping)
            pthread_cond_clockwait(&watch->wake, &watch->mutex, CLOCK_MONOTONIC, &when);
    }
    pthread_mutex_unlock(&watch->mutex);
    return NULL;
}

int device_watch_start(struct engine *engine, struct error **ret_error)
{
    struct device_watch *watch_data = xcalloc(1, sizeof *watch_data);
    pthread_mutex_init(&watch_data->mutex, NULL);
    pthread_cond_init(&watch_data->wake, NULL);
    engine->watch = watch_data;
    int number = pthread_create(&watch_data->thread, NULL, watch, engine);
    if (!number)
        return 0;
    pthread_cond_destroy(&watch_data->wake);
    pthread_mutex_destroy(&watch_data->mutex);
    free(watch_data);
    engine->watch = NULL;
    return error_set(ret_error, number, "cannot start the thread that watches the devices: %s",
                     strerror(number));
}

void device_watch_stop(struct engine *engine)
{
    struct device_watch *watch_data = engine->watch;
    if (!watch_data)
        return;
    {
        scoped_lock(&watch_data->mutex);
        watch_data->stopping = true;
        pthread_cond_signal(&watch_data->wake);
    }
    pthread_join(watch_data->thread, NULL);
    pthread_cond_destroy(&watch_data->wake);
    pthread_mutex_destroy(&watch_data->mutex);
    free(watch_data);
    engine->watch = NULL;
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
