/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Operations on shares. Each checks everything, then changes the store in one transaction; share_reconcile.c
 * does the work. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/fault.h"
#include "rpc/base/sizes.h"
#include "rpc/volume_layout.h"

#define SHARE_SIZE_MIN (UINT64_C(1) << 20)
#define SHARE_NAME_MAX 200 /* an archived share's name has the time after it */
#define PROJECT_FIRST  UINT64_C(1000)
#define PROJECT_LAST   (UINT32_MAX - UINT64_C(1))

char *share_path(const struct share *share)
{
    if (share->spec.archived)
        return xasprintf(SHARE_ARCHIVE "/%s", share->meta.uid);
    return xasprintf(SHARE_FOLDER "/%s", strchr(share->meta.name, '/') + 1);
}

char *share_project_key(uint64_t project)
{
    return xasprintf(SHARE_PROJECTS "/%llu", (unsigned long long)project);
}

struct engine_share share_for_engine(const struct share *share)
{
    return (struct engine_share){
        .name = share->meta.name,
        .path = share->status.path,
        .project = (uint32_t)share->spec.project,
        .limited = !share->spec.no_quota,
        .size = share->spec.size,
    };
}

/* ---- Checks ---- */

static int check_name(const char *name, struct error **ret_error)
{
    if (strlen(name) > SHARE_NAME_MAX)
        return error_set(ret_error, EINVAL, "the share name \"%.32s...\" is longer than %d characters", name,
                         SHARE_NAME_MAX);
    return 0;
}

static int check_size(uint64_t size, struct error **ret_error)
{
    if (size < SHARE_SIZE_MIN)
        return error_set(ret_error, EINVAL, "size is %llu bytes, and must be at least 1 MiB",
                         (unsigned long long)size);
    return 0;
}

/* Every brick's device must count: one that does not would let the share grow there. */
static int check_quota(struct core *core, const struct volume *volume, const char *name,
                       struct error **ret_error)
{
    const struct brick_spec *bricks = volume->spec.bricks.items;
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        struct device device cleanup(cleanup_device) = {0};
        autofree char *device_name = xasprintf("%s/%s", bricks[i].node, bricks[i].device);
        int r = record_get(core, KIND_DEVICE, device_name, &device, ret_error);
        if (r < 0)
            return r;
        if (!device.status.quota)
            return error_set(
                ret_error, EOPNOTSUPP,
                "the size of share %s cannot be enforced: the kernel of node %s has no XFS project quota "
                "(device "
                "%s); use one that has it, or ask for no_quota: then nothing keeps the share within its size",
                name, bricks[i].node, device_name);
    }
    return 0;
}

/* ---- Project ids ---- */

/* After the start: behind the highest that is taken. */
static int first_project(struct core *core, struct error **ret_error)
{
    if (atomic_load(&core->next_project))
        return 0;
    struct store_list taken = {0};
    int r = store_list(core->store, SHARE_PROJECTS "/", NULL, 0, &taken, ret_error);
    if (r < 0)
        return r;
    unsigned long long next = PROJECT_FIRST, none = 0;
    for (size_t i = 0; i < taken.count; i++) {
        unsigned long long project = strtoull(strchr(taken.entries[i].key, '/') + 1, NULL, 10);
        if (project >= next)
            next = project + 1;
    }
    store_list_clear(&taken);
    atomic_compare_exchange_strong(&core->next_project, &none, next);
    return 0;
}

/* The transaction fails, and is made again, when another node takes the same. */
static int allot_project(struct core *core, struct share *share, struct txn *txn, struct error **ret_error)
{
    int r = first_project(core, ret_error);
    if (r < 0)
        return r;
    for (;;) {
        unsigned long long project = atomic_fetch_add(&core->next_project, 1);
        if (project > PROJECT_LAST) {
            atomic_store(&core->next_project, PROJECT_FIRST);
            continue;
        }
        autofree char *key = share_project_key(project);
        struct store_entry entry = {0};
        r = store_get(core->store, key, &entry, NULL);
        store_entry_clear(&entry);
        if (r == 0)
            continue;
        if (r != -ENOENT)
            return error_set(ret_error, -r, "cannot read the store: %s", strerror(-r));
        autofree char *owner = xasprintf("\"shares/%s\"", share->meta.uid);
        txn_put_text(txn, key, owner, 0);
        share->spec.project = project;
        return 0;
    }
}

