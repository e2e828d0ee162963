/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The embedded backend's file. `history` has every change with its value, in the order of cursors; `entry`
 * says which of them is a key's present one. So a value is written once, and a watch reads on from any cursor
 * whose successors are kept.
 *
 * One connection writes; a small pool of others reads. In WAL mode neither waits for the other.
 */
#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/store_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/strings.h"

#define APPLICATION_ID 0x626c6b64 /* "blkd" */
#define SCHEMA_VERSION 1
#define READERS        8
#define BUSY_MS        10000
#define TRIM_A_COMMIT  1024 /* changes looked at */
#define TRIM_SLACK     128  /* revisions beyond what is kept before a trim is worth its statements */

static const char schema_text[] =
    "CREATE TABLE history (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value TEXT, previous INTEGER NOT NULL);"
    "CREATE TABLE entry (key TEXT PRIMARY KEY, id INTEGER NOT NULL, lease INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX entry_lease ON entry (lease) WHERE lease <> 0;"
    "CREATE TABLE lease (id INTEGER PRIMARY KEY AUTOINCREMENT, seconds INTEGER NOT NULL);"
    "CREATE TABLE trimmed (id INTEGER NOT NULL);"
    "INSERT INTO trimmed VALUES (0);";

enum statement {
    BEGIN_READ,
    BEGIN_WRITE,
    COMMIT,
    ROLLBACK,
    NEWEST,
    GET,
    LIST,
    TRIMMED,
    CHANGES,
    ENTRY_FIND,
    ENTRY_PUT,
    ENTRY_DELETE,
    HISTORY_ADD,
    HISTORY_DELETE,
    LEASE_FIND,
    LEASE_ADD,
    LEASE_DELETE,
    LEASE_KEY,
    LEASES,
    TRIM_LIST,
    TRIM_SET,
    STATEMENT_COUNT
};

