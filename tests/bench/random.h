/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Where the next request goes. Each slot has a sequence of its own, the same in each run and for each
 * contender. */
#ifndef BLOCKD_BENCH_RANDOM_H
#define BLOCKD_BENCH_RANDOM_H

#include <stdint.h>

static inline uint64_t random_seed(unsigned slot)
{
    return UINT64_C(0x9e3779b97f4a7c15) * (slot + 1);
}

/* xorshift64: cheap. */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

#endif
