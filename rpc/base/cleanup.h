/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Scope cleanup: a variable declared with one of these attributes is released when its scope ends, on every
 * path. Where ownership moves on, steal_ptr() or steal_fd() says so at the place where it happens.
 */
#ifndef BLOCKD_BASE_CLEANUP_H
#define BLOCKD_BASE_CLEANUP_H

#include <stdlib.h>
#include <stdio.h>
#include <unistd.h>
#include <dirent.h>
#include <pthread.h>

#define cleanup(function) __attribute__((cleanup(function)))

/* Defines NAME(T *p), usable with cleanup(), for a destructor that accepts NULL. */
#define DEFINE_CLEANUP(type, name, destructor)                                                               \
    static inline void name(type *variable)                                                                  \
    {                                                                                                        \
        destructor(*variable);                                                                               \
    }

static inline void cleanup_free(void *variable)
{
    free(*(void **)variable);
}

static inline void cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void cleanup_fclose(FILE **file)
{
    if (*file)
        fclose(*file);
}

static inline void cleanup_closedir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static inline void cleanup_unlock(pthread_mutex_t **mutex)
{
    if (*mutex)
        pthread_mutex_unlock(*mutex);
}

static inline pthread_mutex_t *lock_mutex(pthread_mutex_t *mutex)
{
    pthread_mutex_lock(mutex);
    return mutex;
}

/* Holds MUTEX until the end of the enclosing scope. */
#define SCOPED_LOCK_NAME2(line) scoped_lock_##line
#define SCOPED_LOCK_NAME(line)  SCOPED_LOCK_NAME2(line)
#define scoped_lock(mutex)                                                                                   \
    pthread_mutex_t *SCOPED_LOCK_NAME(__LINE__) cleanup(cleanup_unlock) __attribute__((unused)) =            \
        lock_mutex(mutex)

#define autofree     cleanup(cleanup_free)
#define autoclose    cleanup(cleanup_close)
#define autofclose   cleanup(cleanup_fclose)
#define autoclosedir cleanup(cleanup_closedir)

#define steal_ptr(pointer)                                                                                   \
    ({                                                                                                       \
        __auto_type stolen = *(pointer);                                                                     \
        *(pointer) = NULL;                                                                                   \
        stolen;                                                                                              \
    })

static inline int steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

#endif
