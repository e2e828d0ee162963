/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "alloc.h"
#include "clock.h"

#define OUTPUT_LIMIT (1u << 20)

extern char **environ;

/*
 * Children start with no blocked and no ignored signals, whatever this process has arranged for itself, and
 * with nothing open but the three standard descriptors: not every library marks its own to be closed.
 */
static int spawn(const char *const argv[], posix_spawn_file_actions_t *actions, bool session, pid_t *ret_pid,
                 struct error **ret_error)
{
    posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    sigdelset(&all, SIGKILL);
    sigdelset(&all, SIGSTOP);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, (short)(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                  (session ? POSIX_SPAWN_SETSID : 0)));
    int number = posix_spawnp(ret_pid, argv[0], actions, &attributes, (char *const *)argv, environ);
    posix_spawnattr_destroy(&attributes);
    if (number)
        return error_set(ret_error, number, "cannot run %s: %s", argv[0], strerror(number));
    return 0;
}

static const char *last_line(struct strbuf *output)
{
    while (output->length && output->data[output->length - 1] == '\n')
        output->data[--output->length] = '\0';
    const char *text = strbuf_string(output);
    const char *newline = strrchr(text, '\n');
    return newline ? newline + 1 : text;
}

/* Adds what can be read now; false at the end of the stream. */
static bool take(int fd, struct strbuf *output)
{
    char chunk[4096];
    ssize_t got = read(fd, chunk, sizeof chunk);
    if (got > 0 && output->length < OUTPUT_LIMIT)
        strbuf_add(output, chunk, (size_t)got);
    return got > 0 || (got < 0 && errno == EINTR);
}

/*
 * Collects output until the program ends; false when the deadline passed. A child that it leaves behind may
 * hold the pipe open and go on writing to it: what the program itself wrote is in the pipe when it ends.
 */
static bool collect(int fd, int program, int64_t deadline, struct strbuf *output)
{
    struct pollfd ready[] = {{.fd = fd, .events = POLLIN}, {.fd = program, .events = POLLIN}};
    size_t rest = OUTPUT_LIMIT / 4096;
    for (;;) {
        int64_t left = deadline - clock_monotonic_ms();
        if (left <= 0)
            return false;
        if (poll(ready, 2, (int)left) <= 0)
            continue;
        if (ready[0].revents && !take(fd, output))
            ready[0].fd = -1; /* poll(2) passes it over */
        if (ready[1].revents && (!ready[0].revents || rest-- == 0))
            return true;
    }
}

static int watch_program(pid_t pid, int fd, int64_t deadline, struct strbuf *output)
{
    autoclose int program = pidfd_open(pid, 0);
    if (program < 0)
        return -errno;
    return collect(fd, program, deadline, output) ? 0 : -ETIMEDOUT;
}

int program_run(const char *const argv[], int timeout_ms, struct strbuf *ret_output, int *ret_status,
                struct error **ret_error)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return error_set(ret_error, errno, "cannot make a pipe: %s", strerror(errno));
    autoclose int read_end = pipe_fds[0];
    autoclose int write_end = pipe_fds[1];

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, write_end, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, write_end, STDERR_FILENO);
    pid_t pid;
    int r = spawn(argv, &actions, false, &pid, ret_error);
    posix_spawn_file_actions_destroy(&actions);
    if (r < 0)
        return r;
    close(steal_fd(&write_end));

    autostrbuf struct strbuf output = {0};
    int64_t deadline = clock_monotonic_ms() + timeout_ms;
    int status = 0;
    r = watch_program(pid, read_end, deadline, &output);
    if (r < 0)
        kill(pid, SIGKILL);
    pid_t reaped;
    while ((reaped = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
        continue;
    if (r == 0 && reaped < 0)
        r = -errno; /* how it ended is not known, so it did not succeed */
    if (r == -ETIMEDOUT)
        return error_set(ret_error, ETIMEDOUT, "%s did not end within %d ms", argv[0], timeout_ms);
    if (r < 0)
        return error_set(ret_error, -r, "cannot watch %s: %s", argv[0], strerror(-r));

    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (ret_status)
        *ret_status = code;
    if (code)
        error_set(ret_error, EIO, "%s failed with status %d: %s", argv[0], code, last_line(&output));
    if (ret_output) {
        *ret_output = output;
        output = (struct strbuf){0};
    }
    return code ? -EIO : 0;
}

int program_start(const char *const argv[], const char *log_path, pid_t *ret_pid, struct error **ret_error)
{
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (log_path) {
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log_path, O_WRONLY | O_CREAT | O_APPEND,
                                         0640);
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    } else {
        posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    }
    int r = spawn(argv, &actions, true, ret_pid, ret_error);
    posix_spawn_file_actions_destroy(&actions);
    return r;
}
