/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The core's operations and reconciler over a real store, with the engine, the exports and the images played
 * by tables in memory: what is seldom or never seen with real bricks (races, half-done work, damaged
 * records).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/core/core_priv.h"
#include "rpc/examine.h"
#include "blockd/engine/manifest.h"
#include "rpc/base/alloc.h"
#include "rpc/base/log.h"
#include "tests/unit/fake_shares.h"

#define MIB       (UINT64_C(1) << 20)
#define ROOM      (1000 * MIB)
#define FILES_MAX 64

/* ---- The world that the core sees ---- */

struct file {
    char *path;
    uint64_t size;
};

static struct {
    pthread_mutex_t mutex; /* guards the files */
    struct file files[FILES_MAX];
    max_align_t volumes[FILES_MAX]; /* connections: only their addresses count */
    atomic_uint opened;
    atomic_bool online;
    atomic_int create_error;    /* what image_create() returns instead of making the file */
    atomic_bool create_crashes; /* makes the file, and fails once all the same */
    atomic_bool hold_allocations;
    atomic_bool connected;                   /* a client, to every block */
    atomic_uint allocating, allocating_most; /* at once */
} world = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static struct file *find_file(const char *path)
{
    for (size_t i = 0; i < FILES_MAX; i++)
        if (world.files[i].path && strcmp(world.files[i].path, path) == 0)
            return &world.files[i];
    return NULL;
}

static size_t count_files(void)
{
    scoped_lock(&world.mutex);
    size_t count = 0;
    for (size_t i = 0; i < FILES_MAX; i++)
        count += world.files[i].path != NULL;
    return count;
}

static void remove_files(void)
{
    scoped_lock(&world.mutex);
    for (size_t i = 0; i < FILES_MAX; i++) {
        free(world.files[i].path);
        world.files[i] = (struct file){0};
    }
}

int image_volume_open(const char *name, const char *volfile, const char *log_path,
                      struct image_volume **ret_volume, struct error **ret_error)
{
    (void)name, (void)volfile, (void)log_path, (void)ret_error;
    *ret_volume = (struct image_volume *)&world.volumes[atomic_fetch_add(&world.opened, 1) % FILES_MAX];
    return 0;
}

int image_space(struct image_volume *volume, struct image_space *ret_space, struct error **ret_error)
{
    (void)volume, (void)ret_error;
    *ret_space = (struct image_space){.size = ROOM, .free = ROOM};
    return 0;
}

bool image_volume_live(struct image_volume *volume)
{
    return volume != NULL;
}

void image_volume_close(struct image_volume *volume)
{
    (void)volume;
}

int image_create(struct image_volume *volume, const char *path, uint64_t size, struct error **ret_error)
{
    (void)volume;
    int number = atomic_load(&world.create_error);
    if (number)
        return error_set(ret_error, number, "no: %s", strerror(number));
    scoped_lock(&world.mutex);
    struct file *file = find_file(path);
    if (file && file->size != size)
        return error_set(ret_error, EEXIST, "%s exists with another size", path);
    for (size_t i = 0; i < FILES_MAX && !file; i++)
        if (!world.files[i].path) {
            file = &world.files[i];
            *file = (struct file){xstrdup(path), size};
        }
    assert_non_null(file);
    return atomic_exchange(&world.create_crashes, false) ? error_set(ret_error, EIO, "cut short") : 0;
}

int image_truncate(struct image_volume *volume, const char *path, uint64_t size, struct error **ret_error)
{
    (void)volume;
    scoped_lock(&world.mutex);
    struct file *file = find_file(path);
    if (!file)
        return error_set(ret_error, ENOENT, "there is no %s", path);
    file->size = size;
    return 0;
}

int image_stat(struct image_volume *volume, const char *path, struct image_stat *ret_stat,
               struct error **ret_error)
{
    (void)volume;
    scoped_lock(&world.mutex);
    struct file *file = find_file(path);
    if (!file)
        return error_set(ret_error, ENOENT, "there is no %s", path);
    *ret_stat = (struct image_stat){.size = file->size};
    return 0;
}

int image_allocate(struct image_volume *volume, const char *path, uint64_t offset, uint64_t length,
                   struct error **ret_error)
{
    struct image_stat file = {0};
    unsigned at_once = atomic_fetch_add(&world.allocating, 1) + 1, most = atomic_load(&world.allocating_most);
    while (most < at_once && !atomic_compare_exchange_weak(&world.allocating_most, &most, at_once))
        ;
    while (atomic_load(&world.hold_allocations))
        sched_yield();
    atomic_fetch_sub(&world.allocating, 1);
    int r = image_stat(volume, path, &file, ret_error);
    return r == 0 && offset + length > file.size ? error_set(ret_error, EINVAL, "beyond the end") : r;
}

int image_remove(struct image_volume *volume, const char *path, struct error **ret_error)
{
    (void)volume, (void)ret_error;
    scoped_lock(&world.mutex);
    struct file *file = find_file(path);
    if (file) {
        free(file->path);
        *file = (struct file){0};
    }
    return 0;
}

/* Nothing to do, always well done. */
#define WELL_DONE(name, ...)                                                                                 \
    int name(__VA_ARGS__, struct error **ret_error)                                                          \
    {                                                                                                        \
        (void)a, (void)b, (void)ret_error;                                                                   \
        return 0;                                                                                            \
    }
WELL_DONE(engine_device_probe, struct engine *a, const struct device *b)
WELL_DONE(engine_device_down, struct engine *a, const struct device *b)
WELL_DONE(engine_volume_down, struct engine *a, const struct volume *b)

int engine_volume_erase(struct engine *engine, const struct volume *volume, bool lost,
                        struct error **ret_error)
{
    (void)lost;
    return engine_volume_down(engine, volume, ret_error);
}

int engine_device_erase(struct engine *engine, const struct device *device, bool lost,
                        struct error **ret_error)
{
    (void)lost;
    return engine_device_down(engine, device, ret_error);
}

