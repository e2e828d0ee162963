/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Programs are run by argv, never by a shell. posix_spawn(3) is used throughout: it runs no atfork handler,
 * so it is safe in a process that holds libgfapi threads. argv[0] is looked up in PATH unless it has a slash.
 * Any thread.
 */
#ifndef BLOCKD_BASE_SPAWN_H
#define BLOCKD_BASE_SPAWN_H

#include <sys/types.h>

#include "error.h"
#include <stdbool.h>

#include "strings.h"

/*
 * Runs a program to its end, standard input empty. Its output (both streams) goes to ret_output when given,
 * cut at 1 MiB. Fails with -ENOENT when there is no such program, -ETIMEDOUT when timeout_ms passed (the
 * program is killed), and -EIO for an exit status that is not 0; the message then carries the last line that
 * the program printed, and ret_status (may be NULL) the exit status.
 */
int program_run(const char *const argv[], int timeout_ms, struct strbuf *ret_output, int *ret_status,
                struct error **ret_error);

/*
 * Starts a program that outlives the caller: a session of its own, standard input empty, both outputs
 * appended to log_path (NULL: inherited standard error). The caller reaps it, or its death is seen through
 * pidfd_open(2).
 */
int program_start(const char *const argv[], const char *log_path, pid_t *ret_pid, struct error **ret_error);

#endif
