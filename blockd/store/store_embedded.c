/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The embedded backend: a SQLite file that one process owns. Transactions that arrive while another one is on
 * its way to the disk wait together and share the next trip.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "blockd/store/store_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"
#include "rpc/base/strings.h"

#define DEFAULT_HISTORY 10000
#define LARGEST_HISTORY 10000000

struct embedded {
    struct store base;
    int lock_fd;
    uint64_t history; /* revisions kept for watches */
    struct database *database;
    struct watch_hub *hub;
    struct lease_clock *leases;

    pthread_mutex_t mutex; /* guards what follows; no other lock is taken under it */
    pthread_cond_t done;
    bool writing; /* a thread leads: it alone uses the database's writing side */
    struct task *first, *last;
};

/* What one caller wants written. Lives on its stack; belongs to the leader from the queue to `finished`. */
struct task {
    int (*run)(struct embedded *embedded, struct task *task, struct error **ret_error);
    const struct store_op *ops;
    size_t count;
    unsigned seconds;
    int64_t lease;
    uint64_t revision;
    bool refused; /* it failed by itself; the others of its batch did not */
    bool finished;
    int result;
    struct error *error;
    struct task *next;
};

/* ---- Group commit ---- */

static void set_result(struct task *task, int result, const struct error *error)
{
    error_free(task->error);
    task->error = NULL;
    task->result = result;
    if (result < 0)
        error_set(&task->error, -result, "%s", error_message(error));
}

/* Runs the tasks up to `end` in one transaction of the database. On failure none of them happened. */
static int try_batch(struct embedded *embedded, struct task *first, struct task *end,
                     struct error **ret_error)
{
    int r = database_begin(embedded->database, ret_error);
    if (r < 0)
        return r;
    for (struct task *task = first; task != end && r == 0; task = task->next) {
        task->refused = false;
        autoerror struct error *error = NULL;
        int result = task->run(embedded, task, &error);
        set_result(task, result, error);
        if (result < 0 && !task->refused)
            r = error_set(ret_error, -result, "%s", error_message(error));
    }
    if (r == 0)
        r = database_trim(embedded->database, embedded->history, ret_error);
    fault_point("store-before-commit");
    if (r == 0)
        r = database_commit(embedded->database, ret_error);
    if (r < 0)
        database_rollback(embedded->database);
    fault_point("store-after-commit");
    return r;
}

static void write_batch(struct embedded *embedded, struct task *first)
{
    autoerror struct error *error = NULL;
    if (try_batch(embedded, first, NULL, &error) == 0)
        return;
    /* One large value on a nearly full disk must not take the others with it: now each by itself. */
    for (struct task *task = first; task; task = task->next) {
        autoerror struct error *cause = NULL;
        int r = try_batch(embedded, task, task->next, &cause);
        if (r < 0)
            set_result(task, r, cause);
    }
}

static void enqueue(struct embedded *embedded, struct task *task)
{
    if (embedded->last)
        embedded->last->next = task;
    else
        embedded->first = task;
    embedded->last = task;
}

/* Returns when the task was written or failed. The first who comes while nobody writes leads, for all that
 * wait. */
static int submit(struct embedded *embedded, struct task *task, struct error **ret_error)
{
    pthread_mutex_lock(&embedded->mutex);
    enqueue(embedded, task);
    while (embedded->writing && !task->finished)
        pthread_cond_wait(&embedded->done, &embedded->mutex);
    if (!task->finished) {
        struct task *batch = embedded->first;
        embedded->first = embedded->last = NULL;
        embedded->writing = true;
        pthread_mutex_unlock(&embedded->mutex);
        write_batch(embedded, batch);
        watch_hub_notify(embedded->hub, database_written_revision(embedded->database));
        pthread_mutex_lock(&embedded->mutex);
        embedded->writing = false;
        for (struct task *written = batch; written; written = written->next)
            written->finished = true;
        pthread_cond_broadcast(&embedded->done);
    }
    pthread_mutex_unlock(&embedded->mutex);

    autoerror struct error *error = task->error;
    return task->result < 0 ? error_set(ret_error, -task->result, "%s", error_message(error)) : 0;
}

static int run_commit(struct embedded *embedded, struct task *task, struct error **ret_error)
{
    return database_apply(embedded->database, task->ops, task->count, &task->revision, &task->refused,
                          ret_error);
}

