/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Which clients use which bricks, from the rolls that the bricks keep (xlators/roll). A client is a process;
 * it connects to every brick of a volfile, and again, with a higher number of its graph, when the volfile
 * changed.
 */
#include "blockd/engine/engine_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/files.h"

#define ROLL_LIMIT (8u << 20)
/* A client that has the new bricks uses the old ones for what was under way, and keeps
 * them while it is idle. */
#define LINGER_MS 10000

char *brick_roll(const struct engine *engine, const char *device, const char *volume)
{
    return xasprintf("%s/clients/%s.%s", engine->config->run_dir, volume, device);
}

/* ---- Rolls ---- */

struct client {
    char context[64]; /* of the process */
    unsigned graph;
    unsigned long pid;
    char host[80];
};

struct roll {
    struct client *clients;
    size_t count;
};

struct rolls {
    struct roll *items; /* one a child */
    size_t count;
};

static void rolls_clear(struct rolls *rolls)
{
    for (size_t i = 0; i < rolls->count; i++)
        free(rolls->items[i].clients);
    free(rolls->items);
}

static void read_client(const char *line, struct roll *roll)
{
    struct client client = {0};
    if (sscanf(line, "CTX_ID:%63[^:]", client.context) != 1)
        return;
    char *end = strstr(client.context, "-GRAPH_ID");
    const char *graph = strstr(line, "-GRAPH_ID:");
    if (!end || !graph ||
        sscanf(graph, "-GRAPH_ID:%u-PID:%lu-HOST:%79[^:]", &client.graph, &client.pid, client.host) != 3)
        return;
    *end = '\0';
    end = strstr(client.host, "-PC_NAME");
    if (end)
        *end = '\0';
    roll->clients = xrealloc(roll->clients, roll->count + 1, sizeof *roll->clients);
    roll->clients[roll->count++] = client;
}

/* -EAGAIN unless it is the roll of the brick that runs now. */
static int read_roll(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                     struct roll *roll)
{
    struct brick_status status = {0};
    engine_brick_status(engine, volume, brick, &status);
    bool online = string_equal(status.state, "online");
    uint64_t pid = status.pid;
    schema_clear(&brick_status_schema, &status);
    autofree char *path = brick_roll(engine, brick->device, volume->meta.name);
    autofree char *text = NULL;
    if (!online || file_read(path, ROLL_LIMIT, &text, NULL, NULL) < 0 || strtoull(text, NULL, 10) != pid)
        return -EAGAIN;
    char *rest = text;
    strsep(&rest, "\n");
    for (char *line; (line = strsep(&rest, "\n"));)
        read_client(line, roll);
    return 0;
}

/* ---- Who lags behind ---- */

static const struct client *find_newest(const struct roll *roll, const struct client *wanted)
{
    const struct client *newest = NULL;
    for (size_t i = 0; i < roll->count; i++)
        if (strcmp(roll->clients[i].context, wanted->context) == 0 &&
            (!newest || roll->clients[i].graph > newest->graph))
            newest = &roll->clients[i];
    return newest;
}

enum lag { LAG_NONE, LAG_LINGERS, LAG_OLD };

/* A client of one brick must have all bricks that it is to know, and by one graph. */
static enum lag lag_of(const struct rolls *known, const struct client *client)
{
    enum lag lag = LAG_NONE;
    for (size_t i = 0; i < known->count; i++) {
        const struct client *newest = find_newest(&known->items[i], client);
        if (!newest)
            return LAG_OLD;
        if (newest->graph > client->graph)
            lag = LAG_LINGERS;
    }
    return lag;
}

struct verdict {
    enum lag worst;
    struct client client;
};

static void consider(struct verdict *verdict, enum lag lag, const struct client *client)
{
    if (lag > verdict->worst)
        *verdict = (struct verdict){lag, *client};
}

/*
 * `leave`: who uses an unknown brick must have a newer graph. Else it does no harm that a client goes on to
 * use it beside all others.
 */
static void judge(const struct rolls *known, const struct rolls *unknown, pid_t healer, bool leave,
                  struct verdict *verdict)
{
    for (size_t i = 0; i < known->count; i++)
        for (size_t k = 0; k < known->items[i].count; k++) {
            const struct client *client = &known->items[i].clients[k];
            if (client->pid != (unsigned long)healer) /* it is told last */
                consider(verdict, lag_of(known, client), client);
        }
    for (size_t i = 0; i < unknown->count; i++)
        for (size_t k = 0; k < unknown->items[i].count; k++) {
            const struct client *client = &unknown->items[i].clients[k];
            enum lag lag = lag_of(known, client);
            consider(verdict, lag == LAG_OLD || (leave && lag == LAG_NONE) ? LAG_OLD : LAG_LINGERS, client);
        }
}

