/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The core's operations and reconciler over a real store, with the engine, the exports and the images played
 * by tables in memory: what is seldom or never seen with real bricks (races, half-done work, damaged
 * records).
 */
#ifndef BLOCKD_TESTS_CORE_FIXTURE_H
#define BLOCKD_TESTS_CORE_FIXTURE_H

#include <stdio.h>

#include "rpc/base/log.h"
#include "rpc/examine.h"
#include "tests/unit/fake_engine.h"

#define MIB  (UINT64_C(1) << 20)
#define ROOM FAKE_ROOM

/* ---- One core over a store in a folder of its own ---- */

static struct config config = {.api_listen = (char *)"",
                               .api_cert = (char *)"",
                               .node_name = "n",
                               .address = "127.0.0.1",
                               .log_dir = "/tmp",
                               .port_min = 1000,
                               .port_max = 1100};
static char folder[64];
static struct store *store;
static struct core *core;
static const struct core_change waits = {.wait = 60, .request = ""}, now = {.request = ""};

static inline void start(void)
{
    autofree char *url = xasprintf("sqlite:%s/store.db", folder);
    assert_int_equal(store_open(url, &store, NULL), 0);
    struct core_options options = {.config = &config, .store = store};
    assert_int_equal(core_new(&options, &core, NULL), 0);
    assert_int_equal(core_start(core, NULL), 0);
}

static inline void stop(void)
{
    core_free(core);
    store_close(store);
    core = NULL;
}

/* Drops the object of a result; returns whether there was one. */
static inline bool taken(struct core_result *result)
{
    bool any = result->object != NULL;
    core_result_clear(result);
    return any;
}

static inline int create(const char *name, uint64_t size, const struct core_change *change)
{
    struct block_create request = {
        .volume = (char *)"v", .name = (char *)name, .size = size, .block_size = 512};
    struct core_result result = {0};
    int r = core_block_create(core, &request, change, &result, NULL);
    taken(&result);
    return r;
}

static inline int resize(const char *name, uint64_t size, const struct core_change *change)
{
    struct block_patch patch = {.size = size};
    struct core_result result = {0};
    int r = core_block_patch(core, name, &patch, 1, change, &result, NULL);
    taken(&result);
    return r;
}

static inline int rename_to(const char *name, const char *new_name)
{
    struct block_rename rename_request = {.name = (char *)new_name};
    struct core_result result = {0};
    int r = core_block_rename(core, name, &rename_request, &now, &result, NULL);
    taken(&result);
    return r;
}

/* 1: it is gone, 0: it will be. */
static inline int delete (const char *name, bool keep, const struct core_change *change)
{
    struct core_result result = {0};
    int r = core_block_delete(core, name, keep, change, &result, NULL);
    return r < 0 ? r : !taken(&result);
}

static inline int export_block(const char *name)
{
    struct export_create request = {.volume = (char *)"v", .block = (char *)name};
    struct core_result result = {0};
    int r = core_export_create(core, &request, &now, &result, NULL);
    taken(&result);
    return r;
}

static inline struct block read_block(const char *name)
{
    struct block block = {0};
    assert_int_equal(record_get(core, KIND_BLOCK, name, &block, NULL), 0);
    return block;
}

static inline void wait_phase(const char *name, const char *phase)
{
    for (;;) {
        struct block block cleanup(cleanup_block) = read_block(name);
        if (string_equal(block.status.phase, phase))
            return;
        sched_yield();
    }
}

static inline void put(const char *key, const char *value)
{
    struct store_op op = {.kind = STORE_PUT, .key = key, .value = value};
    assert_int_equal(store_commit(store, &op, 1, NULL, NULL), 0);
}

static inline int setup(void **data)
{
    (void)data;
    log_set_level(LOG_LEVEL_ERROR);
    strcpy(folder, "/tmp/core-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    atomic_store(&world.online, true);
    atomic_store(&world.create_error, 0);
    start();
    struct device_create device = {.name = (char *)"d", .path = (char *)"/dev/d"};
    struct volume_create volume = {.name = (char *)"v", .template_name = TEMPLATE_SINGLE, .overcommit = 1};
    struct core_result result = {0};
    assert_int_equal(core_device_create(core, &device, &waits, &result, NULL), 0);
    taken(&result);
    assert_int_equal(core_volume_create(core, &volume, &waits, &result, NULL), 0);
    taken(&result);
    return 0;
}

static inline int teardown(void **data)
{
    (void)data;
    stop();
    remove_files();
    static const char *const names[] = {"store.db", "store.db-wal", "store.db-shm", "store.db.lock"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        autofree char *path = xasprintf("%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

static inline void assert_promised(uint64_t bytes, uint64_t blocks)
{
    struct promise found;
    assert_int_equal(ledger_read(core, "v", &found, NULL), 0);
    assert_int_equal(found.bytes, bytes);
    assert_int_equal(found.blocks, blocks);
}

static inline int create_share(const char *name, uint64_t size, bool no_quota)
{
    struct share_create request = {
        .volume = (char *)"v", .name = (char *)name, .size = size, .no_quota = no_quota};
    struct core_result result = {0};
    int r = core_share_create(core, &request, &waits, &result, NULL);
    taken(&result);
    return r;
}

static inline int delete_share(const char *name, bool archive)
{
    struct core_result result = {0};
    int r = core_share_delete(core, name, archive, &waits, &result, NULL);
    taken(&result);
    return r;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
