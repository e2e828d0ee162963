/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "error.h"

#include <stdarg.h>
#include <stdlib.h>

#include "alloc.h"

/* A message quotes what came from outside; it must not be able to forge a line of a log. */
static char *make_one_line(char *message)
{
    for (char *c = message; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = *c == '\n' || *c == '\t' ? ' ' : '?';
    return message;
}

int error_set(struct error **ret_error, int number, const char *format, ...)
{
    if (!ret_error)
        return -number;

    va_list arguments;
    va_start(arguments, format);
    struct error *error = xcalloc(1, sizeof *error);
    error->number = number;
    error->message = make_one_line(xvasprintf(format, arguments));
    va_end(arguments);

    error_free(*ret_error);
    *ret_error = error;
    return -number;
}

void error_prefix(struct error **error, const char *format, ...)
{
    if (!error || !*error)
        return;

    va_list arguments;
    va_start(arguments, format);
    autofree char *context = xvasprintf(format, arguments);
    va_end(arguments);

    char *message = xasprintf("%s: %s", context, (*error)->message);
    free((*error)->message);
    (*error)->message = make_one_line(message);
}

const char *error_message(const struct error *error)
{
    return error && error->message ? error->message : "unknown error";
}

void error_free(struct error *error)
{
    if (!error)
        return;
    free(error->message);
    free(error);
}
