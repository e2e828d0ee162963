/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* SHA-256, and numbers that nobody can guess, as lower case hexadecimal text. Any thread. */
#ifndef BLOCKD_RPC_DIGEST_H
#define BLOCKD_RPC_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

#define DIGEST_TEXT_SIZE 65

void digest_text(const char *text, char ret_digest[DIGEST_TEXT_SIZE]);
/* Takes as long whatever differs. */
bool digest_equal(const char *a, const char *b);
/* 2 * `bytes` digits and a NUL. Ends the process when the kernel gives none. */
void random_text(size_t bytes, char *ret_text);

#endif
