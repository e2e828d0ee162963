/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The API's table: finding routes, error codes, and the OpenAPI document. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/api.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"

/* ---- The table ---- */

static bool is_object(const struct schema *schema)
{
    for (size_t i = 0; i < KIND_COUNT; i++)
        if (object_types[i].schema == schema)
            return true;
    return false;
}

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < API_OP_COUNT; i++) {
        const struct api_route *route = &api_routes[i];
        assert_int_equal(route->op, i);
        assert_non_null(route->method);
        assert_int_equal(route->path[0], '/');
        assert_non_null(route->help);
        assert_int_equal(route->response == NULL, route->response_kind == RESPONSE_TEXT);
        bool change = strcmp(route->method, "GET") != 0;
        /* ?wait, ?revision and ?force come first in the query of every change of objects: handlers count on
         * it */
        if (change && (route->query || is_object(route->response))) {
            assert_non_null(route->query);
            assert_string_equal(route->query->fields[0].name, "wait");
            assert_int_equal(route->query->fields[0].offset, offsetof(struct change_query, wait));
            assert_int_equal(route->query->fields[1].offset, offsetof(struct change_query, revision));
            assert_int_equal(route->query->fields[2].offset, offsetof(struct change_query, force));
        }
        assert_true(change || !route->request);
        assert_true(strcmp(route->method, "DELETE") != 0 || !route->request);
        for (size_t k = 0; k < i; k++)
            assert_true(strcmp(api_routes[k].method, route->method) != 0 ||
                        strcmp(api_routes[k].path, route->path) != 0);
    }
}

static void test_aliases(void **state)
{
    (void)state;
    for (const struct api_alias *alias = api_aliases; alias->noun; alias++) {
        const struct api_route *route = &api_routes[alias->op];
        assert_string_equal(alias->noun, route->noun);
        json_t *body cleanup(json_decrefp) = json_loads(alias->body, 0, NULL);
        assert_non_null(body);
        void *request cleanup(cleanup_free) = xcalloc(1, route->request->size);
        assert_int_equal(schema_decode(route->request, body, request, NULL, NULL), 0);
        schema_clear(route->request, request);
    }
}

/* ---- Routes ---- */

static void expect_route(const char *method, const char *path, enum api_op op, const char *first,
                         const char *second, const char *third)
{
    struct api_match match cleanup(api_match_clear) = {0};
    autoerror struct error *error = NULL;
    if (api_route_find(method, path, &match, &error) != 0)
        fail_msg("%s %s: %s", method, path, error_message(error));
    assert_int_equal(match.route->op, op);
    assert_true(string_equal(match.arguments[0], first));
    assert_true(string_equal(match.arguments[1], second));
    assert_true(string_equal(match.arguments[2], third));
    assert_null(match.arguments[3]);
}

static void expect_no_route(const char *method, const char *path, int number)
{
    struct api_match match = {0};
    autoerror struct error *error = NULL;
    int r = api_route_find(method, path, &match, &error);
    if (r != -number || !error || error->number != number || match.route)
        fail_msg("%s %s: %d, wanted %d", method, path, r, -number);
}

static void test_routes(void **state)
{
    (void)state;
    expect_route("GET", "/v1/nodes", API_NODE_LIST, NULL, NULL, NULL);
    expect_route("GET", "/v1/blocks", API_BLOCK_LIST, NULL, NULL, NULL);
    expect_route("GET", "/v1/blocks/v", API_BLOCK_LIST_VOLUME, "v", NULL, NULL);
    expect_route("GET", "/v1/blocks/v/b", API_BLOCK_GET, "v", "b", NULL);
    expect_route("PATCH", "/v1/blocks/v/b", API_BLOCK_PATCH, "v", "b", NULL);
    expect_route("POST", "/v1/blocks/v/b/rename", API_BLOCK_RENAME, "v", "b", NULL);
    expect_route("GET", "/v1/blocks/%76/b%2D1", API_BLOCK_GET, "v", "b-1", NULL);
    expect_route("DELETE", "/v1/exports/n/v/b", API_EXPORT_DELETE, "n", "v", "b");
    expect_route("GET", "/metrics", API_METRICS, NULL, NULL, NULL);
    expect_route("GET", "/v1/openapi.json", API_OPENAPI, NULL, NULL, NULL);
}

