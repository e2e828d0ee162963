/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What a client sends: a request line and a JSON body. The input is "METHOD PATH\nBODY". Every body is
 * decoded by the schema of its route and by those of all objects; what is accepted must encode to JSON that
 * is accepted again and encodes to the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/api.h"
#include "rpc/base/alloc.h"

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static void round_trip(const struct schema *schema, const json_t *json)
{
    autoerror struct error *error = NULL;
    void *object = xcalloc(1, schema->size), *copy = xcalloc(1, schema->size),
         *again = xcalloc(1, schema->size);

    if (schema_decode(schema, json, object, NULL, &error) == 0) {
        json_t *first = schema_encode(schema, object);
        schema_check(schema, object, NULL); /* absent members may lie outside: defaults are the caller's */
        schema_copy(schema, copy, object);
        json_t *copied = schema_encode(schema, copy);
        REQUIRE(json_equal(first, copied));
        if (schema_decode(schema, first, again, NULL, NULL) == 0) {
            json_t *second = schema_encode(schema, again);
            REQUIRE(json_equal(first, second));
            json_decref(second);
        }
        json_decref(copied);
        json_decref(first);
    } else {
        REQUIRE(error && error->number > 0);
    }
    void *all[] = {object, copy, again};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        schema_clear(schema, all[i]);
        free(all[i]);
    }
}

static const struct schema *schema_of_request(const char *line)
{
    const struct schema *request = NULL;
    autofree char *method = xstrdup(line);
    char *path = strchr(method, ' ');
    if (!path)
        return NULL;
    *path++ = '\0';
    autoerror struct error *error = NULL;
    struct api_match match = {0};
    int r = api_route_find(method, path, &match, &error);
    if (r == 0)
        request = match.route->request;
    else
        REQUIRE(error);
    api_match_clear(&match);
    return request;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autofree char *text = xstrndup((const char *)data, size);
    char *body = strchr(text, '\n');
    if (body)
        *body++ = '\0';
    else
        body = text + strlen(text);
    const struct schema *request = schema_of_request(text);
    json_t *json = json_loads(body, JSON_REJECT_DUPLICATES, NULL);
    if (!json)
        return 0;
    if (request)
        round_trip(request, json);
    for (int kind = 0; kind < KIND_COUNT; kind++)
        round_trip(object_types[kind].schema, json);
    autoerror struct error *error = NULL;
    REQUIRE(api_error_decode(json, 500, &error) < 0 && error);
    json_decref(json);
    return 0;
}
