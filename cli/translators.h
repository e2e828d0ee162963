/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The translators that a volfile needs and this machine may lack. */
#ifndef BLOCKD_CLI_TRANSLATORS_H
#define BLOCKD_CLI_TRANSLATORS_H

/* The path of one that the volfile names and that is not there; NULL: none, or it cannot be told. The
 * caller's. */
char *translators_missing(const char *glusterfs, const char *volfile);

#endif
