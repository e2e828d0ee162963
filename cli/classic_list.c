/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* list VOLUME */
#include <errno.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"

static json_t *block_names(const json_t *reply)
{
    json_t *names = json_array(), *block;
    size_t index;
    json_array_foreach(json_object_get(reply, "items"), index, block)
    {
        autofree char *name = object_name_part(json_text(block, "name"), 1);
        if (name)
            json_array_append_new(names, json_string(name));
    }
    return names;
}

static int get_names(struct cli *cli, const char *volume, json_t **ret_names, struct error **ret_error)
{
    autofree char *path = xasprintf("/v1/blocks/%s", volume);
    json_t *reply cleanup(json_decrefp) = NULL;
    int r = client_get(cli, path, &reply, ret_error);
    if (r == -ENOENT && !cli->no_answer)
        return error_set(ret_error, ENOENT, "volume %s does not exist", volume);
    if (r == 0)
        *ret_names = block_names(reply);
    return r;
}

int classic_list(struct cli *cli, int argc, char **argv)
{
    autoerror struct error *error = NULL;
    if (classic_words(argc, argv, 1, 1, "VOLUME", &error) < 0 || name_check("volume", argv[0], &error) < 0)
        return classic_usage(cli, "list", error);

    json_t *names cleanup(json_decrefp) = NULL;
    int r = get_names(cli, argv[0], &names, &error);
    if (r < 0)
        return classic_fail(cli, NULL, r, error);
    if (cli->json)
        return classic_succeed(cli, json_pack("{s:O, s:s}", "blocks", names, "RESULT", "SUCCESS"));

    size_t index;
    json_t *name;
    json_array_foreach(names, index, name) fprintf(cli->out, "%s\n", json_string_value(name));
    if (!json_array_size(names))
        fputs("*Nil*\n", cli->out);
    return 0;
}
