/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The OpenAPI 3.0 document, generated from the tables of routes and fields. */
#include <string.h>

#include "api.h"
#include "rpc/base/alloc.h"

#define NAME_PATTERN "^[A-Za-z0-9_][A-Za-z0-9_-]*$" /* as name_check() has it */

static json_t *reference(const struct schema *schema)
{
    autofree char *target = xasprintf("#/components/schemas/%s", schema->name);
    return json_pack("{s:s}", "$ref", target);
}

static void describe_schema(json_t *schemas, const struct schema *schema);

/* The JSON schema of one field's value. */
static json_t *field_type_schema(json_t *schemas, const struct field *field)
{
    json_t *type, *words;
    switch (field->type) {
    case FIELD_STRING:
        type = json_pack("{s:s, s:I}", "type", "string", "maxLength",
                         (json_int_t)(field->max ? field->max : 4096));
        if (field->min)
            json_object_set_new(type, "minLength", json_integer((json_int_t)field->min));
        return type;
    case FIELD_NAME:
        return json_pack("{s:s, s:s, s:i}", "type", "string", "pattern", NAME_PATTERN, "maxLength", 254);
    case FIELD_SIZE:
    case FIELD_UINT:
        type = json_pack("{s:s, s:s, s:I}", "type", "integer", "format", "int64", "minimum",
                         (json_int_t)field->min);
        if (field->max && field->max <= INT64_MAX)
            json_object_set_new(type, "maximum", json_integer((json_int_t)field->max));
        return type;
    case FIELD_BOOL:
        return json_pack("{s:s}", "type", "boolean");
    case FIELD_RATIO:
        type = json_pack("{s:s, s:s, s:f}", "type", "number", "format", "double", "minimum",
                         (double)field->min / 1000);
        if (field->max)
            json_object_set_new(type, "maximum", json_real((double)field->max / 1000));
        return type;
    case FIELD_TIME:
        return json_pack("{s:s, s:s}", "type", "string", "format", "date-time");
    case FIELD_ENUM:
        words = json_array();
        for (size_t i = 0; field->words[i]; i++)
            json_array_append_new(words, json_string(field->words[i]));
        return json_pack("{s:s, s:o}", "type", "string", "enum", words);
    case FIELD_STRINGS:
        type = json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "string");
        if (field->max)
            json_object_set_new(type, "maxItems", json_integer((json_int_t)field->max));
        return type;
    case FIELD_OBJECT:
        describe_schema(schemas, field->object);
        return reference(field->object);
    case FIELD_OBJECTS:
        describe_schema(schemas, field->object);
        return json_pack("{s:s, s:o}", "type", "array", "items", reference(field->object));
    }
    return json_object();
}

static json_t *description(const struct field *field)
{
    if (field->type != FIELD_SIZE)
        return json_string(field->help);
    autofree char *text =
        xasprintf("%s. In bytes; a request may also say it as text, \"10GiB\"", field->help);
    return json_string(text);
}

static void describe_schema(json_t *schemas, const struct schema *schema)
{
    if (json_object_get(schemas, schema->name))
        return;
    json_t *properties = json_object(), *required = json_array();
    json_t *whole =
        json_pack("{s:s, s:s, s:o}", "type", "object", "description", schema->help, "properties", properties);
    json_object_set_new(schemas, schema->name, whole);
    for (const struct field *field = schema->fields; field->name; field++) {
        json_t *property = field_type_schema(schemas, field);
        if (!json_object_get(property, "$ref")) /* OpenAPI 3.0 ignores what stands beside a reference */
            json_object_set_new(property, "description", description(field));
        json_object_set_new(properties, field->name, property);
        if (field->flags & FIELD_REQUIRED)
            json_array_append_new(required, json_string(field->name));
    }
    if (json_array_size(required))
        json_object_set_new(whole, "required", required);
    else
        json_decref(required);
}

/* Is an object of the store changed, so that the change may go on after the answer, and be repeated? */
static bool is_change(const struct api_route *route)
{
    if (strcmp(route->method, "GET") == 0)
        return false;
    for (size_t i = 0; i < KIND_COUNT; i++)
        if (object_types[i].schema == route->response)
            return true;
    return false;
}

static json_t *parameters(json_t *schemas, const struct api_route *route)
{
    json_t *list = json_array();
    for (const char *c = strchr(route->path, '{'); c; c = strchr(c + 1, '{')) {
        autofree char *name = xstrndup(c + 1, strcspn(c + 1, "}"));
        json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:{s:s}}", "name", name, "in", "path",
                                              "required", 1, "schema", "type", "string"));
    }
    for (const struct field *field = route->query ? route->query->fields : NULL; field && field->name;
         field++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:o}", "name", field->name, "in", "query",
                                              "description", field->help, "schema",
                                              field_type_schema(schemas, field)));
    if (is_change(route))
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:i}}", "name", "Idempotency-Key",
                                              "in", "header", "description",
                                              "A retry with the same key gets the same answer", "schema",
                                              "type", "string", "pattern", NAME_PATTERN, "maxLength", 128));
    return list;
}

static json_t *content(json_t *schemas, const struct api_route *route)
{
    if (route->op == API_OPENAPI)
        return json_pack("{s:{s:{s:s}}}", "application/json", "schema", "type", "object");
    if (route->response_kind == RESPONSE_TEXT)
        return json_pack("{s:{s:{s:s}}}", "text/plain", "schema", "type", "string");
    describe_schema(schemas, route->response);
    if (route->response_kind == RESPONSE_OBJECT)
        return json_pack("{s:{s:o}}", "application/json", "schema", reference(route->response));
    json_t *changes =
        json_pack("{s:s, s:s, s:{s:{s:s, s:[s,s]}, s:{s:s}, s:{s:s}, s:o}}", "type", "object", "description",
                  "With watch: one a line, as long as the client reads", "properties", "type", "type",
                  "string", "enum", "put", "delete", "key", "type", "string", "revision", "type", "integer",
                  "object", reference(route->response));
    return json_pack("{s:{s:{s:s, s:{s:{s:s, s:o}, s:{s:s}}}}, s:{s:o}}", "application/json", "schema",
                     "type", "object", "properties", "items", "type", "array", "items",
                     reference(route->response), "revision", "type", "integer", "application/jsonl", "schema",
                     changes);
}

