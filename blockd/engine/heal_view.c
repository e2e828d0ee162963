/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What is known of the files of each volume that wait for a heal, kept between two looks: a look reads the
 * indices that have changed, looks at the copies of a bounded number of files, and takes a bounded part of
 * the time. What has vanished since the last look was healed.
 */
#include "blockd/engine/heal_priv.h"

#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define COST_SHARE    20   /* a look takes at most this part of the time */
#define CHEAP_MS      5    /* a look that costs less is taken whenever somebody asks */
#define LOOK_MAX      2000 /* files whose copies one look looks at */
#define LOOK_AGAIN_MS 2000

void heal_volume(const struct volume *volume, struct volume *ret_volume)
{
    volume_view(volume, AUDIENCE_HEAL, ret_volume);
}

char *heal_brick_name(const struct volume *volume, size_t child)
{
    const struct brick_spec *spec = volume_child(volume, child);
    return xasprintf("%s/%s", spec->node, spec->device);
}

char *heal_file_name(const struct heal_set *set, const struct gfid *gfid)
{
    for (size_t i = 0; i < set->width; i++) {
        char *path = set->folders[i] ? heal_path(set->folders[i], gfid) : NULL;
        if (path)
            return path;
    }
    char text[GFID_TEXT_SIZE];
    gfid_format(gfid, text);
    return xasprintf("gfid:%s", text);
}

/* ---- Views ---- */

void heal_counts_clear(struct heal_counts *counts)
{
    string_list_clear(&counts->in_split_brain);
    *counts = (struct heal_counts){0};
}

static void view_free(struct heal_view *view)
{
    for (size_t i = 0; i < view->children; i++) {
        gfid_list_clear(&view->pending[i].files);
        gfid_list_clear(&view->dirty[i].files);
    }
    heal_counts_clear(&view->counts);
    schema_clear(&heal_record_schema, &view->heal);
    schema_clear(&heal_record_schema, &view->ended);
    free(view->pending);
    free(view->dirty);
    free(view->entries);
    free(view->volume);
    free(view->uid);
    free(view);
}

/* Takes the view out of the list; NULL when there is none. */
static struct heal_view *take_view(struct engine *engine, const char *volume)
{
    scoped_lock(&engine->views_mutex);
    struct heal_view **link = &engine->views;
    while (*link && strcmp((*link)->volume, volume) != 0)
        link = &(*link)->next;
    struct heal_view *view = *link;
    if (view)
        *link = view->next;
    return view;
}

static void put_view(struct engine *engine, struct heal_view *view)
{
    scoped_lock(&engine->views_mutex);
    view->next = engine->views;
    engine->views = view;
}

/* Another volume of the name, or one with other bricks, is begun anew. */
static struct heal_view *open_view(struct engine *engine, const struct volume *volume)
{
    struct heal_view *view = take_view(engine, volume->meta.name);
    if (view && (!string_equal(view->uid, volume->meta.uid) || view->children != volume_children(volume))) {
        view_free(view);
        view = NULL;
    }
    if (!view) {
        view = xcalloc(1, sizeof *view);
        view->volume = xstrdup(volume->meta.name);
        view->uid = xstrdup(volume->meta.uid);
        view->children = volume_children(volume);
        view->pending = xcalloc(view->children + 1, sizeof *view->pending);
        view->dirty = xcalloc(view->children + 1, sizeof *view->dirty);
    }
    put_view(engine, view);
    return view;
}

void heal_views_clear(struct engine *engine)
{
    while (engine->views) {
        struct heal_view *view = engine->views;
        engine->views = view->next;
        view_free(view);
    }
}

void engine_heal_forget(struct engine *engine, const char *volume)
{
    scoped_claim(engine, "heal", volume);
    struct heal_view *view = take_view(engine, volume);
    if (view)
        view_free(view);
}

/* ---- Reading the indices ---- */

static bool read_index(const char *brick, const char *folder, struct heal_index *index)
{
    if (!brick) /* what it said last may be out of date, and nothing newer is known */
        return false;
    if (!heal_index_changed(brick, folder, index))
        return false;
    heal_index_read(brick, folder, index);
    return true;
}

