/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* NBD by libnbd: nbd://HOST:PORT/EXPORT, nbd+unix:///EXPORT?socket=PATH. */
#include <libnbd.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "tests/bench/load/load.h"

static bool failed(void)
{
    fprintf(stderr, "NBD: %s\n", nbd_get_error());
    return false;
}

static void *connect_nbd(const char *uri)
{
    struct nbd_handle *nbd = nbd_create();
    if (!nbd || nbd_connect_uri(nbd, uri) < 0) {
        failed();
        return NULL;
    }
    return nbd;
}

static uint64_t size(void *connection)
{
    int64_t bytes = nbd_get_size(connection);
    return bytes > 0 ? (uint64_t)bytes : 0;
}

static int ended(void *slot, int *error)
{
    load_completed(slot, *error ? strerror(*error) : NULL);
    return 1; /* libnbd forgets the request */
}

static bool submit(void *connection, const struct request *request)
{
    nbd_completion_callback done = {.callback = ended, .user_data = request->slot};
    int64_t cookie =
        request->write
            ? nbd_aio_pwrite(connection, request->buffer, request->length, request->offset, done, 0)
            : nbd_aio_pread(connection, request->buffer, request->length, request->offset, done, 0);
    return cookie >= 0 || failed();
}

static int descriptor(void *connection)
{
    return nbd_aio_get_fd(connection);
}

static short events(void *connection)
{
    unsigned direction = nbd_aio_get_direction(connection);
    return (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                   (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
}

static bool service(void *connection, short happened)
{
    unsigned direction = nbd_aio_get_direction(connection);
    int r = 0;
    if (happened & (POLLIN | POLLHUP | POLLERR) && direction & LIBNBD_AIO_DIRECTION_READ)
        r = nbd_aio_notify_read(connection);
    else if (happened & POLLOUT && direction & LIBNBD_AIO_DIRECTION_WRITE)
        r = nbd_aio_notify_write(connection);
    return r >= 0 || failed();
}

const struct driver nbd_driver = {.connect = connect_nbd,
                                  .size = size,
                                  .submit = submit,
                                  .descriptor = descriptor,
                                  .events = events,
                                  .service = service};
