/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The choice of a supervisor, and the thread that each of them has. */
#include "blockd/engine/supervise_priv.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "rpc/base/alloc.h"
#include "rpc/base/log.h"

#define LOG_TRIM_INTERVAL_MS 60000

const char *const process_state_words[] = {"starting", "running", "backoff", "stopping", "stopped", NULL};

void process_plan_clear(struct process_plan *plan)
{
    free(plan->id);
    free(plan->name);
    free(plan->unit);
    string_list_clear(&plan->argv);
    free(plan->log_path);
    free(plan->version);
    *plan = (struct process_plan){0};
}

void process_plan_copy(struct process_plan *to, const struct process_plan *from)
{
    *to = (struct process_plan){
        .id = xstrdup(from->id),
        .name = xstrdup(from->name),
        .unit = xstrdup(from->unit),
        .log_path = xstrdup(from->log_path),
        .version = xstrdup(from->version),
    };
    string_list_copy(&to->argv, &from->argv);
}

void process_view_clear(struct process_view *view)
{
    free(view->error);
    *view = (struct process_view){0};
}

static void *run(void *data)
{
    struct supervisor *supervisor = data;
    autoerror struct error *error = NULL;
    if (loop_run(supervisor->loop, &error) < 0)
        log_error("supervision ended: %s", error_message(error));
    return NULL;
}

static void trim_logs(void *data)
{
    struct supervisor *supervisor = data;
    logs_trim(supervisor->options.config->log_dir, LOG_SIZE_LIMIT);
    loop_timer_arm(supervisor->log_timer, LOG_TRIM_INTERVAL_MS);
}

/* Signals of the daemon belong to its main thread. */
static int start_thread(struct supervisor *supervisor, struct error **ret_error)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int number = pthread_create(&supervisor->thread, NULL, run, supervisor);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (number)
        return error_set(ret_error, number, "cannot start the supervisor's thread: %s", strerror(number));
    supervisor->running = true;
    return 0;
}

int supervisor_start(struct supervisor *supervisor, const struct supervisor_options *options,
                     struct error **ret_error)
{
    supervisor->options = *options;
    pthread_mutex_init(&supervisor->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&supervisor->settled, &attributes);
    pthread_condattr_destroy(&attributes);

    int r = loop_new(&supervisor->loop, ret_error);
    if (r == 0)
        r = loop_add_timer(supervisor->loop, trim_logs, supervisor, &supervisor->log_timer, ret_error);
    if (r == 0) {
        loop_timer_arm(supervisor->log_timer, LOG_TRIM_INTERVAL_MS);
        r = start_thread(supervisor, ret_error);
    }
    if (r < 0)
        supervisor_free(supervisor);
    return r;
}

void supervisor_changed(struct supervisor *supervisor)
{
    if (supervisor->options.changed)
        supervisor->options.changed(supervisor->options.changed_data);
}

void supervisor_free(struct supervisor *supervisor)
{
    if (!supervisor)
        return;
    if (supervisor->running) {
        loop_stop(supervisor->loop);
        pthread_join(supervisor->thread, NULL);
    }
    loop_free(supervisor->loop);
    pthread_cond_destroy(&supervisor->settled);
    pthread_mutex_destroy(&supervisor->mutex);
    supervisor->ops->destroy(supervisor);
}

/* Units only when blockd is one itself: in a container, or started by hand, they would not be its own. */
static bool want_systemd(const struct config *config)
{
    if (config->supervisor != SUPERVISOR_AUTO)
        return config->supervisor == SUPERVISOR_SYSTEMD;
    const char *pid = getenv("SYSTEMD_EXEC_PID");
    return sd_booted() > 0 && pid && strtol(pid, NULL, 10) == getpid();
}

int supervisor_new(const struct supervisor_options *options, struct supervisor **ret_supervisor,
                   struct error **ret_error)
{
    return want_systemd(options->config) ? supervise_systemd_new(options, ret_supervisor, ret_error)
                                         : supervise_children_new(options, ret_supervisor, ret_error);
}
