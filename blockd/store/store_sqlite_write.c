/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Writes, all on one connection by one thread. */
#include "blockd/store/store_sqlite_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "rpc/base/alloc.h"

int database_begin(struct database *database, struct error **ret_error)
{
    database->next_revision = database->revision;
    database->next_trimmed = database->trimmed;
    return statement_run_plain(database, database->writer, BEGIN_WRITE, ret_error);
}

int database_commit(struct database *database, struct error **ret_error)
{
    int r = statement_run_plain(database, database->writer, COMMIT, ret_error);
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
        statement_run_plain(database, database->writer, ROLLBACK, NULL);
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
    return statement_run_number(database, database->writer, statement, 0, ret_id, ret_error);
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
    int r = statement_run_number(database, database->writer, statement, 0, &found, ret_error);
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
    return statement_run(database, database->writer, statement, ret_error);
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
    return statement_run(database, database->writer, statement, ret_error);
}

static int erase(struct database *database, uint64_t id, const char *key, uint64_t previous,
                 struct error **ret_error)
{
    int r = add_history(database, id, key, NULL, previous, ret_error);
    if (r < 0)
        return r;
    sqlite3_stmt *statement = database->writer->statements[ENTRY_DELETE];
    bind_text(statement, 1, key);
    return statement_run(database, database->writer, statement, ret_error);
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
    int r = statement_run(database, database->writer, statement, ret_error);
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
        r = database_fail(database->path, database->writer->sqlite, code, ret_error);
    statement_finish(statement);
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
    return statement_run(database, database->writer, statement, ret_error);
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
        r = database_fail(database->path, database->writer->sqlite, code, ret_error);
    statement_finish(statement);
    if (r < 0)
        return r;
    *ret_leases = steal_ptr(&leases);
    *ret_count = count;
    return 0;
}
