/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The manifest of a device: a file on it, MOUNT/.blockd/manifest, that holds the records of the store as
 * lines of text. What the lines mean is the owner's business. Calls on one device are serialised; any thread.
 */
#ifndef BLOCKD_ENGINE_MANIFEST_H
#define BLOCKD_ENGINE_MANIFEST_H

#include "blockd/engine/engine.h"

#define MANIFEST_LIMIT (512u << 20) /* bytes */

/* What is there, NUL terminated; -ENOENT when none is, -ENODEV when the device is not mounted. */
int engine_manifest_read(struct engine *engine, const struct device *device, char **ret_text,
                         struct error **ret_error);
/*
 * Puts the text in the place of the manifest in one step; `keep` leaves the former one beside it as
 * manifest.old. *ret_length is for engine_manifest_append(). -ENODEV unless this very device is mounted.
 */
int engine_manifest_replace(struct engine *engine, const struct device *device, const char *text, bool keep,
                            size_t *ret_length, struct error **ret_error);
/*
 * Appends durably. *length is what the manifest has now, and is updated; -ESTALE when it has not. A failure
 * leaves it as it was, or with a torn end that a reader passes over.
 */
int engine_manifest_append(struct engine *engine, const struct device *device, const char *text,
                           size_t *length, struct error **ret_error);

#endif
