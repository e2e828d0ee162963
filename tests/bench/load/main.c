/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A fixed number of requests in flight on one connection, of a fixed size, in order or at random places.
 *
 *   load URI read|write|randread|randwrite BLOCK_SIZE DEPTH SECONDS
 *
 * It prints two numbers: operations per second, and its own processor time per operation in microseconds.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/bench/load/load.h"
#include "tests/bench/random.h"

#define ANSWER_MS 30000

struct job {
    const struct driver *driver;
    void *connection;
    bool write, random;
    size_t block_size;
    uint64_t blocks, next, done;
    unsigned depth, in_flight;
    double seconds;
};

struct slot {
    struct job *job;
    struct slot *next_free;
    unsigned char *buffer;
    uint64_t random;
};

static struct slot *free_slots;
static const char *first_problem;

void load_completed(struct slot *slot, const char *problem)
{
    if (problem && !first_problem)
        first_problem = strdup(problem);
    slot->job->done++;
    slot->job->in_flight--;
    slot->next_free = free_slots;
    free_slots = slot;
}

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool submit_free(struct job *job)
{
    while (free_slots) {
        struct slot *slot = free_slots;
        free_slots = slot->next_free;
        uint64_t block = (job->random ? random_next(&slot->random) : job->next++) % job->blocks;
        struct request request = {.slot = slot,
                                  .write = job->write,
                                  .offset = block * job->block_size,
                                  .length = job->block_size,
                                  .buffer = slot->buffer};
        job->in_flight++;
        if (!job->driver->submit(job->connection, &request))
            return false;
    }
    return true;
}

static bool run(struct job *job)
{
    double end = seconds_of(CLOCK_MONOTONIC) + job->seconds;
    for (;;) {
        if (seconds_of(CLOCK_MONOTONIC) < end && !submit_free(job))
            return false;
        if (job->in_flight == 0)
            return true;
        struct pollfd poll_on = {.fd = job->driver->descriptor(job->connection),
                                 .events = job->driver->events(job->connection)};
        int r = poll(&poll_on, 1, ANSWER_MS);
        if (r == 0) {
            fprintf(stderr, "load: no answer for %d seconds\n", ANSWER_MS / 1000);
            return false;
        }
        if (r > 0 && !job->driver->service(job->connection, poll_on.revents))
            return false;
    }
}

static bool make_slots(struct job *job)
{
    struct slot *slots = calloc(job->depth, sizeof *slots);
    if (!slots)
        return false;
    for (unsigned i = 0; i < job->depth; i++) {
        struct slot *slot = &slots[i];
        *slot = (struct slot){.job = job, .next_free = free_slots, .random = random_seed(i)};
        if (posix_memalign((void **)&slot->buffer, 4096, job->block_size) != 0)
            return false;
        memset(slot->buffer, (int)i + 1, job->block_size);
        free_slots = slot;
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: load URI read|write|randread|randwrite BLOCK_SIZE DEPTH SECONDS\n");
        return 2;
    }
    struct job job = {
        .driver = strncmp(argv[1], "iscsi:", 6) == 0 ? &iscsi_driver : &nbd_driver,
        .write = strstr(argv[2], "write") != NULL,
        .random = strncmp(argv[2], "rand", 4) == 0,
        .block_size = strtoul(argv[3], NULL, 10),
        .depth = (unsigned)strtoul(argv[4], NULL, 10),
        .seconds = strtod(argv[5], NULL),
    };
    if (job.block_size == 0 || job.block_size > 1u << 25 || job.depth == 0 || job.depth > 1024) {
        fprintf(stderr, "load: block size (at most 32 MiB) and depth (at most 1024) must be positive\n");
        return 2;
    }
    job.connection = job.driver->connect(argv[1]);
    if (!job.connection || !make_slots(&job))
        return 1;
    job.blocks = job.driver->size(job.connection) / job.block_size;
    if (job.blocks == 0) {
        fprintf(stderr, "load: %s is smaller than a request\n", argv[1]);
        return 1;
    }

    double began = seconds_of(CLOCK_MONOTONIC), used = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    bool ended = run(&job);
    double elapsed = seconds_of(CLOCK_MONOTONIC) - began;
    used = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - used;
    if (!ended || first_problem) {
        fprintf(stderr, "load: %s: %s\n", argv[1], first_problem ? first_problem : "the connection failed");
        return 1;
    }
    printf("%.1f %.3f\n", (double)job.done / elapsed, used / (double)job.done * 1e6);
    return 0;
}
