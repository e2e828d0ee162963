/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * An event loop on epoll(7): descriptors, one-shot timers, signals, and functions posted from other threads.
 * A loop belongs to the thread that runs it: every call is made there, or before loop_run(), except
 * loop_post() and loop_stop(), which any thread may call. Callbacks run on that thread, one at a time, and
 * must not block.
 */
#ifndef BLOCKD_BASE_LOOP_H
#define BLOCKD_BASE_LOOP_H

#include <signal.h>
#include <stdint.h>

#include "error.h"

struct loop;
struct loop_source;

int loop_new(struct loop **ret_loop, struct error **ret_error);
/* Frees the loop and every source that is left. Posted functions that did not run yet are dropped. */
void loop_free(struct loop *loop);
DEFINE_CLEANUP(struct loop *, cleanup_loop, loop_free)

/* Runs until loop_stop(). Returns 0, or a negative errno of epoll_wait(2). */
int loop_run(struct loop *loop, struct error **ret_error);
void loop_stop(struct loop *loop);

/* `events` as in epoll_ctl(2). The descriptor stays the caller's and must outlive the source. */
typedef void (*loop_fd_callback)(void *data, uint32_t events);
int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_callback callback, void *data,
                struct loop_source **ret_source, struct error **ret_error);
int loop_source_set_events(struct loop_source *source, uint32_t events);

/* A timer that is not armed. loop_timer_arm() replaces an earlier time; a negative delay disarms. */
typedef void (*loop_callback)(void *data);
int loop_add_timer(struct loop *loop, loop_callback callback, void *data, struct loop_source **ret_source,
                   struct error **ret_error);
void loop_timer_arm(struct loop_source *source, int64_t delay_ms);

/* Delivers the signals of `set` to the callback instead of a handler; the caller has blocked them in every
 * thread. */
typedef void (*loop_signal_callback)(void *data, int signal);
int loop_add_signals(struct loop *loop, const sigset_t *set, loop_signal_callback callback, void *data,
                     struct loop_source **ret_source, struct error **ret_error);

/* Ends a source; its callback does not run again. Allowed inside any callback, its own
 * too. NULL is allowed. */
void loop_source_free(struct loop_source *source);

/* Runs callback(data) on the loop's thread soon. Any thread. */
void loop_post(struct loop *loop, loop_callback callback, void *data);

#endif
