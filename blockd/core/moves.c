/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Bricks on their way to other devices. A move is part of its volume's record, and goes from step to step
 * (enum move_step) whenever the volume is reconciled: what a step does is done again after a crash, and the
 * next step is recorded when it is done. No brick is given up before its successor holds all that it holds,
 * unless it is lost already.
 */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/volume_layout.h"

static struct brick_move *move_at(const struct volume *volume, size_t index)
{
    return (struct brick_move *)volume->spec.moves.items + index;
}

/* ---- Finding ---- */

/* Of a move's brick, which always has its serial. */
uint64_t move_number(const struct brick_move *move)
{
    return move->brick.serial - 1;
}

bool brick_is_on(const struct brick_spec *brick, const char *device)
{
    size_t length = strlen(brick->node);
    return strncmp(device, brick->node, length) == 0 && device[length] == '/' &&
           strcmp(device + length + 1, brick->device) == 0;
}

/* The volume's brick that a move is about: the one to be succeeded, or its successor. */
struct brick_spec *move_peer(const struct volume *volume, const struct brick_move *move)
{
    struct brick_spec *bricks = volume->spec.bricks.items;
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (brick_number(bricks, i) == move->replaces)
            return &bricks[i];
    return NULL;
}

bool move_has_swapped(const struct brick_move *move)
{
    return move->step >= MOVE_SWAP_JOIN;
}

const struct brick_move *move_off_device(const struct volume *volume, const char *device)
{
    for (size_t i = 0; i < volume->spec.moves.count; i++) {
        const struct brick_move *move = move_at(volume, i);
        const struct brick_spec *peer = move_peer(volume, move);
        /* A move that was canceled ends with the new brick's leave; it is about its peer all the same. */
        if ((peer && brick_is_on(peer, device)) || brick_is_on(&move->brick, device))
            return move;
    }
    return NULL;
}

bool volume_uses_device(const struct volume *volume, const char *device)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (brick_is_on(&bricks[i], device))
            return true;
    for (size_t i = 0; i < volume->spec.moves.count; i++)
        if (brick_is_on(&move_at(volume, i)->brick, device))
            return true;
    return false;
}

/* ---- Beginning ---- */

static void add_move(struct volume *volume, size_t index, const char *target, uint64_t port, bool in_place,
                     uint64_t base)
{
    struct volume_spec *spec = &volume->spec;
    uint64_t replaces = brick_number(spec->bricks.items, index);
    uint64_t size = ((const struct brick_spec *)spec->bricks.items)[index].size;
    spec->bricks_made = (spec->bricks_made ? spec->bricks_made : spec->bricks.count) + 1;
    struct brick_move *move = object_list_add(&spec->moves, sizeof *move);
    *move = (struct brick_move){
        .brick = {.node = object_name_part(target, 0),
                  .device = object_name_part(target, 1),
                  .port = port,
                  .size = size,
                  .serial = spec->bricks_made,
                  .set_serial = ((const struct brick_spec *)spec->bricks.items)[index].set_serial},
        .replaces = replaces,
        .step = MOVE_PREPARE,
        .in_place = in_place,
        .base = base,
    };
    volume->meta.generation++;
}

static bool is_dispersed(const struct volume *volume)
{
    return volume->spec.template_name == TEMPLATE_DISPERSE;
}

/* A set of disperse has no place for one brick more, nor has one with a witness for a second one. */
static bool goes_in_place(const struct volume *volume, size_t index)
{
    return is_dispersed(volume) || layout_is_witness(&volume->spec, index);
}

int move_check_may_begin(const struct volume *volume, size_t index, bool lost, struct error **ret_error)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    if (volume->meta.deleting)
        return error_set(ret_error, EBUSY, "volume %s is being deleted", volume->meta.name);
    if (volume->spec.state != VOLUME_STARTED)
        return error_set(ret_error, EBUSY,
                         "volume %s is stopped, so that nothing of it can be healed: start it",
                         volume->meta.name);
    if (volume->spec.moves.count)
        return error_set(ret_error, EBUSY, "volume %s has a brick on its way already", volume->meta.name);
    if (volume->spec.leaving)
        return error_set(ret_error, EBUSY,
                         "a set of bricks is being taken out of volume %s: wait for that, or cancel its job",
                         volume->meta.name);
    if (lost && !layout_heals(&volume->spec))
        return error_set(ret_error, EIO,
                         "volume %s has its only copy on device %s/%s: bring the disk back, or delete the "
                         "volume with force",
                         volume->meta.name, bricks[index].node, bricks[index].device);
    return 0;
}

