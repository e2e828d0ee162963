/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/engine/heal_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"
#include "rpc/volume_layout.h"

#define VOLUME_ID_XATTR "trusted.glusterfs.volume-id"
#define LAYOUT_XATTR    "trusted.glusterfs.dht"
#define INDEX_FOLDER    ".glusterfs/indices"
#define NUMBER_FILE     ".glusterfs/blockd-brick" /* decimal: which of the volume's bricks it is */
#define CONNECT_MS      200
#define CHECK_AGAIN_MS  100
/* In a row, before a brick is called failed and no longer on its way. */
#define FAILURES_UNTIL_FAILED 3

char *brick_folder(const struct engine *engine, const char *device, const char *volume)
{
    autofree char *mount_point = device_mount_point(engine, device);
    return xasprintf("%s/bricks/%s", mount_point, volume);
}

char *brick_volfile(const struct engine *engine, const char *device, const char *volume)
{
    return xasprintf("%s/bricks/%s.%s.vol", engine->config->state_dir, volume, device);
}

void brick_plan(const struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                struct process_plan *ret_plan)
{
    const char *name = volume->meta.name;
    autofree char *volfile = brick_volfile(engine, brick->device, name);
    struct process_plan plan = {
        .id = xasprintf("brick.%s.%s", name, brick->device),
        .name = xasprintf("brick %s/%s/%s", name, brick->node, brick->device),
        .unit = xasprintf("blockd-brick@%s.%s.service", name, brick->device),
        .log_path = xasprintf("%s/brick.%s.%s.log", engine->config->log_dir, name, brick->device),
    };
    /* No version: glusterfsd never reads its volfile again, and a brick must not go down for a new one by
     * itself. */
    const char *const words[] = {
        engine->roots.glusterfsd, "-N", "-f", volfile, "-l", plan.log_path, "-L", "WARNING"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        string_list_add(&plan.argv, words[i]);
    *ret_plan = plan;
}

/* ---- The folder ---- */

static void parse_uuid(const char *text, unsigned char id[16])
{
    for (int i = 0; i < 16; i++, text += 2) {
        text += *text == '-';
        const char pair[3] = {text[0], text[1], '\0'};
        id[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
}

static char *format_uuid(const unsigned char id[16])
{
    struct strbuf text = {0};
    for (int i = 0; i < 16; i++)
        strbuf_addf(&text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
    return strbuf_steal(&text);
}

int brick_volume_id(const char *folder, char **ret_uid)
{
    unsigned char id[16];
    ssize_t length = lgetxattr(folder, VOLUME_ID_XATTR, id, sizeof id);
    if (length < 0)
        return -errno;
    if (length != sizeof id)
        return -ENODATA;
    *ret_uid = format_uuid(id);
    return 0;
}

static bool is_empty(const char *folder)
{
    autostring_list struct string_list names = {0};
    return folder_list(folder, &names, NULL) == 0 && names.count == 0;
}

/* 0 when the folder is the volume's, -ENODATA when it carries no id, -ESTALE when it carries another. */
static int check_owner(const char *folder, const struct volume *volume, struct error **ret_error)
{
    unsigned char wanted[16], found[16];
    parse_uuid(volume->meta.uid, wanted);
    ssize_t length = lgetxattr(folder, VOLUME_ID_XATTR, found, sizeof found);
    if (length < 0 && errno == ENODATA)
        return -ENODATA;
    if (length < 0 && errno != ERANGE)
        return error_set(ret_error, errno, "volume %s: cannot read the brick folder %s: %s",
                         volume->meta.name, folder, strerror(errno));
    if (length != sizeof found || memcmp(found, wanted, sizeof found) != 0)
        return error_set(ret_error, ESTALE,
                         "volume %s: the brick folder %s belongs to another volume; move it away to go on",
                         volume->meta.name, folder);
    return 0;
}

static int sync_folder(const char *folder)
{
    autoclose int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/*
 * 0 when the folder is this brick's; -ESTALE when it is of another brick of the volume, which was replaced;
 * -ENOENT when it does not say. No xattr: replicate would copy it from brick to brick.
 */
static int check_number(const char *folder, const struct volume *volume, uint64_t number,
                        struct error **ret_error)
{
    autofree char *path = xasprintf("%s/" NUMBER_FILE, folder);
    autofree char *text = NULL;
    int r = file_read(path, 32, &text, NULL, NULL);
    if (r == -ENOENT || (r == 0 && strtoull(text, NULL, 10) == number))
        return r;
    if (r < 0)
        return error_set(ret_error, -r, "volume %s: cannot read %s: %s", volume->meta.name, path,
                         strerror(-r));
    return error_set(
        ret_error, ESTALE,
        "volume %s: the brick folder %s is of brick %s, which was replaced; the volume has brick "
        "%llu there",
        volume->meta.name, folder, text, (unsigned long long)number);
}

/* Before it is served for the first time: one that says nothing has its number still to get. */
static int write_number(const char *folder, uint64_t number, struct error **ret_error)
{
    autofree char *path = xasprintf("%s/" NUMBER_FILE, folder);
    autofree char *text = xasprintf("%llu", (unsigned long long)number);
    return file_write_atomic(path, text, 0600, ret_error);
}

/*
 * Distribute notes in each folder which names belong to a set, but not in the root while there is one set
 * only: without the note, the root of a volume that grows is laid out anew before its folders are on the new
 * set, and they cannot be listed.
 */
static int lay_out_root(const char *folder, const struct volume *volume, struct error **ret_error)
{
    static const unsigned char all_names[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
    if (layout_sets(&volume->spec) != 1 ||
        lsetxattr(folder, LAYOUT_XATTR, all_names, sizeof all_names, 0) == 0)
        return 0;
    return error_set(ret_error, errno, "volume %s: cannot lay out the brick folder %s: %s", volume->meta.name,
                     folder, strerror(errno));
}

/* The id is what makes a folder a brick: until it is there and durable, an empty folder is nobody's. */
static int stamp(const char *folder, const struct volume *volume, struct error **ret_error)
{
    if (!is_empty(folder))
        return error_set(ret_error, EEXIST,
                         "volume %s: the brick folder %s holds data of nobody known; move it away to go on",
                         volume->meta.name, folder);
    unsigned char id[16];
    int r = lay_out_root(folder, volume, ret_error);
    if (r < 0)
        return r;
    parse_uuid(volume->meta.uid, id);
    if (lsetxattr(folder, VOLUME_ID_XATTR, id, sizeof id, XATTR_CREATE) < 0)
        return error_set(ret_error, errno, "volume %s: cannot mark the brick folder %s: %s",
                         volume->meta.name, folder, strerror(errno));
    r = sync_folder(folder);
    if (r < 0)
        return error_set(ret_error, -r, "volume %s: cannot make the brick folder %s durable: %s",
                         volume->meta.name, folder, strerror(-r));
    return 0;
}

/*
 * A brick's volfile is written after its folder. So a volfile without a folder says that the data is gone: an
 * empty brick in its place would be taken for a good copy of nothing.
 */
static int make_folder(const struct engine *engine, const char *device, const char *folder,
                       const struct volume *volume, struct error **ret_error)
{
    autofree char *volfile = brick_volfile(engine, device, volume->meta.name);
    autofree char *parent = xstrndup(folder, (size_t)(strrchr(folder, '/') - folder));
    if (access(folder, F_OK) == 0)
        return 0;
    if (access(volfile, F_OK) == 0)
        return error_set(
            ret_error, ESTALE,
            "volume %s: the brick folder %s was there and is gone; bring the disk's content back, or "
            "replace the brick",
            volume->meta.name, folder);
    int r = folder_make(folder, 0755, ret_error);
    if (r < 0)
        return r;
    r = sync_folder(parent);
    if (r < 0)
        return error_set(ret_error, -r, "cannot make %s durable: %s", parent, strerror(-r));
    fault_point("volume.up.after-brick-mkdir");
    return 0;
}

/* ---- Erasing ---- */

/* The folder is renamed first: half a brick never carries a brick's name. */
static int erase(struct engine *engine, const char *device, const struct volume *volume,
                 struct error **ret_error)
{
    int r = 0;
    autofree char *folder = brick_folder(engine, device, volume->meta.name);
    autofree char *mount_point = device_mount_point(engine, device);
    autofree char *trash = xasprintf("%s/bricks/.erase-%s", mount_point, volume->meta.uid);
    if (access(folder, F_OK) == 0) {
        r = check_owner(folder, volume, ret_error);
        if (r == -ENODATA && !is_empty(folder))
            return error_set(ret_error, EEXIST, "volume %s: the brick folder %s holds data of nobody known",
                             volume->meta.name, folder);
        if (r < 0 && r != -ENODATA)
            return r;
        /* An earlier erase of the same volume may have left its trash, if the volume was brought up again. */
        r = tree_remove(trash, ret_error);
        if (r < 0)
            return r;
        if (rename(folder, trash) < 0)
            return error_set(ret_error, errno, "volume %s: cannot rename the brick folder %s: %s",
                             volume->meta.name, folder, strerror(errno));
    }
    fault_point("volume.erase.after-rename");
    r = tree_remove(trash, ret_error);
    fault_point("volume.erase.after-data");
    return r;
}

/* Whoever makes or erases a brick has it for itself, also when it hangs with the disk, and is left behind. */
static char *claim_name(const struct device_call *call)
{
    return xasprintf("%s.%s", call->volume.meta.name, call->names.items[0]);
}

static struct device_call *call_of(struct engine *engine, const char *device, const struct volume *volume)
{
    struct device_call *call = device_call_new(engine, device);
    schema_copy(&volume_schema, &call->volume, volume);
    return call;
}

static int call_erase(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    autofree char *name = claim_name(call);
    scoped_claim(engine, "brick", name);
    return erase(engine, call->names.items[0], &call->volume, ret_error);
}

/* Device gone: nothing can be removed from it, and the caller has to decide. */
int brick_erase(struct engine *engine, const char *device, const struct volume *volume,
                struct error **ret_error)
{
    int r = device_check_mounted(engine, device, ret_error);
    if (r < 0)
        return r;
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, device, volume);
    return device_call_run(call, call_erase, ret_error);
}

/* ---- Making it ready to be served ---- */

/* A device that had a brick of the volume once gets a new one: what is left of the old one is in the way. */
static int remove_older(struct engine *engine, const char *device, const char *folder,
                        const struct volume *volume, uint64_t number, struct error **ret_error)
{
    if (access(folder, F_OK) < 0 || check_owner(folder, volume, NULL) < 0 ||
        check_number(folder, volume, number, NULL) != -ESTALE)
        return 0;
    return erase(engine, device, volume, ret_error);
}

static int prepare(struct engine *engine, const char *device, const struct volume *volume, uint64_t number,
                   bool fresh, struct error **ret_error)
{
    int r = 0;
    autofree char *folder = brick_folder(engine, device, volume->meta.name);
    if (fresh)
        r = remove_older(engine, device, folder, volume, number, ret_error);
    if (r == 0)
        r = make_folder(engine, device, folder, volume, ret_error);
    if (r == 0)
        r = check_owner(folder, volume, ret_error);
    if (r == -ENODATA)
        r = stamp(folder, volume, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.up.after-brick-stamp");
    autofree char *indices = xasprintf("%s/" INDEX_FOLDER, folder);
    r = folder_make(indices, 0700, ret_error);
    if (r == 0)
        r = check_number(folder, volume, number, ret_error);
    return r == -ENOENT ? write_number(folder, number, ret_error) : r;
}

static int call_prepare(struct device_call *call, struct error **ret_error)
{
    struct engine *engine = call->engine;
    autofree char *name = claim_name(call);
    scoped_claim(engine, "brick", name);
    return prepare(engine, call->names.items[0], &call->volume, call->number, call->flag, ret_error);
}

int brick_prepare(struct engine *engine, const char *device, const struct volume *volume, uint64_t number,
                  bool fresh, struct error **ret_error)
{
    int r = device_check_mounted(engine, device, ret_error);
    if (r < 0)
        return r;
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, device, volume);
    call->number = number;
    call->flag = fresh;
    return device_call_run(call, call_prepare, ret_error);
}

/* ---- Looking at it ---- */

struct port_check {
    struct port_check *next;
    char *id; /* of the process */
    pid_t pid;
    int64_t checked_ms;
    bool answers;
};

void brick_ports_clear(struct engine *engine)
{
    while (engine->ports) {
        struct port_check *check = engine->ports;
        engine->ports = check->next;
        free(check->id);
        free(check);
    }
}

static socklen_t socket_address(const char *text, uint64_t port, struct sockaddr_storage *address)
{
    *address = (struct sockaddr_storage){0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        return sizeof *v6;
    }
    return 0;
}

/* The address is this machine's own, so that the answer comes at once, or a firewall swallows it. */
static bool connects(const char *text, uint64_t port)
{
    struct sockaddr_storage address;
    socklen_t length = socket_address(text, port, &address);
    if (length == 0)
        return false;
    autoclose int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    if (connect(fd, (struct sockaddr *)&address, length) == 0)
        return true;
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    int number = 0;
    socklen_t size = sizeof number;
    return errno == EINPROGRESS && poll(&ready, 1, CONNECT_MS) == 1 &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &size) == 0 && number == 0;
}

static bool port_answers(struct engine *engine, const char *id, pid_t pid, uint64_t port)
{
    int64_t now = clock_monotonic_ms();
    scoped_lock(&engine->ports_mutex);
    struct port_check *check = engine->ports;
    while (check && strcmp(check->id, id) != 0)
        check = check->next;
    if (!check) {
        check = xcalloc(1, sizeof *check);
        check->id = xstrdup(id);
        check->next = engine->ports;
        engine->ports = check;
    }
    /* A listener lives as long as its process, and each connection that says nothing is a warning in the
     * brick's log. */
    bool known = check->pid == pid && (check->answers || now < check->checked_ms + CHECK_AGAIN_MS);
    if (!known) {
        check->pid = pid;
        check->checked_ms = now;
        check->answers = connects(engine->address, port);
    }
    return check->answers;
}

static const char *state_word(struct engine *engine, const char *id, const struct process_view *view,
                              uint64_t port)
{
    switch (view->state) {
    case PROCESS_STARTING:
    case PROCESS_RUNNING:
        if (view->pid && port_answers(engine, id, view->pid, port))
            return "online";
        return view->failures >= FAILURES_UNTIL_FAILED ? "failed" : "starting";
    case PROCESS_BACKOFF:
        return view->failures >= FAILURES_UNTIL_FAILED ? "failed" : "offline";
    case PROCESS_STOPPING:
        return "offline";
    case PROCESS_STOPPED:
        break;
    }
    return "stopped";
}

void brick_look(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                struct brick_status *ret_status)
{
    autofree char *id = xasprintf("brick.%s.%s", volume->meta.name, brick->device);
    cleanup(process_view_clear) struct process_view view = {.state = PROCESS_STOPPED};
    engine->supervisor->ops->look(engine->supervisor, id, &view);
    struct brick_status status = {
        .node = xstrdup(brick->node),
        .device = xstrdup(brick->device),
        .path = brick_folder(engine, brick->device, volume->meta.name),
        .port = brick->port,
        .pid = (uint64_t)view.pid,
    };
    const char *state = state_word(engine, id, &view, brick->port);
    if (strcmp(state, "stopped") == 0 && volume->spec.state == VOLUME_STARTED)
        state = "offline";
    status.state = xstrdup(state);

    autoerror struct error *error = NULL;
    struct statvfs space;
    if (device_check_mounted(engine, brick->device, &error) < 0) {
        status.error = xstrdup(error_message(error));
    } else {
        if (device_space(engine, brick->device, status.path, &space) == 0) {
            status.size = (uint64_t)space.f_blocks * space.f_frsize;
            status.free = (uint64_t)space.f_bavail * space.f_frsize;
        }
        if (strcmp(state, "online") != 0 && strcmp(state, "stopped") != 0)
            status.error = xstrdup(view.error);
    }
    *ret_status = status;
}

static int count_pending(struct device_call *call, struct error **ret_error)
{
    (void)ret_error;
    call->length = heal_pending_now(call->text);
    return 0;
}

void engine_brick_status(struct engine *engine, const struct volume *volume, const struct brick_spec *brick,
                         struct brick_status *ret_status)
{
    if (brick_is_local(engine, brick)) {
        brick_look(engine, volume, brick, ret_status);
        cleanup(cleanup_device_call) struct device_call *call = device_call_new(engine, brick->device);
        call->text = xstrdup(ret_status->path);
        if (device_call_run(call, count_pending, NULL) == 0)
            ret_status->heal_pending = call->length;
    } else
        *ret_status = (struct brick_status){
            .node = xstrdup(brick->node), .device = xstrdup(brick->device), .state = xstrdup("online")};
}

/* ---- Bricks that move ---- */

/* Replicate's mark on a brick's root: three counts (data, metadata, entries) of what brick `number` missed.
 */
static int look_for_mark(struct device_call *call, struct error **ret_error)
{
    (void)ret_error;
    const char *volume = call->volume.meta.name;
    autofree char *folder = brick_folder(call->engine, call->names.items[0], volume);
    autofree char *key = xasprintf("trusted.afr.%s-client-%llu", volume, (unsigned long long)call->number);
    static const unsigned char nothing[12];
    unsigned char mark[12];
    bool marked =
        lgetxattr(folder, key, mark, sizeof mark) == sizeof mark && memcmp(mark, nothing, sizeof mark) != 0;
    return marked ? 0 : -ENOENT;
}

int engine_move_is_marked(struct engine *engine, const struct volume *volume, uint64_t number,
                          struct error **ret_error)
{
    bool replicated = volume->spec.template_name != TEMPLATE_DISPERSE;
    if (!replicated && fragments_are_marked(engine, volume, number))
        return 0;
    for (size_t i = 0; replicated && i < volume->spec.bricks.count; i++) {
        const struct brick_spec *brick = volume_brick(volume, i);
        if (!brick_is_local(engine, brick) || device_check_mounted(engine, brick->device, NULL) < 0)
            continue;
        cleanup(cleanup_device_call) struct device_call *call = call_of(engine, brick->device, volume);
        call->number = number;
        if (device_call_run(call, look_for_mark, NULL) == 0)
            return 0;
    }
    return error_set(ret_error, ENOENT, "volume %s: no brick knows that brick %llu is new", volume->meta.name,
                     (unsigned long long)number);
}

static int look_for_brick(struct device_call *call, struct error **ret_error)
{
    (void)ret_error;
    autofree char *folder = brick_folder(call->engine, call->names.items[0], call->volume.meta.name);
    return access(folder, F_OK) < 0 ? -ENOENT : check_owner(folder, &call->volume, NULL);
}

int engine_device_forget(struct engine *engine, const struct device *device, const struct volume *volume,
                         struct error **ret_error)
{
    autofree char *name = object_name_part(device->meta.name, 1);
    autofree char *volfile = brick_volfile(engine, name, volume->meta.name);
    cleanup(cleanup_device_call) struct device_call *call = call_of(engine, name, volume);
    if (device_call_run(call, look_for_brick, NULL) < 0)
        return 0;
    scoped_claim(engine, "volume", volume->meta.name);
    int r = brick_erase(engine, name, volume, ret_error);
    return r < 0 ? r : file_remove(volfile, ret_error);
}
