/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/nbd/exports.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <time.h>

#include "handler/nbd/volumes.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/files.h"
#include "rpc/base/sizes.h"
#include "rpc/grant.h"

enum export_state { EXPORT_OPENING, EXPORT_OPEN, EXPORT_CLOSING };
static const char *const state_words[] = {"opening", "open", "closing"};

/* Counters live from the first open to the revocation, over any number of opens between. */
struct counters {
    struct counters *next;
    char *volume, *block, *gbid;
    bool listed;         /* in exports->counters */
    unsigned references; /* exports that count here */
    struct metrics metrics;
};

/* A connection whose open is under way. */
struct opening {
    struct opening *next;
    struct exports *exports;
    char *volume, *block;
    struct export_user *user;
    export_opened opened;
    void *data;
};

struct export
{
    struct export *next;
    struct exports *exports;
    char *volume, *block;
    enum export_state state;
    bool revoked;       /* to be closed as soon as nobody uses it; not found by name any more */
    bool recheck;       /* the grant changed while it was opening: the opener reads it again */
    struct grant grant; /* the opener's until EXPORT_OPEN */
    struct hosting *hosting;
    struct image *image;
    struct counters *counters;
    struct export_user *users;
    struct opening *waiters;
    int64_t idle_since;
};

struct exports {
    char *run_dir;
    struct pool *pool;
    int64_t image_linger_ms;
    struct volumes *volumes;
    pthread_mutex_t mutex; /* guards what follows and every export in the list; taken before volumes' */
    pthread_cond_t closed; /* an export left the list, or finished its recheck */
    struct export *first;
    struct counters *counters;
};

struct exports *exports_new(const struct exports_options *options)
{
    struct exports *exports = xcalloc(1, sizeof *exports);
    exports->run_dir = xstrdup(options->run_dir);
    exports->pool = options->pool;
    exports->image_linger_ms = options->image_linger_ms;
    exports->volumes = volumes_new(options->log_dir, options->pool, options->volume_linger_ms);
    pthread_mutex_init(&exports->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&exports->closed, &attributes);
    pthread_condattr_destroy(&attributes);
    return exports;
}

static void counters_free(struct counters *counters)
{
    free(counters->volume);
    free(counters->block);
    free(counters->gbid);
    free(counters);
}

static void export_free(struct export *export)
{
    cleanup_grant(&export->grant);
    free(export->volume);
    free(export->block);
    free(export);
}

/* ---- Names ---- */

static int name_split(const char *name, char **ret_volume, char **ret_block, struct error **ret_error)
{
    const char *slash = strchr(name, '/');
    if (!slash)
        return error_set(ret_error, ENOENT, "there is no export \"%.64s\": names are VOLUME/BLOCK", name);
    autofree char *volume = xstrndup(name, (size_t)(slash - name));
    if (name_check("volume", volume, NULL) < 0 || name_check("block", slash + 1, NULL) < 0)
        return error_set(ret_error, ENOENT, "there is no export \"%.64s\": names are VOLUME/BLOCK", name);
    *ret_volume = steal_ptr(&volume);
    *ret_block = xstrdup(slash + 1);
    return 0;
}

int exports_info(struct exports *exports, const char *name, struct export_info *ret_info,
                 struct error **ret_error)
{
    autofree char *volume = NULL, *block = NULL;
    int r = name_split(name, &volume, &block, ret_error);
    if (r < 0)
        return r;
    cleanup(cleanup_grant) struct grant grant = {0};
    r = grant_read(exports->run_dir, volume, block, &grant, ret_error);
    if (r < 0)
        return r;
    *ret_info = (struct export_info){grant.size, (uint32_t)grant.block_size, grant.read_only};
    return 0;
}

