/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Allocation for the control plane: never NULL; out of memory ends the process (see error.h for why). */
#ifndef BLOCKD_BASE_ALLOC_H
#define BLOCKD_BASE_ALLOC_H

#include <stdarg.h>
#include <stddef.h>

void *xcalloc(size_t count, size_t size) __attribute__((returns_nonnull, malloc));
void *xrealloc(void *pointer, size_t count, size_t size) __attribute__((returns_nonnull));
/* NULL gives NULL, so that optional strings copy without a test. */
char *xstrdup(const char *string);
char *xstrndup(const char *string, size_t length) __attribute__((returns_nonnull));
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2), returns_nonnull));
char *xvasprintf(const char *format, va_list arguments)
    __attribute__((format(printf, 1, 0), returns_nonnull));

#endif
