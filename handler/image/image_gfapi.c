/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Images as files of a GlusterFS volume, by libgfapi. Each glfs_t has threads of its own (event, timer,
 * synctask), which is why a process keeps one a hosting volume.
 *
 * A flush is fdatasync() and a write with FUA carries O_DSYNC: replicate runs both as transactions that fail
 * unless a quorum of bricks did them, and each brick answers after its own fsync.
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

#include "handler/image/gate.h"
#include "handler/image/gfapi_priv.h"
#include "handler/image/live.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "xlators/watch/watch.h"

/* Larger requests go out in pieces of this size: a piece is copied whole by each layer below. */
#define PIECE_SIZE ((size_t)1 << 20)
/* GF_LOG_WARNING: glfs.h has no name for the levels. */
#define ENGINE_LOG_LEVEL 5
#define VOLFILE_LIMIT    (1u << 20)
#define FOLDER_MODE      0700
#define FILE_MODE        0600
struct gfapi_image {
    struct image base;
    glfs_fd_t *fd;
    char *name; /* VOLUME FILE, for messages */
    struct gfapi_volume *volume;
    struct gfapi_image *next, **link; /* among the volume's images, under volumes_mutex */
    struct gate gate;                 /* of all changes */
};

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

static struct gfapi_image *gfapi_image(struct image *image)
{
    return (struct gfapi_image *)image;
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

static bool append_extent(struct image_extent *extents, size_t max, size_t *count, uint64_t length, bool hole)
{
    if (length == 0)
        return true;
    if (*count && extents[*count - 1].hole == hole) {
        extents[*count - 1].length += length;
        return true;
    }
    if (*count == max)
        return false;
    extents[(*count)++] = (struct image_extent){.length = length, .hole = hole};
    return true;
}

/* Where the next data (or hole) begins, at most `end`. Without an answer the rest counts as data: that is
 * always true. */
static uint64_t seek(struct gfapi_image *image, uint64_t from, uint64_t end, int whence, bool *ret_failed)
{
    off_t found = glfs_lseek(image->fd, (off_t)from, whence);
    if (found < 0 && errno != ENXIO)
        *ret_failed = true;
    /* ENXIO: nothing but a hole from here on. */
    return found < 0 || (uint64_t)found > end ? end : (uint64_t)found;
}

static int list_extents(struct image *base, uint64_t offset, uint64_t length, struct image_extent *extents,
                        size_t max, size_t *ret_count, struct error **ret_error)
{
    (void)ret_error;
    struct gfapi_image *image = gfapi_image(base);
    uint64_t end = offset + length;
    size_t count = 0;
    bool failed = false;
    while (offset < end) {
        uint64_t data = seek(image, offset, end, SEEK_DATA, &failed);
        if (failed || data < offset) {
            append_extent(extents, max, &count, end - offset, false);
            break;
        }
        if (!append_extent(extents, max, &count, data - offset, true))
            break;
        if (data == end)
            break;
        uint64_t hole = seek(image, data, end, SEEK_HOLE, &failed);
        if (failed || hole <= data)
            hole = end;
        if (!append_extent(extents, max, &count, hole - data, false))
            break;
        offset = hole;
    }
    *ret_count = count;
    return 0;
}

/* ---- Asynchronous I/O ---- */

struct operation;
static int submit_read(struct operation *operation);
static int submit_write(struct operation *operation);
static int submit_flush(struct operation *operation);

struct piece {
    struct operation *operation;
    char *buffer; /* of a read or a write */
    size_t length;
};

struct operation {
    struct gate_waiter waiter; /* first, for what the gate calls */
    struct gfapi_image *image;
    int (*submit)(struct operation *operation); /* -errno: nothing was accepted */
    char *buffer;                               /* of a read or a write */
    size_t length;
    uint64_t offset;
    int flags;
    image_done done;
    void *data;
    size_t count;
    atomic_size_t pending; /* pieces that did not end */
    atomic_int result;     /* the first failure */
    struct piece pieces[];
};

static void resume_operation(struct gate_waiter *waiter);
static void answer_operation(struct gate_waiter *waiter, int settled);

static struct operation *operation_new(struct image *image, int (*submit)(struct operation *operation),
                                       uint64_t offset, uint64_t length, image_done done, void *data)
{
    size_t pieces = 1;
    if (submit == submit_read || submit == submit_write)
        pieces = (length + PIECE_SIZE - 1) / PIECE_SIZE;
    struct operation *operation = malloc(sizeof *operation + pieces * sizeof operation->pieces[0]);
    if (!operation)
        return NULL;
    *operation = (struct operation){
        .waiter = {.resume = resume_operation,
                   .answer = answer_operation,
                   .writes = submit != submit_read && submit != submit_flush},
        .image = gfapi_image(image),
        .submit = submit,
        .length = length,
        .offset = offset,
        .done = done,
        .data = data,
        .count = pieces,
    };
    atomic_init(&operation->pending, pieces);
    atomic_init(&operation->result, 0);
    for (size_t i = 0; i < pieces; i++)
        operation->pieces[i] = (struct piece){.operation = operation};
    return operation;
}

static void answer(struct operation *operation, int result)
{
    image_done done = operation->done;
    void *data = operation->data;
    free(operation);
    done(data, result);
}

static void operation_end_pieces(struct operation *operation, size_t count, int result)
{
    if (result < 0) {
        int none = 0;
        atomic_compare_exchange_strong(&operation->result, &none, result);
    }
    if (atomic_fetch_sub(&operation->pending, count) != count)
        return;
    result = atomic_load(&operation->result);
    if (gate_leave(&operation->image->gate, &operation->waiter, result == 0))
        answer(operation, result);
}

static void piece_done(glfs_fd_t *fd, ssize_t ret, struct glfs_stat *before, struct glfs_stat *after,
                       void *data)
{
    (void)fd;
    (void)before;
    (void)after;
    struct piece *piece = data;
    struct operation *operation = piece->operation;
    int result = ret < 0 ? -gfapi_failure() : 0;
    if (result == 0 && operation->buffer && (size_t)ret < piece->length) {
        if (operation->submit == submit_read)
            memset(piece->buffer + ret, 0, piece->length - (size_t)ret);
        else
            result = -EIO;
    }
    operation_end_pieces(operation, 1, result);
}

/* What a call that was not accepted means: the whole request is refused when it is the first piece. */
static int refused(struct operation *operation, size_t submitted)
{
    int number = gfapi_failure();
    if (submitted == 0)
        return -number;
    operation_end_pieces(operation, operation->count - submitted, -number);
    return 0;
}

/* Piece `index` of a read or a write; the offset of its first byte. */
static off_t cut_piece(struct operation *operation, size_t index)
{
    struct piece *piece = &operation->pieces[index];
    size_t left = operation->length - index * PIECE_SIZE;
    piece->buffer = operation->buffer + index * PIECE_SIZE;
    piece->length = left < PIECE_SIZE ? left : PIECE_SIZE;
    return (off_t)(operation->offset + index * PIECE_SIZE);
}

/* The operation may be gone as soon as its last piece is submitted. */
static int submit_read(struct operation *operation)
{
    for (size_t i = 0, count = operation->count; i < count; i++) {
        struct piece *piece = &operation->pieces[i];
        off_t offset = cut_piece(operation, i);
        errno = 0;
        if (glfs_pread_async(operation->image->fd, piece->buffer, piece->length, offset, 0, piece_done,
                             piece) < 0)
            return refused(operation, i);
    }
    return 0;
}

static int submit_write(struct operation *operation)
{
    for (size_t i = 0, count = operation->count; i < count; i++) {
        struct piece *piece = &operation->pieces[i];
        off_t offset = cut_piece(operation, i);
        errno = 0;
        if (glfs_pwrite_async(operation->image->fd, piece->buffer, (int)piece->length, offset,
                              operation->flags, piece_done, piece) < 0)
            return refused(operation, i);
    }
    return 0;
}

static int submit_flush(struct operation *operation)
{
    errno = 0;
    int r = glfs_fdatasync_async(operation->image->fd, piece_done, &operation->pieces[0]);
    return r < 0 ? refused(operation, 0) : 0;
}

static int submit_discard(struct operation *operation)
{
    errno = 0;
    int r = glfs_discard_async(operation->image->fd, (off_t)operation->offset, operation->length, piece_done,
                               &operation->pieces[0]);
    return r < 0 ? refused(operation, 0) : 0;
}

/* posix answers zerofill by FALLOC_FL_ZERO_RANGE, which leaves the range allocated. */
static int submit_fill(struct operation *operation)
{
    errno = 0;
    int r = glfs_zerofill_async(operation->image->fd, (off_t)operation->offset, (off_t)operation->length,
                                piece_done, &operation->pieces[0]);
    return r < 0 ? refused(operation, 0) : 0;
}

static void resume_operation(struct gate_waiter *waiter)
{
    struct operation *operation = (struct operation *)waiter;
    int r = operation->submit(operation);
    if (r < 0)
        operation_end_pieces(operation, operation->count, r);
}

/* From a brick that is known to be good now. */
static void read_again(struct operation *operation)
{
    atomic_store(&operation->pending, operation->count);
    atomic_store(&operation->result, 0);
    if (gate_enter(&operation->image->gate, &operation->waiter))
        resume_operation(&operation->waiter);
}

/* What ended well is not acknowledged when the others could not note who missed it. */
static void answer_operation(struct gate_waiter *waiter, int settled)
{
    struct operation *operation = (struct operation *)waiter;
    if (operation->submit == submit_read)
        read_again(operation);
    else
        answer(operation, settled);
}

/* Takes the operation; NULL is one that could not be made. */
static int start(struct operation *operation)
{
    if (!operation)
        return -ENOMEM;
    struct gate *gate = &operation->image->gate;
    if (!gate_enter(gate, &operation->waiter))
        return 0;
    int r = operation->submit(operation);
    if (r < 0) {
        gate_leave(gate, &operation->waiter, false);
        free(operation);
    }
    return r;
}

static int read_range(struct image *image, void *buffer, size_t length, uint64_t offset, image_done done,
                      void *data)
{
    struct operation *operation = operation_new(image, submit_read, offset, length, done, data);
    if (operation)
        operation->buffer = buffer;
    return start(operation);
}

static int write_range(struct image *image, const void *buffer, size_t length, uint64_t offset, bool fua,
                       image_done done, void *data)
{
    struct operation *operation = operation_new(image, submit_write, offset, length, done, data);
    if (operation) {
        operation->buffer = (char *)buffer; /* only read */
        operation->flags = fua ? O_DSYNC : 0;
    }
    return start(operation);
}

static int flush(struct image *image, image_done done, void *data)
{
    return start(operation_new(image, submit_flush, 0, 0, done, data));
}

static int discard(struct image *image, uint64_t offset, uint64_t length, image_done done, void *data)
{
    return start(operation_new(image, submit_discard, offset, length, done, data));
}

static int fill(struct image *image, uint64_t offset, uint64_t length, image_done done, void *data)
{
    return start(operation_new(image, submit_fill, offset, length, done, data));
}

struct zeroing {
    struct image *image;
    uint64_t offset, length;
    image_done done;
    void *data;
};

/* A brick whose file system cannot punch holes still has to zero the range. */
static void hole_done(void *data, int result)
{
    autofree struct zeroing *zeroing = data;
    if (result == -EOPNOTSUPP) {
        result = fill(zeroing->image, zeroing->offset, zeroing->length, zeroing->done, zeroing->data);
        if (result == 0)
            return;
    }
    zeroing->done(zeroing->data, result);
}

static int zero(struct image *image, uint64_t offset, uint64_t length, bool allocate, image_done done,
                void *data)
{
    if (allocate)
        return fill(image, offset, length, done, data);
    autofree struct zeroing *zeroing = malloc(sizeof *zeroing);
    if (!zeroing)
        return -ENOMEM;
    *zeroing = (struct zeroing){image, offset, length, done, data};
    int r = discard(image, offset, length, hole_done, zeroing);
    if (r == 0)
        (void)steal_ptr(&zeroing); /* hole_done() has it */
    return r;
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
    .extents = list_extents,
    .read = read_range,
    .write = write_range,
    .flush = flush,
    .discard = discard,
    .zero = zero,
};