/* ---- Create ---- */

static int prepare(struct core *core, const struct share_create *request, const char *name,
                   struct volume *volume, struct share *share, struct error **ret_error)
{
    struct share present cleanup(cleanup_share) = {0};
    int r = check_name(request->name, ret_error);
    if (r == 0)
        r = check_size(request->size, ret_error);
    if (r == 0)
        r = record_get(core, KIND_VOLUME, request->volume, volume, ret_error);
    if (r == 0)
        r = share_check_access(volume, &request->access, ret_error);
    if (r < 0)
        return r;
    if (volume->meta.deleting)
        return error_set(ret_error, ENOENT, "volume %s does not exist: it is being deleted", request->volume);
    if (record_get(core, KIND_SHARE, name, &present, NULL) == 0)
        return error_set(ret_error, EEXIST, "share %s %s", name,
                         present.meta.deleting ? "is being deleted" : "already exists");
    r = volume_require_online(core, volume, ret_error);
    if (r == 0 && !request->no_quota)
        r = check_quota(core, volume, name, ret_error);
    if (r < 0)
        return r;
    meta_init(&share->meta, name);
    share->spec.size = request->size;
    share->spec.no_quota = request->no_quota;
    string_list_copy(&share->spec.access, &request->access);
    share->status.phase = xstrdup("pending");
    share->status.path = share_path(share);
    return 0;
}

static int commit_new(struct core *core, const struct volume *volume, struct share *share,
                      const struct core_change *change, struct error **ret_error)
{
    struct txn txn = {0};
    autofree char *key = object_key(KIND_SHARE, share->meta.name);
    autofree char *volume_key = object_key(KIND_VOLUME, volume->meta.name);
    struct ledger_change promise = {.volume = volume->meta.name,
                                    .more = {.bytes = share->spec.size, .shares = 1},
                                    .guarded = layout_sets(&volume->spec) > 1};
    int r = volume_limit(volume, &promise.limit, ret_error);
    if (r == 0 && promise.guarded)
        r = share_sets_check(core, volume, share->spec.size, &promise.revision, ret_error);
    if (r == 0)
        r = allot_project(core, share, &txn, ret_error);
    if (r == 0) {
        txn_put(&txn, KIND_SHARE, share, 0);
        txn_check(&txn, volume_key, volume->meta.revision); /* it is not deleted meanwhile */
        r = change_commit_promise(core, change, &txn, key, share->meta.uid, &promise, ret_error);
    }
    txn_clear(&txn);
    return r;
}

static int create(struct core *core, const struct change_call *call, const struct core_change *change,
                  struct core_result *ret_result, struct error **ret_error)
{
    const struct share_create *request = call->request;
    struct volume volume cleanup(cleanup_volume) = {0};
    struct share share cleanup(cleanup_share) = {0};
    autofree char *name = xasprintf("%s/%s", request->volume, request->name);
    autofree char *key = object_key(KIND_SHARE, name);
    int r = prepare(core, request, name, &volume, &share, ret_error);
    if (r == 0)
        r = commit_new(core, &volume, &share, change, ret_error);
    if (r < 0)
        return r;
    fault_point("share.create.after-record");
    if (change->wait) /* the caller's thread does the work at once */
        queue_run(core->queue, key, NULL);
    return result_make(core, key, share.meta.uid, change, ret_result, ret_error);
}

int core_share_create(struct core *core, const struct share_create *request, const struct core_change *change,
                      struct core_result *ret_result, struct error **ret_error)
{
    struct change_call call = {.request = request};
    return change_run(core, create, &call, change, ret_result, ret_error);
}

/* ---- Resize and access ---- */

static int get_live(struct core *core, const char *name, const struct core_change *change,
                    struct share *share, struct error **ret_error)
{
    int r = change_get(core, KIND_SHARE, name, change, share, ret_error);
    if (r < 0)
        return r;
    if (share->meta.deleting)
        return error_set(ret_error, EBUSY, "share %s is being deleted", name);
    if (share->spec.archived)
        return error_set(ret_error, EINVAL, "share %s is archived: all that can be done is to delete it",
                         name);
    return 0;
}

