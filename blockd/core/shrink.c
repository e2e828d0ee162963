/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A set of bricks leaves its volume. How far that is is part of the volume's record (enum leave_step), and a
 * job goes from step to step: its files move to the other sets (handler/rebalance), clients are told to
 * forget it, and when nobody uses its bricks and they hold no file they are erased. What a step does is done
 * again after a crash. Up to the last step a file that turns up on the set takes the job back to the first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/fault.h"
#include "rpc/base/sizes.h"
#include "rpc/volume_layout.h"

/* ---- Asking for it ---- */

static const struct set_status *set_at(const struct volume *volume, size_t place)
{
    return (const struct set_status *)volume->status.sets.items + place;
}

static uint64_t used_of(const struct set_status *set)
{
    return set->size > set->free ? set->size - set->free : 0;
}

static int check_may_shrink(struct core *core, const struct volume *volume, struct error **ret_error)
{
    const char *name = volume->meta.name;
    if (volume->meta.deleting)
        return error_set(ret_error, EBUSY, "volume %s is being deleted", name);
    if (volume->spec.state != VOLUME_STARTED)
        return error_set(ret_error, EBUSY, "volume %s is stopped: start it to shrink it", name);
    if (volume->spec.moves.count)
        return error_set(ret_error, EBUSY,
                         "volume %s has a brick on its way to another device: wait for that", name);
    if (layout_sets(&volume->spec) < 2)
        return error_set(ret_error, EINVAL, "volume %s has one set of bricks only: delete the volume instead",
                         name);
    return rebalance_check_none(core, name, ret_error);
}

/* The set that was asked for, or the one with the least data; of equal ones the last. */
static int pick_set(const struct volume *volume, const struct volume_shrink *request, bool named,
                    size_t *ret_set, struct error **ret_error)
{
    size_t sets = layout_sets(&volume->spec), best = 0;
    if (named && request->set >= sets)
        return error_set(ret_error, EINVAL, "volume %s has sets 0 to %zu, and no set %llu", volume->meta.name,
                         sets - 1, (unsigned long long)request->set);
    for (size_t set = 1; set < sets; set++)
        if (used_of(set_at(volume, set)) <= used_of(set_at(volume, best)))
            best = set;
    *ret_set = named ? (size_t)request->set : best;
    return 0;
}

static int no_room(const struct volume *volume, size_t set, const char *what, uint64_t wanted,
                   const char *have, uint64_t rest, struct error **ret_error)
{
    char wanted_text[SIZE_TEXT_SIZE], rest_text[SIZE_TEXT_SIZE];
    size_format(wanted, wanted_text);
    size_format(rest, rest_text);
    return error_set(ret_error, ENOSPC,
                     "volume %s cannot do without set %zu: %s %s, and the other sets %s %s: delete blocks or "
                     "shares, or add another set first",
                     volume->meta.name, set, what, wanted_text, have, rest_text);
}

static int by_size(const void *a, const void *b)
{
    uint64_t one = (*(const struct block *const *)a)->spec.size;
    uint64_t other = (*(const struct block *const *)b)->spec.size;
    return one < other ? 1 : one > other ? -1 : 0;
}

/* The set with the most room takes the block, if it can. */
static int give_away(struct block_sets *sets, const struct block *block, struct error **ret_error)
{
    struct block_set *best = NULL;
    for (size_t i = 0; i < sets->count; i++)
        if (!sets->items[i].leaving &&
            (!best || block_set_room(&sets->items[i], false) > block_set_room(best, false)))
            best = &sets->items[i];
    if (!best || block_set_room(best, false) < block->spec.size) {
        autofree char *what = xasprintf("block %s", block->meta.name);
        return block_sets_refuse(sets, what, block->spec.size, false, ret_error);
    }
    best->promised += block->spec.size;
    return 0;
}

/* One file lies in one set: each block of the set that goes needs another one that may promise all of it. */
static int check_blocks(struct core *core, const struct volume *volume, size_t leaving,
                        struct error **ret_error)
{
    struct record_list blocks = {.kind = KIND_BLOCK};
    struct block_sets sets cleanup(block_sets_clear) = {0};
    uint64_t serial = layout_set_number(&volume->spec, leaving) + 1;
    struct set_status *goes = (struct set_status *)volume->status.sets.items + leaving;
    goes->leaving = true; /* what lies in all sets needs the others, too */
    int r = block_sets_read(core, volume, NULL, &sets, ret_error);
    goes->leaving = false;
    if (r == 0)
        r = record_list_readable(core, KIND_BLOCK, volume->meta.name, &blocks, ret_error);
    const struct block **going cleanup(cleanup_free) = xcalloc(blocks.list.count + 1, sizeof(void *));
    size_t count = 0;
    for (size_t i = 0; r == 0 && i < blocks.list.count; i++)
        if (RECORD(&blocks, block, i)->status.set == serial)
            going[count++] = RECORD(&blocks, block, i);
    qsort(going, count, sizeof *going, by_size);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = give_away(&sets, going[i], ret_error);
    record_list_clear(&blocks);
    return r;
}

