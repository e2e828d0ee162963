/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The engine alone, driven line by line: a JSON request on standard input, a JSON answer on standard output.
 * For tests that end it at any moment and start it again.
 *
 * engine_driver CONFIG NODE [NBD_PROGRAM]
 * {"call": "device_up", "device": {...}, "destroy": false} -> {"result": 0, "status": {...}}
 * {"call": "volume_up", "volume": {...}, "nodes": [...]}   -> {"result": -116, "error": "..."}
 */
#include <stdio.h>
#include <string.h>

#include "blockd/engine/engine.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

struct request {
    const json_t *json;
    struct device device;
    struct volume volume;
    struct object_list volumes, nodes;
    json_t *answer;
};

static int decode_list(const json_t *json, const struct schema *schema, struct object_list *list,
                       struct error **ret_error)
{
    size_t index;
    json_t *element;
    json_array_foreach((json_t *)json, index, element)
    {
        int r = schema_decode(schema, element, object_list_add(list, schema->size), NULL, ret_error);
        if (r < 0)
            return r;
    }
    return 0;
}

static int decode(struct request *request, struct error **ret_error)
{
    const json_t *device = json_object_get(request->json, "device");
    const json_t *volume = json_object_get(request->json, "volume");
    int r = 0;
    if (device)
        r = schema_decode(&device_schema, device, &request->device, NULL, ret_error);
    if (r == 0 && volume)
        r = schema_decode(&volume_schema, volume, &request->volume, NULL, ret_error);
    if (r == 0)
        r = decode_list(json_object_get(request->json, "volumes"), &volume_schema, &request->volumes,
                        ret_error);
    if (r == 0)
        r = decode_list(json_object_get(request->json, "nodes"), &node_schema, &request->nodes, ret_error);
    return r;
}

/* A status has no schema of its own: it is shown as part of its object. */
static void show(struct request *request, const struct schema *schema, const void *object)
{
    json_t *whole = schema_encode(schema, object);
    json_object_set(request->answer, "status", json_object_get(whole, "status"));
    json_decref(whole);
}

static int device_up(struct engine *engine, struct request *request, struct error **ret_error)
{
    cleanup(cleanup_device) struct device result = {0};
    int r =
        engine_device_up(engine, &request->device, json_is_true(json_object_get(request->json, "destroy")),
                         &result.status, ret_error);
    if (r == 0)
        show(request, &device_schema, &result);
    return r;
}

static int device_status(struct engine *engine, struct request *request, struct error **ret_error)
{
    cleanup(cleanup_device) struct device result = {0};
    int r = engine_device_status(engine, &request->device, &result.status, ret_error);
    if (r == 0)
        show(request, &device_schema, &result);
    return r;
}

static int device_probe(struct engine *engine, struct request *request, struct error **ret_error)
{
    return engine_device_probe(engine, &request->device, ret_error);
}

static int device_down(struct engine *engine, struct request *request, struct error **ret_error)
{
    return engine_device_down(engine, &request->device, ret_error);
}

static int device_erase(struct engine *engine, struct request *request, struct error **ret_error)
{
    return engine_device_erase(engine, &request->device, false, ret_error);
}

static int volume_up(struct engine *engine, struct request *request, struct error **ret_error)
{
    return engine_volume_up(engine, &request->volume, request->nodes.items, request->nodes.count, NULL, 0,
                            ret_error);
}

static int volume_down(struct engine *engine, struct request *request, struct error **ret_error)
{
    return engine_volume_down(engine, &request->volume, ret_error);
}

static int volume_erase(struct engine *engine, struct request *request, struct error **ret_error)
{
    return engine_volume_erase(engine, &request->volume, false, ret_error);
}

static int volume_status(struct engine *engine, struct request *request, struct error **ret_error)
{
    cleanup(cleanup_volume) struct volume result = {0};
    const struct object_list none = {0};
    int r = engine_volume_status(engine, &request->volume, &none, &result.status, ret_error);
    if (r == 0)
        show(request, &volume_schema, &result);
    return r;
}

