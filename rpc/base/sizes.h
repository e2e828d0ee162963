/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Sizes in bytes and names of objects: the words that people type, parsed in one place. Pure functions. */
#ifndef BLOCKD_BASE_SIZES_H
#define BLOCKD_BASE_SIZES_H

#include <stdint.h>

#include "error.h"

/*
 * "1GiB", "1.5G", "100m", "4096", "512b": an unsigned decimal number, with an optional fraction where there
 * is a unit, and one of b, k, m, g, t, p, e (either case, as K, KB or KiB), all powers of 1024. A fraction is
 * rounded down to whole bytes. -EINVAL for anything else, -ERANGE beyond 2^63 - 1 bytes.
 */
int size_parse(const char *text, uint64_t *ret_bytes, struct error **ret_error);

#define SIZE_TEXT_SIZE 32
/* "1.0 GiB": one decimal and the largest unit that fits, as gluster-block prints. */
void size_format(uint64_t bytes, char text[SIZE_TEXT_SIZE]);

#define NAME_MAX_LENGTH 254
/* Names of all objects: [A-Za-z0-9_-], 1 to 254 characters, not beginning with "-". `what` is for the
 * message. */
int name_check(const char *what, const char *name, struct error **ret_error);

#endif
