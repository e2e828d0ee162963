/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#ifndef BLOCKD_CLI_READAHEAD_H
#define BLOCKD_CLI_READAHEAD_H

/*
 * Lets the kernel read more of a file ahead than its 128 KiB, which is one request of FUSE: only with several
 * on their way do the bricks work while the client does. Nothing happens where the kernel refuses.
 */
void readahead_widen(const char *folder);

#endif
