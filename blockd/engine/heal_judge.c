/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Which copies of a file are right. Each copy has, for each brick of its set, three counts of changes that
 * the brick missed (data, metadata, names in a folder), and the same for changes under way. What follows from
 * them is decided here as replicate decides it, so that what is called a split-brain is one for its clients
 * too.
 */
#include "blockd/engine/heal_priv.h"

#include <arpa/inet.h>
#include <endian.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>

#include "rpc/base/alloc.h"
#include "rpc/volume_layout.h"

#define DIRTY_XATTR "trusted.afr.dirty"
#define GFID_XATTR  "trusted.gfid"
/* Of fragments: counts of changes to data and metadata, and of those under way. */
#define VERSION_XATTR        "trusted.ec.version"
#define FRAGMENT_DIRTY_XATTR "trusted.ec.dirty"
#define NAMES_MAX            10000

size_t heal_sets(const struct volume *volume)
{
    size_t sets = layout_sets(&volume->spec);
    for (size_t i = 0; i < sets; i++)
        if (volume->spec.template_name == TEMPLATE_DISPERSE || volume_set_is_replicated(volume, i))
            return sets;
    return 0;
}

static bool is_witness(const struct heal_set *set, size_t brick)
{
    return volume_child_is_witness(set->volume, set->children[brick]);
}

static bool is_fragments(const struct heal_set *set)
{
    return set->volume->spec.template_name == TEMPLATE_DISPERSE;
}

void heal_set_open(struct engine *engine, const struct volume *volume, size_t number,
                   struct heal_set *ret_set)
{
    struct heal_set set = {.volume = volume, .number = number};
    for (size_t child = 0; child < volume_children(volume) && set.width < HEAL_WIDTH_MAX; child++) {
        if (volume_child_set(volume, child) != number)
            continue;
        size_t i = set.width++;
        const struct brick_spec *brick = volume_child(volume, child);
        set.children[i] = child;
        if (!brick_is_local(engine, brick) || device_check_mounted(engine, brick->device, NULL) < 0)
            continue;
        autofree char *id = xasprintf("brick.%s.%s", volume->meta.name, brick->device);
        cleanup(process_view_clear) struct process_view view = {.state = PROCESS_STOPPED};
        engine->supervisor->ops->look(engine->supervisor, id, &view);
        set.up[i] = view.pid != 0;
        set.folders[i] = brick_folder(engine, brick->device, volume->meta.name);
    }
    *ret_set = set;
}

void heal_set_close(struct heal_set *set)
{
    for (size_t i = 0; i < set->width; i++)
        free(set->folders[i]);
}

/* ---- Looking ---- */

static void read_counts(const char *handle, bool follow, const char *key, uint32_t counts[HEAL_TYPES])
{
    uint32_t value[HEAL_TYPES];
    ssize_t length =
        follow ? getxattr(handle, key, value, sizeof value) : lgetxattr(handle, key, value, sizeof value);
    for (int type = 0; length == sizeof value && type < HEAL_TYPES; type++)
        counts[type] = ntohl(value[type]);
}

static void read_fragment(const char *handle, bool follow, struct heal_copy *copy)
{
    static const char *const keys[] = {VERSION_XATTR, FRAGMENT_DIRTY_XATTR};
    for (size_t i = 0; i < 2; i++) {
        uint64_t value[2];
        uint64_t *counts = i == 0 ? copy->version : copy->changing;
        ssize_t length = follow ? getxattr(handle, keys[i], value, sizeof value)
                                : lgetxattr(handle, keys[i], value, sizeof value);
        for (int k = 0; length == sizeof value && k < 2; k++)
            counts[k] = be64toh(value[k]);
    }
}

