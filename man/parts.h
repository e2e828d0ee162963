/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The generated parts that are written here; those of the command line are in cli/cli.h. */
#ifndef BLOCKD_MAN_PARTS_H
#define BLOCKD_MAN_PARTS_H

#include <stdio.h>

/* config.c: the keys of blockd.conf, as mdoc(7), and as a file with every key commented out. */
void manual_config_keys(FILE *stream);
void manual_config_example(FILE *stream);

#endif