/* Every route is found by a path of its own form, and by no other method. */
static void test_every_route(void **state)
{
    (void)state;
    for (size_t i = 0; i < API_OP_COUNT; i++) {
        autostrbuf struct strbuf path = {0};
        for (const char *c = api_routes[i].path; *c; c++) {
            if (*c == '{') {
                strbuf_adds(&path, "name");
                c = strchr(c, '}');
            } else {
                strbuf_add(&path, c, 1);
            }
        }
        struct api_match match cleanup(api_match_clear) = {0};
        assert_int_equal(api_route_find(api_routes[i].method, strbuf_string(&path), &match, NULL), 0);
        assert_ptr_equal(match.route, &api_routes[i]);
        expect_no_route("BREW", strbuf_string(&path), EOPNOTSUPP);
    }
}

static void test_no_routes(void **state)
{
    (void)state;
    expect_no_route("GET", "", ENOENT);
    expect_no_route("GET", "/", ENOENT);
    expect_no_route("GET", "/v1", ENOENT);
    expect_no_route("GET", "/v1/", ENOENT);
    expect_no_route("GET", "/v1/nodes/", ENOENT);
    expect_no_route("GET", "//v1/nodes", ENOENT);
    expect_no_route("GET", "/v1//nodes", ENOENT);
    expect_no_route("GET", "/v1/blocks//b", ENOENT);
    expect_no_route("GET", "/v1/blocks/v/b/c", ENOENT);
    expect_no_route("GET", "v1/nodes", ENOENT);
    expect_no_route("GET", "/v2/nodes", ENOENT);
    expect_no_route("GET", "/V1/nodes", ENOENT);
    expect_no_route("get", "/v1/nodes", EOPNOTSUPP);
    expect_no_route("PUT", "/v1/blocks/v/b", EOPNOTSUPP);
    expect_no_route("GET", "/v1/blocks/v/b/rename", EOPNOTSUPP);
    expect_no_route("GET", "/v1/blocks/v/..", EINVAL);
    expect_no_route("GET", "/v1/blocks/v/a%2Fb", EINVAL);
    expect_no_route("GET", "/v1/blocks/v/a%00b", EINVAL);
    expect_no_route("GET", "/v1/blocks/v/a%", EINVAL);
    expect_no_route("GET", "/v1/blocks/v/a%4", EINVAL);
    expect_no_route("GET", "/v1/blocks/v/a%zz", EINVAL);
    expect_no_route("GET", "/v1/blocks/v/a%+4", EINVAL);
    expect_no_route("GET", "/v1/blocks/v/-b", EINVAL);
    expect_no_route("GET", "/v1/blocks/v/a b", EINVAL);
    autofree char *name = xcalloc(1, NAME_MAX_LENGTH + 2);
    memset(name, 'a', NAME_MAX_LENGTH + 1);
    autofree char *path = xasprintf("/v1/nodes/%s", name);
    expect_no_route("GET", path, EINVAL);
    path[strlen(path) - 1] = '\0';
    expect_route("GET", path, API_NODE_GET, path + strlen("/v1/nodes/"), NULL, NULL);
}

/* ---- Errors ---- */