static int check_room(struct core *core, const struct volume *volume, size_t leaving,
                      struct error **ret_error)
{
    uint64_t size = 0, free_bytes = 0;
    for (size_t set = 0; set < layout_sets(&volume->spec); set++) {
        if (set == leaving)
            continue;
        size += set_at(volume, set)->size;
        free_bytes += set_at(volume, set)->free;
    }
    struct volume rest = {.meta = volume->meta, .spec = volume->spec, .status = {.size = size}};
    uint64_t limit = 0, used = used_of(set_at(volume, leaving));
    int r = volume_limit(&rest, &limit, ret_error);
    if (r < 0)
        return r;
    if (volume->status.provisioned > limit)
        return no_room(volume, leaving, "blocks and shares are promised", volume->status.provisioned,
                       "may promise", limit, ret_error);
    if (used > free_bytes)
        return no_room(volume, leaving, "it holds", used, "have free", free_bytes, ret_error);
    return check_blocks(core, volume, leaving, ret_error);
}

/* From now on no place is a number: when the set is gone, those behind it have other places. */
static void mark_leaving(struct volume *volume, size_t set)
{
    struct volume_spec *spec = &volume->spec;
    struct brick_spec *bricks = spec->bricks.items;
    size_t each = layout_set_bricks(spec), sets = layout_sets(spec);
    spec->bricks_made = spec->bricks_made ? spec->bricks_made : spec->bricks.count;
    spec->sets_made = spec->sets_made ? spec->sets_made : sets;
    for (size_t i = 0; i < spec->bricks.count; i++) {
        uint64_t number = layout_set_number(spec, i / each);
        bricks[i].serial = brick_number(bricks, i) + 1;
        bricks[i].set_serial = number + 1;
    }
    spec->leaving = layout_set_number(spec, set) + 1;
    spec->leaving_step = LEAVE_EMPTY;
    volume->meta.generation++;
}

static int commit(struct core *core, const struct change_call *call, const struct core_change *change,
                  struct job *job, struct error **ret_error)
{
    scoped_lock(&core->placement_mutex);
    struct volume volume cleanup(cleanup_volume) = {0};
    size_t set = 0;
    int r = change_get(core, KIND_VOLUME, call->name, change, &volume, ret_error);
    if (r == 0)
        r = check_may_shrink(core, &volume, ret_error);
    if (r == 0)
        r = volume_require_online(core, &volume, ret_error);
    if (r == 0)
        r = pick_set(&volume, call->request, call->present & 1, &set, ret_error);
    if (r == 0)
        r = check_room(core, &volume, set, ret_error);
    if (r < 0)
        return r;
    struct txn txn = {0};
    job_init(job, JOB_SHRINK, KIND_VOLUME, &volume.meta);
    job->status.total = used_of(set_at(&volume, set));
    job->status.message = xasprintf("takes set %zu out", set);
    mark_leaving(&volume, set);
    txn_put(&txn, KIND_VOLUME, &volume, volume.meta.revision);
    txn_put(&txn, KIND_JOB, job, 0);
    autofree char *key = object_key(KIND_JOB, job->meta.name);
    return change_commit(core, change, &txn, key, job->meta.uid, ret_error);
}

static int begin(struct core *core, const struct change_call *call, const struct core_change *change,
                 struct core_result *ret_result, struct error **ret_error)
{
    struct job job cleanup(cleanup_job) = {0};
    int r = commit(core, call, change, &job, ret_error);
    if (r < 0)
        return r;
    fault_point("shrink.after-record");
    jobs_wake(core->jobs);
    autofree char *key = object_key(KIND_JOB, job.meta.name);
    return result_make(core, key, job.meta.uid, change, ret_result, ret_error);
}

int core_volume_shrink(struct core *core, const char *name, const struct volume_shrink *request,
                       uint64_t present, const struct core_change *change, struct core_result *ret_result,
                       struct error **ret_error)
{
    struct change_call call = {.name = name, .request = request, .present = present};
    int r = node_require_alone(core, "shrinking a volume", ret_error);
    return r < 0 ? r : change_run(core, begin, &call, change, ret_result, ret_error);
}

