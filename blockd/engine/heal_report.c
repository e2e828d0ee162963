/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The files that wait for a heal, one by one, the worst first. */
#include "blockd/engine/heal_priv.h"

#include <string.h>

#include "rpc/base/alloc.h"

static const char *const type_words[HEAL_TYPES] = {"data", "metadata", "entry"};

static void add_blames(const struct heal_set *set, const struct heal_verdict *verdict,
                       struct string_list *blames)
{
    for (size_t by = 0; by < set->width; by++)
        for (size_t other = 0; other < set->width; other++) {
            if (!(verdict->blames[by] >> other & 1))
                continue;
            autofree char *who = heal_brick_name(set->volume, set->children[by]);
            autofree char *whom = heal_brick_name(set->volume, set->children[other]);
            string_list_addf(blames, "%s blames %s", who, whom);
        }
}

/* The names in the folder that are another file on each brick: each is a split-brain of its own. */
static void add_clashes(const struct heal_set *set, const struct heal_file *folder, const struct gfid *gfid,
                        uint64_t limit, struct object_list *files)
{
    autostring_list struct string_list names = {0}, kinds = {0};
    heal_clashes(set, gfid, &names, &kinds);
    for (size_t i = 0; i < names.count && files->count < limit; i++) {
        struct heal_file *file = object_list_add(files, sizeof *file);
        file->file = xasprintf("%s/%s", strcmp(folder->file, "/") == 0 ? "" : folder->file, names.items[i]);
        file->state = HEAL_SPLIT_BRAIN;
        string_list_add(&file->kinds, kinds.items[i]);
        string_list_copy(&file->blames, &folder->blames);
    }
}

static void add_file(const struct heal_set *set, const struct heal_entry *entry, uint64_t limit,
                     bool split_brain_only, struct object_list *files)
{
    struct heal_copy copies[HEAL_WIDTH_MAX];
    struct heal_verdict verdict;
    char text[GFID_TEXT_SIZE];
    heal_look(set, &entry->gfid, copies);
    heal_judge(set, copies, &verdict);
    if (verdict.state < 0) /* healed meanwhile */
        return;
    struct heal_file file = {.state = verdict.state, .size = verdict.size};
    gfid_format(&entry->gfid, text);
    file.gfid = xstrdup(text);
    file.file = heal_file_name(set, &entry->gfid);
    for (int type = 0; type < HEAL_TYPES; type++)
        if (verdict.kinds >> type & 1)
            string_list_add(&file.kinds, type_words[type]);
    add_blames(set, &verdict, &file.blames);
    if (verdict.kinds >> HEAL_ENTRY & 1)
        add_clashes(set, &file, &entry->gfid, limit, files);
    if (files->count < limit && (!split_brain_only || file.state == HEAL_SPLIT_BRAIN)) {
        struct heal_file *place = object_list_add(files, sizeof *place);
        *place = file;
        return;
    }
    schema_clear(&heal_file_schema, &file);
}

/* How bad it is, so that the worst come first; a folder with clashing names is in split-brain. */
static int badness(const struct heal_entry *entry)
{
    return entry->clashes ? HEAL_SPLIT_BRAIN : entry->state;
}

static void list_files(struct engine *engine, const struct volume *volume, const struct heal_view *view,
                       uint64_t limit, bool split_brain_only, struct object_list *files)
{
    struct heal_set set = {0};
    size_t open = SIZE_MAX; /* the set that is open */
    for (int state = HEAL_SPLIT_BRAIN; state >= (split_brain_only ? HEAL_SPLIT_BRAIN : HEAL_DIRTY); state--)
        for (size_t i = 0; i < view->count && files->count < limit; i++) {
            const struct heal_entry *entry = &view->entries[i];
            if (badness(entry) != state)
                continue;
            if (open != entry->set) {
                heal_set_close(&set);
                heal_set_open(engine, volume, entry->set, &set);
                open = entry->set;
            }
            add_file(&set, entry, limit, split_brain_only, files);
        }
    heal_set_close(&set);
}

int engine_heal_report(struct engine *engine, const struct volume *volume, uint64_t limit,
                       bool split_brain_only, struct heal_report *ret_report, struct error **ret_error)
{
    int r = volfile_volume_check(volume, ret_error);
    if (r < 0)
        return r;
    struct volume seen cleanup(cleanup_volume) = {0};
    heal_volume(volume, &seen);
    scoped_claim(engine, "heal", volume->meta.name);
    const struct heal_view *view = heal_view_refresh(engine, &seen, true);
    struct heal_report report = {
        .volume = xstrdup(volume->meta.name),
        .pending = view->counts.pending,
        .dirty = view->counts.dirty,
        .split_brain = view->counts.split_brain,
    };
    list_files(engine, &seen, view, limit, split_brain_only, &report.files);
    report.truncated = report.files.count >= limit;
    *ret_report = report;
    return 0;
}