static void test_codes(void **state)
{
    (void)state;
    static const struct {
        int number;
        const char *code;
        unsigned status;
    } wanted[] = {
        {EINVAL, "invalid_argument", 400},
        {ENOENT, "not_found", 404},
        {EEXIST, "already_exists", 409},
        {EBUSY, "failed_precondition", 409},
        {ESTALE, "aborted", 409},
        {ENOSPC, "resource_exhausted", 507},
        {EACCES, "permission_denied", 403},
        {EAGAIN, "unavailable", 503},
        {ETIMEDOUT, "deadline_exceeded", 504},
        {EOPNOTSUPP, "unimplemented", 501},
        {ECANCELED, "cancelled", 409},
        {EIO, "internal", 500},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const struct api_code *code = api_code_of_errno(wanted[i].number);
        assert_string_equal(code->code, wanted[i].code);
        assert_int_equal(code->status, wanted[i].status);
        assert_int_equal(api_errno_of_code(wanted[i].code), wanted[i].number);
    }
    assert_string_equal(api_code_of_errno(EXDEV)->code, "internal");
    assert_int_equal(api_errno_of_code("no_such_code"), EIO);
}

/* The exact errno comes through, even where several share one code. */
static void test_error_round_trip(void **state)
{
    (void)state;
    static const int numbers[] = {EINVAL, ENAMETOOLONG, ENOTEMPTY, EDQUOT, EROFS, EXDEV, ENOTCONN};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        autoerror struct error *error = NULL, *decoded = NULL;
        error_set(&error, numbers[i], "block v/b: \"quoted\" \303\244");
        json_t *json cleanup(json_decrefp) = api_error_encode(error);
        assert_non_null(json);
        assert_int_equal(api_error_decode(json, 400, &decoded), -numbers[i]);
        assert_string_equal(decoded->message, error->message);
    }
    json_t *unknown cleanup(json_decrefp) = api_error_encode(NULL);
    assert_int_equal(api_error_decode(unknown, 500, NULL), -EIO);
}

/* A message may quote what a client sent, and that may be no UTF-8. */
static void test_error_that_is_no_text(void **state)
{
    (void)state;
    autoerror struct error *error = NULL, *decoded = NULL;
    error_set(&error, EINVAL, "the name \"a\xff\" is bad");
    json_t *json cleanup(json_decrefp) = api_error_encode(error);
    assert_non_null(json);
    assert_int_equal(api_error_decode(json, 400, &decoded), -EINVAL);
    assert_string_equal(decoded->message, "the name \"a?\" is bad");
}

static void test_error_decode_nonsense(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int number;
    } cases[] = {
        {"{}", EIO},
        {"[]", EIO},
        {"7", EIO},
        {"{\"error\":7}", EIO},
        {"{\"error\":{\"code\":\"not_found\"}}", EIO},
        {"{\"error\":{\"code\":\"not_found\",\"message\":\"m\"}}", ENOENT},
        {"{\"error\":{\"code\":\"strange\",\"message\":\"m\"}}", EIO},
        {"{\"error\":{\"code\":\"not_found\",\"message\":\"m\",\"details\":{\"errno\":0}}}", ENOENT},
        {"{\"error\":{\"code\":\"not_found\",\"message\":\"m\",\"details\":{\"errno\":-5}}}", ENOENT},
        {"{\"error\":{\"code\":\"not_found\",\"message\":\"m\",\"details\":{\"errno\":99999}}}", ENOENT},
        {"{\"error\":{\"code\":\"not_found\",\"message\":\"m\",\"details\":{\"errno\":\"2\"}}}", ENOENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *json cleanup(json_decrefp) = json_loads(cases[i].body, JSON_DECODE_ANY, NULL);
        autoerror struct error *error = NULL;
        assert_int_equal(api_error_decode(json, 500, &error), -cases[i].number);
        assert_int_equal(error->number, cases[i].number);
    }
    assert_int_equal(api_error_decode(NULL, 502, NULL), -EIO);
}

/* ---- OpenAPI ---- */