char *engine_device_stable_path(struct engine *engine, const char *path)
{
    (void)engine, (void)path;
    return NULL;
}

int engine_brick_erase(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                       struct error **ret_error)
{
    (void)brick;
    return engine_volume_down(engine, volume, ret_error);
}

int engine_device_forget(struct engine *engine, const struct device *device, const struct volume *volume,
                         struct error **ret_error)
{
    (void)device;
    return engine_volume_down(engine, volume, ret_error);
}

int engine_clients_told(struct engine *engine, const struct volume *volume, const struct brick_move *move,
                        struct error **ret_error)
{
    (void)move;
    return engine_volume_down(engine, volume, ret_error);
}

int engine_move_is_marked(struct engine *engine, const struct volume *volume, uint64_t number,
                          struct error **ret_error)
{
    (void)number;
    return engine_volume_down(engine, volume, ret_error);
}

int engine_marking_volfile(struct engine *engine, const struct volume *volume, const struct brick_move *move,
                           const struct node *nodes, size_t node_count, char **ret_path, char **ret_brick,
                           struct error **ret_error)
{
    (void)move, (void)nodes, (void)node_count;
    *ret_path = xstrdup("/volfile");
    *ret_brick = xstrdup("brick");
    return engine_volume_down(engine, volume, ret_error);
}

void engine_brick_status(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                         struct brick_status *ret_status)
{
    (void)engine, (void)volume, (void)brick;
    *ret_status = (struct brick_status){.state = xstrdup("online")};
}

int engine_fragments_behind(struct engine *engine, const struct volume *volume, uint64_t number, bool others,
                            uint64_t *ret_files, struct error **ret_error)
{
    (void)engine, (void)volume, (void)number, (void)others, (void)ret_error;
    *ret_files = 0;
    return 0;
}

int image_mark_behind(const char *name, const char *volfile, const char *log_path, const char *brick,
                      struct error **ret_error)
{
    (void)name, (void)volfile, (void)log_path, (void)brick, (void)ret_error;
    return 0;
}

int engine_device_up(struct engine *engine, const struct device *device, bool destroy,
                     struct device_status *ret_status, struct error **ret_error)
{
    (void)destroy;
    return engine_device_status(engine, device, ret_status, ret_error);
}

int engine_device_status(struct engine *engine, const struct device *device, struct device_status *ret_status,
                         struct error **ret_error)
{
    (void)engine, (void)device, (void)ret_error;
    *ret_status = (struct device_status){
        .phase = xstrdup("ready"), .size = ROOM, .free = ROOM, .quota = fake_shares.quota};
    return 0;
}

int engine_volume_up(struct engine *engine, const struct volume *volume, const struct node *nodes,
                     size_t node_count, const struct share *shares, size_t share_count,
                     struct error **ret_error)
{
    (void)engine, (void)volume, (void)nodes, (void)node_count, (void)shares, (void)share_count,
        (void)ret_error;
    return 0;
}

int engine_volume_status(struct engine *engine, const struct volume *volume, const struct object_list *others,
                         struct volume_status *ret_status, struct error **ret_error)
{
    (void)engine, (void)volume, (void)others, (void)ret_error;
    bool online = atomic_load(&world.online);
    *ret_status = (struct volume_status){
        .phase = xstrdup(online ? "online" : "offline"),
        .error = online ? NULL : xstrdup("a brick is away"),
        .size = ROOM,
        .free = ROOM,
    };
    return 0;
}

/* Nothing is ever behind. */
int engine_heal_counts(struct engine *engine, const struct volume *volume, struct heal_counts *ret_counts,
                       struct error **ret_error)
{
    (void)engine, (void)volume, (void)ret_error;
    *ret_counts = (struct heal_counts){0};
    return 0;
}

void heal_counts_clear(struct heal_counts *counts)
{
    (void)counts;
}

bool engine_heal_ended(struct engine *engine, const struct volume *volume, struct heal_record *ret_record)
{
    (void)engine, (void)volume, (void)ret_record;
    return false;
}

int engine_heal_report(struct engine *engine, const struct volume *volume, uint64_t limit,
                       bool split_brain_only, struct heal_report *ret_report, struct error **ret_error)
{
    (void)engine, (void)volume, (void)limit, (void)split_brain_only, (void)ret_error;
    *ret_report = (struct heal_report){0};
    return 0;
}

void engine_heal_forget(struct engine *engine, const char *volume)
{
    (void)engine, (void)volume;
}

int engine_heal_start(struct engine *engine, const struct volume *volume, bool full, struct error **ret_error)
{
    (void)engine, (void)volume, (void)full, (void)ret_error;
    return 0;
}

int engine_heal_crawl(struct engine *engine, const struct volume *volume, bool full, int64_t since,
                      struct heal_crawl *ret_crawl, struct error **ret_error)
{
    (void)engine, (void)volume, (void)full, (void)since, (void)ret_error;
    *ret_crawl = (struct heal_crawl){.finished = true};
    return 0;
}

int engine_heal_resolve(struct engine *engine, const struct volume *volume, const struct node *nodes,
                        size_t node_count, const char *file, const char *keep, int wait_ms,
                        struct heal_resolution *ret_resolution, struct error **ret_error)
{
    (void)engine, (void)volume, (void)nodes, (void)node_count, (void)keep, (void)wait_ms,
        (void)ret_resolution;
    return error_set(ret_error, EEXIST, "%s is in no split-brain", file);
}

char *engine_client_volfile(struct engine *engine, const char *volume)
{
    (void)engine;
    return xasprintf("/volfiles/%s", volume);
}

int engine_heal_up(struct engine *engine, const struct volume *volumes, size_t volume_count,
                   const struct node *nodes, size_t node_count, struct error **ret_error)
{
    (void)engine, (void)volumes, (void)volume_count, (void)nodes, (void)node_count, (void)ret_error;
    return 0;
}

