/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Makes the folder of a share, its quota and its end as its record says. Every step
 * may be the second time. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"

#define FOLDER_MODE 0755

/* ---- Whose folder it is ---- */

/* What the bricks know of the share, so that it can be found again without a store. */
static int write_mark(struct image_volume *connection, const struct share *share, const char *path,
                      struct error **ret_error)
{
    json_t *json = schema_encode(&share_schema, share);
    json_object_del(json, "revision");
    json_object_del(json, "status");
    json_object_del(json, "deleting");
    autofree char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    autofree char *present = NULL;
    if (files_get_mark(connection, path, SHARE_MARK, &present, NULL) == 0 && strcmp(present, text) == 0)
        return 0;
    return files_set_mark(connection, path, SHARE_MARK, text, ret_error);
}

/*
 * 0: the folder is the share's, or an empty one that nobody marked, as a crash leaves it. -ENOENT: there is
 * none. -EEXIST: it is somebody else's.
 */
static int check_owner(struct image_volume *connection, const struct share *share, const char *path,
                       struct error **ret_error)
{
    autofree char *text = NULL;
    autoerror struct error *problem = NULL;
    int r = files_get_mark(connection, path, SHARE_MARK, &text, &problem);
    bool ours = false;
    if (r == 0) {
        json_t *mark = json_loads(text, 0, NULL);
        ours = string_equal(json_string_value(json_object_get(mark, "uid")), share->meta.uid);
        json_decref(mark);
    } else if (r == -ENODATA) {
        r = files_is_empty(connection, path, &ours, ret_error);
        if (r < 0)
            return r;
    } else {
        return error_set(ret_error, -r, "%s", error_message(problem));
    }
    if (!ours)
        return error_set(ret_error, EEXIST,
                         "share %s: the folder %s in its volume belongs to something else; move it away",
                         share->meta.name, path);
    return 0;
}

/* ---- Making it ---- */

/* Where shares go in the end. A full volume has no room for these folders any more, and must still delete. */
static int make_last_places(struct image_volume *connection, struct error **ret_error)
{
    static const char *const places[] = {SHARE_ARCHIVE, SHARE_REMOVED};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        autoerror struct error *problem = NULL;
        int r = files_make_folder(connection, places[i], FOLDER_MODE, &problem);
        if (r < 0 && r != -EEXIST)
            return error_set(ret_error, -r, "%s", error_message(problem));
    }
    return 0;
}

static int make_folder(struct image_volume *connection, const struct share *share, struct error **ret_error)
{
    const char *path = share->status.path;
    autoerror struct error *problem = NULL;
    int r = make_last_places(connection, ret_error);
    if (r < 0)
        return r;
    r = files_make_folder(connection, path, FOLDER_MODE, &problem);
    if (r == -EEXIST)
        r = check_owner(connection, share, path, ret_error);
    else if (r < 0)
        error_set(ret_error, -r, "%s", error_message(problem));
    if (r < 0)
        return r;
    fault_point("share.create.after-folder");
    r = write_mark(connection, share, path, ret_error);
    fault_point("share.create.after-mark");
    return r;
}

static int apply_quota(struct core *core, const struct volume *volume, const struct share *share,
                       struct error **ret_error)
{
    struct engine_share wanted = share_for_engine(share);
    return engine_shares_apply(core->engine, volume, &wanted, 1, rebalance_is_on(core, volume), ret_error);
}

static int bring_up(struct core *core, const struct volume *volume, const struct share *share,
                    struct error **ret_error)
{
    struct image_volume *connection = NULL;
    int r = hosting_get(core->hosting, volume->meta.name, &connection, ret_error);
    if (r < 0)
        return r;
    r = make_folder(connection, share, ret_error);
    hosting_put(core->hosting, connection);
    if (r < 0)
        return r;
    return apply_quota(core, volume, share, ret_error);
}

int shares_apply(struct core *core, const struct volume *volume, struct error **ret_error)
{
    struct record_list shares = {.kind = KIND_SHARE};
    int r = record_list_readable(core, KIND_SHARE, volume->meta.name, &shares, ret_error);
    if (r < 0)
        return r;
    struct engine_share *wanted cleanup(cleanup_free) = xcalloc(shares.list.count, sizeof *wanted);
    size_t count = 0;
    for (size_t i = 0; i < shares.list.count; i++) {
        const struct share *share = RECORD(&shares, share, i);
        if (string_equal(share->status.phase, "ready") || string_equal(share->status.phase, "archived"))
            wanted[count++] = share_for_engine(share);
    }
    if (shares.list.count)
        r = engine_shares_apply(core->engine, volume, wanted, count, rebalance_is_on(core, volume),
                                ret_error);
    record_list_clear(&shares);
    return r;
}

