/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Waiting until the bricks that run have in force what their volfiles say: each follows its file by itself
 * (xlators/reload), and tells which text it follows in a file beside its roll of clients.
 */
#include "blockd/engine/engine_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/files.h"

#define TEXT_LIMIT (64u << 20)
#define TOLD_LIMIT 256

static pid_t pid_of(struct engine *engine, const struct volume *volume, const struct brick_spec *brick)
{
    cleanup(process_plan_clear) struct process_plan plan;
    cleanup(process_view_clear) struct process_view view = {0};
    brick_plan(engine, volume, brick, &plan);
    engine->supervisor->ops->look(engine->supervisor, plan.id, &view);
    return view.pid;
}

static char *told_path(const struct engine *engine, const struct volume *volume, const char *device)
{
    autofree char *roll = brick_roll(engine, device, volume->meta.name);
    return xasprintf("%s" APPLIED_SUFFIX, roll);
}

/* -EAGAIN: it follows another text yet. One that is not there reads its volfile when it starts. */
static int check_brick(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                       struct error **ret_error)
{
    autofree char *path = brick_volfile(engine, brick->device, volume->meta.name);
    autofree char *told = told_path(engine, volume, brick->device), *text = NULL, *line = NULL;
    char hash[17];
    int pid, result;
    pid_t running = pid_of(engine, volume, brick);
    if (!running || file_read(told, TOLD_LIMIT, &line, NULL, NULL) < 0 ||
        sscanf(line, "%d %16s %d", &pid, hash, &result) != 3 || pid != running)
        return 0; /* an older blockd's brick says nothing */
    int r = file_read(path, TEXT_LIMIT, &text, NULL, ret_error);
    if (r < 0)
        return r;
    autofree char *wanted = text_version(text);
    if (strcmp(wanted, hash) != 0)
        return error_set(ret_error, EAGAIN, "the brick of volume %s on %s has not taken over its options yet",
                         volume->meta.name, brick->device);
    return result == 0 ? 0
                       : error_set(ret_error, EAGAIN,
                                   "the brick of volume %s on %s cannot take over its options before it is "
                                   "started again",
                                   volume->meta.name, brick->device);
}

static int check_all(struct engine *engine, const struct volume *volume, struct error **ret_error)
{
    for (size_t i = 0; i < volume_children(volume); i++) {
        const struct brick_spec *brick = volume_child(volume, i);
        int r = brick_is_local(engine, brick) ? check_brick(engine, volume, brick, ret_error) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

int engine_volume_applied(struct engine *engine, const struct volume *volume, int timeout_ms,
                          struct error **ret_error)
{
    autofree char *folder = xasprintf("%s/clients", engine->config->run_dir);
    autoclose int inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    int64_t deadline = clock_monotonic_ms() + timeout_ms;
    bool watched = inotify >= 0 && inotify_add_watch(inotify, folder, IN_MOVED_TO) >= 0;
    for (;;) {
        autoerror struct error *problem = NULL;
        int r = check_all(engine, volume, &problem);
        int64_t left = deadline - clock_monotonic_ms();
        if (r != -EAGAIN || left <= 0 || !watched)
            return r < 0 ? error_set(ret_error, -r, "%s", error_message(problem)) : 0;
        struct pollfd ready = {.fd = inotify, .events = POLLIN};
        poll(&ready, 1, (int)left);
        char events[4096];
        while (read(inotify, events, sizeof events) > 0)
            ;
    }
}

int engine_applied_forget(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                          struct error **ret_error)
{
    autofree char *told = told_path(engine, volume, brick->device);
    return file_remove(told, ret_error);
}

/* A brick's list is in its volfile as the option auth.addr...allow: with folders when a share has one. */
bool engine_access_has_folders(struct engine *engine, const struct volume *volume)
{
    for (size_t i = 0; i < volume_children(volume); i++) {
        const struct brick_spec *brick = volume_child(volume, i);
        if (!brick_is_local(engine, brick))
            continue;
        autofree char *path = brick_volfile(engine, brick->device, volume->meta.name), *text = NULL;
        if (file_read(path, TEXT_LIMIT, &text, NULL, NULL) == 0)
            return strstr(text, ".allow\" \"/(") != NULL;
    }
    return false;
}