int engine_access_check(const struct string_list *access, bool tls, struct error **ret_error)
{
    (void)access, (void)tls, (void)ret_error;
    return 0;
}

int engine_certificates_up(struct engine *engine, const struct node *nodes, size_t count, bool wanted,
                           struct engine_certificate *ret_certificate, struct error **ret_error)
{
    (void)engine, (void)nodes, (void)count, (void)wanted, (void)ret_error;
    *ret_certificate = (struct engine_certificate){0};
    return 0;
}

void engine_certificate_clear(struct engine_certificate *certificate)
{
    (void)certificate;
}

int engine_certificate_sign(struct engine *engine, const struct pki_subject *subject, const char *request,
                            char **ret_certificate, char **ret_authority, struct error **ret_error)
{
    (void)engine, (void)subject, (void)request, (void)ret_certificate, (void)ret_authority;
    return error_set(ret_error, ENOKEY, "nobody signs here");
}

int engine_certificate_revoke(struct engine *engine, const char *serial, char **ret_list,
                              struct error **ret_error)
{
    (void)engine, (void)serial, (void)ret_list;
    return error_set(ret_error, ENOKEY, "nobody signs here");
}

int engine_certificate_renew(struct engine *engine, const struct node *node, struct error **ret_error)
{
    (void)engine, (void)node;
    return error_set(ret_error, ENOKEY, "nobody signs here");
}

int engine_authority(struct engine *engine, struct engine_authority *ret_authority, struct error **ret_error)
{
    (void)engine, (void)ret_authority;
    return error_set(ret_error, ENOENT, "there is no authority");
}

void engine_authority_clear(struct engine_authority *authority)
{
    (void)authority;
}

int engine_own_certificate(struct engine *engine, struct pki_certificate *ret_certificate,
                           struct error **ret_error)
{
    (void)engine, (void)ret_certificate;
    return error_set(ret_error, ENOENT, "there is no certificate");
}

int engine_volserver_up(struct engine *engine, const struct node *node, struct error **ret_error)
{
    (void)engine, (void)node, (void)ret_error;
    return 0;
}

int engine_volserver_down(struct engine *engine, struct error **ret_error)
{
    (void)engine, (void)ret_error;
    return 0;
}

int engine_nbd_up(struct engine *engine, struct error **ret_error)
{
    (void)engine, (void)ret_error;
    return 0;
}

int engine_nbd_down(struct engine *engine, struct error **ret_error)
{
    return engine_nbd_up(engine, ret_error);
}

int engine_option_check(struct engine *engine, const char *text, bool advanced, struct error **ret_error)
{
    (void)text, (void)advanced;
    return engine_nbd_up(engine, ret_error);
}

int engine_profile_check(const char *name, struct error **ret_error)
{
    (void)name;
    return engine_nbd_up(NULL, ret_error);
}

int engine_manifest_read(struct engine *engine, const struct device *device, char **ret_text,
                         struct error **ret_error)
{
    (void)engine, (void)device, (void)ret_text, (void)ret_error;
    return -ENOENT;
}

int engine_manifest_replace(struct engine *engine, const struct device *device, const char *text, bool keep,
                            size_t *ret_length, struct error **ret_error)
{
    (void)engine, (void)device, (void)keep, (void)ret_error;
    *ret_length = strlen(text);
    return 0;
}

int engine_manifest_append(struct engine *engine, const struct device *device, const char *text,
                           size_t *length, struct error **ret_error)
{
    (void)engine, (void)device, (void)ret_error;
    *length += strlen(text);
    return 0;
}

int engine_rebalance_up(struct engine *engine, const char *volume, const char *run, struct error **ret_error)
{
    (void)volume, (void)run;
    return engine_nbd_up(engine, ret_error);
}

int engine_evacuation_up(struct engine *engine, const struct volume *volume, const struct node *nodes,
                         size_t node_count, const char *run, struct error **ret_error)
{
    (void)nodes, (void)node_count;
    return engine_rebalance_up(engine, volume->meta.name, run, ret_error);
}

int engine_leaving_look(struct engine *engine, const struct volume *volume, char **ret_file,
                        struct error **ret_error)
{
    (void)engine, (void)volume, (void)ret_error;
    *ret_file = NULL;
    return 0;
}

int engine_rebalance_down(struct engine *engine, const char *volume, struct error **ret_error)
{
    return engine_rebalance_up(engine, volume, NULL, ret_error);
}

int engine_rebalance_look(struct engine *engine, const char *volume, const char *run,
                          struct engine_rebalance *ret_progress, struct error **ret_error)
{
    (void)ret_progress;
    int r = engine_rebalance_up(engine, volume, run, ret_error);
    return r < 0 ? r : error_set(ret_error, ENOENT, "nothing is rebalanced");
}

void engine_processes(struct engine *engine, struct engine_process **ret_processes, size_t *ret_count)
{
    (void)engine;
    *ret_processes = NULL;
    *ret_count = 0;
}

int export_up(struct exports *exports, const struct export *export, const struct grant *grant,
              struct error **ret_error)
{
    (void)exports, (void)export, (void)grant, (void)ret_error;
    return 0;
}

int export_down(struct exports *exports, const char *volume, const char *block, struct error **ret_error)
{
    (void)exports, (void)volume, (void)block, (void)ret_error;
    return 0;
}

int export_clients(struct exports *exports, const char *volume, const char *block,
                   struct string_list *ret_clients, struct error **ret_error)
{
    (void)exports, (void)ret_error;
    autofree char *entry = xasprintf("%s/%s by somebody", volume, block ? block : "any");
    if (atomic_load(&world.connected))
        string_list_add(ret_clients, entry);
    return 0;
}

int export_status(struct exports *exports, const struct export *export, struct export_status *ret_status,
                  struct error **ret_error)
{
    (void)exports, (void)export, (void)ret_error;
    *ret_status = (struct export_status){.phase = xstrdup("live"), .uri = xstrdup("nbd://here")};
    return 0;
}

