/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Time: monotonic for intervals, real time in milliseconds since the epoch for
 * records, RFC 3339 for people. */
#ifndef BLOCKD_BASE_CLOCK_H
#define BLOCKD_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

/* Milliseconds, resp. nanoseconds, of CLOCK_MONOTONIC. */
int64_t clock_monotonic_ms(void);
int64_t clock_monotonic_ns(void);
/* Milliseconds since 1970-01-01T00:00:00Z. */
int64_t clock_real_ms(void);

#define CLOCK_TEXT_SIZE 32
/* "2026-01-31T12:00:00.123Z" (RFC 3339, UTC). */
void clock_format(int64_t real_ms, char text[CLOCK_TEXT_SIZE]);
int clock_parse(const char *text, int64_t *ret_real_ms, struct error **ret_error);

#endif