static int check_shrink(struct core *core, const struct volume *volume, const struct share *share,
                        uint64_t size, struct error **ret_error)
{
    uint64_t used;
    char wanted[SIZE_TEXT_SIZE], taken[SIZE_TEXT_SIZE];
    if (engine_share_used(core->engine, volume, (uint32_t)share->spec.project, &used, NULL) < 0 ||
        used <= size)
        return 0;
    size_format(size, wanted);
    size_format(used, taken);
    return error_set(ret_error, EINVAL, "share %s uses %s and cannot have %s: delete files first",
                     share->meta.name, taken, wanted);
}

/* `promise` may be NULL. */
static int commit_edited(struct core *core, struct share *share, const struct ledger_change *promise,
                         const struct core_change *change, struct error **ret_error)
{
    autofree char *key = object_key(KIND_SHARE, share->meta.name);
    struct txn txn = {0};
    share->meta.generation++;
    txn_put(&txn, KIND_SHARE, share, share->meta.revision);
    return change_commit_promise(core, change, &txn, key, share->meta.uid, promise, ret_error);
}

static int answer(struct core *core, const struct share *share, const struct core_change *change,
                  struct core_result *ret_result, struct error **ret_error)
{
    autofree char *key = object_key(KIND_SHARE, share->meta.name);
    if (change->wait)
        queue_run(core->queue, key, NULL);
    return result_make(core, key, share->meta.uid, change, ret_result, ret_error);
}

static int resize(struct core *core, const struct change_call *call, const struct core_change *change,
                  struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    const struct share_patch *patch = call->request;
    struct share share cleanup(cleanup_share) = {0};
    struct volume volume cleanup(cleanup_volume) = {0};
    autofree char *volume_name = object_name_part(name, 0);
    struct ledger_change promise = {.volume = volume_name};
    int r = check_size(patch->size, ret_error);
    if (r < 0 || (r = get_live(core, name, change, &share, ret_error)) < 0 ||
        (r = record_get(core, KIND_VOLUME, volume_name, &volume, ret_error)) < 0 ||
        (r = volume_require_online(core, &volume, ret_error)) < 0 ||
        (r = volume_limit(&volume, &promise.limit, ret_error)) < 0)
        return r;
    uint64_t old = share.spec.size, grown = patch->size > old ? patch->size - old : 0;
    if (patch->size < old)
        r = check_shrink(core, &volume, &share, patch->size, ret_error);
    promise.guarded = grown && layout_sets(&volume.spec) > 1;
    if (r == 0 && promise.guarded)
        r = share_sets_check(core, &volume, grown, &promise.revision, ret_error);
    promise.more.bytes = grown;
    promise.less.bytes = patch->size < old ? old - patch->size : 0;
    share.spec.size = patch->size;
    if (r == 0)
        r = commit_edited(core, &share, &promise, change, ret_error);
    if (r < 0)
        return r;
    fault_point("share.resize.after-record");
    return answer(core, &share, change, ret_result, ret_error);
}

int core_share_patch(struct core *core, const char *name, const struct share_patch *patch, uint64_t present,
                     const struct core_change *change, struct core_result *ret_result,
                     struct error **ret_error)
{
    (void)present; /* its one member is required */
    struct change_call call = {.name = name, .request = patch};
    return change_run(core, resize, &call, change, ret_result, ret_error);
}

/* The volume must be as it was looked at: with TLS it takes no such list. */
static int commit_access(struct core *core, const struct volume *volume, struct share *share,
                         const struct core_change *change, struct error **ret_error)
{
    autofree char *key = object_key(KIND_SHARE, share->meta.name);
    autofree char *volume_key = object_key(KIND_VOLUME, volume->meta.name);
    struct txn txn = {0};
    share->meta.generation++;
    txn_put(&txn, KIND_SHARE, share, share->meta.revision);
    txn_check(&txn, volume_key, volume->meta.revision);
    return change_commit(core, change, &txn, key, share->meta.uid, ret_error);
}