int export_sweep(struct exports *exports, export_wanted wanted, void *data, struct error **ret_error)
{
    (void)exports, (void)wanted, (void)data, (void)ret_error;
    return 0;
}

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

static void start(void)
{
    autofree char *url = xasprintf("sqlite:%s/store.db", folder);
    assert_int_equal(store_open(url, &store, NULL), 0);
    struct core_options options = {.config = &config, .store = store};
    assert_int_equal(core_new(&options, &core, NULL), 0);
    assert_int_equal(core_start(core, NULL), 0);
}

static void stop(void)
{
    core_free(core);
    store_close(store);
    core = NULL;
}

/* Drops the object of a result; returns whether there was one. */
static bool taken(struct core_result *result)
{
    bool any = result->object != NULL;
    core_result_clear(result);
    return any;
}

static int create(const char *name, uint64_t size, const struct core_change *change)
{
    struct block_create request = {
        .volume = (char *)"v", .name = (char *)name, .size = size, .block_size = 512};
    struct core_result result = {0};
    int r = core_block_create(core, &request, change, &result, NULL);
    taken(&result);
    return r;
}

static int resize(const char *name, uint64_t size, const struct core_change *change)
{
    struct block_patch patch = {.size = size};
    struct core_result result = {0};
    int r = core_block_patch(core, name, &patch, 1, change, &result, NULL);
    taken(&result);
    return r;
}

static int rename_to(const char *name, const char *new_name)
{
    struct block_rename rename_request = {.name = (char *)new_name};
    struct core_result result = {0};
    int r = core_block_rename(core, name, &rename_request, &now, &result, NULL);
    taken(&result);
    return r;
}

/* 1: it is gone, 0: it will be. */
static int delete (const char *name, bool keep, const struct core_change *change)
{
    struct core_result result = {0};
    int r = core_block_delete(core, name, keep, change, &result, NULL);
    return r < 0 ? r : !taken(&result);
}

static int export_block(const char *name)
{
    struct export_create request = {.volume = (char *)"v", .block = (char *)name};
    struct core_result result = {0};
    int r = core_export_create(core, &request, &now, &result, NULL);
    taken(&result);
    return r;
}

static struct block read_block(const char *name)
{
    struct block block = {0};
    assert_int_equal(record_get(core, KIND_BLOCK, name, &block, NULL), 0);
    return block;
}

static void wait_phase(const char *name, const char *phase)
{
    for (;;) {
        struct block block cleanup(cleanup_block) = read_block(name);
        if (string_equal(block.status.phase, phase))
            return;
        sched_yield();
    }
}

static void put(const char *key, const char *value)
{
    struct store_op op = {.kind = STORE_PUT, .key = key, .value = value};
    assert_int_equal(store_commit(store, &op, 1, NULL, NULL), 0);
}

static int setup(void **data)
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

static int teardown(void **data)
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

static void assert_promised(uint64_t bytes, uint64_t blocks)
{
    struct promise found;
    assert_int_equal(ledger_read(core, "v", &found, NULL), 0);
    assert_int_equal(found.bytes, bytes);
    assert_int_equal(found.blocks, blocks);
}

/* ---- Tests ---- */

static void test_a_failed_block_recovers(void **data)
{
    (void)data;
    atomic_store(&world.create_error, ENOSPC);
    assert_int_equal(create("b", 2 * MIB, &now), 0);
    wait_phase("v/b", "failed");
    struct block block cleanup(cleanup_block) = read_block("v/b");
    assert_string_equal(block.status.phase, "failed");
    assert_non_null(strstr(block.status.error, "No space"));
    assert_promised(2 * MIB, 1);
    atomic_store(&world.create_error, 0);
    queue_add(core->queue, "blocks/v/b"); /* as each full pass does */
    wait_phase("v/b", "ready");
    assert_int_equal(delete ("v/b", false, &waits), 1);
    assert_promised(0, 0);
    assert_int_equal(count_files(), 0);
}

static void test_a_create_that_failed_leaves_nothing(void **data)
{
    (void)data;
    const struct core_change keyed = {.wait = waits.wait, .idempotency_key = "k", .request = "r"};
    struct store_entry entry = {0};
    atomic_store(&world.create_error, ENOSPC);
    assert_int_equal(create("b", 2 * MIB, &keyed), -ENOSPC);
    assert_int_equal(store_get(store, "blocks/v/b", &entry, NULL), -ENOENT);
    assert_promised(0, 0);
    atomic_store(&world.create_error, 0);
    assert_true(create("b", 2 * MIB, &keyed) >= 0); /* the same request is a new one */
    wait_phase("v/b", "ready");
    assert_promised(2 * MIB, 1);
}

static void test_a_resize_after_half_a_create(void **data)
{
    (void)data;
    atomic_store(&world.create_crashes, true);
    assert_int_equal(create("b", 2 * MIB, &now), 0);
    while (atomic_load(&world.create_crashes))
        sched_yield();
    assert_int_equal(resize("v/b", 3 * MIB, &waits), 0);
    struct block block cleanup(cleanup_block) = read_block("v/b");
    assert_string_equal(block.status.phase, "ready");
    assert_int_equal(block.status.size, 3 * MIB);
    assert_promised(3 * MIB, 1);
}

static void test_growth_that_failed_is_taken_back(void **data)
{
    (void)data;
    atomic_store(&world.create_error, EFBIG);
    assert_int_equal(create("b", 8 * MIB, &now), 0);
    wait_phase("v/b", "failed");
    assert_int_equal(resize("v/b", 4 * MIB, &now), 0); /* nothing is lost: no force */
    atomic_store(&world.create_error, 0);
    queue_add(core->queue, "blocks/v/b");
    wait_phase("v/b", "ready");
    assert_promised(4 * MIB, 1);
    assert_int_equal(resize("v/b", 2 * MIB, &now), -EINVAL);
    assert_promised(4 * MIB, 1);
}

