/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A disk may stop to answer, and the kernel then holds whoever touches it for as long as that lasts. So what
 * touches a device runs on a thread of its own, on copies of what it needs, and is left behind when the
 * device hangs: its caller goes on, and what it held it gives back when the disk answers again.
 */
#include "blockd/engine/engine_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define LOOK_MS 500 /* between two looks whether the device hangs */

struct device_call *device_call_new(struct engine *engine, const char *name)
{
    struct device_call *call = xcalloc(1, sizeof *call);
    call->engine = engine;
    if (name)
        string_list_add(&call->names, name);
    call->users = 1;
    pthread_mutex_init(&call->mutex, NULL);
    pthread_cond_init(&call->ended, NULL);
    return call;
}

static void destroy(struct device_call *call)
{
    if (call->clear)
        call->clear(call->data);
    string_list_clear(&call->names);
    schema_clear(&device_schema, &call->device);
    schema_clear(&volume_schema, &call->volume);
    schema_clear(&device_schema, &call->seen);
    free(call->text);
    error_free(call->error);
    pthread_cond_destroy(&call->ended);
    pthread_mutex_destroy(&call->mutex);
    free(call);
}

static void release(struct device_call *call)
{
    pthread_mutex_lock(&call->mutex);
    bool last = --call->users == 0;
    pthread_mutex_unlock(&call->mutex);
    if (last)
        destroy(call);
}

void device_call_free(struct device_call *call)
{
    if (call)
        release(call);
}

/* ---- Calls that took too long ---- */

/* What nobody watches yet, such as a disk before its mount, hangs while a call is left behind on it. */
struct late_call {
    const struct device_call *call;
    char *name; /* of the device */
    int64_t began_ms;
    struct late_call *next;
};

static void remember_late(const struct device_call *call, int64_t began_ms)
{
    struct engine *engine = call->engine;
    struct late_call *late = xcalloc(1, sizeof *late);
    *late = (struct late_call){.call = call, .name = xstrdup(call->names.items[0]), .began_ms = began_ms};
    scoped_lock(&engine->devices_mutex);
    late->next = engine->late_calls;
    engine->late_calls = late;
}

static void forget_late(struct engine *engine, const struct device_call *call)
{
    scoped_lock(&engine->devices_mutex);
    struct late_call **link = &engine->late_calls;
    while (*link && (*link)->call != call)
        link = &(*link)->next;
    struct late_call *late = *link;
    if (!late)
        return;
    *link = late->next;
    free(late->name);
    free(late);
}

int64_t device_call_late_ms(struct engine *engine, const char *name)
{
    int64_t now = clock_monotonic_ms(), longest = 0;
    scoped_lock(&engine->devices_mutex);
    for (const struct late_call *late = engine->late_calls; late; late = late->next)
        if (strcmp(late->name, name) == 0 && now - late->began_ms > longest)
            longest = now - late->began_ms;
    return longest;
}

/* ---- Working ---- */

static void *run(void *data)
{
    struct device_call *call = data;
    struct engine *engine = call->engine;
    struct error *error = NULL;
    int result = call->work(call, &error);
    pthread_mutex_lock(&call->mutex);
    call->result = result;
    call->error = error;
    call->done = true;
    bool left = call->left;
    pthread_cond_broadcast(&call->ended);
    pthread_mutex_unlock(&call->mutex);
    if (left)
        forget_late(engine, call);
    release(call);
    if (left)
        atomic_fetch_sub(&engine->calls_left, 1);
    return NULL;
}

/* The first of the devices that hangs; NULL: none does. */
static const char *hanging(const struct device_call *call, int64_t *ret_ms)
{
    for (size_t i = 0; i < call->names.count; i++)
        if ((*ret_ms = device_hangs(call->engine, call->names.items[i])) > 0)
            return call->names.items[i];
    return NULL;
}

static int refuse(const struct device_call *call, const char *name, int64_t ms, struct error **ret_error)
{
    return error_set(ret_error, ETIMEDOUT, "device %s/%s: its disk has not answered for %lld seconds",
                     call->engine->node, name, (long long)ms / 1000);
}

/* Waits with the lock held. */
static int await(struct device_call *call, struct error **ret_error)
{
    int64_t end_ms = call->limit_ms ? clock_monotonic_ms() + call->limit_ms : INT64_MAX;
    while (!call->done) {
        int64_t now = clock_monotonic_ms(), hangs_ms = 0, until_ms = now + LOOK_MS;
        const char *name = hanging(call, &hangs_ms);
        if (!name && now < end_ms) {
            struct timespec when = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
            pthread_cond_clockwait(&call->ended, &call->mutex, CLOCK_MONOTONIC, &when);
            continue;
        }
        call->left = true;
        if (!name)
            remember_late(call, end_ms - call->limit_ms);
        atomic_fetch_add(&call->engine->calls_left, 1);
        return refuse(call, name ? name : call->names.items[0], name ? hangs_ms : call->limit_ms, ret_error);
    }
    if (ret_error)
        *ret_error = steal_ptr(&call->error);
    return call->result;
}

int device_call_run(struct device_call *call, int (*work)(struct device_call *call, struct error **ret_error),
                    struct error **ret_error)
{
    int64_t ms;
    const char *name = hanging(call, &ms);
    if (name)
        return refuse(call, name, ms, ret_error);
    call->work = work;
    call->users++;
    pthread_t thread;
    int number = pthread_create(&thread, NULL, run, call);
    if (number) {
        call->users--;
        return error_set(ret_error, number, "cannot start a thread: %s", strerror(number));
    }
    pthread_detach(thread);
    scoped_lock(&call->mutex);
    return await(call, ret_error);
}

void device_call_give(struct device_call *call, void (*clear)(void *data))
{
    scoped_lock(&call->mutex);
    call->clear = clear;
}
