/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* version: the program's own, and that of the daemon where one answers. */
#include "cli.h"

int version_run(struct cli *cli)
{
    autoerror struct error *error = NULL;
    json_t *daemon cleanup(json_decrefp) = NULL;
    int r = client_get(cli, "/v1/version", &daemon, &error);
    if (cli->json) {
        json_t *json cleanup(json_decrefp) =
            json_pack("{s:s, s:O?}", "gluster-block", BLOCKD_VERSION, "blockd", daemon);
        print_json(cli->out, cli->json, json);
        return 0;
    }
    fprintf(cli->out, "gluster-block %s\n", BLOCKD_VERSION);
    if (r == 0)
        fprintf(cli->out, "blockd %s (API %s)\n", json_text(daemon, "version"), json_text(daemon, "api"));
    else
        fprintf(cli->out, "blockd: %s\n", error_message(error));
    return 0;
}
