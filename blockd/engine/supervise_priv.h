/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Supervision of processes: one vtable, two backends (children of blockd, systemd units), one file that
 * chooses. What is kept running is told by a plan; a supervisor finds again what an earlier blockd started.
 */
#ifndef BLOCKD_ENGINE_SUPERVISE_PRIV_H
#define BLOCKD_ENGINE_SUPERVISE_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "rpc/base/loop.h"
#include "rpc/base/strings.h"
#include "rpc/config.h"

enum process_state { PROCESS_STARTING, PROCESS_RUNNING, PROCESS_BACKOFF, PROCESS_STOPPING, PROCESS_STOPPED };
extern const char *const process_state_words[];

struct process_plan {
    char *id;   /* "brick.demo.d1": unique here; a file name */
    char *name; /* "brick demo/node1/d1": for people */
    char *unit; /* "blockd-brick@demo.d1.service" */
    struct string_list argv;
    char *log_path;
    char *version; /* a running process with another version is restarted; NULL: it may keep what it has */
};
void process_plan_clear(struct process_plan *plan);
void process_plan_copy(struct process_plan *to, const struct process_plan *from);

struct process_view {
    enum process_state state;
    pid_t pid;         /* 0 when none */
    uint64_t restarts; /* since this supervisor knows it */
    uint64_t failures; /* in a row: it ended soon after its start */
    char *error;       /* why it ended last, NULL when it did not */
};
void process_view_clear(struct process_view *view);

struct supervisor;
struct supervisor_options {
    const struct config *config; /* outlives the supervisor */
    const char *systemctl;       /* path of the program */
    const char *units_env;       /* file that tells the units their folders */
    const char *config_path;     /* for blockd-nbd */
    void (*changed)(void *data); /* on the supervisor's thread, without a lock held; may be NULL */
    void *changed_data;
};

/* Every slot is required. up, down, kill and look may be called by any thread at once. */
struct supervisor_ops {
    /* Keeps the process running. Returns once it was asked to start. The plan is copied. */
    int (*up)(struct supervisor *supervisor, const struct process_plan *plan, struct error **ret_error);
    /* Ends the process, also one of an earlier blockd, and waits until it is gone;
     * -ETIMEDOUT when it stays. */
    int (*down)(struct supervisor *supervisor, const struct process_plan *plan, struct error **ret_error);
    /* Ends the process without grace, and waits for nothing: it hangs in the kernel. */
    void (*kill)(struct supervisor *supervisor, const struct process_plan *plan);
    /* False when the process was never asked for. *ret_view is the caller's to clear. */
    bool (*look)(struct supervisor *supervisor, const char *id, struct process_view *ret_view);
    /* All that are wanted or still end. */
    void (*list)(struct supervisor *supervisor, struct string_list *ret_ids, struct string_list *ret_names);
    /* Called after the thread ended; frees what the backend holds, and the supervisor. Nothing is stopped. */
    void (*destroy)(struct supervisor *supervisor);
};

/* The part that every backend begins with. */
struct supervisor {
    const struct supervisor_ops *ops;
    struct supervisor_options options;
    pthread_mutex_t mutex;  /* guards the backend's list; never held while `changed` runs */
    pthread_cond_t settled; /* a process reached PROCESS_STOPPED */
    struct loop *loop;      /* of the supervisor's thread */
    struct loop_source *log_timer;
    pthread_t thread;
    bool running;
};

/* Chooses the backend by the configuration and starts its thread. */
int supervisor_new(const struct supervisor_options *options, struct supervisor **ret_supervisor,
                   struct error **ret_error);
void supervisor_free(struct supervisor *supervisor);

/* For backends: the thread, loop and lock of *supervisor, whose ops are set; destroy is called when this
 * fails. */
int supervisor_start(struct supervisor *supervisor, const struct supervisor_options *options,
                     struct error **ret_error);
void supervisor_changed(struct supervisor *supervisor);

/* ---- supervise_children.c ---- */
int supervise_children_new(const struct supervisor_options *options, struct supervisor **ret_supervisor,
                           struct error **ret_error);
/* Milliseconds until the next start after that many failures in a row. */
int64_t supervise_backoff_ms(uint64_t failures);

/* ---- supervise_systemd.c ---- */
int supervise_systemd_new(const struct supervisor_options *options, struct supervisor **ret_supervisor,
                          struct error **ret_error);

/* ---- pidfile.c ---- */

/* A process for good: a pid alone is recycled, with its start time and the boot it is not. */
struct process_identity {
    pid_t pid;
    uint64_t start; /* field 22 of /proc/PID/stat: clock ticks since the boot */
    char boot[40];  /* /proc/sys/kernel/random/boot_id */
    char *version;  /* of the plan that it was started with; NULL: none */
};
void process_identity_clear(struct process_identity *identity);
/* -ESRCH when there is no such process, or only its zombie. */
int process_identify(pid_t pid, struct process_identity *ret_identity, struct error **ret_error);
int pidfile_write(const char *path, const struct process_identity *identity, struct error **ret_error);
/* -ENOENT without a file, -EINVAL for one that is no pid file of ours. */
int pidfile_read(const char *path, struct process_identity *ret_identity, struct error **ret_error);
/* A process that runs with exactly this argv, 0 when there is none. */
pid_t process_find(const struct string_list *argv);

/* ---- logs.c ---- */

#define LOG_SIZE_LIMIT (16u << 20)
/* Moves the content of each log that is larger than `limit` to NAME.1; programs append
 * to the same file on. */
void logs_trim(const char *folder, off_t limit);
/*
 * The line after `offset` that tells most about a failure, for a message: an error of glusterfs, the first
 * one when it failed at its start (the others follow from it), else the last; without any, the last line. The
 * caller's, never NULL.
 */
char *log_telling_line(const char *path, off_t offset, bool first);

#endif
