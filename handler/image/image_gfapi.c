/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Images as files of a GlusterFS volume, by libgfapi: volumes, files, what is open. Each glfs_t has threads
 * of its own (event, timer, synctask), which is why a process keeps one a hosting volume.
 *
 * When a brick goes away, replicate notes on the others that it is behind. It does so before it answers a
 * change that failed on that brick; but a change that began afterwards it answers first, and makes the note
 * when the lock is given up, which under steady writes may be never. A brick that comes back before the note
 * is made passes for a good one and is read from. So each image has a gate (gate.h), which the translator
 * below replicate disturbs whenever a brick comes or goes (xlators/watch).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "handler/image/gfapi_priv.h"
#include "handler/image/live.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "xlators/watch/watch.h"

/* GF_LOG_WARNING: glfs.h has no name for the levels. */
#define ENGINE_LOG_LEVEL 5
#define VOLFILE_LIMIT    (1u << 20)
#define FOLDER_MODE      0700
#define FILE_MODE        0600

static void cleanup_glfs(glfs_t **fs)
{
    if (*fs)
        glfs_fini(*fs);
}

static void cleanup_glfs_fd(glfs_fd_t **fd)
{
    if (*fd)
        glfs_close(*fd);
}

/* ---- Bricks that come and go ---- */

static pthread_mutex_t volumes_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct gfapi_volume *first_volume;

/* The volume's name comes before "-watch-NUMBER". */
static bool watches(const char *translator, const char *volume)
{
    const char *mark = strstr(translator, "-watch-");
    for (const char *next = mark; next; next = strstr(next + 1, "-watch-"))
        mark = next;
    return mark && strlen(volume) == (size_t)(mark - translator) &&
           strncmp(translator, volume, strlen(volume)) == 0;
}

void blockd_brick_event(const char *translator)
{
    scoped_lock(&volumes_mutex);
    for (struct gfapi_volume *volume = first_volume; volume; volume = volume->next)
        if (watches(translator, volume->name))
            for (struct gfapi_image *image = volume->first; image; image = image->next)
                gate_disturb(&image->gate);
}

/*
 * Makes replicate end its transactions on the file: it does so for a flush, and a flush is what the close of
 * a descriptor sends. Replicate puts the last change aside only after it has answered it; by the second time
 * it has. The sync makes the notes durable, and fails when a quorum has been lost meanwhile, and the notes
 * with it.
 */
static int settle(void *data)
{
    struct gfapi_image *image = data;
    for (int i = 0; i < 2; i++) {
        glfs_fd_t *copy = glfs_dup(image->fd);
        if (!copy)
            return -gfapi_failure();
        glfs_close(copy);
    }
    errno = 0;
    return glfs_fdatasync(image->fd, NULL, NULL) < 0 ? -gfapi_failure() : 0;
}

/* ---- Volumes ---- */

/* A volfile that cannot be parsed fails only after glfs_init() has started threads, which glfs_fini() then
 * does not end. */
static int check_volfile(const char *name, const char *volfile, struct live_volfile *ret_live,
                         struct error **ret_error)
{
    autofree char *text = NULL;
    int r = file_read(volfile, VOLFILE_LIMIT, &text, NULL, ret_error);
    if (r < 0) {
        error_prefix(ret_error, "volume %s", name);
        return r;
    }
    if (!strstr(text, "volume ") || !strstr(text, "end-volume"))
        return error_set(ret_error, EINVAL, "volume %s: %s is no volfile", name, volfile);
    live_volfile_parse(text, ret_live);
    return 0;
}

/* From the volfile server when that answers, so that changes arrive; else from the file. */
static int make_client(const char *name, const char *volfile, const char *log_path, bool live,
                       const struct live_volfile *server, glfs_t **ret_fs, struct error **ret_error)
{
    errno = 0;
    cleanup(cleanup_glfs) glfs_t *fs = glfs_new(live ? server->key : name);
    if (!fs)
        return error_set(ret_error, gfapi_failure(), "volume %s: cannot make a client: %s", name,
                         strerror(gfapi_failure()));
    if (live ? glfs_set_volfile_server(fs, "unix", server->socket, 0) < 0 : glfs_set_volfile(fs, volfile) < 0)
        return error_set(ret_error, ENOMEM, "volume %s: cannot set the volfile %s", name, volfile);
    if (glfs_set_logging(fs, log_path, ENGINE_LOG_LEVEL) < 0)
        return error_set(ret_error, EIO, "volume %s: cannot log to %s", name, log_path);
    *ret_fs = steal_ptr(&fs);
    return 0;
}

