/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Images as files of a GlusterFS volume, by libgfapi. Each glfs_t has threads of its own (event, timer,
 * synctask), which is why a process keeps one a hosting volume.
 *
 * A flush is fdatasync() and a write with FUA carries O_DSYNC: replicate runs both as transactions that fail
 * unless a quorum of bricks did them, and each brick answers after its own fsync.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/statvfs.h>

#include <glusterfs/api/glfs.h>

#include "handler/image/image_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

/* Larger requests go out in pieces of this size: a piece is copied whole by each layer below. */
#define PIECE_SIZE ((size_t)1 << 20)
/* GF_LOG_WARNING: glfs.h has no name for the levels. */
#define ENGINE_LOG_LEVEL 5
#define VOLFILE_LIMIT    (1u << 20)
#define FOLDER_MODE      0700
#define FILE_MODE        0600

struct gfapi_volume {
    struct image_volume base;
    glfs_t *fs;
    char *name;
};

struct gfapi_image {
    struct image base;
    glfs_fd_t *fd;
    char *name; /* VOLUME FILE, for messages */
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

static struct gfapi_volume *gfapi_volume(struct image_volume *volume)
{
    return (struct gfapi_volume *)volume;
}

static struct gfapi_image *gfapi_image(struct image *image)
{
    return (struct gfapi_image *)image;
}

/* libgfapi fails without errno on some paths. */
static int failure(void)
{
    return errno ? errno : EIO;
}

/* ---- Volumes ---- */

/* A volfile that cannot be parsed fails only after glfs_init() has started threads, which glfs_fini() then
 * does not end. */
static int check_volfile(const char *name, const char *volfile, struct error **ret_error)
{
    autofree char *text = NULL;
    int r = file_read(volfile, VOLFILE_LIMIT, &text, NULL, ret_error);
    if (r < 0) {
        error_prefix(ret_error, "volume %s", name);
        return r;
    }
    if (!strstr(text, "volume ") || !strstr(text, "end-volume"))
        return error_set(ret_error, EINVAL, "volume %s: %s is no volfile", name, volfile);
    return 0;
}

static int volume_open(const char *name, const char *volfile, const char *log_path,
                       struct image_volume **ret_volume, struct error **ret_error)
{
    int r = check_volfile(name, volfile, ret_error);
    if (r < 0)
        return r;

    errno = 0;
    cleanup(cleanup_glfs) glfs_t *fs = glfs_new(name);
    if (!fs)
        return error_set(ret_error, failure(), "volume %s: cannot make a client: %s", name,
                         strerror(failure()));
    if (glfs_set_volfile(fs, volfile) < 0)
        return error_set(ret_error, ENOMEM, "volume %s: cannot set the volfile %s", name, volfile);
    if (glfs_set_logging(fs, log_path, ENGINE_LOG_LEVEL) < 0)
        return error_set(ret_error, EIO, "volume %s: cannot log to %s", name, log_path);

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
    *ret_volume = &volume->base;
    return 0;
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
    pthread_t thread;
    if (pthread_create(&thread, NULL, finish_volume, volume->fs) == 0)
        pthread_detach(thread);
    else
        glfs_fini(volume->fs);
    free(volume->name);
    free(volume);
}

static int file_error(struct gfapi_volume *volume, const char *what, const char *file, int number,
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
            return file_error(volume, "create the folder", path, failure(), ret_error);
        *slash = '/';
    }
    return 0;
}

static int create_file(struct image_volume *base, const char *file, uint64_t size, struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    int r = make_folders(volume, file, ret_error);
    if (r < 0)
        return r;

    struct stat status;
    cleanup(cleanup_glfs_fd) glfs_fd_t *fd = glfs_creat(volume->fs, file, O_RDWR | O_CLOEXEC, FILE_MODE);
    if (!fd || glfs_fstat(fd, &status) < 0)
        return file_error(volume, "create", file, failure(), ret_error);
    if ((uint64_t)status.st_size == size)
        return 0;
    /* Empty is what a crash between the two steps leaves. */
    if (status.st_size != 0)
        return error_set(ret_error, EEXIST, "volume %s: %s exists with %lld bytes, not %llu", volume->name,
                         file, (long long)status.st_size, (unsigned long long)size);
    if (glfs_ftruncate(fd, (off_t)size, NULL, NULL) < 0 || glfs_fsync(fd, NULL, NULL) < 0)
        return file_error(volume, "set the size of", file, failure(), ret_error);
    return 0;
}

