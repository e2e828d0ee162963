/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The embedded backend's file. `history` has every change with its value, in the order of cursors; `entry`
 * says which of them is a key's present one. So a value is written once, and a watch reads on from any cursor
 * whose successors are kept.
 *
 * One connection writes; a small pool of others reads. In WAL mode neither waits for the other.
 */
#include "blockd/store/store_sqlite_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "rpc/base/alloc.h"
#include "rpc/base/strings.h"

#define APPLICATION_ID 0x626c6b64 /* "blkd" */
#define SCHEMA_VERSION 1

static const char schema_text[] =
    "CREATE TABLE history (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value TEXT, previous INTEGER NOT NULL);"
    "CREATE TABLE entry (key TEXT PRIMARY KEY, id INTEGER NOT NULL, lease INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX entry_lease ON entry (lease) WHERE lease <> 0;"
    "CREATE TABLE lease (id INTEGER PRIMARY KEY AUTOINCREMENT, seconds INTEGER NOT NULL);"
    "CREATE TABLE trimmed (id INTEGER NOT NULL);"
    "INSERT INTO trimmed VALUES (0);";

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
        r = database_fail(path, sqlite, code, ret_error);
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
    return connection_execute(path, sqlite, script, ret_error);
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
    return string_equal(result, "ok") ? 0 : database_corrupt(path, result ? result : "no result", ret_error);
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
    return connection_execute(path, sqlite, "PRAGMA journal_size_limit=67108864", ret_error);
}

static int open_writer(struct database *database, struct error **ret_error)
{
    int r = connection_open(database->path, &database->writer, ret_error);
    if (r < 0)
        return r;
    sqlite3 *sqlite = database->writer->sqlite;
    r = set_wal(database->path, sqlite, ret_error);
    if (r == 0)
        r = check_schema(database->path, sqlite, ret_error);
    if (r == 0)
        r = check_health(database->path, sqlite, ret_error);
    if (r == 0)
        r = connection_prepare(database->path, database->writer, ret_error);
    uint64_t newest = 0;
    if (r == 0)
        r = statement_read_number(database, database->writer, NEWEST, &newest, ret_error);
    if (r == 0)
        r = statement_read_number(database, database->writer, TRIMMED, &database->trimmed, ret_error);
    database->revision = newest >> CURSOR_PLACE_BITS;
    if (r == 0 && database->revision >= REVISION_MAX)
        return database_corrupt(database->path, "its revision is out of range", ret_error);
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