int exports_list(struct exports *exports, struct string_list *ret_names, struct error **ret_error)
{
    autofree char *folder = xasprintf("%s/grants", exports->run_dir);
    autostring_list struct string_list volumes = {0};
    int r = folder_list(folder, &volumes, ret_error);
    if (r < 0)
        return r;
    for (size_t v = 0; v < volumes.count; v++) {
        autofree char *path = xasprintf("%s/%s", folder, volumes.items[v]);
        autostring_list struct string_list files = {0};
        /* A folder that went away meanwhile, or a stray file, has no grants. */
        if (name_check("volume", volumes.items[v], NULL) < 0 || folder_list(path, &files, NULL) < 0)
            continue;
        for (size_t f = 0; f < files.count; f++) {
            autofree char *block = grant_file_block(files.items[f]);
            if (block)
                string_list_addf(ret_names, "%s/%s", volumes.items[v], block);
        }
    }
    return 0;
}

/* ---- Closing; each function here is called with the mutex held, unless it says otherwise ---- */

static void unlink_export(struct export *export)
{
    struct export **link = &export->exports->first;
    while (*link != export)
        link = &(*link)->next;
    *link = export->next;
    pthread_cond_broadcast(&export->exports->closed);
}

static struct counters **counters_link(struct exports *exports, const char *volume, const char *block)
{
    struct counters **link = &exports->counters;
    while (*link && (!string_equal((*link)->block, block) || !string_equal((*link)->volume, volume)))
        link = &(*link)->next;
    return link;
}

/* Takes the counters out of the list: the block that they counted is withdrawn. */
static void counters_drop(struct counters **link)
{
    struct counters *counters = *link;
    if (!counters)
        return;
    *link = counters->next;
    counters->listed = false;
    if (counters->references == 0)
        counters_free(counters);
}

static void counters_put(struct exports *exports, struct counters *counters, bool revoked)
{
    counters->references--;
    if (!counters->listed) {
        if (counters->references == 0)
            counters_free(counters);
    } else if (revoked && counters->references == 0) {
        counters_drop(counters_link(exports, counters->volume, counters->block));
    }
}

/* On the pool, without the mutex. */
static void close_export(void *data)
{
    struct export *export = data;
    struct exports *exports = export->exports;
    image_close(export->image);
    volumes_put(exports->volumes, export->hosting);
    {
        scoped_lock(&exports->mutex);
        counters_put(exports, export->counters, export->revoked);
        unlink_export(export);
    }
    export_free(export);
}

/* The mark under the mutex makes this thread the one that closes; the caller then submits close_export()
 * without it. */
static bool claim_close(struct export *export, int64_t now)
{
    if (export->state != EXPORT_OPEN || export->users)
        return false;
    if (!export->revoked && now - export->idle_since < export->exports->image_linger_ms)
        return false;
    export->state = EXPORT_CLOSING;
    return true;
}

static void withdraw(struct export *export)
{
    export->revoked = true;
    for (struct export_user *user = export->users; user; user = user->next)
        user->cut(user);
}

static struct export *find_live(struct exports *exports, const char *volume, const char *block)
{
    for (struct export *export = exports->first; export; export = export->next)
        if (!export->revoked && export->state != EXPORT_CLOSING && string_equal(export->block, block) &&
            string_equal(export->volume, volume))
            return export;
    return NULL;
}

/* Two grants for the same open image: they differ in size at most. */
static bool same_image(const struct grant *a, const struct grant *b)
{
    return string_equal(a->gbid, b->gbid) && string_equal(a->file, b->file) &&
           string_equal(a->volfile, b->volfile) && a->read_only == b->read_only &&
           a->block_size == b->block_size && a->epoch == b->epoch;
}

