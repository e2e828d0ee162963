/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * SIGINT and SIGTERM are taken by a thread with sigwait(3), so that what it says is not limited to what a
 * signal handler may call. The process then ends by the same signal, which is what a shell looks for.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "cli.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char goes_on[512]; /* guarded by the mutex; "": nothing */

void interrupt_says(const char *text)
{
    scoped_lock(&mutex);
    snprintf(goes_on, sizeof goes_on, "%s", text ? text : "");
}

static void *wait_for_signal(void *data)
{
    sigset_t *set = data;
    int number;
    if (sigwait(set, &number) != 0)
        return NULL;

    {
        scoped_lock(&mutex);
        if (*goes_on)
            dprintf(STDERR_FILENO, "\ngluster-block: interrupted; %s\n", goes_on);
    }
    signal(number, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, set, NULL);
    raise(number);
    return NULL;
}

/* A shell starts background jobs with SIGINT ignored: that must stay so, and a blocked
 * signal is not ignored. */
static void add_unless_ignored(sigset_t *set, int number)
{
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
        sigaddset(set, number);
}

void interrupt_start(void)
{
    static sigset_t set;
    sigemptyset(&set);
    add_unless_ignored(&set, SIGINT);
    add_unless_ignored(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_signal, &set) == 0)
        pthread_detach(thread);
    else
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
