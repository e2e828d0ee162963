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

struct volfile_sources volume_sources(const struct engine *engine, const struct volume *volume,
                                      const struct node *nodes, size_t node_count)
{
    return (struct volfile_sources){
        .volume = volume,
        .nodes = nodes,
        .node_count = node_count,
        .ping_timeout = engine->config->ping_timeout,
        .event_threads = engine->event_threads,
        .xlators = engine->xlators,
        .pki = engine->pki,
    };
}

/* As the sources are, with a view of the volume in its place, which the caller clears. */
static struct volfile_sources view_of(const struct volfile_sources *sources, enum volume_audience audience,
                                      struct volume *view)
{
    struct volfile_sources seen = *sources;
    volume_view(sources->volume, audience, view);
    seen.volume = view;
    return seen;
}

int volume_client_text(struct engine *engine, const struct volume *volume, const struct node *nodes,
                       size_t node_count, struct strbuf *ret_text, struct error **ret_error)
{
    const struct volfile_sources sources = volume_sources(engine, volume, nodes, node_count);
    struct volume view cleanup(cleanup_volume);
    const struct volfile_sources clients = view_of(&sources, AUDIENCE_CLIENTS, &view);
    volserver_mark(engine, volume->meta.name, ret_text);
    return volfile_client(&clients, ret_text, ret_error);
}

