/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Waiting until a change has arrived. Each wait reads the object, then follows the stream of changes from
 * that revision on, so that nothing is missed in between and nothing is polled while the daemon is there.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define AGAIN_MS   200 /* between two looks while the daemon restarts */
#define PICTURE_MS 300 /* between two pictures of a progress bar */

int64_t deadline_after(unsigned seconds)
{
    return clock_monotonic_ms() + (int64_t)seconds * 1000;
}

unsigned deadline_left(int64_t deadline)
{
    int64_t left = deadline - clock_monotonic_ms();
    return left > 0 ? (unsigned)((left + 999) / 1000) : 0;
}

/* Is it the phase that the spec asks for? What may be stopped is not there yet while
 * it is still the other. */
static bool phase_wanted(const json_t *object, const char *phase)
{
    static const char *const done[] = {"ready",    "online",    "degraded", "live",
                                       "archived", "succeeded", "canceled", NULL};
    const char *state = json_text(object, "spec.state");
    if (*state)
        return strcmp(state, "stopped") == 0 ? strcmp(phase, "stopped") == 0 : enum_parse(done, phase) >= 0;
    return strcmp(phase, "stopped") == 0 || enum_parse(done, phase) >= 0;
}

enum settled object_settled(const json_t *object)
{
    if (json_is_true(json_at(object, "deleting")))
        return SETTLED_NOT_YET;
    const char *phase = json_text(object, "status.phase");
    const json_t *observed = json_at(object, "status.observed_generation");
    if (observed && (uint64_t)json_integer_value(observed) < json_number(object, "generation"))
        return SETTLED_NOT_YET;
    if (strcmp(phase, "failed") == 0)
        return SETTLED_FAILED;
    return phase_wanted(object, phase) ? SETTLED_DONE : SETTLED_NOT_YET;
}

/* ---- The next change of one object ---- */

struct next_change {
    const char *key;
    json_t *object; /* a reference; NULL: none came */
    bool gone;
};

static int see_change(void *data, const json_t *change)
{
    struct next_change *next = data;
    if (strcmp(json_text(change, "key"), next->key) != 0)
        return 0;
    next->gone = strcmp(json_text(change, "type"), "delete") == 0;
    next->object = next->gone ? NULL : json_incref(json_object_get(change, "object"));
    return 1;
}

static int milliseconds_left(int64_t deadline)
{
    int64_t left = deadline - clock_monotonic_ms();
    return left > INT_MAX ? INT_MAX : left < 1 ? 1 : (int)left;
}

/* 0 with or without news; an error only where another look cannot help. */
static int await_change(struct cli *cli, enum object_kind kind, const json_t *object, int64_t deadline,
                        struct next_change *next, struct error **ret_error)
{
    autofree char *path = xasprintf("/v1/%s?watch=1&after=%llu", object_types[kind].plural,
                                    (unsigned long long)json_number(object, "revision"));
    autoerror struct error *error = NULL;
    int r = client_watch(cli, path, milliseconds_left(deadline), see_change, next, &error);
    if (r == -ETIMEDOUT || next->object || next->gone)
        return 0;
    if (r < 0 && !cli->no_answer)
        return error_set(ret_error, -r, "%s", error_message(error));
    /* The stream ended or broke: the daemon stops, or is started again. */
    poll(NULL, 0, AGAIN_MS);
    return 0;
}

/* Reads the object; while the daemon restarts that is tried until the deadline. *object is NULL when gone. */
static int look(struct cli *cli, enum object_kind kind, const char *name, int64_t deadline, json_t **object,
                struct error **ret_error)
{
    autofree char *path = xasprintf("/v1/%s/%s", object_types[kind].plural, name);
    for (;;) {
        autoerror struct error *error = NULL;
        json_t *now = NULL;
        int r = client_get(cli, path, &now, &error);
        if (r == 0 || (r == -ENOENT && !cli->no_answer)) {
            json_decref(*object);
            *object = now;
            return 0;
        }
        if (!cli->no_answer || clock_monotonic_ms() >= deadline)
            return error_set(ret_error, -r, "%s", error_message(error));
        poll(NULL, 0, AGAIN_MS);
    }
}

/* ---- Waiting ---- */