/* Without the mutex. */
static void check_one(struct exports *exports, const char *volume, const char *block)
{
    cleanup(cleanup_grant) struct grant grant = {0};
    int r = grant_read(exports->run_dir, volume, block, &grant, NULL);
    struct export *to_close = NULL;
    {
        scoped_lock(&exports->mutex);
        struct export *export = find_live(exports, volume, block);
        if (!export) {
            if (r == -ENOENT)
                counters_drop(counters_link(exports, volume, block));
            return;
        }
        if (r == 0 && export->state == EXPORT_OPENING)
            export->recheck = true;
        else if (r == 0 && same_image(&grant, &export->grant))
            export->grant.size = grant.size;
        else
            withdraw(export);
        if (claim_close(export, clock_monotonic_ms()))
            to_close = export;
    }
    if (to_close)
        pool_submit(exports->pool, close_export, to_close);
}

void exports_check(struct exports *exports, const char *volume, const char *block)
{
    if (volume) {
        check_one(exports, volume, block);
        return;
    }
    autostring_list struct string_list names = {0};
    {
        scoped_lock(&exports->mutex);
        for (struct export *export = exports->first; export; export = export->next) {
            string_list_add(&names, export->volume);
            string_list_add(&names, export->block);
        }
    }
    for (size_t i = 0; i < names.count; i += 2)
        check_one(exports, names.items[i], names.items[i + 1]);
}

static bool unsettled(const struct exports *exports)
{
    for (const struct export *export = exports->first; export; export = export->next)
        if (export->revoked || export->recheck)
            return true;
    return false;
}

int exports_sync(struct exports *exports, int64_t timeout_ms, struct error **ret_error)
{
    exports_check(exports, NULL, NULL);
    int64_t deadline = clock_monotonic_ms() + timeout_ms;
    struct timespec until = {deadline / 1000, deadline % 1000 * 1000000};
    scoped_lock(&exports->mutex);
    while (unsettled(exports))
        if (pthread_cond_timedwait(&exports->closed, &exports->mutex, &until) == ETIMEDOUT)
            return error_set(ret_error, ETIMEDOUT,
                             "a withdrawn export still has requests in flight: try again");
    return 0;
}

void exports_tick(struct exports *exports)
{
    int64_t now = clock_monotonic_ms();
    for (;;) {
        struct export *to_close = NULL;
        {
            scoped_lock(&exports->mutex);
            for (struct export *export = exports->first; export && !to_close; export = export->next)
                if (claim_close(export, now))
                    to_close = export;
        }
        if (!to_close)
            break;
        pool_submit(exports->pool, close_export, to_close);
    }
    volumes_tick(exports->volumes);
}

void exports_free(struct exports *exports)
{
    if (!exports)
        return;
    exports->image_linger_ms = 0;
    exports_tick(exports);
    {
        scoped_lock(&exports->mutex);
        while (exports->first)
            pthread_cond_wait(&exports->closed, &exports->mutex);
    }
    volumes_free(exports->volumes);
    while (exports->counters) {
        struct counters *counters = exports->counters;
        exports->counters = counters->next;
        counters_free(counters);
    }
    pthread_cond_destroy(&exports->closed);
    pthread_mutex_destroy(&exports->mutex);
    free(exports->run_dir);
    free(exports);
}

/* ---- Opening ---- */

static void opening_end(struct opening *opening, int result, const struct error *error)
{
    opening->opened(opening->data, result, error);
    free(opening->volume);
    free(opening->block);
    free(opening);
}

/* With the mutex held. */
static void attach_user(struct export *export, struct export_user *user)
{
    user->export = export;
    user->info = (struct export_info){export->grant.size, (uint32_t) export->grant.block_size,
                                      export->grant.read_only};
    user->previous = NULL;
    user->next = export->users;
    if (export->users)
        export->users->previous = user;
    export->users = user;
}

/* With the mutex held. Counters of another block that had this name are dropped. */
static struct counters *counters_get(struct exports *exports, const struct export *export)
{
    struct counters **link = counters_link(exports, export->volume, export->block);
    if (*link && !string_equal((*link)->gbid, export->grant.gbid))
        counters_drop(link);
    struct counters *counters = *counters_link(exports, export->volume, export->block);
    if (!counters) {
        counters = xcalloc(1, sizeof *counters);
        counters->volume = xstrdup(export->volume);
        counters->block = xstrdup(export->block);
        counters->gbid = xstrdup(export->grant.gbid);
        counters->listed = true;
        counters->next = exports->counters;
        exports->counters = counters;
    }
    counters->references++;
    return counters;
}

