/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* modify VOLUME/BLOCK size SIZE [force] | VOLUME/BLOCK auth enable|disable */
#include <errno.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"

struct resize {
    uint64_t size;
    bool force;
};

/* ---- size ---- */

static int resize_block(struct cli *cli, const struct block_name *name, const struct resize *resize,
                        json_t **block, struct error **ret_error)
{
    int64_t deadline = deadline_after(cli->timeout);
    autofree char *path = xasprintf("/v1/blocks/%s?force=%d", name->joined, resize->force);
    json_t *body cleanup(json_decrefp) = json_pack("{s:I}", "size", (json_int_t)resize->size);
    struct client_change change = {
        .method = "PATCH", .path = path, .body = body, .wait = cli->timeout, .patience = cli->timeout};
    json_t *reply = NULL;
    int r = client_change(cli, &change, &reply, ret_error);
    if (r < 0)
        return classic_missing(cli, name, r, ret_error);
    json_decref(*block);
    *block = reply;
    r = settle_resolve(cli, KIND_BLOCK, block, ret_error);
    if (r == 0)
        r = settle_wait(cli, KIND_BLOCK, name->joined, deadline, block, ret_error);
    if (r == 0 && !*block)
        r = error_set(ret_error, ENOENT, "block %s doesn't exist", name->joined);
    else if (r == 0 && object_settled(*block) == SETTLED_FAILED)
        r = error_set(ret_error, EIO, "the size of block %s could not be changed: %s", name->joined,
                      json_text(*block, "status.error"));
    return r;
}

/* IQN, SIZE and the hosts, in the order that scripts know. */
static json_t *describe(struct cli *cli, const struct block_name *name, const json_t *block, uint64_t size,
                        bool done)
{
    json_t *reply = json_object(), *exports cleanup(json_decrefp) = NULL;
    json_object_set_new(reply, "IQN", classic_iqn(block));
    if (size) {
        char text[SIZE_TEXT_SIZE];
        size_format(size, text);
        json_object_set_new(reply, "SIZE", json_string(text));
    }
    if (classic_exports(cli, name, &exports, NULL) < 0)
        return reply;
    json_t *live = classic_hosts(cli, exports, true), *others = classic_hosts(cli, exports, false);
    if (json_array_size(live))
        json_object_set(reply, done ? "SUCCESSFUL ON" : "FAILED ON", live);
    if (json_array_size(others))
        json_object_set(reply, "SKIPPED ON", others);
    json_decref(live);
    json_decref(others);
    return reply;
}

static int modify_size(struct cli *cli, const struct block_name *name, const char *text, bool force)
{
    autoerror struct error *error = NULL;
    json_t *block cleanup(json_decrefp) = NULL;
    struct resize resize = {.force = force};
    /* Before anything is asked of the daemon: a word that is no size is an argument error. */
    if (size_parse(text, &resize.size, &error) < 0)
        return classic_usage(cli, "modify", error);
    int r = classic_get_block(cli, name, &block, &error);
    if (r < 0)
        return classic_fail(cli, NULL, r, error);
    uint64_t block_size = json_number(block, "spec.block_size");
    if (classic_size(cli, text, block_size ? block_size : 512, &resize.size, &error) < 0)
        return classic_usage(cli, "modify", error);

    r = resize_block(cli, name, &resize, &block, &error);
    if (r < 0) {
        bool no_answer = cli->no_answer;
        json_t *reply = block ? describe(cli, name, block, 0, false) : NULL;
        cli->no_answer = no_answer;
        return classic_fail(cli, reply, r, error);
    }
    json_t *reply = describe(cli, name, block, resize.size, true);
    json_object_set_new(reply, "RESULT", json_string("SUCCESS"));
    return classic_succeed(cli, reply);
}

/* ---- auth ---- */

static int modify_auth(struct cli *cli, const struct block_name *name, const char *text)
{
    autoerror struct error *error = NULL;
    json_t *block cleanup(json_decrefp) = NULL;
    bool enable;
    if (classic_boolean("auth", text, &enable, &error) < 0)
        return classic_usage(cli, "modify", error);
    int r = classic_get_block(cli, name, &block, &error);
    if (r == 0 && enable)
        r = error_set(&error, EOPNOTSUPP, "auth enable needs iSCSI, which this version does not serve");
    if (r < 0)
        return classic_fail(cli, NULL, r, error);
    json_t *reply = describe(cli, name, block, 0, true);
    json_object_set_new(reply, "RESULT", json_string("SUCCESS"));
    return classic_succeed(cli, reply);
}

int classic_modify(struct cli *cli, int argc, char **argv)
{
    autoerror struct error *error = NULL;
    struct block_name name cleanup(block_name_clear) = {0};
    bool force = argc == 4 && strcmp(argv[3], "force") == 0;
    if (argc > 1 && strcmp(argv[1], "size") != 0 && strcmp(argv[1], "auth") != 0) {
        error_set(&error, EINVAL, "modify takes size or auth, not \"%s\"", argv[1]);
        return classic_usage(cli, "modify", error);
    }
    if (classic_words(argc, argv, 3, force ? 4 : 3, "VOLUME/BLOCK size SIZE", &error) < 0 ||
        block_name_parse(argv[0], &name, &error) < 0)
        return classic_usage(cli, "modify", error);
    if (strcmp(argv[1], "size") == 0)
        return modify_size(cli, &name, argv[2], force);
    if (!force)
        return modify_auth(cli, &name, argv[2]);
    error_set(&error, EINVAL, "auth takes no force");
    return classic_usage(cli, "modify", error);
}
