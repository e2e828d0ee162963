/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A table of fields describes a C structure: its JSON form, its limits, its help. From that one table come
 * the decoder with its validation, the encoder, the destructor, the copy, the OpenAPI document, and the
 * options of the command line.
 *
 * Pure functions; json_t follows jansson's reference rules.
 */
#ifndef BLOCKD_RPC_SCHEMA_H
#define BLOCKD_RPC_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/base/error.h"
#include "rpc/base/strings.h"

enum field_type {
    FIELD_STRING,  /* char *, NULL when absent; `max` characters (0: 4096), no control characters */
    FIELD_NAME,    /* char *, checked by name_check() */
    FIELD_SIZE,    /* uint64_t bytes; JSON integer, or a string as size_parse() takes it */
    FIELD_UINT,    /* uint64_t */
    FIELD_BOOL,    /* bool */
    FIELD_ENUM,    /* int, an index into `words` */
    FIELD_RATIO,   /* double; `min` and `max` in thousandths */
    FIELD_TIME,    /* int64_t milliseconds since the epoch, 0 when absent; RFC 3339 in JSON */
    FIELD_STRINGS, /* struct string_list */
    FIELD_OBJECT,  /* embedded structure described by `object` */
    FIELD_OBJECTS, /* struct object_list whose elements `object` describes */
};

enum field_flags {
    FIELD_REQUIRED = 1 << 0, /* decoding fails without it */
    FIELD_OPTIONAL = 1 << 1, /* left out of the JSON when zero, NULL or empty */
    FIELD_HIDDEN = 1 << 2,   /* not offered on the command line (set by its own word there) */
    FIELD_SECRET = 1 << 4,   /* a password, a token: its value is in no record of what was asked */
    FIELD_LINES = 1 << 5,    /* text of several lines: a PEM file */
    FIELD_WORD = 1 << 3, /* on the command line a word in its place as required fields are, though optional */
};

struct object_list {
    void *items; /* an array of structures as the field's `object` describes */
    size_t count;
};

struct schema;

struct field {
    const char *name; /* of the JSON member; NULL ends the table */
    enum field_type type;
    size_t offset; /* of the member in the structure */
    unsigned flags;
    uint64_t min, max;        /* of numbers and of lengths; max 0 is no limit of its own */
    const char *const *words; /* FIELD_ENUM, NULL terminated */
    const struct schema *object;
    const char *help; /* one line */
};

struct schema {
    const char *name; /* "BlockSpec", as in the OpenAPI document */
    size_t size;      /* sizeof the structure */
    const struct field *fields;
    const char *help;
};

/*
 * Reads JSON into *object, which the caller has filled with defaults; members that are absent keep theirs. An
 * unknown member, a wrong type, a value out of its limits and a missing required member are -EINVAL (a size
 * beyond the largest one is -ERANGE), with the member's path in the message. On failure the object may be
 * partly changed, and is still valid for schema_clear(). If ret_present is given, bit I is set there when the
 * table's field I was in the JSON (tables have at most 64 fields).
 */
int schema_decode(const struct schema *schema, const json_t *json, void *object, uint64_t *ret_present,
                  struct error **ret_error);

/* Checks the limits of every field of an object that came from somewhere else than JSON. */
int schema_check(const struct schema *schema, const void *object, struct error **ret_error);

/* A new reference, never NULL. Strings that are not UTF-8 are written with "?" in place of each bad byte. */
json_t *schema_encode(const struct schema *schema, const void *object);

/* A JSON string of any text: bytes that are no UTF-8 become "?". A new reference, never NULL. */
json_t *json_string_lossy(const char *text);

/* Frees what the members own and zeroes the structure. */
void schema_clear(const struct schema *schema, void *object);

/* A deep copy into *to, which is overwritten without being freed. */
void schema_copy(const struct schema *schema, void *to, const void *from);

/* The index of a word in an enumeration's list, or -1. */
int enum_parse(const char *const words[], const char *word);

/* Appends a zeroed element to an object list and returns it; `size` is the element's.
 * Moves earlier elements. */
void *object_list_add(struct object_list *list, size_t size);

/* Frees a list of objects of the schema and empties it. */
void object_list_clear(struct object_list *list, const struct schema *schema);

#endif
