/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Keeps the manifests of this node's devices up to date, on a thread of its own: changes of the store are
 * collected for a moment and appended to each manifest with one flush, so that no request waits for it.
 */
#include "blockd/core/manifest_priv.h"

#include <errno.h>
#include <string.h>

#include "blockd/engine/manifest.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/log.h"
#include "rpc/base/uuid.h"

#define COLLECT_MS   500               /* from the first change to its writing */
#define AGAIN_MS     2000              /* to the next try for a device that could not be written */
#define GROWTH_LIMIT ((size_t)4 << 20) /* appended since the whole was written, before it is written anew */

/* What is known of the manifest of one device. */
struct copy {
    char *device_uid;
    bool whole;    /* it has everything up to `revision` */
    size_t length; /* bytes */
    size_t limit;  /* length at which it is written anew */
    uint64_t revision;
    char *error; /* why it could not be written, told once in the log */
};

struct manifest {
    struct core *core;
    struct store_watch *watch;
    pthread_t thread;
    bool running; /* main thread only */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed, written;
    bool stopping, urgent;
    bool dirty;          /* there is something to write */
    bool missed;         /* changes were missed */
    int64_t due_ms;      /* with `dirty`: monotonic */
    json_t *pending;     /* key -> [revision, value as text or null] */
    uint64_t seen, done; /* revisions of the store: of the last change that came, and of what is written */
    bool paused;         /* an adoption is not complete */

    struct object_list copies; /* of struct copy; the thread's own */
};

/* ---- What changes ---- */

static void set_due(struct manifest *manifest, int64_t delay_ms)
{
    if (!manifest->dirty)
        manifest->due_ms = clock_monotonic_ms() + delay_ms;
    manifest->dirty = true;
    pthread_cond_signal(&manifest->changed);
}

/* On a thread of the store. */
static void on_change(void *data, const struct store_event *event)
{
    struct manifest *manifest = data;
    scoped_lock(&manifest->mutex);
    if (!event) {
        manifest->missed = true;
        set_due(manifest, COLLECT_MS);
        return;
    }
    manifest->seen = event->revision;
    if (strcmp(event->key, ADOPTION_KEY) == 0) {
        manifest->paused = event->value != NULL;
        set_due(manifest, COLLECT_MS);
    } else if (strcmp(event->key, MANIFEST_KEY) == 0) {
        manifest->missed = true; /* another incarnation: everything is written anew */
        set_due(manifest, COLLECT_MS);
    } else if (manifest_has_key(event->key)) {
        json_object_set_new(manifest->pending, event->key,
                            json_pack("[I, s?]", (json_int_t)event->revision, event->value));
        set_due(manifest, COLLECT_MS);
    }
    if (!manifest->dirty) {
        manifest->done = manifest->seen;
        pthread_cond_broadcast(&manifest->written);
    }
}

/* ---- Whose manifests they are ---- */

int manifest_identity_get(struct core *core, struct manifest_identity *ret_identity, struct error **ret_error)
{
    struct store_entry entry = {0};
    int r = store_get(core->store, MANIFEST_KEY, &entry, NULL);
    if (r == 0)
        r = manifest_identity_parse(entry.value, ret_identity, ret_error);
    else if (r != -ENOENT)
        return error_set(ret_error, -r, "cannot read the store: %s", strerror(-r));
    store_entry_clear(&entry);
    return r;
}

/* Gives a new store its identity. */
static int make_identity(struct core *core, struct error **ret_error)
{
    struct manifest_identity identity cleanup(manifest_identity_clear) = {0};
    int r = manifest_identity_get(core, &identity, ret_error);
    if (r != -ENOENT)
        return r;
    identity = (struct manifest_identity){.store = uuid_make(), .incarnation = 1};
    autofree char *text = manifest_identity_text(&identity);
    struct txn txn = {0};
    txn_put_text(&txn, MANIFEST_KEY, text, 0);
    r = txn_commit(core, &txn, ret_error);
    txn_clear(&txn);
    return r == -ESTALE ? 0 : r; /* another node of the cluster was first */
}

/* ---- One device ---- */

static struct copy *copy_of(struct manifest *manifest, const char *device_uid)
{
    for (size_t i = 0; i < manifest->copies.count; i++) {
        struct copy *copy = (struct copy *)manifest->copies.items + i;
        if (strcmp(copy->device_uid, device_uid) == 0)
            return copy;
    }
    struct copy *copy = object_list_add(&manifest->copies, sizeof *copy);
    copy->device_uid = xstrdup(device_uid);
    return copy;
}

