/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Hands each call to the driver of the export's protocol. */
#include "blockd/export/export.h"

#include <errno.h>
#include <stdlib.h>

#include "blockd/export/export_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/strings.h"

static const struct export_driver *const drivers[] = {&export_nbd_driver};
#define DRIVER_COUNT (sizeof drivers / sizeof *drivers)

struct exports {
    void *states[DRIVER_COUNT]; /* of drivers[I] */
};

int exports_new(const struct config *config, struct exports **ret_exports, struct error **ret_error)
{
    cleanup(cleanup_exports) struct exports *exports = xcalloc(1, sizeof *exports);
    for (size_t i = 0; i < DRIVER_COUNT; i++) {
        int r = drivers[i]->start(config, &exports->states[i], ret_error);
        if (r < 0)
            return r;
    }
    *ret_exports = steal_ptr(&exports);
    return 0;
}

void exports_free(struct exports *exports)
{
    if (!exports)
        return;
    for (size_t i = 0; i < DRIVER_COUNT; i++)
        if (exports->states[i])
            drivers[i]->stop(exports->states[i]);
    free(exports);
}

static int find_driver(const struct export *export, size_t *ret_index, struct error **ret_error)
{
    for (size_t i = 0; i < DRIVER_COUNT; i++)
        if (drivers[i]->protocol == export->spec.protocol) {
            *ret_index = i;
            return 0;
        }
    return error_set(ret_error, EOPNOTSUPP, "export %s: this blockd does not know its protocol",
                     export->meta.name);
}

int export_up(struct exports *exports, const struct export *export, const struct grant *grant,
              struct error **ret_error)
{
    size_t i = 0;
    int r = find_driver(export, &i, ret_error);
    return r < 0 ? r : drivers[i]->up(exports->states[i], export, grant, ret_error);
}

int export_down(struct exports *exports, const char *volume, const char *block, struct error **ret_error)
{
    for (size_t i = 0; i < DRIVER_COUNT; i++) {
        int r = drivers[i]->down(exports->states[i], volume, block, ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

int export_clients(struct exports *exports, const char *volume, const char *block,
                   struct string_list *ret_clients, struct error **ret_error)
{
    for (size_t i = 0; i < DRIVER_COUNT; i++) {
        int r = drivers[i]->clients(exports->states[i], volume, block, ret_clients, ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

int export_status(struct exports *exports, const struct export *export, struct export_status *ret_status,
                  struct error **ret_error)
{
    size_t i = 0;
    struct export_status status = {0};
    int r = find_driver(export, &i, ret_error);
    if (r == 0)
        r = drivers[i]->status(exports->states[i], export, &status, ret_error);
    if (r < 0)
        return r;
    *ret_status = status;
    return 0;
}

int export_sweep(struct exports *exports, export_wanted wanted, void *data, struct error **ret_error)
{
    for (size_t i = 0; i < DRIVER_COUNT; i++) {
        int r = drivers[i]->sweep(exports->states[i], wanted, data, ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

char *export_metrics(struct exports *exports)
{
    struct strbuf text = {0};
    for (size_t i = 0; i < DRIVER_COUNT; i++) {
        autofree char *part = drivers[i]->metrics(exports->states[i]);
        if (part)
            strbuf_adds(&text, part);
    }
    return strbuf_steal(&text);
}
