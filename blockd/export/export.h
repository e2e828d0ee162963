/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What this node offers to clients. One driver a protocol behind a vtable (export_priv.h); for NBD an export
 * is its grant, which blockd-nbd follows. Calls are idempotent; any thread.
 */
#ifndef BLOCKD_EXPORT_H
#define BLOCKD_EXPORT_H

#include "rpc/config.h"
#include "rpc/grant.h"
#include "rpc/objects.h"

struct exports;

/* `config` outlives it. */
int exports_new(const struct config *config, struct exports **ret_exports, struct error **ret_error);
void exports_free(struct exports *exports);
DEFINE_CLEANUP(struct exports *, cleanup_exports, exports_free)

/* Offers the block as the grant says, or changes what is offered (a new size reaches clients when they
 * reconnect). */
int export_up(struct exports *exports, const struct export *export, const struct grant *grant,
              struct error **ret_error);
/*
 * Withdraws it. Returns 0 once no client has it open any more: connected clients are cut off. -EAGAIN when
 * the server did not confirm in time. Blocks for at most two seconds.
 */
int export_down(struct exports *exports, const char *volume, const char *block, struct error **ret_error);
/*
 * Who is connected to a block, or to any block of a volume (`block` NULL), as "V/B by PEER". Blocks for half
 * a second where there is somebody. -EAGAIN when the server does not tell.
 */
int export_clients(struct exports *exports, const char *volume, const char *block,
                   struct string_list *ret_clients, struct error **ret_error);
/*
 * Live state: phase "live", "pending" when it is not granted (yet), or "offline" when the server does not
 * answer, with the reason in error; and the URI. The caller frees the three strings.
 */
int export_status(struct exports *exports, const struct export *export, struct export_status *ret_status,
                  struct error **ret_error);
/*
 * Removes grants for which `wanted` returns false: what a crash or an older state left behind. `gbid` is the
 * identity of the block that was granted; NULL when the grant cannot be read. A lock is held that export_up()
 * takes, so that a grant given meanwhile is not lost: `wanted` must not call into exports.
 */
typedef bool (*export_wanted)(void *data, const char *volume, const char *block, const char *gbid);
int export_sweep(struct exports *exports, export_wanted wanted, void *data, struct error **ret_error);
/* The servers' own metrics in Prometheus' text format; "" when none runs. The caller's. */
char *export_metrics(struct exports *exports);

#endif
