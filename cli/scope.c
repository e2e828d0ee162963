/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "cli/scope.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/strings.h"

#define MANAGER       "org.freedesktop.systemd1"
#define MANAGER_PATH  "/org/freedesktop/systemd1"
#define MANAGER_FACE  "org.freedesktop.systemd1.Manager"
#define JOB_MS        25000
#define UNIT_NAME_MAX 255

static void cleanup_bus(sd_bus **bus)
{
    sd_bus_flush_close_unref(*bus);
}

static void cleanup_message(sd_bus_message **message)
{
    sd_bus_message_unref(*message);
}

char *scope_mount_unit(const char *folder)
{
    struct strbuf name = {0};
    const char *text = folder + strspn(folder, "/");
    if (!*text)
        strbuf_adds(&name, "-");
    for (const char *c = text; *c; c++) {
        if (*c == '/')
            strbuf_adds(&name, c[1] ? "-" : "");
        else if (isalnum((unsigned char)*c) || *c == ':' || *c == '_' || (*c == '.' && c != text))
            strbuf_add(&name, c, 1);
        else
            strbuf_addf(&name, "\\x%02x", (unsigned char)*c);
    }
    strbuf_adds(&name, ".mount");
    return strbuf_steal(&name);
}

/* ---- The job that makes the scope ---- */

struct wait {
    char *job; /* path of the object */
    bool done, good;
};

static int on_removed(sd_bus_message *message, void *data, sd_bus_error *ret_error)
{
    (void)ret_error;
    struct wait *wait = data;
    const char *job, *unit, *result;
    uint32_t id;
    if (sd_bus_message_read(message, "uoss", &id, &job, &unit, &result) >= 0 && wait->job &&
        strcmp(job, wait->job) == 0) {
        wait->done = true;
        wait->good = strcmp(result, "done") == 0;
    }
    return 0;
}

static int wait_for_job(sd_bus *bus, struct wait *wait)
{
    int64_t deadline = clock_monotonic_ms() + JOB_MS;
    while (!wait->done) {
        int r = sd_bus_process(bus, NULL);
        if (r < 0)
            return r;
        int64_t left = deadline - clock_monotonic_ms();
        if (left <= 0)
            return -ETIMEDOUT;
        if (r == 0 && (r = sd_bus_wait(bus, (uint64_t)left * 1000)) < 0)
            return r;
    }
    return wait->good ? 0 : -EIO;
}

static int fill(sd_bus_message *call, const char *description, const char *mount_unit)
{
    autofree char *name = xasprintf("blockd-mount-%d.scope", (int)getpid());
    int r = sd_bus_message_append(call, "ss", name, "fail");
    if (r >= 0)
        r = sd_bus_message_open_container(call, 'a', "(sv)");
    if (r >= 0)
        r = sd_bus_message_append(call, "(sv)(sv)(sv)", "Description", "s", description, "PIDs", "au", 1,
                                  (uint32_t)getpid(), "CollectMode", "s", "inactive-or-failed");
    /* At a shutdown the mount is taken away while the process behind it still writes back. */
    if (r >= 0 && strlen(mount_unit) <= UNIT_NAME_MAX)
        r = sd_bus_message_append(call, "(sv)", "Before", "as", 1, mount_unit);
    if (r >= 0)
        r = sd_bus_message_close_container(call);
    return r < 0 ? r : sd_bus_message_append(call, "a(sa(sv))", 0);
}

int scope_enter(const char *description, const char *folder, struct error **ret_error)
{
    if (sd_booted() <= 0)
        return 0;
    cleanup(cleanup_bus) sd_bus *bus = NULL;
    cleanup(cleanup_message) sd_bus_message *call = NULL, *reply = NULL;
    sd_bus_error refusal = SD_BUS_ERROR_NULL;
    struct wait wait = {0};
    const char *job = NULL;
    autofree char *mount_unit = scope_mount_unit(folder);
    int r = sd_bus_open_system(&bus);
    if (r >= 0) /* before the call, so that its end is not missed */
        r = sd_bus_match_signal(bus, NULL, MANAGER, MANAGER_PATH, MANAGER_FACE, "JobRemoved", on_removed,
                                &wait);
    if (r >= 0)
        r = sd_bus_message_new_method_call(bus, &call, MANAGER, MANAGER_PATH, MANAGER_FACE,
                                           "StartTransientUnit");
    if (r >= 0)
        r = fill(call, description, mount_unit);
    if (r >= 0)
        r = sd_bus_call(bus, call, 0, &refusal, &reply);
    if (r >= 0)
        r = sd_bus_message_read(reply, "o", &job);
    if (r >= 0) {
        wait.job = (char *)job;
        r = wait_for_job(bus, &wait);
    }
    if (r < 0)
        error_set(ret_error, -r, "systemd made no scope for the mount: %s",
                  refusal.message ? refusal.message : strerror(-r));
    sd_bus_error_free(&refusal);
    return r < 0 ? r : 0;
}
