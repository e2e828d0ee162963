/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Devices: adding, removing, and keeping them formatted and mounted. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"

#define IMAGE_SIZE_MIN (UINT64_C(512) << 20) /* mkfs.xfs makes nothing smaller that is of use */

/* ---- Create and delete ---- */

static int check_path(const char *path, struct error **ret_error)
{
    if (path[0] != '/')
        return error_set(ret_error, EINVAL, "path \"%s\" is not absolute", path);
    if (strstr(path, "/../") || strstr(path, "//"))
        return error_set(ret_error, EINVAL, "path \"%s\" is not in its plain form", path);
    return 0;
}

/* Two paths, such as /dev/sdb and a link below /dev/disk, that lead to one disk or file. */
static bool same_disk(const char *a, const char *b)
{
    struct stat x, y;
    if (strcmp(a, b) == 0)
        return true;
    if (stat(a, &x) < 0 || stat(b, &y) < 0)
        return false;
    if (S_ISBLK(x.st_mode) && S_ISBLK(y.st_mode))
        return x.st_rdev == y.st_rdev;
    return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The same disk under two names would be two bricks that share one fate. `name` is the device that asks. */
static int check_unused(struct core *core, const char *node, const char *name, const char *path,
                        struct error **ret_error)
{
    bool here = strcmp(node, core->node) == 0;
    struct record_list devices = {.kind = KIND_DEVICE};
    int r = record_list(core, KIND_DEVICE, node, &devices, ret_error);
    for (size_t i = 0; r == 0 && i < devices.list.count; i++) {
        const struct device *device = RECORD(&devices, device, i);
        if (strcmp(device->meta.name, name) != 0 &&
            (here ? same_disk(device->spec.path, path) : strcmp(device->spec.path, path) == 0))
            r = error_set(ret_error, EEXIST, "%s is device %s already", path, device->meta.name);
    }
    record_list_clear(&devices);
    return r;
}

/* What else it is called goes into given_path. */
static void use_stable_path(struct core *core, struct device *device)
{
    char *stable = engine_device_stable_path(core->engine, device->spec.path);
    if (!stable || strcmp(stable, device->spec.path) == 0) {
        free(stable);
        return;
    }
    free(device->spec.given_path);
    device->spec.given_path = device->spec.path;
    device->spec.path = stable;
}

static int check_node(struct core *core, const char *name, struct error **ret_error)
{
    struct node node cleanup(cleanup_node) = {0};
    int r = record_get(core, KIND_NODE, name, &node, ret_error);
    if (r == 0 && !presence_sees(core->presence, name))
        return error_set(ret_error, EHOSTUNREACH, "node %s does not answer: it cannot look at its disks now",
                         name);
    return r;
}

static int prepare_create(struct core *core, const struct device_create *request, struct device *device,
                          struct error **ret_error)
{
    const char *node = request->node ? request->node : core->node;
    bool here = strcmp(node, core->node) == 0;
    int r = check_path(request->path, ret_error);
    if (r == 0)
        r = check_node(core, node, ret_error);
    if (r < 0)
        return r;
    if (request->image_size && request->image_size < IMAGE_SIZE_MIN)
        return error_set(ret_error, EINVAL, "image_size must be at least 512 MiB");

    autofree char *name = xasprintf("%s/%s", node, request->name);
    meta_init(&device->meta, name);
    device->spec.path = xstrdup(request->path);
    if (here)
        use_stable_path(core, device);
    device->spec.image_size = request->image_size;
    device->spec.destroy_existing_data = request->destroy_existing_data;
    device->status.phase = xstrdup("pending");

    struct device present cleanup(cleanup_device) = {0};
    if (record_get(core, KIND_DEVICE, name, &present, NULL) == 0)
        return error_set(ret_error, EEXIST, "device %s exists already", name);
    r = check_unused(core, node, name, request->path, ret_error);
    if (r < 0 || !here) /* its own node looks at the disk */
        return r;
    r = engine_device_probe(core->engine, device, ret_error);
    return r == -EEXIST && request->destroy_existing_data ? 0 : r;
}

static int commit_new(struct core *core, const struct device_create *request, struct device *device,
                      const struct core_change *change, struct error **ret_error)
{
    scoped_lock(&core->placement_mutex); /* the same disk is not added twice at once */
    autoerror struct error *problem = NULL;
    int r = prepare_create(core, request, device, &problem);
    if (r < 0)
        return error_set(ret_error, -r, "%s", error_message(problem));
    autofree char *key = object_key(KIND_DEVICE, device->meta.name);
    struct txn txn = {0};
    txn_put(&txn, KIND_DEVICE, device, 0);
    r = change_commit(core, change, &txn, key, device->meta.uid, ret_error);
    return r;
}

static int create(struct core *core, const struct change_call *call, const struct core_change *change,
                  struct core_result *ret_result, struct error **ret_error)
{
    const struct device_create *request = call->request;
    struct device device cleanup(cleanup_device) = {0};
    int r = commit_new(core, request, &device, change, ret_error);
    if (r < 0)
        return r;
    fault_point("device.create.after-record");
    autofree char *key = object_key(KIND_DEVICE, device.meta.name);
    return result_make(core, key, device.meta.uid, change, ret_result, ret_error);
}

int core_device_create(struct core *core, const struct device_create *request,
                       const struct core_change *change, struct core_result *ret_result,
                       struct error **ret_error)
{
    struct change_call call = {.request = request};
    return change_run(core, create, &call, change, ret_result, ret_error);
}

/* The volumes that have a brick on the device, by name. */
static int users_of(struct core *core, const char *device_name, struct strbuf *users,
                    struct error **ret_error)
{
    struct record_list volumes = {.kind = KIND_VOLUME};
    int r = record_list(core, KIND_VOLUME, NULL, &volumes, ret_error);
    for (size_t i = 0; i < volumes.list.count; i++) {
        const struct volume *volume = RECORD(&volumes, volume, i);
        if (volume_uses_device(volume, device_name))
            strbuf_addf(users, "%s%s", users->length ? ", " : "", volume->meta.name);
    }
    record_list_clear(&volumes);
    return r;
}

static int mark_deleting(struct core *core, const char *name, const struct core_change *change,
                         char **ret_uid, struct error **ret_error)
{
    scoped_lock(&core->placement_mutex); /* no volume is placed on it meanwhile */
    struct device device cleanup(cleanup_device) = {0};
    int r = change_get(core, KIND_DEVICE, name, change, &device, ret_error);
    if (r < 0)
        return r;
    autostrbuf struct strbuf users = {0};
    r = users_of(core, name, &users, ret_error);
    if (r < 0)
        return r;
    bool failed = string_equal(device.status.phase, "failed");
    if (users.length && failed)
        return error_set(ret_error, EBUSY,
                         "device %s holds bricks of volume %s: make them anew with gluster-block device "
                         "replace %s OTHER, or delete the volume first",
                         name, strbuf_string(&users), name);
    if (users.length)
        return error_set(ret_error, EBUSY,
                         "device %s holds bricks of volume %s: move them away with gluster-block device "
                         "evacuate %s, or delete the volume first",
                         name, strbuf_string(&users), name);

    autofree char *key = object_key(KIND_DEVICE, name);
    device.meta.deleting = true;
    device.spec.forced |= change->force;
    device.meta.generation++;
    struct txn txn = {0};
    txn_put(&txn, KIND_DEVICE, &device, device.meta.revision);
    r = change_commit(core, change, &txn, key, device.meta.uid, ret_error);
    if (r == 0)
        *ret_uid = xstrdup(device.meta.uid);
    return r;
}

static int delete_device(struct core *core, const struct change_call *call, const struct core_change *change,
                         struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    autofree char *key = object_key(KIND_DEVICE, name);
    autofree char *uid = NULL;
    int r = mark_deleting(core, name, change, &uid, ret_error);
    return r < 0 ? r : result_make(core, key, uid, change, ret_result, ret_error);
}

int core_device_delete(struct core *core, const char *name, const struct core_change *change,
                       struct core_result *ret_result, struct error **ret_error)
{
    struct change_call call = {.name = name};
    return change_run(core, delete_device, &call, change, ret_result, ret_error);
}

/* ---- Change ---- */

char *device_full_name(const struct core *core, const char *word)
{
    return strchr(word, '/') ? xstrdup(word) : xasprintf("%s/%s", core->node, word);
}

enum { PATCH_STATE }; /* the field's place in device_patch_schema */

static int change_spec(struct core *core, const struct change_call *call, const struct core_change *change,
                       struct core_result *ret_result, struct error **ret_error)
{
    const char *name = call->name;
    const struct device_patch *patch = call->request;
    uint64_t present = call->present;
    struct device device cleanup(cleanup_device) = {0};
    int r = change_get(core, KIND_DEVICE, name, change, &device, ret_error);
    if (r < 0)
        return r;
    if (device.meta.deleting)
        return error_set(ret_error, EBUSY, "device %s is being removed", name);
    if (present >> PATCH_STATE & 1)
        device.spec.state = patch->state;
    device.meta.generation++;
    autofree char *key = object_key(KIND_DEVICE, name);
    struct txn txn = {0};
    txn_put(&txn, KIND_DEVICE, &device, device.meta.revision);
    r = change_commit(core, change, &txn, key, device.meta.uid, ret_error);
    return r < 0 ? r : result_make(core, key, device.meta.uid, change, ret_result, ret_error);
}

int core_device_patch(struct core *core, const char *name, const struct device_patch *patch, uint64_t present,
                      const struct core_change *change, struct core_result *ret_result,
                      struct error **ret_error)
{
    struct change_call call = {.name = name, .request = patch, .present = present};
    return change_run(core, change_spec, &call, change, ret_result, ret_error);
}

/* ---- Bricks that are nobody's any more ---- */

static bool drop_graves(void *object, void *data)
{
    struct device *device = object;
    const struct string_list *graves = data;
    struct string_list left = {0};
    for (size_t i = 0; i < device->spec.graves.count; i++)
        if (!string_list_contains(graves, device->spec.graves.items[i]))
            string_list_add(&left, device->spec.graves.items[i]);
    bool changed = left.count != device->spec.graves.count;
    string_list_clear(&device->spec.graves);
    device->spec.graves = left;
    return changed;
}

/* Adds "VOLUME UID" to the list when there is something of the volume to remove. */
static int bury(struct core *core, const struct device *device, const struct volume *volume,
                struct string_list *trash, struct error **ret_error)
{
    bool any;
    int r = engine_device_bury(core->engine, device, volume, &any, ret_error);
    if (r == 0 && any)
        string_list_addf(trash, "%s %s", volume->meta.name, volume->meta.uid);
    return r;
}

static void volume_of_grave(const char *grave, struct volume *ret_volume)
{
    const char *blank = strchrnul(grave, ' ');
    ret_volume->meta.name = xstrndup(grave, (size_t)(blank - grave));
    ret_volume->meta.uid = xstrdup(*blank ? blank + 1 : "");
}

/* Of volumes that have no brick there any more. None may come there while this decides. */
static int bury_replaced(struct core *core, const struct device *device, struct string_list *trash,
                         struct error **ret_error)
{
    scoped_lock(&core->placement_mutex);
    struct record_list volumes = {.kind = KIND_VOLUME};
    int r = record_list(core, KIND_VOLUME, NULL, &volumes, ret_error);
    for (size_t i = 0; r == 0 && i < volumes.list.count; i++) {
        const struct volume *volume = RECORD(&volumes, volume, i);
        if (!volume_uses_device(volume, device->meta.name))
            r = bury(core, device, volume, trash, ret_error);
    }
    record_list_clear(&volumes);
    return r;
}

static int bury_graves(struct core *core, const struct device *device, struct string_list *trash,
                       struct error **ret_error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < device->spec.graves.count; i++) {
        struct volume volume cleanup(cleanup_volume) = {0};
        volume_of_grave(device->spec.graves.items[i], &volume);
        r = bury(core, device, &volume, trash, ret_error);
    }
    return r;
}

