/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Reads: each on a connection of the pool, in one moment of the store. */
#include "blockd/store/store_sqlite_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/strings.h"

#define READERS 8

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
    int r = connection_open(database->path, &reader, ret_error);
    if (r == 0)
        r = connection_prepare(database->path, reader, ret_error);
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
    r = statement_run_plain(database, reader, BEGIN_READ, ret_error);
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
        statement_run_plain(database, reader, ROLLBACK, NULL);
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
        r = database_fail(database->path, reader->sqlite, code, ret_error);
    statement_finish(statement);
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
    int r = statement_read_number(database, reader, NEWEST, &newest, ret_error);
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
        r = database_fail(database->path, reader->sqlite, code, ret_error);
    statement_finish(statement);
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
    r = statement_read_number(database, reader, NEWEST, &newest, ret_error);
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
    int r = statement_read_number(database, reader, NEWEST, &newest, ret_error);
    if (r == 0)
        r = statement_read_number(database, reader, TRIMMED, &result->kept, ret_error);
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
        r = database_fail(database->path, reader->sqlite, code, ret_error);
    if (result->count == limit)
        result->until = result->items[limit - 1].cursor;
    statement_finish(statement);
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
