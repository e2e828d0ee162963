/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Processes as systemd units, told by systemctl. systemd restarts them; this side only looks: a unit's main
 * process is watched, and the manager is asked again when it ends, until all units are as they should be.
 */
#include "blockd/engine/supervise_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <systemd/sd-daemon.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/base/log.h"
#include "rpc/base/spawn.h"

#define ASK_TIMEOUT_MS  10000
#define STOP_TIMEOUT_MS 60000
#define SOON_MS         1000  /* while a unit is on its way */
#define LATER_MS        60000 /* when all is as it should be, in case that something was missed */

struct unit {
    struct units *owner;
    struct unit *next;
    struct process_plan plan;
    bool wanted;
    bool asked;    /* the manager told of it before */
    unsigned pins; /* calls to systemctl that name it */
    enum process_state state;
    pid_t pid;
    int pidfd;
    struct loop_source *watch;
    uint64_t restarts;
    char *error;
};

struct units {
    struct supervisor base;
    struct unit *list;
    struct loop_source *timer;
};

/* ---- What the manager says ---- */

struct answer {
    char *id, *active, *result;
    uint64_t pid, restarts;
};

static void answer_clear(struct answer *answer)
{
    free(answer->id);
    free(answer->active);
    free(answer->result);
    *answer = (struct answer){0};
}

static void answer_line(struct answer *answer, const char *line)
{
    const char *value = strchr(line, '=');
    if (!value)
        return;
    size_t length = (size_t)(value++ - line);
    char **text = strncmp(line, "Id", length) == 0            ? &answer->id
                  : strncmp(line, "ActiveState", length) == 0 ? &answer->active
                  : strncmp(line, "Result", length) == 0      ? &answer->result
                                                              : NULL;
    if (text) {
        free(*text);
        *text = xstrdup(value);
    } else if (strncmp(line, "MainPID", length) == 0) {
        answer->pid = strtoull(value, NULL, 10);
    } else if (strncmp(line, "NRestarts", length) == 0) {
        answer->restarts = strtoull(value, NULL, 10);
    }
}

static enum process_state state_of(const struct answer *answer)
{
    const char *active = answer->active ? answer->active : "";
    if (strcmp(active, "active") == 0 || strcmp(active, "reloading") == 0)
        return PROCESS_RUNNING;
    if (strcmp(active, "deactivating") == 0)
        return PROCESS_STOPPING;
    /* Between a failure and its restart a unit is "activating" without a process. */
    if (strcmp(active, "activating") == 0)
        return answer->pid ? PROCESS_STARTING : PROCESS_BACKOFF;
    return strcmp(active, "failed") == 0 ? PROCESS_BACKOFF : PROCESS_STOPPED;
}

static void ask(void *data);

static void on_main_process_end(void *data, uint32_t events)
{
    (void)events;
    struct unit *unit = data;
    struct units *units = unit->owner;
    {
        scoped_lock(&units->base.mutex);
        loop_source_free(unit->watch);
        unit->watch = NULL;
    }
    loop_timer_arm(units->timer, 0);
}

static void unwatch(struct unit *unit)
{
    loop_source_free(unit->watch);
    unit->watch = NULL;
    if (unit->pidfd >= 0)
        close(unit->pidfd);
    unit->pidfd = -1;
    unit->pid = 0;
}

static void watch(struct unit *unit, pid_t pid)
{
    if (pid == unit->pid)
        return;
    unwatch(unit);
    unit->pid = pid;
    unit->pidfd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (unit->pidfd >= 0)
        loop_add_fd(unit->owner->base.loop, unit->pidfd, EPOLLIN, on_main_process_end, unit, &unit->watch,
                    NULL);
}

static void note_end(struct unit *unit, const struct answer *answer, bool news)
{
    autofree char *line = log_telling_line(unit->plan.log_path, 0, false);
    free(unit->error);
    unit->error =
        xasprintf("ended (%s)%s%s", answer->result ? answer->result : "unknown", *line ? ": " : "", line);
    if (news)
        log_warning("%s %s", unit->plan.name, unit->error);
}

/* Returns whether something changed. */
static bool apply(struct units *units, const struct answer *answer)
{
    for (struct unit *unit = units->list; unit; unit = unit->next) {
        if (!string_equal(unit->plan.unit, answer->id))
            continue;
        enum process_state state = state_of(answer);
        if (state == PROCESS_BACKOFF && !unit->wanted)
            state = PROCESS_STOPPED; /* it failed, and nobody will start it again */
        bool changed = state != unit->state || (pid_t)answer->pid != unit->pid;
        /* The first answer counts restarts of before. */
        if (state == PROCESS_BACKOFF || (unit->asked && answer->restarts > unit->restarts))
            note_end(unit, answer, changed);
        unit->asked = true;
        unit->state = state;
        unit->restarts = answer->restarts;
        watch(unit, (pid_t)answer->pid);
        return changed;
    }
    return false;
}