int volume_brick_text(struct engine *engine, const struct volume *volume, size_t index,
                      const struct node *nodes, size_t node_count, struct strbuf *ret_text,
                      struct error **ret_error)
{
    const struct volfile_sources sources = volume_sources(engine, volume, nodes, node_count);
    const struct brick_spec *brick = volume_child(volume, index);
    autofree char *folder = brick_folder(engine, brick->device, volume->meta.name);
    autofree char *roll = brick_roll(engine, brick->device, volume->meta.name);
    return volfile_brick(&sources, index, folder, roll, ret_text, ret_error);
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

static int brick_down(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                      struct error **ret_error)
{
    cleanup(process_plan_clear) struct process_plan plan;
    brick_plan(engine, volume, brick, &plan);
    return engine->supervisor->ops->down(engine->supervisor, &plan, ret_error);
}

/* Nobody waits for one that hangs with its disk. */
static void brick_end(struct engine *engine, const struct volume *volume, const struct brick_spec *brick)
{
    cleanup(process_plan_clear) struct process_plan plan;
    brick_plan(engine, volume, brick, &plan);
    if (device_hangs(engine, brick->device))
        engine->supervisor->ops->kill(engine->supervisor, &plan);
    else
        engine->supervisor->ops->down(engine->supervisor, &plan, NULL);
}

static int brick_up(struct engine *engine, const struct volfile_sources *sources, size_t index, bool fresh,
                    struct error **ret_error)
{
    const struct volume *volume = sources->volume;
    const struct brick_spec *brick = volume_child(volume, index);
    struct engine_claim claim cleanup(engine_claim_release) = {0};
    autostrbuf struct strbuf text = {0};
    autofree char *folder = brick_folder(engine, brick->device, volume->meta.name);
    autofree char *path = brick_volfile(engine, brick->device, volume->meta.name);
    autofree char *roll = brick_roll(engine, brick->device, volume->meta.name);
    int r = device_claim(engine, brick->device, &claim, ret_error);
    if (r == 0)
        r = volfile_brick(sources, index, folder, roll, &text, ret_error);
    if (r == 0)
        r = brick_prepare(engine, brick->device, volume, volume_child_number(volume, index), fresh,
                          ret_error);
    if (r < 0) {
        /* One that runs there all the same is no good: of a device that failed, or of an earlier blockd. */
        if (device_check_mounted(engine, brick->device, NULL) < 0)
            brick_end(engine, volume, brick);
        return r;
    }
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
static int bricks_up(struct engine *engine, const struct volfile_sources *sources, struct error **ret_error)
{
    const struct volume *volume = sources->volume;
    size_t bricks = volume->spec.bricks.count;
    const struct brick_move *moves = volume->spec.moves.items;
    int first = 0;
    for (size_t i = 0; i < volume_children(volume); i++) {
        const struct brick_move *move = i < bricks ? NULL : &moves[i - bricks];
        if (!brick_is_local(engine, volume_child(volume, i)) || (move && move->step == MOVE_LEFT) ||
            (volume->spec.leaving_step == LEAVE_ERASE && volume_child_leaves(volume, i)))
            continue;
        bool fresh = move && move->step == MOVE_PREPARE;
        bool given_up = move && move->step > MOVE_HEAL; /* it may be lost, and nobody waits for it */
        int r = brick_up(engine, sources, i, fresh, first || given_up ? NULL : ret_error);
        first = first || given_up ? first : r;
    }
    return first;
}

int engine_volume_up(struct engine *engine, const struct volume *volume, const struct node *nodes,
                     size_t node_count, const struct share *shares, size_t share_count,
                     struct error **ret_error)
{
    int r = volfile_volume_check(volume, ret_error);
    if (r < 0)
        return r;
    if (volume->spec.tls == VOLUME_TLS_ON && (r = certificates_check(engine, ret_error)) < 0)
        return r;
    scoped_claim(engine, "volume", volume->meta.name);
    struct volfile_sources sources = volume_sources(engine, volume, nodes, node_count);
    sources.shares = shares;
    sources.share_count = share_count;
    remember_address(engine, nodes, node_count);
    struct volume view cleanup(cleanup_volume);
    const struct volfile_sources clients = view_of(&sources, AUDIENCE_CLIENTS, &view);
    r = write_client_volfile(engine, &clients, ret_error);
    if (r == 0)
        r = volserver_publish(engine, &clients, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.up.after-client-volfile");
    return bricks_up(engine, &sources, ret_error);
}

/* ---- Down ---- */

static int bricks_down(struct engine *engine, const struct volume *volume, struct error **ret_error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < volume_children(volume); i++)
        if (brick_is_local(engine, volume_child(volume, i)))
            r = brick_down(engine, volume, volume_child(volume, i), ret_error);
    return r;
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

/* `lost`: what lies on a device that is not there stays there. */
static int brick_forget(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                        bool lost, struct error **ret_error)
{
    autofree char *path = brick_volfile(engine, brick->device, volume->meta.name);
    bool there = device_check_mounted(engine, brick->device, NULL) == 0;
    /* Erased before, and its device may have been taken away since. */
    if (access(path, F_OK) < 0 && !there)
        return 0;
    int r = there || !lost ? brick_erase(engine, brick->device, volume, ret_error) : 0;
    if (r < 0)
        return r;
    cleanup(process_plan_clear) struct process_plan plan;
    brick_plan(engine, volume, brick, &plan);
    autofree char *older = xasprintf("%s.1", plan.log_path);
    autofree char *roll = brick_roll(engine, brick->device, volume->meta.name);
    r = file_remove(roll, ret_error);
    if (r == 0)
        r = engine_applied_forget(engine, volume, brick, ret_error);
    if (r < 0)
        return r;
    r = file_remove(plan.log_path, ret_error);
    if (r == 0)
        r = file_remove(older, ret_error);
    /* Last: it says that there was a folder (brick_prepare()). */
    return r < 0 ? r : file_remove_durably(path, ret_error);
}

int engine_brick_erase(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                       struct error **ret_error)
{
    if (!brick_is_local(engine, brick))
        return 0;
    scoped_claim(engine, "volume", volume->meta.name);
    int r = brick_down(engine, volume, brick, ret_error);
    return r < 0 ? r : brick_forget(engine, volume, brick, true, ret_error);
}

int engine_volume_erase(struct engine *engine, const struct volume *volume, bool lost,
                        struct error **ret_error)
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
    for (size_t i = 0; i < volume_children(volume); i++) {
        if (!brick_is_local(engine, volume_child(volume, i)))
            continue;
        r = brick_forget(engine, volume, volume_child(volume, i), lost, ret_error);
        if (r < 0)
            return r;
    }
    fault_point("volume.erase.after-bricks");
    autofree char *path = engine_client_volfile(engine, name);
    autofree char *folder = volume_folder(engine, name);
    autofree char *marking = xasprintf("%s/mark.vol", folder);
    autofree char *resolve = heal_volfile(engine, name);
    r = file_remove(path, ret_error);
    if (r == 0)
        r = file_remove(marking, ret_error);
    if (r == 0)
        r = file_remove(resolve, ret_error);
    if (r == 0 && rmdir(folder) < 0 && errno != ENOENT)
        r = error_set(ret_error, errno, "cannot remove the folder %s: %s", folder, strerror(errno));
    return r;
}

/* ---- Moves ---- */

int engine_marking_volfile(struct engine *engine, const struct volume *volume, const struct brick_move *move,
                           const struct node *nodes, size_t node_count, char **ret_path, char **ret_brick,
                           struct error **ret_error)
{
    struct volume view cleanup(cleanup_volume);
    bool swapped = move->step >= MOVE_SWAP_JOIN;
    uint64_t number = swapped ? move->replaces : move->brick.serial - 1;
    if (swapped)
        volume_view(volume, AUDIENCE_CLIENTS, &view);
    else
        volume_view_marking(volume, move, &view);
    struct volfile_sources sources = volume_sources(engine, &view, nodes, node_count);
    for (size_t i = 0; i < volume_children(&view); i++)
        if (volume_child_number(&view, i) == number)
            sources.one_set = volume_child_set(&view, i) + 1;
    autostrbuf struct strbuf text = {0};
    int r = volfile_client(&sources, &text, ret_error);
    if (r < 0)
        return r;
    autofree char *path = xasprintf("%s/volfiles/%s/mark.vol", engine->config->state_dir, volume->meta.name);
    r = file_write_if_changed(path, strbuf_string(&text), 0640, NULL, ret_error);
    if (r < 0)
        return r;
    *ret_path = steal_ptr(&path);
    bool dispersed = volume->spec.template_name == TEMPLATE_DISPERSE;
    *ret_brick = dispersed ? NULL : xasprintf("%s-watch-%llu", volume->meta.name, (unsigned long long)number);
    return 0;
}

/* ---- Self-heal ---- */

static const char *own_uuid(const struct engine *engine, const struct node *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (string_equal(nodes[i].meta.name, engine->node))
            return nodes[i].meta.uid;
    return NULL;
}

/* `volume` is the self-heal daemon's view. */
static bool heals_here(const struct engine *engine, const struct volume *volume)
{
    if (!volume_heals(volume))
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

struct views {
    struct volume *items;
    size_t count;
};

static void views_clear(struct views *views)
{
    for (size_t i = 0; i < views->count; i++)
        cleanup_volume(&views->items[i]);
    free(views->items);
}

/* *ret_text stays empty when nothing is to be healed here. */
int heal_text(struct engine *engine, const struct volume *volumes, size_t volume_count,
              const struct node *nodes, size_t node_count, struct strbuf *ret_text, struct error **ret_error)
{
    const char *uuid = own_uuid(engine, nodes, node_count);
    cleanup(views_clear) struct views views = {xcalloc(volume_count + 1, sizeof(struct volume)),
                                               volume_count};
    autofree struct volfile_sources *sources = xcalloc(volume_count + 1, sizeof *sources);
    size_t count = 0;
    for (size_t i = 0; i < volume_count; i++) {
        volume_view(&volumes[i], AUDIENCE_HEAL, &views.items[i]);
        volume_forget_leaving(&views.items[i]);
        if (volume_heals(&volumes[i]) && heals_here(engine, &views.items[i]))
            sources[count++] = volume_sources(engine, &views.items[i], nodes, node_count);
    }
    return count ? volfile_heal(sources, count, uuid, ret_text, ret_error) : 0;
}

int engine_heal_up(struct engine *engine, const struct volume *volumes, size_t volume_count,
                   const struct node *nodes, size_t node_count, struct error **ret_error)
{
    scoped_claim(engine, "self-heal", "");
    autofree char *volfile = xasprintf("%s/heal.vol", engine->config->state_dir);
    const char *uuid = own_uuid(engine, nodes, node_count);
    if (!uuid)
        return error_set(ret_error, EINVAL, "self-heal: node %s is not in the list of nodes", engine->node);
    autostrbuf struct strbuf text = {0};
    int r = heal_text(engine, volumes, volume_count, nodes, node_count, &text, ret_error);
    if (r == 0 && text.length == 0)
        return heal_stop(engine, volfile, uuid, ret_error);
    if (r == 0)
        r = file_write_if_changed(volfile, strbuf_string(&text), 0640, NULL, ret_error);
    if (r < 0)
        return r;
    fault_point("heal.up.after-volfile");
    cleanup(process_plan_clear) struct process_plan plan;
    heal_plan(engine, volfile, strbuf_string(&text), uuid, &plan);
    return engine->supervisor->ops->up(engine->supervisor, &plan, ret_error);
}