/*
 * A device that was away may still hold bricks that were replaced meanwhile, or whose volume was deleted:
 * they are old, and never to be served again.
 */
static int bury_old_bricks(struct core *core, const struct device *device, struct string_list *trash,
                           struct error **ret_error)
{
    int r = bury_replaced(core, device, trash, ret_error);
    return r < 0 ? r : bury_graves(core, device, trash, ret_error);
}

/* Nobody waits for this, however many files there are. */
static int remove_buried(struct core *core, const struct device *device, const struct string_list *trash,
                         struct error **ret_error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < trash->count; i++) {
        struct volume volume cleanup(cleanup_volume) = {0};
        volume_of_grave(trash->items[i], &volume);
        r = engine_device_empty_trash(core->engine, device, &volume, ret_error);
    }
    if (r < 0 || !device->spec.graves.count)
        return r;
    return record_update(core, KIND_DEVICE, device->meta.name, device->meta.uid, drop_graves,
                         (void *)&device->spec.graves, ret_error);
}

/* ---- Reconcile ---- */

static bool set_status(void *object, void *data)
{
    const struct device_status *seen = data;
    struct device_status *status = &((struct device *)object)->status;
    bool changed = string_equal(seen->phase, "failed") && string_equal(status->phase, "ready");
    status->failures += changed;
    if (seen->health) {
        changed |= string_replace(&status->health, seen->health);
        changed |= string_replace(&status->health_reason, seen->health_reason);
    }
    if (seen->uuid) /* once known it stays known, whatever state the device is in */
        changed |= string_replace(&status->uuid, seen->uuid);
    if (seen->mount)
        changed |= string_replace(&status->mount, seen->mount);
    if (seen->size) {
        changed |= status->size != seen->size || status->quota != seen->quota;
        status->size = seen->size;
        status->quota = seen->quota;
        status->free = seen->free;
    }
    return changed;
}

