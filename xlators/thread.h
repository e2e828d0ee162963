/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* A translator's own thread, for its whole life: the process lives as long as the translator. */
#ifndef BLOCKD_XLATORS_THREAD_H
#define BLOCKD_XLATORS_THREAD_H

#include "xlators/abi.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

/* Signals are left to the threads of GlusterFS. A failure is in the translator's log. */
static inline void thread_start(xlator_t *this, void *(*run)(void *))
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int number = pthread_create(&thread, NULL, run, this);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (number)
        gf_log(this->name, GF_LOG_ERROR, "cannot start a thread: %s", strerror(number));
    else
        pthread_detach(thread);
}

#endif
