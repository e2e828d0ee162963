/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* info VOLUME/BLOCK */
#include <errno.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/sizes.h"

/* Its exports' hosts with the size that the file still has, when a resize has not reached it. */
static json_t *resize_failed_on(struct cli *cli, const json_t *block, const json_t *exports)
{
    uint64_t size = json_number(block, "status.size");
    if (strcmp(json_text(block, "status.phase"), "failed") != 0 || !size ||
        size == json_number(block, "spec.size"))
        return NULL;
    char text[SIZE_TEXT_SIZE];
    size_format(size, text);
    json_t *failed = json_object(),
           *hosts[] = {classic_hosts(cli, exports, true), classic_hosts(cli, exports, false)};
    for (size_t i = 0; i < 2; i++) {
        size_t index;
        json_t *host;
        json_array_foreach(hosts[i], index, host)
            json_object_set_new(failed, json_string_value(host), json_string(text));
        json_decref(hosts[i]);
    }
    return failed;
}

static json_t *describe(struct cli *cli, const struct block_name *name, const json_t *block,
                        const json_t *exports)
{
    char size[SIZE_TEXT_SIZE];
    size_format(json_number(block, "spec.size"), size);
    json_t *reply = json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:o}", "NAME", name->block, "VOLUME",
                              name->volume, "GBID", json_text(block, "uid"), "SIZE", size, "HA",
                              (int)json_array_size(exports), "IOTIMEOUT", "43 Seconds", "PASSWORD", "",
                              "EXPORTED ON", classic_hosts(cli, exports, true));
    json_t *resize = resize_failed_on(cli, block, exports);
    if (resize)
        json_object_set_new(reply, "RESIZE FAILED ON", resize);
    json_t *troubled = classic_hosts(cli, exports, false);
    if (json_array_size(troubled))
        json_object_set(reply, "ENCOUNTERED FAILURES ON", troubled);
    json_decref(troubled);
    return reply;
}

int classic_info(struct cli *cli, int argc, char **argv)
{
    autoerror struct error *error = NULL;
    struct block_name name cleanup(block_name_clear) = {0};
    if (classic_words(argc, argv, 1, 1, "VOLUME/BLOCK", &error) < 0 ||
        block_name_parse(argv[0], &name, &error) < 0)
        return classic_usage(cli, "info", error);

    json_t *block cleanup(json_decrefp) = NULL, *exports cleanup(json_decrefp) = NULL;
    int r = classic_get_block(cli, &name, &block, &error);
    if (r == 0)
        r = classic_exports(cli, &name, &exports, &error);
    if (r < 0)
        return classic_fail(cli, NULL, r, error);
    return classic_succeed(cli, describe(cli, &name, block, exports));
}