static int record_device(struct core *core, const struct device *device, struct device_status *status,
                         struct error **ret_error)
{
    struct status_seen seen = {
        .phase = status->phase, .error = status->error, .more = set_status, .data = status};
    return status_record(core, KIND_DEVICE, &device->meta, &seen, ret_error);
}

static void clear_status(struct device_status *status)
{
    free(status->phase);
    free(status->uuid);
    free(status->mount);
    free(status->error);
    free(status->health);
    free(status->health_reason);
}

static bool set_paths(void *object, void *data)
{
    const struct device *device = data;
    struct device_spec *spec = &((struct device *)object)->spec;
    bool changed = string_replace(&spec->given_path, device->spec.given_path);
    return string_replace(&spec->path, device->spec.path) || changed;
}

/* One that another node recorded is looked at here for the first time. */
static int look_at_new(struct core *core, struct device *device, struct error **ret_error)
{
    int r = check_unused(core, core->node, device->meta.name, device->spec.path, ret_error);
    if (r < 0)
        return r;
    use_stable_path(core, device);
    return record_update(core, KIND_DEVICE, device->meta.name, device->meta.uid, set_paths, device,
                         ret_error);
}

static int erase(struct core *core, const struct device *device, struct error **ret_error)
{
    int r = engine_device_erase(core->engine, device, device->spec.forced, ret_error);
    if (r < 0)
        return r;
    fault_point("device.delete.after-erase");
    return record_delete(core, KIND_DEVICE, &device->meta, ret_error);
}

