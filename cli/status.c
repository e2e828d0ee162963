/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* status: one screen, what is wrong and what to do first. */
#include <string.h>

#include "cli.h"

static void print_problems(FILE *stream, const json_t *problems)
{
    size_t index;
    json_t *problem;
    if (!json_array_size(problems))
        return;
    fputs("\nTo do:\n", stream);
    json_array_foreach((json_t *)problems, index, problem)
        fprintf(stream, "%3zu. %s\n", index + 1, json_string_value(problem));
}

static void print_counts(FILE *stream, const json_t *status)
{
    static const struct {
        const char *member, *one, *many;
    } counts[] = {{"nodes", "node", "nodes"},
                  {"devices", "device", "devices"},
                  {"volumes", "volume", "volumes"},
                  {"blocks", "block", "blocks"},
                  {"shares", "share", "shares"},
                  {"exports", "export", "exports"},
                  {"jobs_running", "running job", "running jobs"}};
    fputc('\n', stream);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        uint64_t number = json_number(status, counts[i].member);
        fprintf(stream, "%s%llu %s", i ? ", " : "", (unsigned long long)number,
                number == 1 ? counts[i].one : counts[i].many);
    }
    fputc('\n', stream);
}

/* The volumes, and the jobs that run; a part that cannot be read is left out. */
static void print_lists(struct cli *cli)
{
    json_t *volumes cleanup(json_decrefp) = NULL, *jobs cleanup(json_decrefp) = NULL;
    if (client_get(cli, "/v1/volumes", &volumes, NULL) == 0 &&
        json_array_size(json_object_get(volumes, "items"))) {
        fputc('\n', cli->out);
        print_table(cli->out, KIND_VOLUME, json_object_get(volumes, "items"));
    }
    if (client_get(cli, "/v1/jobs", &jobs, NULL) < 0)
        return;
    json_t *running cleanup(json_decrefp) = json_array(), *job;
    size_t index;
    json_array_foreach(json_object_get(jobs, "items"), index, job) if (object_settled(job) == SETTLED_NOT_YET)
        json_array_append(running, job);
    if (json_array_size(running)) {
        fputc('\n', cli->out);
        print_table(cli->out, KIND_JOB, running);
    }
}

int status_run(struct cli *cli)
{
    autoerror struct error *error = NULL;
    json_t *status cleanup(json_decrefp) = NULL;
    int r = client_get(cli, "/v1/status", &status, &error);
    if (r < 0)
        return cli_fail(cli, r, error);
    if (cli->json) {
        print_json(cli->out, cli->json, status);
        return 0;
    }
    fprintf(cli->out, "%s as node %s sees it (blockd %s)\n", json_text(status, "phase"),
            json_text(status, "node"), json_text(status, "version"));
    print_problems(cli->out, json_object_get(status, "problems"));
    print_counts(cli->out, status);
    print_lists(cli);
    return 0;
}
