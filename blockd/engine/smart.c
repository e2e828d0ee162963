/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What a disk says of its own health, by smartctl. It is asked now and then only: some
 * disks wake up for it. */
#include "blockd/engine/engine_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/spawn.h"

#define ASK_EACH_MS  (10 * 60 * 1000)
#define ASK_LIMIT_MS (30 * 1000)

struct smart {
    struct smart *next;
    char *name;
    int64_t asked_ms;
    char *health, *reason;
};

/* Whatever the program's exit status is: bits of it tell of the disk. */
static void judge(const char *text, char **ret_health, char **ret_reason)
{
    json_t *reply = json_loads(text, 0, NULL);
    const json_t *passed = json_object_get(json_object_get(reply, "smart_status"), "passed");
    const json_t *message =
        json_array_get(json_object_get(json_object_get(reply, "smartctl"), "messages"), 0);
    const char *said = json_string_value(json_object_get(message, "string"));
    if (json_is_true(passed)) {
        *ret_health = xstrdup("ok");
    } else if (json_is_false(passed)) {
        *ret_health = xstrdup("failing");
        *ret_reason = xstrdup("the disk foresees its failure (SMART): replace it");
    } else {
        *ret_health = xstrdup("unknown");
        *ret_reason = xasprintf("no SMART data: %.200s", said ? said : "smartctl says nothing");
    }
    json_decref(reply);
}

static void ask(const struct engine *engine, dev_t device, char **ret_health, char **ret_reason)
{
    autofree char *disk = disk_whole(device);
    if (!disk || string_starts_with(disk, "/dev/loop")) {
        *ret_health = xstrdup("unknown");
        *ret_reason = xstrdup("no SMART data: it is an image, no disk");
        return;
    }
    const char *const argv[] = {engine->roots.smartctl, "-j", "-H", disk, NULL};
    autostrbuf struct strbuf output = {0};
    int r = program_run(argv, ASK_LIMIT_MS, &output, NULL, NULL);
    if (r == -ENOENT || r == -ETIMEDOUT) {
        *ret_health = xstrdup("unknown");
        *ret_reason = xstrdup(r == -ENOENT ? "smartctl is not installed (package smartmontools)"
                                           : "smartctl does not come to an end");
        return;
    }
    judge(strbuf_string(&output), ret_health, ret_reason);
}

void smart_look(struct engine *engine, const char *name, dev_t device, char **ret_health, char **ret_reason)
{
    int64_t now = clock_monotonic_ms();
    struct smart *smart;
    {
        scoped_lock(&engine->devices_mutex);
        for (smart = engine->smart; smart && strcmp(smart->name, name) != 0;)
            smart = smart->next;
        if (smart && now < smart->asked_ms + ASK_EACH_MS) {
            *ret_health = xstrdup(smart->health);
            *ret_reason = xstrdup(smart->reason);
            return;
        }
    }
    char *health = NULL, *reason = NULL;
    ask(engine, device, &health, &reason); /* nobody else does: the device is the caller's for now */
    *ret_health = xstrdup(health);
    *ret_reason = xstrdup(reason);
    scoped_lock(&engine->devices_mutex);
    if (!smart) {
        smart = xcalloc(1, sizeof *smart);
        smart->name = xstrdup(name);
        smart->next = engine->smart;
        engine->smart = smart;
    }
    free(smart->health);
    free(smart->reason);
    smart->health = health;
    smart->reason = reason;
    smart->asked_ms = now;
}

void smart_forget(struct engine *engine, const char *name)
{
    scoped_lock(&engine->devices_mutex);
    for (struct smart *smart = engine->smart; smart; smart = smart->next)
        if (strcmp(smart->name, name) == 0)
            smart->asked_ms = -ASK_EACH_MS;
}

void smart_clear(struct engine *engine)
{
    while (engine->smart) {
        struct smart *smart = engine->smart;
        engine->smart = smart->next;
        free(smart->name);
        free(smart->health);
        free(smart->reason);
        free(smart);
    }
}
