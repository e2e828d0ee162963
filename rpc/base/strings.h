/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* A growing string and a list of strings. Not thread safe; all zero is an empty one. */
#ifndef BLOCKD_BASE_STRINGS_H
#define BLOCKD_BASE_STRINGS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "cleanup.h"

struct strbuf {
    char *data;      /* NUL terminated once anything was added; NULL before */
    size_t length;   /* without the NUL */
    size_t capacity; /* bytes allocated */
};

void strbuf_add(struct strbuf *buffer, const void *bytes, size_t length);
void strbuf_adds(struct strbuf *buffer, const char *string);
void strbuf_addf(struct strbuf *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Never NULL: "" when empty. Owned by the buffer. */
const char *strbuf_string(const struct strbuf *buffer);
/* Hands the string to the caller, never NULL, and leaves the buffer empty. */
char *strbuf_steal(struct strbuf *buffer);
void strbuf_clear(struct strbuf *buffer);
#define autostrbuf cleanup(strbuf_clear)

struct string_list {
    char **items; /* each owned; not NULL terminated */
    size_t count;
};

/* Copies the string. */
void string_list_add(struct string_list *list, const char *string);
void string_list_addf(struct string_list *list, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void string_list_copy(struct string_list *to, const struct string_list *from);
/* Replaces each byte of a control character: what clients and programs said may go to a terminal. */
void string_mask_controls(char *text, char instead);
bool string_list_contains(const struct string_list *list, const char *string);
/* Splits at each separator; empty parts are kept, an empty string gives no part. */
void string_list_split(struct string_list *list, const char *string, char separator);
void string_list_clear(struct string_list *list);
#define autostring_list cleanup(string_list_clear)

bool string_starts_with(const char *string, const char *prefix);
/* Equality where NULL equals NULL only. */
bool string_equal(const char *a, const char *b);

#endif
