/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The verbs that are done on the machine where they are typed, beside those of the API's table. */
#include <string.h>

#include "cli.h"

const struct noun_word noun_words[] = {
    {"share", "mount", "VOLUME/SHARE FOLDER [-o OPTION,...]", "Mount a share on this machine",
     share_mount_options, share_mount_run},
    {"share", "unmount", "FOLDER|VOLUME/SHARE [--lazy]", "Unmount a share on this machine",
     share_unmount_options, share_unmount_run},
    {"certificate", "issue", "NAME FOLDER [--role ROLE] [--days N] [--host HOST]...",
     "Make a key in a folder, and have its certificate signed", certificate_issue_options, certificate_issue},
    {"cluster", "init", "[--admin FOLDER] [--listen ADDRESS[:PORT]]",
     "Begin a cluster with this node: its authority, and an administrator's certificate",
     cluster_init_options, cluster_init_run},
    {"node", "join", "HOST[:PORT] --token TOKEN|--token-file FILE [OPTION]...",
     "Make this machine a node of a cluster", node_join_options, node_join_run},
    {.noun = NULL},
};

const struct noun_word *noun_word_find(const char *noun, const char *verb)
{
    for (const struct noun_word *word = noun_words; word->noun; word++)
        if (strcmp(word->noun, noun) == 0 && strcmp(word->verb, verb) == 0)
            return word;
    return NULL;
}

int noun_word_usage(struct cli *cli, const char *noun, const char *verb, const struct error *error)
{
    complain(cli, error);
    fprintf(cli->err, "Usage: gluster-block %s %s %s\nMore: gluster-block help %s %s\n", noun, verb,
            noun_word_find(noun, verb)->syntax, noun, verb);
    return STATUS_USAGE;
}
