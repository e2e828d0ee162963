/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The job that takes the space of a block's file at once. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/fault.h"

#define STEP_BYTES (UINT64_C(64) << 20)

void job_init_allocation(struct job *job, const struct block *block, uint64_t done)
{
    job_init(job, JOB_PREALLOCATE, KIND_BLOCK, &block->meta);
    job->status.done = done;
    job->status.total = block->spec.size;
}

int allocation_block(struct core *core, const struct job *job, struct block *ret_block)
{
    const char *name = strchr(job->spec.object, '/') + 1;
    int r = record_get(core, KIND_BLOCK, name, ret_block, NULL);
    if (r == -ENOENT)
        return -ECANCELED;
    bool wanted =
        r < 0 || (!ret_block->meta.deleting && string_equal(ret_block->meta.uid, job->spec.object_uid) &&
                  string_equal(ret_block->status.job, job->meta.name));
    return wanted ? r : -ECANCELED;
}

static bool is_canceled(struct core *core, const struct job *job)
{
    struct job now cleanup(cleanup_job) = {0};
    int r = record_get(core, KIND_JOB, job->meta.name, &now, NULL);
    return r == -ENOENT || (r == 0 && now.meta.deleting); /* a store that does not answer cancels nothing */
}

/* What trying again does not mend. */
static bool is_final(int r)
{
    return r == -ENOSPC || r == -EDQUOT || r == -EFBIG || r == -EOPNOTSUPP || r == -EINVAL || r == -ENOENT;
}

/* Step by step. 0: all is done. -ECANCELED: stopped between two steps. */
static int allocate(struct core *core, const struct job *job, const struct block *block,
                    struct job_turn *turn, uint64_t *done, struct error **ret_error)
{
    autofree char *volume = object_name_part(block->meta.name, 0);
    struct image_volume *connection = NULL;
    int r = hosting_get(core->hosting, volume, &connection, ret_error);
    while (r == 0 && *done < block->spec.size) {
        uint64_t step = block->spec.size - *done < STEP_BYTES ? block->spec.size - *done : STEP_BYTES;
        if (job_must_stop(turn) || is_canceled(core, job)) {
            r = -ECANCELED;
            break;
        }
        r = image_allocate(connection, block->spec.storage, *done, step, ret_error);
        if (r < 0)
            break;
        *done += step;
        fault_point("job.preallocate.after-step");
        r = job_progress(turn, *done);
    }
    hosting_put(core->hosting, connection);
    return r;
}

bool allocation_run(struct core *core, const struct job *job, struct job_turn *turn)
{
    struct block block cleanup(cleanup_block) = {0};
    int r = allocation_block(core, job, &block);
    if (r < 0 && r != -ECANCELED)
        return true; /* the store did not answer */
    if (job->meta.deleting || r == -ECANCELED) {
        job_record(core, job, "canceled", job->status.done, NULL);
        queue_add(core->queue, job->spec.object);
        return false;
    }
    if (!string_equal(block.status.phase, "preallocating"))
        return false; /* its file is not there yet; the block's reconciler wakes us */

    autoerror struct error *problem = NULL;
    uint64_t done = job->status.done;
    job_record(core, job, "running", done, NULL);
    r = allocate(core, job, &block, turn, &done, &problem);
    if (r == -ECANCELED && job_must_stop(turn))
        return false;
    if (r == 0)
        job_record(core, job, "succeeded", done, NULL);
    else if (r == -ECANCELED)
        job_record(core, job, "canceled", done, NULL);
    else if (is_final(r))
        job_record(core, job, "failed", done, error_message(problem));
    else
        return true; /* a brick is away, say: the work goes on when it can */
    fault_point("job.preallocate.after-status");
    queue_add(core->queue, job->spec.object);
    return false;
}
