/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Has a brick of a set of fragments all that it must have? Disperse counts the changes of a file or folder on
 * each brick, and no more on one that missed something, until a heal has made that good. So whoever has the
 * same count as the others is whole. A file that is written stands in the index all the time: that the index
 * names a file says nothing, its copies do.
 */
#include "blockd/engine/heal_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"

#define LOOKS_MAX 6

static const struct gfid root = {.bytes = {[GFID_SIZE - 1] = 1}};

/* ---- One file ---- */

/* The copy that most bricks agree on, without brick `but`; NULL when none exists. */
static const struct heal_copy *common_copy(const struct heal_copy *copies, size_t width, size_t but)
{
    const struct heal_copy *best = NULL;
    size_t most = 0;
    for (size_t i = 0; i < width; i++) {
        size_t same = 0;
        for (size_t k = 0; i != but && copies[i].exists && k < width; k++)
            same += k != but && copies[k].exists &&
                    memcmp(copies[i].version, copies[k].version, sizeof copies[i].version) == 0;
        if (same > most) {
            most = same;
            best = &copies[i];
        }
    }
    return best;
}

static bool same_attributes(const struct stat *a, const struct stat *b)
{
    return a->st_mode == b->st_mode && a->st_uid == b->st_uid && a->st_gid == b->st_gid;
}

/*
 * Nothing is counted before a first change has ended: of a file that is written for the first time the data
 * tells; a folder or a link is marked in that state by a heal only, which has just made it.
 */
static bool is_unborn(const struct heal_copy *copy, const struct heal_copy *good)
{
    static const uint64_t nothing[2];
    if (memcmp(good->version, nothing, sizeof nothing) != 0 || !(good->changing[0] || good->changing[1]))
        return false;
    return !S_ISREG(good->stat.st_mode) || (good->stat.st_size && !copy->stat.st_size);
}

static bool is_behind(const struct heal_copy *copies, size_t width, size_t brick)
{
    const struct heal_copy *copy = &copies[brick], *good = common_copy(copies, width, brick);
    if (!good) /* it is removed */
        return false;
    return !copy->exists || memcmp(copy->version, good->version, sizeof copy->version) != 0 ||
           !same_attributes(&copy->stat, &good->stat) || is_unborn(copy, good);
}

/* ---- All files of which a brick has noted something ---- */

struct look {
    struct gfid_list noted, folders;
    uint64_t behind;
};

static void look_clear(struct look *look)
{
    gfid_list_clear(&look->noted);
    gfid_list_clear(&look->folders);
}

static struct gfid_list list_noted(const struct heal_set *set)
{
    struct gfid_list all = {.items = xcalloc(1, sizeof root), .count = 1};
    all.items[0] = root;
    for (size_t i = 0; i < set->width; i++) {
        struct heal_index index = {0};
        heal_index_read(set->folders[i], HEAL_INDEX_PENDING, &index);
        struct gfid_list more = gfid_list_union(&all, &index.files);
        gfid_list_clear(&index.files);
        gfid_list_clear(&all);
        all = more;
    }
    return all;
}

static bool is_folder(const struct heal_copy *copies, size_t width)
{
    for (size_t i = 0; i < width; i++)
        if (copies[i].exists && S_ISDIR(copies[i].stat.st_mode))
            return true;
    return false;
}

/* `brick` of the set, or `others`: all but that one. */
static void look_at_all(const struct heal_set *set, size_t brick, bool others, struct look *ret_look)
{
    struct look look = {.noted = list_noted(set)};
    look.folders.items = xcalloc(look.noted.count + 1, sizeof root);
    for (size_t i = 0; i < look.noted.count; i++) {
        struct heal_copy copies[HEAL_WIDTH_MAX];
        bool behind = false;
        heal_look(set, &look.noted.items[i], copies);
        for (size_t k = 0; k < set->width; k++)
            behind |= (k == brick) != others && is_behind(copies, set->width, k);
        look.behind += behind;
        if (is_folder(copies, set->width))
            look.folders.items[look.folders.count++] = look.noted.items[i];
    }
    *ret_look = look;
}

