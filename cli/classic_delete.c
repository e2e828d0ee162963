/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* delete VOLUME/BLOCK [unlink-storage yes|no] [force] */
#include <errno.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"

struct request {
    struct block_name name;
    bool unlink, force;
};

static void request_clear(struct request *request)
{
    block_name_clear(&request->name);
}

static int parse(int argc, char **argv, struct request *request, struct error **ret_error)
{
    if (argc < 1)
        return error_set(ret_error, EINVAL, "VOLUME/BLOCK is missing");
    int r = block_name_parse(argv[0], &request->name, ret_error);
    for (int i = 1; r == 0 && i < argc; i++) {
        if (strcmp(argv[i], "force") == 0)
            request->force = true;
        else if (strcmp(argv[i], "unlink-storage") == 0 && i + 1 < argc)
            r = classic_boolean("unlink-storage", argv[++i], &request->unlink, ret_error);
        else
            r = error_set(ret_error, EINVAL,
                          strcmp(argv[i], "unlink-storage") == 0 ? "%s needs a value: yes or no"
                                                                 : "\"%s\" is no option of delete",
                          argv[i]);
    }
    return r;
}

/* The hosts that had it, whether they served it at that moment or not. */
static json_t *all_hosts(struct cli *cli, const struct request *request)
{
    json_t *exports cleanup(json_decrefp) = NULL;
    if (classic_exports(cli, &request->name, &exports, NULL) < 0)
        return json_array();
    json_t *hosts = classic_hosts(cli, exports, true), *others = classic_hosts(cli, exports, false);
    json_array_extend(hosts, others);
    json_decref(others);
    return hosts;
}

static int delete_block(struct cli *cli, const struct request *request, struct error **ret_error)
{
    autofree char *path = xasprintf("/v1/blocks/%s?force=%d&keep_storage=%d", request->name.joined,
                                    request->force, !request->unlink);
    int64_t deadline = deadline_after(cli->timeout);
    struct client_change change = {
        .method = "DELETE", .path = path, .wait = cli->timeout, .patience = cli->timeout};
    int r = client_change(cli, &change, NULL, ret_error);
    if (r < 0)
        return classic_missing(cli, &request->name, r, ret_error);
    return settle_gone(cli, KIND_BLOCK, request->name.joined, deadline, ret_error);
}

int classic_delete(struct cli *cli, int argc, char **argv)
{
    autoerror struct error *error = NULL;
    struct request request cleanup(request_clear) = {.unlink = true};
    if (parse(argc, argv, &request, &error) < 0)
        return classic_usage(cli, "delete", error);

    json_t *hosts = all_hosts(cli, &request), *reply = json_object();
    int r = delete_block(cli, &request, &error);
    if (json_array_size(hosts))
        json_object_set(reply, r < 0 ? "FAILED ON" : "SUCCESSFUL ON", hosts);
    json_decref(hosts);
    if (r < 0)
        return classic_fail(cli, reply, r, error);
    json_object_set_new(reply, "RESULT", json_string("SUCCESS"));
    return classic_succeed(cli, reply);
}
