/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/nbd/catalog.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <time.h>

#include "handler/nbd/counters.h"
#include "handler/nbd/volumes.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/files.h"
#include "rpc/base/sizes.h"
#include "rpc/grant.h"

enum entry_state { ENTRY_OPENING, ENTRY_OPEN, ENTRY_CLOSING };
static const char *const state_words[] = {"opening", "open", "closing"};

/* A connection whose open is under way. */
struct opening {
    struct opening *next;
    struct catalog *catalog;
    char *volume, *block;
    struct catalog_user *user;
    catalog_opened opened;
    void *data;
};

struct entry {
    struct entry *next;
    struct catalog *catalog;
    char *volume, *block;
    enum entry_state state;
    bool revoked;       /* to be closed as soon as nobody uses it; not found by name any more */
    bool recheck;       /* the grant changed while it was opening: the opener reads it again */
    struct grant grant; /* the opener's until ENTRY_OPEN */
    struct hosting *hosting;
    struct image *image;
    struct counters *counters;
    struct catalog_user *users;
    struct opening *waiters;
    int64_t idle_since;
};

struct catalog {
    char *run_dir;
    struct pool *pool;
    int64_t image_linger_ms;
    struct volumes *volumes;
    pthread_mutex_t mutex; /* guards what follows and every export in the list; taken before volumes' */
    pthread_cond_t closed; /* an export left the list, or finished its recheck, or a client left */
    struct entry *first;
    struct counters_table counters;
};

struct catalog *catalog_new(const struct catalog_options *options)
{
    struct catalog *catalog = xcalloc(1, sizeof *catalog);
    catalog->run_dir = xstrdup(options->run_dir);
    catalog->pool = options->pool;
    catalog->image_linger_ms = options->image_linger_ms;
    catalog->volumes = volumes_new(options->log_dir, options->pool, options->volume_linger_ms);
    pthread_mutex_init(&catalog->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&catalog->closed, &attributes);
    pthread_condattr_destroy(&attributes);
    return catalog;
}