static void look_at(const struct heal_set *set, size_t brick, const struct gfid *gfid, struct heal_copy *copy)
{
    *copy = (struct heal_copy){.unseen = !set->folders[brick]};
    if (copy->unseen)
        return;
    autofree char *handle = heal_handle(set->folders[brick], gfid);
    if (lstat(handle, &copy->stat) < 0)
        return;
    bool follow = S_ISLNK(copy->stat.st_mode) && heal_is_folder(handle);
    if (follow && stat(handle, &copy->stat) < 0)
        return;
    copy->exists = true;
    if (is_fragments(set)) {
        read_fragment(handle, follow, copy);
        return;
    }
    read_counts(handle, follow, DIRTY_XATTR, copy->dirty);
    for (size_t other = 0; other < set->width; other++) {
        autofree char *key =
            xasprintf("trusted.afr.%s-client-%llu", set->volume->meta.name,
                      (unsigned long long)volume_child_number(set->volume, set->children[other]));
        read_counts(handle, follow, key, copy->blames[other]);
    }
}

void heal_look(const struct heal_set *set, const struct gfid *gfid, struct heal_copy *copies)
{
    for (size_t brick = 0; brick < set->width; brick++)
        look_at(set, brick, gfid, &copies[brick]);
}

/* ---- Judging ---- */

/* A copy that blames itself is believed by nobody; a copy that fewer than a quorum blame may be right when
 * there is no better one: its change failed where the others' did. */
bool heal_has_no_source(const struct heal_copy *copies, size_t width, enum heal_type type)
{
    unsigned blamed[HEAL_WIDTH_MAX] = {0};
    for (size_t by = 0; by < width; by++)
        for (size_t other = 0; other < width; other++)
            blamed[other] += copies[by].blames[other][type] && !copies[by].blames[by][type];
    for (size_t brick = 0; brick < width; brick++)
        if (blamed[brick] < width / 2 + 1 && (copies[brick].exists || copies[brick].unseen))
            return false;
    return true;
}

static bool is_fresh(const struct heal_copy *copy, const struct timespec *now)
{
    return copy->exists && copy->stat.st_ctim.tv_sec + HEAL_QUIET_SECONDS > now->tv_sec;
}

/* The version that most bricks have; -1 when no brick of it can be seen. */
static int common_version(const struct heal_set *set, const struct heal_copy *copies)
{
    int best = -1;
    size_t most = 0;
    for (size_t i = 0; i < set->width; i++) {
        size_t same = 0;
        for (size_t k = 0; copies[i].exists && k < set->width; k++)
            same += copies[k].exists &&
                    memcmp(copies[i].version, copies[k].version, sizeof copies[i].version) == 0;
        if (same > most) {
            most = same;
            best = (int)i;
        }
    }
    return best;
}

/* Fragments blame nobody: the ones with another version than most have, and those that are missing, are
 * behind. */
static void judge_fragments(const struct heal_set *set, const struct heal_copy *copies,
                            const struct timespec *now, struct heal_verdict *verdict)
{
    int common = common_version(set, copies);
    bool changing = false, fresh = false;
    for (size_t i = 0; common >= 0 && i < set->width; i++) {
        const struct heal_copy *copy = &copies[i];
        if (copy->unseen)
            continue;
        changing |= copy->changing[0] || copy->changing[1];
        fresh |= is_fresh(copy, now);
        for (int type = HEAL_DATA; copy->exists && type <= HEAL_METADATA; type++)
            if (copy->version[type] != copies[common].version[type])
                verdict->kinds |= 1u << type;
        if (!copy->exists)
            verdict->kinds |= 1u << HEAL_ENTRY;
        if (!copy->exists || memcmp(copy->version, copies[common].version, sizeof copy->version) != 0)
            verdict->to |= UINT32_C(1) << i;
        if (copy->exists && S_ISREG(copy->stat.st_mode)) /* each holds a part of the data */
            verdict->size = (uint64_t)copy->stat.st_size * layout_set_data(&set->volume->spec);
    }
    if (verdict->kinds)
        verdict->state = fresh && changing ? HEAL_HEALING : HEAL_PENDING;
    else if (changing)
        verdict->state = fresh ? HEAL_DIRTY : HEAL_PENDING;
}

