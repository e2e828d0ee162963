/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * In a brick: applies the options of its volfile when that is replaced. glusterfsd reads a volfile from a
 * server or from a file, and one from a file only once; but a brick must come up when no server is there. All
 * requests pass. Translators that come or go wait for the next start of the process. What is in force is told
 * in a file, "PID HASH RESULT", so that blockd can wait for it.
 */
#include "xlators/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <sys/inotify.h>

#include <glusterfs/defaults.h>
#include <glusterfs/graph-utils.h>

#define TEXT_MAX (64u << 20)

struct reload {
    int inotify;
    char *name;             /* of the file in its folder; NULL: there is nothing to watch */
    char *told, *temporary; /* what is in force; NULL: nobody wants to know */
    bool started;
};

/* The whole file and its length; NULL with errno. */
static char *read_text(const char *path, size_t *ret_length)
{
    char *text = NULL, *more;
    size_t length = 0, count = 1;
    FILE *file = fopen(path, "re");
    while (file && count && length < TEXT_MAX && (more = realloc(text, length + BUFSIZ + 1))) {
        text = more;
        count = fread(text + length, 1, BUFSIZ, file);
        length += count;
    }
    bool whole = file && text && !count && !ferror(file);
    if (file)
        fclose(file);
    if (!whole) {
        free(text);
        return NULL;
    }
    text[length] = '\0';
    *ret_length = length;
    return text;
}

/* FNV-1a, by which blockd knows the text. */
static unsigned long long hash_of(const char *text)
{
    unsigned long long hash = 0xcbf29ce484222325u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return hash;
}

static void tell(const xlator_t *this, const char *text, int result)
{
    const struct reload *reload = this->private;
    int fd = reload->told ? open(reload->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    bool good = dprintf(fd, "%d %016llx %d\n", (int)getpid(), hash_of(text), result) > 0;
    close(fd);
    if (!good || rename(reload->temporary, reload->told) < 0)
        gf_log(this->name, GF_LOG_WARNING, "cannot write %s: %s", reload->told, strerror(errno));
}

static void apply(xlator_t *this)
{
    glusterfs_ctx_t *context = this->ctx;
    const char *path = context->cmd_args.volfile;
    size_t length = 0;
    char *text = read_text(path, &length);
    FILE *file = text && length ? fmemopen(text, length, "r") : NULL;
    if (!file) {
        gf_log(this->name, GF_LOG_WARNING, "cannot read %s: %s", path, strerror(errno));
        free(text);
        return;
    }
    /* As glusterfsd itself does with what a server sends. */
    LOCK(&context->volfile_lock);
    int r = glusterfs_volfile_reconfigure(file, context);
    UNLOCK(&context->volfile_lock);
    fclose(file);
    tell(this, text, r);
    free(text);
    if (r == 0)
        gf_log(this->name, GF_LOG_INFO, "the options in %s are in force", path);
    else if (r > 0)
        gf_log(this->name, GF_LOG_WARNING, "%s has other translators: they wait for the next start", path);
    else
        gf_log(this->name, GF_LOG_ERROR, "%s cannot be applied; the options stay as they were", path);
}

static bool names(const struct inotify_event *event, const char *name)
{
    return event->mask & IN_Q_OVERFLOW || (event->len && strcmp(event->name, name) == 0);
}

/* Whether the file was replaced; waits for something to happen. */
static bool wait_for_change(const struct reload *reload)
{
    _Alignas(struct inotify_event) char buffer[4096];
    struct pollfd ready = {.fd = reload->inotify, .events = POLLIN};
    bool changed = false;
    poll(&ready, 1, -1);
    ssize_t count = read(reload->inotify, buffer, sizeof buffer);
    for (char *next = buffer; count > 0 && next < buffer + count;) {
        const struct inotify_event *event = (const struct inotify_event *)next;
        changed |= names(event, reload->name);
        next += sizeof *event + event->len;
    }
    return changed;
}

static void *run(void *data)
{
    xlator_t *this = data;
    apply(this); /* it may have been replaced between its reading and the watch */
    for (;;)
        if (wait_for_change(this->private))
            apply(this);
    return NULL;
}

static int watch_file(struct reload *reload, const char *path)
{
    char *folder = strdup(path), *name = strdup(path);
    int watch = -1;
    reload->inotify = inotify_init1(IN_CLOEXEC);
    if (folder && name && reload->inotify >= 0) {
        watch = inotify_add_watch(reload->inotify, dirname(folder), IN_MOVED_TO | IN_CLOSE_WRITE);
        reload->name = strdup(basename(name));
    }
    free(folder);
    free(name);
    return watch < 0 || !reload->name ? -1 : 0;
}

static int32_t reload_init(xlator_t *this)
{
    if (!this->children || this->children->next) {
        gf_log(this->name, GF_LOG_ERROR, "needs one translator below");
        return -1;
    }
    struct reload *reload = calloc(1, sizeof *reload);
    if (!reload)
        return -1;
    const char *path = this->ctx->cmd_args.volfile;
    char *told = NULL;
    if (dict_get_str(this->options, "applied", &told) == 0 &&
        (!(reload->told = strdup(told)) || asprintf(&reload->temporary, "%s.tmp", told) < 0))
        return -1;
    if (path && watch_file(reload, path) < 0) /* the brick serves all the same */
        gf_log(this->name, GF_LOG_WARNING, "cannot watch %s: %s", path, strerror(errno));
    this->private = reload;
    return 0;
}

static void reload_fini(xlator_t *this)
{
    (void)this;
}

static int32_t reload_notify(xlator_t *this, int32_t event, void *data, ...)
{
    struct reload *reload = this->private;
    if (event == GF_EVENT_PARENT_UP && reload->name && !reload->started) { /* the graph is in force now */
        reload->started = true;
        thread_start(this, run);
    }
    return default_notify(this, event, data);
}

static struct xlator_fops reload_fops;
static struct xlator_cbks reload_cbks;
static struct volume_options reload_options[] = {{.key = {"applied"},
                                                  .type = GF_OPTION_TYPE_PATH,
                                                  .description = "where it is told which file is in force"},
                                                 {.key = {NULL}}};

xlator_api_t xlator_api = {
    .init = reload_init,
    .fini = reload_fini,
    .notify = reload_notify,
    .op_version = {1},
    .fops = &reload_fops,
    .cbks = &reload_cbks,
    .options = reload_options,
    .identifier = "reload",
    .category = GF_EXPERIMENTAL,
};