static int truncate_file(struct image_volume *base, const char *file, uint64_t size, struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    cleanup(cleanup_glfs_fd) glfs_fd_t *fd = glfs_open(volume->fs, file, O_RDWR | O_CLOEXEC);
    if (!fd)
        return file_error(volume, "open", file, failure(), ret_error);
    if (glfs_ftruncate(fd, (off_t)size, NULL, NULL) < 0 || glfs_fsync(fd, NULL, NULL) < 0)
        return file_error(volume, "set the size of", file, failure(), ret_error);
    return 0;
}

static int allocate_range(struct image_volume *base, const char *file, uint64_t offset, uint64_t length,
                          struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    cleanup(cleanup_glfs_fd) glfs_fd_t *fd = glfs_open(volume->fs, file, O_RDWR | O_CLOEXEC);
    if (!fd)
        return file_error(volume, "open", file, failure(), ret_error);
    if (glfs_fallocate(fd, 1, (off_t)offset, length) < 0)
        return file_error(volume, "allocate space for", file, failure(), ret_error);
    return 0;
}

static int unlink_file(struct image_volume *base, const char *file, struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    if (glfs_unlink(volume->fs, file) < 0 && errno != ENOENT)
        return file_error(volume, "remove", file, failure(), ret_error);
    return 0;
}

static int stat_file(struct image_volume *base, const char *file, struct image_stat *ret_stat,
                     struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    struct stat status;
    if (glfs_stat(volume->fs, file, &status) < 0)
        return file_error(volume, "stat", file, failure(), ret_error);
    ret_stat->size = (uint64_t)status.st_size;
    ret_stat->used = (uint64_t)status.st_blocks * 512;
    return 0;
}

static int volume_space(struct image_volume *base, struct image_space *ret_space, struct error **ret_error)
{
    struct gfapi_volume *volume = gfapi_volume(base);
    struct statvfs status;
    if (glfs_statvfs(volume->fs, "/", &status) < 0)
        return file_error(volume, "see the space of", "/", failure(), ret_error);
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
        return file_error(volume, "open", file, failure(), ret_error);

    struct gfapi_image *image = xcalloc(1, sizeof *image);
    image->base.driver = &image_driver_gfapi;
    image->fd = fd;
    image->name = xasprintf("%s %s", volume->name, file);
    *ret_image = &image->base;
    return 0;
}

