/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* IP addresses as text. One address can be written in several ways. */
#ifndef RPC_BASE_ADDRESS_H
#define RPC_BASE_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "rpc/base/error.h"

/* The length of the address; 0, and nothing of use in *ret_address, for text that is none. */
socklen_t address_parse(const char *text, unsigned port, struct sockaddr_storage *ret_address);

/* -EINVAL. */
int address_check(const char *text, struct error **ret_error);

/* Are both texts the same address? */
bool address_equal(const char *a, const char *b);

#endif