/* Blocks of KEY=VALUE lines, one for each unit, with an empty line between. */
static bool apply_all(struct units *units, const char *text)
{
    autostring_list struct string_list lines = {0};
    string_list_split(&lines, text, '\n');
    bool changed = false;
    cleanup(answer_clear) struct answer answer = {0};
    for (size_t i = 0; i < lines.count; i++) {
        if (*lines.items[i]) {
            answer_line(&answer, lines.items[i]);
            continue;
        }
        changed |= answer.id && apply(units, &answer);
        answer_clear(&answer);
    }
    changed |= answer.id && apply(units, &answer);
    return changed;
}

static bool all_settled(const struct units *units)
{
    for (const struct unit *unit = units->list; unit; unit = unit->next)
        if (unit->wanted ? unit->state != PROCESS_RUNNING || !unit->watch : unit->state != PROCESS_STOPPED)
            return false;
    return true;
}

static void forget_ended(struct units *units)
{
    for (struct unit **link = &units->list; *link;) {
        struct unit *unit = *link;
        if (unit->wanted || unit->pins || unit->state != PROCESS_STOPPED) {
            link = &unit->next;
            continue;
        }
        *link = unit->next;
        unwatch(unit);
        process_plan_clear(&unit->plan);
        free(unit->error);
        free(unit);
    }
}

/* On the supervisor's thread; the program runs without the lock. */
static void ask(void *data)
{
    struct units *units = data;
    autostring_list struct string_list names = {0};
    {
        scoped_lock(&units->base.mutex);
        forget_ended(units);
        for (struct unit *unit = units->list; unit; unit = unit->next)
            string_list_add(&names, unit->plan.unit);
    }
    if (names.count == 0)
        return;
    autofree const char **argv = xcalloc(names.count + 4, sizeof *argv);
    argv[0] = units->base.options.systemctl;
    argv[1] = "show";
    argv[2] = "--property=Id,ActiveState,MainPID,NRestarts,Result";
    for (size_t i = 0; i < names.count; i++)
        argv[3 + i] = names.items[i];

    autostrbuf struct strbuf output = {0};
    autoerror struct error *error = NULL;
    bool changed = false, settled = false;
    if (program_run(argv, ASK_TIMEOUT_MS, &output, NULL, &error) < 0) {
        log_warning("cannot ask systemd for its units: %s", error_message(error));
    } else {
        scoped_lock(&units->base.mutex);
        changed = apply_all(units, strbuf_string(&output));
        settled = all_settled(units);
    }
    loop_timer_arm(units->timer, settled ? LATER_MS : SOON_MS);
    if (changed)
        supervisor_changed(&units->base);
}

/* ---- The vtable ---- */

static struct unit *find(struct units *units, const char *id)
{
    for (struct unit *unit = units->list; unit; unit = unit->next)
        if (strcmp(unit->plan.id, id) == 0)
            return unit;
    return NULL;
}

static struct unit *enter(struct units *units, const struct process_plan *plan, bool wanted)
{
    struct unit *unit = find(units, plan->id);
    if (!unit) {
        unit = xcalloc(1, sizeof *unit);
        unit->owner = units;
        unit->state = wanted ? PROCESS_STARTING : PROCESS_STOPPING;
        unit->pidfd = -1;
        unit->next = units->list;
        units->list = unit;
    } else {
        process_plan_clear(&unit->plan);
    }
    process_plan_copy(&unit->plan, plan);
    unit->wanted = wanted;
    unit->pins++;
    return unit;
}

static void leave(struct unit *unit)
{
    {
        scoped_lock(&unit->owner->base.mutex);
        unit->pins--;
    }
    loop_post(unit->owner->base.loop, ask, unit->owner);
}

static int control(struct supervisor *supervisor, const char *verb, const char *flag, const char *unit,
                   int timeout_ms, struct error **ret_error)
{
    const char *const argv[] = {supervisor->options.systemctl, verb, flag, unit, NULL};
    return program_run(argv, timeout_ms, NULL, NULL, ret_error);
}

/* The version that a unit was last (re)started with; a crash before it is written costs one more restart. */
static char *stamp_path(const struct supervisor *supervisor, const struct process_plan *plan)
{
    return xasprintf("%s/processes/%s.version", supervisor->options.config->run_dir, plan->id);
}

