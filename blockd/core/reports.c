/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What each node sees of its bricks, for all others: the key reports/V/NODE. A node writes its own when
 * something changed; the others keep what they read in memory, because every look at a volume needs it.
 */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/log.h"

#define PREFIX     "reports/"
#define FREE_STEPS 100 /* less than this part of a brick's size more or less free is no news */

struct report {
    char *volume, *node; /* of the key, not of the value */
    char *uid;           /* of the volume */
    uint64_t generation; /* of the volume's spec that the node has acted on */
    bool erased;         /* nothing of the volume is left on the node */
    struct object_list bricks;
};

#define OF(member) offsetof(struct report, member)
static const struct field report_fields[] = {
    {"uid", FIELD_STRING, OF(uid), FIELD_REQUIRED, .help = "Identity of the volume"},
    {"generation", FIELD_UINT, OF(generation), 0, .help = "Of the spec that was acted on"},
    {"erased", FIELD_BOOL, OF(erased), FIELD_OPTIONAL, .help = "Nothing of the volume is left"},
    {"bricks", FIELD_OBJECTS, OF(bricks), 0, .max = 120, .object = &brick_status_schema,
     .help = "The node's bricks"},
    {.name = NULL},
};
static const struct schema report_schema = {"Report", sizeof(struct report), report_fields,
                                            "What a node sees of a volume"};

struct reports {
    struct core *core;
    struct store_watch *watch;
    pthread_mutex_t mutex;
    struct object_list all; /* of struct report */
};

static void report_clear(struct report *report)
{
    free(report->volume);
    free(report->node);
    report->volume = report->node = NULL;
    schema_clear(&report_schema, report);
}

/* ---- What the others said ---- */

/* Under the mutex. */
static struct report *find(struct reports *reports, const char *volume, const char *node)
{
    for (size_t i = 0; i < reports->all.count; i++) {
        struct report *report = (struct report *)reports->all.items + i;
        if (strcmp(report->volume, volume) == 0 && strcmp(report->node, node) == 0)
            return report;
    }
    return NULL;
}

static int decode(const char *key, const char *value, struct report *ret_report)
{
    const char *volume = key + strlen(PREFIX);
    const char *slash = strchr(volume, '/');
    json_t *json = slash ? json_loads(value, 0, NULL) : NULL;
    struct report report = {0};
    int r = json ? schema_decode(&report_schema, json, &report, NULL, NULL) : -EBADMSG;
    json_decref(json);
    if (r < 0) {
        schema_clear(&report_schema, &report);
        return r;
    }
    report.volume = xstrndup(volume, (size_t)(slash - volume));
    report.node = xstrdup(slash + 1);
    *ret_report = report;
    return 0;
}

/* Takes what the report owns. */
static void keep(struct reports *reports, struct report *report)
{
    scoped_lock(&reports->mutex);
    struct report *place = find(reports, report->volume, report->node);
    if (place)
        report_clear(place);
    else
        place = object_list_add(&reports->all, sizeof *place);
    *place = *report;
}

static void forget(struct reports *reports, const char *key)
{
    autofree char *volume = object_name_part(key, 1), *node = object_name_part(key, 2);
    if (!volume || !node)
        return;
    scoped_lock(&reports->mutex);
    struct report *place = find(reports, volume, node), *items = reports->all.items;
    if (!place)
        return;
    report_clear(place);
    *place = items[--reports->all.count];
}

static void read_all(struct reports *reports)
{
    struct store_list list = {0};
    autoerror struct error *problem = NULL;
    if (store_list(reports->core->store, PREFIX, NULL, 0, &list, &problem) < 0)
        log_warning("cannot read what other nodes report: %s", error_message(problem));
    for (size_t i = 0; i < list.count; i++) {
        struct report report;
        if (decode(list.entries[i].key, list.entries[i].value, &report) == 0)
            keep(reports, &report);
    }
    store_list_clear(&list);
}

