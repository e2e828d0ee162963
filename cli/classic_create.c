/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* create VOLUME/BLOCK [OPTION VALUE]... HOST[,HOST]... [SIZE] */
#include <errno.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define BLOCK_SIZE_DEFAULT 512
#define IO_TIMEOUT_DEFAULT 43
#define RING_BUFFER_MAX    1024
#define BAR_APPEARS        1 /* seconds that a terminal waits in silence, before it shows what goes on */

struct request {
    struct block_name name;
    struct string_list hosts;
    uint64_t ha, block_size, size;
    bool ha_given, prealloc, prealloc_given;
    const char *storage;
};

static void request_clear(struct request *request)
{
    block_name_clear(&request->name);
    string_list_clear(&request->hosts);
}

/* ---- The words ---- */

static int needs_iscsi(const char *what, struct error **ret_error)
{
    return error_set(ret_error, EOPNOTSUPP, "%s needs iSCSI, which this version does not serve", what);
}

static int take_option(struct request *request, const char *word, const char *value, struct error **ret_error)
{
    uint64_t number;
    bool flag;
    int r = 0;
    if (strcmp(word, "ha") == 0) {
        request->ha_given = true;
        r = classic_number("ha", value, 1, 64, &request->ha, ret_error);
    } else if (strcmp(word, "auth") == 0) {
        r = classic_boolean("auth", value, &flag, ret_error);
        if (r == 0 && flag)
            r = needs_iscsi("auth enable", ret_error);
    } else if (strcmp(word, "prealloc") == 0) {
        request->prealloc_given = true;
        r = classic_boolean("prealloc", value, &request->prealloc, ret_error);
    } else if (strcmp(word, "storage") == 0) {
        request->storage = value;
    } else if (strcmp(word, "ring-buffer") == 0) {
        r = classic_number("ring-buffer", value, 1, RING_BUFFER_MAX, &number, ret_error);
        if (r == 0)
            r = needs_iscsi("ring-buffer", ret_error);
    } else if (strcmp(word, "block-size") == 0) {
        r = classic_number("block-size", value, 512, 1u << 20, &request->block_size, ret_error);
        if (r == 0 && request->block_size % 512 != 0)
            r = error_set(ret_error, EINVAL, "block-size is a multiple of 512, not %s", value);
    } else {
        r = classic_number("io-timeout", value, 1, UINT32_MAX, &number, ret_error);
        if (r == 0 && number != IO_TIMEOUT_DEFAULT)
            r = needs_iscsi("io-timeout", ret_error);
    }
    return r;
}

static bool is_option(const char *word)
{
    for (const struct classic_option *option = classic_find("create")->options; option->word; option++)
        if (strcmp(option->word, word) == 0)
            return true;
    return false;
}

/* "a,b,[::1]": brackets around an IPv6 address are taken off. */
static int take_hosts(struct request *request, const char *text, struct error **ret_error)
{
    autostring_list struct string_list parts = {0};
    string_list_split(&parts, text, ',');
    for (size_t i = 0; i < parts.count; i++) {
        const char *part = parts.items[i];
        size_t length = strlen(part);
        autofree char *host = length > 2 && part[0] == '[' && part[length - 1] == ']'
                                  ? xstrndup(part + 1, length - 2)
                                  : xstrdup(part);
        if (!*host)
            return error_set(ret_error, EINVAL, "the list of hosts \"%s\" has an empty part", text);
        if (string_list_contains(&request->hosts, host))
            return error_set(ret_error, EINVAL, "host %s is named twice", host);
        string_list_add(&request->hosts, host);
    }
    return parts.count ? 0 : error_set(ret_error, EINVAL, "HOST is missing");
}

static int check(struct cli *cli, struct request *request, const char *size, struct error **ret_error)
{
    if (request->ha_given && request->ha != request->hosts.count)
        return error_set(ret_error, EINVAL, "ha is %llu, but the number of hosts is %zu",
                         (unsigned long long)request->ha, request->hosts.count);
    if (!request->ha_given && request->hosts.count != 1)
        return error_set(ret_error, EINVAL, "%zu hosts need ha %zu", request->hosts.count,
                         request->hosts.count);
    if (request->storage && size)
        return error_set(ret_error, EINVAL, "a SIZE has no place beside storage: the file has one");
    if (request->storage && request->prealloc_given)
        return error_set(ret_error, EINVAL,
                         "prealloc has no place beside storage: the file is there already");
    if (!request->storage && !size)
        return error_set(ret_error, EINVAL, "SIZE is missing");
    return size ? classic_size(cli, size, request->block_size, &request->size, ret_error) : 0;
}

static int parse(struct cli *cli, int argc, char **argv, struct request *request, struct error **ret_error)
{
    if (argc < 1)
        return error_set(ret_error, EINVAL, "VOLUME/BLOCK is missing");
    int r = block_name_parse(argv[0], &request->name, ret_error);
    int i = 1;
    for (; r == 0 && i < argc && is_option(argv[i]); i += 2) {
        if (i + 1 >= argc)
            return error_set(ret_error, EINVAL, "%s needs a value", argv[i]);
        r = take_option(request, argv[i], argv[i + 1], ret_error);
    }
    if (r < 0)
        return r;
    if (i >= argc)
        return error_set(ret_error, EINVAL, "HOST is missing");
    if (argc - i > 2)
        return error_set(ret_error, EINVAL, "\"%s\" is one word too many", argv[i + 2]);
    r = take_hosts(request, argv[i], ret_error);
    return r < 0 ? r : check(cli, request, argv[i + 1], ret_error);
}

/* ---- The change ---- */

