/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Tables of fields: decoding and its limits, encoding, copies, destructors. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/base/alloc.h"
#include "rpc/schema.h"

/* One member of every type. */
struct part {
    char *label;
    uint64_t weight;
};
struct all {
    char *text, *name;
    uint64_t size, count;
    bool flag;
    int word;
    double ratio;
    int64_t time;
    struct string_list tags;
    struct part part;
    struct object_list parts;
};

static const char *const words[] = {"one", "two", NULL};
static const struct field part_fields[] = {
    {"label", FIELD_STRING, offsetof(struct part, label), FIELD_REQUIRED, 1, 8, .help = "label"},
    {"weight", FIELD_UINT, offsetof(struct part, weight), FIELD_OPTIONAL, 0, 100, .help = "weight"},
    {.name = NULL},
};
static const struct schema part_schema = {"Part", sizeof(struct part), part_fields, "a part"};
static const struct field all_fields[] = {
    {"text", FIELD_STRING, offsetof(struct all, text), 0, 2, 5, .help = "text"},
    {"name", FIELD_NAME, offsetof(struct all, name), 0, .help = "name"},
    {"size", FIELD_SIZE, offsetof(struct all, size), 0, 0, 1 << 20, .help = "size"},
    {"count", FIELD_UINT, offsetof(struct all, count), 0, 3, 7, .help = "count"},
    {"flag", FIELD_BOOL, offsetof(struct all, flag), FIELD_OPTIONAL, .help = "flag"},
    {"word", FIELD_ENUM, offsetof(struct all, word), 0, .words = words, .help = "word"},
    {"ratio", FIELD_RATIO, offsetof(struct all, ratio), 0, 100, 2000, .help = "ratio"},
    {"time", FIELD_TIME, offsetof(struct all, time), 0, .help = "time"},
    {"tags", FIELD_STRINGS, offsetof(struct all, tags), FIELD_OPTIONAL, .max = 2, .help = "tags"},
    {"part", FIELD_OBJECT, offsetof(struct all, part), 0, .object = &part_schema, .help = "part"},
    {"parts", FIELD_OBJECTS, offsetof(struct all, parts), 0, .max = 2, .object = &part_schema,
     .help = "parts"},
    {.name = NULL},
};
static const struct schema all_schema = {"All", sizeof(struct all), all_fields, "all"};

/* With every limit kept. */
static struct all defaults(void)
{
    return (struct all){.count = 3, .ratio = 1, .part.label = xstrdup("p")};
}

static void clear(struct all *all)
{
    schema_clear(&all_schema, all);
}

static int decode(const char *text, struct all *all, uint64_t *present, struct error **error)
{
    json_t *json cleanup(json_decrefp) = json_loads(text, JSON_DECODE_ANY, NULL);
    if (!json)
        fail_msg("the test's own JSON is wrong: %s", text);
    return schema_decode(&all_schema, json, all, present, error);
}

static void test_decode_everything(void **state)
{
    (void)state;
    struct all all cleanup(clear) = defaults();
    uint64_t present = 0;
    autoerror struct error *error = NULL;
    int r = decode(
        "{\"text\":\"abc\",\"name\":\"n-1\",\"size\":\"1.5KiB\",\"count\":7,\"flag\":true,\"word\":\"two\","
        "\"ratio\":0.5,\"time\":\"2026-01-02T03:04:05.678Z\",\"tags\":[\"x\",\"y\"],"
        "\"part\":{\"label\":\"l\",\"weight\":9},\"parts\":[{\"label\":\"q\"}]}",
        &all, &present, &error);
    assert_int_equal(r, 0);
    assert_null(error);
    assert_int_equal(present, (1 << 11) - 1);
    assert_string_equal(all.text, "abc");
    assert_string_equal(all.name, "n-1");
    assert_int_equal(all.size, 1536);
    assert_int_equal(all.count, 7);
    assert_true(all.flag);
    assert_int_equal(all.word, 1);
    assert_true(all.ratio == 0.5);
    assert_int_equal(all.time, 1767323045678);
    assert_int_equal(all.tags.count, 2);
    assert_string_equal(all.tags.items[1], "y");
    assert_string_equal(all.part.label, "l");
    assert_int_equal(all.part.weight, 9);
    assert_int_equal(all.parts.count, 1);
    assert_string_equal(((struct part *)all.parts.items)[0].label, "q");
}

/* What is absent keeps what the caller put there, and is not reported as present. */
static void test_absent(void **state)
{
    (void)state;
    struct all all cleanup(clear) = defaults();
    uint64_t present = UINT64_MAX;
    all.text = xstrdup("kept");
    assert_int_equal(decode("{\"count\":4}", &all, &present, NULL), 0);
    assert_int_equal(present, 1 << 3);
    assert_string_equal(all.text, "kept");
    assert_int_equal(all.count, 4);
}

