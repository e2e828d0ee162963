/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* An engine and exports that do nothing and do it well, for the core without bricks. */
#ifndef BLOCKD_TESTS_FAKE_ENGINE_H
#define BLOCKD_TESTS_FAKE_ENGINE_H

#include "blockd/core/core_priv.h"
#include "blockd/engine/manifest.h"
#include "tests/unit/fake_images.h"
#include "tests/unit/fake_shares.h"

/* Nothing to do, always well done. */
#define WELL_DONE(name, ...)                                                                                 \
    int name(__VA_ARGS__, struct error **ret_error)                                                          \
    {                                                                                                        \
        (void)a, (void)b, (void)ret_error;                                                                   \
        return 0;                                                                                            \
    }
WELL_DONE(engine_device_probe, struct engine *a, const struct device *b)
WELL_DONE(done_for_volume, struct engine *a, const struct volume *b)

static atomic_uint fake_engine_downs; /* devices, volumes and exports that were to be taken away */

int engine_device_down(struct engine *engine, const struct device *device, struct error **ret_error)
{
    (void)engine, (void)device, (void)ret_error;
    atomic_fetch_add(&fake_engine_downs, 1);
    return 0;
}

int engine_volume_down(struct engine *engine, const struct volume *volume, struct error **ret_error)
{
    (void)engine, (void)volume, (void)ret_error;
    atomic_fetch_add(&fake_engine_downs, 1);
    return 0;
}

int engine_volume_erase(struct engine *engine, const struct volume *volume, bool lost,
                        struct error **ret_error)
{
    (void)lost;
    return done_for_volume(engine, volume, ret_error);
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
    return done_for_volume(engine, volume, ret_error);
}

int engine_device_bury(struct engine *engine, const struct device *device, const struct volume *volume,
                       bool *ret_trash, struct error **ret_error)
{
    (void)device;
    *ret_trash = false;
    return done_for_volume(engine, volume, ret_error);
}

int engine_device_empty_trash(struct engine *engine, const struct device *device, const struct volume *volume,
                              struct error **ret_error)
{
    (void)device;
    return done_for_volume(engine, volume, ret_error);
}

int engine_clients_told(struct engine *engine, const struct volume *volume, const struct brick_move *move,
                        struct error **ret_error)
{
    (void)move;
    return done_for_volume(engine, volume, ret_error);
}

int engine_move_is_marked(struct engine *engine, const struct volume *volume, uint64_t number,
                          struct error **ret_error)
{
    (void)number;
    return done_for_volume(engine, volume, ret_error);
}

int engine_marking_volfile(struct engine *engine, const struct volume *volume, const struct brick_move *move,
                           const struct node *nodes, size_t node_count, char **ret_path, char **ret_brick,
                           struct error **ret_error)
{
    (void)move, (void)nodes, (void)node_count;
    *ret_path = xstrdup("/volfile");
    *ret_brick = xstrdup("brick");
    return done_for_volume(engine, volume, ret_error);
}

void engine_brick_status(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                         struct brick_status *ret_status)
{
    (void)engine, (void)volume, (void)brick;
    *ret_status = (struct brick_status){.state = xstrdup("online")};
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
        .phase = xstrdup("ready"), .size = FAKE_ROOM, .free = FAKE_ROOM, .quota = fake_shares.quota};
    return 0;
}

int engine_volume_applied(struct engine *engine, const struct volume *volume, int timeout_ms,
                          struct error **ret_error)
{
    (void)engine, (void)volume, (void)timeout_ms, (void)ret_error;
    return 0;
}

bool engine_access_has_folders(struct engine *engine, const struct volume *volume)
{
    (void)engine, (void)volume;
    return false;
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
        .size = FAKE_ROOM,
        .free = FAKE_ROOM,
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

int engine_fragments_behind(struct engine *engine, const struct volume *volume, uint64_t number, bool others,
                            uint64_t *ret_files, struct error **ret_error)
{
    (void)engine, (void)volume, (void)number, (void)others, (void)ret_error;
    *ret_files = 0;
    return 0;
}

int engine_leaving_look(struct engine *engine, const struct volume *volume, char **ret_file,
                        struct error **ret_error)
{
    (void)engine, (void)volume, (void)ret_error;
    *ret_file = NULL;
    return 0;
}

int engine_leaving_check_open(struct engine *engine, const struct volume *volume, struct error **ret_error)
{
    (void)engine, (void)volume, (void)ret_error;
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
    atomic_fetch_add(&fake_engine_downs, 1);
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

#endif