/* Everything that the store holds now. */
static int whole_text(struct core *core, const char *device_uid, struct strbuf *text, uint64_t *ret_revision,
                      struct error **ret_error)
{
    struct manifest_identity identity cleanup(manifest_identity_clear) = {0};
    struct store_list all = {0};
    int r = manifest_identity_get(core, &identity, ret_error);
    if (r == 0)
        r = store_list(core->store, "", NULL, 0, &all, ret_error);
    if (r < 0)
        return r;
    manifest_add_header(text, &identity, device_uid);
    for (size_t i = 0; i < all.count; i++)
        if (manifest_has_key(all.entries[i].key))
            manifest_add_record(text, all.entries[i].key, all.entries[i].revision, all.entries[i].value);
    manifest_add_end(text, all.revision);
    *ret_revision = all.revision;
    store_list_clear(&all);
    return 0;
}

/* Must what is there be kept aside? It must when it is no earlier state of this very store. */
static bool is_foreign(const char *text, const char *present)
{
    struct manifest_view ours cleanup(manifest_view_clear) = {0};
    struct manifest_view theirs cleanup(manifest_view_clear) = {0};
    if (manifest_parse(text, &ours, NULL) < 0 || manifest_parse(present, &theirs, NULL) < 0)
        return true;
    return strcmp(ours.identity.store, theirs.identity.store) != 0 ||
           ours.identity.incarnation != theirs.identity.incarnation || theirs.revision > ours.revision;
}

static int write_whole(struct core *core, const struct device *device, struct copy *copy,
                       struct error **ret_error)
{
    autostrbuf struct strbuf text = {0};
    autofree char *present = NULL;
    uint64_t revision = 0;
    int r = whole_text(core, device->meta.uid, &text, &revision, ret_error);
    if (r < 0)
        return r;
    r = engine_manifest_read(core->engine, device, &present, NULL);
    if (r < 0 && r != -ENOENT)
        return error_set(ret_error, -r, "device %s: cannot read its manifest: %s", device->meta.name,
                         strerror(-r));
    bool keep = present && is_foreign(strbuf_string(&text), present);
    if (keep)
        log_warning("device %s: its manifest is of another state of the store, and is kept as manifest.old",
                    device->meta.name);
    r = engine_manifest_replace(core->engine, device, strbuf_string(&text), keep, &copy->length, ret_error);
    if (r < 0)
        return r;
    copy->whole = true;
    copy->revision = revision;
    copy->limit = 2 * copy->length + GROWTH_LIMIT;
    return 0;
}

static int write_copy(struct core *core, const struct device *device, struct copy *copy, const char *changes,
                      uint64_t revision, struct error **ret_error)
{
    int r = -ESTALE;
    if (copy->whole && copy->length < copy->limit)
        r = *changes ? engine_manifest_append(core->engine, device, changes, &copy->length, NULL) : 0;
    if (r == 0) {
        copy->revision = revision > copy->revision ? revision : copy->revision;
        return 0;
    }
    copy->whole = false;
    return write_whole(core, device, copy, ret_error);
}

/* ---- All devices ---- */

static void changes_text(json_t *pending, uint64_t revision, struct strbuf *text)
{
    const char *key;
    json_t *change;
    json_object_foreach(pending, key, change)
        manifest_add_record(text, key, (uint64_t)json_integer_value(json_array_get(change, 0)),
                            json_string_value(json_array_get(change, 1)));
    if (json_object_size(pending))
        manifest_add_end(text, revision);
}

/* Returns whether a device must be tried again. */
static bool write_all(struct manifest *manifest, json_t *pending, uint64_t revision, bool anew)
{
    struct core *core = manifest->core;
    struct record_list devices = {.kind = KIND_DEVICE};
    autostrbuf struct strbuf changes = {0};
    bool again = false;
    changes_text(pending, revision, &changes);
    if (record_list_readable(core, KIND_DEVICE, core->node, &devices, NULL) < 0)
        return true;
    for (size_t i = 0; i < devices.list.count; i++) {
        const struct device *device = RECORD(&devices, device, i);
        struct copy *copy = copy_of(manifest, device->meta.uid);
        if (anew)
            copy->whole = false;
        if (device->meta.deleting || !string_equal(device->status.phase, "ready")) {
            copy->whole = false;
            continue;
        }
        autoerror struct error *problem = NULL;
        int r = write_copy(core, device, copy, strbuf_string(&changes), revision, &problem);
        again |= r < 0;
        if (string_replace(&copy->error, r < 0 ? error_message(problem) : NULL) && r < 0 && r != -ENODEV)
            log_warning("the manifest of device %s was not written: %s", device->meta.name, copy->error);
    }
    record_list_clear(&devices);
    return again;
}

/* With the lock held before and after. */
static void turn(struct manifest *manifest)
{
    json_t *pending = manifest->pending;
    uint64_t revision = manifest->seen;
    bool anew = manifest->missed;
    manifest->pending = json_object();
    manifest->dirty = manifest->missed = false;
    pthread_mutex_unlock(&manifest->mutex);
    bool again = write_all(manifest, pending, revision, anew);
    json_decref(pending);
    pthread_mutex_lock(&manifest->mutex);
    manifest->done = revision;
    manifest->urgent = false;
    pthread_cond_broadcast(&manifest->written);
    if (again)
        set_due(manifest, AGAIN_MS);
}

