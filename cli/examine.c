/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* examine and device adopt: what differs from the store, and what lies on disks. */
#include <string.h>

#include "cli.h"
#include "rpc/examine.h"

#define PATIENCE 60  /* seconds to go on when the connection breaks */
#define ANSWER   600 /* seconds: a disk may have to replay its journal */

static int ask(struct cli *cli, const struct arguments *arguments, json_t **ret_reply,
               struct error **ret_error)
{
    autofree char *path = arguments_path(arguments);
    struct client_change request = {.method = arguments->route->method,
                                    .path = path,
                                    .body = arguments->body,
                                    .patience = PATIENCE,
                                    .wait = ANSWER,
                                    .at_once = true};
    return client_change(cli, &request, ret_reply, ret_error);
}

/* ---- Examination ---- */

static const char *way_to_repair(const json_t *finding)
{
    if (!json_is_true(json_at(finding, "repairable")))
        return "to do";
    return json_is_true(json_at(finding, "destroys")) ? "--repair --confirm" : "--repair";
}

static void print_finding(FILE *stream, const json_t *finding)
{
    const char *error = json_text(finding, "error");
    fprintf(stream, "%s (%s)\n    expected: %s\n    found:    %s\n", json_text(finding, "object"),
            json_text(finding, "code"), json_text(finding, "expected"), json_text(finding, "found"));
    if (json_is_true(json_at(finding, "repaired")))
        fprintf(stream, "    repaired: %s\n", json_text(finding, "action"));
    else if (*error)
        fprintf(stream, "    not repaired: %s\n", error);
    else
        fprintf(stream, "    %s: %s\n", way_to_repair(finding), json_text(finding, "action"));
}

int examine_run(struct cli *cli, const struct arguments *arguments)
{
    autoerror struct error *error = NULL;
    json_t *report cleanup(json_decrefp) = NULL, *finding;
    int r = ask(cli, arguments, &report, &error);
    if (r < 0)
        return cli_fail(cli, r, error);
    uint64_t remaining = json_number(report, "remaining");
    if (cli->json) {
        print_json(cli->out, cli->json, report);
        return remaining ? STATUS_DIFFERS : 0;
    }
    size_t index;
    json_array_foreach(json_object_get(report, "findings"), index, finding) print_finding(cli->out, finding);
    fprintf(cli->out, "node %s: %llu things examined, %llu repaired, %llu to be repaired\n",
            json_text(report, "node"), (unsigned long long)json_number(report, "checked"),
            (unsigned long long)json_number(report, "repaired"), (unsigned long long)remaining);
    return remaining ? STATUS_DIFFERS : 0;
}

/* ---- Adoption ---- */

static void print_items(FILE *stream, const json_t *items)
{
    size_t index, width = 0;
    json_t *item;
    json_array_foreach((json_t *)items, index, item)
    {
        size_t length = strlen(json_text(item, "object"));
        width = length > width ? length : width;
    }
    json_array_foreach((json_t *)items, index, item)
        fprintf(stream, "%-7s  %-*s  %s\n", json_text(item, "outcome"), (int)width, json_text(item, "object"),
                json_text(item, "detail"));
}

int adopt_run(struct cli *cli, const struct arguments *arguments)
{
    autoerror struct error *error = NULL;
    json_t *report cleanup(json_decrefp) = NULL;
    int r = ask(cli, arguments, &report, &error);
    if (r < 0)
        return cli_fail(cli, r, error);
    bool refused = json_number(report, "refused") > 0;
    if (cli->json) {
        print_json(cli->out, cli->json, report);
        return refused ? STATUS_DIFFERS : 0;
    }
    print_items(cli->out, json_object_get(report, "items"));
    if (refused)
        fputs("Nothing was adopted: something was refused.\n", cli->out);
    else if (json_is_true(json_at(report, "applied")))
        fprintf(cli->out, "%llu adopted. To see how they come up: gluster-block status\n",
                (unsigned long long)json_number(report, "adopted"));
    else
        fputs("This was a dry run: --apply does it.\n", cli->out);
    return refused ? STATUS_DIFFERS : 0;
}
