/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/core/adopt_plan_priv.h"

#include <string.h>

#include "rpc/base/alloc.h"

static void plan_group(struct group *group)
{
    adopt_plan_devices(group);
    autostring_list struct string_list volumes = {0};
    adopt_keys(group, KIND_VOLUME, &volumes);
    for (size_t i = 0; i < volumes.count; i++)
        adopt_plan_volume(group, volumes.items[i]);
    for (enum object_kind kind = 0; kind < KIND_COUNT; kind++) {
        if (kind == KIND_NODE || kind == KIND_DEVICE || kind == KIND_VOLUME || kind == KIND_JOB)
            continue;
        for (size_t i = 0; i < group->volumes.count; i++)
            adopt_plan_below_volume(group, kind, group->volumes.items[i]);
    }
}

/* The newest manifest of the store whose manifest disk `first` has; NULL when an
 * earlier disk had one of it. */
static const struct manifest_view *newest_of(const struct adopt_input *input, size_t first)
{
    const struct manifest_view *newest = &input->disks[first].manifest;
    for (size_t i = 0; i < input->count; i++) {
        const struct adopt_disk *disk = &input->disks[i];
        if (!disk->has_manifest || strcmp(disk->manifest.identity.store, newest->identity.store) != 0)
            continue;
        if (i < first)
            return NULL;
        if (manifest_compare(&disk->manifest, newest) > 0)
            newest = &disk->manifest;
    }
    return newest;
}

static json_t *index_of_known(json_t *store)
{
    json_t *known = json_object(), *value;
    const char *key;
    json_object_foreach(store, key, value)
    {
        enum object_kind kind;
        const char *name;
        if (!adopt_uid(value) || object_key_parse(key, &kind, &name) < 0)
            continue;
        autofree char *identity = xasprintf("%s/%s", object_types[kind].plural, adopt_uid(value));
        json_object_set_new(known, identity, json_string(key));
    }
    return known;
}

static void remember_identity(struct adopt_plan *plan, const struct manifest_identity *found)
{
    if (!plan->identity.store)
        plan->identity.store = xstrdup(found->store);
    if (found->incarnation > plan->identity.incarnation)
        plan->identity.incarnation = found->incarnation;
}

void adopt_plan(const struct adopt_input *input, struct adopt_plan *ret_plan)
{
    struct adopt_plan plan = {.puts = json_array()};
    json_t *known cleanup(json_decrefp) = index_of_known(input->present);
    json_t *planned cleanup(json_decrefp) = json_object();
    for (size_t i = 0; i < input->count; i++) {
        const struct adopt_disk *disk = &input->disks[i];
        if (!disk->has_manifest) {
            adopt_add_item(&plan, ADOPT_REFUSED, xasprintf("disk %s", disk->path), xstrdup(disk->problem));
            continue;
        }
        struct group group = {
            .input = input, .plan = &plan, .newest = newest_of(input, i), .known = known, .planned = planned};
        if (!group.newest)
            continue;
        remember_identity(&plan, &group.newest->identity);
        plan_group(&group);
        string_list_clear(&group.volumes);
    }
    *ret_plan = plan;
}

void adopt_plan_clear(struct adopt_plan *plan)
{
    for (size_t i = 0; i < plan->items.count; i++)
        schema_clear(&adopt_item_schema, (struct adopt_item *)plan->items.items + i);
    free(plan->items.items);
    json_decref(plan->puts);
    manifest_identity_clear(&plan->identity);
    string_list_clear(&plan->moved);
    *plan = (struct adopt_plan){0};
}
