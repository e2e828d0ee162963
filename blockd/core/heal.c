/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Heals as operations: what waits for one, starting one as a job, and the choice of a
 * copy in a split-brain. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/volume_layout.h"

#define FILES_DEFAULT    1000
#define RESOLVE_FILES    10000
#define RESOLVE_WAIT_MAX 60 /* seconds; what takes longer goes on by itself */

/* A started volume that keeps several copies. */
static int get_volume(struct core *core, const char *name, struct volume *ret_volume,
                      struct error **ret_error)
{
    struct volume volume = {0};
    int r = record_get(core, KIND_VOLUME, name, &volume, ret_error);
    if (r < 0)
        return r;
    if (!layout_heals(&volume.spec))
        r = error_set(ret_error, EOPNOTSUPP, "volume %s has one copy only: there is nothing to heal it from",
                      name);
    else if (volume.meta.deleting)
        r = error_set(ret_error, EBUSY, "volume %s is being deleted", name);
    if (r < 0) {
        schema_clear(&volume_schema, &volume);
        return r;
    }
    *ret_volume = volume;
    return 0;
}

/* ---- Listing ---- */

/* Which block a file is of. */
static void name_blocks(struct core *core, struct heal_report *report)
{
    struct record_list blocks = {.kind = KIND_BLOCK};
    struct heal_file *files = report->files.items;
    if (!report->files.count || record_list_readable(core, KIND_BLOCK, report->volume, &blocks, NULL) < 0)
        return;
    for (size_t i = 0; i < blocks.list.count; i++) {
        const struct block *block = RECORD(&blocks, block, i);
        for (size_t k = 0; k < report->files.count; k++)
            if (string_equal(files[k].file, block->spec.storage))
                string_replace(&files[k].block, block->meta.name);
    }
    record_list_clear(&blocks);
}

static bool lies_in(const char *file, const char *folder)
{
    size_t length = folder ? strlen(folder) : 0;
    return length > 1 && strncmp(file, folder, length) == 0 && (file[length] == '/' || !file[length]);
}

static void name_shares(struct core *core, struct heal_report *report)
{
    struct record_list shares = {.kind = KIND_SHARE};
    struct heal_file *files = report->files.items;
    if (!report->files.count || record_list_readable(core, KIND_SHARE, report->volume, &shares, NULL) < 0)
        return;
    for (size_t i = 0; i < shares.list.count; i++) {
        const struct share *share = RECORD(&shares, share, i);
        for (size_t k = 0; k < report->files.count; k++)
            if (lies_in(files[k].file, share->status.path))
                string_replace(&files[k].share, share->meta.name);
    }
    record_list_clear(&shares);
}

int core_heal_report(struct core *core, const char *name, uint64_t limit, bool split_brain_only,
                     json_t **ret_report, struct error **ret_error)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    int r = get_volume(core, name, &volume, ret_error);
    if (r < 0)
        return r;
    struct heal_report report;
    r = engine_heal_report(core->engine, &volume, limit ? limit : FILES_DEFAULT, split_brain_only, &report,
                           ret_error);
    if (r < 0)
        return r;
    name_blocks(core, &report);
    name_shares(core, &report);
    *ret_report = schema_encode(&heal_report_schema, &report);
    schema_clear(&heal_report_schema, &report);
    return 0;
}

/* ---- Starting ---- */

static char *running_job(struct core *core, int kind, const struct volume *volume, char **ret_uid)
{
    struct record_list jobs = {.kind = KIND_JOB};
    char *name = NULL;
    if (record_list_readable(core, KIND_JOB, NULL, &jobs, NULL) < 0)
        return NULL;
    for (size_t i = 0; i < jobs.list.count && !name; i++) {
        const struct job *job = RECORD(&jobs, job, i);
        if (job->spec.kind != kind || job->meta.deleting || job_has_ended(job) ||
            !string_equal(job->spec.object_uid, volume->meta.uid))
            continue;
        name = xstrdup(job->meta.name);
        *ret_uid = xstrdup(job->meta.uid);
    }
    record_list_clear(&jobs);
    return name;
}

