/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The text of a manifest: what is written is read, a torn end is passed over, and the newest knowledge
 * counts. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/core/manifest_priv.h"
#include "rpc/base/alloc.h"

#define STORE  "5bd06a76-2b0c-4f37-8a53-0b2a7b0f3b67"
#define DEVICE "0f0e0d0c-0b0a-4908-8706-050403020100"

static const struct manifest_identity identity = {.store = (char *)STORE, .incarnation = 3};

static void begin(struct strbuf *text)
{
    manifest_add_header(text, &identity, DEVICE);
    manifest_add_record(text, "devices/n/d1", 4, "{\"name\":\"n/d1\"}");
    manifest_add_record(text, "blocks/v/a", 5, "{\"size\":1}");
    manifest_add_record(text, "blocks/v/b", 6, "{\"size\":2}");
    manifest_add_end(text, 6);
}

static struct manifest_view read_back(const char *text)
{
    struct manifest_view view;
    assert_int_equal(manifest_parse(text, &view, NULL), 0);
    return view;
}

static json_int_t size_of(const struct manifest_view *view, const char *key)
{
    const json_t *record = json_object_get(view->records, key);
    return record ? json_integer_value(json_object_get(record, "size")) : -1;
}

static void test_golden(void **state)
{
    (void)state;
    autostrbuf struct strbuf text = {0};
    begin(&text);
    manifest_add_record(&text, "blocks/v/a", 8, NULL);
    manifest_add_end(&text, 9);
    assert_string_equal(
        strbuf_string(&text),
        "bea4b380ed31c890 "
        "{\"format\":1,\"store\":\"5bd06a76-2b0c-4f37-8a53-0b2a7b0f3b67\",\"incarnation\":3,\"device\":"
        "\"0f0e0d0c-0b0a-4908-8706-050403020100\"}\n"
        "0d2d323c00ab2a63 {\"key\":\"devices/n/d1\",\"revision\":4,\"value\":{\"name\":\"n/d1\"}}\n"
        "3056aa29571d621c {\"key\":\"blocks/v/a\",\"revision\":5,\"value\":{\"size\":1}}\n"
        "d9b4a7c3ead7eaa5 {\"key\":\"blocks/v/b\",\"revision\":6,\"value\":{\"size\":2}}\n"
        "4d0664d5eda3592c {\"revision\":6}\n"
        "7add5cee8a620ff5 {\"key\":\"blocks/v/a\",\"revision\":8,\"deleted\":true}\n"
        "4d2564d5edbe09bb {\"revision\":9}\n");
}

static void test_round_trip(void **state)
{
    (void)state;
    autostrbuf struct strbuf text = {0};
    begin(&text);
    manifest_add_record(&text, "blocks/v/a", 8, NULL);
    manifest_add_record(&text, "blocks/v/b", 9, "{\"size\":7}");
    manifest_add_end(&text, 9);
    struct manifest_view view cleanup(manifest_view_clear) = read_back(strbuf_string(&text));
    assert_string_equal(view.identity.store, STORE);
    assert_int_equal(view.identity.incarnation, 3);
    assert_string_equal(view.device_uid, DEVICE);
    assert_int_equal(view.revision, 9);
    assert_false(view.torn);
    assert_int_equal(json_object_size(view.records), 2);
    assert_int_equal(size_of(&view, "blocks/v/a"), -1);
    assert_int_equal(size_of(&view, "blocks/v/b"), 7);
}

/* Wherever the text is cut off, what whole batches say is read, and nothing else. */
static void test_torn(void **state)
{
    (void)state;
    autostrbuf struct strbuf text = {0};
    begin(&text);
    size_t whole = text.length;
    manifest_add_record(&text, "blocks/v/b", 8, "{\"size\":7}");
    manifest_add_record(&text, "blocks/v/c", 8, "{\"size\":8}");
    manifest_add_end(&text, 8);
    for (size_t length = whole; length < text.length; length++) {
        autofree char *cut = xstrndup(text.data, length);
        struct manifest_view view cleanup(manifest_view_clear) = read_back(cut);
        assert_int_equal(view.revision, 6);
        assert_int_equal(size_of(&view, "blocks/v/b"), 2);
        assert_int_equal(size_of(&view, "blocks/v/c"), -1);
        assert_int_equal(view.torn, length > whole);
    }
    for (size_t i = whole; i < text.length; i++) {
        autofree char *rotten = xstrdup(text.data);
        rotten[i] = (char)(rotten[i] ^ 1);
        struct manifest_view view cleanup(manifest_view_clear) = read_back(rotten);
        assert_int_equal(view.revision, 6);
        assert_true(view.torn);
    }
}

/* A whole text holds records of the moment; changes from before that moment may be appended after it. */
static void test_late_changes(void **state)
{
    (void)state;
    autostrbuf struct strbuf text = {0};
    begin(&text);
    manifest_add_record(&text, "blocks/v/b", 5, "{\"size\":99}");
    manifest_add_record(&text, "blocks/v/gone", 3, "{\"size\":99}");
    manifest_add_record(&text, "blocks/v/c", 6, "{\"size\":3}"); /* of the very transaction */
    manifest_add_end(&text, 6);
    struct manifest_view view cleanup(manifest_view_clear) = read_back(strbuf_string(&text));
    assert_int_equal(size_of(&view, "blocks/v/b"), 2);
    assert_int_equal(size_of(&view, "blocks/v/gone"), -1);
    assert_int_equal(size_of(&view, "blocks/v/c"), 3);
}

static void test_no_header(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n", "rubbish", "0123456789abcdef {}\n", "0123456789abcdef "};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct manifest_view view;
        assert_int_equal(manifest_parse(texts[i], &view, NULL), -EBADMSG);
    }
    autostrbuf struct strbuf text = {0};
    struct manifest_view view;
    manifest_add_end(&text, 6); /* a sound line that is no header */
    assert_int_equal(manifest_parse(strbuf_string(&text), &view, NULL), -EBADMSG);
}

static void test_order(void **state)
{
    (void)state;
    struct manifest_view a = {.identity = {.incarnation = 1}, .revision = 900};
    struct manifest_view b = {.identity = {.incarnation = 2}, .revision = 5};
    assert_true(manifest_compare(&a, &b) < 0);
    assert_true(manifest_compare(&b, &a) > 0);
    b.identity.incarnation = 1;
    assert_true(manifest_compare(&a, &b) > 0);
    b.revision = 900;
    assert_int_equal(manifest_compare(&a, &b), 0);
}

static void test_keys(void **state)
{
    (void)state;
    assert_true(manifest_has_key("volumes/v"));
    assert_true(manifest_has_key("blocks/v/b"));
    assert_true(manifest_has_key("exports/n/v/b"));
    assert_false(manifest_has_key("jobs/1"));
    assert_false(manifest_has_key("ports/n/1"));
    assert_false(manifest_has_key(MANIFEST_KEY));
    assert_false(manifest_has_key(ADOPTION_KEY));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),       cmocka_unit_test(test_round_trip), cmocka_unit_test(test_torn),
        cmocka_unit_test(test_late_changes), cmocka_unit_test(test_no_header),  cmocka_unit_test(test_order),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
