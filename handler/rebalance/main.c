/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * blockd-rebalance VOLUME STATE-DIR LOG: started by blockd for one job, which the file rebalance.VOLUME.run
 * in STATE-DIR names. It writes what it has done to rebalance.VOLUME.json, and when all is done it waits to
 * be ended.
 */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "handler/rebalance/rebalance.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/files.h"

#define RUN_LIMIT        1024
#define VOLFILE_LIMIT    (16u << 20)
#define IDLE_WALKS       20
#define WRITE_EACH_MS    500
#define ENGINE_LOG_LEVEL 5    /* GF_LOG_WARNING */
#define REBALANCE_PID    (-3) /* GF_CLIENT_PID_DEFRAG: bricks take its requests for those of a rebalance */

/* Of libgfapi's private interface; it counts for the calling thread. */
int glfs_setfspid(glfs_t *fs, pid_t pid);

struct report {
    const char *path, *run;
    int64_t written;
};

static int write_report(const struct rebalance *work, bool finished, struct error **ret_error)
{
    const struct report *report = work->data;
    json_t *json =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s?}", "run", report->run, "done",
                  (json_int_t)work->done, "total", (json_int_t)work->total, "moved", (json_int_t)work->moved,
                  "in_use", (json_int_t)work->in_use, "failed", (json_int_t)work->failed, "left",
                  (json_int_t)work->left, "finished", finished, "error", work->error);
    autofree char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return file_write_atomic(report->path, text, 0640, ret_error);
}

static void on_progress(struct rebalance *work)
{
    struct report *report = work->data;
    int64_t now = clock_monotonic_ms();
    if (now - report->written < WRITE_EACH_MS)
        return;
    report->written = now;
    write_report(work, false, NULL); /* the next one, or the last one, tells */
}

static int connect_volume(const char *name, const char *volfile, const char *log, glfs_t **ret_fs,
                          struct error **ret_error)
{
    struct stat root;
    errno = 0;
    glfs_t *fs = glfs_new(name);
    if (!fs || glfs_set_volfile(fs, volfile) < 0 || glfs_set_logging(fs, log, ENGINE_LOG_LEVEL) < 0 ||
        glfs_init(fs) < 0 || glfs_stat(fs, "/", &root) < 0 || glfs_setfspid(fs, REBALANCE_PID) < 0)
        return error_set(ret_error, ENOTCONN, "volume %s: cannot connect to its bricks: look at %s", name,
                         log);
    *ret_fs = fs;
    return 0;
}

static int spread(struct rebalance *work, struct error **ret_error)
{
    int r = rebalance_lay_out(work, ret_error);
    if (r == 0)
        r = write_report(work, false, ret_error);
    return r < 0 ? r : rebalance_move(work, ret_error);
}

/*
 * Files that cannot be moved at once, or that a client put there meanwhile, are found by the next walk. When
 * nothing moves any more it may be for what this process believes of the files: another one looks anew.
 */
static int evacuate(struct rebalance *work, struct error **ret_error)
{
    const struct timespec pause = {.tv_sec = 1};
    unsigned idle = 0;
    uint64_t moved = 0;
    for (work->stray = true;;) {
        int r = work->stray ? rebalance_lay_out(work, ret_error) : 0;
        work->stray = false;
        if (r == 0)
            r = rebalance_evacuate(work, ret_error);
        if (r < 0 || !work->found)
            return r;
        write_report(work, false, NULL);
        idle = work->failed && work->moved == moved ? idle + 1 : 0;
        moved = work->moved;
        if (idle == IDLE_WALKS)
            return error_set(ret_error, EAGAIN, "%s", work->error);
        nanosleep(&pause, NULL);
    }
}

static int connect_all(struct rebalance *work, const char *volume, const char *state, const char *log,
                       bool evacuates, struct error **ret_error)
{
    autofree char *volfile =
        xasprintf("%s/volfiles/%s/%s.vol", state, volume, evacuates ? "evacuate" : "client");
    autofree char *set = xasprintf("%s/volfiles/%s/leaving.vol", state, volume), *text = NULL;
    int r = connect_volume(volume, volfile, log, &work->fs, ret_error);
    if (r < 0 || !evacuates)
        return r;
    r = file_read(volfile, VOLFILE_LIMIT, &text, NULL, ret_error);
    if (r < 0)
        return r;
    work->live = strstr(text, "option force-migration \"on\"") != NULL;
    return connect_volume(volume, set, log, &work->set, ret_error);
}

static int run(const char *volume, const char *state, const char *log, struct error **ret_error)
{
    autofree char *run_path = xasprintf("%s/rebalance.%s.run", state, volume);
    autofree char *path = xasprintf("%s/rebalance.%s.json", state, volume), *text = NULL;
    int r = file_read(run_path, RUN_LIMIT, &text, NULL, ret_error);
    if (r < 0)
        return r;
    char *rest = text;
    struct report report = {.path = path, .run = strsep(&rest, "\n")};
    struct rebalance work = {.progress = on_progress, .data = &report};
    bool evacuates = rest && string_starts_with(rest, "evacuate");
    r = connect_all(&work, volume, state, log, evacuates, ret_error);
    if (r == 0)
        r = evacuates ? evacuate(&work, ret_error) : spread(&work, ret_error);
    if (r == 0)
        r = write_report(&work, true, ret_error);
    free(work.error);
    return r;
}

int main(int argc, char **argv)
{
    autoerror struct error *error = NULL;
    if (argc != 4) {
        fprintf(stderr, "Usage: blockd-rebalance VOLUME STATE-DIR LOG\n");
        return EXIT_FAILURE;
    }
    if (run(argv[1], argv[2], argv[3], &error) < 0) {
        fprintf(stderr, "blockd-rebalance: %s\n", error_message(error));
        _exit(EXIT_FAILURE); /* libgfapi's own end takes ten seconds */
    }
    sigset_t none;
    sigemptyset(&none);
    for (;;)
        sigsuspend(&none);
}
