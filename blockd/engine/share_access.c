/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Who may mount which share. A brick of GlusterFS takes either one list of addresses for all of a volume, or
 * a list for each folder that may be mounted. The second is told only when a share has a list of its own:
 * then every share must be named.
 */
#include "blockd/engine/engine_priv.h"

#include <string.h>

#include "rpc/base/alloc.h"

struct share_entry {
    char *path;
    struct string_list patterns;
};

struct share_admission {
    struct share_admission *next;
    char *volume;
    struct share_entry *entries;
    size_t count;
};

static void admission_free(struct share_admission *admission)
{
    for (size_t i = 0; i < admission->count; i++) {
        free(admission->entries[i].path);
        string_list_clear(&admission->entries[i].patterns);
    }
    free(admission->entries);
    free(admission->volume);
    free(admission);
}

void share_admissions_clear(struct engine *engine)
{
    while (engine->admissions) {
        struct share_admission *admission = engine->admissions;
        engine->admissions = admission->next;
        admission_free(admission);
    }
}

/* With the lock held. */
static struct share_admission **find(struct engine *engine, const char *volume)
{
    struct share_admission **link = &engine->admissions;
    while (*link && strcmp((*link)->volume, volume) != 0)
        link = &(*link)->next;
    return link;
}

static int fill(struct share_entry *entry, const struct engine_share *share, struct error **ret_error)
{
    entry->path = xstrdup(share->path);
    for (size_t i = 0; i < share->access->count; i++) {
        autofree char *pattern = NULL;
        int r = volfile_access_pattern(share->access->items[i], &pattern, ret_error);
        if (r < 0)
            return r;
        string_list_add(&entry->patterns, pattern);
    }
    return 0;
}

int engine_shares_admit(struct engine *engine, const char *volume, const struct engine_share *shares,
                        size_t count, struct error **ret_error)
{
    bool listed = false;
    for (size_t i = 0; i < count; i++)
        listed |= shares[i].access->count > 0;
    struct share_admission *fresh = NULL;
    int r = 0;
    if (listed) {
        fresh = xcalloc(1, sizeof *fresh);
        fresh->volume = xstrdup(volume);
        fresh->entries = xcalloc(count, sizeof *fresh->entries);
        for (; r == 0 && fresh->count < count; fresh->count++)
            r = fill(&fresh->entries[fresh->count], &shares[fresh->count], ret_error);
    }
    struct share_admission *gone = fresh;
    if (r == 0) {
        scoped_lock(&engine->ports_mutex);
        struct share_admission **link = find(engine, volume);
        gone = *link;
        if (gone)
            *link = gone->next;
        if (fresh) {
            fresh->next = engine->admissions;
            engine->admissions = fresh;
        }
    }
    if (gone)
        admission_free(gone);
    return r;
}

bool engine_shares_listed(struct engine *engine, const char *volume)
{
    scoped_lock(&engine->ports_mutex);
    return *find(engine, volume) != NULL;
}

/* ---- For volfiles ---- */

static void add_entry(struct strbuf *text, const char *path, const struct string_list *everywhere,
                      const struct string_list *more)
{
    const char *before = "";
    strbuf_addf(text, "%s%s(", text->length ? "," : "", path);
    for (size_t i = 0; i < everywhere->count; i++) {
        strbuf_addf(text, "%s%s", before, everywhere->items[i]);
        before = "|";
    }
    for (size_t i = 0; more && i < more->count; i++)
        if (!string_list_contains(everywhere, more->items[i]))
            strbuf_addf(text, "|%s", more->items[i]);
    strbuf_adds(text, ")");
}

void share_admissions_text(struct engine *engine, const char *volume, const struct string_list *everywhere,
                           struct strbuf *ret_text)
{
    scoped_lock(&engine->ports_mutex);
    const struct share_admission *admission = *find(engine, volume);
    if (!admission)
        return;
    add_entry(ret_text, "/", everywhere, NULL);
    for (size_t i = 0; i < admission->count; i++)
        add_entry(ret_text, admission->entries[i].path, everywhere, &admission->entries[i].patterns);
}

void share_admissions_union(struct engine *engine, const char *volume, struct string_list *list)
{
    scoped_lock(&engine->ports_mutex);
    const struct share_admission *admission = *find(engine, volume);
    for (size_t i = 0; admission && i < admission->count; i++)
        for (size_t k = 0; k < admission->entries[i].patterns.count; k++)
            if (!string_list_contains(list, admission->entries[i].patterns.items[k]))
                string_list_add(list, admission->entries[i].patterns.items[k]);
}
