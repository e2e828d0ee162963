/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Shares on this node's bricks: each share's folder carries an XFS project id that all below it inherits, and
 * the project has a limit where the kernel has XFS project quota.
 *
 * What a brick may hold of a share: on replicas what their set may (share_parts.c); of k + m fragments the
 * kth part of that, because a file of N bytes takes N/k on each brick. How much lies in which set is known
 * only where all bricks are on this node: else each set has a like part.
 */
#include "blockd/engine/engine_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/volume_layout.h"

#ifndef PRJQUOTA
#define PRJQUOTA 2
#endif

#define BASIC_BLOCK 512 /* the unit of XFS quota */
#define ROUND       4096
#define DEPTH_MAX   2048 /* folders in folders: each is an open descriptor while the tree is walked */
/* On the top folder while what lies below is not all stamped yet. */
#define UNFINISHED FS_XFLAG_NODUMP

/* One brick's view of one share. */
struct place {
    const char *share, *brick; /* for messages */
    uint32_t project;
};

static int place_error(const struct place *place, const char *what, int number, struct error **ret_error)
{
    return error_set(ret_error, number, "share %s: cannot %s on brick %s: %s", place->share, what,
                     place->brick, strerror(number));
}

/* ---- Project ids ---- */

static bool has_flags(const struct fsxattr *attributes, uint32_t project, uint32_t flags)
{
    return attributes->fsx_projid == project &&
           (attributes->fsx_xflags & (FS_XFLAG_PROJINHERIT | UNFINISHED)) == flags;
}

/* Gives an open file or folder the project id; does nothing when it has it. */
static int stamp_fd(int fd, uint32_t project, uint32_t flags)
{
    struct fsxattr attributes;
    if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) < 0)
        return -errno;
    if (has_flags(&attributes, project, flags))
        return 0;
    attributes.fsx_projid = project;
    attributes.fsx_xflags &= ~(uint32_t)(FS_XFLAG_PROJINHERIT | UNFINISHED);
    attributes.fsx_xflags |= flags;
    return ioctl(fd, FS_IOC_FSSETXATTR, &attributes) < 0 ? -errno : 0;
}

static int stamp_folder(const struct place *place, int fd, unsigned depth, struct error **ret_error);

/* What is neither file nor folder takes no space, and cannot be stamped. What vanished needs nothing. */
static int stamp_entry(const struct place *place, int folder, const char *name, unsigned depth,
                       struct error **ret_error)
{
    struct stat status;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : place_error(place, "look at its files", errno, ret_error);
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))
        return 0;
    autoclose int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP ? 0 : place_error(place, "open its files", errno, ret_error);
    bool is_folder = S_ISDIR(status.st_mode);
    int r = stamp_fd(fd, place->project, is_folder ? FS_XFLAG_PROJINHERIT : 0);
    if (r < 0)
        return place_error(place, "count its files", -r, ret_error);
    return is_folder ? stamp_folder(place, fd, depth + 1, ret_error) : 0;
}

/* All below a folder that is stamped itself: what is made in it from now on inherits. */
static int stamp_folder(const struct place *place, int fd, unsigned depth, struct error **ret_error)
{
    if (depth > DEPTH_MAX)
        return place_error(place, "count files in folders so deep", ELOOP, ret_error);
    autoclose int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    autoclosedir DIR *folder = copy >= 0 ? fdopendir(copy) : NULL;
    if (!folder)
        return place_error(place, "read its folders", errno, ret_error);
    steal_fd(&copy);
    for (struct dirent *entry; errno = 0, (entry = readdir(folder));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int r = stamp_entry(place, fd, entry->d_name, depth, ret_error);
        if (r < 0)
            return r;
    }
    return errno ? place_error(place, "read its folders", errno, ret_error) : 0;
}

/*
 * A share's folder that was healed onto a new brick holds files that count nowhere. So the tree is walked
 * unless the top says that this was done to its end.
 */
static int stamp_share(const struct place *place, int top, struct error **ret_error)
{
    struct fsxattr attributes;
    if (ioctl(top, FS_IOC_FSGETXATTR, &attributes) < 0)
        return place_error(place, "read the project id", errno, ret_error);
    if (has_flags(&attributes, place->project, FS_XFLAG_PROJINHERIT))
        return 0;
    int r = stamp_fd(top, place->project, FS_XFLAG_PROJINHERIT | UNFINISHED);
    if (r < 0)
        return place_error(place, "set the project id", -r, ret_error);
    fault_point("share.quota.after-mark");
    r = stamp_folder(place, top, 0, ret_error);
    if (r < 0)
        return r;
    r = stamp_fd(top, place->project, FS_XFLAG_PROJINHERIT);
    return r < 0 ? place_error(place, "set the project id", -r, ret_error) : 0;
}

