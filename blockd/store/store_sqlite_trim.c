/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Forgetting what watches need no more. */
#include "blockd/store/store_sqlite_priv.h"

#include <stdlib.h>

#include "rpc/base/alloc.h"

#define TRIM_A_COMMIT 1024 /* changes looked at */
#define TRIM_SLACK    128  /* revisions beyond what is kept before a trim is worth its statements */

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
        r = database_fail(database->path, database->writer->sqlite, code, ret_error);
    if (seen == TRIM_A_COMMIT)
        trim->until = last;
    statement_finish(statement);
    return r;
}

static int run_with_number(struct database *database, enum statement which, uint64_t number,
                           struct error **ret_error)
{
    sqlite3_stmt *statement = database->writer->statements[which];
    bind_number(statement, 1, number);
    return statement_run(database, database->writer, statement, ret_error);
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