/* "POST /v1/blocks", but not "POST /v1/examine", which makes nothing that could be read again. */
static bool makes(const struct api_route *route)
{
    const char *noun = strrchr(route->path, '/');
    return strcmp(route->method, "POST") == 0 && noun == strchr(route->path + 1, '/') &&
           route->op != API_EXAMINE;
}

/* A change answers 202 with the object, or with the job that works on it, while the reconciler goes on. */
static json_t *responses(json_t *schemas, const struct api_route *route)
{
    json_t *result = json_pack(
        "{s:{s:s, s:o}, s:{s:s, s:o}}", makes(route) ? "201" : "200", "description", "Done", "content",
        content(schemas, route), "default", "description", "An error", "content",
        json_pack("{s:{s:{s:s}}}", "application/json", "schema", "$ref", "#/components/schemas/Error"));
    if (route->query == &volume_create_query_schema) {
        describe_schema(schemas, &volume_plan_schema);
        json_object_set_new(result, "200",
                            json_pack("{s:s, s:{s:{s:{s:[o,o]}}}}", "description",
                                      "Done, or the plan that dry_run asks for", "content",
                                      "application/json", "schema", "anyOf", reference(route->response),
                                      reference(&volume_plan_schema)));
    }
    if (is_change(route)) {
        describe_schema(schemas, &job_schema);
        json_object_set_new(result, "202",
                            json_pack("{s:s, s:{s:{s:{s:[o,o]}}}}", "description",
                                      "Recorded; the work goes on", "content", "application/json", "schema",
                                      "anyOf", reference(route->response), reference(&job_schema)));
    }
    return result;
}

/* Whose certificates may call it over TLS; on the unix socket everybody who may use that may call all. */
static json_t *role_list(const struct api_route *route)
{
    json_t *list = json_array();
    unsigned may = route->roles & (ROLE_ANYONE | ROLE_NOBODY) ? ROLES_KNOWN : route->roles | ROLE_ADMIN;
    for (size_t i = 0; api_role_words[i]; i++)
        if (may & 1u << i)
            json_array_append_new(list, json_string(api_role_words[i]));
    if (route->roles & ROLE_NOBODY)
        json_array_append_new(list, json_string("none"));
    return list;
}

/* "get_v1_blocks_volume_block": for programs that make clients out of the document. */
static json_t *operation_id(const struct api_route *route)
{
    autostrbuf struct strbuf id = {0};
    for (const char *c = route->method; *c; c++)
        strbuf_addf(&id, "%c", *c | 0x20);
    for (const char *c = route->path; *c; c++)
        if (*c != '{' && *c != '}')
            strbuf_addf(&id, "%c", *c == '/' || *c == '.' ? '_' : *c);
    return json_string(strbuf_string(&id));
}

static json_t *operation(json_t *schemas, const struct api_route *route)
{
    json_t *result = json_pack("{s:o, s:s, s:o, s:o, s:o}", "operationId", operation_id(route), "summary",
                               route->help, "parameters", parameters(schemas, route), "responses",
                               responses(schemas, route), "x-roles", role_list(route));
    if (route->request) {
        describe_schema(schemas, route->request);
        json_object_set_new(result, "requestBody",
                            json_pack("{s:b, s:{s:{s:o}}}", "required", 1, "content", "application/json",
                                      "schema", reference(route->request)));
    }
    return result;
}

static json_t *error_schema(void)
{
    json_t *words = json_array(),
           *details = json_pack("{s:{s:s, s:s}, s:{s:s, s:s}}", "errno", "type", "integer", "description",
                                "The same as Linux numbers it", "request_id", "type", "string", "description",
                                "X-Request-Id, by which the log knows the request");
    for (size_t i = 0; api_code_word(i); i++)
        json_array_append_new(words, json_string(api_code_word(i)));
    json_t *members = json_pack("{s:{s:s, s:o}, s:{s:s, s:s}, s:{s:s, s:o}}", "code", "type", "string",
                                "enum", words, "message", "type", "string", "description",
                                "What is wrong with which object, and what to do", "details", "type",
                                "object", "properties", details);
    return json_pack("{s:s, s:{s:{s:s, s:o}}}", "type", "object", "properties", "error", "type", "object",
                     "properties", members);
}

json_t *api_openapi(void)
{
    json_t *paths = json_object(), *schemas = json_object();
    json_object_set_new(schemas, "Error", error_schema());
    for (size_t i = 0; i < API_OP_COUNT; i++) {
        const struct api_route *route = &api_routes[i];
        json_t *path = json_object_get(paths, route->path);
        if (!path) {
            path = json_object();
            json_object_set_new(paths, route->path, path);
        }
        autofree char *method = xstrdup(route->method);
        for (char *c = method; *c; c++)
            *c = (char)(*c | 0x20);
        json_object_set_new(path, method, operation(schemas, route));
    }
    return json_pack("{s:s, s:{s:s, s:s}, s:o, s:{s:o}}", "openapi", "3.0.3", "info", "title", "blockd",
                     "version", BLOCKD_VERSION, "paths", paths, "components", "schemas", schemas);
}
