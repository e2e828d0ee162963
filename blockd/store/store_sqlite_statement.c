/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Connections to the embedded backend's file, the statements on them, and what SQLite's failures mean. */
#include "blockd/store/store_sqlite_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "rpc/base/alloc.h"

#define BUSY_MS 10000

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

int database_corrupt(const char *path, const char *detail, struct error **ret_error)
{
    return error_set(ret_error, EUCLEAN,
                     "the store %s is corrupt (%s): stop blockd and put back a copy, or move the file away",
                     path, detail);
}

int database_fail(const char *path, sqlite3 *sqlite, int code, struct error **ret_error)
{
    int number = errno_of(sqlite, code);
    const char *text = sqlite ? sqlite3_errmsg(sqlite) : sqlite3_errstr(code);
    if (number == EUCLEAN)
        return database_corrupt(path, text, ret_error);
    if (number == ENOSPC)
        return error_set(ret_error, ENOSPC, "the store %s cannot grow: its file system is full", path);
    return error_set(ret_error, number, "the store %s: %s", path, text);
}

/* ---- Connections and statements ---- */

void connection_free(struct connection *connection)
{
    if (!connection)
        return;
    for (size_t i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(connection->statements[i]);
    sqlite3_close(connection->sqlite);
    free(connection);
}

int connection_execute(const char *path, sqlite3 *sqlite, const char *sql, struct error **ret_error)
{
    int code = sqlite3_exec(sqlite, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : database_fail(path, sqlite, code, ret_error);
}

int connection_open(const char *path, struct connection **ret_connection, struct error **ret_error)
{
    cleanup(cleanup_connection) struct connection *connection = xcalloc(1, sizeof *connection);
    int code = sqlite3_open_v2(path, &connection->sqlite,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code != SQLITE_OK)
        return database_fail(path, connection->sqlite, code, ret_error);
    sqlite3_busy_timeout(connection->sqlite, BUSY_MS);
    sqlite3_db_config(connection->sqlite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    int r = connection_execute(
        path, connection->sqlite,
        "PRAGMA synchronous=FULL; PRAGMA cell_size_check=ON; PRAGMA trusted_schema=OFF;", ret_error);
    if (r < 0)
        return r;
    *ret_connection = steal_ptr(&connection);
    return 0;
}

int connection_prepare(const char *path, struct connection *connection, struct error **ret_error)
{
    for (size_t i = 0; i < STATEMENT_COUNT; i++) {
        int code = sqlite3_prepare_v3(connection->sqlite, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                                      &connection->statements[i], NULL);
        if (code != SQLITE_OK)
            return database_fail(path, connection->sqlite, code, ret_error);
    }
    return 0;
}

void statement_finish(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

int statement_run(struct database *database, struct connection *connection, sqlite3_stmt *statement,
                  struct error **ret_error)
{
    int code = sqlite3_step(statement);
    int r = code == SQLITE_DONE ? 0 : database_fail(database->path, connection->sqlite, code, ret_error);
    statement_finish(statement);
    return r;
}

int statement_run_plain(struct database *database, struct connection *connection, enum statement which,
                        struct error **ret_error)
{
    sqlite3_stmt *statement = connection->statements[which];
    return statement_run(database, connection, statement, ret_error);
}

int statement_run_number(struct database *database, struct connection *connection, sqlite3_stmt *statement,
                         uint64_t absent, uint64_t *ret_number, struct error **ret_error)
{
    int code = sqlite3_step(statement);
    int r = 0;
    if (code == SQLITE_ROW)
        *ret_number = column_number(statement, 0);
    else if (code == SQLITE_DONE)
        *ret_number = absent;
    else
        r = database_fail(database->path, connection->sqlite, code, ret_error);
    statement_finish(statement);
    return r;
}

int statement_read_number(struct database *database, struct connection *connection, enum statement which,
                          uint64_t *ret_number, struct error **ret_error)
{
    sqlite3_stmt *statement = connection->statements[which];
    return statement_run_number(database, connection, statement, 0, ret_number, ret_error);
}
