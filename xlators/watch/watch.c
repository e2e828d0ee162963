/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Stands between replicate and each of its bricks' clients, and tells the program of a connection that comes
 * or goes before it tells replicate. All requests pass.
 */
#include "xlators/abi.h"

#include <glusterfs/defaults.h>

#include "xlators/watch/watch.h"

/* Resolved from the program, when it has it. */
#pragma weak blockd_brick_event

static int32_t watch_init(xlator_t *this)
{
    if (!this->children || this->children->next || !this->parents) {
        gf_log(this->name, GF_LOG_ERROR, "needs one translator below and one above");
        return -1;
    }
    return 0;
}

static void watch_fini(xlator_t *this)
{
    (void)this;
}

static int32_t watch_notify(xlator_t *this, int32_t event, void *data, ...)
{
    if ((event == GF_EVENT_CHILD_UP || event == GF_EVENT_CHILD_DOWN) && blockd_brick_event)
        blockd_brick_event(this->name);
    return default_notify(this, event, data);
}

static struct xlator_fops watch_fops;
static struct xlator_cbks watch_cbks;
static struct volume_options watch_options[] = {{.key = {NULL}}};

xlator_api_t xlator_api = {
    .init = watch_init,
    .fini = watch_fini,
    .notify = watch_notify,
    .op_version = {1},
    .fops = &watch_fops,
    .cbks = &watch_cbks,
    .options = watch_options,
    .identifier = "watch",
    .category = GF_EXPERIMENTAL,
};