static void judge_copies(const struct heal_set *set, const struct heal_copy *copies,
                         const struct timespec *now, struct heal_verdict *ret_verdict)
{
    struct heal_verdict verdict = {.state = -1};
    bool dirty = false, fresh = false, healing = false;
    for (size_t by = 0; by < set->width; by++) {
        fresh |= is_fresh(&copies[by], now);
        if (!is_witness(set, by) && copies[by].exists && S_ISREG(copies[by].stat.st_mode) &&
            (uint64_t)copies[by].stat.st_size > verdict.size)
            verdict.size = (uint64_t)copies[by].stat.st_size;
        for (int type = 0; type < HEAL_TYPES; type++) {
            dirty |= copies[by].dirty[type] != 0;
            for (size_t other = 0; other < set->width; other++) {
                if (!copies[by].blames[other][type])
                    continue;
                verdict.kinds |= 1u << type;
                verdict.from |= UINT32_C(1) << by;
                verdict.to |= UINT32_C(1) << other;
                verdict.blames[by] |= UINT32_C(1) << other;
            }
        }
    }
    for (size_t brick = 0; brick < set->width; brick++)
        healing |= verdict.to >> brick & 1 && set->up[brick] && is_fresh(&copies[brick], now);
    if (verdict.kinds)
        verdict.state = healing ? HEAL_HEALING : HEAL_PENDING;
    else if (dirty)
        verdict.state = fresh ? HEAL_DIRTY : HEAL_PENDING;
    for (int type = HEAL_DATA; type <= HEAL_METADATA; type++)
        if (verdict.kinds >> type & 1 && heal_has_no_source(copies, set->width, (enum heal_type)type))
            verdict.split |= 1u << type;
    if (verdict.split)
        verdict.state = HEAL_SPLIT_BRAIN;
    *ret_verdict = verdict;
}

void heal_judge(const struct heal_set *set, const struct heal_copy *copies, struct heal_verdict *ret_verdict)
{
    struct heal_verdict verdict = {.state = -1};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (is_fragments(set))
        judge_fragments(set, copies, &now, &verdict);
    else
        judge_copies(set, copies, &now, &verdict);
    *ret_verdict = verdict;
}

/* ---- Names that are different files ---- */

static void names_in(const struct heal_set *set, const struct gfid *gfid, struct string_list *names)
{
    for (size_t i = 0; i < set->width; i++)
        if (set->folders[i])
            heal_index_names(set->folders[i], gfid, NAMES_MAX, names);
}

struct identity {
    unsigned char gfid[GFID_SIZE];
    mode_t type;
};

static bool identify(const char *folder, const char *name, struct identity *ret_identity)
{
    autofree char *path = xasprintf("%s/%s", folder, name);
    struct stat status;
    if (lstat(path, &status) < 0 || lgetxattr(path, GFID_XATTR, ret_identity->gfid, GFID_SIZE) != GFID_SIZE)
        return false;
    ret_identity->type = status.st_mode & S_IFMT;
    return true;
}

/* NULL when all copies are one file. */
static const char *clash(const struct heal_set *set, char *const handles[], const char *name)
{
    struct identity first, next;
    bool known = false;
    const char *kind = NULL;
    for (size_t i = 0; i < set->width; i++) {
        if (!handles[i] || !identify(handles[i], name, &next))
            continue;
        if (known && next.type != first.type)
            return "type";
        if (known && memcmp(next.gfid, first.gfid, GFID_SIZE) != 0)
            kind = "gfid";
        if (!known)
            first = next;
        known = true;
    }
    return kind;
}

void heal_clashes(const struct heal_set *set, const struct gfid *gfid, struct string_list *names,
                  struct string_list *kinds)
{
    autostring_list struct string_list candidates = {0};
    char *handles[HEAL_WIDTH_MAX] = {0};
    names_in(set, gfid, &candidates);
    for (size_t i = 0; i < set->width; i++)
        handles[i] = set->folders[i] ? heal_handle(set->folders[i], gfid) : NULL;
    for (size_t i = 0; i < candidates.count; i++) {
        const char *kind = clash(set, handles, candidates.items[i]);
        if (!kind)
            continue;
        string_list_add(names, candidates.items[i]);
        string_list_add(kinds, kind);
    }
    for (size_t i = 0; i < set->width; i++)
        free(handles[i]);
}
