/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/http_server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "rpc/base/alloc.h"

#define BACKLOG 128

static int set_address(struct sockaddr_un *address, const char *path, struct error **ret_error)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address->sun_path)
        return error_set(ret_error, ENAMETOOLONG, "the socket path %s is longer than %zu characters", path,
                         sizeof address->sun_path - 1);
    strcpy(address->sun_path, path);
    return 0;
}

/* A socket that is left over from a process that was killed may be replaced, anything else may not. */
static int check_free(const char *path, struct error **ret_error)
{
    struct stat status;
    if (lstat(path, &status) < 0)
        return errno == ENOENT ? 0 : error_set(ret_error, errno, "cannot stat %s: %s", path, strerror(errno));
    if (!S_ISSOCK(status.st_mode))
        return error_set(ret_error, EEXIST, "%s is there and is no socket; remove it first", path);

    struct sockaddr_un address;
    int r = set_address(&address, path, ret_error);
    if (r < 0)
        return r;
    autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(ret_error, errno, "cannot make a unix socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN)
        return error_set(ret_error, EADDRINUSE, "somebody serves on %s already", path);
    return 0;
}

int unix_listen(const char *path, mode_t mode, int *ret_fd, struct error **ret_error)
{
    int r = check_free(path, ret_error);
    if (r < 0)
        return r;

    /* Bound under another name and moved: at no time is there a socket with the wrong mode, or none. */
    autofree char *temporary = xasprintf("%s.%d", path, (int)getpid());
    struct sockaddr_un address;
    r = set_address(&address, temporary, ret_error);
    if (r < 0)
        return r;
    autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(ret_error, errno, "cannot make a unix socket: %s", strerror(errno));
    unlink(temporary);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return error_set(ret_error, errno, "cannot make the socket %s: %s", path, strerror(errno));
    if (chmod(temporary, mode) < 0 || listen(fd, BACKLOG) < 0 || rename(temporary, path) < 0) {
        r = error_set(ret_error, errno, "cannot listen on %s: %s", path, strerror(errno));
        unlink(temporary);
        return r;
    }
    *ret_fd = steal_fd(&fd);
    return 0;
}
