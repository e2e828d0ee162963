/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Blocks in volumes of several sets of bricks. A file lies in one set, never striped: a block's whole size
 * must be free of promises in the set where its file lands. Distribute takes that from the file's name, so a
 * new block is given a name that lands where there is room. A share counts with a like part in each set, and
 * so does a block of which it is not known where it lies.
 *
 * The blocks' records say in which set each lies; the revision of the volume's promises, which change with
 * every block, is what a change that was checked here must still find.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/base/uuid.h"
#include "rpc/volume_layout.h"

#define STORE        "/block-store"
#define HASHED_XATTR "dht.file.hashed-subvol." /* and a file's name, asked of the folder */
#define PLACE_XATTR  "trusted.glusterfs.pathinfo"
#define NAMES_MAX    200 /* tried for one new block; one in two lands well in a volume of two sets */

/* ---- Where a file lies ---- */

/* The serial of the set that a translator is for, "V-replicate-N", "V-disperse-N" or
 * "V-single-N"; 0: none. */
static uint64_t serial_of(const struct volume *volume, const char *name)
{
    static const char *const roles[] = {"replicate", "disperse", "single"};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        autofree char *prefix = xasprintf("%s-%s-", volume->meta.name, roles[i]);
        if (string_starts_with(name, prefix))
            return strtoull(name + strlen(prefix), NULL, 10) + 1;
    }
    return 0;
}

/* The set that has a brick of that folder. */
static uint64_t serial_of_folder(const struct volume *volume, const char *text)
{
    const struct brick_status *bricks = volume->status.bricks.items;
    uint64_t serial = 0;
    for (size_t i = 0; i < volume->status.bricks.count; i++) {
        autofree char *word = xasprintf(":%s/", bricks[i].path ? bricks[i].path : "//");
        uint64_t own = layout_set_number(&volume->spec, i / layout_set_bricks(&volume->spec)) + 1;
        if (!strstr(text, word))
            continue;
        if (serial && serial != own)
            return 0; /* of several nodes that call their folders alike */
        serial = own;
    }
    return serial;
}

uint64_t block_sets_parse_place(const struct volume *volume, const char *text)
{
    for (const char *next = text; (next = strpbrk(next, "<"));) {
        const char *colon = strchr(++next, ':');
        uint64_t serial = colon ? serial_of(volume, colon + 1) : 0;
        if (serial)
            return serial;
    }
    return serial_of_folder(volume, text);
}

uint64_t block_locate(struct core *core, const struct volume *volume, const char *file)
{
    struct image_volume *connection = NULL;
    autofree char *text = NULL;
    if (layout_sets(&volume->spec) < 2 ||
        hosting_get(core->hosting, volume->meta.name, &connection, NULL) < 0)
        return 0;
    int r = files_get_mark(connection, file, PLACE_XATTR, &text, NULL);
    hosting_put(core->hosting, connection);
    return r == 0 ? block_sets_parse_place(volume, text) : 0;
}

static bool set_serial(void *object, void *data)
{
    struct block *block = object;
    uint64_t serial = *(const uint64_t *)data;
    bool changed = block->status.set != serial;
    block->status.set = serial;
    return changed;
}

uint64_t block_note_set(struct core *core, const struct volume *volume, const struct block *block)
{
    uint64_t serial = block_locate(core, volume, block->spec.storage);
    if (serial && serial != block->status.set)
        (void)record_update(core, KIND_BLOCK, block->meta.name, block->meta.uid, set_serial, &serial, NULL);
    return serial;
}

void blocks_note_sets(struct core *core, const char *name)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    struct record_list blocks = {.kind = KIND_BLOCK};
    if (record_get(core, KIND_VOLUME, name, &volume, NULL) < 0 || volume.meta.deleting ||
        volume_require_online(core, &volume, NULL) < 0 ||
        record_list_readable(core, KIND_BLOCK, name, &blocks, NULL) < 0)
        return;
    for (size_t i = 0; i < blocks.list.count; i++)
        if (!RECORD(&blocks, block, i)->meta.deleting)
            block_note_set(core, &volume, RECORD(&blocks, block, i));
    record_list_clear(&blocks);
}

/* ---- Room ---- */