/* On a thread of the store. */
static void on_change(void *data, const struct store_event *event)
{
    struct reports *reports = data;
    struct report report;
    if (!event) {
        read_all(reports);
        return;
    }
    if (!event->value)
        forget(reports, event->key);
    else if (decode(event->key, event->value, &report) == 0)
        keep(reports, &report);
    autofree char *volume = object_name_part(event->key, 1), *node = object_name_part(event->key, 2);
    if (!volume || !node || strcmp(node, reports->core->node) == 0)
        return;
    autofree char *key = object_key(KIND_VOLUME, volume);
    queue_add(reports->core->queue, key);
}

/* ---- What is asked ---- */

static void add_brick(struct object_list *bricks, const struct brick_status *seen)
{
    struct brick_status *brick = object_list_add(bricks, sizeof *brick);
    schema_copy(&brick_status_schema, brick, seen);
}

void reports_bricks(struct reports *reports, const struct volume *volume, struct object_list *ret_bricks)
{
    struct core *core = reports->core;
    *ret_bricks = (struct object_list){0};
    if (!reports->watch)
        return;
    scoped_lock(&reports->mutex);
    for (size_t i = 0; i < reports->all.count; i++) {
        const struct report *report = (const struct report *)reports->all.items + i;
        if (strcmp(report->volume, volume->meta.name) != 0 || strcmp(report->node, core->node) == 0 ||
            !string_equal(report->uid, volume->meta.uid))
            continue;
        bool there = presence_sees(core->presence, report->node);
        for (size_t k = 0; k < report->bricks.count; k++) {
            const struct brick_status *seen = (const struct brick_status *)report->bricks.items + k;
            add_brick(ret_bricks, seen);
            if (there)
                continue;
            struct brick_status *brick = (struct brick_status *)ret_bricks->items + ret_bricks->count - 1;
            string_replace(&brick->state, "unknown");
            free(brick->error);
            brick->error = xasprintf("node %s does not answer", report->node);
        }
    }
}

static bool has_brick(const struct volume *volume, const char *node)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    const struct brick_move *moves = volume->spec.moves.items;
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (strcmp(bricks[i].node, node) == 0)
            return true;
    for (size_t i = 0; i < volume->spec.moves.count; i++)
        if (strcmp(moves[i].brick.node, node) == 0)
            return true;
    return false;
}

/* Under the mutex. Has the node done what the volume's record asks for? */
static bool has_acted(struct reports *reports, const struct volume *volume, const char *node)
{
    const struct report *report = find(reports, volume->meta.name, node);
    return report && string_equal(report->uid, volume->meta.uid) &&
           (volume->meta.deleting ? report->erased : report->generation >= volume->meta.generation);
}

int reports_complete(struct reports *reports, const struct volume *volume, struct error **ret_error)
{
    struct core *core = reports->core;
    if (!reports->watch)
        return 0;
    struct record_list nodes = {.kind = KIND_NODE};
    int r = record_list(core, KIND_NODE, NULL, &nodes, ret_error);
    for (size_t i = 0; r == 0 && i < nodes.list.count; i++) {
        const char *node = RECORD(&nodes, node, i)->meta.name;
        bool there = presence_sees(core->presence, node);
        if (strcmp(node, core->node) == 0 || (!volume->meta.deleting && (!there || !has_brick(volume, node))))
            continue;
        scoped_lock(&reports->mutex);
        if (has_acted(reports, volume, node))
            continue;
        if (there)
            r = error_set(ret_error, EAGAIN, "volume %s waits for node %s", volume->meta.name, node);
        else if (has_brick(volume, node) && !volume->spec.forced)
            r = error_set(
                ret_error, EHOSTUNREACH,
                "volume %s has a brick on node %s, which does not answer: it is deleted when the node "
                "is back, or by force",
                volume->meta.name, node);
    }
    record_list_clear(&nodes);
    return r;
}

/* ---- What this node says ---- */

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