/* Ends an opening that failed: takes the export out of the list and tells everybody who waits. */
static void open_failed(struct export *export, int result, const struct error *error)
{
    struct opening *waiters;
    {
        scoped_lock(&export->exports->mutex);
        waiters = steal_ptr(&export->waiters);
        unlink_export(export);
    }
    image_close(export->image);
    if (export->hosting)
        volumes_put(export->exports->volumes, export->hosting);
    while (waiters) {
        struct opening *next = waiters->next;
        opening_end(waiters, result, error);
        waiters = next;
    }
    export_free(export);
}

/* The grant of an export that is opening changed: is it still the one that is being opened? */
static int read_grant_again(struct export *export, struct error **ret_error)
{
    cleanup(cleanup_grant) struct grant grant = {0};
    int r = grant_read(export->exports->run_dir, export->volume, export->block, &grant, ret_error);
    if (r < 0)
        return r;
    if (!same_image(&grant, &export->grant))
        return error_set(ret_error, EAGAIN, "export %s/%s changed while it was opened: try again",
                         export->volume, export->block);
    scoped_lock(&export->exports->mutex);
    export->grant.size = grant.size;
    return 0;
}

static void finish_open(struct export *export)
{
    struct exports *exports = export->exports;
    autoerror struct error *error = NULL;
    for (;;) {
        int r = 0;
        struct opening *waiters = NULL;
        {
            scoped_lock(&exports->mutex);
            if (export->revoked)
                r = error_set(&error, ENOENT, "export %s/%s was withdrawn while it was opened",
                              export->volume, export->block);
            else if (!export->recheck) {
                export->state = EXPORT_OPEN;
                export->counters = counters_get(exports, export);
                waiters = steal_ptr(&export->waiters);
                for (struct opening *waiter = waiters; waiter; waiter = waiter->next)
                    attach_user(export, waiter->user);
            }
            export->recheck = false;
            pthread_cond_broadcast(&exports->closed);
        }
        if (waiters) {
            while (waiters) {
                struct opening *next = waiters->next;
                opening_end(waiters, 0, NULL);
                waiters = next;
            }
            return;
        }
        if (r == 0)
            r = read_grant_again(export, &error);
        if (r < 0) {
            open_failed(export, r, error);
            return;
        }
    }
}

static void volume_connected(void *data, int result, struct hosting *hosting, const struct error *error)
{
    struct export *export = data;
    if (result < 0) {
        open_failed(export, result, error);
        return;
    }
    export->hosting = hosting;
    autoerror struct error *open_error = NULL;
    int r = image_open(hosting_volume(hosting), export->grant.file, export->grant.read_only, &export->image,
                       &open_error);
    if (r < 0) {
        error_prefix(&open_error, "export %s/%s", export->volume, export->block);
        open_failed(export, r, open_error);
        return;
    }
    finish_open(export);
}

/*
 * The export is in the list before its grant is read: a withdrawal before the reading is seen by it, and one
 * after finds the export and marks it.
 */
static void open_new(struct export *export)
{
    autoerror struct error *error = NULL;
    struct grant grant = {0};
    int r = grant_read(export->exports->run_dir, export->volume, export->block, &grant, &error);
    if (r < 0) {
        open_failed(export, r, error);
        return;
    }
    {
        scoped_lock(&export->exports->mutex);
        export->grant = grant;
    }
    volumes_get(export->exports->volumes, export->volume, export->grant.volfile, volume_connected, export);
}

