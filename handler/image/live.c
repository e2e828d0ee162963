/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The question is one ONC RPC call (RFC 5531) on a stream: a mark with its length, then words of four bytes,
 * big endian. Numbers of GlusterFS: protocol-common.h; the arguments of GETSPEC: glusterfs3-xdr.x.
 */
#include "handler/image/live.h"

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "rpc/base/alloc.h"
#include "rpc/grant.h"

#define HANDSHAKE_PROGRAM 14398633
#define HANDSHAKE_VERSION 2
#define GETSPEC           2
#define KEY_MAX           128
#define WAIT_SECONDS      1
#define LAST_FRAGMENT     0x80000000u

void live_volfile_parse(const char *text, struct live_volfile *ret_live)
{
    size_t mark = strlen(VOLFILE_LIVE_MARK);
    if (strncmp(text, VOLFILE_LIVE_MARK, mark) != 0)
        return;
    const char *key = text + mark, *end = strchrnul(key, '\n'),
               *blank = memchr(key, ' ', (size_t)(end - key));
    if (!blank || blank == key || blank - key > KEY_MAX)
        return;
    ret_live->key = xstrndup(key, (size_t)(blank - key));
    ret_live->socket = xstrndup(blank + 1, (size_t)(end - blank - 1));
}

void live_volfile_clear(struct live_volfile *live)
{
    free(live->key);
    free(live->socket);
    *live = (struct live_volfile){0};
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    strcpy(address.sun_path, path);
    autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval wait = {.tv_sec = WAIT_SECONDS};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -1;
    return steal_fd(&fd);
}

static bool ask(int fd, const char *key)
{
    uint32_t words[16 + KEY_MAX / 4] = {0};
    size_t length = strlen(key), count = 0;
    const uint32_t head[] = {0, /* the mark, below */
                             1, /* number of the call */
                             0, /* a call */
                             2, /* version of RPC */
                             HANDSHAKE_PROGRAM,
                             HANDSHAKE_VERSION,
                             GETSPEC,
                             0,
                             0, /* no credentials */
                             0,
                             0, /* no verifier */
                             0, /* flags */
                             (uint32_t)length};
    for (; count < sizeof head / sizeof *head; count++)
        words[count] = htobe32(head[count]);
    memcpy(&words[count], key, length);
    count += (length + 3) / 4 + 1; /* and xdata of no bytes */
    words[0] = htobe32(LAST_FRAGMENT | (uint32_t)((count - 1) * 4));
    return send(fd, words, count * 4, MSG_NOSIGNAL) == (ssize_t)(count * 4);
}

/* The reply's head: mark, number, "reply", accepted, no verifier (two words), success, then op_ret. */
static bool is_served(int fd)
{
    uint32_t words[8];
    if (recv(fd, words, sizeof words, MSG_WAITALL) != sizeof words)
        return false;
    return be32toh(words[2]) == 1 && words[3] == 0 && words[6] == 0 && (int32_t)be32toh(words[7]) > 0;
}

bool live_volfile_served(const struct live_volfile *live)
{
    if (!live->key || strlen(live->key) > KEY_MAX)
        return false;
    autoclose int fd = connect_to(live->socket);
    return fd >= 0 && ask(fd, live->key) && is_served(fd);
}
