/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What is served: a folder with KEY.mount.vol for standard clients, which ask over TCP, and KEY.image.vol for
 * blockd's own processes, which ask by the unix socket; as "KEY.mount" they get the other there too, and as
 * "KEY.share" that for mounts on a machine that has our translators, KEY.share.vol. Files
 * are replaced by rename, so that each read sees a whole one. A file begins with lines that are not sent:
 *
 *   #: access 127.0.0.1,192.0.2.*     who may have it, as patterns of fnmatch(3); without: nobody
 *   #: servers 192.0.2.1:24007 ...    where else it can be had
 */
#ifndef BLOCKD_XLATORS_VOLSERVER_SPECS_H
#define BLOCKD_XLATORS_VOLSERVER_SPECS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define SPEC_SUFFIX   ".vol"
#define SPEC_NAME_MAX 127 /* of a name, without the NUL: a volume's name has at most 100 */
#define SPEC_SIZE_MAX (1u << 20)

struct spec {
    char *buffer;
    const char *access;  /* in the buffer; NULL when the file has no such line */
    const char *servers; /* as access */
    const char *text;    /* the volfile: the end of the buffer */
    size_t length;
};

/*
 * The name of the file, without the suffix, for the key that a client sent: letters, digits, "_" and "-",
 * after any number of slashes, as mount.glusterfs sends one. False for every other key, so that a name leads
 * nowhere else.
 */
bool spec_name(const char *key, bool own, char ret_name[static SPEC_NAME_MAX + 1]);

/* 0 or a negative errno: -ENOENT, -EFBIG, -EINVAL for a file that is none of ours. */
int spec_read(int folder, const char *name, struct spec *ret_spec);
void spec_clear(struct spec *spec);

/* Whether the address, as inet_ntop(3) writes it, is on the list. */
bool spec_admits(const struct spec *spec, const char *address);

#endif
