/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Connections of this daemon to hosting volumes: one a volume, made when it is first needed, shared by all
 * calls. */
#include <errno.h>
#include <string.h>

#include "blockd/core/core_priv.h"
#include "rpc/base/alloc.h"

struct connection {
    char *name;
    struct image_volume *volume; /* NULL while `connecting` */
    unsigned users;
    bool connecting;
    bool dropped; /* no new users; closed by the last one */
    struct connection *next;
};

struct hosting {
    struct core *core;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    struct connection *connections;
};

struct hosting *hosting_new(struct core *core)
{
    struct hosting *hosting = xcalloc(1, sizeof *hosting);
    hosting->core = core;
    pthread_mutex_init(&hosting->mutex, NULL);
    pthread_cond_init(&hosting->changed, NULL);
    return hosting;
}

/* With the lock held. */
static struct connection *find(struct hosting *hosting, const char *name)
{
    for (struct connection *connection = hosting->connections; connection; connection = connection->next)
        if (!connection->dropped && strcmp(connection->name, name) == 0)
            return connection;
    return NULL;
}

/* With the lock held. Takes the entry out of the list and frees it; the volume is the caller's to close. */
static struct image_volume *remove_entry(struct hosting *hosting, struct connection *gone)
{
    struct connection **link = &hosting->connections;
    while (*link != gone)
        link = &(*link)->next;
    *link = gone->next;
    struct image_volume *volume = gone->volume;
    free(gone->name);
    free(gone);
    return volume;
}

int hosting_get(struct hosting *hosting, const char *name, struct image_volume **ret_volume,
                struct error **ret_error)
{
    struct connection *connection;
    {
        scoped_lock(&hosting->mutex);
        while ((connection = find(hosting, name)) && connection->connecting)
            pthread_cond_wait(&hosting->changed, &hosting->mutex);
        if (connection) {
            connection->users++;
            *ret_volume = connection->volume;
            return 0;
        }
        connection = xcalloc(1, sizeof *connection);
        connection->name = xstrdup(name);
        connection->connecting = true;
        connection->next = hosting->connections;
        hosting->connections = connection;
    }

    autofree char *volfile = engine_client_volfile(hosting->core->engine, name);
    autofree char *log = xasprintf("%s/client-%s.log", hosting->core->config->log_dir, name);
    struct image_volume *volume = NULL;
    int r = image_volume_open(name, volfile, log, &volume, ret_error);

    scoped_lock(&hosting->mutex);
    connection->connecting = false;
    if (r < 0) {
        remove_entry(hosting, connection);
    } else {
        connection->volume = volume;
        connection->users = 1;
        *ret_volume = volume;
    }
    pthread_cond_broadcast(&hosting->changed);
    return r;
}

static void *close_volume(void *data)
{
    image_volume_close(data);
    return NULL;
}

/*
 * libgfapi ends a connection only when a timer of ten seconds of its own has fired, so nobody waits for it.
 * NULL is allowed.
 */
static void close_aside(struct image_volume *volume)
{
    pthread_t thread;
    if (!volume)
        return;
    if (pthread_create(&thread, NULL, close_volume, volume) == 0)
        pthread_detach(thread);
    else
        image_volume_close(volume);
}

void hosting_put(struct hosting *hosting, struct image_volume *volume)
{
    if (!volume)
        return;
    struct image_volume *last = NULL;
    {
        scoped_lock(&hosting->mutex);
        struct connection *connection = hosting->connections;
        while (connection->volume != volume)
            connection = connection->next;
        if (--connection->users == 0 && connection->dropped)
            last = remove_entry(hosting, connection);
    }
    close_aside(last);
}

static void drop(struct hosting *hosting, const char *name, bool stale_only)
{
    struct image_volume *idle = NULL;
    {
        scoped_lock(&hosting->mutex);
        struct connection *connection;
        while ((connection = find(hosting, name)) && connection->connecting)
            pthread_cond_wait(&hosting->changed, &hosting->mutex);
        if (!connection || (stale_only && image_volume_live(connection->volume)))
            return;
        connection->dropped = true;
        if (!connection->users)
            idle = remove_entry(hosting, connection);
    }
    close_aside(idle);
}

void hosting_drop(struct hosting *hosting, const char *name)
{
    drop(hosting, name, false);
}

/* libgfapi takes the new set of bricks into use with its next request. */
static void poke(struct hosting *hosting, const char *name)
{
    struct image_volume *volume = NULL;
    {
        scoped_lock(&hosting->mutex);
        struct connection *connection = find(hosting, name);
        if (!connection || connection->connecting)
            return;
        connection->users++;
        volume = connection->volume;
    }
    struct image_space space;
    image_space(volume, &space, NULL);
    hosting_put(hosting, volume);
}

void hosting_refresh(struct hosting *hosting, const char *name)
{
    drop(hosting, name, true);
    poke(hosting, name);
}

void hosting_free(struct hosting *hosting)
{
    if (!hosting)
        return;
    while (hosting->connections) /* left to the end of the process, see close_aside() */
        remove_entry(hosting, hosting->connections);
    pthread_cond_destroy(&hosting->changed);
    pthread_mutex_destroy(&hosting->mutex);
    free(hosting);
}
