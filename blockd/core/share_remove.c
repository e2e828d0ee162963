/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What a removal's job does: the files of a share that is deleted go, and then its project id is free. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"

/* Begun again after a crash at its end, the id may be another share's by now: its owner is in the store. */
static int free_project(struct core *core, const struct volume *volume, const struct job *job,
                        struct error **ret_error)
{
    autofree char *key = share_project_key(job->spec.project);
    autofree char *owner = xasprintf("\"shares/%s\"", strrchr(job->spec.path, '/') + 1);
    struct store_entry entry = {0};
    int r = store_get(core->store, key, &entry, NULL);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return error_set(ret_error, -r, "cannot read %s: %s", key, strerror(-r));
    struct txn txn = {0};
    if (strcmp(entry.value, owner) == 0) {
        r = engine_share_forget(core->engine, volume, (uint32_t)job->spec.project, ret_error);
        fault_point("job.remove.after-quota");
        txn_delete(&txn, key, entry.revision);
        if (r == 0)
            r = txn_commit(core, &txn, ret_error);
    }
    txn_clear(&txn);
    store_entry_clear(&entry);
    return r;
}

/* The quota went with the volume; the id did not. */
static int drop_project(struct core *core, const struct job *job)
{
    struct volume nothing = {0};
    return job->spec.project ? free_project(core, &nothing, job, NULL) : 0;
}

struct removal {
    struct job_turn *turn;
    uint64_t done;
};

static bool note_removed(void *data, uint64_t bytes)
{
    struct removal *removal = data;
    removal->done += bytes;
    fault_point("job.remove.after-step");
    job_progress(removal->turn, removal->done);
    return !job_must_stop(removal->turn);
}

/* Works until the job's folder is gone, and its project id free. -ECANCELED: it must stop. */
static int remove_tree(struct core *core, const struct job *job, struct removal *removal,
                       struct error **ret_error)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    const char *name = strchr(job->spec.object, '/') + 1;
    int r = record_get(core, KIND_VOLUME, name, &volume, ret_error);
    if (r == -ENOENT || (r == 0 && !string_equal(volume.meta.uid, job->spec.object_uid)))
        return drop_project(core, job);
    if (r < 0)
        return r;
    r = volume_require_online(core, &volume, ret_error);
    if (r < 0)
        return r;
    struct image_volume *connection = NULL;
    r = hosting_get(core->hosting, name, &connection, ret_error);
    if (r < 0)
        return r;
    r = files_remove_tree(connection, job->spec.path, note_removed, removal, ret_error);
    hosting_put(core->hosting, connection);
    if (r == 0 && job->spec.project)
        r = free_project(core, &volume, job, ret_error);
    return r;
}

bool share_remove_run(struct core *core, const struct job *job, struct job_turn *turn)
{
    struct removal removal = {.turn = turn, .done = job->status.done};
    autoerror struct error *problem = NULL;
    job_record(core, job, "running", removal.done, job->status.error);
    int r = remove_tree(core, job, &removal, &problem);
    if (r == -ECANCELED && job_must_stop(turn))
        return false;
    if (r < 0) { /* it ends when all is gone, however often it has to be begun again */
        if (!string_equal(job->status.error, error_message(problem)))
            job_record(core, job, "running", removal.done, error_message(problem));
        return true;
    }
    fault_point("job.remove.after-tree");
    job_record(core, job, "succeeded", job->status.total, NULL);
    return false;
}