/* A list in the JSON takes the place of the one that was there. */
static void test_lists_replace(void **state)
{
    (void)state;
    struct all all cleanup(clear) = defaults();
    assert_int_equal(
        decode("{\"tags\":[\"a\",\"b\"],\"parts\":[{\"label\":\"a\"},{\"label\":\"b\"}]}", &all, NULL, NULL),
        0);
    assert_int_equal(decode("{\"tags\":[\"c\"],\"parts\":[]}", &all, NULL, NULL), 0);
    assert_int_equal(all.tags.count, 1);
    assert_string_equal(all.tags.items[0], "c");
    assert_int_equal(all.parts.count, 0);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *message; /* a part of it, which names the member */
        int number;                 /* 0: EINVAL */
    } cases[] = {
        {"[]", "a JSON object is wanted", 0},
        {"7", "a JSON object is wanted", 0},
        {"{\"colour\":1}", "no member \"colour\"", 0},
        {"{\"text\":7}", "text must be a string", 0},
        {"{\"text\":null}", "text must be a string", 0},
        {"{\"text\":\"a\"}", "text is", 0},
        {"{\"text\":\"abcdef\"}", "longer than 5", 0},
        {"{\"text\":\"a\\nb\"}", "control character", 0},
        {"{\"text\":\"a\\u007fb\"}", "control character", 0},
        {"{\"name\":\"\"}", "name is empty", 0},
        {"{\"name\":\"a/b\"}", "may hold letters", 0},
        {"{\"name\":\"-a\"}", "begins with", 0},
        {"{\"size\":-1}", "size must be a number of bytes", 0},
        {"{\"size\":1.5}", "size must be a number of bytes", 0},
        {"{\"size\":\"many\"}", "size: \"many\" is no size", 0},
        {"{\"size\":\"9EiB\"}", "size: \"9EiB\" is larger", ERANGE},
        {"{\"size\":\"2MiB\"}", "size is 2097152", 0},
        {"{\"count\":2}", "count is 2, and must be at least 3", 0},
        {"{\"count\":8}", "at most 7", 0},
        {"{\"count\":\"5\"}", "count must be a whole number", 0},
        {"{\"count\":5.0}", "count must be a whole number", 0},
        {"{\"flag\":1}", "flag must be true or false", 0},
        {"{\"word\":\"three\"}", "word must be one of \"one\", \"two\"", 0},
        {"{\"word\":1}", "word must be one of", 0},
        {"{\"ratio\":0.05}", "ratio is 0.05", 0},
        {"{\"ratio\":3}", "from 0.1 to 2", 0},
        {"{\"ratio\":\"1\"}", "ratio must be a number", 0},
        {"{\"time\":7}", "time must be an RFC 3339 time", 0},
        {"{\"time\":\"yesterday\"}", "no RFC 3339 time", 0},
        {"{\"tags\":\"a\"}", "tags must be a list", 0},
        {"{\"tags\":[1]}", "tags must be a list of strings", 0},
        {"{\"tags\":[\"a\",\"b\",\"c\"]}", "tags has 3 items", 0},
        {"{\"tags\":[\"\"]}", "tags is empty", 0},
        {"{\"part\":[]}", "part: a JSON object is wanted", 0},
        {"{\"part\":{\"weight\":1}}", "part: label is missing", 0},
        {"{\"part\":{\"label\":\"x\",\"weight\":101}}", "part: weight is 101", 0},
        {"{\"parts\":{}}", "parts must be a list of objects", 0},
        {"{\"parts\":[{\"label\":\"a\"},{}]}", "parts[1]: label is missing", 0},
        {"{\"parts\":[{\"label\":\"a\"},{\"label\":\"a\"},{\"label\":\"a\"}]}", "too many items", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct all all cleanup(clear) = defaults();
        autoerror struct error *error = NULL;
        int number = cases[i].number ? cases[i].number : EINVAL;
        int r = decode(cases[i].json, &all, NULL, &error);
        if (r != -number || !error || error->number != number || !strstr(error->message, cases[i].message))
            fail_msg("%s: %d \"%s\", wanted \"%s\"", cases[i].json, r, error_message(error),
                     cases[i].message);
    }
}

/* A NUL inside a JSON string would be cut short in C. */
static void test_embedded_nul(void **state)
{
    (void)state;
    struct all all cleanup(clear) = defaults();
    json_t *json cleanup(json_decrefp) = json_object();
    json_object_set_new(json, "text", json_stringn("ab\0c", 4));
    assert_int_equal(schema_decode(&all_schema, json, &all, NULL, NULL), -EINVAL);
    json_t *list cleanup(json_decrefp) = json_object(), *tags = json_array();
    json_array_append_new(tags, json_stringn("\0", 1));
    json_object_set_new(list, "tags", tags);
    assert_int_equal(schema_decode(&all_schema, list, &all, NULL, NULL), -EINVAL);
}

