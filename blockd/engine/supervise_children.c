/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Processes as children of blockd, each in a session of its own, so that they live on when blockd ends. What
 * an earlier blockd started is found by its pid file, or, when blockd died before it wrote one, by its
 * command line.
 *
 * All work on a child happens on the supervisor's thread, in child_turn() and the two callbacks below it;
 * other threads change `wanted` and `plan` and post a turn. The supervisor's mutex guards every field. A
 * child that is not wanted and has ended is forgotten once nobody holds it by `pins`.
 */
#include "blockd/engine/supervise_priv.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"
#include "rpc/base/log.h"
#include "rpc/base/spawn.h"

#define SETTLE_MS                                                                                            \
    1000 /* a process that lived that long is called running, and one that is killed ran well                \
          */
#define RAN_WELL_MS                                                                                          \
    10000 /* for one that gave up by itself: bricks take seconds to find that they cannot serve */
#define KILL_AFTER_MS 15000 /* from SIGTERM to SIGKILL: blockd-nbd drains its clients */
#define GIVE_UP_MS    10000 /* after SIGKILL: what stays hangs in the kernel */

struct child {
    struct children *owner;
    struct child *next;
    struct process_plan plan;
    bool wanted;
    bool hurry;    /* it gets no time to end by itself */
    bool looked;   /* for a process of an earlier blockd */
    unsigned pins; /* turns that are posted, and threads that wait for its end */
    enum process_state state;
    pid_t pid;
    int pidfd;
    char *version; /* of the running process */
    struct loop_source *watch, *timer;
    int64_t started_ms;
    off_t log_offset; /* where the log of this start begins */
    uint64_t restarts, failures;
    char *error;
};

struct children {
    struct supervisor base;
    struct child *list;
};

int64_t supervise_backoff_ms(uint64_t failures)
{
    static const int64_t delays[] = {200, 500, 1000, 2000, 4000, 8000, 16000, 30000};
    size_t last = sizeof delays / sizeof *delays - 1;
    return delays[failures < last ? failures : last];
}

static char *pidfile_path(const struct child *child)
{
    return xasprintf("%s/processes/%s.pid", child->owner->base.options.config->run_dir, child->plan.id);
}

static void child_free(struct child *child)
{
    if (child->pidfd >= 0)
        close(child->pidfd);
    process_plan_clear(&child->plan);
    free(child->version);
    free(child->error);
    free(child);
}

static void set_state(struct child *child, enum process_state state)
{
    child->state = state;
    if (state == PROCESS_STOPPED)
        pthread_cond_broadcast(&child->owner->base.settled);
}

static void on_exit_event(void *data, uint32_t events);

/* From here on the end of the process wakes this thread, whoever its parent is. */
static int watch(struct child *child, pid_t pid, struct error **ret_error)
{
    autoclose int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return error_set(ret_error, errno, "cannot watch %s (pid %d): %s", child->plan.name, (int)pid,
                         strerror(errno));
    int r =
        loop_add_fd(child->owner->base.loop, pidfd, EPOLLIN, on_exit_event, child, &child->watch, ret_error);
    if (r < 0)
        return r;
    child->pidfd = steal_fd(&pidfd);
    child->pid = pid;
    child->started_ms = clock_monotonic_ms();
    return 0;
}

static void unwatch(struct child *child)
{
    loop_source_free(child->watch);
    child->watch = NULL;
    if (child->pidfd >= 0)
        close(child->pidfd);
    child->pidfd = -1;
    child->pid = 0;
}

/* Writes down who runs, for the next blockd. Without it the next one still finds it by its command line. */
static void record(struct child *child)
{
    autoerror struct error *error = NULL;
    autofree char *path = pidfile_path(child);
    struct process_identity identity = {0};
    int r = process_identify(child->pid, &identity, &error);
    if (r == -ESRCH)
        return; /* it ended already, which its descriptor tells next */
    if (r == 0) {
        identity.version = child->version;
        r = pidfile_write(path, &identity, &error);
    }
    if (r < 0)
        log_warning("%s: %s", child->plan.name, error_message(error));
}

static void backoff(struct child *child)
{
    set_state(child, PROCESS_BACKOFF);
    loop_timer_arm(child->timer, supervise_backoff_ms(child->failures));
}