static uint64_t times(uint64_t size, double factor)
{
    double product = (double)size * factor;
    return product < (double)INT64_MAX ? (uint64_t)product : INT64_MAX;
}

/* Distribute would put a new file elsewhere: less than a tenth of the disk is free (min-free-disk). */
static bool is_filled(const struct volume *volume, size_t set)
{
    const struct brick_status *bricks = volume->status.bricks.items;
    size_t each = layout_set_bricks(&volume->spec);
    for (size_t i = set * each; i < (set + 1) * each && i < volume->status.bricks.count; i++)
        if (!layout_is_witness(&volume->spec, i) && bricks[i].free < bricks[i].size / 10)
            return true;
    return false;
}

void block_sets_clear(struct block_sets *sets)
{
    free(sets->items);
    *sets = (struct block_sets){0};
}

static void add(struct block_sets *sets, uint64_t serial, uint64_t bytes)
{
    for (size_t i = 0; i < sets->count; i++)
        if (sets->items[i].serial == serial) {
            sets->items[i].promised += bytes;
            return;
        }
    for (size_t i = 0; i < sets->count; i++)
        if (!sets->items[i].leaving)
            sets->items[i].promised += bytes / sets->takers + (bytes % sets->takers != 0);
}

/* `volume` with its live status. */
static void begin(const struct volume *volume, struct block_sets *ret_sets)
{
    struct block_sets sets = {.volume = volume->meta.name, .count = volume->status.sets.count};
    sets.items = xcalloc(sets.count + 1, sizeof *sets.items);
    for (size_t i = 0; i < sets.count; i++) {
        const struct set_status *seen = (const struct set_status *)volume->status.sets.items + i;
        sets.items[i] = (struct block_set){
            .serial = layout_set_number(&volume->spec, i) + 1,
            .place = i,
            .leaving = seen->leaving,
            .limit = times(seen->size, volume->spec.overcommit),
            .free = seen->free,
            .filled = is_filled(volume, i),
        };
        sets.takers += !seen->leaving;
    }
    *ret_sets = sets;
}

int block_sets_read(struct core *core, const struct volume *volume, const char *except,
                    struct block_sets *ret_sets, struct error **ret_error)
{
    struct record_list blocks = {.kind = KIND_BLOCK}, shares = {.kind = KIND_SHARE};
    struct block_sets sets cleanup(block_sets_clear) = {0};
    begin(volume, &sets);
    int r = ledger_revision(core, volume->meta.name, &sets.revision, ret_error);
    if (r == 0)
        r = record_list_readable(core, KIND_BLOCK, volume->meta.name, &blocks, ret_error);
    if (r == 0)
        r = record_list_readable(core, KIND_SHARE, volume->meta.name, &shares, ret_error);
    for (size_t i = 0; r == 0 && sets.takers && i < blocks.list.count; i++) {
        const struct block *block = RECORD(&blocks, block, i);
        if (except && strcmp(block->meta.name, except) == 0)
            continue;
        /* Records of an older blockd do not say it. */
        uint64_t serial = block->status.set ? block->status.set : block_note_set(core, volume, block);
        add(&sets, serial, block->spec.size);
    }
    for (size_t i = 0; r == 0 && sets.takers && i < shares.list.count; i++)
        add(&sets, 0, RECORD(&shares, share, i)->spec.size);
    record_list_clear(&blocks);
    record_list_clear(&shares);
    if (r < 0)
        return r;
    *ret_sets = sets;
    sets = (struct block_sets){0};
    return 0;
}

uint64_t block_set_room(const struct block_set *set, bool allocate)
{
    uint64_t room = set->leaving || set->promised > set->limit ? 0 : set->limit - set->promised;
    return allocate && set->free < room ? set->free : room;
}

static bool fits(const struct block_set *set, uint64_t size, bool allocate)
{
    return !set->leaving && block_set_room(set, allocate) >= size;
}