static void *run(void *data)
{
    struct manifest *manifest = data;
    pthread_mutex_lock(&manifest->mutex);
    while (!manifest->stopping) {
        bool waits = !manifest->dirty || manifest->paused;
        if (!waits && (manifest->urgent || manifest->due_ms <= clock_monotonic_ms())) {
            turn(manifest);
        } else if (waits) {
            pthread_cond_wait(&manifest->changed, &manifest->mutex);
        } else {
            struct timespec when = {.tv_sec = manifest->due_ms / 1000,
                                    .tv_nsec = manifest->due_ms % 1000 * 1000000};
            pthread_cond_clockwait(&manifest->changed, &manifest->mutex, CLOCK_MONOTONIC, &when);
        }
    }
    if (manifest->dirty && !manifest->paused)
        turn(manifest);
    pthread_mutex_unlock(&manifest->mutex);
    return NULL;
}

/* ---- For others ---- */

int manifest_flush(struct core *core, int timeout_ms)
{
    struct manifest *manifest = core->manifest;
    struct store_list nothing = {0};
    int r = store_list(core->store, "nodes/", NULL, 1, &nothing, NULL);
    if (r < 0)
        return r;
    uint64_t revision = nothing.revision;
    store_list_clear(&nothing);
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    struct timespec when = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
    scoped_lock(&manifest->mutex);
    while (manifest->done < revision && !manifest->stopping && !manifest->paused) {
        manifest->urgent = manifest->dirty;
        pthread_cond_signal(&manifest->changed);
        if (pthread_cond_clockwait(&manifest->written, &manifest->mutex, CLOCK_MONOTONIC, &when) == ETIMEDOUT)
            return -ETIMEDOUT;
    }
    return manifest->done < revision ? -EAGAIN : 0;
}

void manifest_write_anew(struct core *core)
{
    struct manifest *manifest = core->manifest;
    scoped_lock(&manifest->mutex);
    manifest->missed = true;
    manifest->done = 0; /* who waits for a flush waits for this */
    set_due(manifest, 0);
}

bool adoption_is_open(struct core *core)
{
    struct store_entry entry = {0};
    bool open = store_get(core->store, ADOPTION_KEY, &entry, NULL) == 0;
    store_entry_clear(&entry);
    return open;
}

int manifest_start(struct core *core, struct error **ret_error)
{
    struct manifest *manifest = core->manifest;
    struct store_list nothing = {0};
    int r = make_identity(core, ret_error);
    if (r == 0)
        r = store_list(core->store, "nodes/", NULL, 1, &nothing, ret_error);
    if (r < 0)
        return r;
    manifest->seen = nothing.revision;
    store_list_clear(&nothing);
    manifest->paused = adoption_is_open(core);
    if (manifest->paused)
        log_warning("an adoption of devices is not complete: run gluster-block device adopt again");
    manifest->dirty = manifest->missed = true;
    manifest->due_ms = clock_monotonic_ms() + COLLECT_MS;
    r = store_watch(core->store, "", manifest->seen, on_change, manifest, &manifest->watch, ret_error);
    if (r < 0)
        return r;
    int number = pthread_create(&manifest->thread, NULL, run, manifest);
    if (number)
        return error_set(ret_error, number, "cannot start the thread of the manifests: %s", strerror(number));
    manifest->running = true;
    return 0;
}

void manifest_stop(struct core *core)
{
    struct manifest *manifest = core->manifest;
    store_watch_end(manifest->watch);
    manifest->watch = NULL;
    {
        scoped_lock(&manifest->mutex);
        manifest->stopping = true;
        pthread_cond_broadcast(&manifest->changed);
        pthread_cond_broadcast(&manifest->written);
    }
    if (manifest->running)
        pthread_join(manifest->thread, NULL);
    manifest->running = false;
}

struct manifest *manifest_new(struct core *core)
{
    struct manifest *manifest = xcalloc(1, sizeof *manifest);
    manifest->core = core;
    manifest->pending = json_object();
    pthread_mutex_init(&manifest->mutex, NULL);
    pthread_cond_init(&manifest->changed, NULL);
    pthread_cond_init(&manifest->written, NULL);
    return manifest;
}

void manifest_free(struct manifest *manifest)
{
    if (!manifest)
        return;
    for (size_t i = 0; i < manifest->copies.count; i++) {
        struct copy *copy = (struct copy *)manifest->copies.items + i;
        free(copy->device_uid);
        free(copy->error);
    }
    free(manifest->copies.items);
    json_decref(manifest->pending);
    pthread_cond_destroy(&manifest->changed);
    pthread_cond_destroy(&manifest->written);
    pthread_mutex_destroy(&manifest->mutex);
    free(manifest);
}