static int heal_up(struct engine *engine, struct request *request, struct error **ret_error)
{
    return engine_heal_up(engine, request->volumes.items, request->volumes.count, request->nodes.items,
                          request->nodes.count, ret_error);
}

static int volserver_up(struct engine *engine, struct request *request, struct error **ret_error)
{
    return engine_volserver_up(engine, request->nodes.items, ret_error);
}

static int volserver_down(struct engine *engine, struct request *request, struct error **ret_error)
{
    (void)request;
    return engine_volserver_down(engine, ret_error);
}

static int nbd_up(struct engine *engine, struct request *request, struct error **ret_error)
{
    (void)request;
    return engine_nbd_up(engine, ret_error);
}

static int nbd_down(struct engine *engine, struct request *request, struct error **ret_error)
{
    (void)request;
    return engine_nbd_down(engine, ret_error);
}

static int processes(struct engine *engine, struct request *request, struct error **ret_error)
{
    (void)ret_error;
    autofree struct engine_process *list = NULL;
    size_t count;
    engine_processes(engine, &list, &count);
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array,
                              json_pack("{s:s, s:s, s:i, s:I}", "name", list[i].name, "state", list[i].state,
                                        "pid", (int)list[i].pid, "restarts", (json_int_t)list[i].restarts));
    json_object_set_new(request->answer, "processes", array);
    return 0;
}

static const struct call {
    const char *name;
    int (*function)(struct engine *engine, struct request *request, struct error **ret_error);
} calls[] = {
    {"device_up", device_up},     {"device_status", device_status}, {"device_probe", device_probe},
    {"device_down", device_down}, {"device_erase", device_erase},   {"volume_up", volume_up},
    {"volume_down", volume_down}, {"volume_erase", volume_erase},   {"volume_status", volume_status},
    {"heal_up", heal_up},         {"volserver_up", volserver_up},   {"volserver_down", volserver_down},
    {"nbd_up", nbd_up},           {"nbd_down", nbd_down},           {"processes", processes},
};

static int perform(struct engine *engine, struct request *request, struct error **ret_error)
{
    int r = decode(request, ret_error);
    if (r < 0)
        return r;
    const char *name = json_string_value(json_object_get(request->json, "call"));
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (name && strcmp(calls[i].name, name) == 0)
            return calls[i].function(engine, request, ret_error);
    return error_set(ret_error, 22, "there is no call %s", name ? name : "without a name");
}

static void clear_list(const struct schema *schema, struct object_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        schema_clear(schema, (char *)list->items + i * schema->size);
    free(list->items);
}

static void serve(struct engine *engine, const char *line)
{
    json_t *json = json_loads(line, 0, NULL);
    struct request request = {.json = json, .answer = json_object()};
    autoerror struct error *error = NULL;
    int r = json ? perform(engine, &request, &error) : error_set(&error, 22, "that is no JSON");
    json_object_set_new(request.answer, "result", json_integer(r));
    if (r < 0)
        json_object_set_new(request.answer, "error", json_string(error_message(error)));
    json_dumpf(request.answer, stdout, JSON_COMPACT);
    printf("\n");
    fflush(stdout);
    json_decref(request.answer);
    json_decref(json);
    cleanup_device(&request.device);
    cleanup_volume(&request.volume);
    clear_list(&volume_schema, &request.volumes);
    clear_list(&node_schema, &request.nodes);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: engine_driver CONFIG NODE [NBD_PROGRAM]\n");
        return 2;
    }
    autoerror struct error *error = NULL;
    cleanup(config_clear) struct config config = {0};
    cleanup(cleanup_engine) struct engine *engine = NULL;
    if (config_load(argv[1], &config, &error) < 0) {
        fprintf(stderr, "%s\n", error_message(error));
        return 1;
    }
    autofree char *xlators = program_relative("../../xlators");
    const struct engine_options options = {
        .config = &config,
        .node = argv[2],
        .nbd_program = argc > 3 ? argv[3] : NULL,
        .xlators = xlators,
        .config_path = argv[1],
    };
    if (engine_new(&options, &engine, &error) < 0) {
        fprintf(stderr, "%s\n", error_message(error));
        return 1;
    }
    autofree char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) > 0)
        serve(engine, line);
    return 0;
}
