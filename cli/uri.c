/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* uri VOLUME/BLOCK: the NBD URI of a live export, for scripts. */
#include <errno.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"

static bool is_live(const json_t *export)
{
    return strcmp(json_text(export, "status.phase"), "live") == 0 && *json_text(export, "status.uri");
}

/* One of this node's before any other; NULL when none is live. */
static const json_t *choose(const json_t *exports, const char *this_node)
{
    const json_t *chosen = NULL;
    size_t index;
    json_t *export;
    json_array_foreach((json_t *)exports, index, export)
    {
        if (!is_live(export))
            continue;
        autofree char *node = object_name_part(json_text(export, "name"), 0);
        if (!chosen || string_equal(node, this_node))
            chosen = export;
    }
    return chosen;
}

static int none_live(const struct block_name *name, const json_t *exports, struct error **ret_error)
{
    if (!json_array_size(exports))
        return error_set(
            ret_error, ENOENT,
            "block %s is not exported; \"gluster-block export create %s\" exports it from this node",
            name->joined, name->joined);
    autostrbuf struct strbuf states = {0};
    size_t index;
    json_t *export;
    json_array_foreach((json_t *)exports, index, export)
    {
        const char *cause = json_text(export, "status.error");
        strbuf_addf(&states, "%s%s is %s%s%s", index ? "; " : "", json_text(export, "name"),
                    json_text(export, "status.phase"), *cause ? ": " : "", cause);
    }
    return error_set(ret_error, EAGAIN, "no export of block %s is live: %s", name->joined,
                     strbuf_string(&states));
}

static int find(struct cli *cli, const struct block_name *name, char **ret_uri, struct error **ret_error)
{
    json_t *exports cleanup(json_decrefp) = NULL, *block cleanup(json_decrefp) = NULL;
    autofree char *node = NULL;
    int r = client_this_node(cli, &node, ret_error);
    if (r == 0)
        r = classic_exports(cli, name, &exports, ret_error);
    if (r == 0 && !json_array_size(exports))
        r = classic_get_block(cli, name, &block, ret_error);
    if (r < 0)
        return r;
    const json_t *export = choose(exports, node);
    if (!export)
        return none_live(name, exports, ret_error);
    *ret_uri = xstrdup(json_text(export, "status.uri"));
    return 0;
}

int uri_run(struct cli *cli, int argc, char **argv)
{
    autoerror struct error *error = NULL;
    struct block_name name cleanup(block_name_clear) = {0};
    if (classic_words(argc, argv, 1, 1, "VOLUME/BLOCK", &error) < 0 ||
        block_name_parse(argv[0], &name, &error) < 0) {
        complain(cli, error);
        fputs("Usage: gluster-block uri VOLUME/BLOCK\n", cli->err);
        return STATUS_USAGE;
    }
    autofree char *uri = NULL;
    int r = find(cli, &name, &uri, &error);
    if (r < 0)
        return cli_fail(cli, r, error);
    if (cli->json) {
        json_t *json cleanup(json_decrefp) = json_pack("{s:s}", "uri", uri);
        print_json(cli->out, cli->json, json);
    } else {
        fprintf(cli->out, "%s\n", uri);
    }
    return 0;
}