/* What an export's create that ran between a delete's reading and its commit would leave. */
static void test_a_stray_export_holds_no_delete_up(void **data)
{
    (void)data;
    assert_int_equal(create("b", MIB, &waits), 0);
    atomic_store(&world.online, false);
    assert_int_equal(delete ("v/b", false, &now), 0);
    put("exports/n/v/b", "{\"name\":\"n/v/b\",\"uid\":\"u\",\"spec\":{}}");
    put("exports/n/v/none", "{\"name\":\"n/v/none\",\"uid\":\"w\",\"spec\":{}}");
    atomic_store(&world.online, true);
    assert_int_equal(delete ("v/b", false, &waits), 1);
    struct store_entry entry = {0};
    assert_int_equal(store_get(store, "exports/n/v/b", &entry, NULL), -ENOENT);
    while (store_get(store, "exports/n/v/none", &entry, NULL) == 0)
        store_entry_clear(&entry);
    assert_promised(0, 0);
}

static void test_a_second_delete_keeps_what_the_first_kept(void **data)
{
    (void)data;
    assert_int_equal(create("b", MIB, &waits), 0);
    put("exports/other/v/b", "{\"name\":\"other/v/b\",\"uid\":\"u\",\"spec\":{}}");
    put("nodes/other", "{\"name\":\"other\",\"uid\":\"o\",\"spec\":{}}"); /* a node that does not answer */
    assert_int_equal(delete ("v/b", true, &now), 0);
    assert_int_equal(delete ("v/b", false, &now), -EBUSY);
    assert_int_equal(delete ("v/b", true, &now), 0);
    assert_int_equal(create("b", MIB, &now), -EEXIST);
    struct store_op op = {.kind = STORE_DELETE, .key = "exports/other/v/b"};
    assert_int_equal(store_commit(store, &op, 1, NULL, NULL), 0);
    assert_int_equal(delete ("v/b", true, &waits), 1);
    assert_int_equal(count_files(), 1);
}

static void test_clients_are_cut_by_force_only(void **data)
{
    (void)data;
    const struct core_change forced = {.wait = 60, .request = "", .force = true};
    struct volume_patch stopped = {.state = VOLUME_STOPPED};
    struct core_result result = {0};
    autoerror struct error *error = NULL;
    assert_int_equal(create("b", MIB, &waits), 0);
    assert_int_equal(export_block("b"), 0);
    assert_int_equal(queue_run(core->queue, "exports/n/v/b", NULL),
                     0); /* nobody is connected before it serves */
    atomic_store(&world.connected, true);
    assert_int_equal(rename_to("v/b", "c"), -EBUSY);
    assert_int_equal(delete ("v/b", false, &waits), -EBUSY);
    assert_int_equal(core_export_delete(core, "n/v/b", &waits, &result, NULL), -EBUSY);
    assert_int_equal(core_volume_patch(core, "v", &stopped, 1, &waits, &result, &error), -EBUSY);
    assert_non_null(strstr(error_message(error), "v/any by somebody"));
    struct block block cleanup(cleanup_block) = read_block("v/b");
    assert_false(block.meta.deleting);
    assert_int_equal(core_volume_patch(core, "v", &stopped, 1, &forced, &result, NULL), 0);
    taken(&result);
    assert_int_equal(delete ("v/b", true, &forced), 1);
    atomic_store(&world.connected, false);
}

static void test_a_volume_that_is_deleted_takes_no_block(void **data)
{
    (void)data;
    struct volume volume cleanup(cleanup_volume) = {0};
    assert_int_equal(record_get(core, KIND_VOLUME, "v", &volume, NULL), 0);
    stop();
    autofree char *url = xasprintf("sqlite:%s/store.db", folder);
    assert_int_equal(store_open(url, &store, NULL), 0);
    struct core_options options = {.config = &config, .store = store};
    assert_int_equal(core_new(&options, &core, NULL), 0);
    /* Marked before the restart, and not worked on yet: the ledger knows nothing of it. */
    volume.meta.deleting = true;
    struct txn txn = {0};
    txn_put(&txn, KIND_VOLUME, &volume, volume.meta.revision);
    assert_int_equal(txn_commit(core, &txn, NULL), 0);
    txn_clear(&txn);
    assert_int_equal(create("b", MIB, &now), -ENOENT);
    assert_promised(0, 0);
    assert_int_equal(core_start(core, NULL), 0);
}

static void test_a_damaged_record_stops_nothing_else(void **data)
{
    (void)data;
    assert_int_equal(create("good", MIB, &waits), 0);
    put("blocks/v/bad", "{\"name\":\"v/bad\",\"spec\":{\"size\":\"much\"}}");
    put("blocks/v/worse", "{");
    stop();
    start();
    assert_int_equal(create("new", MIB, &waits), 0);
    json_t *list = NULL, *object = NULL;
    assert_int_equal(core_list(core, KIND_BLOCK, NULL, NULL, 0, &list, NULL), 0);
    assert_int_equal(json_array_size(json_object_get(list, "items")), 2);
    json_decref(list);
    autoerror struct error *error = NULL;
    assert_int_equal(core_get(core, KIND_BLOCK, "v/bad", &object, &error), -EUCLEAN);
    assert_int_equal(error->number, EUCLEAN);
    assert_int_equal(api_code_of_errno(error->number)->status, 500);
    struct status_report report;
    assert_int_equal(core_status(core, &report, NULL), 0);
    assert_int_equal(report.problems.count, 2);
    schema_clear(&status_report_schema, &report);
    /* Its file may be there: the volume stays. */
    assert_int_equal(delete ("v/good", false, &waits), 1);
    assert_int_equal(delete ("v/new", false, &waits), 1);
    struct core_result result = {0};
    assert_int_equal(core_volume_delete(core, "v", &now, &result, NULL), -EUCLEAN);
    assert_int_equal(create("again", MIB, &waits), 0);
}