static bool same_brick(const struct brick_status *a, const struct brick_status *b)
{
    return string_equal(a->device, b->device) && string_equal(a->state, b->state) &&
           string_equal(a->error, b->error) && string_equal(a->path, b->path) && a->port == b->port &&
           a->pid == b->pid && a->size == b->size && a->heal_pending == b->heal_pending &&
           distance(a->free, b->free) <= a->size / FREE_STEPS;
}

/* Under the mutex. */
static bool is_news(struct reports *reports, const struct report *report)
{
    const struct report *last = find(reports, report->volume, report->node);
    bool same = last && string_equal(last->uid, report->uid) && last->generation == report->generation &&
                last->erased == report->erased && last->bricks.count == report->bricks.count;
    for (size_t i = 0; same && i < report->bricks.count; i++)
        same = same_brick((const struct brick_status *)last->bricks.items + i,
                          (const struct brick_status *)report->bricks.items + i);
    return !same;
}

int reports_publish(struct reports *reports, const struct volume *volume, const struct volume_status *seen,
                    struct error **ret_error)
{
    struct core *core = reports->core;
    if (!reports->watch)
        return 0;
    struct report report = {
        .volume = xstrdup(volume->meta.name),
        .node = xstrdup(core->node),
        .uid = xstrdup(volume->meta.uid),
        .generation = volume->meta.generation,
        .erased = !seen,
    };
    for (size_t i = 0; seen && i < seen->bricks.count; i++) {
        const struct brick_status *brick = (const struct brick_status *)seen->bricks.items + i;
        if (strcmp(brick->node, core->node) == 0)
            add_brick(&report.bricks, brick);
    }
    bool news;
    {
        scoped_lock(&reports->mutex);
        news = is_news(reports, &report);
    }
    int r = 0;
    if (news) {
        autofree char *key = xasprintf(PREFIX "%s/%s", report.volume, report.node);
        json_t *json = schema_encode(&report_schema, &report);
        char *value cleanup(cleanup_free) = json_dumps(json, JSON_COMPACT);
        json_decref(json);
        struct store_op op = {.kind = STORE_PUT, .key = key, .value = value};
        r = store_commit(core->store, &op, 1, NULL, ret_error);
    }
    if (news && r == 0)
        keep(reports, &report);
    else
        report_clear(&report);
    return r;
}

void reports_forget(struct reports *reports, const struct volume *volume, struct txn *txn)
{
    scoped_lock(&reports->mutex);
    for (size_t i = 0; i < reports->all.count; i++) {
        const struct report *report = (const struct report *)reports->all.items + i;
        if (strcmp(report->volume, volume->meta.name) != 0)
            continue;
        autofree char *key = xasprintf(PREFIX "%s/%s", report->volume, report->node);
        txn_delete_any(txn, key);
    }
}

/* ---- Life ---- */

struct reports *reports_new(struct core *core)
{
    struct reports *reports = xcalloc(1, sizeof *reports);
    reports->core = core;
    pthread_mutex_init(&reports->mutex, NULL);
    return reports;
}

int reports_start(struct reports *reports, struct error **ret_error)
{
    struct store_list list = {0};
    if (!store_is_shared(reports->core->store))
        return 0;
    int r = store_list(reports->core->store, PREFIX, NULL, 1, &list, ret_error);
    uint64_t revision = list.revision;
    store_list_clear(&list);
    if (r < 0)
        return r;
    read_all(reports);
    return store_watch(reports->core->store, PREFIX, revision, on_change, reports, &reports->watch,
                       ret_error);
}

void reports_stop(struct reports *reports)
{
    if (reports && reports->watch)
        store_watch_end(reports->watch);
    if (reports)
        reports->watch = NULL;
}

void reports_free(struct reports *reports)
{
    if (!reports)
        return;
    reports_stop(reports);
    for (size_t i = 0; i < reports->all.count; i++)
        report_clear((struct report *)reports->all.items + i);
    free(reports->all.items);
    pthread_mutex_destroy(&reports->mutex);
    free(reports);
}