/* The files of the set's bricks that stand in an index. */
static struct gfid_list join(const struct heal_index *indices, const struct heal_set *set)
{
    struct gfid_list all = {0};
    for (size_t i = 0; i < set->width; i++) {
        struct gfid_list more = gfid_list_union(&all, &indices[set->children[i]].files);
        gfid_list_clear(&all);
        all = more;
    }
    return all;
}

/* Returns whether an index was read again. */
static bool read_set(struct heal_view *view, const struct heal_set *set)
{
    bool changed = false;
    for (size_t i = 0; i < set->width; i++) {
        changed |= read_index(set->folders[i], HEAL_INDEX_PENDING, &view->pending[set->children[i]]);
        changed |= read_index(set->folders[i], HEAL_INDEX_DIRTY, &view->dirty[set->children[i]]);
    }
    return changed;
}

static int compare_entries(const void *a, const void *b)
{
    const struct heal_entry *one = a, *other = b;
    int order = gfid_compare(&one->gfid, &other->gfid);
    return order ? order : (one->set > other->set) - (one->set < other->set);
}

static void add_set(const struct heal_view *view, const struct heal_set *set, struct heal_entry **entries,
                    size_t *count)
{
    struct gfid_list pending = join(view->pending, set);
    struct gfid_list dirty = join(view->dirty, set);
    struct gfid_list all = gfid_list_union(&pending, &dirty);
    *entries = xrealloc(*entries, *count + all.count + 1, sizeof **entries);
    for (size_t i = 0; i < all.count; i++) {
        bool behind = gfid_list_has(&pending, &all.items[i]);
        (*entries)[(*count)++] = (struct heal_entry){
            .gfid = all.items[i],
            .set = set->number,
            .known_behind = behind,
            .state = behind ? HEAL_PENDING : HEAL_DIRTY,
        };
    }
    gfid_list_clear(&pending);
    gfid_list_clear(&dirty);
    gfid_list_clear(&all);
}

/* ---- What goes on ---- */

static void name_bricks(const struct heal_set *set, uint32_t bricks, struct string_list *names)
{
    for (size_t i = 0; i < set->width; i++) {
        if (!(bricks >> i & 1))
            continue;
        autofree char *name = heal_brick_name(set->volume, set->children[i]);
        if (!string_list_contains(names, name))
            string_list_add(names, name);
    }
}

static void count_healed(struct heal_view *view, struct heal_entry *entry)
{
    if (!entry->counted)
        return;
    entry->counted = false;
    view->heal.files++;
    if (entry->kinds >> HEAL_DATA & 1)
        view->heal.bytes += entry->size;
}

/* Takes over what was known of files that are still there; those that are not were healed. */
static void replace_entries(struct heal_view *view, struct heal_entry *entries, size_t count)
{
    size_t k = 0;
    for (size_t i = 0; i < view->count; i++) {
        struct heal_entry *old = &view->entries[i];
        while (k < count && compare_entries(&entries[k], old) < 0)
            k++;
        if (k == count || compare_entries(&entries[k], old) != 0) {
            count_healed(view, old);
            continue;
        }
        bool behind = entries[k].known_behind;
        bool news = behind && !old->known_behind;
        entries[k] = *old;
        entries[k].known_behind = behind;
        entries[k].judged &= !news;
        if (news)
            entries[k].state = HEAL_PENDING;
    }
    free(view->entries);
    view->entries = entries;
    view->count = count;
}

/* ---- Looking at copies ---- */