/*
 * Each folder on the way is asked for by itself: a path's last part is looked up anew, the parts before it
 * are taken from what the connection remembers, and may be from a time when the new bricks were not there
 * yet.
 */
static void look_at_folders(struct image_volume *connection, const char *path)
{
    bool empty;
    for (const char *end = path; *end; end += strcspn(end, "/")) {
        end++;
        autofree char *folder = xasprintf("%.*s", (int)(end + strcspn(end, "/") - path), path);
        (void)files_is_empty(connection, folder, &empty, NULL); /* the next look tries again */
    }
}

void shares_spread(struct core *core, const struct volume *volume)
{
    struct record_list shares = {.kind = KIND_SHARE};
    struct image_volume *connection = NULL;
    if (record_list_readable(core, KIND_SHARE, volume->meta.name, &shares, NULL) == 0 && shares.list.count &&
        hosting_get(core->hosting, volume->meta.name, &connection, NULL) == 0) {
        for (size_t i = 0; i < shares.list.count; i++)
            if (RECORD(&shares, share, i)->status.path)
                look_at_folders(connection, RECORD(&shares, share, i)->status.path);
        hosting_put(core->hosting, connection);
    }
    record_list_clear(&shares);
}

/* ---- Its end ---- */

/* Out of sight in one step. *ret_there: there is something at `to` now. */
static int move_away(struct core *core, const struct share *share, const char *volume, const char *to,
                     bool *ret_there, struct error **ret_error)
{
    struct image_volume *connection = NULL;
    autoerror struct error *problem = NULL;
    bool empty;
    int r = hosting_get(core->hosting, volume, &connection, ret_error);
    if (r < 0)
        return r;
    *ret_there = false;
    r = check_owner(connection, share, share->status.path, &problem);
    if (r == 0)
        r = files_rename(connection, share->status.path, to, &problem);
    fault_point("share.delete.after-rename");
    if (r == 0) {
        *ret_there = true;
    } else if (r == -ENOENT || r == -EEXIST) {
        r = files_is_empty(connection, to, &empty, NULL);
        *ret_there = r == 0;
        r = r == -ENOENT ? 0 : r;
    }
    if (r < 0)
        error_set(ret_error, -r, "%s", problem ? error_message(problem) : strerror(-r));
    hosting_put(core->hosting, connection);
    return r;
}

/* The archived share, which has the identity of what it was. */
static int put_archived(struct core *core, const struct share *share, const char *volume, const char *path,
                        struct txn *txn, struct error **ret_error)
{
    struct share archived cleanup(cleanup_share) = {0};
    autoerror struct error *problem = NULL;
    struct image_volume *connection = NULL;
    schema_copy(&share_schema, &archived, share);
    free(archived.meta.name);
    archived.meta.name = xasprintf("%s/%s", volume, share->spec.archive_as);
    archived.meta.deleting = false;
    archived.spec.archived = true;
    string_replace(&archived.spec.archive_as, NULL);
    string_replace(&archived.status.phase, "archived");
    string_replace(&archived.status.path, path);
    string_replace(&archived.status.error, NULL);
    archived.status.observed_generation = archived.meta.generation;
    int r = hosting_get(core->hosting, volume, &connection, ret_error);
    if (r == 0)
        r = write_mark(connection, &archived, path, &problem);
    hosting_put(core->hosting, connection);
    if (r == -ENOSPC ||
        r == -EDQUOT) /* the old mark has its identity, which is what a full volume can keep */
        r = 0;
    if (r < 0)
        error_set(ret_error, -r, "%s", error_message(problem));
    else
        txn_put(txn, KIND_SHARE, &archived, 0);
    return r;
}

static int free_project(struct core *core, const struct share *share, struct txn *txn,
                        struct error **ret_error)
{
    autofree char *key = share_project_key(share->spec.project);
    struct store_entry entry = {0};
    int r = store_get(core->store, key, &entry, NULL);
    if (r == 0)
        txn_delete(txn, key, entry.revision);
    store_entry_clear(&entry);
    return r == 0 || r == -ENOENT ? 0 : error_set(ret_error, -r, "cannot read %s: %s", key, strerror(-r));
}

static void put_removal(struct core *core, const struct share *share, const struct volume *volume,
                        const char *path, struct txn *txn)
{
    struct job job cleanup(cleanup_job) = {0};
    uint64_t used = 0;
    engine_share_used(core->engine, volume, (uint32_t)share->spec.project, &used, NULL);
    job_init(&job, JOB_REMOVE, KIND_VOLUME, &volume->meta);
    job.spec.path = xstrdup(path);
    job.spec.project = share->spec.project;
    job.status.total = used;
    txn_put(txn, KIND_JOB, &job, 0);
}

