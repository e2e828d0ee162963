/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Processes: those that should run and how, those of ours that nobody knows, and who
 * else has a brick's port. */
#include "blockd/engine/examine_priv.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

#define ARGV_LIMIT  (128u << 10)
#define NET_LIMIT   (64u << 20)
#define END_WAIT_MS 5000

/* ---- Comparing ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const struct seen_process *seen_with_pid(const struct object_list *seen, pid_t pid)
{
    const struct seen_process *processes = seen->items;
    for (size_t i = 0; i < seen->count; i++)
        if (processes[i].pid == pid)
            return &processes[i];
    return NULL;
}

static void compare_wanted(const struct wanted_process *wanted, const struct object_list *seen,
                           struct object_list *findings)
{
    const struct seen_process *running = wanted->pid ? seen_with_pid(seen, wanted->pid) : NULL;
    autofree char *expected = xasprintf("%s runs with %s", base_name(wanted->program), wanted->file);
    if (!wanted->pid) {
        autofree char *found = xasprintf("no process; supervision says %s%s%s", wanted->state,
                                         wanted->error ? ": " : "", wanted->error ? wanted->error : "");
        finding_add(findings, "process-missing", wanted->name, expected, found, "start it")->repairable =
            true;
    } else if (!running || strcmp(running->file, wanted->file) != 0 ||
               strcmp(base_name(running->program), base_name(wanted->program)) != 0) {
        autofree char *found = xasprintf("process %d is %s with %s", (int)wanted->pid,
                                         running ? base_name(running->program) : "another program",
                                         running ? running->file : "other words");
        finding_add(findings, "process-differs", wanted->name, expected, found,
                    "end that process; supervision then starts the right one");
    }
}

void compare_processes(const struct object_list *wanted, const struct object_list *seen,
                       struct object_list *findings)
{
    const struct wanted_process *plans = wanted->items;
    for (size_t i = 0; i < wanted->count; i++)
        compare_wanted(&plans[i], seen, findings);
    for (size_t i = 0; i < seen->count; i++) {
        const struct seen_process *process = (const struct seen_process *)seen->items + i;
        bool known = false;
        for (size_t k = 0; k < wanted->count; k++)
            known |= plans[k].pid == process->pid;
        if (known)
            continue;
        autofree char *object = xasprintf("process %d", (int)process->pid);
        autofree char *found = xasprintf("%s runs with %s, and no record asks for it",
                                         base_name(process->program), process->file);
        struct finding *finding =
            finding_add(findings, "process-orphan", object, "no such process", found, "end it");
        finding->repairable = finding->destroys = true;
    }
}

uint64_t listener_inode(const char *text, uint64_t port, size_t nth)
{
    for (const char *line = strchr(text, '\n'); line; line = strchr(line + 1, '\n')) {
        unsigned local = 0, state = 0;
        unsigned long long inode = 0;
        if (sscanf(line + 1, "%*u: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x %*x:%*x %*x:%*x %*x %*u %*u %llu", &local,
                   &state, &inode) == 3 &&
            local == port && state == 0x0a && nth-- == 0)
            return inode;
    }
    return 0;
}

/* ---- What is seen ---- */

/* The word after `option` in the words of an argv; NULL. */
static const char *word_after(const char *argv, size_t length, const char *option)
{
    for (const char *word = argv; word < argv + length; word += strlen(word) + 1) {
        const char *next = word + strlen(word) + 1;
        if (strcmp(word, option) == 0 && next < argv + length)
            return next;
    }
    return NULL;
}

/* Is it a process of this blockd: glusterfs with a volfile below our folder, or the server with our
 * configuration? */
static const char *own_file(const struct engine *engine, const char *argv, size_t length)
{
    const char *program = base_name(argv), *file;
    autofree char *below = xasprintf("%s/", engine->config->state_dir);
    if (strcmp(program, "glusterfsd") == 0 || strcmp(program, "glusterfs") == 0) {
        file = word_after(argv, length, "-f");
        return file && string_starts_with(file, below) ? file : NULL;
    }
    if (!engine->nbd_program || strcmp(program, base_name(engine->nbd_program)) != 0)
        return NULL;
    file = word_after(argv, length, "--config");
    return file && strcmp(file, engine->config_path) == 0 ? file : NULL;
}

