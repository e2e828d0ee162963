/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The engine's own limit: a fixed number of asynchronous libgfapi requests in flight on one file, each
 * completion sending the next one from gluster's own thread, with no server and no client around it.
 *
 *   gfapi_loop VOLFILE FILE read|write|randread|randwrite BLOCK_SIZE DEPTH SECONDS SIZE
 *
 * It prints the operations per second.
 */
#include <errno.h>
#include <fcntl.h>
#include <glusterfs/api/glfs.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <time.h>

#include "tests/bench/random.h"

struct job {
    glfs_fd_t *fd;
    bool write, random;
    size_t block_size;
    uint64_t blocks;
    int64_t end_ns;
    _Atomic uint64_t next, done;
    atomic_int error;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    unsigned in_flight; /* under lock */
};

struct slot {
    struct job *job;
    uint64_t random;
    char *buffer;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void finish(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    if (--job->in_flight == 0)
        pthread_cond_signal(&job->idle);
    pthread_mutex_unlock(&job->lock);
}

static void completed(glfs_fd_t *fd, ssize_t result, struct glfs_stat *before, struct glfs_stat *after,
                      void *data);

static void submit(struct slot *slot)
{
    struct job *job = slot->job;
    uint64_t block =
        (job->random ? random_next(&slot->random) : atomic_fetch_add(&job->next, 1)) % job->blocks;
    off_t offset = (off_t)(block * job->block_size);
    int r = job->write
                ? glfs_pwrite_async(job->fd, slot->buffer, (int)job->block_size, offset, 0, completed, slot)
                : glfs_pread_async(job->fd, slot->buffer, job->block_size, offset, 0, completed, slot);
    if (r < 0) {
        atomic_store(&job->error, errno);
        finish(job);
    }
}

static void completed(glfs_fd_t *fd, ssize_t result, struct glfs_stat *before, struct glfs_stat *after,
                      void *data)
{
    (void)fd;
    (void)before;
    (void)after;
    struct slot *slot = data;
    struct job *job = slot->job;
    if (result != (ssize_t)job->block_size)
        atomic_store(&job->error, result < 0 ? errno : EIO);
    atomic_fetch_add(&job->done, 1);
    if (atomic_load(&job->error) || now_ns() >= job->end_ns)
        finish(job);
    else
        submit(slot);
}

static double run(struct job *job, unsigned depth, double seconds)
{
    struct slot *slots = calloc(depth, sizeof *slots);
    if (!slots)
        abort();
    int64_t began = now_ns();
    job->end_ns = began + (int64_t)(seconds * 1e9);
    job->in_flight = depth;
    for (unsigned i = 0; i < depth; i++) {
        slots[i] = (struct slot){.job = job, .random = random_seed(i)};
        if (posix_memalign((void **)&slots[i].buffer, 4096, job->block_size) != 0)
            abort();
        memset(slots[i].buffer, (int)i + 1, job->block_size);
    }
    for (unsigned i = 0; i < depth; i++)
        submit(&slots[i]);

    pthread_mutex_lock(&job->lock);
    while (job->in_flight > 0)
        pthread_cond_wait(&job->idle, &job->lock);
    pthread_mutex_unlock(&job->lock);
    double elapsed = (double)(now_ns() - began) / 1e9;

    for (unsigned i = 0; i < depth; i++)
        free(slots[i].buffer);
    free(slots);
    return (double)atomic_load(&job->done) / elapsed;
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(
            stderr,
            "usage: gfapi_loop VOLFILE FILE read|write|randread|randwrite BLOCK_SIZE DEPTH SECONDS SIZE\n");
        return 2;
    }
    struct job job = {
        .write = strstr(argv[3], "write") != NULL,
        .random = strncmp(argv[3], "rand", 4) == 0,
        .block_size = strtoul(argv[4], NULL, 10),
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .idle = PTHREAD_COND_INITIALIZER,
    };
    job.blocks = job.block_size ? strtoull(argv[7], NULL, 10) / job.block_size : 0;
    unsigned depth = (unsigned)strtoul(argv[5], NULL, 10);
    if (job.blocks == 0 || depth == 0 || job.block_size > 1u << 30) {
        fprintf(stderr, "gfapi_loop: block size, depth and size must be positive numbers\n");
        return 2;
    }

    glfs_t *fs = glfs_new("bench");
    if (!fs || glfs_set_volfile(fs, argv[1]) != 0 || glfs_set_logging(fs, "/dev/null", 0) != 0 ||
        glfs_init(fs) != 0) {
        fprintf(stderr, "gfapi_loop: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    job.fd = glfs_open(fs, argv[2], job.write ? O_RDWR : O_RDONLY);
    if (!job.fd) {
        fprintf(stderr, "gfapi_loop: %s: %s\n", argv[2], strerror(errno));
        return 1;
    }
    double rate = run(&job, depth, strtod(argv[6], NULL));
    glfs_close(job.fd);
    if (atomic_load(&job.error)) {
        fprintf(stderr, "gfapi_loop: %s: %s\n", argv[2], strerror(atomic_load(&job.error)));
        return 1;
    }
    printf("%.1f\n", rate);
    /* glfs_fini() waits for seconds on its own timers; the process ends here anyway. */
    return 0;
}