/* `volume` NULL: it is gone, and the share's files with it. */
static int retire(struct core *core, const struct share *share, const struct volume *volume,
                  struct error **ret_error)
{
    autofree char *volume_name = object_name_part(share->meta.name, 0);
    autofree char *key = object_key(KIND_SHARE, share->meta.name);
    autofree char *to =
        xasprintf("%s/%s", share->spec.archive_as ? SHARE_ARCHIVE : SHARE_REMOVED, share->meta.uid);
    bool there = false;
    int r = volume ? move_away(core, share, volume_name, to, &there, ret_error) : 0;
    if (r < 0)
        return r;
    struct txn txn = {0};
    txn_delete(&txn, key, share->meta.revision);
    if (there && share->spec.archive_as)
        r = put_archived(core, share, volume_name, to, &txn, ret_error);
    else if (there)
        put_removal(core, share, volume, to, &txn);
    else
        r = free_project(core, share, &txn, ret_error);
    struct ledger_change promise = {.volume = volume_name};
    if (!there || !share->spec.archive_as)
        promise.less = (struct promise){.bytes = share->spec.size, .shares = 1};
    if (r == 0)
        r = ledger_commit(core, &txn, &promise, ret_error);
    txn_clear(&txn);
    if (r < 0)
        return r == -ESTALE ? -EAGAIN : r;
    fault_point("share.delete.after-record");
    return 0;
}

/* ---- Reconcile ---- */

/* What is for the user to mend; all else (a brick away) is tried again at once. */
static bool is_final(int r)
{
    return r == -ENOSPC || r == -EDQUOT || r == -EEXIST || r == -EOPNOTSUPP || r == -EINVAL || r == -ELOOP;
}

#define APPLIED_MS 3000

/*
 * Who may mount it is enforced by this node's bricks before it is ready. Where no share has a list a new one
 * changes nothing: of many such, one pass over the volume serves them all.
 */
static int admit(struct core *core, const struct volume *volume, const struct share *share,
                 struct error **ret_error)
{
    if (!share->spec.access.count && !share->status.observed_generation &&
        !engine_access_has_folders(core->engine, volume)) {
        autofree char *key = object_key(KIND_VOLUME, volume->meta.name);
        queue_add(core->queue, key);
        return 0;
    }
    int r = volume_serve(core, volume, ret_error);
    fault_point("share.admit.after-volfiles");
    return r < 0 ? r : engine_volume_applied(core->engine, volume, APPLIED_MS, ret_error);
}

int share_reconcile(struct core *core, const char *name, struct error **ret_error)
{
    struct share share cleanup(cleanup_share) = {0};
    struct volume volume cleanup(cleanup_volume) = {0};
    autofree char *volume_name = object_name_part(name, 0);
    int r = record_get(core, KIND_SHARE, name, &share, ret_error);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    bool done = string_equal(share.status.phase, "ready") || string_equal(share.status.phase, "archived");
    if (!share.meta.deleting && done && share.status.observed_generation == share.meta.generation)
        return 0;

    r = record_get(core, KIND_VOLUME, volume_name, &volume, NULL);
    if (r == -ENOENT && share.meta.deleting)
        return retire(core, &share, NULL, ret_error);
    if (r < 0)
        return error_set(ret_error, -r, "cannot read volume %s: %s", volume_name, strerror(-r));
    r = volume_require_online(core, &volume, ret_error);
    if (r < 0)
        return r;
    if (share.meta.deleting)
        return retire(core, &share, &volume, ret_error);

    autoerror struct error *problem = NULL;
    r = bring_up(core, &volume, &share, &problem);
    if (r == 0)
        r = admit(core, &volume, &share, &problem);
    fault_point("share.up.before-status");
    struct status_seen ready = {.phase = "ready", .size = share.spec.size};
    if (r == 0)
        return status_record(core, KIND_SHARE, &share.meta, &ready, ret_error);
    struct status_seen failed = {
        .phase = "failed", .error = error_message(problem), .size = share.status.size};
    if (is_final(r))
        return status_record(core, KIND_SHARE, &share.meta, &failed, ret_error);
    return error_set(ret_error, -r, "%s", error_message(problem));
}

/* Bricks take over who may mount it, and its limit once its folder is there. */
int share_follow(struct core *core, const char *name, struct error **ret_error)
{
    struct share share cleanup(cleanup_share) = {0};
    struct volume volume cleanup(cleanup_volume) = {0};
    autofree char *volume_name = object_name_part(name, 0);
    int r = record_get(core, KIND_SHARE, name, &share, ret_error);
    if (r == 0)
        r = record_get(core, KIND_VOLUME, volume_name, &volume, ret_error);
    if (r < 0 || share.meta.deleting || volume.meta.deleting)
        return r == -ENOENT ? 0 : r;
    r = admit(core, &volume, &share, ret_error);
    return r == 0 && share.status.path ? apply_quota(core, &volume, &share, ret_error) : r;
}
