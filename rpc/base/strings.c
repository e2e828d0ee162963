/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "strings.h"

#include <stdlib.h>
#include <string.h>

#include "alloc.h"

static void reserve(struct strbuf *buffer, size_t more)
{
    size_t needed = buffer->length + more + 1;
    if (needed <= buffer->capacity)
        return;
    size_t capacity = buffer->capacity ? buffer->capacity : 64;
    while (capacity < needed)
        capacity *= 2;
    buffer->data = xrealloc(buffer->data, capacity, 1);
    buffer->capacity = capacity;
}

void strbuf_add(struct strbuf *buffer, const void *bytes, size_t length)
{
    reserve(buffer, length);
    if (length)
        memcpy(buffer->data + buffer->length, bytes, length);
    buffer->length += length;
    buffer->data[buffer->length] = '\0';
}

void strbuf_adds(struct strbuf *buffer, const char *string)
{
    strbuf_add(buffer, string, strlen(string));
}

void strbuf_addf(struct strbuf *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    autofree char *text = xvasprintf(format, arguments);
    va_end(arguments);
    strbuf_adds(buffer, text);
}

const char *strbuf_string(const struct strbuf *buffer)
{
    return buffer->data ? buffer->data : "";
}

char *strbuf_steal(struct strbuf *buffer)
{
    if (!buffer->data)
        strbuf_add(buffer, "", 0);
    char *data = buffer->data;
    *buffer = (struct strbuf){0};
    return data;
}

void strbuf_clear(struct strbuf *buffer)
{
    free(buffer->data);
    *buffer = (struct strbuf){0};
}

static void append_owned(struct string_list *list, char *string)
{
    /* Room grows at powers of two, so that the list needs no third field. */
    if ((list->count & (list->count - 1)) == 0)
        list->items = xrealloc(list->items, list->count ? list->count * 2 : 1, sizeof *list->items);
    list->items[list->count++] = string;
}

void string_list_add(struct string_list *list, const char *string)
{
    append_owned(list, xstrdup(string));
}

void string_list_addf(struct string_list *list, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    append_owned(list, xvasprintf(format, arguments));
    va_end(arguments);
}

void string_list_copy(struct string_list *to, const struct string_list *from)
{
    for (size_t i = 0; i < from->count; i++)
        string_list_add(to, from->items[i]);
}

bool string_list_contains(const struct string_list *list, const char *string)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], string) == 0)
            return true;
    return false;
}

void string_list_split(struct string_list *list, const char *string, char separator)
{
    if (!*string)
        return;
    for (;;) {
        const char *end = strchr(string, separator);
        if (!end) {
            string_list_add(list, string);
            return;
        }
        append_owned(list, xstrndup(string, (size_t)(end - string)));
        string = end + 1;
    }
}

void string_list_clear(struct string_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct string_list){0};
}

bool string_starts_with(const char *string, const char *prefix)
{
    return strncmp(string, prefix, strlen(prefix)) == 0;
}

bool string_equal(const char *a, const char *b)
{
    if (!a || !b)
        return a == b;
    return strcmp(a, b) == 0;
}

/* "\x1b", and U+0080 to U+009F: a terminal takes "\xc2\x9b" for ESC "[". */
void string_mask_controls(char *text, char instead)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c < 0x20 || *c == 0x7f) {
            *c = (unsigned char)instead;
        } else if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0) {
            c[0] = c[1] = (unsigned char)instead;
            c++;
        }
    }
}
