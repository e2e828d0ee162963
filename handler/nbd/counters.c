/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/nbd/counters.h"

#include "rpc/base/alloc.h"

static void counters_free(struct counters *counters)
{
    free(counters->volume);
    free(counters->block);
    free(counters->gbid);
    free(counters);
}

static struct counters **find(struct counters_table *table, const char *volume, const char *block)
{
    struct counters **link = &table->first;
    while (*link && (!string_equal((*link)->block, block) || !string_equal((*link)->volume, volume)))
        link = &(*link)->next;
    return link;
}

void counters_drop(struct counters_table *table, const char *volume, const char *block)
{
    struct counters **link = find(table, volume, block), *counters = *link;
    if (!counters)
        return;
    *link = counters->next;
    counters->listed = false;
    if (counters->references == 0)
        counters_free(counters);
}

struct counters *counters_get(struct counters_table *table, const char *volume, const char *block,
                              const char *gbid)
{
    struct counters *counters = *find(table, volume, block);
    if (counters && !string_equal(counters->gbid, gbid)) {
        counters_drop(table, volume, block);
        counters = NULL;
    }
    if (!counters) {
        counters = xcalloc(1, sizeof *counters);
        counters->volume = xstrdup(volume);
        counters->block = xstrdup(block);
        counters->gbid = xstrdup(gbid);
        counters->listed = true;
        counters->next = table->first;
        table->first = counters;
    }
    counters->references++;
    return counters;
}

void counters_put(struct counters_table *table, struct counters *counters, bool withdrawn)
{
    if (--counters->references)
        return;
    if (!counters->listed)
        counters_free(counters);
    else if (withdrawn)
        counters_drop(table, counters->volume, counters->block);
}

void counters_clear(struct counters_table *table)
{
    while (table->first)
        counters_drop(table, table->first->volume, table->first->block);
}
