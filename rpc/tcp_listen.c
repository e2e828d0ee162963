/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "rpc/base/address.h"
#include "rpc/http_server.h"

#define BACKLOG 128

int tcp_listen(const char *address, unsigned port, int *ret_fd, struct error **ret_error)
{
    struct sockaddr_storage where;
    socklen_t length = address_parse(address, port, &where);
    if (!length)
        return error_set(ret_error, EINVAL, "\"%s\" is no IPv4 or IPv6 address", address);
    autoclose int fd = socket(where.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(ret_error, errno, "cannot make a TCP socket: %s", strerror(errno));
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* "::" and "0.0.0.0" are two listeners, whatever the machine's default. */
    if (where.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&where, length) < 0 || listen(fd, BACKLOG) < 0)
        return error_set(ret_error, errno, "cannot listen on %s port %u: %s", address, port, strerror(errno));
    *ret_fd = steal_fd(&fd);
    return 0;
}