/*
 * A heal notes what it is about to fill before it takes back its own note. So of two looks that find nothing
 * the second saw all notes, unless it found a folder that is new: that one may have been healed since it was
 * listed, after it had made notes which were not.
 */
static bool follows(const struct look *before, const struct look *look)
{
    for (size_t i = 0; i < look->folders.count; i++)
        if (!gfid_list_has(&before->noted, &look->folders.items[i]))
            return false;
    return !before->behind && !look->behind;
}

static uint64_t count_behind(const struct heal_set *set, size_t brick, bool others)
{
    struct look before cleanup(look_clear) = {.behind = 1};
    for (unsigned i = 0; i < LOOKS_MAX; i++) {
        struct look look = {0};
        look_at_all(set, brick, others, &look);
        bool whole = i && follows(&before, &look);
        look_clear(&before);
        before = look;
        if (whole)
            return 0;
    }
    return before.behind ? before.behind : 1;
}

/* ---- Asking ---- */

/* The set of the brick with that number, and its place there. */
static int open_set(struct engine *engine, const struct volume *volume, uint64_t number,
                    struct heal_set *ret_set, size_t *ret_place, struct error **ret_error)
{
    size_t child = 0;
    while (child < volume_children(volume) && volume_child_number(volume, child) != number)
        child++;
    if (child == volume_children(volume))
        return error_set(ret_error, ENOENT, "volume %s has no brick %llu", volume->meta.name,
                         (unsigned long long)number);
    heal_set_open(engine, volume, volume_child_set(volume, child), ret_set);
    *ret_place = 0;
    while (ret_set->children[*ret_place] != child)
        ++*ret_place;
    return 0;
}

static int look(struct device_call *call, struct error **ret_error)
{
    const struct volume *volume = &call->volume;
    struct heal_set set cleanup(heal_set_close) = {0};
    size_t place;
    int r = open_set(call->engine, volume, call->number, &set, &place, ret_error);
    for (size_t i = 0; r == 0 && i < set.width; i++) {
        autofree char *name = heal_brick_name(volume, set.children[i]);
        if (!set.folders[i])
            r = error_set(ret_error, ENODEV, "volume %s: the brick on %s cannot be looked at",
                          volume->meta.name, name);
    }
    if (r == 0)
        call->length = count_behind(&set, place, call->flag);
    return r;
}

/* Another brick has noted that one is behind, or the new one is whole by now. */
static int look_for_mark(struct device_call *call, struct error **ret_error)
{
    static const uint64_t nothing[2];
    struct heal_set set cleanup(heal_set_close) = {0};
    struct heal_copy copies[HEAL_WIDTH_MAX];
    size_t place;
    int r = open_set(call->engine, &call->volume, call->number, &set, &place, ret_error);
    if (r < 0)
        return r;
    heal_look(&set, &root, copies);
    bool marked = false;
    for (size_t i = 0; i < set.width; i++) {
        const uint64_t *version = copies[i].version;
        bool equal = memcmp(version, copies[place].version, sizeof nothing) == 0;
        marked |= i != place && copies[i].exists &&
                  (equal ? memcmp(version, nothing, sizeof nothing) != 0
                         : copies[i].changing[0] || copies[i].changing[1]);
    }
    return marked ? 0 : -ENOENT;
}

static struct device_call *call_of(struct engine *engine, const struct volume *volume, uint64_t number)
{
    struct device_call *call = device_call_new(engine, NULL);
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (brick_is_local(engine, volume_brick(volume, i)))
            string_list_add(&call->names, volume_brick(volume, i)->device);
    call->number = number;
    return call;
}

bool fragments_are_marked(struct engine *engine, const struct volume *volume, uint64_t number)
{
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, volume, number);
    schema_copy(&volume_schema, &call->volume, volume);
    return device_call_run(call, look_for_mark, NULL) == 0;
}

int engine_fragments_behind(struct engine *engine, const struct volume *volume, uint64_t number, bool others,
                            uint64_t *ret_files, struct error **ret_error)
{
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, volume, number);
    heal_volume(volume, &call->volume);
    call->flag = others;
    int r = device_call_run(call, look, ret_error);
    if (r == 0)
        *ret_files = call->length;
    return r;
}