static int see_processes(const struct look *look, struct object_list *seen, struct error **ret_error)
{
    autostring_list struct string_list pids = {0};
    int r = folder_list("/proc", &pids, ret_error);
    for (size_t i = 0; r == 0 && i < pids.count; i++) {
        autofree char *path = xasprintf("/proc/%s/cmdline", pids.items[i]);
        autofree char *argv = NULL;
        size_t length;
        if (!isdigit((unsigned char)pids.items[i][0]) ||
            file_read(path, ARGV_LIMIT, &argv, &length, NULL) < 0)
            continue;
        const char *file = own_file(look->engine, argv, length);
        if (!file)
            continue;
        struct seen_process *process = object_list_add(seen, sizeof *process);
        *process = (struct seen_process){
            .pid = (pid_t)strtol(pids.items[i], NULL, 10), .program = xstrdup(argv), .file = xstrdup(file)};
    }
    return r;
}

static void clear_seen(struct object_list *seen)
{
    for (size_t i = 0; i < seen->count; i++) {
        struct seen_process *process = (struct seen_process *)seen->items + i;
        free(process->program);
        free(process->file);
    }
    free(seen->items);
}

/* ---- What is wanted ---- */

static void want(const struct look *look, const char *id, const char *name, const char *program, char *file,
                 struct object_list *wanted)
{
    struct supervisor *supervisor = look->engine->supervisor;
    cleanup(process_view_clear) struct process_view view = {.state = PROCESS_STOPPED};
    supervisor->ops->look(supervisor, id, &view);
    struct wanted_process *process = object_list_add(wanted, sizeof *process);
    *process = (struct wanted_process){
        .name = xstrdup(name),
        .program = xstrdup(program),
        .file = file,
        .pid = view.pid,
        .state = xstrdup(process_state_words[view.state]),
        .error = xstrdup(view.error),
    };
}

static void want_bricks(const struct look *look, const struct volume *volume, struct object_list *wanted)
{
    for (size_t i = 0; i < volume_children(volume); i++) {
        const struct brick_spec *brick = volume_child(volume, i);
        if (!child_runs(look, volume, i))
            continue;
        cleanup(process_plan_clear) struct process_plan plan;
        brick_plan(look->engine, volume, brick, &plan);
        want(look, plan.id, plan.name, look->engine->roots.glusterfsd,
             brick_volfile(look->engine, brick->device, volume->meta.name), wanted);
    }
}

static void want_all(const struct look *look, struct object_list *wanted)
{
    const struct engine *engine = look->engine;
    bool heals = false;
    for (size_t i = 0; i < look->target->volume_count; i++) {
        const struct volume *volume = &look->target->volumes[i];
        if (!volume_runs(look, volume))
            continue;
        want_bricks(look, volume, wanted);
        for (size_t k = 0; k < volume_children(volume); k++)
            heals |= volume_heals(volume) && child_runs(look, volume, k);
    }
    if (heals)
        want(look, "heal", "self-heal", engine->roots.glusterfs,
             xasprintf("%s/heal.vol", engine->config->state_dir), wanted);
    cleanup(process_view_clear) struct process_view view = {.state = PROCESS_STOPPED};
    if (look->target->enabled && engine->supervisor->ops->look(engine->supervisor, "volserver", &view))
        want(look, "volserver", "volserver", engine->roots.glusterfsd,
             xasprintf("%s/volserver.vol", engine->config->state_dir), wanted);
    if (look->target->enabled && engine->nbd_program)
        want(look, "nbd", "nbd", engine->nbd_program, xstrdup(engine->config_path), wanted);
}

static void clear_wanted(struct object_list *wanted)
{
    for (size_t i = 0; i < wanted->count; i++) {
        struct wanted_process *process = (struct wanted_process *)wanted->items + i;
        free(process->name);
        free(process->program);
        free(process->file);
        free(process->state);
        free(process->error);
    }
    free(wanted->items);
}

/* ---- Ports ---- */

static bool holds_socket(const char *pid, uint64_t inode)
{
    autofree char *folder = xasprintf("/proc/%s/fd", pid);
    autofree char *wanted = xasprintf("socket:[%llu]", (unsigned long long)inode);
    autostring_list struct string_list fds = {0};
    if (folder_list(folder, &fds, NULL) < 0)
        return false;
    for (size_t i = 0; i < fds.count; i++) {
        autofree char *path = xasprintf("%s/%s", folder, fds.items[i]);
        char target[64];
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length > 0 && (size_t)length == strlen(wanted) && memcmp(target, wanted, (size_t)length) == 0)
            return true;
    }
    return false;
}

