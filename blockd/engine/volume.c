/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Hosting volumes: bringing the local bricks up and down, and the self-heal daemon that serves them. */
#include "blockd/engine/heal_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"
#include "rpc/volume_layout.h"

static char *volume_folder(const struct engine *engine, const char *volume)
{
    return xasprintf("%s/volfiles/%s", engine->config->state_dir, volume);
}

char *engine_client_volfile(struct engine *engine, const char *volume)
{
    return xasprintf("%s/volfiles/%s/client.vol", engine->config->state_dir, volume);
}

/* ---- Up ---- */

static void remember_address(struct engine *engine, const struct node *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!string_equal(nodes[i].meta.name, engine->node) || nodes[i].spec.addresses.count == 0)
            continue;
        scoped_lock(&engine->ports_mutex);
        if (strcmp(engine->address, nodes[i].spec.addresses.items[0]) != 0) {
            free(engine->address);
            engine->address = xstrdup(nodes[i].spec.addresses.items[0]);
        }
    }
}

static int write_client_volfile(struct engine *engine, const struct volfile_sources *sources,
                                struct error **ret_error)
{
    autostrbuf struct strbuf text = {0};
    autofree char *folder = volume_folder(engine, sources->volume->meta.name);
    autofree char *path = engine_client_volfile(engine, sources->volume->meta.name);
    volserver_mark(engine, sources->volume->meta.name, &text);
    int r = volfile_client(sources, &text, ret_error);
    if (r == 0)
        r = folder_make(folder, 0755, ret_error);
    if (r == 0)
        r = file_write_if_changed(path, strbuf_string(&text), 0640, NULL, ret_error);
    return r;
}

