/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "xlators/volserver/changes.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "xlators/volserver/specs.h"

#define TICK_MS 1000

struct changes {
    char *folder;
    struct changes_calls calls;
    int inotify, wake;
    int watch; /* -1: the folder is not there now */
    atomic_bool stopping;
    pthread_t thread;
};

static void changes_free(struct changes *changes)
{
    if (changes->inotify >= 0)
        close(changes->inotify);
    if (changes->wake >= 0)
        close(changes->wake);
    free(changes->folder);
    free(changes);
}

static void watch(struct changes *changes)
{
    changes->watch =
        inotify_add_watch(changes->inotify, changes->folder, IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR);
}

static void tell(struct changes *changes, const struct inotify_event *event)
{
    char name[SPEC_NAME_MAX + sizeof SPEC_SUFFIX];
    if (event->mask & (IN_Q_OVERFLOW | IN_IGNORED)) {
        changes->watch = event->mask & IN_IGNORED ? -1 : changes->watch;
        changes->calls.changed(changes->calls.data, NULL);
        return;
    }
    size_t length = event->len ? strlen(event->name) : 0, suffix = strlen(SPEC_SUFFIX);
    if (length <= suffix || length >= sizeof name || strcmp(event->name + length - suffix, SPEC_SUFFIX) != 0)
        return;
    memcpy(name, event->name, length - suffix);
    name[length - suffix] = '\0';
    changes->calls.changed(changes->calls.data, name);
}

static void read_events(struct changes *changes)
{
    _Alignas(struct inotify_event) char buffer[8192];
    for (;;) {
        ssize_t count = read(changes->inotify, buffer, sizeof buffer);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return;
        for (char *next = buffer; next < buffer + count;) {
            const struct inotify_event *event = (const struct inotify_event *)next;
            tell(changes, event);
            next += sizeof *event + event->len;
        }
    }
}

static void *run(void *data)
{
    struct changes *changes = data;
    struct pollfd fds[] = {{.fd = changes->inotify, .events = POLLIN},
                           {.fd = changes->wake, .events = POLLIN}};
    while (!atomic_load(&changes->stopping)) {
        poll(fds, 2, TICK_MS);
        uint64_t count;
        while (read(changes->wake, &count, sizeof count) > 0)
            ;
        read_events(changes);
        if (changes->watch < 0) {
            watch(changes);
            if (changes->watch >= 0) /* what happened in between is not known */
                changes->calls.changed(changes->calls.data, NULL);
        }
        changes->calls.tick(changes->calls.data);
    }
    return NULL;
}

int changes_start(const char *folder, const struct changes_calls *calls, struct changes **ret_changes)
{
    struct changes *changes = calloc(1, sizeof *changes);
    if (!changes)
        return -ENOMEM;
    changes->calls = *calls;
    changes->folder = strdup(folder);
    changes->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    changes->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = changes->inotify < 0 || changes->wake < 0 || !changes->folder ? -errno : 0;
    if (r == 0) {
        watch(changes);
        r = changes->watch < 0 ? -errno : 0;
    }
    if (r == 0) {
        sigset_t all, before; /* signals belong to glusterfsd's own thread for them */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        r = -pthread_create(&changes->thread, NULL, run, changes);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (r < 0) {
        changes_free(changes);
        return r;
    }
    *ret_changes = changes;
    return 0;
}

void changes_wake(struct changes *changes)
{
    const uint64_t one = 1;
    while (write(changes->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void changes_stop(struct changes *changes)
{
    if (!changes)
        return;
    atomic_store(&changes->stopping, true);
    changes_wake(changes);
    pthread_join(changes->thread, NULL);
    changes_free(changes);
}
