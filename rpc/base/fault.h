/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Fault injection: a named point between two steps of an operation. With BLOCKD_FAULT=NAME in the environment
 * the process that reaches NAME kills itself with SIGKILL there, as a power cut would; BLOCKD_FAULT=NAME:N
 * does so at the Nth time. Without the variable a point costs one comparison. Any thread.
 */
#ifndef BLOCKD_BASE_FAULT_H
#define BLOCKD_BASE_FAULT_H

void fault_point(const char *name);

#endif