static int start(struct core *core, const struct change_call *call, const struct core_change *change,
                 struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    const struct heal_start *request = call->request;
    struct volume volume cleanup(cleanup_volume) = {0};
    int r = get_volume(core, name, &volume, ret_error);
    if (r < 0)
        return r;
    if (volume.spec.state != VOLUME_STARTED)
        return error_set(ret_error, ENOTCONN, "volume %s is stopped; start it: gluster-block volume start %s",
                         name, name);
    int kind = request->full ? JOB_HEAL_FULL : JOB_HEAL;
    autofree char *uid = NULL;
    autofree char *running = running_job(core, kind, &volume, &uid);
    if (!running) {
        struct job job cleanup(cleanup_job) = {0};
        job_init(&job, kind, KIND_VOLUME, &volume.meta);
        autofree char *key = object_key(KIND_JOB, job.meta.name);
        struct txn txn = {0};
        txn_put(&txn, KIND_JOB, &job, 0);
        r = change_commit(core, change, &txn, key, job.meta.uid, ret_error);
        if (r < 0)
            return r;
        running = xstrdup(job.meta.name);
        uid = xstrdup(job.meta.uid);
        jobs_wake(core->jobs);
    }
    autofree char *key = object_key(KIND_JOB, running);
    return result_make(core, key, uid, change, ret_result, ret_error);
}

int core_heal_start(struct core *core, const char *name, const struct heal_start *request,
                    const struct core_change *change, struct core_result *ret_result,
                    struct error **ret_error)
{
    struct change_call call = {.name = name, .request = request};
    return change_run(core, start, &call, change, ret_result, ret_error);
}

/* ---- The job ---- */

static int record_step(struct core *core, const struct job *job, const char *phase, const char *message,
                       int64_t began)
{
    struct job_news news = {.phase = phase, .message = message, .began = began};
    return job_record_news(core, job, &news);
}

static char *describe(const struct heal_crawl *crawl)
{
    return xasprintf("files healed: %llu, failed: %llu, in split-brain: %llu",
                     (unsigned long long)crawl->healed, (unsigned long long)crawl->failed,
                     (unsigned long long)crawl->split_brain);
}

/*
 * One look at it; the daemon does the work. When the daemon was started anew it knows nothing of the crawl,
 * and gets the order again.
 */
bool heal_job_run(struct core *core, const struct job *job)
{
    const char *name = strchr(job->spec.object, '/') + 1;
    struct volume volume cleanup(cleanup_volume) = {0};
    int64_t began = job->status.started ? job->status.started : clock_real_ms();
    int r = record_get(core, KIND_VOLUME, name, &volume, NULL);
    if (r < 0 && r != -ENOENT)
        return true; /* the store did not answer */
    if (r == -ENOENT || volume.meta.deleting || job->meta.deleting ||
        !string_equal(volume.meta.uid, job->spec.object_uid)) {
        record_step(core, job, "canceled", NULL, began);
        return false;
    }
    autoerror struct error *error = NULL;
    struct heal_crawl crawl = {0};
    bool full = job->spec.kind == JOB_HEAL_FULL;
    if (!job->status.started && record_step(core, job, "running", NULL, began) < 0)
        return true;
    r = engine_heal_crawl(core->engine, &volume, full, began, &crawl, &error);
    bool blind = r == -EOPNOTSUPP; /* that it was told is all that will be known */
    if (blind) {
        error_free(steal_ptr(&error));
        r = engine_heal_start(core->engine, &volume, full, &error);
        crawl.finished = true;
    } else if (r == 0 && !crawl.running && !crawl.finished)
        r = engine_heal_start(core->engine, &volume, full, &error);
    autofree char *message = r < 0   ? xstrdup(error_message(error))
                             : blind ? xstrdup("the self-heal daemon was told; it does not say how far it is")
                                     : describe(&crawl);
    bool ended = r == 0 && crawl.finished;
    record_step(core, job, ended ? "succeeded" : "running", message, began);
    return !ended;
}

/* ---- Split-brain ---- */

