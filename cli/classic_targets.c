/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * replace, reload, genconfig: they work on iSCSI targets. Their words are checked all the same, so that a
 * script learns of its mistake before it learns that it has no targets.
 */
#include <errno.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/sizes.h"

static int refuse(struct cli *cli, const char *command)
{
    autoerror struct error *error = NULL;
    int r = error_set(&error, EOPNOTSUPP, "%s needs iSCSI, which this version does not serve", command);
    return classic_fail(cli, NULL, r, error);
}

/* VOLUME/BLOCK, `words` more, and perhaps `force`. */
static int check_block_words(int argc, char **argv, int words, const char *label, struct error **ret_error)
{
    struct block_name name cleanup(block_name_clear) = {0};
    bool force = argc == words + 2 && strcmp(argv[argc - 1], "force") == 0;
    int r = classic_words(argc, argv, words + 1, words + 1 + force, label, ret_error);
    return r < 0 ? r : block_name_parse(argv[0], &name, ret_error);
}

int classic_replace(struct cli *cli, int argc, char **argv)
{
    autoerror struct error *error = NULL;
    int r = check_block_words(argc, argv, 2, "VOLUME/BLOCK OLD-HOST NEW-HOST", &error);
    if (r == 0 && strcmp(argv[1], argv[2]) == 0)
        r = error_set(&error, EINVAL, "the old and the new host are the same: %s", argv[1]);
    return r < 0 ? classic_usage(cli, "replace", error) : refuse(cli, "replace");
}

int classic_reload(struct cli *cli, int argc, char **argv)
{
    autoerror struct error *error = NULL;
    int r = check_block_words(argc, argv, 0, "VOLUME/BLOCK", &error);
    return r < 0 ? classic_usage(cli, "reload", error) : refuse(cli, "reload");
}

int classic_genconfig(struct cli *cli, int argc, char **argv)
{
    autoerror struct error *error = NULL;
    int r = classic_words(argc, argv, 3, 3, "VOLUME enable-tpg HOST", &error);
    if (r == 0 && strcmp(argv[1], "enable-tpg") != 0)
        r = error_set(&error, EINVAL, "the second word is enable-tpg, not \"%s\"", argv[1]);
    autostring_list struct string_list volumes = {0};
    if (r == 0)
        string_list_split(&volumes, argv[0], ',');
    for (size_t i = 0; r == 0 && i < volumes.count; i++)
        r = name_check("volume", volumes.items[i], &error);
    return r < 0 ? classic_usage(cli, "genconfig", error) : refuse(cli, "genconfig");
}
