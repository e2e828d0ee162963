/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Asynchronous requests to an open image, each of which passes its gate.
 *
 * A flush is fdatasync() and a write with FUA carries O_DSYNC: replicate runs both as transactions that fail
 * unless a quorum of bricks did them, and each brick answers after its own fsync.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "handler/image/gfapi_priv.h"

/* Larger requests go out in pieces of this size: a piece is copied whole by each layer below. */
#define PIECE_SIZE ((size_t)1 << 20)

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

/*
 * libgfapi asks the kernel anew for the user, the group and the groups of each request, by four system calls,
 * unless the thread has told it. They do not change in a process that serves.
 */
static void tell_identity(void)
{
    static _Thread_local bool told;
    gid_t groups[NGROUPS_MAX];
    if (told)
        return;
    told = true;
    int count = getgroups(NGROUPS_MAX, groups);
    glfs_setfsuid(geteuid());
    glfs_setfsgid(getegid());
    if (count >= 0)
        glfs_setfsgroups((size_t)count, groups);
}

/* Takes the operation; NULL is one that could not be made. */
static int start(struct operation *operation)
{
    if (!operation)
        return -ENOMEM;
    tell_identity();
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

int gfapi_read(struct image *image, void *buffer, size_t length, uint64_t offset, image_done done, void *data)
{
    struct operation *operation = operation_new(image, submit_read, offset, length, done, data);
    if (operation)
        operation->buffer = buffer;
    return start(operation);
}

int gfapi_write(struct image *image, const void *buffer, size_t length, uint64_t offset, bool fua,
                image_done done, void *data)
{
    struct operation *operation = operation_new(image, submit_write, offset, length, done, data);
    if (operation) {
        operation->buffer = (char *)buffer; /* only read */
        operation->flags = fua ? O_DSYNC : 0;
    }
    return start(operation);
}

int gfapi_flush(struct image *image, image_done done, void *data)
{
    return start(operation_new(image, submit_flush, 0, 0, done, data));
}

int gfapi_discard(struct image *image, uint64_t offset, uint64_t length, image_done done, void *data)
{
    return start(operation_new(image, submit_discard, offset, length, done, data));
}

int gfapi_fill(struct image *image, uint64_t offset, uint64_t length, image_done done, void *data)
{
    return start(operation_new(image, submit_fill, offset, length, done, data));
}