int device_reconcile(struct core *core, const char *name, struct error **ret_error)
{
    autofree char *node = object_name_part(name, 0);
    if (strcmp(node, core->node) != 0)
        return 0;
    struct device device cleanup(cleanup_device) = {0};
    int r = record_get(core, KIND_DEVICE, name, &device, ret_error);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    if (device.meta.deleting)
        return erase(core, &device, ret_error);

    struct device_status seen = {0};
    autoerror struct error *problem = NULL;
    autostring_list struct string_list trash = {0};
    bool enabled;
    r = node_get_enabled(core, &enabled, ret_error);
    if (r < 0)
        return r;
    if (enabled) {
        if (!device.status.uuid)
            r = look_at_new(core, &device, &problem);
        if (r == 0)
            r = engine_device_up(core->engine, &device, device.spec.destroy_existing_data, &seen, &problem);
        if (r == 0)
            r = bury_old_bricks(core, &device, &trash, &problem);
    } else {
        r = engine_device_down(core->engine, &device, &problem);
        if (r ==
            -EBUSY) { /* its bricks are still going down, or somebody's shell is in it: the status says so */
            seen = (struct device_status){.phase = xstrdup(device.status.phase),
                                          .error = xstrdup(error_message(problem))};
            r = record_device(core, &device, &seen, ret_error);
            clear_status(&seen);
            return r < 0 ? r : -EAGAIN;
        }
        if (r == 0)
            seen.phase = xstrdup("stopped");
    }
    int failure = r;
    if (failure < 0) {
        clear_status(&seen);
        seen = (struct device_status){.phase = xstrdup("failed"), .error = xstrdup(error_message(problem))};
    }
    bool changed = !string_equal(device.status.phase, seen.phase);
    r = record_device(core, &device, &seen, ret_error);
    clear_status(&seen);
    if (r == 0 && changed) { /* volumes may wait for it to be ready, the node's stop for its end */
        core_engine_changed(core);
        autofree char *node_key = object_key(KIND_NODE, core->node);
        queue_add(core->queue, node_key);
    }
    if (failure < 0)
        return error_set(ret_error, -failure, "%s", error_message(problem));
    return r == 0 && enabled ? remove_buried(core, &device, &trash, ret_error) : r;
}