static int run_lease_add(struct embedded *embedded, struct task *task, struct error **ret_error)
{
    return database_lease_add(embedded->database, task->seconds, &task->lease, ret_error);
}

static int run_lease_end(struct embedded *embedded, struct task *task, struct error **ret_error)
{
    return database_lease_end(embedded->database, task->lease, ret_error);
}

/* ---- Slots ---- */

static int embedded_get(struct store *store, const char *key, struct store_entry *ret_entry,
                        struct error **ret_error)
{
    return database_get(((struct embedded *)store)->database, key, ret_entry, ret_error);
}

static int embedded_list(struct store *store, const char *prefix, const char *after, size_t limit,
                         struct store_list *ret_list, struct error **ret_error)
{
    return database_list(((struct embedded *)store)->database, prefix, after, limit, ret_list, ret_error);
}

static int embedded_commit(struct store *store, const struct store_op *ops, size_t count,
                           uint64_t *ret_revision, struct error **ret_error)
{
    struct task task = {.run = run_commit, .ops = ops, .count = count};
    int r = submit((struct embedded *)store, &task, ret_error);
    if (r == 0)
        *ret_revision = task.revision;
    return r;
}

static int embedded_watch(struct store *store, const char *prefix, uint64_t after_revision,
                          store_watch_callback callback, void *data, struct store_watch **ret_watch,
                          struct error **ret_error)
{
    struct embedded *embedded = (struct embedded *)store;
    uint64_t revision;
    int r = database_revision(embedded->database, &revision, ret_error);
    if (r < 0)
        return r;
    /* A revision of the future is one of another life of the store, before a copy was put back. */
    *ret_watch = watch_hub_add(embedded->hub, store, prefix, after_revision, after_revision > revision,
                               callback, data);
    return 0;
}

static void embedded_watch_end(struct store_watch *watch)
{
    watch_hub_remove(((struct embedded *)watch->store)->hub, watch);
}

static int embedded_lease_grant(struct store *store, unsigned seconds, int64_t *ret_lease,
                                struct error **ret_error)
{
    struct embedded *embedded = (struct embedded *)store;
    struct task task = {.run = run_lease_add, .seconds = seconds};
    int r = submit(embedded, &task, ret_error);
    if (r < 0)
        return r;
    lease_clock_add(embedded->leases, task.lease, seconds);
    *ret_lease = task.lease;
    return 0;
}

static int no_lease(int64_t lease, struct error **ret_error)
{
    return error_set(ret_error, ENOENT, "the lease %lld has ended", (long long)lease);
}

static int embedded_lease_renew(struct store *store, int64_t lease, struct error **ret_error)
{
    return lease_clock_renew(((struct embedded *)store)->leases, lease) ? 0 : no_lease(lease, ret_error);
}

static int embedded_lease_revoke(struct store *store, int64_t lease, struct error **ret_error)
{
    struct embedded *embedded = (struct embedded *)store;
    unsigned seconds;
    if (!lease_clock_take(embedded->leases, lease, &seconds))
        return no_lease(lease, ret_error);
    struct task task = {.run = run_lease_end, .lease = lease};
    int r = submit(embedded, &task, ret_error);
    if (r < 0)
        lease_clock_add(embedded->leases, lease, seconds);
    return r;
}

static int expire(void *data, int64_t lease)
{
    struct task task = {.run = run_lease_end, .lease = lease};
    return submit(data, &task, NULL);
}

static int read_changes(void *data, uint64_t after, size_t limit, struct store_changes *ret_changes,
                        struct error **ret_error)
{
    struct embedded *embedded = data;
    return database_changes(embedded->database, after, limit, ret_changes, ret_error);
}

/* ---- Open and close ---- */

static void embedded_close(struct store *store)
{
    struct embedded *embedded = (struct embedded *)store;
    lease_clock_free(embedded->leases);
    watch_hub_free(embedded->hub);
    database_close(embedded->database);
    if (embedded->lock_fd >= 0)
        close(embedded->lock_fd);
    pthread_cond_destroy(&embedded->done);
    pthread_mutex_destroy(&embedded->mutex);
    free(embedded);
}

