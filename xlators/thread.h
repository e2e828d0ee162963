/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Threads of a translator. */
#ifndef BLOCKD_XLATORS_THREAD_H
#define BLOCKD_XLATORS_THREAD_H

#include "xlators/abi.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

/* 0 or an errno. Signals are left to the threads of GlusterFS. */
static inline int thread_create(pthread_t *ret_thread, void *(*run)(void *), void *data)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int number = pthread_create(ret_thread, NULL, run, data);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return number;
}

/* One for the translator's whole life, which is as long as the process's. A failure is in its log. */
static inline void thread_start(xlator_t *this, void *(*run)(void *))
{
    pthread_t thread;
    int number = thread_create(&thread, run, this);
    if (number)
        gf_log(this->name, GF_LOG_ERROR, "cannot start a thread: %s", strerror(number));
    else
        pthread_detach(thread);
}

#endif
