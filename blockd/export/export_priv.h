/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* For the room's own files: the vtable of a protocol. */
#ifndef BLOCKD_EXPORT_PRIV_H
#define BLOCKD_EXPORT_PRIV_H

#include "blockd/export/export.h"

/*
 * All slots are required, are called on any thread, several at once, and mean what the function of the same
 * name in export.h says. `state` is what start() made.
 */
struct export_driver {
    int protocol; /* enum export_protocol */

    /* `config` outlives the state. */
    int (*start)(const struct config *config, void **ret_state, struct error **ret_error);
    /* Withdraws nothing: what is offered stays offered without blockd. */
    void (*stop)(void *state);

    int (*up)(void *state, const struct export *export, const struct grant *grant, struct error **ret_error);
    /* Success for a block that this protocol does not offer. */
    int (*down)(void *state, const char *volume, const char *block, struct error **ret_error);
    /* Adds to the list. */
    int (*clients)(void *state, const char *volume, const char *block, struct string_list *ret_clients,
                   struct error **ret_error);
    /* Fills phase, uri and error only; *ret_status is zeroed before. */
    int (*status)(void *state, const struct export *export, struct export_status *ret_status,
                  struct error **ret_error);
    int (*sweep)(void *state, export_wanted wanted, void *data, struct error **ret_error);
    /* NULL when there are none. */
    char *(*metrics)(void *state);
};

extern const struct export_driver export_nbd_driver;

#endif