int move_begin(struct core *core, const char *volume_name, const char *device, const char *wanted,
               struct error **ret_error)
{
    scoped_lock(&core->placement_mutex);
    struct volume volume cleanup(cleanup_volume) = {0};
    int r = record_get(core, KIND_VOLUME, volume_name, &volume, ret_error);
    if (r < 0)
        return r;
    const struct brick_spec *bricks = volume.spec.bricks.items;
    size_t index = 0;
    while (index < volume.spec.bricks.count && !brick_is_on(&bricks[index], device))
        index++;
    if (index == volume.spec.bricks.count)
        return 0;
    bool lost = move_is_lost(core, &volume, &bricks[index]);
    r = move_check_may_begin(&volume, index, lost, ret_error);
    autofree char *target = NULL;
    uint64_t base = 0, port = 0;
    if (r == 0)
        r = placement_move(core, &volume, index, wanted, &target, &base, ret_error);
    autofree char *node = r == 0 ? object_name_part(target, 0) : NULL;
    struct string_list none = {0};
    if (r == 0)
        r = placement_port(core, node, &none, &port, ret_error);
    if (r < 0)
        return r;
    add_move(&volume, index, target, port, lost || goes_in_place(&volume, index), base);

    autofree char *key = xasprintf("ports/%s/%llu", node, (unsigned long long)port);
    autofree char *value = xasprintf("\"volumes/%s\"", volume_name);
    struct txn txn = {0};
    txn_put_text(&txn, key, value, 0);
    txn_put(&txn, KIND_VOLUME, &volume, volume.meta.revision);
    r = txn_commit(core, &txn, ret_error);
    txn_clear(&txn);
    return r == -ESTALE ? -EAGAIN : r;
}

/* ---- Recording a step ---- */

struct next_step {
    uint64_t number; /* of the move's brick before */
    int from, to;
    bool swap;
};

static void swap_bricks(struct volume *volume, struct brick_move *move)
{
    struct brick_spec *peer = move_peer(volume, move);
    if (!peer)
        return;
    struct brick_spec old = *peer;
    old.serial = move->replaces + 1;
    *peer = move->brick;
    move->replaces = move_number(move);
    move->brick = old;
}

static bool set_step(void *object, void *data)
{
    struct volume *volume = object;
    const struct next_step *next = data;
    for (size_t i = 0; i < volume->spec.moves.count; i++) {
        struct brick_move *move = move_at(volume, i);
        if (move_number(move) != next->number || move->step != next->from)
            continue;
        if (next->swap)
            swap_bricks(volume, move);
        move->step = next->to;
        volume->meta.generation++;
        return true;
    }
    return false;
}

static int record_step(struct core *core, const struct volume *volume, const struct brick_move *move, int to,
                       bool swap, struct error **ret_error)
{
    struct next_step next = {.number = move_number(move), .from = move->step, .to = to, .swap = swap};
    int r = record_update(core, KIND_VOLUME, volume->meta.name, volume->meta.uid, set_step, &next, ret_error);
    return r < 0 ? r : -EAGAIN;
}

int move_cancel(struct core *core, const struct volume *volume, const struct brick_move *move,
                struct error **ret_error)
{
    if (move_has_swapped(move))
        return 0; /* it goes on to its end: there is nothing to go back to */
    int to = move->step == MOVE_PREPARE ? MOVE_LEFT : MOVE_LEAVE;
    int r = record_step(core, volume, move, to, false, ret_error);
    return r == -EAGAIN ? 0 : r;
}

/* ---- Steps ---- */

static int mark_new(struct core *core, const struct volume *volume, const struct brick_move *move,
                    struct error **ret_error)
{
    struct record_list nodes = {.kind = KIND_NODE};
    autofree char *path = NULL, *brick = NULL;
    autofree char *log = xasprintf("%s/client-%s.log", core->config->log_dir, volume->meta.name);
    int r = record_list(core, KIND_NODE, NULL, &nodes, ret_error);
    if (r == 0)
        r = engine_marking_volfile(core->engine, volume, move, nodes.list.items, nodes.list.count, &path,
                                   &brick, ret_error);
    record_list_clear(&nodes);
    if (r == 0)
        r = image_mark_behind(volume->meta.name, path, log, brick, ret_error);
    return r;
}

static int prepare(struct core *core, const struct volume *volume, const struct brick_move *move,
                   struct error **ret_error)
{
    uint64_t pending;
    int r = move_require_online(core, volume, &move->brick, &pending, ret_error);
    if (r == 0)
        r = move_check_rest(core, volume, move, ret_error);
    if (r == 0 && !is_dispersed(volume))
        r = mark_new(core, volume, move, ret_error);
    /* A brick that nobody knows to be behind would pass for whole. */
    if (r == 0 && !is_dispersed(volume))
        r = engine_move_is_marked(core->engine, volume, move_number(move), ret_error);
    if (r < 0)
        return r;
    fault_point("move.after-mark");
    return record_step(core, volume, move, move->in_place ? MOVE_SWAP_JOIN : MOVE_JOIN, move->in_place,
                       ret_error);
}

static int drop(struct core *core, const struct volume *volume, const struct brick_move *move,
                struct error **ret_error)
{
    int r = engine_brick_erase(core->engine, volume, &move->brick, ret_error);
    if (r < 0)
        return r;
    fault_point("move.after-erase");
    struct volume edited cleanup(cleanup_volume) = {0};
    schema_copy(&volume_schema, &edited, volume);
    struct object_list *moves = &edited.spec.moves;
    for (size_t i = 0; i < moves->count; i++)
        if (move_at(&edited, i)->brick.serial == move->brick.serial) {
            schema_clear(&brick_move_schema, move_at(&edited, i));
            memmove(move_at(&edited, i), move_at(&edited, i + 1), (--moves->count - i) * sizeof *move);
        }
    edited.meta.generation++;

