/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What is seen of a brick: its process, its port, its space. */
#include "blockd/engine/heal_priv.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>

#include "rpc/base/address.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define CONNECT_MS     200
#define CHECK_AGAIN_MS 100
/* In a row, before a brick is called failed and no longer on its way. */
#define FAILURES_UNTIL_FAILED 3

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

/* The address is this machine's own, so that the answer comes at once, or a firewall swallows it. */
static bool connects(const char *text, uint64_t port)
{
    struct sockaddr_storage address;
    socklen_t length = address_parse(text, (unsigned)port, &address);
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