static void test_encode(void **state)
{
    (void)state;
    struct all all cleanup(clear) = defaults();
    json_t *empty cleanup(json_decrefp) = schema_encode(&all_schema, &all);
    autofree char *text = json_dumps(empty, JSON_COMPACT);
    assert_string_equal(text,
                        "{\"size\":0,\"count\":3,\"word\":\"one\",\"ratio\":1.0,\"part\":{\"label\":\"p\"},"
                        "\"parts\":[]}");

    const char *full =
        "{\"text\":\"abc\",\"name\":\"n\",\"size\":1536,\"count\":7,\"flag\":true,\"word\":\"two\","
        "\"ratio\":0.5,\"time\":\"2026-01-02T03:04:05.678Z\",\"tags\":[\"x\"],\"part\":{\"label\":"
        "\"l\",\"weight\":9},\"parts\":[{\"label\":\"q\"}]}";
    assert_int_equal(decode(full, &all, NULL, NULL), 0);
    json_t *json cleanup(json_decrefp) = schema_encode(&all_schema, &all);
    autofree char *again = json_dumps(json, JSON_COMPACT);
    assert_string_equal(again, full);
}

/* Bytes that are no UTF-8 become "?", and the rest stays. */
static void test_encode_bad_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *wanted;
    } cases[] = {
        {"a\xffz", "a?z"},  {"\xc3\xa9", "\xc3\xa9"}, {"\xc3", "?"},
        {"\xe2\x82", "??"}, {"x\x80y\x81", "x?y?"},   {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct all all cleanup(clear) = defaults();
        all.text = xstrdup(cases[i].bytes);
        json_t *json cleanup(json_decrefp) = schema_encode(&all_schema, &all);
        assert_string_equal(json_string_value(json_object_get(json, "text")), cases[i].wanted);
    }
    /* Overlong forms and surrogates have the right shape, and jansson refuses them all the same. */
    static const char *const refused[] = {"\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct all all cleanup(clear) = defaults();
        all.text = xstrdup(refused[i]);
        json_t *json cleanup(json_decrefp) = schema_encode(&all_schema, &all);
        assert_true(json_is_string(json_object_get(json, "text")));
    }
}

static void test_copy_and_clear(void **state)
{
    (void)state;
    struct all all cleanup(clear) = defaults(), copy cleanup(clear) = {0};
    assert_int_equal(
        decode("{\"text\":\"abc\",\"name\":\"n\",\"tags\":[\"x\",\"y\"],\"parts\":[{\"label\":\"q\"}]}", &all,
               NULL, NULL),
        0);
    schema_copy(&all_schema, &copy, &all);
    json_t *before cleanup(json_decrefp) = schema_encode(&all_schema, &all);
    json_t *copied cleanup(json_decrefp) = schema_encode(&all_schema, &copy);
    assert_true(json_equal(before, copied));
    assert_ptr_not_equal(all.text, copy.text);
    assert_ptr_not_equal(all.tags.items, copy.tags.items);
    assert_ptr_not_equal(all.parts.items, copy.parts.items);
    schema_clear(&all_schema, &all);
    static const struct all zero;
    assert_memory_equal(&all, &zero, sizeof all);
    schema_clear(&all_schema, &all); /* a second time, and on what was never filled */
    assert_string_equal(((struct part *)copy.parts.items)[0].label, "q");
}

static void test_check(void **state)
{
    (void)state;
    struct all all cleanup(clear) = defaults();
    autoerror struct error *error = NULL;
    assert_int_equal(schema_check(&all_schema, &all, &error), 0);
    all.count = 9;
    assert_int_equal(schema_check(&all_schema, &all, NULL), -EINVAL);
    all.count = 3;
    all.word = 2;
    assert_int_equal(schema_check(&all_schema, &all, NULL), -EINVAL);
    all.word = -1;
    assert_int_equal(schema_check(&all_schema, &all, NULL), -EINVAL);
    all.word = 0;
    all.ratio = (double)NAN;
    assert_int_equal(schema_check(&all_schema, &all, NULL), -EINVAL);
    all.ratio = 1;
    free(all.part.label);
    all.part.label = NULL; /* required */
    assert_int_equal(schema_check(&all_schema, &all, NULL), -EINVAL);
    all.part.label = xstrdup("p");
    object_list_add(&all.parts, sizeof(struct part));
    assert_int_equal(schema_check(&all_schema, &all, NULL), -EINVAL);
}

static void test_enum_parse(void **state)
{
    (void)state;
    assert_int_equal(enum_parse(words, "one"), 0);
    assert_int_equal(enum_parse(words, "two"), 1);
    assert_int_equal(enum_parse(words, "on"), -1);
    assert_int_equal(enum_parse(words, ""), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_everything),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_lists_replace),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_embedded_nul),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_encode_bad_utf8),
        cmocka_unit_test(test_copy_and_clear),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_enum_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