/* ---- Working on it ---- */

static bool record(struct core *core, const struct job *job, const char *phase, const char *message)
{
    struct job_news news = {.phase = phase, .message = message, .done = job->status.done};
    int r = job_record_news(core, job, &news);
    fault_point("shrink.after-status");
    return r < 0;
}

/* Why it waits is worth knowing, and no end. */
static bool wait_for(struct core *core, const struct job *job, const struct error *problem)
{
    if (!problem)
        return true;
    autofree char *message = xasprintf("waits: %s", error_message(problem));
    record(core, job, "running", message);
    return true;
}

struct next {
    int from, to;
    bool gives_up;
};

static bool set_step(void *object, void *data)
{
    struct volume *volume = object;
    const struct next *next = data;
    if (!volume->spec.leaving || volume->spec.leaving_step != next->from)
        return false;
    volume->spec.leaving_step = next->to;
    if (next->gives_up)
        volume->spec.leaving = 0;
    volume->meta.generation++;
    return true;
}

/* The volume is reconciled then, and the job looks again. */
static bool step(struct core *core, const struct volume *volume, struct next next)
{
    (void)record_update(core, KIND_VOLUME, volume->meta.name, volume->meta.uid, set_step, &next, NULL);
    fault_point("shrink.after-step");
    return true;
}

/* What was moved stays where it is now: a rebalance gives the set its part again. */
static bool cancel(struct core *core, const struct job *job, const struct volume *volume)
{
    if (engine_rebalance_down(core->engine, volume->meta.name, NULL) < 0)
        return true;
    struct next next = {.from = LEAVE_EMPTY, .to = LEAVE_EMPTY, .gives_up = true};
    int r = record_update(core, KIND_VOLUME, volume->meta.name, volume->meta.uid, set_step, &next, NULL);
    fault_point("shrink.after-cancel");
    return r < 0 || record(core, job, "canceled", "the set stays; rebalance to give it files again");
}

/* Fragments that are written count as behind. */
static int check_healed(const struct volume *volume, struct error **ret_error)
{
    for (size_t i = 0; i < volume->status.sets.count; i++) {
        const struct set_status *set = set_at(volume, i);
        if (set->online < set->bricks)
            return error_set(ret_error, EAGAIN, "set %zu lacks %llu of its bricks", i,
                             (unsigned long long)(set->bricks - set->online));
        if (set->heal_pending && volume->spec.template_name != TEMPLATE_DISPERSE)
            return error_set(ret_error, EAGAIN, "set %zu has %llu files to heal", i,
                             (unsigned long long)set->heal_pending);
    }
    return 0;
}

static int start(struct core *core, const struct job *job, const struct volume *volume,
                 struct error **ret_error)
{
    struct record_list nodes = {.kind = KIND_NODE};
    int r = record_list(core, KIND_NODE, NULL, &nodes, ret_error);
    if (r == 0)
        r = engine_evacuation_up(core->engine, volume, nodes.list.items, nodes.list.count, job->meta.name,
                                 ret_error);
    record_list_clear(&nodes);
    fault_point("shrink.after-start");
    return r;
}

static char *tell(const struct engine_rebalance *progress)
{
    struct strbuf text = {0};
    strbuf_addf(&text, "%llu file%s moved", (unsigned long long)progress->moved,
                progress->moved == 1 ? "" : "s");
    if (progress->error)
        strbuf_addf(&text, ", %llu not yet; waits: %s", (unsigned long long)progress->left, progress->error);
    return strbuf_steal(&text);
}

static bool empty(struct core *core, const struct job *job, const struct volume *volume)
{
    autoerror struct error *problem = NULL;
    struct engine_rebalance progress = {0};
    (void)shares_apply(core, volume, NULL); /* as the files move; the next look tries again */
    if (check_healed(volume, &problem) < 0 || start(core, job, volume, &problem) < 0)
        return wait_for(core, job, problem);
    if (engine_rebalance_look(core->engine, volume->meta.name, job->meta.name, &progress, NULL) < 0)
        return true;
    autofree char *error = progress.error, *message = tell(&progress);
    struct job_news news = {
        .phase = "running", .message = message, .done = progress.done, .total = progress.total};
    job_record_news(core, job, &news);
    fault_point("shrink.after-status");
    if (!progress.finished)
        return true;
    if (engine_leaving_check_open(core->engine, volume, &problem) < 0)
        return wait_for(core, job, problem);
    return step(core, volume, (struct next){.from = LEAVE_EMPTY, .to = LEAVE_FORGET});
}

