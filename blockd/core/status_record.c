/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What a reconciler has seen of an object goes into the object's status, in the same way for every kind. */
#include "blockd/core/core_priv.h"

#include "rpc/base/clock.h"

/* Where a kind's object has what most kinds have; 0: it has not. */
struct places {
    size_t phase, error, size, generation;
};

#define PLACES(type)                                                                                         \
    .phase = offsetof(struct type, status.phase), .error = offsetof(struct type, status.error)
#define GENERATION(type) .generation = offsetof(struct type, status.observed_generation)

static const struct places places[KIND_COUNT] = {
    [KIND_NODE] = {PLACES(node)},
    [KIND_DEVICE] = {PLACES(device), GENERATION(device)},
    [KIND_VOLUME] = {PLACES(volume), GENERATION(volume)},
    [KIND_BLOCK] = {PLACES(block), GENERATION(block), .size = offsetof(struct block, status.size)},
    [KIND_SHARE] = {PLACES(share), GENERATION(share), .size = offsetof(struct share, status.size)},
    [KIND_EXPORT] = {PLACES(export), GENERATION(export)},
    [KIND_JOB] = {PLACES(job)},
};

static bool replace_number(uint64_t *member, uint64_t number)
{
    bool differs = *member != number;
    *member = number;
    return differs;
}

struct note {
    const struct places *places;
    const struct status_seen *seen;
    uint64_t generation;
};

static bool set_status(void *object, void *data)
{
    const struct note *note = data;
    const struct places *where = note->places;
    const struct status_seen *seen = note->seen;
    char *start = object;
    /* Before the phase changes: it may depend on what the phase was. */
    bool changed = seen->more && seen->more(object, seen->data);
    if (seen->phase)
        changed |= string_replace((char **)(start + where->phase), seen->phase);
    changed |= string_replace((char **)(start + where->error), seen->error);
    if (where->size)
        changed |= replace_number((uint64_t *)(start + where->size), seen->size);
    if (where->generation)
        changed |= replace_number((uint64_t *)(start + where->generation), note->generation);
    return changed;
}

int status_record(struct core *core, enum object_kind kind, const struct meta *meta,
                  const struct status_seen *seen, struct error **ret_error)
{
    struct note note = {.places = &places[kind], .seen = seen, .generation = meta->generation};
    return record_update(core, kind, meta->name, meta->uid, set_status, &note, ret_error);
}

/* ---- Jobs ---- */

static bool job_is_end(const char *phase)
{
    static const char *const ends[] = {"succeeded", "failed", "canceled", NULL};
    return phase && enum_parse(ends, phase) >= 0;
}

bool job_has_ended(const struct job *job)
{
    return job_is_end(job->status.phase);
}

static bool set_progress(void *object, void *data)
{
    struct job_status *status = &((struct job *)object)->status;
    const struct job_news *news = data;
    bool changed = !status->started;
    if (news->message)
        changed |= string_replace(&status->message, news->message);
    if (news->total)
        changed |= replace_number(&status->total, news->total);
    changed |= replace_number(&status->done, news->done);
    if (!status->started)
        status->started = news->began ? news->began : clock_real_ms();
    if (job_is_end(news->phase) && !status->finished) {
        status->finished = clock_real_ms();
        changed = true;
    }
    return changed;
}

int job_record_news(struct core *core, const struct job *job, const struct job_news *news)
{
    struct status_seen seen = {
        .phase = news->phase, .error = news->error, .more = set_progress, .data = (void *)news};
    return status_record(core, KIND_JOB, &job->meta, &seen, NULL);
}

int job_record(struct core *core, const struct job *job, const char *phase, uint64_t done, const char *error)
{
    struct job_news news = {.phase = phase, .error = error, .done = done};
    return job_record_news(core, job, &news);
}