static void judge_entry(const struct heal_set *set, struct heal_entry *entry)
{
    struct heal_copy copies[HEAL_WIDTH_MAX];
    struct heal_verdict verdict;
    heal_look(set, &entry->gfid, copies);
    heal_judge(set, copies, &verdict);
    entry->state = verdict.state;
    entry->kinds |= verdict.kinds;
    entry->from |= verdict.from;
    entry->to |= verdict.to;
    entry->size = verdict.size;
    entry->clashes = 0;
    entry->judged = true;
    entry->judged_ms = clock_monotonic_ms();
    if (verdict.kinds >> HEAL_ENTRY & 1) {
        autostring_list struct string_list names = {0}, kinds = {0};
        heal_clashes(set, &entry->gfid, &names, &kinds);
        entry->clashes = names.count;
    }
}

static void judge(struct heal_view *view, const struct heal_set *sets, bool whole)
{
    size_t left = whole ? SIZE_MAX : LOOK_MAX;
    int64_t now = clock_monotonic_ms();
    for (size_t i = 0; i < view->count && left; i++)
        if (whole || !view->entries[i].judged) {
            judge_entry(&sets[view->entries[i].set], &view->entries[i]);
            left--;
        }
    for (size_t i = 0; i < view->count && left; i++) {
        struct heal_entry *entry = &view->entries[view->turn++ % view->count];
        if (entry->judged_ms + LOOK_AGAIN_MS > now)
            continue;
        judge_entry(&sets[entry->set], entry);
        left--;
    }
}

/* ---- Summing up ---- */

static void name_split(struct heal_view *view, const struct heal_set *set, const struct heal_entry *entry)
{
    struct string_list *named = &view->counts.in_split_brain;
    autofree char *file = heal_file_name(set, &entry->gfid);
    if (entry->state == HEAL_SPLIT_BRAIN && named->count < HEAL_NAMED_MAX)
        string_list_add(named, file);
    if (!entry->clashes)
        return;
    autostring_list struct string_list names = {0}, kinds = {0};
    heal_clashes(set, &entry->gfid, &names, &kinds);
    for (size_t i = 0; i < names.count && named->count < HEAL_NAMED_MAX; i++)
        string_list_addf(named, "%s/%s", strcmp(file, "/") == 0 ? "" : file, names.items[i]);
}

static void sum_up(struct heal_view *view, const struct heal_set *sets)
{
    const struct gfid *pending = NULL, *dirty = NULL; /* a folder may stand in several sets */
    heal_counts_clear(&view->counts);
    for (size_t i = 0; i < view->count; i++) {
        struct heal_entry *entry = &view->entries[i];
        if (entry->state < HEAL_PENDING)
            count_healed(view, entry);
        if (entry->state == HEAL_DIRTY) {
            view->counts.dirty += !dirty || gfid_compare(dirty, &entry->gfid) != 0;
            dirty = &entry->gfid;
        }
        if (entry->state < HEAL_PENDING)
            continue;
        view->counts.pending += !pending || gfid_compare(pending, &entry->gfid) != 0;
        pending = &entry->gfid;
        entry->counted = true;
        name_bricks(&sets[entry->set], entry->from, &view->heal.from);
        name_bricks(&sets[entry->set], entry->to, &view->heal.to);
        view->counts.split_brain += (entry->state == HEAL_SPLIT_BRAIN) + entry->clashes;
        if (entry->state == HEAL_SPLIT_BRAIN || entry->clashes)
            name_split(view, &sets[entry->set], entry);
    }
}

static void follow_heal(struct heal_view *view)
{
    if (view->counts.pending) {
        if (!view->heal.started)
            view->heal.started = clock_real_ms();
        return;
    }
    if (view->heal.started && view->heal.files) {
        schema_clear(&heal_record_schema, &view->ended);
        view->heal.finished = clock_real_ms();
        view->ended = view->heal;
        view->has_ended = true;
        view->heal = (struct heal_record){0};
    }
    schema_clear(&heal_record_schema, &view->heal);
}