static void test_the_live_error_is_told(void **data)
{
    (void)data;
    atomic_store(&world.online, false);
    json_t *volume = NULL;
    assert_int_equal(core_get(core, KIND_VOLUME, "v", &volume, NULL), 0);
    assert_string_equal(json_string_value(json_object_get(json_object_get(volume, "status"), "error")),
                        "a brick is away");
    json_decref(volume);
}

static atomic_bool busy;

static void *keep_busy(void *data)
{
    (void)data;
    for (unsigned i = 0; atomic_load(&busy); i++) {
        char key[32];
        snprintf(key, sizeof key, "jobs/none%u", i % 64);
        queue_add(core->queue, key);
    }
    return NULL;
}

static void test_a_wait_ends_on_a_busy_node(void **data)
{
    (void)data;
    pthread_t thread;
    assert_int_equal(create("b", MIB, &waits), 0);
    atomic_store(&world.online, false);
    atomic_store(&busy, true);
    assert_int_equal(pthread_create(&thread, NULL, keep_busy, NULL), 0);
    struct core_change second = {.wait = 1, .request = ""};
    int at_once = delete ("v/b", false, &now), soon = delete ("v/b", false, &second);
    atomic_store(&busy, false);
    pthread_join(thread, NULL);
    assert_int_equal(at_once, 0);
    assert_int_equal(soon, 0);
}

static void *live_and_die(void *data)
{
    const char *names[] = {(const char *)data, "shared"};
    for (int i = 0; i < 30; i++) {
        const char *name = names[i % 3 == 2];
        bool own = name == names[0];
        autofree char *whole = xasprintf("v/%s", name);
        autofree char *other = xasprintf("%s-renamed", name);
        autofree char *whole_other = xasprintf("v/%s", other);
        int r[] = {create(name, MIB, i % 2 ? &waits : &now), export_block(name),
                   resize(whole, 2 * MIB, i % 2 ? &now : &waits), rename_to(whole, other)};
        for (size_t k = 0; k < sizeof r / sizeof *r; k++)
            if (own) /* its own objects are touched by the reconciler only, and that never makes a change fail
                      */
                assert_int_equal(r[k], 0);
            else
                assert_int_not_equal(r[k], -ESTALE);
        int gone = delete (whole_other, false, &waits);
        assert_true(own ? gone == 1 : gone == 1 || gone == -ENOENT);
        if (!own)
            delete (whole, false, &waits);
    }
    return NULL;
}