static bool forget(struct core *core, const struct job *job, const struct volume *volume)
{
    autoerror struct error *problem = NULL;
    autofree char *file = NULL;
    int r = engine_rebalance_down(core->engine, volume->meta.name, &problem);
    if (r == 0) {
        hosting_refresh(core->hosting, volume->meta.name);
        r = engine_clients_told(core->engine, volume, NULL, &problem);
    }
    if (r == 0)
        blocks_note_sets(core, volume->meta.name);
    fault_point("shrink.forget");
    if (r == 0)
        r = engine_leaving_check_open(core->engine, volume, &problem);
    if (r == 0)
        r = engine_leaving_look(core->engine, volume, &file, &problem);
    if (r < 0)
        return wait_for(core, job, problem);
    return step(core, volume, (struct next){.from = LEAVE_FORGET, .to = file ? LEAVE_EMPTY : LEAVE_ERASE});
}

/* The volume without the set, and the end of the job, in one transaction. */
static int drop(struct core *core, const struct job *job, const struct volume *volume,
                struct error **ret_error)
{
    struct volume edited cleanup(cleanup_volume) = {0};
    struct job ended cleanup(cleanup_job) = {0};
    schema_copy(&volume_schema, &edited, volume);
    schema_copy(&job_schema, &ended, job);
    struct txn txn = {0};
    struct object_list *bricks = &edited.spec.bricks;
    size_t each = layout_set_bricks(&edited.spec), set = layout_leaving(&edited.spec);
    struct brick_spec *first = (struct brick_spec *)bricks->items + set * each;
    int r = 0;
    for (size_t i = 0; i < each; i++) {
        r = r < 0 ? r : txn_delete_port(core, &txn, &first[i], ret_error);
        schema_clear(&brick_spec_schema, &first[i]);
    }
    bricks->count -= each;
    memmove(first, first + each, (bricks->count - set * each) * sizeof *first);
    edited.spec.leaving = 0;
    edited.spec.leaving_step = LEAVE_EMPTY;
    edited.meta.generation++;
    string_replace(&ended.status.phase, "succeeded");
    string_replace(&ended.status.error, NULL);
    string_replace(&ended.status.message, "the set is gone");
    ended.status.done = ended.status.total;
    ended.status.finished = clock_real_ms();
    txn_put(&txn, KIND_VOLUME, &edited, volume->meta.revision);
    txn_put(&txn, KIND_JOB, &ended, job->meta.revision);
    if (r == 0)
        r = txn_commit(core, &txn, ret_error);
    txn_clear(&txn);
    return r;
}

static bool erase(struct core *core, const struct job *job, const struct volume *volume)
{
    autoerror struct error *problem = NULL;
    const struct brick_spec *bricks = volume->spec.bricks.items;
    size_t each = layout_set_bricks(&volume->spec), first = layout_leaving(&volume->spec) * each;
    int r = 0;
    for (size_t i = first; r == 0 && i < first + each; i++) {
        r = engine_brick_erase(core->engine, volume, &bricks[i], &problem);
        fault_point("shrink.after-erase");
    }
    if (r == 0)
        r = drop(core, job, volume, &problem);
    fault_point("shrink.after-drop");
    return r == 0 ? false : r == -ESTALE ? true : wait_for(core, job, problem);
}

bool shrink_run(struct core *core, const struct job *job)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    int r = record_get(core, KIND_VOLUME, strchr(job->spec.object, '/') + 1, &volume, NULL);
    bool gone = r == -ENOENT ||
                (r == 0 && (volume.meta.deleting || !string_equal(volume.meta.uid, job->spec.object_uid)));
    if (gone || (r == 0 && !volume.spec.leaving))
        return record(core, job, "canceled", NULL);
    const struct brick_spec *bricks = volume.spec.bricks.items;
    if (r < 0 || strcmp(bricks[0].node, core->node) != 0) /* one node does it for all */
        return true;
    if (job->meta.deleting && volume.spec.leaving_step == LEAVE_EMPTY)
        return cancel(core, job, &volume);
    autoerror struct error *problem = NULL;
    if (volume.status.observed_generation != volume.meta.generation)
        return true;
    if (volume_require_online(core, &volume, &problem) < 0 && volume.spec.leaving_step != LEAVE_ERASE)
        return wait_for(core, job, problem);
    switch (volume.spec.leaving_step) {
    case LEAVE_EMPTY:
        return empty(core, job, &volume);
    case LEAVE_FORGET:
        return forget(core, job, &volume);
    default:
        return erase(core, job, &volume);
    }
}
