/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Threads for work that blocks. They come when there is work and go when there was none for a while, so that
 * an idle server has none. Any thread may submit.
 */
#ifndef BLOCKD_NBD_POOL_H
#define BLOCKD_NBD_POOL_H

#include "rpc/base/cleanup.h"

struct pool;

struct pool *pool_new(unsigned thread_limit);
/* Waits until everything that was submitted has run. NULL is allowed. */
void pool_free(struct pool *pool);
DEFINE_CLEANUP(struct pool *, cleanup_pool, pool_free)
/* Waits until everything that was submitted has run; for callers after whom nobody submits. NULL: nothing to
 * wait for. */
void pool_wait(struct pool *pool);

/* Runs run(data) soon. With a NULL pool it runs here, before the call returns: for tests that want one order
 * of events. */
void pool_submit(struct pool *pool, void (*run)(void *data), void *data);

#endif