static void test_many_at_once_leave_nothing(void **data)
{
    (void)data;
    static char names[4][8] = {"a", "b", "c", "d"};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, live_and_die, names[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    static const char *const kinds[] = {"blocks/", "exports/", "jobs/"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct store_list left = {0};
        assert_int_equal(store_list(store, kinds[i], NULL, 0, &left, NULL), 0);
        assert_int_equal(left.count, 0);
        store_list_clear(&left);
    }
    assert_promised(0, 0);
    assert_int_equal(count_files(), 0);
    stop();
    start();
    assert_promised(0, 0);
}

/* ---- Shares ---- */

static int create_share(const char *name, uint64_t size, bool no_quota)
{
    struct share_create request = {
        .volume = (char *)"v", .name = (char *)name, .size = size, .no_quota = no_quota};
    struct core_result result = {0};
    int r = core_share_create(core, &request, &waits, &result, NULL);
    taken(&result);
    return r;
}

static int resize_share(const char *name, uint64_t size)
{
    struct share_patch patch = {.size = size};
    struct core_result result = {0};
    int r = core_share_patch(core, name, &patch, 1, &waits, &result, NULL);
    taken(&result);
    return r;
}

static int delete_share(const char *name, bool archive)
{
    struct core_result result = {0};
    int r = core_share_delete(core, name, archive, &waits, &result, NULL);
    taken(&result);
    return r;
}

static struct share read_share(const char *name)
{
    struct share share = {0};
    assert_int_equal(record_get(core, KIND_SHARE, name, &share, NULL), 0);
    return share;
}

static void test_a_size_needs_a_kernel_that_counts(void **data)
{
    (void)data;
    assert_int_equal(create_share("s", MIB, false), -EOPNOTSUPP);
    assert_int_equal(create_share("s", MIB, true), 0);
    assert_true(fake_folder_exists("/shares/s"));
    struct share share cleanup(cleanup_share) = read_share("v/s");
    assert_string_equal(share.status.phase, "ready");
    assert_int_equal(fake_shares.limit, 0);
    assert_int_equal(create_share("s", MIB, true), -EEXIST);
    assert_int_equal(create_share("t", MIB - 1, true), -EINVAL);
    assert_int_equal(create_share("t", ROOM, true), -ENOSPC);
    assert_int_equal(delete_share("v/s", false), 0);
    assert_false(fake_folder_exists("/shares/s"));
    assert_promised(0, 0);
}

static bool count_on(void *object, void *data)
{
    (void)data;
    ((struct device *)object)->status.quota = true;
    return true;
}

static void test_no_share_shrinks_below_its_use(void **data)
{
    (void)data;
    fake_shares.quota = true;
    assert_int_equal(record_update(core, KIND_DEVICE, "n/d", NULL, count_on, NULL, NULL), 0);
    assert_int_equal(create_share("s", 10 * MIB, false), 0);
    assert_int_equal(fake_shares.limit, 10 * MIB);
    fake_shares.used = 6 * MIB;
    assert_int_equal(resize_share("v/s", 5 * MIB), -EINVAL);
    assert_int_equal(resize_share("v/s", 6 * MIB), 0);
    assert_int_equal(fake_shares.limit, 6 * MIB);
    assert_int_equal(resize_share("v/s", ROOM + MIB), -ENOSPC);
    assert_promised(6 * MIB, 0);
    assert_int_equal(delete_share("v/s", false), 0);
    fake_shares.quota = false;
}

static void test_a_foreign_folder_is_left_alone(void **data)
{
    (void)data;
    assert_int_equal(files_make_folder(NULL, "/shares/s", 0755, NULL), 0);
    assert_int_equal(files_set_mark(NULL, "/shares/s", SHARE_MARK, "{\"uid\":\"another\"}", NULL), 0);
    assert_int_equal(create_share("s", MIB, true), 0);
    struct share share cleanup(cleanup_share) = read_share("v/s");
    assert_string_equal(share.status.phase, "failed");
    assert_int_equal(delete_share("v/s", false), 0);
    assert_true(fake_folder_exists("/shares/s"));
    fake_folder_drop(fake_folder("/shares/s"));
    assert_promised(0, 0);
}

static void test_an_archived_share_frees_its_name(void **data)
{
    (void)data;
    struct record_list shares = {.kind = KIND_SHARE};
    assert_int_equal(create_share("s", MIB, true), 0);
    assert_int_equal(delete_share("v/s", true), 0);
    assert_int_equal(create_share("s", MIB, true), 0);
    assert_promised(2 * MIB, 0);
    assert_int_equal(record_list(core, KIND_SHARE, "v", &shares, NULL), 0);
    assert_int_equal(shares.list.count, 2);
    const struct share *archived = RECORD(&shares, share, 1);
    assert_string_equal(archived->status.phase, "archived");
    assert_true(fake_folder_exists(archived->status.path));
    assert_int_equal(resize_share(archived->meta.name, 2 * MIB), -EINVAL);
    assert_int_equal(delete_share(archived->meta.name, true), -EINVAL);
    assert_int_equal(delete_share(archived->meta.name, false), 0);
    assert_int_equal(delete_share("v/s", false), 0);
    assert_promised(0, 0);
    record_list_clear(&shares);
}

/* ---- The ledger ---- */

/* Another process that makes and forgets blocks of the volume all the time. */
static void *promise_elsewhere(void *data)
{
    const struct promise one = {.bytes = MIB, .blocks = 1};
    const struct ledger_change add = {.volume = "v", .more = one, .limit = UINT64_MAX},
                               subtract = {.volume = "v", .less = one};
    (void)data;
    for (bool more = true; atomic_load(&busy) || !more;) {
        struct txn txn = {0};
        int r = ledger_add(core, &txn, more ? &add : &subtract, NULL);
        assert_int_equal(r, 0);
        r = txn_commit(core, &txn, NULL);
        txn_clear(&txn);
        assert_true(r == 0 || r == -ESTALE);
        more ^= r == 0;
        usleep(2000);
    }
    return NULL;
}

static void test_promises_hold_for_other_processes(void **data)
{
    (void)data;
    pthread_t thread;
    atomic_store(&busy, true);
    assert_int_equal(pthread_create(&thread, NULL, promise_elsewhere, NULL), 0);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(create("b", MIB, &waits), 0);
        struct block block cleanup(cleanup_block) = read_block("v/b");
        struct core_change insisting = {.wait = 60, .revision = block.meta.revision, .request = ""};
        assert_int_equal(resize("v/b", 3 * MIB, &insisting), 0);
        assert_int_equal(resize("v/b", 4 * MIB, &insisting), -ESTALE); /* it is another one by now */
        assert_int_equal(delete ("v/b", false, &waits), 1);
    }
    assert_int_equal(create("kept", 2 * MIB, &waits), 0);
    atomic_store(&busy, false);
    pthread_join(thread, NULL);
    assert_promised(2 * MIB, 1);

    /* The last room is gone, and a block that this process has not seen keeps the volume. */
    assert_int_equal(delete ("v/kept", false, &waits), 1);
    put("promises/v", "{\"bytes\":9223372036854775807,\"blocks\":1,\"shares\":0}");
    assert_int_equal(create("b", MIB, &now), -ENOSPC);
    struct core_result result = {0};
    assert_int_equal(core_volume_delete(core, "v", &now, &result, NULL), -ENOTEMPTY);
}

static atomic_size_t made, refused;

static void *take_room(void *data)
{
    static atomic_size_t serial;
    (void)data;
    autofree char *name = xasprintf("r%zu", atomic_fetch_add(&serial, 1));
    int r = create(name, MIB, &now);
    assert_true(r == 0 || r == -ENOSPC);
    atomic_fetch_add(r == 0 ? &made : &refused, 1);
    return NULL;
}

static void test_the_last_room_goes_to_as_many_as_fit(void **data)
{
    (void)data;
    struct volume volume cleanup(cleanup_volume) = {0};
    uint64_t limit = 0;
    assert_int_equal(record_get(core, KIND_VOLUME, "v", &volume, NULL), 0);
    assert_int_equal(volume_require_online(core, &volume, NULL), 0);
    assert_int_equal(volume_limit(&volume, &limit, NULL), 0);
    autofree char *taken_room = xasprintf("{\"bytes\":%llu}", (unsigned long long)(limit - 5 * MIB));
    put("promises/v", taken_room);
    pthread_t threads[24];
    for (size_t i = 0; i < 24; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_room, NULL), 0);
    for (size_t i = 0; i < 24; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&made), 5);
    assert_int_equal(atomic_load(&refused), 19);
    assert_promised(limit, 5);
}

static size_t count_findings(void)
{
    struct object_list findings cleanup(findings_clear) = {0};
    uint64_t checked = 0;
    assert_int_equal(ledger_examine(core, &findings, &checked, NULL), 0);
    assert_true(checked > 0);
    return findings.count;
}