int block_sets_refuse(const struct block_sets *sets, const char *what, uint64_t size, bool allocate,
                      struct error **ret_error)
{
    autostrbuf struct strbuf rooms = {0};
    char text[SIZE_TEXT_SIZE];
    for (size_t i = 0; i < sets->count; i++) {
        if (sets->items[i].leaving)
            continue;
        size_format(block_set_room(&sets->items[i], allocate), text);
        strbuf_addf(&rooms, "%sset %zu %s", rooms.length ? ", " : "", sets->items[i].place, text);
    }
    size_format(size, text);
    return error_set(ret_error, ENOSPC,
                     "%s of %s fits no set of bricks of volume %s, and lies in one of them; room that is not "
                     "promised%s: %s; add a set, delete blocks or shares, or raise the volume's overcommit",
                     what, text, sets->volume, allocate ? " and is free" : "",
                     rooms.length ? strbuf_string(&rooms) : "none");
}

int block_sets_check(const struct block_sets *sets, uint64_t serial, uint64_t size, bool allocate,
                     struct error **ret_error)
{
    for (size_t i = 0; i < sets->count; i++)
        if ((!serial || sets->items[i].serial == serial) && fits(&sets->items[i], size, allocate))
            return 0;
    return block_sets_refuse(sets, "a block", size, allocate, ret_error);
}

int share_sets_check(struct core *core, const struct volume *volume, uint64_t more, uint64_t *ret_revision,
                     struct error **ret_error)
{
    struct block_sets sets cleanup(block_sets_clear) = {0};
    int r = block_sets_read(core, volume, NULL, &sets, ret_error);
    if (r < 0)
        return r;
    *ret_revision = sets.revision;
    uint64_t part = sets.takers ? more / sets.takers + (more % sets.takers != 0) : more;
    for (size_t i = 0; i < sets.count; i++) {
        char text[SIZE_TEXT_SIZE], left[SIZE_TEXT_SIZE];
        if (sets.items[i].leaving || fits(&sets.items[i], part, false))
            continue;
        size_format(part, text);
        size_format(block_set_room(&sets.items[i], false), left);
        return error_set(
            ret_error, ENOSPC,
            "a share needs a like part in each set of bricks of volume %s, here %s: set %zu has %s "
            "that are not promised",
            volume->meta.name, text, sets.items[i].place, left);
    }
    return 0;
}

/* ---- A new block ---- */

static const struct block_set *find(const struct block_sets *sets, uint64_t serial)
{
    for (size_t i = 0; i < sets->count; i++)
        if (sets->items[i].serial == serial)
            return &sets->items[i];
    return NULL;
}

/* The set that a file of that name would be made in; 0: not known. */
static uint64_t hashed(struct image_volume *connection, const struct volume *volume, const char *name)
{
    autofree char *key = xasprintf(HASHED_XATTR "%s", name), *text = NULL;
    return files_get_mark(connection, STORE, key, &text, NULL) == 0 ? serial_of(volume, text) : 0;
}

int block_sets_place(struct core *core, const struct volume *volume, const struct block_sets *sets,
                     struct block *block, struct error **ret_error)
{
    bool allocate = block->spec.prealloc == PREALLOC_FULL;
    struct image_volume *connection = NULL;
    int r = block_sets_check(sets, 0, block->spec.size, allocate, ret_error);
    if (r == 0)
        r = hosting_get(core->hosting, volume->meta.name, &connection, ret_error);
    if (r < 0)
        return r;
    (void)files_make_folder(connection, STORE, 0700,
                            NULL); /* it is there, or the file's making tells why not */
    bool placed = false;
    for (unsigned tries = 0; !placed && tries < NAMES_MAX; tries++) {
        const struct block_set *set = find(sets, hashed(connection, volume, block->meta.uid));
        bool any = tries >= NAMES_MAX / 2; /* a set that is filled is no good, and may be the only one */
        block->status.set = set ? set->serial : 0;
        /* Where nobody says, it counts in all of them until it is there. */
        placed = !set || (fits(set, block->spec.size, allocate) && (!set->filled || any));
        if (placed)
            break;
        free(block->meta.uid);
        block->meta.uid = uuid_make();
    }
    hosting_put(core->hosting, connection);
    if (!placed)
        return error_set(
            ret_error, ENOSPC,
            "volume %s gives no new files yet to the sets of bricks that have room for the block: "
            "wait for its rebalance, or begin one",
            volume->meta.name);
    free(block->spec.storage);
    block->spec.storage = xasprintf(STORE "/%s", block->meta.uid);
    return 0;
}