static void fail(struct child *child, const struct error *error)
{
    log_error("%s: %s", child->plan.name, error_message(error));
    free(child->error);
    child->error = xstrdup(error_message(error));
    child->failures++;
    backoff(child);
}

static void spawn(struct child *child)
{
    autoerror struct error *error = NULL;
    const struct string_list *words = &child->plan.argv;
    autofree const char **argv = xcalloc(words->count + 1, sizeof *argv);
    for (size_t i = 0; i < words->count; i++)
        argv[i] = words->items[i];
    struct stat status;
    child->log_offset = stat(child->plan.log_path, &status) == 0 ? status.st_size : 0;

    pid_t pid;
    if (program_start(argv, child->plan.log_path, &pid, &error) < 0) {
        fail(child, error);
        return;
    }
    fault_point("process.start.after-spawn");
    if (watch(child, pid, &error) < 0) {
        /* Unwatched it would never be restarted; it is our child, so the pid is still its own. */
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        fail(child, error);
        return;
    }
    free(child->version);
    child->version = xstrdup(child->plan.version);
    record(child);
    log_info("started %s (pid %d)", child->plan.name, (int)pid);
    set_state(child, PROCESS_STARTING);
    loop_timer_arm(child->timer, SETTLE_MS);
}

/* The process that the pid file names, if it still is the same one. */
static pid_t recorded(struct child *child, char **ret_version)
{
    autofree char *path = pidfile_path(child);
    cleanup(process_identity_clear) struct process_identity old = {0}, now = {0};
    if (pidfile_read(path, &old, NULL) < 0 || process_identify(old.pid, &now, NULL) < 0 ||
        now.start != old.start || strcmp(now.boot, old.boot) != 0)
        return 0;
    *ret_version = steal_ptr(&old.version);
    return old.pid;
}

static void adopt(struct child *child)
{
    child->looked = true;
    autofree char *version = NULL;
    pid_t pid = recorded(child, &version);
    bool by_file = pid != 0;
    if (!by_file)
        pid = process_find(&child->plan.argv);
    struct process_identity identity = {0}, again = {0};
    if (!pid || process_identify(pid, &identity, NULL) < 0 || watch(child, pid, NULL) < 0)
        return;
    /* The pid may have changed hands just before it was watched; from now on it cannot. */
    if (process_identify(pid, &again, NULL) < 0 || again.start != identity.start ||
        (by_file ? false : process_find(&child->plan.argv) != pid)) {
        unwatch(child);
        return;
    }
    child->version = steal_ptr(&version);
    record(child);
    log_info("found %s running (pid %d)", child->plan.name, (int)pid);
    set_state(child, PROCESS_RUNNING);
}

static void terminate(struct child *child)
{
    syscall(SYS_pidfd_send_signal, child->pidfd, child->hurry ? SIGKILL : SIGTERM, NULL, 0);
    set_state(child, PROCESS_STOPPING);
    loop_timer_arm(child->timer, KILL_AFTER_MS);
}

/* Does what the difference between `wanted` and `state` asks for. */
static void turn_locked(struct child *child)
{
    if (!child->looked)
        adopt(child);
    bool outdated = child->plan.version && !string_equal(child->plan.version, child->version);
    switch (child->state) {
    case PROCESS_STARTING:
    case PROCESS_RUNNING:
        if (!child->wanted || outdated)
            terminate(child);
        break;
    case PROCESS_BACKOFF:
        if (!child->wanted) {
            loop_timer_arm(child->timer, -1);
            set_state(child, PROCESS_STOPPED);
        }
        break;
    case PROCESS_STOPPED:
        if (child->wanted)
            spawn(child);
        else
            set_state(child, PROCESS_STOPPED); /* wakes who waits for it */
        break;
    case PROCESS_STOPPING:
        if (child->hurry)
            syscall(SYS_pidfd_send_signal, child->pidfd, SIGKILL, NULL, 0);
        break; /* its end makes the next turn */
    }
}

/* Called when a callback is done; nothing is told when nothing changed, for those who are told look again. */
static void tell(struct supervisor *base, bool changed)
{
    if (changed)
        supervisor_changed(base);
}