static json_t *body_of(const struct request *request)
{
    json_t *hosts = json_array();
    for (size_t i = 0; i < request->hosts.count; i++)
        json_array_append_new(hosts, json_string_lossy(request->hosts.items[i]));
    json_t *body =
        json_pack("{s:s, s:s, s:I, s:o}", "volume", request->name.volume, "name", request->name.block,
                  "block_size", (json_int_t)request->block_size, "hosts", hosts);
    if (request->storage)
        json_object_set_new(body, "storage", json_string_lossy(request->storage));
    else
        json_object_set_new(body, "size", json_integer((json_int_t)request->size));
    json_object_set_new(body, "prealloc",
                        json_string(request->prealloc && !request->storage ? "full" : "no"));
    return body;
}

/* Waits until every export of the block serves, or one has failed. *exports becomes their newest state. */
static int await_exports(struct cli *cli, const struct request *request, int64_t deadline, json_t **exports,
                         struct error **ret_error)
{
    int r = classic_exports(cli, &request->name, exports, ret_error);
    for (size_t i = 0; r == 0 && i < json_array_size(*exports); i++) {
        json_t *export = json_incref(json_array_get(*exports, i));
        autofree char *name = xstrdup(json_text(export, "name"));
        r = settle_wait(cli, KIND_EXPORT, name, deadline, &export, ret_error);
        if (r == 0 && export && object_settled(export) == SETTLED_FAILED)
            r = error_set(ret_error, EIO, "export %s has failed: %s", name,
                          json_text(export, "status.error"));
        if (export)
            json_array_set_new(*exports, i, export);
    }
    return r;
}

static int await_block(struct cli *cli, const struct request *request, int64_t deadline, json_t **block,
                       json_t **exports, struct error **ret_error)
{
    int r = settle_resolve(cli, KIND_BLOCK, block, ret_error);
    if (r == 0)
        r = settle_wait(cli, KIND_BLOCK, request->name.joined, deadline, block, ret_error);
    if (r < 0)
        return r;
    if (!*block)
        return error_set(ret_error, ECANCELED, "block %s was deleted while it was made",
                         request->name.joined);
    if (object_settled(*block) == SETTLED_FAILED)
        return error_set(ret_error, EIO, "block %s could not be made: %s", request->name.joined,
                         json_text(*block, "status.error"));
    return await_exports(cli, request, deadline, exports, ret_error);
}

/* Takes back what was made: only the block of this very request, never one that took its name since. */
static json_t *roll_back(struct cli *cli, const struct request *request, const char *uid)
{
    autofree char *look_path = xasprintf("/v1/blocks/%s", request->name.joined);
    autofree char *path = xasprintf("%s?force=1%s", look_path, request->storage ? "&keep_storage=1" : "");
    json_t *reply = json_object(), *hosts = json_array(), *now cleanup(json_decrefp) = NULL;
    for (size_t i = 0; i < request->hosts.count; i++)
        json_array_append_new(hosts, json_string_lossy(request->hosts.items[i]));
    int r = client_get(cli, look_path, &now, NULL);
    if (r == 0 && strcmp(json_text(now, "uid"), uid) == 0) {
        struct client_change request_delete = {
            .method = "DELETE", .path = path, .wait = cli->timeout, .patience = cli->timeout};
        r = client_change(cli, &request_delete, NULL, NULL);
        if (r == 0)
            r = settle_gone(cli, KIND_BLOCK, request->name.joined, deadline_after(cli->timeout), NULL);
    }
    bool gone = r == 0 || (r == -ENOENT && !cli->no_answer);
    json_object_set_new(reply, gone ? "ROLLBACK SUCCESS ON" : "ROLLBACK FAILED ON", hosts);
    return reply;
}

static int create(struct cli *cli, const struct request *request)
{
    autoerror struct error *error = NULL;
    json_t *body cleanup(json_decrefp) = body_of(request);
    int64_t deadline = deadline_after(cli->timeout);
    struct client_change change = {.method = "POST",
                                   .path = "/v1/blocks",
                                   .body = body,
                                   .wait = cli->terminal && cli->timeout > BAR_APPEARS ? BAR_APPEARS
                                                                                       : cli->timeout,
                                   .patience = cli->timeout};
    json_t *block cleanup(json_decrefp) = NULL, *exports cleanup(json_decrefp) = NULL;
    int r = client_change(cli, &change, &block, &error);
    if (r < 0) {
        r = classic_missing_volume(cli, request->name.volume, r, &error);
        return classic_fail(cli, NULL, r, error);
    }
    /* While it is allocated, the answer is the job. */
    autofree char *uid =
        xstrdup(json_text(block, *json_text(block, "spec.object_uid") ? "spec.object_uid" : "uid"));
    r = await_block(cli, request, deadline, &block, &exports, &error);
    /* On a timeout, and when blockd is gone, it goes on; a definite failure leaves nothing behind. */
    if (r < 0)
        return classic_fail(cli, r == -ETIMEDOUT || cli->no_answer ? NULL : roll_back(cli, request, uid), r,
                            error);
    return classic_succeed(cli, json_pack("{s:o, s:o, s:s}", "IQN", classic_iqn(block), "PORTAL(S)",
                                          classic_portals(exports), "RESULT", "SUCCESS"));
}

int classic_create(struct cli *cli, int argc, char **argv)
{
    autoerror struct error *error = NULL;
    struct request request cleanup(request_clear) = {
        .ha = 1, .block_size = BLOCK_SIZE_DEFAULT, .prealloc = true};
    int r = parse(cli, argc, argv, &request, &error);
    if (r == -EOPNOTSUPP)
        return classic_fail(cli, NULL, r, error);
    return r < 0 ? classic_usage(cli, "create", error) : create(cli, &request);
}