static int volume_open(const char *name, const char *volfile, const char *log_path,
                       struct image_volume **ret_volume, struct error **ret_error)
{
    cleanup(live_volfile_clear) struct live_volfile server = {0};
    cleanup(cleanup_glfs) glfs_t *fs = NULL;
    int r = check_volfile(name, volfile, &server, ret_error);
    if (r < 0)
        return r;
    bool live = live_volfile_served(&server);
    r = make_client(name, volfile, log_path, live, &server, &fs, ret_error);
    if (r < 0)
        return r;

    struct stat root;
    errno = 0;
    if (glfs_init(fs) < 0 || glfs_stat(fs, "/", &root) < 0) {
        /* Which errno comes of bricks that do not answer depends on their number. */
        int number = errno == ENOMEM ? ENOMEM : ENOTCONN;
        return error_set(ret_error, number, "volume %s: cannot connect to a quorum of its bricks: look at %s",
                         name, log_path);
    }

    struct gfapi_volume *volume = xcalloc(1, sizeof *volume);
    volume->base.driver = &image_driver_gfapi;
    volume->fs = steal_ptr(&fs);
    volume->name = xstrdup(name);
    volume->live = live;
    scoped_lock(&volumes_mutex);
    volume->next = first_volume;
    volume->link = &first_volume;
    if (volume->next)
        volume->next->link = &volume->next;
    first_volume = volume;
    *ret_volume = &volume->base;
    return 0;
}

static bool volume_live(struct image_volume *volume)
{
    return gfapi_volume(volume)->live;
}

static void *finish_volume(void *data)
{
    glfs_fini(data);
    return NULL;
}

/*
 * glfs_fini() of GlusterFS 10.3 waits for the timer of each brick's connection, up to ten seconds: it marks
 * its context as ending before it cancels them, which then has no effect. Nobody should wait for that.
 */
static void volume_close(struct image_volume *base)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    {
        scoped_lock(&volumes_mutex);
        *volume->link = volume->next;
        if (volume->next)
            volume->next->link = volume->link;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, finish_volume, volume->fs) == 0)
        pthread_detach(thread);
    else
        glfs_fini(volume->fs);
    free(volume->name);
    free(volume);
}

int gfapi_file_error(struct gfapi_volume *volume, const char *what, const char *file, int number,
                     struct error **ret_error)
{
    return error_set(ret_error, number, "volume %s: cannot %s %s: %s", volume->name, what, file,
                     strerror(number));
}

static int make_folders(struct gfapi_volume *volume, const char *file, struct error **ret_error)
{
    autofree char *path = xstrdup(file);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (glfs_mkdir(volume->fs, path, FOLDER_MODE) < 0 && errno != EEXIST)
            return gfapi_file_error(volume, "create the folder", path, gfapi_failure(), ret_error);
        *slash = '/';
    }
    return 0;
}

static int create_file(struct image_volume *base, const char *file, uint64_t size, struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    struct stat status;
    cleanup(cleanup_glfs_fd) glfs_fd_t *fd = glfs_creat(volume->fs, file, O_RDWR | O_CLOEXEC, FILE_MODE);
    /* The folder is there but for the first time, and replicate asks much of all bricks to say so. */
    if (!fd && errno == ENOENT) {
        int r = make_folders(volume, file, ret_error);
        if (r < 0)
            return r;
        fd = glfs_creat(volume->fs, file, O_RDWR | O_CLOEXEC, FILE_MODE);
    }
    if (!fd || glfs_fstat(fd, &status) < 0)
        return gfapi_file_error(volume, "create", file, gfapi_failure(), ret_error);
    if ((uint64_t)status.st_size == size)
        return 0;
    /* Empty is what a crash between the two steps leaves. */
    if (status.st_size != 0)
        return error_set(ret_error, EEXIST, "volume %s: %s exists with %lld bytes, not %llu", volume->name,
                         file, (long long)status.st_size, (unsigned long long)size);
    if (glfs_ftruncate(fd, (off_t)size, NULL, NULL) < 0 || glfs_fsync(fd, NULL, NULL) < 0)
        return gfapi_file_error(volume, "set the size of", file, gfapi_failure(), ret_error);
    return 0;
}