static void entry_free(struct entry *entry)
{
    cleanup_grant(&entry->grant);
    free(entry->volume);
    free(entry->block);
    free(entry);
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

int catalog_info(struct catalog *catalog, const char *name, struct catalog_info *ret_info,
                 struct error **ret_error)
{
    autofree char *volume = NULL, *block = NULL;
    int r = name_split(name, &volume, &block, ret_error);
    if (r < 0)
        return r;
    cleanup(cleanup_grant) struct grant grant = {0};
    r = grant_read(catalog->run_dir, volume, block, &grant, ret_error);
    if (r < 0)
        return r;
    *ret_info = (struct catalog_info){grant.size, (uint32_t)grant.block_size, grant.read_only};
    return 0;
}

int catalog_list(struct catalog *catalog, struct string_list *ret_names, struct error **ret_error)
{
    autofree char *folder = xasprintf("%s/grants", catalog->run_dir);
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

static void unlink_entry(struct entry *entry)
{
    struct entry **link = &entry->catalog->first;
    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
    pthread_cond_broadcast(&entry->catalog->closed);
}

/* On the pool, without the mutex. */
static void close_entry(void *data)
{
    struct entry *entry = data;
    struct catalog *catalog = entry->catalog;
    image_close(entry->image);
    volumes_put(catalog->volumes, entry->hosting);
    {
        scoped_lock(&catalog->mutex);
        counters_put(&catalog->counters, entry->counters, entry->revoked);
        unlink_entry(entry);
    }
    entry_free(entry);
}

/* The mark under the mutex makes this thread the one that closes; the caller then submits close_entry()
 * without it. */
static bool claim_close(struct entry *entry, int64_t now)
{
    if (entry->state != ENTRY_OPEN || entry->users)
        return false;
    if (!entry->revoked && now - entry->idle_since < entry->catalog->image_linger_ms)
        return false;
    entry->state = ENTRY_CLOSING;
    return true;
}

static void withdraw(struct entry *entry)
{
    entry->revoked = true;
    for (struct catalog_user *user = entry->users; user; user = user->next)
        user->cut(user);
}

static struct entry *find_live(struct catalog *catalog, const char *volume, const char *block)
{
    for (struct entry *entry = catalog->first; entry; entry = entry->next)
        if (!entry->revoked && entry->state != ENTRY_CLOSING && string_equal(entry->block, block) &&
            string_equal(entry->volume, volume))
            return entry;
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
static void check_one(struct catalog *catalog, const char *volume, const char *block)
{
    cleanup(cleanup_grant) struct grant grant = {0};
    int r = grant_read(catalog->run_dir, volume, block, &grant, NULL);
    struct entry *to_close = NULL;
    {
        scoped_lock(&catalog->mutex);
        struct entry *entry = find_live(catalog, volume, block);
        if (!entry) {
            if (r == -ENOENT)
                counters_drop(&catalog->counters, volume, block);
            return;
        }
        if (r == 0 && entry->state == ENTRY_OPENING)
            entry->recheck = true;
        else if (r == 0 && same_image(&grant, &entry->grant))
            entry->grant.size = grant.size;
        else
            withdraw(entry);
        if (claim_close(entry, clock_monotonic_ms()))
            to_close = entry;
    }
    if (to_close)
        pool_submit(catalog->pool, close_entry, to_close);
}

void catalog_check(struct catalog *catalog, const char *volume, const char *block)
{
    if (volume) {
        check_one(catalog, volume, block);
        return;
    }
    autostring_list struct string_list names = {0};
    {
        scoped_lock(&catalog->mutex);
        for (struct entry *entry = catalog->first; entry; entry = entry->next) {
            string_list_add(&names, entry->volume);
            string_list_add(&names, entry->block);
        }
    }
    for (size_t i = 0; i < names.count; i += 2)
        check_one(catalog, names.items[i], names.items[i + 1]);
}

static bool unsettled(const struct catalog *catalog)
{
    for (const struct entry *entry = catalog->first; entry; entry = entry->next)
        if (entry->revoked || entry->recheck || entry->state == ENTRY_CLOSING)
            return true;
    return false;
}

int catalog_sync(struct catalog *catalog, int64_t timeout_ms, struct error **ret_error)
{
    catalog_check(catalog, NULL, NULL);
    int64_t deadline = clock_monotonic_ms() + timeout_ms;
    struct timespec until = {deadline / 1000, deadline % 1000 * 1000000};
    scoped_lock(&catalog->mutex);
    while (unsettled(catalog))
        if (pthread_cond_timedwait(&catalog->closed, &catalog->mutex, &until) == ETIMEDOUT)
            return error_set(ret_error, ETIMEDOUT,
                             "a withdrawn export still has requests in flight: try again");
    return 0;
}

void catalog_tick(struct catalog *catalog)
{
    int64_t now = clock_monotonic_ms();
    for (;;) {
        struct entry *to_close = NULL;
        {
            scoped_lock(&catalog->mutex);
            for (struct entry *entry = catalog->first; entry && !to_close; entry = entry->next)
                if (claim_close(entry, now))
                    to_close = entry;
        }
        if (!to_close)
            break;
        pool_submit(catalog->pool, close_entry, to_close);
    }
    volumes_tick(catalog->volumes);
}

void catalog_free(struct catalog *catalog)
{
    if (!catalog)
        return;
    catalog->image_linger_ms = 0;
    catalog_tick(catalog);
    {
        scoped_lock(&catalog->mutex);
        while (catalog->first)
            pthread_cond_wait(&catalog->closed, &catalog->mutex);
    }
    volumes_free(catalog->volumes);
    counters_clear(&catalog->counters);
    pthread_cond_destroy(&catalog->closed);
    pthread_mutex_destroy(&catalog->mutex);
    free(catalog->run_dir);
    free(catalog);
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
static void attach_user(struct entry *entry, struct catalog_user *user)
{
    user->entry = entry;
    user->info =
        (struct catalog_info){entry->grant.size, (uint32_t)entry->grant.block_size, entry->grant.read_only};
    user->previous = NULL;
    user->next = entry->users;
    if (entry->users)
        entry->users->previous = user;
    entry->users = user;
}

/* Ends an opening that failed: takes the export out of the list and tells everybody who waits. */
static void open_failed(struct entry *entry, int result, const struct error *error)
{
    struct opening *waiters;
    {
        scoped_lock(&entry->catalog->mutex);
        waiters = steal_ptr(&entry->waiters);
        unlink_entry(entry);
    }
    image_close(entry->image);
    if (entry->hosting)
        volumes_put(entry->catalog->volumes, entry->hosting);
    while (waiters) {
        struct opening *next = waiters->next;
        opening_end(waiters, result, error);
        waiters = next;
    }
    entry_free(entry);
}

/* The grant of an export that is opening changed: is it still the one that is being opened? */
static int read_grant_again(struct entry *entry, struct error **ret_error)
{
    cleanup(cleanup_grant) struct grant grant = {0};
    int r = grant_read(entry->catalog->run_dir, entry->volume, entry->block, &grant, ret_error);
    if (r < 0)
        return r;
    if (!same_image(&grant, &entry->grant))
        return error_set(ret_error, EAGAIN, "export %s/%s changed while it was opened: try again",
                         entry->volume, entry->block);
    scoped_lock(&entry->catalog->mutex);
    entry->grant.size = grant.size;
    return 0;
}

static void finish_open(struct entry *entry)
{
    struct catalog *catalog = entry->catalog;
    autoerror struct error *error = NULL;
    for (;;) {
        int r = 0;
        struct opening *waiters = NULL;
        {
            scoped_lock(&catalog->mutex);
            if (entry->revoked)
                r = error_set(&error, ENOENT, "export %s/%s was withdrawn while it was opened", entry->volume,
                              entry->block);
            else if (!entry->recheck) {
                entry->state = ENTRY_OPEN;
                entry->counters =
                    counters_get(&catalog->counters, entry->volume, entry->block, entry->grant.gbid);
                waiters = steal_ptr(&entry->waiters);
                for (struct opening *waiter = waiters; waiter; waiter = waiter->next)
                    attach_user(entry, waiter->user);
            }
            entry->recheck = false;
            pthread_cond_broadcast(&catalog->closed);
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
            r = read_grant_again(entry, &error);
        if (r < 0) {
            open_failed(entry, r, error);
            return;
        }
    }
}

static void volume_connected(void *data, int result, struct hosting *hosting, const struct error *error)
{
    struct entry *entry = data;
    if (result < 0) {
        open_failed(entry, result, error);
        return;
    }
    entry->hosting = hosting;
    autoerror struct error *open_error = NULL;
    int r = image_open(hosting_volume(hosting), entry->grant.file, entry->grant.read_only, &entry->image,
                       &open_error);
    if (r < 0) {
        error_prefix(&open_error, "export %s/%s", entry->volume, entry->block);
        open_failed(entry, r, open_error);
        return;
    }
    finish_open(entry);
}

/*
 * The export is in the list before its grant is read: a withdrawal before the reading is seen by it, and one
 * after finds the export and marks it.
 */
static void open_new(struct entry *entry)
{
    autoerror struct error *error = NULL;
    struct grant grant = {0};
    int r = grant_read(entry->catalog->run_dir, entry->volume, entry->block, &grant, &error);
    if (r < 0) {
        open_failed(entry, r, error);
        return;
    }
    {
        scoped_lock(&entry->catalog->mutex);
        entry->grant = grant;
    }
    volumes_get(entry->catalog->volumes, entry->volume, entry->grant.volfile, volume_connected, entry);
}

static void open_on_pool(void *data)
{
    struct opening *opening = data;
    struct catalog *catalog = opening->catalog;
    /* What is open already must still be what the grant says: it may have changed a moment ago. */
    check_one(catalog, opening->volume, opening->block);

    struct entry *fresh = NULL;
    bool attached = false;
    {
        scoped_lock(&catalog->mutex);
        struct entry *entry = find_live(catalog, opening->volume, opening->block);
        if (entry && entry->state == ENTRY_OPEN) {
            attach_user(entry, opening->user);
            attached = true;
        } else {
            if (!entry) {
                entry = fresh = xcalloc(1, sizeof *entry);
                entry->catalog = catalog;
                entry->volume = xstrdup(opening->volume);
                entry->block = xstrdup(opening->block);
                entry->next = catalog->first;
                catalog->first = entry;
            }
            opening->next = entry->waiters;
            entry->waiters = opening;
        }
    }
    if (attached)
        opening_end(opening, 0, NULL);
    else if (fresh)
        open_new(fresh);
}

void catalog_open(struct catalog *catalog, const char *name, struct catalog_user *user, catalog_opened opened,
                  void *data)
{
    autoerror struct error *error = NULL;
    struct opening *opening = xcalloc(1, sizeof *opening);
    opening->catalog = catalog;
    opening->user = user;
    opening->opened = opened;
    opening->data = data;
    int r = name_split(name, &opening->volume, &opening->block, &error);
    if (r < 0)
        opening_end(opening, r, error);
    else
        pool_submit(catalog->pool, open_on_pool, opening);
}

void catalog_leave(struct catalog *catalog, struct catalog_user *user)
{
    struct entry *to_close = NULL;
    {
        scoped_lock(&catalog->mutex);
        struct entry *entry = user->entry;
        if (!entry)
            return;
        if (user->previous)
            user->previous->next = user->next;
        else
            entry->users = user->next;
        if (user->next)
            user->next->previous = user->previous;
        user->entry = NULL;
        entry->idle_since = clock_monotonic_ms();
        if (claim_close(entry, entry->idle_since))
            to_close = entry;
        pthread_cond_broadcast(&catalog->closed);
    }
    if (to_close)
        pool_submit(catalog->pool, close_entry, to_close);
}

struct image *entry_image(struct entry *entry)
{
    return entry->image;
}

struct metrics *entry_metrics(struct entry *entry)
{
    return &entry->counters->metrics;
}

/* ---- What is seen from outside ---- */

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
