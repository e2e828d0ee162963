/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "fault.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *armed; /* NULL when no fault is asked for */
static size_t armed_length;
static atomic_long remaining;

static void arm(void)
{
    const char *value = getenv("BLOCKD_FAULT");
    if (!value || !*value)
        return;
    const char *colon = strchr(value, ':');
    armed_length = colon ? (size_t)(colon - value) : strlen(value);
    atomic_store(&remaining, colon ? strtol(colon + 1, NULL, 10) : 1);
    armed = value;
}

void fault_point(const char *name)
{
    pthread_once(&once, arm);
    if (!armed || strncmp(armed, name, armed_length) != 0 || name[armed_length])
        return;
    if (atomic_fetch_sub(&remaining, 1) == 1)
        kill(getpid(), SIGKILL);
}
