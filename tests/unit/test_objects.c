/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The nouns as structures: keys and names, and that every kind survives its JSON. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/objects.h"

static void test_types(void **state)
{
    (void)state;
    for (size_t i = 0; i < KIND_COUNT; i++) {
        const struct object_type *type = &object_types[i];
        assert_int_equal(type->kind, i);
        assert_in_range(type->parts, 1, 3);
        /* Every object begins with its meta, so that code for all kinds can take a struct meta. */
        assert_string_equal(type->schema->fields[0].name, "name");
        assert_int_equal(type->schema->fields[0].offset, offsetof(struct meta, name));
        assert_true(type->schema->size > sizeof(struct meta));
        autofree char *plural = xasprintf("%ss", type->word);
        assert_string_equal(type->plural, plural);
    }
}

/* Field offsets lie inside their structure, names are unique, words and help are there. */
static void check_table(const struct schema *schema, unsigned depth)
{
    assert_in_range(depth, 0, 4);
    size_t count = 0;
    for (const struct field *field = schema->fields; field->name; field++, count++) {
        assert_true(field->offset < schema->size);
        assert_non_null(field->help);
        assert_true(strlen(field->help) > 2);
        assert_int_equal(field->type == FIELD_ENUM, field->words != NULL);
        assert_int_equal(field->type == FIELD_OBJECT || field->type == FIELD_OBJECTS, field->object != NULL);
        for (const struct field *other = schema->fields; other < field; other++)
            assert_string_not_equal(other->name, field->name);
        if (field->object)
            check_table(field->object, depth + 1);
    }
    assert_in_range(count, 1, 64); /* as many as schema_decode() has bits for */
}

static void test_tables(void **state)
{
    (void)state;
    for (size_t i = 0; i < KIND_COUNT; i++)
        check_table(object_types[i].schema, 0);
}

/* Puts something into every member that a limit allows, so that none can be lost on the way. */
static void fill(const struct schema *schema, void *object)
{
    for (const struct field *field = schema->fields; field->name; field++) {
        void *member = (char *)object + field->offset;
        uint64_t number = field->max ? field->max : 123456789;
        switch (field->type) {
        case FIELD_STRING:
        case FIELD_NAME:
            *(char **)member = xasprintf("%s-text", field->type == FIELD_NAME ? "name" : field->name);
            break;
        case FIELD_SIZE:
        case FIELD_UINT:
            *(uint64_t *)member = number;
            break;
        case FIELD_BOOL:
            *(bool *)member = true;
            break;
        case FIELD_ENUM:
            *(int *)member = field->words[1] ? 1 : 0;
            break;
        case FIELD_RATIO:
            *(double *)member = 1.25;
            break;
        case FIELD_TIME:
            *(int64_t *)member = 1767323045678;
            break;
        case FIELD_STRINGS:
            string_list_add(member, "one");
            string_list_add(member, "two");
            break;
        case FIELD_OBJECT:
            fill(field->object, member);
            break;
        case FIELD_OBJECTS:
            fill(field->object, object_list_add(member, field->object->size));
            fill(field->object, object_list_add(member, field->object->size));
            break;
        }
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < KIND_COUNT; i++) {
        const struct schema *schema = object_types[i].schema;
        void *object cleanup(cleanup_free) = xcalloc(1, schema->size);
        void *again cleanup(cleanup_free) = xcalloc(1, schema->size);
        fill(schema, object);
        assert_int_equal(schema_check(schema, object, NULL), 0);
        json_t *json cleanup(json_decrefp) = schema_encode(schema, object);
        autoerror struct error *error = NULL;
        if (schema_decode(schema, json, again, NULL, &error) < 0)
            fail_msg("%s: %s", schema->name, error_message(error));
        json_t *second cleanup(json_decrefp) = schema_encode(schema, again);
        assert_true(json_equal(json, second));
        for (const struct field *field = schema->fields; field->name; field++)
            assert_non_null(json_object_get(json, field->name));
        schema_clear(schema, object);
        schema_clear(schema, again);
    }
}

static void test_keys(void **state)
{
    (void)state;
    autofree char *key = object_key(KIND_EXPORT, "n/v/b");
    assert_string_equal(key, "exports/n/v/b");
    enum object_kind kind = KIND_COUNT;
    const char *name = NULL;
    assert_int_equal(object_key_parse(key, &kind, &name), 0);
    assert_int_equal(kind, KIND_EXPORT);
    assert_string_equal(name, "n/v/b");

    static const char *const refused[] = {"",           "exports",   "exports/",  "export/n",
                                          "/exports/n", "blockss/v", "Blocks/v/b"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        kind = KIND_COUNT;
        assert_int_equal(object_key_parse(refused[i], &kind, &name), -EINVAL);
        assert_int_equal(kind, KIND_COUNT);
    }
}

static void test_name_parts(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned index;
        const char *part;
    } cases[] = {
        {"v/b", 0, "v"}, {"v/b", 1, "b"}, {"v/b", 2, NULL}, {"n/v/b", 2, "b"},
        {"v", 0, "v"},   {"v", 1, NULL},  {"", 0, ""},      {"", 1, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        autofree char *part = object_name_part(cases[i].name, cases[i].index);
        assert_true(string_equal(part, cases[i].part));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types), cmocka_unit_test(test_tables),     cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_keys),  cmocka_unit_test(test_name_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