static int truncate_file(struct image_volume *base, const char *file, uint64_t size, struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    cleanup(cleanup_glfs_fd) glfs_fd_t *fd = glfs_open(volume->fs, file, O_RDWR | O_CLOEXEC);
    if (!fd)
        return gfapi_file_error(volume, "open", file, gfapi_failure(), ret_error);
    if (glfs_ftruncate(fd, (off_t)size, NULL, NULL) < 0 || glfs_fsync(fd, NULL, NULL) < 0)
        return gfapi_file_error(volume, "set the size of", file, gfapi_failure(), ret_error);
    return 0;
}

static int allocate_range(struct image_volume *base, const char *file, uint64_t offset, uint64_t length,
                          struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    cleanup(cleanup_glfs_fd) glfs_fd_t *fd = glfs_open(volume->fs, file, O_RDWR | O_CLOEXEC);
    if (!fd)
        return gfapi_file_error(volume, "open", file, gfapi_failure(), ret_error);
    if (glfs_fallocate(fd, 1, (off_t)offset, length) < 0)
        return gfapi_file_error(volume, "allocate space for", file, gfapi_failure(), ret_error);
    return 0;
}

static int unlink_file(struct image_volume *base, const char *file, struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    if (glfs_unlink(volume->fs, file) < 0 && errno != ENOENT)
        return gfapi_file_error(volume, "remove", file, gfapi_failure(), ret_error);
    return 0;
}

static int stat_file(struct image_volume *base, const char *file, struct image_stat *ret_stat,
                     struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    struct stat status;
    if (glfs_stat(volume->fs, file, &status) < 0)
        return gfapi_file_error(volume, "stat", file, gfapi_failure(), ret_error);
    ret_stat->size = (uint64_t)status.st_size;
    ret_stat->used = (uint64_t)status.st_blocks * 512;
    return 0;
}

static int volume_space(struct image_volume *base, struct image_space *ret_space, struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    struct statvfs status;
    if (glfs_statvfs(volume->fs, "/", &status) < 0)
        return gfapi_file_error(volume, "see the space of", "/", gfapi_failure(), ret_error);
    uint64_t unit = status.f_frsize ? status.f_frsize : status.f_bsize;
    ret_space->size = status.f_blocks * unit;
    ret_space->free = status.f_bavail * unit;
    return 0;
}

/* ---- Open images ---- */

static int open_file(struct image_volume *base, const char *file, bool read_only, struct image **ret_image,
                     struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    glfs_fd_t *fd = glfs_open(volume->fs, file, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (!fd)
        return gfapi_file_error(volume, "open", file, gfapi_failure(), ret_error);

    struct gfapi_image *image = xcalloc(1, sizeof *image);
    image->base.driver = &image_driver_gfapi;
    image->fd = fd;
    image->name = xasprintf("%s %s", volume->name, file);
    image->volume = volume;
    gate_init(&image->gate, settle, image);
    gate_disturb(&image->gate); /* a brick may be away already */
    scoped_lock(&volumes_mutex);
    image->next = volume->first;
    image->link = &volume->first;
    if (image->next)
        image->next->link = &image->next;
    volume->first = image;
    *ret_image = &image->base;
    return 0;
}

static void close_file(struct image *base)
{
    struct gfapi_image *image = gfapi_image(base);
    {
        scoped_lock(&volumes_mutex);
        *image->link = image->next;
        if (image->next)
            image->next->link = image->link;
    }
    gate_finish(&image->gate);
    glfs_close(image->fd);
    free(image->name);
    free(image);
}

const struct image_driver image_driver_gfapi = {
    .name = "gfapi",
    .files = &image_files_gfapi,
    .volume_open = volume_open,
    .volume_live = volume_live,
    .volume_close = volume_close,
    .create = create_file,
    .truncate = truncate_file,
    .allocate = allocate_range,
    .remove = unlink_file,
    .stat = stat_file,
    .space = volume_space,
    .open = open_file,
    .close = close_file,
    .extents = gfapi_extents,
    .read = gfapi_read,
    .write = gfapi_write,
    .flush = gfapi_flush,
    .discard = gfapi_discard,
    .zero = gfapi_zero,
};
