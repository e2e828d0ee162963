/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "xlators/volserver/specs.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGE_ROLE ".image"
#define MOUNT_ROLE ".mount"
#define SHARE_ROLE ".share"

static const char key_bytes[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

bool spec_name(const char *key, bool own, char ret_name[static SPEC_NAME_MAX + 1])
{
    static const char *const own_roles[] = {MOUNT_ROLE, SHARE_ROLE};
    const char *role = own ? IMAGE_ROLE : MOUNT_ROLE;
    while (*key == '/')
        key++;
    size_t length = strnlen(key, SPEC_NAME_MAX + 1);
    for (size_t i = 0; own && i < sizeof own_roles / sizeof *own_roles; i++) {
        size_t end = strlen(own_roles[i]);
        if (length > end && strcmp(key + length - end, own_roles[i]) == 0) {
            length -= end;
            role = own_roles[i];
            break;
        }
    }
    if (length == 0 || length + strlen(role) > SPEC_NAME_MAX || strspn(key, key_bytes) < length)
        return false;
    memcpy(ret_name, key, length);
    strcpy(ret_name + length, role);
    return true;
}

void spec_clear(struct spec *spec)
{
    free(spec->buffer);
    *spec = (struct spec){0};
}

static int read_whole(int fd, char *buffer, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t count = read(fd, buffer + done, length - done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count < 0 ? -errno : -EINVAL;
        done += (size_t)count;
    }
    buffer[length] = '\0';
    return memchr(buffer, '\0', length) ? -EINVAL : 0;
}

/* Takes one line of the head apart; `line` ends with NUL. */
static int parse_line(struct spec *spec, char *line)
{
    if (strncmp(line, "access ", 7) == 0)
        spec->access = line + 7;
    else if (strncmp(line, "servers ", 8) == 0)
        spec->servers = line + 8;

    else
        return -EINVAL;
    return 0;
}

static int parse(struct spec *spec, size_t length)
{
    char *next = spec->buffer;
    while (strncmp(next, "#: ", 3) == 0) {
        char *end = strchr(next, '\n');
        if (!end)
            return -EINVAL;
        *end = '\0';
        int r = parse_line(spec, next + 3);
        if (r < 0)
            return r;
        next = end + 1;
    }
    spec->text = next;
    spec->length = length - (size_t)(next - spec->buffer);
    return spec->length > 0 ? 0 : -EINVAL;
}

static int read_file(int fd, struct spec *spec)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -EINVAL;
    if (status.st_size > SPEC_SIZE_MAX)
        return -EFBIG;
    size_t length = (size_t)status.st_size;
    spec->buffer = malloc(length + 1);
    if (!spec->buffer)
        return -ENOMEM;
    int r = read_whole(fd, spec->buffer, length);
    return r < 0 ? r : parse(spec, length);
}

int spec_read(int folder, const char *name, struct spec *ret_spec)
{
    char path[SPEC_NAME_MAX + sizeof SPEC_SUFFIX];
    snprintf(path, sizeof path, "%s" SPEC_SUFFIX, name);
    int fd = openat(folder, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct spec spec = {0};
    int r = read_file(fd, &spec);
    close(fd);
    if (r < 0)
        spec_clear(&spec);
    else
        *ret_spec = spec;
    return r;
}

bool spec_admits(const struct spec *spec, const char *address)
{
    for (const char *next = spec->access; next;) {
        const char *comma = strchr(next, ',');
        char pattern[64]; /* longer than any address */
        size_t length = comma ? (size_t)(comma - next) : strlen(next);
        if (length > 0 && length < sizeof pattern) {
            memcpy(pattern, next, length);
            pattern[length] = '\0';
            if (fnmatch(pattern, address, 0) == 0)
                return true;
        }
        next = comma ? comma + 1 : NULL;
    }
    return false;
}