/* ---- The answer ---- */

static bool knows_child(const struct volume *view, uint64_t number)
{
    for (size_t i = 0; i < volume_children(view); i++)
        if (volume_child_number(view, i) == number)
            return true;
    return false;
}

#define EVERY_SET SIZE_MAX

/* The rolls of one set's bricks, or of all: of those that clients are to know, and of the others that run. */
static int read_rolls(struct engine *engine, const struct volume *volume, size_t set, struct rolls *known,
                      struct rolls *unknown, struct error **ret_error)
{
    struct volume view cleanup(cleanup_volume);
    volume_view(volume, AUDIENCE_CLIENTS, &view);
    known->items = xcalloc(volume_children(volume) + 1, sizeof *known->items);
    unknown->items = xcalloc(volume_children(volume) + 1, sizeof *unknown->items);
    for (size_t i = 0; i < volume_children(volume); i++) {
        const struct brick_spec *brick = volume_child(volume, i);
        if ((set != EVERY_SET && volume_child_set(volume, i) != set) || !brick_is_local(engine, brick))
            continue;
        bool counts = knows_child(&view, volume_child_number(volume, i));
        struct rolls *rolls = counts ? known : unknown;
        int r = read_roll(engine, volume, brick, &rolls->items[rolls->count++]);
        if (r < 0 && counts)
            return error_set(
                ret_error, -r,
                "the brick of volume %s on %s/%s does not serve, and so does not tell its clients",
                volume->meta.name, brick->node, brick->device);
    }
    return 0;
}

/* Since when nobody but lingering graphs is behind; 0: from now on. */
static int64_t linger_since(struct engine *engine, const char *volume, bool lingers)
{
    int64_t now = clock_monotonic_ms(), since = now;
    scoped_lock(&engine->devices_mutex);
    autostring_list struct string_list old = engine->lingering;
    engine->lingering = (struct string_list){0};
    size_t length = strlen(volume);
    for (size_t i = 0; i < old.count; i++) {
        if (strncmp(old.items[i], volume, length) == 0 && old.items[i][length] == ' ')
            since = strtoll(old.items[i] + length, NULL, 10);
        else
            string_list_add(&engine->lingering, old.items[i]);
    }
    if (lingers)
        string_list_addf(&engine->lingering, "%s %lld", volume, (long long)since);
    return since;
}

static size_t set_of_move(const struct volume *volume, const struct brick_move *move)
{
    size_t index = volume->spec.bricks.count;
    while (index < volume_children(volume) && volume_child(volume, index)->serial != move->brick.serial)
        index++;
    return volume_child_set(volume, index);
}

int engine_clients_told(struct engine *engine, const struct volume *volume, const struct brick_move *move,
                        struct error **ret_error)
{
    cleanup(rolls_clear) struct rolls known = {0};
    cleanup(rolls_clear) struct rolls unknown = {0};
    int r =
        read_rolls(engine, volume, move ? set_of_move(volume, move) : EVERY_SET, &known, &unknown, ret_error);
    struct verdict verdict = {0};
    if (r == 0) {
        cleanup(process_view_clear) struct process_view healer = {0};
        engine->supervisor->ops->look(engine->supervisor, "heal", &healer);
        judge(&known, &unknown, healer.pid, volume->spec.leaving != 0, &verdict);
    }
    bool lingers = r == 0 && verdict.worst == LAG_LINGERS;
    int64_t since = linger_since(engine, volume->meta.name, lingers);
    if (r < 0)
        return r;
    if (verdict.worst == LAG_OLD)
        return error_set(ret_error, EAGAIN,
                         "volume %s: process %lu on %s has not taken over the new set of bricks yet",
                         volume->meta.name, verdict.client.pid, verdict.client.host);
    if (!lingers || clock_monotonic_ms() - since >= LINGER_MS)
        return 0;
    return error_set(ret_error, EAGAIN, "clients of volume %s end what they began with the old set of bricks",
                     volume->meta.name);
}