static int brick_up(struct engine *engine, const struct volfile_sources *sources, size_t index,
                    struct error **ret_error)
{
    const struct volume *volume = sources->volume;
    const struct brick_spec *brick = volume_brick(volume, index);
    autostrbuf struct strbuf text = {0};
    autofree char *folder = brick_folder(engine, brick->device, volume->meta.name);
    autofree char *path = brick_volfile(engine, brick->device, volume->meta.name);
    int r = volfile_brick(sources, index, folder, &text, ret_error);
    if (r == 0)
        r = brick_prepare(engine, brick->device, volume, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.up.after-brick-folder");
    r = file_write_if_changed(path, strbuf_string(&text), 0640, NULL, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.up.after-volfile");
    cleanup(process_plan_clear) struct process_plan plan;
    brick_plan(engine, volume, brick, &plan);
    return engine->supervisor->ops->up(engine->supervisor, &plan, ret_error);
}

/* A brick that cannot come up keeps no other one down; the first error is the one that is told. */
int engine_volume_up(struct engine *engine, const struct volume *volume, const struct node *nodes,
                     size_t node_count, struct error **ret_error)
{
    int r = volfile_volume_check(volume, ret_error);
    if (r < 0)
        return r;
    scoped_claim(engine, "volume", volume->meta.name);
    const struct volfile_sources sources = {
        .volume = volume,
        .nodes = nodes,
        .node_count = node_count,
        .ping_timeout = engine->config->ping_timeout,
        .event_threads = engine->event_threads,
        .xlators = engine->xlators,
    };
    remember_address(engine, nodes, node_count);
    r = write_client_volfile(engine, &sources, ret_error);
    if (r == 0)
        r = volserver_publish(engine, &sources, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.up.after-client-volfile");
    int first = 0;
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (brick_is_local(engine, volume_brick(volume, i))) {
            r = brick_up(engine, &sources, i, first ? NULL : ret_error);
            first = first ? first : r;
        }
    return first;
}

/* ---- Down ---- */

static int bricks_down(struct engine *engine, const struct volume *volume, struct error **ret_error)
{
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        const struct brick_spec *brick = volume_brick(volume, i);
        if (!brick_is_local(engine, brick))
            continue;
        cleanup(process_plan_clear) struct process_plan plan;
        brick_plan(engine, volume, brick, &plan);
        int r = engine->supervisor->ops->down(engine->supervisor, &plan, ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

int engine_volume_down(struct engine *engine, const struct volume *volume, struct error **ret_error)
{
    int r = volfile_volume_check(volume, ret_error);
    if (r < 0)
        return r;
    scoped_claim(engine, "volume", volume->meta.name);
    r = volserver_withdraw(engine, volume->meta.name, ret_error);
    return r < 0 ? r : bricks_down(engine, volume, ret_error);
}

static int brick_forget(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                        struct error **ret_error)
{
    autofree char *path = brick_volfile(engine, brick->device, volume->meta.name);
    /* Erased before, and its device may have been taken away since. */
    if (access(path, F_OK) < 0 && device_check_mounted(engine, brick->device, NULL) < 0)
        return 0;
    int r = brick_erase(engine, brick->device, volume, ret_error);
    if (r < 0)
        return r;
    cleanup(process_plan_clear) struct process_plan plan;
    brick_plan(engine, volume, brick, &plan);
    autofree char *older = xasprintf("%s.1", plan.log_path);
    r = file_remove(plan.log_path, ret_error);
    if (r == 0)
        r = file_remove(older, ret_error);
    /* Last: it says that there was a folder (brick_prepare()). */
    return r < 0 ? r : file_remove(path, ret_error);
}

int engine_volume_erase(struct engine *engine, const struct volume *volume, struct error **ret_error)
{
    int r = volfile_volume_check(volume, ret_error);
    if (r < 0)
        return r;
    const char *name = volume->meta.name;
    scoped_claim(engine, "volume", name);
    r = volserver_withdraw(engine, name, ret_error);
    if (r == 0)
        r = bricks_down(engine, volume, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.erase.after-stop");
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        if (!brick_is_local(engine, volume_brick(volume, i)))
            continue;
        r = brick_forget(engine, volume, volume_brick(volume, i), ret_error);
        if (r < 0)
            return r;
    }
    fault_point("volume.erase.after-bricks");
    autofree char *path = engine_client_volfile(engine, name);
    autofree char *folder = volume_folder(engine, name);
    autofree char *resolve = heal_volfile(engine, name);
    r = file_remove(path, ret_error);
    if (r == 0)
        r = file_remove(resolve, ret_error);
    if (r == 0 && rmdir(folder) < 0 && errno != ENOENT)
        r = error_set(ret_error, errno, "cannot remove the folder %s: %s", folder, strerror(errno));
    return r;
}

/* ---- Self-heal ---- */

static const char *own_uuid(const struct engine *engine, const struct node *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (string_equal(nodes[i].meta.name, engine->node))
            return nodes[i].meta.uid;
    return NULL;
}

static bool heals_here(const struct engine *engine, const struct volume *volume)
{
    if (!layout_heals(&volume->spec))
        return false;
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (brick_is_local(engine, volume_brick(volume, i)))
            return true;
    return false;
}

static void heal_plan(const struct engine *engine, const char *volfile, const char *text, const char *uuid,
                      struct process_plan *ret_plan)
{
    struct process_plan plan = {
        .id = xstrdup("heal"),
        .name = xstrdup("self-heal"),
        .unit = xstrdup("blockd-heal.service"),
        .log_path = xasprintf("%s/heal.log", engine->config->log_dir),
        .version = text ? text_version(text) : NULL,
    };
    autofree char *node_uuid = xasprintf("*replicate*.node-uuid=%s", uuid);
    autofree char *orders = heal_socket(engine);
    const char *const words[] = {engine->roots.glusterfs,
                                 "-N",
                                 "-f",
                                 volfile,
                                 "-l",
                                 plan.log_path,
                                 "-L",
                                 "WARNING",
                                 "--process-name",
                                 "glustershd",
                                 "--xlator-option",
                                 node_uuid,
                                 "-S",
                                 orders};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        string_list_add(&plan.argv, words[i]);
    *ret_plan = plan;
}

static int heal_stop(struct engine *engine, const char *volfile, const char *uuid, struct error **ret_error)
{
    cleanup(process_plan_clear) struct process_plan plan;
    heal_plan(engine, volfile, NULL, uuid, &plan);
    int r = engine->supervisor->ops->down(engine->supervisor, &plan, ret_error);
    autofree char *orders = heal_socket(engine);
    if (r == 0)
        r = file_remove(orders, ret_error);
    return r < 0 ? r : file_remove(volfile, ret_error);
}

int engine_heal_up(struct engine *engine, const struct volume *volumes, size_t volume_count,
                   const struct node *nodes, size_t node_count, struct error **ret_error)
{
    scoped_claim(engine, "self-heal", "");
    autofree char *volfile = xasprintf("%s/heal.vol", engine->config->state_dir);
    const char *uuid = own_uuid(engine, nodes, node_count);
    if (!uuid)
        return error_set(ret_error, EINVAL, "self-heal: node %s is not in the list of nodes", engine->node);
    autofree struct volfile_sources *sources = xcalloc(volume_count + 1, sizeof *sources);
    size_t count = 0;
    for (size_t i = 0; i < volume_count; i++)
        if (heals_here(engine, &volumes[i]))
            sources[count++] = (struct volfile_sources){
                .volume = &volumes[i],
                .nodes = nodes,
                .node_count = node_count,
                .ping_timeout = engine->config->ping_timeout,
                .event_threads = engine->event_threads,
                .xlators = engine->xlators,
            };
    if (count == 0)
        return heal_stop(engine, volfile, uuid, ret_error);

    autostrbuf struct strbuf text = {0};
    int r = volfile_heal(sources, count, uuid, &text, ret_error);
    if (r == 0)
        r = file_write_if_changed(volfile, strbuf_string(&text), 0640, NULL, ret_error);
    if (r < 0)
        return r;
    fault_point("heal.up.after-volfile");
    cleanup(process_plan_clear) struct process_plan plan;
    heal_plan(engine, volfile, strbuf_string(&text), uuid, &plan);
    return engine->supervisor->ops->up(engine->supervisor, &plan, ret_error);
}