/* Every "$ref" inside the document leads somewhere. */
static void check_references(const json_t *document, const json_t *part)
{
    static const char prefix[] = "#/components/schemas/";
    const char *name;
    json_t *value;
    size_t index;
    if (json_is_array(part)) {
        json_array_foreach((json_t *)part, index, value) check_references(document, value);
        return;
    }
    json_object_foreach((json_t *)part, name, value)
    {
        if (strcmp(name, "$ref") != 0) {
            check_references(document, value);
            continue;
        }
        const char *target = json_string_value(value);
        assert_true(string_starts_with(target, prefix));
        const json_t *schemas = json_object_get(json_object_get(document, "components"), "schemas");
        assert_non_null(json_object_get(schemas, target + strlen(prefix)));
    }
}

static enum object_kind object_kind_of(const struct schema *schema)
{
    for (enum object_kind kind = 0; kind < KIND_COUNT; kind++)
        if (object_types[kind].schema == schema)
            return kind;
    return KIND_COUNT;
}

static void check_operation(const json_t *paths, const struct api_route *route)
{
    autofree char *method = xstrdup(route->method);
    for (char *c = method; *c; c++)
        *c = (char)(*c | 0x20);
    const json_t *operation = json_object_get(json_object_get(paths, route->path), method);
    assert_non_null(operation);
    assert_string_equal(json_string_value(json_object_get(operation, "summary")), route->help);
    assert_int_equal(json_object_get(operation, "requestBody") != NULL, route->request != NULL);
    size_t index, in_path = 0;
    json_t *parameter;
    json_array_foreach(json_object_get(operation, "parameters"), index, parameter) in_path +=
        strcmp(json_string_value(json_object_get(parameter, "in")), "path") == 0;
    for (const char *c = route->path; *c; c++)
        in_path -= *c == '{';
    assert_int_equal(in_path, 0);
    const json_t *responses = json_object_get(operation, "responses");
    static const char *const made[] = {"/v1/devices", "/v1/volumes", "/v1/blocks",       "/v1/shares",
                                       "/v1/exports", "/v1/tokens",  "/v1/certificates", NULL};
    bool makes = strcmp(route->method, "POST") == 0 && enum_parse(made, route->path) >= 0;
    bool change = strcmp(route->method, "GET") != 0 && object_kind_of(route->response) != KIND_COUNT;
    assert_non_null(json_object_get(responses, makes ? "201" : "200"));
    assert_int_equal(json_object_get(responses, "202") != NULL, change);
    assert_non_null(json_object_get(responses, "default"));
}

static void test_openapi(void **state)
{
    (void)state;
    json_t *document cleanup(json_decrefp) = api_openapi();
    assert_non_null(document);
    assert_string_equal(json_string_value(json_object_get(document, "openapi")), "3.0.3");
    for (size_t i = 0; i < API_OP_COUNT; i++)
        check_operation(json_object_get(document, "paths"), &api_routes[i]);
    check_references(document, document);
    const json_t *schemas = json_object_get(json_object_get(document, "components"), "schemas");
    const json_t *create = json_object_get(schemas, "BlockCreate");
    assert_int_equal(json_array_size(json_object_get(create, "required")), 2);
    const json_t *prealloc = json_object_get(json_object_get(create, "properties"), "prealloc");
    assert_int_equal(json_array_size(json_object_get(prealloc, "enum")), 2);
}

static void test_secrets_in_paths(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"/v1/tokens/0a1b.5ec7.f0", "/v1/tokens/0a1b"},
                                           {"/v1/tokens/0a1b%2e5ec7", "/v1/tokens/0a1b"},
                                           {"/v1/tokens/0a1b", "/v1/tokens/0a1b"},
                                           {"/v1/tokens", "/v1/tokens"},
                                           {"/v1/openapi.json", "/v1/openapi.json"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        autofree char *path = api_path_without_secret(cases[i][0]);
        assert_string_equal(path, cases[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_every_route),
        cmocka_unit_test(test_no_routes),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_error_round_trip),
        cmocka_unit_test(test_error_that_is_no_text),
        cmocka_unit_test(test_error_decode_nonsense),
        cmocka_unit_test(test_openapi),
        cmocka_unit_test(test_secrets_in_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
