/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The error convention of the whole tree.
 *
 *   int f(..., T *ret_x, struct error **ret_error);
 *
 * A function that can fail returns 0 or a negative errno that is exact: callers decide on it. The message is
 * made where the failure happens, names the object ("block demo/disk1 ..."), and says what to do where that
 * is known. Outputs are called ret_... and are untouched on failure. ret_error may be NULL when the caller
 * wants the number only; otherwise it must point to a NULL pointer, and on failure it receives an error that
 * the caller frees.
 *
 * Libraries do not log: only api/, main and supervision do. Conversion to HTTP status, NBD errors and exit
 * codes happens at the edge, from one table (rpc/codes.h).
 *
 * Small allocations of the control plane go through alloc.h, which ends the process when memory is gone:
 * every change is crash safe, so a restart is the sound answer there. Sizes that a client chooses are limited
 * first, and buffers on the data path use malloc() and answer ENOMEM.
 */
#ifndef BLOCKD_BASE_ERROR_H
#define BLOCKD_BASE_ERROR_H

#include "cleanup.h"

struct error {
    int number;    /* a positive errno */
    char *message; /* one line, no trailing newline, no secret */
};

/* Makes an error and returns -number, so that a failure is one statement: return
 * error_set(e, ENOENT, "..."). */
int error_set(struct error **ret_error, int number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the message that is already there. Does nothing when there is none. */
void error_prefix(struct error **error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The message of an error, or "unknown error" for NULL. Valid as long as the error. */
const char *error_message(const struct error *error);

void error_free(struct error *error);

DEFINE_CLEANUP(struct error *, cleanup_error, error_free)
#define autoerror cleanup(cleanup_error)

#endif