static void look(struct engine *engine, const struct volume *volume, struct heal_view *view, bool whole)
{
    size_t set_count = heal_sets(volume), count = 0;
    autofree struct heal_set *sets = xcalloc(set_count + 1, sizeof *sets);
    bool changed = false;
    for (size_t i = 0; i < set_count; i++) {
        heal_set_open(engine, volume, i, &sets[i]);
        changed |= read_set(view, &sets[i]);
    }
    if (changed) {
        struct heal_entry *entries = NULL;
        for (size_t i = 0; i < set_count; i++)
            add_set(view, &sets[i], &entries, &count);
        qsort(entries, count, sizeof *entries, compare_entries);
        replace_entries(view, entries, count);
    }
    if (changed || view->count) {
        judge(view, sets, whole);
        sum_up(view, sets);
        follow_heal(view);
    }
    for (size_t i = 0; i < set_count; i++)
        heal_set_close(&sets[i]);
}

/* ---- A disk that hangs keeps nobody ---- */

static int look_on_thread(struct device_call *call, struct error **ret_error)
{
    (void)ret_error;
    look(call->engine, &call->volume, call->data, call->flag);
    return 0;
}

static void free_view(void *data)
{
    view_free(data);
}

static struct device_call *call_of(struct engine *engine, const struct volume *volume, bool whole)
{
    struct device_call *call = device_call_new(engine, NULL);
    for (size_t i = 0; i < volume_children(volume); i++) {
        const struct brick_spec *brick = volume_child(volume, i);
        /* One that hangs already is not looked at. */
        if (brick_is_local(engine, brick) && !device_hangs(engine, brick->device))
            string_list_add(&call->names, brick->device);
    }
    schema_copy(&volume_schema, &call->volume, volume);
    call->flag = whole;
    return call;
}

/* What is known lies in the view, which goes with a look that is left behind. */
static struct heal_view *look_or_leave(struct engine *engine, const struct volume *volume,
                                       struct heal_view *view, bool whole)
{
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, volume, whole);
    call->data = view;
    device_call_run(call, look_on_thread, NULL);
    if (!call->left)
        return view;
    take_view(engine, volume->meta.name);
    device_call_give(call, free_view);
    return NULL;
}

#define LOOKS_MAX 4 /* each is left behind by one more disk that begins to hang */

struct heal_view *heal_view_refresh(struct engine *engine, const struct volume *volume, bool whole)
{
    struct heal_view *view = open_view(engine, volume);
    int64_t now = clock_monotonic_ms();
    int64_t rest = view->cost_ms > CHEAP_MS ? view->cost_ms * COST_SHARE : 0;
    if (!heal_sets(volume) || (!whole && view->refreshed_ms && now < view->refreshed_ms + rest))
        return view;
    struct heal_view *looked = NULL;
    for (unsigned i = 0; !looked && i < LOOKS_MAX; i++) {
        looked = look_or_leave(engine, volume, view, whole);
        if (!looked)
            view = open_view(engine, volume);
    }
    view->refreshed_ms = clock_monotonic_ms();
    if (!whole)
        view->cost_ms = view->refreshed_ms - now;
    return view;
}

/* ---- Asking ---- */

int engine_heal_counts(struct engine *engine, const struct volume *volume, struct heal_counts *ret_counts,
                       struct error **ret_error)
{
    int r = volfile_volume_check(volume, ret_error);
    if (r < 0)
        return r;
    struct volume seen cleanup(cleanup_volume) = {0};
    heal_volume(volume, &seen);
    scoped_claim(engine, "heal", volume->meta.name);
    const struct heal_view *view = heal_view_refresh(engine, &seen, false);
    struct heal_counts counts = view->counts;
    counts.in_split_brain = (struct string_list){0};
    string_list_copy(&counts.in_split_brain, &view->counts.in_split_brain);
    *ret_counts = counts;
    return 0;
}

bool engine_heal_ended(struct engine *engine, const struct volume *volume, struct heal_record *ret_record)
{
    struct volume seen cleanup(cleanup_volume) = {0};
    heal_volume(volume, &seen);
    scoped_claim(engine, "heal", volume->meta.name);
    struct heal_view *view = heal_view_refresh(engine, &seen, false);
    if (!view->has_ended)
        return false;
    *ret_record = view->ended;
    view->ended = (struct heal_record){0};
    view->has_ended = false;
    return true;
}