/* "?1" and so on are the places of bind_...(). */
static const char *const statement_texts[STATEMENT_COUNT] = {
    [BEGIN_READ] = "BEGIN",
    [BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [NEWEST] = "SELECT coalesce(max(id), 0) FROM history",
    [GET] = "SELECT e.key, h.value, e.id FROM entry e CROSS JOIN history h ON h.id = e.id WHERE e.key = ?1",
    [LIST] = "SELECT e.key, h.value, e.id FROM entry e CROSS JOIN history h ON h.id = e.id "
             "WHERE e.key >= ?1 AND e.key < ?2 ORDER BY e.key LIMIT ?3",
    [TRIMMED] = "SELECT id FROM trimmed",
    [CHANGES] = "SELECT key, value, id FROM history WHERE id > ?1 ORDER BY id LIMIT ?2",
    [ENTRY_FIND] = "SELECT id FROM entry WHERE key = ?1",
    [ENTRY_PUT] = "INSERT INTO entry VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET id = ?2, lease = ?3",
    [ENTRY_DELETE] = "DELETE FROM entry WHERE key = ?1",
    [HISTORY_ADD] = "INSERT INTO history VALUES (?1, ?2, ?3, ?4)",
    [HISTORY_DELETE] = "DELETE FROM history WHERE id = ?1",
    [LEASE_FIND] = "SELECT id FROM lease WHERE id = ?1",
    [LEASE_ADD] = "INSERT INTO lease (seconds) VALUES (?1)",
    [LEASE_DELETE] = "DELETE FROM lease WHERE id = ?1",
    [LEASE_KEY] = "SELECT key FROM entry WHERE lease = ?1 AND lease <> 0 LIMIT 1",
    [LEASES] = "SELECT id, seconds FROM lease",
    [TRIM_LIST] =
        "SELECT id, previous, value IS NULL FROM history WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
    [TRIM_SET] = "UPDATE trimmed SET id = ?1",
};

struct connection {
    sqlite3 *sqlite;
    sqlite3_stmt *statements[STATEMENT_COUNT]; /* between uses they are reset */
    struct connection *next;                   /* in database->idle */
};

struct database {
    char *path;
    struct connection *writer; /* of the writing thread, as the next four */
    uint64_t revision;         /* of the last commit */
    uint64_t next_revision;    /* of the last transaction in the present batch */
    uint64_t trimmed, next_trimmed;

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t returned;
    struct connection *idle;
    unsigned readers; /* connections that exist, idle or not */
};

/* ---- Errors ---- */

static int errno_of(sqlite3 *sqlite, int code)
{
    int system = sqlite ? sqlite3_system_errno(sqlite) : 0;
    switch (code & 0xff) {
    case SQLITE_FULL:
        return ENOSPC;
    case SQLITE_IOERR:
        return system == ENOSPC || system == EDQUOT ? ENOSPC : EIO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return EUCLEAN;
    case SQLITE_CANTOPEN:
        return system ? system : EIO;
    case SQLITE_READONLY:
        return EROFS;
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return EACCES;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return EBUSY;
    case SQLITE_NOMEM:
        return ENOMEM;
    default:
        return EIO;
    }
}

static int corrupt(const char *path, const char *detail, struct error **ret_error)
{
    return error_set(ret_error, EUCLEAN,
                     "the store %s is corrupt (%s): stop blockd and put back a copy, or move the file away",
                     path, detail);
}

static int fail(const char *path, sqlite3 *sqlite, int code, struct error **ret_error)
{
    int number = errno_of(sqlite, code);
    const char *text = sqlite ? sqlite3_errmsg(sqlite) : sqlite3_errstr(code);
    if (number == EUCLEAN)
        return corrupt(path, text, ret_error);
    if (number == ENOSPC)
        return error_set(ret_error, ENOSPC, "the store %s cannot grow: its file system is full", path);
    return error_set(ret_error, number, "the store %s: %s", path, text);
}

/* ---- Connections and statements ---- */

static void connection_free(struct connection *connection)
{
    if (!connection)
        return;
    for (size_t i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(connection->statements[i]);
    sqlite3_close(connection->sqlite);
    free(connection);
}

DEFINE_CLEANUP(struct connection *, cleanup_connection, connection_free)

static int execute(const char *path, sqlite3 *sqlite, const char *sql, struct error **ret_error)
{
    int code = sqlite3_exec(sqlite, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : fail(path, sqlite, code, ret_error);
}

static int connect(const char *path, struct connection **ret_connection, struct error **ret_error)
{
    cleanup(cleanup_connection) struct connection *connection = xcalloc(1, sizeof *connection);
    int code = sqlite3_open_v2(path, &connection->sqlite,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code != SQLITE_OK)
        return fail(path, connection->sqlite, code, ret_error);
    sqlite3_busy_timeout(connection->sqlite, BUSY_MS);
    sqlite3_db_config(connection->sqlite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    int r =
        execute(path, connection->sqlite,
                "PRAGMA synchronous=FULL; PRAGMA cell_size_check=ON; PRAGMA trusted_schema=OFF;", ret_error);
    if (r < 0)
        return r;
    *ret_connection = steal_ptr(&connection);
    return 0;
}

static int prepare(const char *path, struct connection *connection, struct error **ret_error)
{
    for (size_t i = 0; i < STATEMENT_COUNT; i++) {
        int code = sqlite3_prepare_v3(connection->sqlite, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                                      &connection->statements[i], NULL);
        if (code != SQLITE_OK)
            return fail(path, connection->sqlite, code, ret_error);
    }
    return 0;
}

static void bind_number(sqlite3_stmt *statement, int place, uint64_t value)
{
    sqlite3_bind_int64(statement, place, (sqlite3_int64)value);
}

/* The text outlives the step, as every caller sees to; so it is not copied. */
static void bind_text(sqlite3_stmt *statement, int place, const char *text)
{
    sqlite3_bind_text(statement, place, text, -1, SQLITE_STATIC);
}

static uint64_t column_number(sqlite3_stmt *statement, int column)
{
    return (uint64_t)sqlite3_column_int64(statement, column);
}

/* Ends a statement, which also ends its hold on the bound texts. */
static void finish(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

/* Steps a statement that gives no row to its end. */
static int run(struct database *database, struct connection *connection, sqlite3_stmt *statement,
               struct error **ret_error)
{
    int code = sqlite3_step(statement);
    int r = code == SQLITE_DONE ? 0 : fail(database->path, connection->sqlite, code, ret_error);
    finish(statement);
    return r;
}

static int run_plain(struct database *database, struct connection *connection, enum statement which,
                     struct error **ret_error)
{
    sqlite3_stmt *statement = connection->statements[which];
    return run(database, connection, statement, ret_error);
}

/* The number in the first row, or `absent` when there is no row. */
static int run_number(struct database *database, struct connection *connection, sqlite3_stmt *statement,
                      uint64_t absent, uint64_t *ret_number, struct error **ret_error)
{
    int code = sqlite3_step(statement);
    int r = 0;
    if (code == SQLITE_ROW)
        *ret_number = column_number(statement, 0);
    else if (code == SQLITE_DONE)
        *ret_number = absent;
    else
        r = fail(database->path, connection->sqlite, code, ret_error);
    finish(statement);
    return r;
}

static int read_number(struct database *database, struct connection *connection, enum statement which,
                       uint64_t *ret_number, struct error **ret_error)
{
    sqlite3_stmt *statement = connection->statements[which];
    return run_number(database, connection, statement, 0, ret_number, ret_error);
}

/* ---- Reading ---- */

static int acquire_reader(struct database *database, struct connection **ret_reader, struct error **ret_error)
{
    {
        scoped_lock(&database->mutex);
        while (!database->idle && database->readers == READERS)
            pthread_cond_wait(&database->returned, &database->mutex);
        if (database->idle) {
            *ret_reader = database->idle;
            database->idle = database->idle->next;
            return 0;
        }
        database->readers++;
    }
    cleanup(cleanup_connection) struct connection *reader = NULL;
    int r = connect(database->path, &reader, ret_error);
    if (r == 0)
        r = prepare(database->path, reader, ret_error);
    if (r == 0)
        *ret_reader = steal_ptr(&reader);
    if (r < 0) {
        scoped_lock(&database->mutex);
        database->readers--;
        pthread_cond_signal(&database->returned);
    }
    return r;
}

static void release_reader(struct database *database, struct connection *reader)
{
    scoped_lock(&database->mutex);
    reader->next = database->idle;
    database->idle = reader;
    pthread_cond_signal(&database->returned);
}

static int begin_read(struct database *database, struct connection **ret_reader, struct error **ret_error)
{
    struct connection *reader;
    int r = acquire_reader(database, &reader, ret_error);
    if (r < 0)
        return r;
    r = run_plain(database, reader, BEGIN_READ, ret_error);
    if (r < 0) {
        release_reader(database, reader);
        return r;
    }
    *ret_reader = reader;
    return 0;
}

static void end_read(struct database *database, struct connection *reader)
{
    if (!sqlite3_get_autocommit(reader->sqlite))
        run_plain(database, reader, ROLLBACK, NULL);
    release_reader(database, reader);
}

static struct store_entry copy_entry(sqlite3_stmt *statement)
{
    return (struct store_entry){
        .key = xstrdup((const char *)sqlite3_column_text(statement, 0)),
        .value = xstrdup((const char *)sqlite3_column_text(statement, 1)),
        .revision = column_number(statement, 2) >> CURSOR_PLACE_BITS,
    };
}

static int get(struct database *database, struct connection *reader, const char *key,
               struct store_entry *ret_entry, struct error **ret_error)
{
    sqlite3_stmt *statement = reader->statements[GET];
    bind_text(statement, 1, key);
    int r = 0;
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        *ret_entry = copy_entry(statement);
    else if (code == SQLITE_DONE)
        r = error_set(ret_error, ENOENT, "%s does not exist", key);
    else
        r = fail(database->path, reader->sqlite, code, ret_error);
    finish(statement);
    return r;
}

int database_get(struct database *database, const char *key, struct store_entry *ret_entry,
                 struct error **ret_error)
{
    struct connection *reader;
    int r = acquire_reader(database, &reader, ret_error);
    if (r < 0)
        return r;
    r = get(database, reader, key, ret_entry, ret_error);
    release_reader(database, reader);
    return r;
}

/* Keys have bytes from '!' to '~' only, so that 0x01 sorts before and 0x7f behind all that may follow. */
static char *lower_bound(const char *prefix, const char *after)
{
    return after && strcmp(after, prefix) >= 0 ? xasprintf("%s\x01", after) : xstrdup(prefix);
}

static int list(struct database *database, struct connection *reader, const char *prefix, const char *after,
                size_t limit, struct store_list *result, struct error **ret_error)
{
    uint64_t newest;
    int r = read_number(database, reader, NEWEST, &newest, ret_error);
    if (r < 0)
        return r;
    result->revision = newest >> CURSOR_PLACE_BITS;

    sqlite3_stmt *statement = reader->statements[LIST];
    autofree char *from = lower_bound(prefix, after);
    autofree char *until = xasprintf("%s\x7f", prefix);
    bind_text(statement, 1, from);
    bind_text(statement, 2, until);
    sqlite3_bind_int64(statement, 3, limit && limit < INT64_MAX ? (sqlite3_int64)limit : -1);

    size_t capacity = 0;
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        if (result->count == capacity) {
            capacity = capacity ? capacity * 2 : 16;
            result->entries = xrealloc(result->entries, capacity, sizeof *result->entries);
        }
        result->entries[result->count++] = copy_entry(statement);
    }
    if (code != SQLITE_DONE)
        r = fail(database->path, reader->sqlite, code, ret_error);
    finish(statement);
    return r;
}

int database_list(struct database *database, const char *prefix, const char *after, size_t limit,
                  struct store_list *ret_list, struct error **ret_error)
{
    struct connection *reader;
    int r = begin_read(database, &reader, ret_error);
    if (r < 0)
        return r;
    struct store_list result = {0};
    r = list(database, reader, prefix, after, limit, &result, ret_error);
    end_read(database, reader);
    if (r < 0) {
        store_list_clear(&result);
        return r;
    }
    *ret_list = result;
    return 0;
}

int database_revision(struct database *database, uint64_t *ret_revision, struct error **ret_error)
{
    struct connection *reader;
    int r = acquire_reader(database, &reader, ret_error);
    if (r < 0)
        return r;
    uint64_t newest;
    r = read_number(database, reader, NEWEST, &newest, ret_error);
    release_reader(database, reader);
    if (r == 0)
        *ret_revision = newest >> CURSOR_PLACE_BITS;
    return r;
}

void store_changes_clear(struct store_changes *changes)
{
    for (size_t i = 0; i < changes->count; i++)
        store_entry_clear(&changes->items[i].entry);
    free(changes->items);
    *changes = (struct store_changes){0};
}

static int changes(struct database *database, struct connection *reader, uint64_t after, size_t limit,
                   struct store_changes *result, struct error **ret_error)
{
    uint64_t newest;
    int r = read_number(database, reader, NEWEST, &newest, ret_error);
    if (r == 0)
        r = read_number(database, reader, TRIMMED, &result->kept, ret_error);
    if (r < 0)
        return r;
    sqlite3_stmt *statement = reader->statements[CHANGES];
    /* Of what was trimmed only the present values are left: that is no history. */
    bind_number(statement, 1, after > result->kept ? after : result->kept);
    bind_number(statement, 2, limit);
    result->items = xcalloc(limit, sizeof *result->items);
    result->until = cursor_of_revision(newest >> CURSOR_PLACE_BITS);
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW)
        result->items[result->count++] =
            (struct store_change){copy_entry(statement), column_number(statement, 2)};
    if (code != SQLITE_DONE)
        r = fail(database->path, reader->sqlite, code, ret_error);
    if (result->count == limit)
        result->until = result->items[limit - 1].cursor;
    finish(statement);
    return r;
}

int database_changes(struct database *database, uint64_t after, size_t limit,
                     struct store_changes *ret_changes, struct error **ret_error)
{
    struct connection *reader;
    int r = begin_read(database, &reader, ret_error);
    if (r < 0)
        return r;
    struct store_changes result = {0};
    r = changes(database, reader, after, limit, &result, ret_error);
    end_read(database, reader);
    if (r < 0) {
        store_changes_clear(&result);
        return r;
    }
    *ret_changes = result;
    return 0;
}

/* ---- Writing ---- */

int database_begin(struct database *database, struct error **ret_error)
{
    database->next_revision = database->revision;
    database->next_trimmed = database->trimmed;
    return run_plain(database, database->writer, BEGIN_WRITE, ret_error);
}

int database_commit(struct database *database, struct error **ret_error)
{
    int r = run_plain(database, database->writer, COMMIT, ret_error);
    if (r < 0)
        return r;
    database->revision = database->next_revision;
    database->trimmed = database->next_trimmed;
    return 0;
}

void database_rollback(struct database *database)
{
    /* After a full disk SQLite may have rolled back by itself. */
    if (!sqlite3_get_autocommit(database->writer->sqlite))
        run_plain(database, database->writer, ROLLBACK, NULL);
}

uint64_t database_written_revision(const struct database *database)
{
    return database->revision;
}

/* The cursor of a key's present change; 0 when the key is not there. */
static int find_entry(struct database *database, const char *key, uint64_t *ret_id, struct error **ret_error)
{
    sqlite3_stmt *statement = database->writer->statements[ENTRY_FIND];
    bind_text(statement, 1, key);
    return run_number(database, database->writer, statement, 0, ret_id, ret_error);
}

static int check_revision(const struct store_op *op, uint64_t id, struct error **ret_error)
{
    uint64_t present = id >> CURSOR_PLACE_BITS;
    if ((!op->compare && op->kind != STORE_CHECK) || present == op->revision)
        return 0;
    if (op->revision == 0)
        return error_set(ret_error, ESTALE, "%s exists already", op->key);
    if (present == 0)
        return error_set(ret_error, ESTALE, "%s does not exist any more", op->key);
    return error_set(ret_error, ESTALE, "%s was changed meanwhile (revision %llu, not %llu)", op->key,
                     (unsigned long long)present, (unsigned long long)op->revision);
}

static int check_lease(struct database *database, const struct store_op *op, bool *ret_refused,
                       struct error **ret_error)
{
    if (op->kind != STORE_PUT || op->lease == 0)
        return 0;
    sqlite3_stmt *statement = database->writer->statements[LEASE_FIND];
    sqlite3_bind_int64(statement, 1, op->lease);
    uint64_t found = 0;
    int r = run_number(database, database->writer, statement, 0, &found, ret_error);
    if (r < 0 || found)
        return r;
    *ret_refused = true;
    return error_set(ret_error, ENOENT, "%s: the lease %lld has ended", op->key, (long long)op->lease);
}

static int add_history(struct database *database, uint64_t id, const char *key, const char *value,
                       uint64_t previous, struct error **ret_error)
{
    sqlite3_stmt *statement = database->writer->statements[HISTORY_ADD];
    bind_number(statement, 1, id);
    bind_text(statement, 2, key);
    bind_text(statement, 3, value);
    bind_number(statement, 4, previous);
    return run(database, database->writer, statement, ret_error);
}

static int put(struct database *database, uint64_t id, const struct store_op *op, uint64_t previous,
               struct error **ret_error)
{
    int r = add_history(database, id, op->key, op->value, previous, ret_error);
    if (r < 0)
        return r;
    sqlite3_stmt *statement = database->writer->statements[ENTRY_PUT];
    bind_text(statement, 1, op->key);
    bind_number(statement, 2, id);
    sqlite3_bind_int64(statement, 3, op->lease);
    return run(database, database->writer, statement, ret_error);
}

static int erase(struct database *database, uint64_t id, const char *key, uint64_t previous,
                 struct error **ret_error)
{
    int r = add_history(database, id, key, NULL, previous, ret_error);
    if (r < 0)
        return r;
    sqlite3_stmt *statement = database->writer->statements[ENTRY_DELETE];
    bind_text(statement, 1, key);
    return run(database, database->writer, statement, ret_error);
}

int database_apply(struct database *database, const struct store_op *ops, size_t count,
                   uint64_t *ret_revision, bool *ret_refused, struct error **ret_error)
{
    /* A key is named once, so all can be compared before anything changes. */
    uint64_t previous[STORE_OPS_MAX];
    for (size_t i = 0; i < count; i++) {
        int r = find_entry(database, ops[i].key, &previous[i], ret_error);
        if (r < 0)
            return r;
        r = check_revision(&ops[i], previous[i], ret_error);
        *ret_refused = r < 0;
        if (r == 0)
            r = check_lease(database, &ops[i], ret_refused, ret_error);
        if (r < 0)
            return r;
    }

    uint64_t revision = database->next_revision + 1;
    uint64_t first = revision << CURSOR_PLACE_BITS, id = first;
    for (size_t i = 0; i < count; i++) {
        int r = 0;
        if (ops[i].kind == STORE_PUT)
            r = put(database, id++, &ops[i], previous[i], ret_error);
        else if (ops[i].kind == STORE_DELETE && previous[i])
            r = erase(database, id++, ops[i].key, previous[i], ret_error);
        if (r < 0)
            return r;
    }
    if (id != first)
        database->next_revision = revision;
    *ret_revision = database->next_revision;
    return 0;
}

int database_lease_add(struct database *database, unsigned seconds, int64_t *ret_lease,
                       struct error **ret_error)
{
    sqlite3_stmt *statement = database->writer->statements[LEASE_ADD];
    bind_number(statement, 1, seconds);
    int r = run(database, database->writer, statement, ret_error);
    if (r == 0)
        *ret_lease = sqlite3_last_insert_rowid(database->writer->sqlite);
    return r;
}

/* A key of the lease, or NULL when it has none. */
static int lease_key(struct database *database, int64_t lease, char **ret_key, struct error **ret_error)
{
    sqlite3_stmt *statement = database->writer->statements[LEASE_KEY];
    sqlite3_bind_int64(statement, 1, lease);
    int r = 0;
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        *ret_key = xstrdup((const char *)sqlite3_column_text(statement, 0));
    else if (code == SQLITE_DONE)
        *ret_key = NULL;
    else
        r = fail(database->path, database->writer->sqlite, code, ret_error);
    finish(statement);
    return r;
}

int database_lease_end(struct database *database, int64_t lease, struct error **ret_error)
{
    uint64_t revision = database->next_revision + 1;
    uint64_t id = revision << CURSOR_PLACE_BITS;
    for (;;) {
        autofree char *key = NULL;
        uint64_t previous;
        int r = lease_key(database, lease, &key, ret_error);
        if (r == 0 && !key)
            break;
        if (r == 0)
            r = find_entry(database, key, &previous, ret_error);
        if (r == 0)
            r = erase(database, id++, key, previous, ret_error);
        if (r < 0)
            return r;
        database->next_revision = revision;
    }
    sqlite3_stmt *statement = database->writer->statements[LEASE_DELETE];
    sqlite3_bind_int64(statement, 1, lease);
    return run(database, database->writer, statement, ret_error);
}

int database_leases(struct database *database, struct database_lease **ret_leases, size_t *ret_count,
                    struct error **ret_error)
{
    sqlite3_stmt *statement = database->writer->statements[LEASES];
    autofree struct database_lease *leases = NULL;
    size_t count = 0;
    int r = 0;
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        leases = xrealloc(leases, count + 1, sizeof *leases);
        leases[count++] = (struct database_lease){sqlite3_column_int64(statement, 0),
                                                  (unsigned)sqlite3_column_int64(statement, 1)};
    }
    if (code != SQLITE_DONE)
        r = fail(database->path, database->writer->sqlite, code, ret_error);
    finish(statement);
    if (r < 0)
        return r;
    *ret_leases = steal_ptr(&leases);
    *ret_count = count;
    return 0;
}

/* ---- Forgetting ---- */

struct trim {
    uint64_t ids[2 * TRIM_A_COMMIT]; /* rows to delete */
    size_t count;
    uint64_t until;
};

/*
 * What a change replaced can go once the change itself is beyond what is kept, and so can a deletion. Looking
 * at each change once finds all of them.
 */
static int list_trim(struct database *database, uint64_t until, struct trim *trim, struct error **ret_error)
{
    sqlite3_stmt *statement = database->writer->statements[TRIM_LIST];
    bind_number(statement, 1, database->trimmed);
    bind_number(statement, 2, until);
    bind_number(statement, 3, TRIM_A_COMMIT);
    trim->until = until;
    uint64_t last = until;
    int r = 0;
    int code, seen = 0;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        last = column_number(statement, 0);
        if (column_number(statement, 1))
            trim->ids[trim->count++] = column_number(statement, 1);
        if (column_number(statement, 2))
            trim->ids[trim->count++] = last;
        seen++;
    }
    if (code != SQLITE_DONE)
        r = fail(database->path, database->writer->sqlite, code, ret_error);
    if (seen == TRIM_A_COMMIT)
        trim->until = last;
    finish(statement);
    return r;
}

static int run_with_number(struct database *database, enum statement which, uint64_t number,
                           struct error **ret_error)
{
    sqlite3_stmt *statement = database->writer->statements[which];
    bind_number(statement, 1, number);
    return run(database, database->writer, statement, ret_error);
}

int database_trim(struct database *database, uint64_t keep, struct error **ret_error)
{
    uint64_t slack = keep < TRIM_SLACK ? 0 : TRIM_SLACK;
    if (database->next_revision <= keep + slack + (database->trimmed >> CURSOR_PLACE_BITS))
        return 0;
    autofree struct trim *trim = xcalloc(1, sizeof *trim);
    int r = list_trim(database, cursor_of_revision(database->next_revision - keep), trim, ret_error);
    for (size_t i = 0; r == 0 && i < trim->count; i++)
        r = run_with_number(database, HISTORY_DELETE, trim->ids[i], ret_error);
    if (r == 0)
        r = run_with_number(database, TRIM_SET, trim->until, ret_error);
    if (r == 0)
        database->next_trimmed = trim->until;
    return r;
}

/* ---- Open and close ---- */

static int pragma_text(const char *path, sqlite3 *sqlite, const char *sql, char **ret_text,
                       struct error **ret_error)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(sqlite, sql, -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    int r = 0;
    if (code == SQLITE_ROW)
        *ret_text = xstrdup((const char *)sqlite3_column_text(statement, 0));
    else
        r = fail(path, sqlite, code, ret_error);
    sqlite3_finalize(statement);
    return r;
}

static int pragma_number(const char *path, sqlite3 *sqlite, const char *sql, long *ret_number,
                         struct error **ret_error)
{
    autofree char *text = NULL;
    int r = pragma_text(path, sqlite, sql, &text, ret_error);
    if (r == 0)
        *ret_number = text ? strtol(text, NULL, 10) : 0;
    return r;
}

static int make_schema(const char *path, sqlite3 *sqlite, struct error **ret_error)
{
    autofree char *script =
        xasprintf("BEGIN IMMEDIATE; %s PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT;",
                  schema_text, APPLICATION_ID, SCHEMA_VERSION);
    return execute(path, sqlite, script, ret_error);
}

static int check_schema(const char *path, sqlite3 *sqlite, struct error **ret_error)
{
    long application = 0, version = 0, tables = 0;
    int r = pragma_number(path, sqlite, "PRAGMA application_id", &application, ret_error);
    if (r == 0)
        r = pragma_number(path, sqlite, "PRAGMA user_version", &version, ret_error);
    if (r == 0)
        r = pragma_number(path, sqlite, "SELECT count(*) FROM sqlite_schema", &tables, ret_error);
    if (r < 0)
        return r;
    if (application == 0 && version == 0 && tables == 0)
        return make_schema(path, sqlite, ret_error);
    if (application != APPLICATION_ID)
        return error_set(ret_error, EINVAL, "%s is a SQLite database of another program", path);
    if (version > SCHEMA_VERSION)
        return error_set(
            ret_error, EPROTONOSUPPORT,
            "the store %s has the format %ld of a newer blockd, and this one knows %d: install that version",
            path, version, SCHEMA_VERSION);
    return 0;
}

static int check_health(const char *path, sqlite3 *sqlite, struct error **ret_error)
{
    autofree char *result = NULL;
    int r = pragma_text(path, sqlite, "PRAGMA quick_check(1)", &result, ret_error);
    if (r < 0)
        return r;
    return string_equal(result, "ok") ? 0 : corrupt(path, result ? result : "no result", ret_error);
}

static int set_wal(const char *path, sqlite3 *sqlite, struct error **ret_error)
{
    autofree char *mode = NULL;
    int r = pragma_text(path, sqlite, "PRAGMA journal_mode=WAL", &mode, ret_error);
    if (r < 0)
        return r;
    if (!string_equal(mode, "wal"))
        return error_set(ret_error, EOPNOTSUPP,
                         "the store %s: its file system has no shared memory maps (WAL mode)", path);
    return execute(path, sqlite, "PRAGMA journal_size_limit=67108864", ret_error);
}

static int open_writer(struct database *database, struct error **ret_error)
{
    int r = connect(database->path, &database->writer, ret_error);
    if (r < 0)
        return r;
    sqlite3 *sqlite = database->writer->sqlite;
    r = set_wal(database->path, sqlite, ret_error);
    if (r == 0)
        r = check_schema(database->path, sqlite, ret_error);
    if (r == 0)
        r = check_health(database->path, sqlite, ret_error);
    if (r == 0)
        r = prepare(database->path, database->writer, ret_error);
    uint64_t newest = 0;
    if (r == 0)
        r = read_number(database, database->writer, NEWEST, &newest, ret_error);
    if (r == 0)
        r = read_number(database, database->writer, TRIMMED, &database->trimmed, ret_error);
    database->revision = newest >> CURSOR_PLACE_BITS;
    if (r == 0 && database->revision >= REVISION_MAX)
        return corrupt(database->path, "its revision is out of range", ret_error);
    return r;
}

int database_open(const char *path, struct database **ret_database, struct error **ret_error)
{
    struct database *database = xcalloc(1, sizeof *database);
    database->path = xstrdup(path);
    pthread_mutex_init(&database->mutex, NULL);
    pthread_cond_init(&database->returned, NULL);
    int r = open_writer(database, ret_error);
    if (r < 0) {
        database_close(database);
        return r;
    }
    *ret_database = database;
    return 0;
}

void database_close(struct database *database)
{
    if (!database)
        return;
    while (database->idle) {
        struct connection *reader = database->idle;
        database->idle = reader->next;
        connection_free(reader);
    }
    connection_free(database->writer);
    pthread_cond_destroy(&database->returned);
    pthread_mutex_destroy(&database->mutex);
    free(database->path);
    free(database);
}