/* As the engine names it: a block stands for its file. */
static int file_of(struct core *core, const char *volume, const char *word, char **ret_file,
                   struct error **ret_error)
{
    if (word[0] == '/' || string_starts_with(word, "gfid:")) {
        *ret_file = xstrdup(word);
        return 0;
    }
    autofree char *prefix = xasprintf("%s/", volume);
    autofree char *name = string_starts_with(word, prefix) ? xstrdup(word) : xasprintf("%s%s", prefix, word);
    struct block block cleanup(cleanup_block) = {0};
    int r = record_get(core, KIND_BLOCK, name, &block, ret_error);
    if (r == 0)
        *ret_file = xstrdup(block.spec.storage);
    return r;
}

static int check_request(const char *volume, const struct heal_resolve *request, struct error **ret_error)
{
    bool one = request->file && *request->file;
    if (one == request->all)
        return error_set(ret_error, EINVAL, "volume %s: name one file in split-brain, or all of them",
                         volume);
    if (!request->keep || !*request->keep)
        return error_set(ret_error, EINVAL,
                         "volume %s: say which copy to keep: newest, largest, or a brick (NODE/DEVICE)",
                         volume);
    return 0;
}

static int resolve_one(struct core *core, const struct volume *volume, const struct record_list *nodes,
                       const char *file, const char *keep, int64_t deadline, struct heal_resolution *ret_one,
                       struct error **ret_error)
{
    int64_t left = deadline - clock_monotonic_ms();
    return engine_heal_resolve(core->engine, volume, nodes->list.items, nodes->list.count, file, keep,
                               left > 0 ? (int)left : 0, ret_one, ret_error);
}

/* What goes wrong with one file is said with that file. */
static int resolve_all(struct core *core, const struct volume *volume, const struct record_list *nodes,
                       const char *keep, int64_t deadline, struct heal_resolved *resolved,
                       struct error **ret_error)
{
    struct heal_report report;
    int r = engine_heal_report(core->engine, volume, RESOLVE_FILES, true, &report, ret_error);
    if (r < 0)
        return r;
    const struct heal_file *files = report.files.items;
    for (size_t i = 0; i < report.files.count; i++) {
        autoerror struct error *error = NULL;
        struct heal_resolution one = {0};
        if (resolve_one(core, volume, nodes, files[i].file, keep, deadline, &one, &error) < 0) {
            one.file = xstrdup(files[i].file);
            one.state = xstrdup("failed");
            one.error = xstrdup(error_message(error));
        }
        struct heal_resolution *place = object_list_add(&resolved->files, sizeof *place);
        *place = one;
    }
    schema_clear(&heal_report_schema, &report);
    return 0;
}

int core_heal_resolve(struct core *core, const char *name, const struct heal_resolve *request, uint64_t wait,
                      json_t **ret_resolved, struct error **ret_error)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    struct record_list nodes = {.kind = KIND_NODE};
    struct heal_resolved resolved = {.volume = xstrdup(name)};
    autofree char *file = NULL;
    int64_t seconds = (int64_t)(wait < RESOLVE_WAIT_MAX ? wait : RESOLVE_WAIT_MAX);
    int64_t deadline = clock_monotonic_ms() + seconds * 1000;
    int r = check_request(name, request, ret_error);
    if (r == 0)
        r = get_volume(core, name, &volume, ret_error);
    if (r == 0 && volume.spec.template_name == TEMPLATE_DISPERSE)
        r = error_set(ret_error, EOPNOTSUPP, "volume %s keeps fragments: there is no copy to choose", name);
    if (r == 0)
        r = record_list(core, KIND_NODE, NULL, &nodes, ret_error);
    if (r == 0 && request->all) {
        r = resolve_all(core, &volume, &nodes, request->keep, deadline, &resolved, ret_error);
    } else if (r == 0) {
        struct heal_resolution one = {0};
        r = file_of(core, name, request->file, &file, ret_error);
        if (r == 0)
            r = resolve_one(core, &volume, &nodes, file, request->keep, deadline, &one, ret_error);
        if (r == 0) {
            struct heal_resolution *place = object_list_add(&resolved.files, sizeof *place);
            *place = one;
        }
    }
    if (r == 0 && resolved.files.count)
        engine_heal_start(core->engine, &volume, false, NULL); /* sooner than the daemon's next round */
    if (r == 0)
        *ret_resolved = schema_encode(&heal_resolved_schema, &resolved);
    schema_clear(&heal_resolved_schema, &resolved);
    record_list_clear(&nodes);
    return r;
}
