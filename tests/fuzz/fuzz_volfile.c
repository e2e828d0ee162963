/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What goes into volfiles from outside: the input's lines are volume, uid, node, device, address, folder.
 * glusterfs runs what stands between backticks, so whatever is accepted must come out as nothing but the
 * lines that the writer means.
 */
#include <regex.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/engine/engine_priv.h"
#include "rpc/base/alloc.h"

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

#define QUOTED "\"[^\"`\\\\[:cntrl:]]+\""
static const char shape[] = "^(|volume " QUOTED "|    type [a-z]+/[a-z-]+|    option ([a-zA-Z.-]+|" QUOTED
                            ") ([0-9]+|" QUOTED ")|    subvolumes " QUOTED "( " QUOTED ")*|end-volume)$";

static void check_text(const struct strbuf *text)
{
    static regex_t expression;
    static bool compiled;
    if (!compiled)
        REQUIRE(regcomp(&expression, shape, REG_EXTENDED | REG_NOSUB) == 0);
    compiled = true;
    autostring_list struct string_list lines = {0};
    string_list_split(&lines, strbuf_string(text), '\n');
    long open = 0;
    for (size_t i = 0; i < lines.count; i++) {
        REQUIRE(regexec(&expression, lines.items[i], 0, NULL, 0) == 0);
        open += string_starts_with(lines.items[i], "volume ");
        open -= strcmp(lines.items[i], "end-volume") == 0;
        REQUIRE(open == 0 || open == 1);
    }
    REQUIRE(open == 0);
}

struct input {
    struct volume volume;
    struct node node;
    const char *folder;
};

static void check(const struct input *input)
{
    const struct volfile_sources sources = {
        .volume = &input->volume,
        .nodes = &input->node,
        .node_count = 1,
        .ping_timeout = 5,
        .event_threads = 2,
        .xlators = "blockd",
    };
    autostrbuf struct strbuf brick = {0}, client = {0}, heal = {0};
    autoerror struct error *error = NULL;
    if (volfile_brick(&sources, 0, input->folder, input->folder, &brick, &error) == 0)
        check_text(&brick);
    else
        REQUIRE(error && error->number > 0);
    if (volfile_client(&sources, &client, NULL) == 0)
        check_text(&client);
    if (volfile_heal(&sources, 1, input->volume.meta.uid, &heal, NULL) == 0)
        check_text(&heal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autofree char *text = xstrndup((const char *)data, size);
    autostring_list struct string_list words = {0};
    string_list_split(&words, text, '\n');
    while (words.count < 6)
        string_list_add(&words, "");

    struct input input = {.folder = words.items[5]};
    input.volume.meta.name = xstrdup(words.items[0]);
    input.volume.meta.uid = xstrdup(words.items[1]);
    input.volume.spec.template_name = size % 3 == 0   ? TEMPLATE_SINGLE
                                      : size % 3 == 1 ? TEMPLATE_REPLICA3
                                                      : TEMPLATE_ARBITER;
    for (uint64_t i = 0; i < (size % 3 == 0 ? 1 : 3); i++) {
        struct brick_spec *brick = object_list_add(&input.volume.spec.bricks, sizeof *brick);
        *brick = (struct brick_spec){xstrdup(words.items[2]), xstrdup(words.items[3]), 1 + i};
    }
    input.node.meta.name = xstrdup(words.items[2]);
    string_list_add(&input.node.spec.addresses, words.items[4]);
    check(&input);
    cleanup_volume(&input.volume);
    cleanup_node(&input.node);
    return 0;
}