/* ---- Limits ---- */

static int quota_call(int fd, int command, uint32_t project, void *quota)
{
    unsigned request = (unsigned)QCMD(command, PRJQUOTA);
    return syscall(SYS_quotactl_fd, fd, request, project, quota) < 0 ? -errno : 0;
}

/* A project that was never used has no record. */
static int quota_read(int fd, uint32_t project, struct fs_disk_quota *ret_quota)
{
    *ret_quota = (struct fs_disk_quota){0};
    int r = quota_call(fd, Q_XGETQUOTA, project, ret_quota);
    return r == -ENOENT ? 0 : r;
}

/* Bytes on one brick. */
struct limit {
    uint64_t shown; /* by statfs, as a soft limit, where it is less than the other */
    uint64_t most;  /* 0: no limit */
};

static int limit_project(const struct place *place, int fd, struct limit limit, struct error **ret_error)
{
    struct fs_disk_quota quota;
    uint64_t hard = limit.most / BASIC_BLOCK;
    uint64_t soft = limit.shown < limit.most ? limit.shown / BASIC_BLOCK : 0;
    int r = quota_read(fd, place->project, &quota);
    if (r == 0 && quota.d_blk_hardlimit == hard && quota.d_blk_softlimit == soft)
        return 0;
    quota = (struct fs_disk_quota){
        .d_version = FS_DQUOT_VERSION,
        .d_flags = FS_PROJ_QUOTA,
        .d_fieldmask = FS_DQ_BHARD | FS_DQ_BSOFT,
        .d_id = place->project,
        .d_blk_hardlimit = hard,
        .d_blk_softlimit = soft,
    };
    r = quota_call(fd, Q_XSETQLIM, place->project, &quota);
    return r < 0 ? place_error(place, "set the quota", -r, ret_error) : 0;
}

/* ---- Bricks ---- */

static int open_folder(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                       int *ret_fd, struct error **ret_error)
{
    autofree char *folder = brick_folder(engine, brick->device, volume->meta.name);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_set(ret_error, errno, "cannot open the brick folder %s: %s", folder, strerror(errno));
    *ret_fd = fd;
    return 0;
}

static bool enforces_quota(int fd)
{
    struct fs_quota_statv state = {.qs_version = FS_QSTATV_VERSION1};
    return quota_call(fd, Q_XGETQSTATV, 0, &state) == 0 && (state.qs_flags & FS_QUOTA_PDQ_ENFD);
}

/* The root of a brick's folder; -ENODEV while its device is not mounted. */
static int open_brick(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                      int *ret_fd, bool *ret_quota, struct error **ret_error)
{
    int r = device_check_mounted(engine, brick->device, ret_error);
    if (r == 0)
        r = open_folder(engine, volume, brick, ret_fd, ret_error);
    if (r == 0)
        *ret_quota = enforces_quota(*ret_fd);
    return r;
}

/* No link that a user of the volume made leads out of the brick. */
static int open_below(int brick, const char *path)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    long fd = syscall(SYS_openat2, brick, path + 1, &how, sizeof how);
    return fd < 0 ? -errno : (int)fd;
}

/* The limit first: it is there when the folder comes, and what a client's statfs sees of that. */
static int apply_one(int brick, bool quota, const char *device, const struct engine_share *share,
                     struct limit limit, struct error **ret_error)
{
    const struct place place = {.share = share->name, .brick = device, .project = share->project};
    int r = quota            ? limit_project(&place, brick, limit, ret_error)
            : share->limited ? place_error(&place, "set the quota", EOPNOTSUPP, ret_error)
                             : 0;
    fault_point("share.quota.after-limit");
    autoclose int top = open_below(brick, share->path);
    if (r < 0 || top == -ENOENT)
        return r; /* not healed yet: the next look finds it */
    if (top < 0)
        return place_error(&place, "open its folder", -top, ret_error);
    return stamp_share(&place, top, ret_error);
}

/* ---- A disk that hangs keeps nobody ---- */

struct share_work {
    struct brick_spec brick; /* borrowed from the call's volume */
    struct engine_share *shares;
    struct limit *limits; /* one a share */
    uint64_t *used;       /* the same */
    size_t count;
    uint32_t project;
    uint64_t project_used;
};

static void work_free(void *data)
{
    struct share_work *work = data;
    for (size_t i = 0; i < work->count; i++) {
        free((char *)work->shares[i].name);
        free((char *)work->shares[i].path);
    }
    free(work->shares);
    free(work->limits);
    free(work->used);
    free(work);
}