static void close_file(struct image *base)
{
    struct gfapi_image *image = gfapi_image(base);
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

struct piece {
    struct operation *operation;
    char *buffer; /* of a read */
    size_t length;
};

struct operation {
    image_done done;
    void *data;
    bool reads, transfers;
    atomic_size_t pending; /* pieces that did not end */
    atomic_int result;     /* the first failure */
    struct piece pieces[];
};

static struct operation *operation_new(size_t pieces, image_done done, void *data)
{
    struct operation *operation = malloc(sizeof *operation + pieces * sizeof operation->pieces[0]);
    if (!operation)
        return NULL;
    operation->done = done;
    operation->data = data;
    operation->reads = operation->transfers = false;
    atomic_init(&operation->pending, pieces);
    atomic_init(&operation->result, 0);
    for (size_t i = 0; i < pieces; i++)
        operation->pieces[i] = (struct piece){.operation = operation};
    return operation;
}

static void operation_end_pieces(struct operation *operation, size_t count, int result)
{
    if (result < 0) {
        int none = 0;
        atomic_compare_exchange_strong(&operation->result, &none, result);
    }
    if (atomic_fetch_sub(&operation->pending, count) != count)
        return;
    image_done done = operation->done;
    void *data = operation->data;
    result = atomic_load(&operation->result);
    free(operation);
    done(data, result);
}

static void piece_done(glfs_fd_t *fd, ssize_t ret, struct glfs_stat *before, struct glfs_stat *after,
                       void *data)
{
    (void)fd;
    (void)before;
    (void)after;
    struct piece *piece = data;
    struct operation *operation = piece->operation;
    int result = ret < 0 ? -failure() : 0;
    if (result == 0 && operation->transfers && (size_t)ret < piece->length) {
        if (operation->reads)
            memset(piece->buffer + ret, 0, piece->length - (size_t)ret);
        else
            result = -EIO;
    }
    operation_end_pieces(operation, 1, result);
}

/* What a call that was not accepted means: the whole request is refused when it is the first piece. */
static int refused(struct operation *operation, size_t submitted, size_t pieces)
{
    int number = failure();
    if (submitted == 0) {
        free(operation);
        return -number;
    }
    operation_end_pieces(operation, pieces - submitted, -number);
    return 0;
}

static size_t piece_length(size_t length, size_t index)
{
    size_t left = length - index * PIECE_SIZE;
    return left < PIECE_SIZE ? left : PIECE_SIZE;
}

static int read_range(struct image *base, void *buffer, size_t length, uint64_t offset, image_done done,
                      void *data)
{
    struct gfapi_image *image = gfapi_image(base);
    size_t pieces = (length + PIECE_SIZE - 1) / PIECE_SIZE;
    struct operation *operation = operation_new(pieces, done, data);
    if (!operation)
        return -ENOMEM;
    operation->reads = operation->transfers = true;
    for (size_t i = 0; i < pieces; i++) {
        struct piece *piece = &operation->pieces[i];
        piece->buffer = (char *)buffer + i * PIECE_SIZE;
        piece->length = piece_length(length, i);
        errno = 0;
        if (glfs_pread_async(image->fd, piece->buffer, piece->length, (off_t)(offset + i * PIECE_SIZE), 0,
                             piece_done, piece) < 0)
            return refused(operation, i, pieces);
    }
    return 0;
}

static int write_range(struct image *base, const void *buffer, size_t length, uint64_t offset, bool fua,
                       image_done done, void *data)
{
    struct gfapi_image *image = gfapi_image(base);
    size_t pieces = (length + PIECE_SIZE - 1) / PIECE_SIZE;
    struct operation *operation = operation_new(pieces, done, data);
    if (!operation)
        return -ENOMEM;
    operation->transfers = true;
    for (size_t i = 0; i < pieces; i++) {
        struct piece *piece = &operation->pieces[i];
        piece->length = piece_length(length, i);
        errno = 0;
        if (glfs_pwrite_async(image->fd, (const char *)buffer + i * PIECE_SIZE, (int)piece->length,
                              (off_t)(offset + i * PIECE_SIZE), fua ? O_DSYNC : 0, piece_done, piece) < 0)
            return refused(operation, i, pieces);
    }
    return 0;
}

static int flush(struct image *base, image_done done, void *data)
{
    struct operation *operation = operation_new(1, done, data);
    if (!operation)
        return -ENOMEM;
    errno = 0;
    if (glfs_fdatasync_async(gfapi_image(base)->fd, piece_done, &operation->pieces[0]) < 0)
        return refused(operation, 0, 1);
    return 0;
}

static int discard(struct image *base, uint64_t offset, uint64_t length, image_done done, void *data)
{
    struct operation *operation = operation_new(1, done, data);
    if (!operation)
        return -ENOMEM;
    errno = 0;
    if (glfs_discard_async(gfapi_image(base)->fd, (off_t)offset, length, piece_done, &operation->pieces[0]) <
        0)
        return refused(operation, 0, 1);
    return 0;
}

/* posix answers zerofill by FALLOC_FL_ZERO_RANGE, which leaves the range allocated. */
static int fill(struct image *base, uint64_t offset, uint64_t length, image_done done, void *data)
{
    struct operation *operation = operation_new(1, done, data);
    if (!operation)
        return -ENOMEM;
    errno = 0;
    if (glfs_zerofill_async(gfapi_image(base)->fd, (off_t)offset, (off_t)length, piece_done,
                            &operation->pieces[0]) < 0)
        return refused(operation, 0, 1);
    return 0;
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
    .volume_open = volume_open,
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
