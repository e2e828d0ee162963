/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void out_of_memory(void)
{
    fputs("out of memory\n", stderr);
    abort();
}

void *xcalloc(size_t count, size_t size)
{
    void *pointer = calloc(count ? count : 1, size ? size : 1);
    if (!pointer)
        out_of_memory();
    return pointer;
}

void *xrealloc(void *pointer, size_t count, size_t size)
{
    void *moved = reallocarray(pointer, count ? count : 1, size);
    if (!moved)
        out_of_memory();
    return moved;
}

char *xstrdup(const char *string)
{
    return string ? xstrndup(string, strlen(string)) : NULL;
}

char *xstrndup(const char *string, size_t length)
{
    char *copy = strndup(string, length);
    if (!copy)
        out_of_memory();
    return copy;
}

char *xvasprintf(const char *format, va_list arguments)
{
    char *string;
    if (vasprintf(&string, format, arguments) < 0)
        out_of_memory();
    return string;
}

char *xasprintf(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *string = xvasprintf(format, arguments);
    va_end(arguments);
    return string;
}