static void test_wrong_promises_are_found_and_mended(void **data)
{
    (void)data;
    assert_int_equal(create("b", MIB, &waits), 0);
    assert_int_equal(create_share("s", 3 * MIB, true), 0);
    assert_int_equal(count_findings(), 0);
    put("promises/v", "{\"bytes\":1,\"blocks\":1,\"shares\":1}");
    put("promises/never", "{\"bytes\":1,\"blocks\":1,\"shares\":0}");
    assert_int_equal(count_findings(), 2);
    put("promises/v", "{");
    assert_int_equal(count_findings(), 2);
    assert_int_equal(create("c", MIB, &now), -EUCLEAN);
    assert_int_equal(ledger_mend(core, NULL), 0);
    assert_int_equal(count_findings(), 0);
    assert_promised(4 * MIB, 1);

    /* A store of an older version has no such keys. */
    struct store_op op = {.kind = STORE_DELETE, .key = "promises/v"};
    assert_int_equal(store_commit(store, &op, 1, NULL, NULL), 0);
    assert_int_equal(count_findings(), 1);
    stop();
    start();
    assert_promised(4 * MIB, 1);
    assert_int_equal(delete ("v/b", false, &waits), 1);
    assert_int_equal(delete_share("v/s", false), 0);
    assert_promised(0, 0);
    struct store_entry entry = {0};
    assert_int_equal(store_get(store, "promises/v", &entry, NULL), -ENOENT);
}

/* ---- Jobs ---- */

static int create_full(const char *name)
{
    struct block_create request = {.volume = (char *)"v",
                                   .name = (char *)name,
                                   .size = MIB,
                                   .block_size = 512,
                                   .prealloc = PREALLOC_FULL};
    struct core_result result = {0};
    int r = core_block_create(core, &request, &now, &result, NULL);
    taken(&result);
    return r;
}

/* The number of jobs of a kind in a phase. */
static size_t count_jobs(int kind, const char *phase)
{
    struct record_list jobs = {.kind = KIND_JOB};
    size_t count = 0;
    assert_int_equal(record_list(core, KIND_JOB, NULL, &jobs, NULL), 0);
    for (size_t i = 0; i < jobs.list.count; i++)
        count += RECORD(&jobs, job, i)->spec.kind == kind &&
                 string_equal(RECORD(&jobs, job, i)->status.phase, phase);
    record_list_clear(&jobs);
    return count;
}

static void wait_jobs(int kind, const char *phase, size_t count)
{
    while (count_jobs(kind, phase) != count)
        sched_yield();
}

/* The volume has one copy only, so that nobody can ask for it. */
static void put_heal_job(void)
{
    struct volume volume cleanup(cleanup_volume) = {0};
    struct job job cleanup(cleanup_job) = {0};
    struct txn txn = {0};
    assert_int_equal(record_get(core, KIND_VOLUME, "v", &volume, NULL), 0);
    job_init(&job, JOB_HEAL, KIND_VOLUME, &volume.meta);
    txn_put(&txn, KIND_JOB, &job, 0);
    assert_int_equal(txn_commit(core, &txn, NULL), 0);
    txn_clear(&txn);
}

static void test_a_long_removal_holds_nothing_up(void **data)
{
    (void)data;
    atomic_store(&fake_shares.hold_removals, true);
    static const char *const shares[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        autofree char *name = xasprintf("v/%s", shares[i]);
        assert_int_equal(create_share(shares[i], MIB, true), 0);
        assert_int_equal(delete_share(name, false), 0);
    }
    wait_jobs(JOB_REMOVE, "running", 2);
    assert_int_equal(create_full("b"), 0);
    wait_phase("v/b", "ready");
    put_heal_job();
    wait_jobs(JOB_HEAL, "succeeded", 1);
    assert_int_equal(count_jobs(JOB_REMOVE, "running"), 2);
    stop(); /* two are between two steps of theirs */
    start();
    atomic_store(&fake_shares.hold_removals, false);
    wait_jobs(JOB_REMOVE, "succeeded", 3);
}

static void test_allocations_are_bounded(void **data)
{
    (void)data;
    static const char *const names[] = {"a", "b", "c", "d"};
    atomic_store(&world.hold_allocations, true);
    atomic_store(&world.allocating_most, 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(create_full(names[i]), 0);
    while (atomic_load(&world.allocating) != 2)
        sched_yield();
    /* One that waits for its turn is canceled all the same. */
    struct record_list jobs = {.kind = KIND_JOB};
    struct core_result result = {0};
    assert_int_equal(record_list(core, KIND_JOB, NULL, &jobs, NULL), 0);
    assert_int_equal(jobs.list.count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(core_job_delete(core, RECORD(&jobs, job, i)->meta.name, &now, &result, NULL), 0);
        taken(&result);
    }
    record_list_clear(&jobs);
    atomic_store(&world.hold_allocations, false);
    for (size_t i = 0; i < 4; i++) {
        autofree char *name = xasprintf("v/%s", names[i]);
        wait_phase(name, "ready");
    }
    assert_int_equal(atomic_load(&world.allocating_most), 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_failed_block_recovers),
        TEST(test_a_create_that_failed_leaves_nothing),
        TEST(test_a_resize_after_half_a_create),
        TEST(test_growth_that_failed_is_taken_back),
        TEST(test_a_stray_export_holds_no_delete_up),
        TEST(test_a_second_delete_keeps_what_the_first_kept),
        TEST(test_clients_are_cut_by_force_only),
        TEST(test_a_volume_that_is_deleted_takes_no_block),
        TEST(test_a_damaged_record_stops_nothing_else),
        TEST(test_the_live_error_is_told),
        TEST(test_a_wait_ends_on_a_busy_node),
        TEST(test_many_at_once_leave_nothing),
        TEST(test_promises_hold_for_other_processes),
        TEST(test_the_last_room_goes_to_as_many_as_fit),
        TEST(test_wrong_promises_are_found_and_mended),
        TEST(test_a_size_needs_a_kernel_that_counts),
        TEST(test_no_share_shrinks_below_its_use),
        TEST(test_a_foreign_folder_is_left_alone),
        TEST(test_an_archived_share_frees_its_name),
        TEST(test_a_long_removal_holds_nothing_up),
        TEST(test_allocations_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
