/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What a brick's move waits for. Each check says it as an error, -EAGAIN, and the last one of a volume is
 * kept for the job that moves its bricks.
 */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/volume_layout.h"

/* ---- Notes ---- */

/* The place of the volume's note, "VOLUME TEXT"; with the lock held. */
static size_t find_note(const struct core *core, const char *volume)
{
    size_t length = strlen(volume), i = 0;
    while (i < core->move_notes.count && (strncmp(core->move_notes.items[i], volume, length) != 0 ||
                                          core->move_notes.items[i][length] != ' '))
        i++;
    return i;
}

void move_note(struct core *core, const char *volume, const char *text)
{
    scoped_lock(&core->notes_mutex);
    size_t place = find_note(core, volume);
    if (place < core->move_notes.count) {
        free(core->move_notes.items[place]);
        core->move_notes.items[place] = core->move_notes.items[--core->move_notes.count];
    }
    if (text)
        string_list_addf(&core->move_notes, "%s %s", volume, text);
}

static char *read_note(struct core *core, const char *volume)
{
    scoped_lock(&core->notes_mutex);
    size_t place = find_note(core, volume);
    return place < core->move_notes.count ? xstrdup(core->move_notes.items[place] + strlen(volume) + 1)
                                          : NULL;
}

char *move_describe(struct core *core, const struct volume *volume, const struct brick_move *move)
{
    static const char *const doing[] = {
        [MOVE_PREPARE] = "starts the new brick",
        [MOVE_JOIN] = "tells clients of the new brick",
        [MOVE_HEAL] = "fills the new brick",
        [MOVE_SWAP_JOIN] = "tells clients of the new brick",
        [MOVE_SWAP_HEAL] = "fills the new brick",
        [MOVE_LEAVE] = "tells clients to forget the brick that goes",
        [MOVE_LEFT] = "erases the brick that goes",
    };
    const struct brick_spec *peer = move_peer(volume, move);
    const struct brick_spec *from = move_has_swapped(move) || !peer ? &move->brick : peer;
    const struct brick_spec *to = from == &move->brick && peer ? peer : &move->brick;
    struct strbuf text = {0};
    strbuf_addf(&text, "volume %s: from %s/%s to %s/%s: %s", volume->meta.name, from->node, from->device,
                to->node, to->device, doing[move->step]);
    autofree char *note = read_note(core, volume->meta.name);
    if (note)
        strbuf_addf(&text, "; waits: %s", note);
    return strbuf_steal(&text);
}

/* ---- Bricks ---- */

bool move_is_lost(struct core *core, const struct volume *volume, const struct brick_spec *brick)
{
    struct brick_status status = {0};
    engine_brick_status(core->engine, volume, brick, &status);
    bool online = string_equal(status.state, "online"), failed = string_equal(status.state, "failed");
    schema_clear(&brick_status_schema, &status);
    if (online || failed)
        return failed;
    struct device device cleanup(cleanup_device) = {0};
    autofree char *name = xasprintf("%s/%s", brick->node, brick->device);
    int r = record_get(core, KIND_DEVICE, name, &device, NULL);
    return r == -ENOENT || (r == 0 && string_equal(device.status.phase, "failed"));
}

int move_require_online(struct core *core, const struct volume *volume, const struct brick_spec *brick,
                        uint64_t *ret_pending, struct error **ret_error)
{
    struct brick_status status = {0};
    engine_brick_status(core->engine, volume, brick, &status);
    int r = 0;
    if (!string_equal(status.state, "online"))
        r = error_set(ret_error, EAGAIN, "the brick of volume %s on %s/%s is %s%s%s", volume->meta.name,
                      brick->node, brick->device, status.state, status.error ? ": " : "",
                      status.error ? status.error : "");
    *ret_pending = status.heal_pending;
    schema_clear(&brick_status_schema, &status);
    return r;
}

/* The first brick of the set of the volume's brick at `place`. */
static size_t first_of_set(const struct volume *volume, size_t place)
{
    size_t each = layout_set_bricks(&volume->spec);
    return place / each * each;
}

static int wait_for_heals(const struct volume *volume, uint64_t files, struct error **ret_error)
{
    return error_set(ret_error, EAGAIN, "%llu file%s of volume %s to heal", (unsigned long long)files,
                     files == 1 ? "" : "s", volume->meta.name);
}

