/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/core/manifest_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/base/alloc.h"

#define FORMAT       1
#define HASH_LENGTH  16
#define DELETED_MARK "deleted"

void manifest_identity_clear(struct manifest_identity *identity)
{
    free(identity->store);
    *identity = (struct manifest_identity){0};
}

char *manifest_identity_text(const struct manifest_identity *identity)
{
    return xasprintf("{\"store\":\"%s\",\"incarnation\":%llu}", identity->store,
                     (unsigned long long)identity->incarnation);
}

static int identity_decode(const json_t *json, struct manifest_identity *ret_identity)
{
    const char *store = json_string_value(json_object_get(json, "store"));
    json_int_t incarnation = json_integer_value(json_object_get(json, "incarnation"));
    if (!store || strlen(store) != 36 || incarnation < 1)
        return -EBADMSG;
    *ret_identity = (struct manifest_identity){.store = xstrdup(store), .incarnation = (uint64_t)incarnation};
    return 0;
}

int manifest_identity_parse(const char *text, struct manifest_identity *ret_identity,
                            struct error **ret_error)
{
    json_t *json = json_loads(text, 0, NULL);
    int r = identity_decode(json, ret_identity);
    json_decref(json);
    return r < 0 ? error_set(ret_error, EUCLEAN, "the record " MANIFEST_KEY " in the store is damaged") : 0;
}

bool manifest_has_key(const char *key)
{
    enum object_kind kind;
    const char *name;
    return object_key_parse(key, &kind, &name) == 0 && kind != KIND_JOB;
}

/* ---- Writing ---- */

/* FNV-1a: tells a torn or rotten line, not a forged one. */
static uint64_t hash(const char *text, size_t length)
{
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++)
        sum = (sum ^ (unsigned char)text[i]) * 0x100000001b3u;
    return sum;
}

static void add_line(struct strbuf *text, const char *line)
{
    strbuf_addf(text, "%0*llx ", HASH_LENGTH, (unsigned long long)hash(line, strlen(line)));
    strbuf_adds(text, line);
    strbuf_adds(text, "\n");
}

static void add_json(struct strbuf *text, json_t *json)
{
    autofree char *line = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    add_line(text, line);
}

void manifest_add_header(struct strbuf *text, const struct manifest_identity *identity,
                         const char *device_uid)
{
    add_json(text, json_pack("{s:i, s:s, s:I, s:s}", "format", FORMAT, "store", identity->store,
                             "incarnation", (json_int_t)identity->incarnation, "device", device_uid));
}

void manifest_add_record(struct strbuf *text, const char *key, uint64_t revision, const char *value)
{
    json_t *record = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    json_t *line = json_pack("{s:s, s:I}", "key", key, "revision", (json_int_t)revision);
    if (record)
        json_object_set_new(line, "value", record);
    else
        json_object_set_new(line, DELETED_MARK, json_true());
    add_json(text, line);
}

void manifest_add_end(struct strbuf *text, uint64_t revision)
{
    add_json(text, json_pack("{s:I}", "revision", (json_int_t)revision));
}

/* ---- Reading ---- */

/* The next line that is whole and right; moves *rest behind it. NULL at the end, or
 * where the text is torn. */
static json_t *next_line(const char **rest)
{
    const char *line = *rest, *end = strchr(line, '\n');
    if (!end || end - line <= HASH_LENGTH + 1 || line[HASH_LENGTH] != ' ')
        return NULL;
    const char *body = line + HASH_LENGTH + 1;
    char wanted[HASH_LENGTH + 1];
    snprintf(wanted, sizeof wanted, "%0*llx", HASH_LENGTH,
             (unsigned long long)hash(body, (size_t)(end - body)));
    if (strncmp(wanted, line, HASH_LENGTH) != 0)
        return NULL;
    json_t *json = json_loadb(body, (size_t)(end - body), 0, NULL);
    if (json)
        *rest = end + 1;
    return json;
}

/* Takes over what a batch says, but for what the text had later knowledge of already. */
static void take_batch(struct manifest_view *view, json_t *batch, uint64_t revision)
{
    const char *key;
    json_t *line;
    json_object_foreach(batch, key, line)
    {
        uint64_t own = (uint64_t)json_integer_value(json_object_get(line, "revision"));
        if (own < view->revision)
            continue;
        json_t *value = json_object_get(line, "value");
        if (json_is_object(value))
            json_object_set(view->records, key, value);
        else if (json_object_get(line, DELETED_MARK))
            json_object_del(view->records, key);
    }
    if (revision > view->revision)
        view->revision = revision;
}

static int parse_header(const char **rest, struct manifest_view *view, struct error **ret_error)
{
    json_t *header = next_line(rest);
    const char *device = json_string_value(json_object_get(header, "device"));
    json_int_t format = json_integer_value(json_object_get(header, "format"));
    int r = 0;
    if (format > FORMAT)
        r = error_set(ret_error, EPROTONOSUPPORT, "the manifest has format %lld, which a newer blockd made",
                      (long long)format);
    else if (!device || format != FORMAT || identity_decode(header, &view->identity) < 0)
        r = error_set(ret_error, EBADMSG, "the manifest has no header that can be read");
    else
        view->device_uid = xstrdup(device);
    json_decref(header);
    return r;
}

int manifest_parse(const char *text, struct manifest_view *ret_view, struct error **ret_error)
{
    struct manifest_view view = {.records = json_object()};
    int r = parse_header(&text, &view, ret_error);
    if (r < 0) {
        manifest_view_clear(&view);
        return r;
    }
    json_t *batch = json_object();
    for (json_t *line; (line = next_line(&text)); json_decref(line)) {
        const char *key = json_string_value(json_object_get(line, "key"));
        if (key) {
            json_object_set(batch, key, line);
            continue;
        }
        take_batch(&view, batch, (uint64_t)json_integer_value(json_object_get(line, "revision")));
        json_object_clear(batch);
    }
    view.torn = *text || json_object_size(batch);
    json_decref(batch);
    *ret_view = view;
    return 0;
}

void manifest_view_clear(struct manifest_view *view)
{
    manifest_identity_clear(&view->identity);
    free(view->device_uid);
    json_decref(view->records);
    *view = (struct manifest_view){0};
}

int manifest_compare(const struct manifest_view *a, const struct manifest_view *b)
{
    if (a->identity.incarnation != b->identity.incarnation)
        return a->identity.incarnation < b->identity.incarnation ? -1 : 1;
    return (a->revision > b->revision) - (a->revision < b->revision);
}
