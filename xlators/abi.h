/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Comes before every GlusterFS header: the macros that its own configure would have set, as Debian's packages
 * were built. Without one of them the headers compile silently to structures of another layout, which is why
 * sizes are asserted here. Source: GlusterFS 10.3, configure.ac and debian/rules; the sizes are those of
 * Debian 12's libglusterfs0 on 64-bit machines.
 */
#ifndef BLOCKD_XLATORS_ABI_H
#define BLOCKD_XLATORS_ABI_H

#define GF_LINUX_HOST_OS     1
#define SIZEOF_LONG          8
#define SIZEOF_LONG_LONG     8
#define HAVE_ATOMIC_BUILTINS 1
#define HAVE_SPINLOCK        1
#define UNIX_PATH_MAX        108

#include <glusterfs/xlator.h>

_Static_assert(sizeof(void *) == 8, "only 64-bit machines are known");
_Static_assert(sizeof(xlator_t) == 4128, "xlator_t is not that of Debian's libglusterfs 10.3");

#endif