/* All bricks of the set but the one at `but` serve; *ret_pending: what the one with most to heal has. */
static int check_set(struct core *core, const struct volume *volume, size_t place, size_t but,
                     uint64_t *ret_pending, struct error **ret_error)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    size_t first = first_of_set(volume, place);
    *ret_pending = 0;
    for (size_t i = first; i < first + layout_set_bricks(&volume->spec); i++) {
        uint64_t pending = 0;
        int r = i == but ? 0 : move_require_online(core, volume, &bricks[i], &pending, ret_error);
        if (r < 0)
            return r;
        *ret_pending = pending > *ret_pending ? pending : *ret_pending;
    }
    return 0;
}

static size_t place_of(const struct volume *volume, const struct brick_move *move)
{
    return (size_t)(move_peer(volume, move) - (const struct brick_spec *)volume->spec.bricks.items);
}

/* ---- Fragments ---- */

static bool is_dispersed(const struct volume *volume)
{
    return volume->spec.template_name == TEMPLATE_DISPERSE;
}

static int check_fragments(struct core *core, const struct volume *volume, uint64_t number, bool others,
                           struct error **ret_error)
{
    autoerror struct error *problem = NULL;
    uint64_t files = 0;
    int r = engine_fragments_behind(core->engine, volume, number, others, &files, &problem);
    if (r < 0)
        return error_set(ret_error, EAGAIN, "%s", error_message(problem));
    if (files == 0)
        return 0;
    /* Disperse's own next round may be a minute away, and each round makes new notes. */
    (void)engine_heal_start(core->engine, volume, false, NULL);
    return wait_for_heals(volume, files, ret_error);
}

/* ---- Before an old brick is left out ---- */

static int check_quorum(struct core *core, const struct volume *volume, size_t place,
                        struct error **ret_error)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    size_t first = first_of_set(volume, place), each = layout_set_bricks(&volume->spec), online = 0;
    size_t quorum = layout_set_quorum(&volume->spec);
    for (size_t i = first; i < first + each; i++) {
        uint64_t pending;
        online += i != place && move_require_online(core, volume, &bricks[i], &pending, NULL) == 0;
    }
    if (online >= quorum)
        return 0;
    return error_set(ret_error, EAGAIN,
                     "set %zu of volume %s has %zu of its %zu bricks online, and needs %zu to make a new one",
                     place / each, volume->meta.name, online, each, quorum);
}

int move_check_rest(struct core *core, const struct volume *volume, const struct brick_move *move,
                    struct error **ret_error)
{
    size_t place = place_of(volume, move);
    uint64_t pending = 0;
    if (!move->in_place)
        return 0;
    if (move_is_lost(core, volume, move_peer(volume, move)))
        return check_quorum(core, volume, place, ret_error);
    int r = check_set(core, volume, place, place, &pending, ret_error);
    if (r < 0)
        return r;
    if (is_dispersed(volume))
        return check_fragments(core, volume, move->replaces, true, ret_error);
    return pending ? wait_for_heals(volume, pending, ret_error) : 0;
}

/* ---- Before the old brick is given up ---- */

/* All bricks of the set serve, and none knows of a file that another one lacks. */
static int check_copies(struct core *core, const struct volume *volume, const struct brick_move *move,
                        struct error **ret_error)
{
    uint64_t pending = 0, own = 0;
    int r = move_has_swapped(move) ? 0 : move_require_online(core, volume, &move->brick, &own, ret_error);
    if (r == 0)
        r = check_set(core, volume, place_of(volume, move), SIZE_MAX, &pending, ret_error);
    pending = own > pending ? own : pending;
    return r == 0 && pending ? wait_for_heals(volume, pending, ret_error) : r;
}

/*
 * A heal notes what it is about to fill before it takes back its own note, so that an index which is empty
 * stays so; looked at twice, because an index is not read at one moment.
 */
int move_check_whole(struct core *core, const struct volume *volume, const struct brick_move *move,
                     struct error **ret_error)
{
    uint64_t number = move_has_swapped(move) ? move->replaces : move_number(move), pending;
    if (is_dispersed(volume)) {
        int r = check_set(core, volume, place_of(volume, move), SIZE_MAX, &pending, ret_error);
        return r < 0 ? r : check_fragments(core, volume, number, false, ret_error);
    }
    int r = engine_move_is_marked(core->engine, volume, number, NULL);
    if (r != -ENOENT)
        return error_set(ret_error, EAGAIN, "the root folder of volume %s is to be healed",
                         volume->meta.name);
    for (unsigned i = 0; i < 2; i++) {
        r = check_copies(core, volume, move, ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}