static void on_timer(void *data);

static void forget(struct child *child)
{
    struct child **link = &child->owner->list;
    while (*link != child)
        link = &(*link)->next;
    *link = child->next;
    loop_source_free(child->timer);
    child_free(child);
}

static void child_turn(void *data)
{
    struct child *child = data;
    struct supervisor *base = &child->owner->base;
    bool changed;
    {
        scoped_lock(&base->mutex);
        enum process_state before = child->state;
        child->pins--;
        if (!child->wanted && child->state == PROCESS_STOPPED && child->looked) {
            if (child->pins == 0)
                forget(child);
            return;
        }
        autoerror struct error *error = NULL;
        if (!child->timer && loop_add_timer(base->loop, on_timer, child, &child->timer, &error) < 0) {
            log_error("%s: %s", child->plan.name, error_message(error));
            return;
        }
        turn_locked(child);
        changed = child->state != before;
    }
    tell(base, changed);
}

static void on_timer(void *data)
{
    struct child *child = data;
    struct supervisor *base = &child->owner->base;
    bool changed;
    {
        scoped_lock(&base->mutex);
        enum process_state before = child->state;
        if (child->state == PROCESS_STARTING)
            set_state(child, PROCESS_RUNNING);
        else if (child->state == PROCESS_STOPPING)
            syscall(SYS_pidfd_send_signal, child->pidfd, SIGKILL, NULL, 0);
        else if (child->state == PROCESS_BACKOFF && child->wanted)
            spawn(child);
        changed = child->state != before;
    }
    tell(base, changed);
}

