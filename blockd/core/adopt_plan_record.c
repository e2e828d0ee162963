/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What a record of a manifest is, and whether it may be put into the store. */
#include "blockd/core/adopt_plan_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"

void adopt_add_item(struct adopt_plan *plan, enum adopt_outcome outcome, char *object, char *detail)
{
    struct adopt_item *item = object_list_add(&plan->items, sizeof *item);
    *item = (struct adopt_item){.object = object, .outcome = (int)outcome, .detail = detail};
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void adopt_keys(const struct group *group, enum object_kind kind, struct string_list *keys)
{
    autofree char *prefix = xasprintf("%s/", object_types[kind].plural);
    const char *key;
    json_t *value;
    json_object_foreach(group->newest->records, key, value)
    {
        (void)value;
        if (string_starts_with(key, prefix))
            string_list_add(keys, key);
    }
    if (keys->count)
        qsort(keys->items, keys->count, sizeof *keys->items, compare_strings);
}

const char *adopt_uid(const json_t *record)
{
    return json_string_value(json_object_get(record, "uid"));
}

const json_t *adopt_present(const struct group *group, const char *key)
{
    return json_object_get(group->input->present, key);
}

json_t *adopt_fresh(const json_t *record)
{
    json_t *copy = json_deep_copy(record);
    json_object_del(copy, "revision");
    json_object_set_new(copy, "status", json_pack("{s:s}", "phase", "pending"));
    return copy;
}

static int check_names(enum object_kind kind, const char *name, struct error **ret_error)
{
    autostring_list struct string_list parts = {0};
    string_list_split(&parts, name, '/');
    if (parts.count != object_types[kind].parts)
        return error_set(ret_error, EBADMSG, "it has %zu parts in its name", parts.count);
    for (size_t i = 0; i < parts.count; i++) {
        int r = name_check(object_types[kind].word, parts.items[i], ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

int adopt_decode(enum object_kind kind, const char *key, const json_t *record, union any_object *object,
                 struct error **ret_error)
{
    const char *name = strchr(key, '/') + 1;
    int r = check_names(kind, name, ret_error);
    if (r == 0)
        r = schema_decode(object_types[kind].schema, record, object, NULL, ret_error);
    if (r == 0 &&
        (!string_equal(object->meta.name, name) || !object->meta.uid || strlen(object->meta.uid) != 36))
        r = error_set(ret_error, EBADMSG, "its name or identity does not fit its key");
    return r;
}

int adopt_compare(const struct group *group, enum object_kind kind, const char *key, const json_t *record)
{
    const char *word = object_types[kind].word, *name = strchr(key, '/') + 1;
    const json_t *same_name = adopt_present(group, key);
    autofree char *identity =
        xasprintf("%s/%s", object_types[kind].plural, adopt_uid(record) ? adopt_uid(record) : "");
    const char *same_uid = json_string_value(json_object_get(group->known, identity));
    if (same_uid) {
        ITEM(group, ADOPT_PRESENT, word, name, "known already%s%s", strcmp(same_uid, key) == 0 ? "" : " as ",
             strcmp(same_uid, key) == 0 ? "" : strchr(same_uid, '/') + 1);
        return 1;
    }
    if (same_name) {
        ITEM(group, ADOPT_REFUSED, word, name, "another %s has this name: delete or rename that one first",
             word);
        return -EEXIST;
    }
    return 0;
}

void adopt_add_put(const struct group *group, const char *key, json_t *value)
{
    json_array_append_new(group->plan->puts, json_pack("[s, O]", key, value));
    json_object_set_new(group->planned, key, json_true());
}

bool adopt_put(const struct group *group, enum object_kind kind, const char *key, json_t *value)
{
    union any_object object = {0};
    autoerror struct error *error = NULL;
    bool sound = adopt_decode(kind, key, value, &object, &error) == 0;
    any_object_clear(kind, &object);
    if (sound)
        adopt_add_put(group, key, value);
    else
        ITEM(group, ADOPT_REFUSED, object_types[kind].word, strchr(key, '/') + 1,
             "its record in the manifest is damaged: %s", error_message(error));
    json_decref(value);
    return sound;
}

bool adopt_mark_is_free(const struct group *group, const char *key, const char *owner)
{
    const char *known = json_string_value(adopt_present(group, key));
    return !json_object_get(group->planned, key) && (!known || strcmp(known, owner) == 0);
}

void adopt_put_mark(const struct group *group, const char *key, const char *owner)
{
    json_t *text cleanup(json_decrefp) = json_string(owner);
    if (adopt_present(group, key))
        json_object_set_new(group->planned, key, json_true());
    else
        adopt_add_put(group, key, text);
}
