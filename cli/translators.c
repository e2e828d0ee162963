/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "cli/translators.h"

#include <string.h>
#include <unistd.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/base/spawn.h"

#define TYPE_WORD     "\n    type " /* also ends the names of options */
#define VOLFILE_LIMIT (1u << 20)
#define PRINT_MS      10000

char *translators_missing(const char *glusterfs, const char *volfile)
{
    autofree char *text = NULL;
    autostrbuf struct strbuf folder = {0};
    const char *const where[] = {glusterfs, "--print-xlatordir", NULL};
    if (file_read(volfile, VOLFILE_LIMIT, &text, NULL, NULL) < 0 ||
        program_run(where, PRINT_MS, &folder, NULL, NULL) < 0)
        return NULL;
    int length = (int)strcspn(strbuf_string(&folder), "\n");
    for (const char *next = text; (next = strstr(next, TYPE_WORD));) {
        next += strlen(TYPE_WORD);
        autofree char *path =
            xasprintf("%.*s/%.*s.so", length, strbuf_string(&folder), (int)strcspn(next, "\n"), next);
        if (access(path, F_OK) < 0)
            return steal_ptr(&path);
    }
    return NULL;
}