static int units_up(struct supervisor *supervisor, const struct process_plan *plan, struct error **ret_error)
{
    struct unit *unit;
    bool running;
    {
        scoped_lock(&supervisor->mutex);
        unit = find((struct units *)supervisor, plan->id);
        running = unit && unit->wanted && unit->state != PROCESS_STOPPED;
        unit = enter((struct units *)supervisor, plan, true);
    }
    autofree char *stamp = stamp_path(supervisor, plan);
    autofree char *version = NULL;
    file_read(stamp, 256, &version, NULL, NULL);
    bool outdated = plan->version && !string_equal(version, plan->version);
    int r = 0;
    /* Not waited for: a unit that is ordered behind blockd would wait for blockd's own start. */
    if (outdated || !running)
        r = control(supervisor, outdated ? "restart" : "start", "--no-block", plan->unit, ASK_TIMEOUT_MS,
                    ret_error);
    if (r == 0 && outdated)
        r = file_write_atomic(stamp, plan->version, 0644, ret_error);
    leave(unit);
    return r;
}

static int units_down(struct supervisor *supervisor, const struct process_plan *plan,
                      struct error **ret_error)
{
    struct unit *unit;
    {
        scoped_lock(&supervisor->mutex);
        unit = enter((struct units *)supervisor, plan, false);
    }
    autofree char *stamp = stamp_path(supervisor, plan);
    int r = control(supervisor, "stop", "--quiet", plan->unit, STOP_TIMEOUT_MS, ret_error);
    if (r == 0)
        r = file_remove(stamp, ret_error);
    leave(unit);
    return r;
}

static void units_kill(struct supervisor *supervisor, const struct process_plan *plan)
{
    struct unit *unit;
    {
        scoped_lock(&supervisor->mutex);
        unit = enter((struct units *)supervisor, plan, false);
    }
    /* The stop first: a unit that is killed is started again. */
    control(supervisor, "stop", "--no-block", plan->unit, ASK_TIMEOUT_MS, NULL);
    control(supervisor, "kill", "--signal=KILL", plan->unit, ASK_TIMEOUT_MS, NULL);
    leave(unit);
}

static bool units_look(struct supervisor *supervisor, const char *id, struct process_view *ret_view)
{
    scoped_lock(&supervisor->mutex);
    const struct unit *unit = find((struct units *)supervisor, id);
    if (!unit)
        return false;
    *ret_view = (struct process_view){
        .state = unit->state,
        .pid = unit->pid,
        .restarts = unit->restarts,
        .failures = unit->state == PROCESS_BACKOFF ? unit->restarts : 0,
        .error = xstrdup(unit->error),
    };
    return true;
}

static void units_list(struct supervisor *supervisor, struct string_list *ret_ids,
                       struct string_list *ret_names)
{
    scoped_lock(&supervisor->mutex);
    for (const struct unit *unit = ((struct units *)supervisor)->list; unit; unit = unit->next) {
        if (!unit->wanted && unit->state == PROCESS_STOPPED)
            continue; /* about to be forgotten */
        string_list_add(ret_ids, unit->plan.id);
        string_list_add(ret_names, unit->plan.name);
    }
}

static void units_destroy(struct supervisor *supervisor)
{
    struct units *units = (struct units *)supervisor;
    while (units->list) {
        struct unit *unit = units->list;
        units->list = unit->next;
        if (unit->pidfd >= 0)
            close(unit->pidfd);
        process_plan_clear(&unit->plan);
        free(unit->error);
        free(unit);
    }
    free(units);
}

static const struct supervisor_ops units_ops = {
    .up = units_up,
    .down = units_down,
    .kill = units_kill,
    .look = units_look,
    .list = units_list,
    .destroy = units_destroy,
};

static int write_folders(const struct supervisor_options *options, struct error **ret_error)
{
    autofree char *text = xasprintf("BLOCKD_STATE_DIR=\"%s\"\nBLOCKD_LOG_DIR=\"%s\"\nBLOCKD_RUN_DIR=\"%s\"\n"
                                    "BLOCKD_CONFIG=\"%s\"\n",
                                    options->config->state_dir, options->config->log_dir,
                                    options->config->run_dir, options->config_path);
    return file_write_if_changed(options->units_env, text, 0644, NULL, ret_error);
}

static void make_timer(void *data)
{
    struct units *units = data;
    autoerror struct error *error = NULL;
    if (loop_add_timer(units->base.loop, ask, units, &units->timer, &error) < 0)
        log_error("units are not watched: %s", error_message(error));
}

int supervise_systemd_new(const struct supervisor_options *options, struct supervisor **ret_supervisor,
                          struct error **ret_error)
{
    autofree char *folder = xasprintf("%s/processes", options->config->run_dir);
    int r = folder_make(folder, 0755, ret_error);
    if (r == 0)
        r = folder_make(options->config->log_dir, 0750, ret_error);
    if (r == 0)
        r = write_folders(options, ret_error);
    if (r < 0)
        return r;
    struct units *units = xcalloc(1, sizeof *units);
    units->base.ops = &units_ops;
    r = supervisor_start(&units->base, options, ret_error);
    if (r < 0)
        return r;
    loop_post(units->base.loop, make_timer, units);
    *ret_supervisor = &units->base;
    return 0;
}