/* "/path?history=N" */
static int parse_location(const char *location, char **ret_path, uint64_t *ret_history,
                          struct error **ret_error)
{
    static const char option[] = "?history=";
    const char *question = strstr(location, option);
    size_t length = question ? (size_t)(question - location) : strlen(location);
    if (location[0] != '/' || length == 1 || length >= PATH_MAX)
        return error_set(ret_error, EINVAL, "the store's path \"%.*s\" is not absolute", (int)length,
                         location);
    uint64_t history = DEFAULT_HISTORY;
    if (question) {
        const char *digits = question + strlen(option);
        size_t count = strspn(digits, "0123456789");
        history = count && count < 10 && !digits[count] ? strtoull(digits, NULL, 10) : 0;
        if (history < 1 || history > LARGEST_HISTORY)
            return error_set(ret_error, EINVAL, "the store's history \"%s\" is not between 1 and %d", digits,
                             LARGEST_HISTORY);
    }
    *ret_path = xstrndup(location, length);
    *ret_history = history;
    return 0;
}

static int make_folder(const char *path, struct error **ret_error)
{
    const char *slash = strrchr(path, '/');
    if (slash == path)
        return 0;
    autofree char *folder = xstrndup(path, (size_t)(slash - path));
    return folder_make(folder, 0700, ret_error);
}

/* The lock goes with the process, however it ends. A file of its own, because SQLite locks ranges of the
 * database. */
static int take_lock(const char *path, int *ret_fd, struct error **ret_error)
{
    autofree char *lock_path = xasprintf("%s.lock", path);
    autoclose int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set(ret_error, errno, "cannot open %s: %s", lock_path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return error_set(ret_error, EBUSY, "the store %s is open in another process: it holds %s", path,
                             lock_path);
        return error_set(ret_error, errno, "cannot lock %s: %s", lock_path, strerror(errno));
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* SQLite gives the mode of the database to the files beside it. */
static int make_file(const char *path, struct error **ret_error)
{
    autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set(ret_error, errno, "cannot open the store %s: %s", path, strerror(errno));
    return 0;
}

static int start_leases(struct embedded *embedded, struct error **ret_error)
{
    autofree struct database_lease *leases = NULL;
    size_t count = 0;
    int r = database_leases(embedded->database, &leases, &count, ret_error);
    if (r == 0)
        r = lease_clock_new(expire, embedded, &embedded->leases, ret_error);
    for (size_t i = 0; r == 0 && i < count; i++)
        lease_clock_add(embedded->leases, leases[i].id, leases[i].seconds);
    return r;
}

static int start(struct embedded *embedded, const char *path, struct error **ret_error)
{
    int r = make_folder(path, ret_error);
    if (r == 0)
        r = take_lock(path, &embedded->lock_fd, ret_error);
    if (r == 0)
        r = make_file(path, ret_error);
    if (r == 0)
        r = database_open(path, &embedded->database, ret_error);
    if (r < 0)
        return r;
    struct watch_source source = {
        .read = read_changes,
        .data = embedded,
        .revision = database_written_revision(embedded->database),
    };
    r = watch_hub_new(&source, &embedded->hub, ret_error);
    return r < 0 ? r : start_leases(embedded, ret_error);
}

static int embedded_open(const char *location, struct store **ret_store, struct error **ret_error)
{
    autofree char *path = NULL;
    uint64_t history = DEFAULT_HISTORY;
    int r = parse_location(location, &path, &history, ret_error);
    if (r < 0)
        return r;
    struct embedded *embedded = xcalloc(1, sizeof *embedded);
    embedded->base.driver = &store_embedded_driver;
    embedded->lock_fd = -1;
    embedded->history = history;
    pthread_mutex_init(&embedded->mutex, NULL);
    pthread_cond_init(&embedded->done, NULL);
    r = start(embedded, path, ret_error);
    if (r < 0) {
        embedded_close(&embedded->base);
        return r;
    }
    *ret_store = &embedded->base;
    return 0;
}

const struct store_driver store_embedded_driver = {
    .scheme = "sqlite",
    .open = embedded_open,
    .close = embedded_close,
    .get = embedded_get,
    .list = embedded_list,
    .commit = embedded_commit,
    .watch = embedded_watch,
    .watch_end = embedded_watch_end,
    .lease_grant = embedded_lease_grant,
    .lease_renew = embedded_lease_renew,
    .lease_revoke = embedded_lease_revoke,
};