/* The process that holds a socket; 0: none that is seen here. */
static pid_t holder_of(uint64_t inode)
{
    autostring_list struct string_list pids = {0};
    if (folder_list("/proc", &pids, NULL) == 0)
        for (size_t i = 0; i < pids.count; i++)
            if (isdigit((unsigned char)pids.items[i][0]) && holds_socket(pids.items[i], inode))
                return (pid_t)strtol(pids.items[i], NULL, 10);
    return 0;
}

/* Does somebody listen on the port while `own` does not? *ret_inode is of the first such socket. */
static bool port_is_taken(uint64_t port, pid_t own, uint64_t *ret_inode)
{
    static const char *const tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    autofree char *own_text = xasprintf("%d", (int)own);
    *ret_inode = 0;
    for (size_t i = 0; i < 2; i++) {
        autofree char *text = NULL;
        if (file_read(tables[i], NET_LIMIT, &text, NULL, NULL) < 0)
            continue;
        uint64_t inode;
        for (size_t nth = 0; (inode = listener_inode(text, port, nth)); nth++) {
            if (own && holds_socket(own_text, inode))
                return false;
            *ret_inode = *ret_inode ? *ret_inode : inode;
        }
    }
    return *ret_inode != 0;
}

/* A brick may have lost its port to somebody. */
static void examine_port(const struct look *look, const struct volume *volume, const struct brick_spec *brick)
{
    cleanup(process_view_clear) struct process_view view = {.state = PROCESS_STOPPED};
    autofree char *id = xasprintf("brick.%s.%s", volume->meta.name, brick->device);
    struct supervisor *supervisor = look->engine->supervisor;
    uint64_t inode;
    supervisor->ops->look(supervisor, id, &view);
    if (!port_is_taken(brick->port, view.pid, &inode))
        return;
    pid_t pid = holder_of(inode);
    autofree char *object = xasprintf("port %llu of brick %s/%s/%s", (unsigned long long)brick->port,
                                      volume->meta.name, brick->node, brick->device);
    autofree char *found =
        pid ? xasprintf("process %d listens on it", (int)pid) : xstrdup("somebody listens on it");
    finding_add(look->findings, "port-taken", object, "the brick listens on it", found,
                "end that process, or keep it from the ports between [engine] port-min and port-max");
}

int examine_processes(const struct look *look, struct error **ret_error)
{
    struct object_list wanted cleanup(clear_wanted) = {0}, seen cleanup(clear_seen) = {0};
    want_all(look, &wanted);
    int r = see_processes(look, &seen, ret_error);
    if (r < 0)
        return r;
    *look->checked += wanted.count + seen.count;
    compare_processes(&wanted, &seen, look->findings);
    for (size_t i = 0; i < look->target->volume_count; i++) {
        const struct volume *volume = &look->target->volumes[i];
        for (size_t k = 0; volume_runs(look, volume) && k < volume_children(volume); k++)
            if (child_runs(look, volume, k))
                examine_port(look, volume, volume_child(volume, k));
    }
    return 0;
}

/* ---- Repair ---- */

/* Ends an orphan: by its descriptor, so that no other process with that number is met. */
int repair_process(const struct finding *finding, struct error **ret_error)
{
    int pid = 0;
    if (sscanf(finding->object, "process %d", &pid) != 1 || pid <= 1)
        return -EOPNOTSUPP;
    autoclose int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0 && errno == ESRCH)
        return 0;
    if (fd < 0)
        return error_set(ret_error, errno, "cannot reach process %d: %s", pid, strerror(errno));
    static const int signals[] = {SIGTERM, SIGKILL};
    for (size_t i = 0; i < 2; i++) {
        struct pollfd ended = {.fd = fd, .events = POLLIN};
        syscall(SYS_pidfd_send_signal, fd, signals[i], NULL, 0);
        if (poll(&ended, 1, END_WAIT_MS) == 1)
            return 0;
    }
    return error_set(ret_error, ETIMEDOUT, "process %d does not end: it hangs in the kernel", pid);
}
