/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Random UUIDs (RFC 9562 version 4). Any thread. */
#ifndef BLOCKD_BASE_UUID_H
#define BLOCKD_BASE_UUID_H

/* "f81d4fae-7dec-41d0-a765-00a0c91e6bf6": 36 characters, lower case. The caller's. */
char *uuid_make(void);

#endif