    struct txn txn = {0};
    txn_put(&txn, KIND_VOLUME, &edited, volume->meta.revision);
    r = txn_delete_port(core, &txn, &move->brick, ret_error);
    if (r == 0)
        r = txn_commit(core, &txn, ret_error);
    txn_clear(&txn);
    return r == -ESTALE || r == 0 ? -EAGAIN : r;
}

/* When the clients were told is known by the volume's volfile, which bring_up() has just written. */
static int when_told(struct core *core, const struct volume *volume, const struct brick_move *move, int to,
                     struct error **ret_error)
{
    hosting_refresh(core->hosting, volume->meta.name);
    int r = engine_clients_told(core->engine, volume, move, ret_error);
    return r < 0 ? r : record_step(core, volume, move, to, false, ret_error);
}

/* Disperse takes its notes when the new brick has its place, and a heal that went on may take them away. */
static int keep_marked(struct core *core, const struct volume *volume, const struct brick_move *move,
                       struct error **ret_error)
{
    if (!is_dispersed(volume) || engine_move_is_marked(core->engine, volume, move->replaces, NULL) == 0)
        return 0;
    int r = mark_new(core, volume, move, ret_error);
    fault_point("move.swap-mark");
    return r;
}

/* The next step, once the new brick is whole. */
static int when_whole(struct core *core, const struct volume *volume, const struct brick_move *move, int to,
                      struct error **ret_error)
{
    int r = move_check_whole(core, volume, move, ret_error);
    return r < 0 ? r : record_step(core, volume, move, to, !move_has_swapped(move), ret_error);
}

/* A disk that dies while it is emptied: its brick is left out at once, and others fill the new one. */
static bool old_is_lost(struct core *core, const struct volume *volume, const struct brick_move *move)
{
    return layout_heals(&volume->spec) && move_is_lost(core, volume, move_peer(volume, move));
}

static int advance(struct core *core, const struct volume *volume, const struct brick_move *move,
                   struct error **ret_error)
{
    if (!move_peer(volume, move))
        return error_set(ret_error, EUCLEAN, "volume %s has no brick %llu, which a move is about",
                         volume->meta.name, (unsigned long long)move->replaces);
    int r;
    if ((move->step == MOVE_JOIN || move->step == MOVE_HEAL) && old_is_lost(core, volume, move))
        return record_step(core, volume, move, MOVE_SWAP_JOIN, true, ret_error);
    switch (move->step) {
    case MOVE_PREPARE:
        return prepare(core, volume, move, ret_error);
    case MOVE_JOIN:
        fault_point("move.join");
        return when_told(core, volume, move, MOVE_HEAL, ret_error);
    case MOVE_HEAL:
        fault_point("move.heal");
        return when_whole(core, volume, move, MOVE_LEAVE, ret_error);
    case MOVE_SWAP_JOIN:
        fault_point("move.swap-join");
        return when_told(core, volume, move, MOVE_SWAP_HEAL, ret_error);
    case MOVE_SWAP_HEAL:
        fault_point("move.swap-heal");
        r = keep_marked(core, volume, move, ret_error);
        return r < 0 ? r : when_whole(core, volume, move, MOVE_LEFT, ret_error);
    case MOVE_LEAVE:
        fault_point("move.leave");
        return when_told(core, volume, move, MOVE_LEFT, ret_error);
    case MOVE_LEFT:
        fault_point("move.left");
        return drop(core, volume, move, ret_error);
    default:
        return 0;
    }
}

/* The node that has the new brick leads; once that is whole, the one that has the old one, to erase it. */
static bool leads(struct core *core, const struct volume *volume, const struct brick_move *move)
{
    const struct brick_spec *peer = move_peer(volume, move);
    bool by_peer = move->step == MOVE_SWAP_JOIN || move->step == MOVE_SWAP_HEAL;
    const struct brick_spec *brick = by_peer && peer ? peer : &move->brick;
    return strcmp(brick->node, core->node) == 0;
}

int moves_advance(struct core *core, const struct volume *volume, struct error **ret_error)
{
    int result = 0;
    for (size_t i = 0; i < volume->spec.moves.count; i++) {
        const struct brick_move *move = move_at(volume, i);
        autoerror struct error *problem = NULL;
        if (!leads(core, volume, move))
            continue;
        int r = advance(core, volume, move, &problem);
        move_note(core, volume->meta.name, problem ? error_message(problem) : NULL);
        if (r < 0 && r != -EAGAIN && !result)
            error_set(ret_error, -r, "%s", error_message(problem));
        result = result ? result : r;
    }
    if (!volume->spec.moves.count)
        move_note(core, volume->meta.name, NULL);
    return result;
}