/* `index` is of a local child of the volume. */
static struct device_call *call_of(struct engine *engine, const struct volume *volume, size_t index,
                                   uint32_t project, struct share_work **ret_work)
{
    struct device_call *call = device_call_new(engine, volume_child(volume, index)->device);
    struct share_work *work = xcalloc(1, sizeof *work);
    schema_copy(&volume_schema, &call->volume, volume);
    work->brick = *volume_child(&call->volume, index);
    work->project = project;
    call->data = work;
    call->clear = work_free;
    *ret_work = work;
    return call;
}

static struct device_call *call_for_shares(struct engine *engine, const struct volume *volume, size_t index,
                                           const struct engine_share *shares, size_t count,
                                           struct share_work **ret_work)
{
    struct device_call *call = call_of(engine, volume, index, 0, ret_work);
    struct share_work *work = *ret_work;
    work->shares = xcalloc(count + 1, sizeof *work->shares);
    work->limits = xcalloc(count + 1, sizeof *work->limits);
    work->used = xcalloc(count + 1, sizeof *work->used);
    for (; work->count < count; work->count++) {
        struct engine_share *copy = &work->shares[work->count];
        *copy = shares[work->count];
        copy->name = xstrdup(copy->name);
        copy->path = xstrdup(copy->path);
    }
    return call;
}

/* ---- The sets' parts ---- */

/* Parts of all shares in all sets: those of one share follow each other. */
struct parts {
    struct share_part *items;
    size_t sets, data;
};

static bool all_local(struct engine *engine, const struct volume *volume)
{
    for (size_t i = 0; i < volume->spec.bricks.count; i++)
        if (!brick_is_local(engine, volume_brick(volume, i)))
            return false;
    return true;
}

static int read_all(struct device_call *call, struct error **ret_error)
{
    struct share_work *work = call->data;
    autoclose int brick = -1;
    bool quota = false;
    int r = open_brick(call->engine, &call->volume, &work->brick, &brick, &quota, ret_error);
    if (r == 0 && !quota)
        r = -EOPNOTSUPP;
    for (size_t i = 0; r == 0 && i < work->count; i++) {
        struct fs_disk_quota seen;
        r = quota_read(brick, work->shares[i].project, &seen);
        work->used[i] = seen.d_bcount * BASIC_BLOCK;
        work->limits[i] = (struct limit){
            .shown = (seen.d_blk_softlimit ? seen.d_blk_softlimit : seen.d_blk_hardlimit) * BASIC_BLOCK,
            .most = seen.d_blk_hardlimit * BASIC_BLOCK,
        };
    }
    return r;
}

/* Bricks that do not agree have no limit that could stay. */
static void add_seen(const struct parts *parts, size_t set, bool first, const struct share_work *work)
{
    for (size_t i = 0; i < work->count; i++) {
        struct share_part *part = &parts->items[i * parts->sets + set];
        uint64_t used = work->used[i] * parts->data, shown = work->limits[i].shown * parts->data;
        uint64_t most = work->limits[i].most * parts->data;
        part->used = used > part->used ? used : part->used;
        part->shown = first || shown == part->shown ? shown : 0;
        part->most = first || most == part->most ? most : 0;
    }
}

/* What the sets hold, and what they may now; false: not known of all. */
static bool see_sets(struct engine *engine, const struct volume *volume, const struct engine_share *shares,
                     size_t count, const struct parts *parts)
{
    autofree bool *seen = xcalloc(parts->sets, sizeof *seen);
    for (size_t i = 0; i < volume->spec.bricks.count; i++) {
        size_t set = volume_child_set(volume, i);
        struct share_work *work;
        cleanup(cleanup_device_call) struct device_call *call =
            call_for_shares(engine, volume, i, shares, count, &work);
        if (device_call_run(call, read_all, NULL) < 0)
            continue;
        add_seen(parts, set, !seen[set], work);
        seen[set] = true;
    }
    for (size_t set = 0; set < parts->sets; set++)
        if (!seen[set])
            return false;
    return true;
}

static void divide_all(struct engine *engine, const struct volume *volume, const struct engine_share *shares,
                       size_t count, bool moving, struct parts *ret_parts)
{
    size_t leaving = layout_leaving(&volume->spec);
    struct parts parts = {.sets = layout_sets(&volume->spec), .data = layout_set_data(&volume->spec)};
    parts.items = xcalloc(count * parts.sets + 1, sizeof *parts.items);
    if (parts.sets > 1 && (!all_local(engine, volume) || !see_sets(engine, volume, shares, count, &parts)))
        memset(parts.items, 0, count * parts.sets * sizeof *parts.items);
    for (size_t i = 0; i < count; i++) {
        struct share_part *own = &parts.items[i * parts.sets];
        for (size_t set = 0; set < parts.sets; set++)
            own[set].leaving = set == leaving;
        if (shares[i].limited)
            share_divide(shares[i].size, ROUND * parts.data, moving, own, parts.sets);
        else
            memset(own, 0, parts.sets * sizeof *own);
    }
    *ret_parts = parts;
}

