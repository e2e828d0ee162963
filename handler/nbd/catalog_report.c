/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What is seen of the catalog from outside: who uses what, and the counters. */
#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <time.h>

#include "handler/nbd/catalog_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

static const char *const state_words[] = {"opening", "open", "closing"};

static json_t *report_one(const struct entry *entry)
{
    json_t *clients = json_array();
    for (const struct catalog_user *user = entry->users; user; user = user->next)
        json_array_append_new(clients, json_string(user->peer));
    autofree char *name = xasprintf("%s/%s", entry->volume, entry->block);
    json_t *report = json_pack("{s:s, s:s, s:b, s:o}", "name", name, "state", state_words[entry->state],
                               "revoked", entry->revoked, "clients", clients);
    if (entry->state != ENTRY_OPENING) {
        json_object_set_new(report, "gbid", json_string(entry->grant.gbid));
        json_object_set_new(report, "size", json_integer((json_int_t)entry->grant.size));
        json_object_set_new(report, "read_only", json_boolean(entry->grant.read_only));
    }
    return report;
}

/* With the lock held. */
static json_t *list_clients(const struct catalog *catalog, const char *volume, const char *block)
{
    json_t *list = json_array();
    for (const struct entry *entry = catalog->first; entry; entry = entry->next) {
        if ((volume && strcmp(volume, entry->volume) != 0) || (block && strcmp(block, entry->block) != 0))
            continue;
        autofree char *name = xasprintf("%s/%s", entry->volume, entry->block);
        for (const struct catalog_user *user = entry->users; user; user = user->next)
            json_array_append_new(list, json_pack("{s:s, s:s}", "export", name, "peer", user->peer));
    }
    return list;
}

char *catalog_clients(struct catalog *catalog, const char *volume, const char *block, int64_t patience_ms)
{
    int64_t deadline = clock_monotonic_ms() + patience_ms;
    struct timespec until = {deadline / 1000, deadline % 1000 * 1000000};
    json_t *list;
    {
        scoped_lock(&catalog->mutex);
        int number = 0;
        for (;;) {
            list = list_clients(catalog, volume, block);
            if (!json_array_size(list) || number == ETIMEDOUT)
                break;
            json_decref(list);
            number = pthread_cond_timedwait(&catalog->closed, &catalog->mutex, &until);
        }
    }
    json_t *report = json_pack("{s:o}", "clients", list);
    char *text = json_dumps(report, JSON_INDENT(2));
    json_decref(report);
    return text;
}

char *catalog_problem(struct catalog *catalog, const char *volume)
{
    return volumes_problem(catalog->volumes, volume);
}

char *catalog_report(struct catalog *catalog)
{
    json_t *list = json_array();
    {
        scoped_lock(&catalog->mutex);
        for (const struct entry *entry = catalog->first; entry; entry = entry->next)
            json_array_append_new(list, report_one(entry));
    }
    json_t *report = json_pack("{s:o}", "exports", list);
    char *text = json_dumps(report, JSON_INDENT(2));
    json_decref(report);
    return text;
}

void catalog_metrics(struct catalog *catalog, struct strbuf *text)
{
    scoped_lock(&catalog->mutex);
    size_t count = 0;
    for (struct counters *counters = catalog->counters.first; counters; counters = counters->next)
        count++;
    autofree struct metrics_row *rows = xcalloc(count, sizeof *rows);
    size_t i = 0;
    for (struct counters *counters = catalog->counters.first; counters; counters = counters->next, i++) {
        rows[i] = (struct metrics_row){counters->volume, counters->block, &counters->metrics, 0};
        struct entry *entry = find_live(catalog, counters->volume, counters->block);
        for (struct catalog_user *user = entry ? entry->users : NULL; user; user = user->next)
            rows[i].connections++;
    }
    metrics_print(rows, count, text);
}
