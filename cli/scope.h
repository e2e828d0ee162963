/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* A systemd scope for what outlives this program. */
#ifndef BLOCKD_CLI_SCOPE_H
#define BLOCKD_CLI_SCOPE_H

#include "rpc/base/error.h"

/*
 * Moves this process, and with it all that it starts from now on, into a scope of its own, so that the stop
 * of no other unit ends them. The scope ends after the unit of the mount at `folder`. Without systemd it does
 * nothing.
 */
int scope_enter(const char *description, const char *folder, struct error **ret_error);

/* The name of the unit that systemd has for a mount at a folder, as systemd-escape(1)
 * makes it. The caller's. */
char *scope_mount_unit(const char *folder);

#endif
