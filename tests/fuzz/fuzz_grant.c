/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* A grant's file, and the names by which it is asked for: what is read is safe to open, and survives the way
 * back. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/grant.h"

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static char run_dir[] = "/tmp/fuzz-grant-XXXXXX";

static void remove_run_dir(void)
{
    autofree char *grants = xasprintf("%s/grants", run_dir), *volume = xasprintf("%s/v", grants);
    grant_remove(run_dir, "v", "b", NULL);
    rmdir(volume);
    rmdir(grants);
    rmdir(run_dir);
}

static void make_run_dir(void)
{
    static bool made;
    if (made)
        return;
    REQUIRE(mkdtemp(run_dir));
    autofree char *volume = xasprintf("%s/grants/v", run_dir);
    REQUIRE(folder_make(volume, 0700, NULL) == 0);
    atexit(remove_run_dir);
    made = true;
}

static void write_file(const uint8_t *data, size_t size)
{
    autofree char *path = grant_path(run_dir, "v", "b");
    autofclose FILE *file = fopen(path, "we");
    REQUIRE(file && fwrite(data, 1, size, file) == size);
}

static void check_grant(const struct grant *grant)
{
    REQUIRE(strcmp(grant->volume, "v") == 0 && strcmp(grant->block, "b") == 0);
    REQUIRE(grant->file[0] == '/' && grant->volfile[0] == '/');
    REQUIRE(!strstr(grant->file, "/../") && !strstr(grant->volfile, "/../"));
    REQUIRE(grant->size > 0 && grant->size <= INT64_MAX && grant->size % grant->block_size == 0);
    REQUIRE(grant->block_size == 512 || grant->block_size == 4096);
}

/* Any text as a name: it is refused, or becomes one part of one path. */
static void check_names(const char *name)
{
    struct grant grant = {0};
    if (grant_read(run_dir, "v", name, &grant, NULL) == 0)
        cleanup_grant(&grant);
    autofree char *block = grant_file_block(name);
    if (!block)
        return;
    autofree char *path = grant_path(run_dir, "v", block);
    REQUIRE(strcmp(strrchr(path, '/') + 1, name) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    make_run_dir();
    autofree char *text = xstrndup((const char *)data, size);
    check_names(text);

    write_file(data, size);
    autoerror struct error *error = NULL;
    struct grant grant = {0}, again = {0};
    if (grant_read(run_dir, "v", "b", &grant, &error) < 0) {
        REQUIRE(error && !strchr(error->message, '\n'));
        return 0;
    }
    check_grant(&grant);
    REQUIRE(grant_write(run_dir, &grant, NULL, NULL) == 0);
    REQUIRE(grant_read(run_dir, "v", "b", &again, NULL) == 0);
    REQUIRE(strcmp(grant.file, again.file) == 0 && strcmp(grant.gbid, again.gbid) == 0);
    REQUIRE(grant.size == again.size && grant.epoch == again.epoch && grant.read_only == again.read_only);
    cleanup_grant(&grant);
    cleanup_grant(&again);
    return 0;
}