static int set_access(struct core *core, const struct change_call *call, const struct core_change *change,
                      struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    const struct share_access *access = call->request;
    struct share share cleanup(cleanup_share) = {0};
    struct volume volume cleanup(cleanup_volume) = {0};
    autofree char *volume_name = object_name_part(name, 0);
    bool none = access->access.count == 1 && strcmp(access->access.items[0], "none") == 0;
    int r = get_live(core, name, change, &share, ret_error);
    if (r == 0)
        r = record_get(core, KIND_VOLUME, volume_name, &volume, ret_error);
    if (r == 0 && !none)
        r = share_check_access(&volume, &access->access, ret_error);
    if (r < 0)
        return r;
    string_list_clear(&share.spec.access);
    if (!none)
        string_list_copy(&share.spec.access, &access->access);
    r = commit_access(core, &volume, &share, change, ret_error);
    if (r < 0)
        return r;
    fault_point("share.access.after-record");
    return answer(core, &share, change, ret_result, ret_error);
}

int core_share_access(struct core *core, const char *name, const struct share_access *access,
                      const struct core_change *change, struct core_result *ret_result,
                      struct error **ret_error)
{
    struct change_call call = {.name = name, .request = access};
    return change_run(core, set_access, &call, change, ret_result, ret_error);
}

/* ---- Delete ---- */

/* "S-archived-20260131T120000-1a2b3c4d": free for sure, and in the order of time. */
static char *archive_name(const struct share *share)
{
    char now[CLOCK_TEXT_SIZE], time[CLOCK_TEXT_SIZE];
    size_t length = 0;
    clock_format(clock_real_ms(), now);
    for (const char *c = now; *c && *c != '.'; c++)
        if (*c != '-' && *c != ':')
            time[length++] = *c;
    time[length] = '\0';
    return xasprintf("%s-archived-%s-%.8s", strchr(share->meta.name, '/') + 1, time, share->meta.uid);
}

static int mark_deleting(struct core *core, struct share *share, bool archive,
                         const struct core_change *change, struct error **ret_error)
{
    struct txn txn = {0};
    autofree char *key = object_key(KIND_SHARE, share->meta.name);
    /* What the first request said about the files stands: they may be gone already. */
    if (share->meta.deleting && (share->spec.archive_as != NULL) != archive)
        return error_set(ret_error, EBUSY, "share %s is being %s already", share->meta.name,
                         share->spec.archive_as ? "archived" : "deleted");
    if (share->spec.archived && archive)
        return error_set(ret_error, EINVAL, "share %s is archived already", share->meta.name);
    if (share->meta.deleting) {
        txn_check(&txn, key, share->meta.revision);
    } else {
        share->meta.deleting = true;
        share->meta.generation++;
        share->spec.archive_as = archive ? archive_name(share) : NULL;
        txn_put(&txn, KIND_SHARE, share, share->meta.revision);
    }
    return change_commit(core, change, &txn, key, share->meta.uid, ret_error);
}

static int delete_share(struct core *core, const struct change_call *call, const struct core_change *change,
                        struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    bool archive = *(const bool *)call->request;
    struct share share cleanup(cleanup_share) = {0};
    int r = change_get(core, KIND_SHARE, name, change, &share, ret_error);
    if (r == 0)
        r = mark_deleting(core, &share, archive, change, ret_error);
    if (r < 0)
        return r;
    fault_point("share.delete.after-mark");
    r = answer(core, &share, change, ret_result, ret_error);
    if (r == 0 && !ret_result->object && share.spec.archive_as) {
        autofree char *volume = object_name_part(name, 0);
        autofree char *archived = xasprintf("%s/%s", volume, share.spec.archive_as);
        core_get(core, KIND_SHARE, archived, &ret_result->object, NULL); /* what became of it */
    }
    return r;
}

int core_share_delete(struct core *core, const char *name, bool archive, const struct core_change *change,
                      struct core_result *ret_result, struct error **ret_error)
{
    struct change_call call = {.name = name, .request = &archive};
    return change_run(core, delete_share, &call, change, ret_result, ret_error);
}