static void open_on_pool(void *data)
{
    struct opening *opening = data;
    struct exports *exports = opening->exports;
    /* What is open already must still be what the grant says: it may have changed a moment ago. */
    check_one(exports, opening->volume, opening->block);

    struct export *fresh = NULL;
    bool attached = false;
    {
        scoped_lock(&exports->mutex);
        struct export *export = find_live(exports, opening->volume, opening->block);
        if (export && export->state == EXPORT_OPEN) {
            attach_user(export, opening->user);
            attached = true;
        } else {
            if (!export) {
                export = fresh = xcalloc(1, sizeof *export);
                export->exports = exports;
                export->volume = xstrdup(opening->volume);
                export->block = xstrdup(opening->block);
                export->next = exports->first;
                exports->first = export;
            }
            opening->next = export->waiters;
            export->waiters = opening;
        }
    }
    if (attached)
        opening_end(opening, 0, NULL);
    else if (fresh)
        open_new(fresh);
}

void exports_open(struct exports *exports, const char *name, struct export_user *user, export_opened opened,
                  void *data)
{
    autoerror struct error *error = NULL;
    struct opening *opening = xcalloc(1, sizeof *opening);
    opening->exports = exports;
    opening->user = user;
    opening->opened = opened;
    opening->data = data;
    int r = name_split(name, &opening->volume, &opening->block, &error);
    if (r < 0)
        opening_end(opening, r, error);
    else
        pool_submit(exports->pool, open_on_pool, opening);
}

void exports_leave(struct exports *exports, struct export_user *user)
{
    struct export *to_close = NULL;
    {
        scoped_lock(&exports->mutex);
        struct export *export = user->export;
        if (!export)
            return;
        if (user->previous)
            user->previous->next = user->next;
        else
            export->users = user->next;
        if (user->next)
            user->next->previous = user->previous;
        user->export = NULL;
        export->idle_since = clock_monotonic_ms();
        if (claim_close(export, export->idle_since))
            to_close = export;
    }
    if (to_close)
        pool_submit(exports->pool, close_export, to_close);
}

struct image *export_image(struct export *export)
{
    return export->image;
}

struct metrics *export_metrics(struct export *export)
{
    return &export->counters->metrics;
}

/* ---- What is seen from outside ---- */

static json_t *report_one(const struct export *export)
{
    json_t *clients = json_array();
    for (const struct export_user *user = export->users; user; user = user->next)
        json_array_append_new(clients, json_string(user->peer));
    autofree char *name = xasprintf("%s/%s", export->volume, export->block);
    json_t *report = json_pack("{s:s, s:s, s:b, s:o}", "name", name, "state", state_words[export->state],
                               "revoked", export->revoked, "clients", clients);
    if (export->state != EXPORT_OPENING) {
        json_object_set_new(report, "gbid", json_string(export->grant.gbid));
        json_object_set_new(report, "size", json_integer((json_int_t) export->grant.size));
        json_object_set_new(report, "read_only", json_boolean(export->grant.read_only));
    }
    return report;
}

char *exports_report(struct exports *exports)
{
    json_t *list = json_array();
    {
        scoped_lock(&exports->mutex);
        for (const struct export *export = exports->first; export; export = export->next)
            json_array_append_new(list, report_one(export));
    }
    json_t *report = json_pack("{s:o}", "exports", list);
    char *text = json_dumps(report, JSON_INDENT(2));
    json_decref(report);
    return text;
}

void exports_metrics(struct exports *exports, struct strbuf *text)
{
    scoped_lock(&exports->mutex);
    size_t count = 0;
    for (struct counters *counters = exports->counters; counters; counters = counters->next)
        count++;
    autofree struct metrics_row *rows = xcalloc(count, sizeof *rows);
    size_t i = 0;
    for (struct counters *counters = exports->counters; counters; counters = counters->next, i++) {
        rows[i] = (struct metrics_row){counters->volume, counters->block, &counters->metrics, 0};
        struct export *export = find_live(exports, counters->volume, counters->block);
        for (struct export_user *user = export ? export->users : NULL; user; user = user->next)
            rows[i].connections++;
    }
    metrics_print(rows, count, text);
}