/* "ended with status 1: ...". Only the parent learns the status, so of an adopted process there is none. */
static char *describe_end(const struct child *child, int status, bool known)
{
    if (!known)
        return xstrdup("ended");
    if (WIFSIGNALED(status))
        return xasprintf("was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    bool at_start = clock_monotonic_ms() - child->started_ms < RAN_WELL_MS;
    autofree char *line = log_telling_line(child->plan.log_path, child->log_offset, at_start);
    return xasprintf("ended with status %d%s%s", WEXITSTATUS(status), *line ? ": " : "", line);
}

static void ended_locked(struct child *child)
{
    int status = 0;
    bool known = waitpid(child->pid, &status, WNOHANG) == child->pid;
    pid_t pid = child->pid;
    bool gave_up = known && WIFEXITED(status) && WEXITSTATUS(status) != 0;
    bool ran_well = clock_monotonic_ms() - child->started_ms >= (gave_up ? RAN_WELL_MS : SETTLE_MS);
    unwatch(child);
    loop_timer_arm(child->timer, -1);
    autofree char *path = pidfile_path(child);
    file_remove(path, NULL);

    if (child->state == PROCESS_STOPPING) {
        log_info("stopped %s (pid %d)", child->plan.name, (int)pid);
        set_state(child, PROCESS_STOPPED);
        child->failures = 0;
        turn_locked(child);
        return;
    }
    autofree char *end = describe_end(child, status, known);
    log_warning("%s (pid %d) %s", child->plan.name, (int)pid, end);
    free(child->error);
    child->error = steal_ptr(&end);
    child->failures = ran_well ? 0 : child->failures + 1;
    child->restarts++;
    backoff(child);
}

static void on_exit_event(void *data, uint32_t events)
{
    (void)events;
    struct child *child = data;
    {
        scoped_lock(&child->owner->base.mutex);
        ended_locked(child);
    }
    supervisor_changed(&child->owner->base);
}

/* ---- The vtable ---- */

static struct child *find(struct children *children, const char *id)
{
    for (struct child *child = children->list; child; child = child->next)
        if (strcmp(child->plan.id, id) == 0)
            return child;
    return NULL;
}

/* The child of a plan, made or brought up to date. */
static struct child *enter(struct children *children, const struct process_plan *plan, bool wanted)
{
    struct child *child = find(children, plan->id);
    if (!child) {
        child = xcalloc(1, sizeof *child);
        child->owner = children;
        child->state = PROCESS_STOPPED;
        child->pidfd = -1;
        child->next = children->list;
        children->list = child;
    } else {
        process_plan_clear(&child->plan);
    }
    process_plan_copy(&child->plan, plan);
    child->wanted = wanted;
    child->hurry = false;
    return child;
}

static void post_turn(struct child *child)
{
    child->pins++;
    loop_post(child->owner->base.loop, child_turn, child);
}

static int children_up(struct supervisor *supervisor, const struct process_plan *plan,
                       struct error **ret_error)
{
    (void)ret_error;
    struct children *children = (struct children *)supervisor;
    {
        scoped_lock(&supervisor->mutex);
        struct child *child = find(children, plan->id);
        bool same = child && child->wanted && string_equal(child->plan.version, plan->version) &&
                    child->state != PROCESS_STOPPED;
        child = enter(children, plan, true);
        if (!same)
            post_turn(child);
    }
    return 0;
}

static int await_end(struct child *child, struct error **ret_error)
{
    struct supervisor *base = &child->owner->base;
    int64_t deadline_ms = clock_monotonic_ms() + KILL_AFTER_MS + GIVE_UP_MS;
    struct timespec deadline = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
    while (!child->looked || child->state != PROCESS_STOPPED) {
        if (child->wanted)
            return error_set(ret_error, ECANCELED, "%s was asked to start again while it stopped",
                             child->plan.name);
        if (pthread_cond_timedwait(&base->settled, &base->mutex, &deadline) == ETIMEDOUT)
            return error_set(ret_error, ETIMEDOUT, "%s (pid %d) does not end, not even by SIGKILL",
                             child->plan.name, (int)child->pid);
    }
    return 0;
}

static int children_down(struct supervisor *supervisor, const struct process_plan *plan,
                         struct error **ret_error)
{
    scoped_lock(&supervisor->mutex);
    struct child *child = enter((struct children *)supervisor, plan, false);
    child->pins++;
    post_turn(child);
    int r = await_end(child, ret_error);
    child->pins--;
    post_turn(child); /* which forgets it, on the thread that owns its timer */
    return r;
}

static void children_kill(struct supervisor *supervisor, const struct process_plan *plan)
{
    scoped_lock(&supervisor->mutex);
    struct child *child = enter((struct children *)supervisor, plan, false);
    child->hurry = true;
    post_turn(child);
}

static bool children_look(struct supervisor *supervisor, const char *id, struct process_view *ret_view)
{
    scoped_lock(&supervisor->mutex);
    const struct child *child = find((struct children *)supervisor, id);
    if (!child)
        return false;
    *ret_view = (struct process_view){
        .state = child->looked || !child->wanted ? child->state : PROCESS_STARTING,
        .pid = child->pid,
        .restarts = child->restarts,
        .failures = child->failures,
        .error = xstrdup(child->error),
    };
    return true;
}

static void children_list(struct supervisor *supervisor, struct string_list *ret_ids,
                          struct string_list *ret_names)
{
    scoped_lock(&supervisor->mutex);
    for (const struct child *child = ((struct children *)supervisor)->list; child; child = child->next) {
        if (!child->wanted && child->state == PROCESS_STOPPED)
            continue; /* about to be forgotten */
        string_list_add(ret_ids, child->plan.id);
        string_list_add(ret_names, child->plan.name);
    }
}

static void children_destroy(struct supervisor *supervisor)
{
    struct children *children = (struct children *)supervisor;
    while (children->list) {
        struct child *child = children->list;
        children->list = child->next;
        child_free(child);
    }
    free(children);
}

static const struct supervisor_ops children_ops = {
    .up = children_up,
    .down = children_down,
    .kill = children_kill,
    .look = children_look,
    .list = children_list,
    .destroy = children_destroy,
};

int supervise_children_new(const struct supervisor_options *options, struct supervisor **ret_supervisor,
                           struct error **ret_error)
{
    autofree char *folder = xasprintf("%s/processes", options->config->run_dir);
    int r = folder_make(folder, 0755, ret_error);
    if (r == 0)
        r = folder_make(options->config->log_dir, 0750, ret_error);
    if (r < 0)
        return r;
    struct children *children = xcalloc(1, sizeof *children);
    children->base.ops = &children_ops;
    r = supervisor_start(&children->base, options, ret_error);
    if (r < 0)
        return r;
    *ret_supervisor = &children->base;
    return 0;
}
