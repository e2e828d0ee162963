/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * In a brick: calls the roll of its clients, and keeps it in a file for blockd, which has to know when no
 * client uses an old set of bricks any more. The first line is the pid of the brick, then comes the identity
 * of each client on a line of its own: process, graph and host. All requests pass.
 */
#include "xlators/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#include <glusterfs/client_t.h>
#include <glusterfs/defaults.h>

#define CALL_EACH_MS 500

struct roll {
    char *path, *temporary;
    char *written; /* what the file holds; the thread's */
    bool started;
};

static char *call_roll(xlator_t *this)
{
    clienttable_t *table = this->ctx->clienttable;
    char *text = NULL;
    size_t size;
    FILE *memory = open_memstream(&text, &size);
    if (!memory)
        return NULL;
    fprintf(memory, "%d\n", (int)getpid());
    LOCK(&table->lock);
    for (unsigned i = 0; i < table->max_clients; i++) {
        const client_t *client = table->cliententries[i].client;
        if (table->cliententries[i].next_free == GF_CLIENTENTRY_ALLOCATED && client && client->client_uid)
            fprintf(memory, "%s\n", client->client_uid);
    }
    UNLOCK(&table->lock);
    if (fclose(memory) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* A reader sees the old roll or the new one. */
static bool keep(const struct roll *roll, const char *text)
{
    int fd = open(roll->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t length = strlen(text);
    bool good = fd >= 0 && write(fd, text, length) == (ssize_t)length;
    if (fd >= 0)
        close(fd);
    return good && rename(roll->temporary, roll->path) == 0;
}

/* For the life of the process. */
static void *run(void *data)
{
    xlator_t *this = data;
    struct roll *roll = this->private;
    const struct timespec pause = {.tv_nsec = CALL_EACH_MS * 1000000L};
    for (;; nanosleep(&pause, NULL)) {
        char *text = call_roll(this);
        if (text && (!roll->written || strcmp(text, roll->written) != 0) && keep(roll, text)) {
            free(roll->written);
            roll->written = text;
        } else {
            free(text);
        }
    }
    return NULL;
}

static int32_t roll_init(xlator_t *this)
{
    char *path = NULL;
    if (!this->children || this->children->next || dict_get_str(this->options, "file", &path) != 0) {
        gf_log(this->name, GF_LOG_ERROR, "needs one translator below, and the option file");
        return -1;
    }
    struct roll *roll = calloc(1, sizeof *roll);
    if (!roll || !(roll->path = strdup(path)) || asprintf(&roll->temporary, "%s.tmp", path) < 0)
        return -1;
    this->private = roll;
    return 0;
}

static void roll_fini(xlator_t *this)
{
    (void)this;
}

static int32_t roll_notify(xlator_t *this, int32_t event, void *data, ...)
{
    struct roll *roll = this->private;
    if (event == GF_EVENT_PARENT_UP && !roll->started) { /* the graph is in force now */
        roll->started = true;
        thread_start(this, run);
    }
    return default_notify(this, event, data);
}

static struct xlator_fops roll_fops;
static struct xlator_cbks roll_cbks;
static struct volume_options roll_options[] = {
    {.key = {"file"}, .type = GF_OPTION_TYPE_PATH, .description = "where the roll is kept"}, {.key = {NULL}}};

xlator_api_t xlator_api = {
    .init = roll_init,
    .fini = roll_fini,
    .notify = roll_notify,
    .op_version = {1},
    .fops = &roll_fops,
    .cbks = &roll_cbks,
    .options = roll_options,
    .identifier = "roll",
    .category = GF_EXPERIMENTAL,
};
