/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/nbd/watch.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/base/log.h"
#include "rpc/base/sizes.h"
#include "rpc/grant.h"

#define ROOT_EVENTS   (IN_CREATE | IN_MOVED_TO | IN_ONLYDIR)
#define FOLDER_EVENTS (IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CLOSE_WRITE | IN_ONLYDIR)

struct folder {
    int descriptor;
    char *volume;
};

struct watch {
    int fd, root;
    char *path; /* RUN_DIR/grants */
    struct catalog *catalog;
    struct pool *pool;
    struct loop_source *source;
    struct folder *folders;
    size_t count;
};

struct check {
    struct catalog *catalog;
    char *volume, *block; /* NULL: all */
};

static void run_check(void *data)
{
    struct check *check = data;
    autoerror struct error *error = NULL;
    if (catalog_check(check->catalog, check->volume, check->block, &error) < 0)
        log_error("cannot compare an export with its grant: %s: trying again", error_message(error));
    free(check->volume);
    free(check->block);
    free(check);
}

static void submit_check(struct watch *watch, const char *volume, const char *block)
{
    struct check *check = xcalloc(1, sizeof *check);
    check->catalog = watch->catalog;
    check->volume = xstrdup(volume);
    check->block = xstrdup(block);
    pool_submit(watch->pool, run_check, check);
}

static void add_folder(struct watch *watch, const char *volume)
{
    if (name_check("volume", volume, NULL) < 0)
        return;
    autofree char *path = xasprintf("%s/%s", watch->path, volume);
    int descriptor = inotify_add_watch(watch->fd, path, FOLDER_EVENTS);
    if (descriptor < 0) {
        /* Gone again, or a file: nothing to follow. */
        if (errno != ENOENT && errno != ENOTDIR)
            log_error("cannot watch %s: %s: withdrawn exports stay open until POST /sync", path,
                      strerror(errno));
        return;
    }
    for (size_t i = 0; i < watch->count; i++)
        if (watch->folders[i].descriptor == descriptor)
            return; /* the kernel knows this folder already */
    watch->folders = xrealloc(watch->folders, watch->count + 1, sizeof *watch->folders);
    watch->folders[watch->count++] = (struct folder){descriptor, xstrdup(volume)};
}

/* (Re-)reads the whole tree: at the start, and when events were lost. */
static int scan(struct watch *watch, struct error **ret_error)
{
    int r = folder_make(watch->path, 0700, ret_error);
    if (r < 0)
        return r;
    watch->root = inotify_add_watch(watch->fd, watch->path, ROOT_EVENTS);
    if (watch->root < 0)
        return error_set(ret_error, errno, "cannot watch %s: %s", watch->path, strerror(errno));
    autostring_list struct string_list names = {0};
    r = folder_list(watch->path, &names, ret_error);
    for (size_t i = 0; i < names.count; i++)
        add_folder(watch, names.items[i]);
    /* What changed before its folder was watched. */
    submit_check(watch, NULL, NULL);
    return r;
}

static void rescan(struct watch *watch)
{
    autoerror struct error *error = NULL;
    if (scan(watch, &error) < 0)
        log_error("%s", error_message(error));
}

static void forget_folder(struct watch *watch, size_t index)
{
    free(watch->folders[index].volume);
    watch->folders[index] = watch->folders[--watch->count];
    submit_check(watch, NULL, NULL);
}

static void handle_event(struct watch *watch, const struct inotify_event *event)
{
    if (event->mask & IN_Q_OVERFLOW) {
        rescan(watch);
        return;
    }
    if (event->wd == watch->root) {
        if (event->mask & IN_IGNORED) {
            rescan(watch);
        } else if (event->len) {
            add_folder(watch, event->name);
            submit_check(watch, NULL, NULL);
        }
        return;
    }
    size_t i = 0;
    while (i < watch->count && watch->folders[i].descriptor != event->wd)
        i++;
    if (i == watch->count)
        return;
    if (event->mask & IN_IGNORED) {
        forget_folder(watch, i);
        return;
    }
    autofree char *block = event->len ? grant_file_block(event->name) : NULL;
    if (block)
        submit_check(watch, watch->folders[i].volume, block);
}

static void on_events(void *data, uint32_t events)
{
    (void)events;
    struct watch *watch = data;
    _Alignas(struct inotify_event) char buffer[8192];
    ssize_t got = read(watch->fd, buffer, sizeof buffer);
    for (ssize_t at = 0; at < got;) {
        const struct inotify_event *event = (const struct inotify_event *)(buffer + at);
        handle_event(watch, event);
        at += (ssize_t)sizeof *event + event->len;
    }
}

int watch_start(struct loop *loop, const char *run_dir, struct catalog *catalog, struct pool *pool,
                struct watch **ret_watch, struct error **ret_error)
{
    cleanup(cleanup_watch) struct watch *watch = xcalloc(1, sizeof *watch);
    watch->catalog = catalog;
    watch->pool = pool;
    watch->path = xasprintf("%s/grants", run_dir);
    watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch->fd < 0)
        return error_set(ret_error, errno, "cannot make an inotify instance: %s", strerror(errno));
    int r = loop_add_fd(loop, watch->fd, EPOLLIN, on_events, watch, &watch->source, ret_error);
    if (r == 0)
        r = scan(watch, ret_error);
    if (r < 0)
        return r;
    *ret_watch = steal_ptr(&watch);
    return 0;
}

void watch_stop(struct watch *watch)
{
    if (!watch)
        return;
    loop_source_free(watch->source);
    if (watch->fd >= 0)
        close(watch->fd);
    for (size_t i = 0; i < watch->count; i++)
        free(watch->folders[i].volume);
    free(watch->folders);
    free(watch->path);
    free(watch);
}
