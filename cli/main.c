/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* gluster-block: the streams and signals of the process around one command. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "cli.h"

/*
 * A closed standard stream must not become the number of a socket, into which output would go. Opened for the
 * other direction, its use is an error as it was before.
 */
static void hold_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            _exit(STATUS_USAGE);
}

/* What was not written is a failure: a script must not take half of a reply for the whole. */
static int finish_output(FILE *stream, int status)
{
    errno = 0;
    bool failed = ferror(stream) != 0;
    if (fflush(stream) == 0 && !failed)
        return status;
    int number = errno ? errno : EIO;
    if (number != EPIPE)
        fprintf(stderr, "gluster-block: cannot write to standard output: %s\n", strerror(number));
    return status ? status : number;
}

int main(int argc, char **argv)
{
    hold_standard_streams();
    signal(SIGPIPE, SIG_IGN);
    interrupt_start();
    struct cli cli = {.out = stdout, .err = stderr, .terminal = isatty(STDERR_FILENO) == 1};
    int status = cli_run(&cli, argc, argv);
    cli_clear(&cli);
    return finish_output(stdout, status);
}
