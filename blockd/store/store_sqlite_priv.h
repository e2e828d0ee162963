/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Inside the embedded backend's database: one section a file. They alone know sqlite3.h. */
#ifndef BLOCKD_STORE_SQLITE_PRIV_H
#define BLOCKD_STORE_SQLITE_PRIV_H

#include <sqlite3.h>

#include "blockd/store/store_priv.h"

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

/* ---- store_sqlite_statement.c: connections, their statements, and what their failures mean ---- */

/* A message about SQLite's `code`, which is of the connection's last call; `sqlite` may be NULL. */
int database_fail(const char *path, sqlite3 *sqlite, int code, struct error **ret_error);
int database_corrupt(const char *path, const char *detail, struct error **ret_error);

int connection_open(const char *path, struct connection **ret_connection, struct error **ret_error);
void connection_free(struct connection *connection);
DEFINE_CLEANUP(struct connection *, cleanup_connection, connection_free)
int connection_execute(const char *path, sqlite3 *sqlite, const char *sql, struct error **ret_error);
/* Prepares all statements: the schema must be there. */
int connection_prepare(const char *path, struct connection *connection, struct error **ret_error);

static inline void bind_number(sqlite3_stmt *statement, int place, uint64_t value)
{
    sqlite3_bind_int64(statement, place, (sqlite3_int64)value);
}

/* The text outlives the step, as every caller sees to; so it is not copied. */
static inline void bind_text(sqlite3_stmt *statement, int place, const char *text)
{
    sqlite3_bind_text(statement, place, text, -1, SQLITE_STATIC);
}

static inline uint64_t column_number(sqlite3_stmt *statement, int column)
{
    return (uint64_t)sqlite3_column_int64(statement, column);
}

/* Ends a statement, which also ends its hold on the bound texts. */
void statement_finish(sqlite3_stmt *statement);
/* Steps a statement that gives no row to its end. */
int statement_run(struct database *database, struct connection *connection, sqlite3_stmt *statement,
                  struct error **ret_error);
/* One that has no places to bind. */
int statement_run_plain(struct database *database, struct connection *connection, enum statement which,
                        struct error **ret_error);
/* The number in the first row, or `absent` when there is no row. */
int statement_run_number(struct database *database, struct connection *connection, sqlite3_stmt *statement,
                         uint64_t absent, uint64_t *ret_number, struct error **ret_error);
/* One that has no places to bind; 0 when there is no row. */
int statement_read_number(struct database *database, struct connection *connection, enum statement which,
                          uint64_t *ret_number, struct error **ret_error);

#endif