int settle_resolve(struct cli *cli, enum object_kind kind, json_t **reply, struct error **ret_error)
{
    autofree char *key = xstrdup(json_text(*reply, "spec.object"));
    enum object_kind named;
    const char *name;
    if (kind == KIND_JOB || !*key || object_key_parse(key, &named, &name) < 0)
        return 0;
    return look(cli, named, name, deadline_after(0), reply, ret_error);
}

/*
 * Draws the progress of a block's job until that has ended; what became of it is seen at the block. Progress
 * is no change of the stored job, so the job is read again for each picture.
 */
static int follow_job(struct cli *cli, const char *name, const char *label, int64_t deadline,
                      struct error **ret_error)
{
    struct progress progress = {.stream = cli->err, .label = label};
    json_t *job cleanup(json_decrefp) = NULL;
    autofree char *key = object_key(KIND_JOB, name);
    int r;
    while ((r = look(cli, KIND_JOB, name, deadline, &job, ret_error)) == 0 && job &&
           object_settled(job) == SETTLED_NOT_YET && clock_monotonic_ms() < deadline) {
        progress_show(&progress, json_number(job, "status.done"), json_number(job, "status.total"));
        int64_t next_picture = clock_monotonic_ms() + PICTURE_MS;
        struct next_change next = {.key = key};
        r = await_change(cli, KIND_JOB, job, next_picture < deadline ? next_picture : deadline, &next,
                         ret_error);
        json_decref(next.object);
        if (r < 0)
            break;
    }
    progress_end(&progress);
    return r;
}

static int timed_out(enum object_kind kind, const char *name, const json_t *object, struct error **ret_error)
{
    const char *phase = json_text(object, "status.phase");
    const char *cause = json_text(object, "status.error");
    return error_set(ret_error, ETIMEDOUT,
                     "%s %s is still %s after the time to wait; it goes on in blockd%s%s",
                     object_types[kind].word, name, *phase ? phase : "pending", *cause ? ": " : "", cause);
}

static void say_what_goes_on(enum object_kind kind, const char *name)
{
    autofree char *text =
        kind == KIND_JOB
            ? xasprintf("the job goes on in blockd; to end it: gluster-block job cancel %s", name)
            : xasprintf("the change goes on in blockd; to see how far it is: gluster-block %s "
                        "info %s",
                        object_types[kind].word, name);
    interrupt_says(text);
}

int settle_wait(struct cli *cli, enum object_kind kind, const char *name, int64_t deadline, json_t **object,
                struct error **ret_error)
{
    autofree char *key = object_key(kind, name);
    int r = 0;
    say_what_goes_on(kind, name);
    while (r == 0 && *object && object_settled(*object) == SETTLED_NOT_YET) {
        if (clock_monotonic_ms() >= deadline) {
            r = timed_out(kind, name, *object, ret_error);
            break;
        }
        const char *job = json_text(*object, "status.job");
        if (cli->terminal && *job)
            r = follow_job(cli, job, name, deadline, ret_error);
        struct next_change next = {.key = key};
        if (r == 0)
            r = await_change(cli, kind, *object, deadline, &next, ret_error);
        if (next.object || next.gone) {
            json_decref(*object);
            *object = next.object;
        } else if (r == 0) {
            r = look(cli, kind, name, deadline, object, ret_error);
        }
    }
    interrupt_says(NULL);
    return r;
}

int settle_gone(struct cli *cli, enum object_kind kind, const char *name, int64_t deadline,
                struct error **ret_error)
{
    autofree char *key = object_key(kind, name);
    json_t *object cleanup(json_decrefp) = NULL;
    int r;
    interrupt_says("the deletion goes on in blockd");
    while ((r = look(cli, kind, name, deadline, &object, ret_error)) == 0 && object) {
        if (clock_monotonic_ms() >= deadline) {
            const char *cause = json_text(object, "status.error");
            r = error_set(ret_error, ETIMEDOUT,
                          "%s %s is still there after the time to wait; its deletion goes on in blockd%s%s",
                          object_types[kind].word, name, *cause ? ": " : "", cause);
            break;
        }
        struct next_change next = {.key = key};
        r = await_change(cli, kind, object, deadline, &next, ret_error);
        json_decref(next.object);
        if (r < 0 || next.gone)
            break;
    }
    interrupt_says(NULL);
    return r;
}