static int apply_all(struct device_call *call, struct error **ret_error)
{
    const struct share_work *work = call->data;
    autoclose int brick = -1;
    bool quota = false;
    int first = open_brick(call->engine, &call->volume, &work->brick, &brick, &quota, ret_error);
    for (size_t i = 0; brick >= 0 && i < work->count; i++) {
        int r = apply_one(brick, quota, work->brick.device, &work->shares[i], work->limits[i],
                          first ? NULL : ret_error);
        first = first ? first : r;
    }
    return first;
}

/* One bad brick or share keeps no other one from its limit; the first error is told. */
int engine_shares_apply(struct engine *engine, const struct volume *volume, const struct engine_share *shares,
                        size_t count, bool moving, struct error **ret_error)
{
    int first = volfile_volume_check(volume, ret_error);
    if (first < 0)
        return first;
    scoped_claim(engine, "shares", volume->meta.name);
    struct parts parts;
    divide_all(engine, volume, shares, count, moving, &parts);
    autofree struct share_part *items = parts.items;
    for (size_t i = 0; i < volume_children(volume); i++) {
        const struct brick_spec *spec = volume_child(volume, i);
        if (!brick_is_local(engine, spec) ||
            (volume->spec.leaving_step == LEAVE_ERASE && volume_child_leaves(volume, i)) ||
            device_check_mounted(engine, spec->device, NULL) < 0)
            continue; /* all is told again when it is back */
        struct share_work *work;
        cleanup(cleanup_device_call) struct device_call *call =
            call_for_shares(engine, volume, i, shares, count, &work);
        for (size_t k = 0; k < count; k++) {
            const struct share_part *part = &items[k * parts.sets + volume_child_set(volume, i)];
            work->limits[k] = (struct limit){part->shown / parts.data, part->most / parts.data};
        }
        int r = device_call_run(call, apply_all, first ? NULL : ret_error);
        first = first ? first : r;
    }
    return first;
}

static int forget(struct device_call *call, struct error **ret_error)
{
    const struct share_work *work = call->data;
    autoclose int brick = -1;
    bool quota = false;
    int r = open_brick(call->engine, &call->volume, &work->brick, &brick, &quota, ret_error);
    const struct place place = {
        .share = call->volume.meta.name, .brick = work->brick.device, .project = work->project};
    return r == 0 && quota ? limit_project(&place, brick, (struct limit){0}, ret_error) : r;
}

int engine_share_forget(struct engine *engine, const struct volume *volume, uint32_t project,
                        struct error **ret_error)
{
    for (size_t i = 0; i < volume_children(volume); i++) {
        struct share_work *work;
        if (!brick_is_local(engine, volume_child(volume, i)))
            continue;
        cleanup(cleanup_device_call) struct device_call *call = call_of(engine, volume, i, project, &work);
        int r = device_call_run(call, forget, ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

static int look_at_use(struct device_call *call, struct error **ret_error)
{
    struct share_work *work = call->data;
    autoclose int brick = -1;
    struct fs_disk_quota counted;
    int r = open_folder(call->engine, &call->volume, &work->brick, &brick, ret_error);
    if (r == 0)
        r = quota_read(brick, work->project, &counted);
    if (r == 0)
        work->project_used = counted.d_bcount * BASIC_BLOCK;
    return r;
}

int engine_share_used(struct engine *engine, const struct volume *volume, uint32_t project,
                      uint64_t *ret_used, struct error **ret_error)
{
    uint64_t each = layout_set_bricks(&volume->spec), used = 0;
    bool known = false;
    int r = volfile_volume_check(volume, ret_error);
    if (r < 0)
        return r;
    for (size_t first = 0; first < volume->spec.bricks.count; first += each) {
        uint64_t most = 0;
        for (size_t i = first; i < first + each && i < volume->spec.bricks.count; i++) {
            struct share_work *work;
            if (!brick_is_local(engine, volume_brick(volume, i)))
                continue;
            cleanup(cleanup_device_call) struct device_call *call =
                call_of(engine, volume, i, project, &work);
            if (device_call_run(call, look_at_use, NULL) < 0)
                continue;
            known = true;
            most = work->project_used > most ? work->project_used : most;
        }
        used += most * layout_set_data(&volume->spec);
    }
    if (!known)
        return error_set(ret_error, EOPNOTSUPP, "volume %s: no kernel counts what its shares use",
                         volume->meta.name);
    *ret_used = used;
    return 0;
}
