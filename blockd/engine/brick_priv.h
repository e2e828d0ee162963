/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Inside what makes bricks. */
#ifndef BLOCKD_ENGINE_BRICK_PRIV_H
#define BLOCKD_ENGINE_BRICK_PRIV_H

#include "blockd/engine/engine_priv.h"

/* ---- brick_folder.c ---- */

bool brick_folder_is_empty(const char *folder);
/* 0 when the folder is the volume's, -ENODATA when it carries no id, -ESTALE when it carries another. */
int brick_check_owner(const char *folder, const struct volume *volume, struct error **ret_error);
/*
 * 0 when the folder is this brick's; -ESTALE when it is of another brick of the volume, which was replaced;
 * -ENOENT when it does not say. No xattr: replicate would copy it from brick to brick.
 */
int brick_check_number(const char *folder, const struct volume *volume, uint64_t number,
                       struct error **ret_error);
/* Before it is served for the first time: one that says nothing has its number still to get. */
int brick_write_number(const char *folder, uint64_t number, struct error **ret_error);
/* Makes the folder, unless it was there once and is gone. */
int brick_make_folder(const struct engine *engine, const char *device, const char *folder,
                      const struct volume *volume, struct error **ret_error);
/* The id is what makes a folder a brick: until it is there and durable, an empty folder is nobody's. */
int brick_stamp(const char *folder, const struct volume *volume, struct error **ret_error);

#endif
