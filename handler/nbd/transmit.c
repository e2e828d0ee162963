/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Requests and their replies. */
#include <errno.h>

#include "handler/nbd/session_priv.h"
#include "rpc/base/clock.h"

/* ---- Errors ---- */

static const struct {
    int number;
    uint32_t error;
} error_table[] = {
    {EPERM, NBD_EPERM},     {EACCES, NBD_EPERM},        {EROFS, NBD_EPERM},  {EINVAL, NBD_EINVAL},
    {ENOSPC, NBD_ENOSPC},   {EDQUOT, NBD_ENOSPC},       {EFBIG, NBD_ENOSPC}, {ENOMEM, NBD_ENOMEM},
    {ENOTSUP, NBD_ENOTSUP}, {ESHUTDOWN, NBD_ESHUTDOWN},
};

uint32_t nbd_error_of(int result)
{
    if (result >= 0)
        return NBD_SUCCESS;
    for (size_t i = 0; i < sizeof error_table / sizeof *error_table; i++)
        if (error_table[i].number == -result)
            return error_table[i].error;
    return NBD_EIO;
}

/* ---- Replies ---- */

static void simple_header(struct request *request, int result)
{
    nbd_put32(request->header, NBD_SIMPLE_REPLY_MAGIC);
    nbd_put32(request->header + 4, nbd_error_of(result));
    nbd_put64(request->header + 8, request->cookie);
    request->header_length = NBD_SIMPLE_REPLY_SIZE;
}

static void structured_header(struct request *request, uint16_t type, size_t length)
{
    nbd_put32(request->header, NBD_STRUCTURED_REPLY_MAGIC);
    nbd_put16(request->header + 4, NBD_REPLY_FLAG_DONE);
    nbd_put16(request->header + 6, type);
    nbd_put64(request->header + 8, request->cookie);
    nbd_put32(request->header + 16, (uint32_t)length);
    request->header_length = NBD_STRUCTURED_REPLY_SIZE;
}

/* Reads must, and the rest may, be answered by chunks once those are agreed on. */
static void make_reply(struct request *request, int result)
{
    bool structured = request->session->structured &&
                      (request->type == NBD_CMD_READ || request->type == NBD_CMD_BLOCK_STATUS);
    if (result < 0)
        request->payload_length = 0;
    if (!structured) {
        simple_header(request, result);
    } else if (result < 0) {
        structured_header(request, NBD_REPLY_TYPE_ERROR, 6);
        nbd_put32(request->header + request->header_length, nbd_error_of(result));
        nbd_put16(request->header + request->header_length + 4, 0);
        request->header_length += 6;
    } else if (request->type == NBD_CMD_READ) {
        structured_header(request, NBD_REPLY_TYPE_OFFSET_DATA, 8 + request->payload_length);
        nbd_put64(request->header + request->header_length, request->offset);
        request->header_length += 8;
    } else {
        structured_header(request, NBD_REPLY_TYPE_BLOCK_STATUS, request->payload_length);
    }
}

static const enum metric_operation operations[] = {
    [NBD_CMD_READ] = METRIC_READ,           [NBD_CMD_WRITE] = METRIC_WRITE,
    [NBD_CMD_FLUSH] = METRIC_FLUSH,         [NBD_CMD_TRIM] = METRIC_TRIM,
    [NBD_CMD_CACHE] = METRIC_CACHE,         [NBD_CMD_WRITE_ZEROES] = METRIC_ZERO,
    [NBD_CMD_BLOCK_STATUS] = METRIC_STATUS,
};

static void complete(struct request *request, int result)
{
    if (request->type <= NBD_CMD_BLOCK_STATUS)
        metrics_count(request->session->metrics, operations[request->type], request->length,
                      clock_monotonic_ns() - request->started, result < 0);
    if (result == -ENOTSUP && !(request->flags & NBD_CMD_FLAG_FAST_ZERO))
        result = -EIO; /* the protocol keeps that error for FAST_ZERO */
    make_reply(request, result);
    request_reply(request);
}

/* ---- Running ---- */

static void image_ended(void *data, int result);

static int cache_step(struct request *request)
{
    size_t left = request->length - request->cached;
    size_t some = left < CACHE_STEP ? left : CACHE_STEP;
    uint64_t at = request->offset + request->cached;
    request->cached += (uint32_t)some;
    return image_read(request->session->image, request->buffer, some, at, image_ended, request);
}

/* One request may need several of the image: the next begins where the last one ends. */
static void image_ended(void *data, int result)
{
    struct request *request = data;
    if (result == -EOPNOTSUPP && request->type == NBD_CMD_TRIM)
        result = 0; /* a trim is a hint */
    bool more = request->type == NBD_CMD_CACHE && request->cached < request->length &&
                !atomic_load(&request->session->ending);
    if (result == 0 && more) {
        result = cache_step(request);
        if (result == 0)
            return;
    }
    if (result == 0 && request->flush_after) {
        request->flush_after = false;
        result = image_flush(request->session->image, image_ended, request);
        if (result == 0)
            return;
    }
    if (result == 0 && request->type == NBD_CMD_READ)
        request->payload_length = request->length;
    complete(request, result);
}

static int start_zero(struct request *request)
{
    struct image *image = request->session->image;
    bool allocate = request->flags & NBD_CMD_FLAG_NO_HOLE;
    if (!(request->flags & NBD_CMD_FLAG_FAST_ZERO))
        return image_zero(image, request->offset, request->length, allocate, image_ended, request);
    /* A hole is fast wherever there are holes at all; whether allocating is, depends on the brick. */
    if (allocate)
        return -ENOTSUP;
    return image_discard(image, request->offset, request->length, image_ended, request);
}

/* Blocks: on the pool. Nobody waits for the answer once the session is closed. */
static bool is_closed(struct session *session)
{
    scoped_lock(&session->mutex);
    return session->closed || atomic_load(&session->cut);
}

static void answer_status(struct request *request)
{
    struct image_extent extents[EXTENTS_A_REPLY];
    size_t max = request->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : EXTENTS_A_REPLY, count = 0;
    int r = -ESHUTDOWN;
    if (!is_closed(request->session))
        r = image_extents(request->session->image, request->offset, request->length, extents, max, &count,
                          NULL);
    if (r == 0) {
        nbd_put32(request->buffer, CONTEXT_ID);
        for (size_t i = 0; i < count; i++) {
            nbd_put32(request->buffer + 4 + 8 * i, (uint32_t)extents[i].length);
            nbd_put32(request->buffer + 8 + 8 * i, extents[i].hole ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0);
        }
        request->payload_length = 4 + 8 * count;
    }
    complete(request, r);
}

static struct request *next_asking(struct session *session)
{
    scoped_lock(&session->mutex);
    struct request *request = session->asking;
    if (request) {
        session->asking = request->next;
        if (!session->asking)
            session->asking_last = &session->asking;
    }
    session->asked = request != NULL;
    return request;
}

static void run_status(void *data)
{
    struct session *session = data;
    for (struct request *request; (request = next_asking(session));)
        answer_status(request);
    session_unref(session);
}

/* A session has one thread of the pool at most, however many it asks for. */
static void start_status(struct request *request)
{
    struct session *session = request->session;
    bool begin;
    {
        scoped_lock(&session->mutex);
        request->next = NULL;
        *session->asking_last = request;
        session->asking_last = &request->next;
        begin = !session->asked;
        session->asked = true;
    }
    if (begin)
        pool_submit(session->options.status_pool, run_status, session_ref(session));
}

static void start(struct request *request)
{
    struct image *image = request->session->image;
    bool fua = request->flags & NBD_CMD_FLAG_FUA;
    int r = 0;
    metrics_start(request->session->metrics);
    switch (request->type) {
    case NBD_CMD_READ:
        r = image_read(image, request->buffer, request->length, request->offset, image_ended, request);
        break;
    case NBD_CMD_WRITE:
        r = image_write(image, request->buffer, request->length, request->offset, fua, image_ended, request);
        break;
    case NBD_CMD_FLUSH:
        r = image_flush(image, image_ended, request);
        break;
    case NBD_CMD_TRIM:
        request->flush_after = fua;
        r = image_discard(image, request->offset, request->length, image_ended, request);
        break;
    case NBD_CMD_WRITE_ZEROES:
        request->flush_after = fua;
        r = start_zero(request);
        break;
    case NBD_CMD_CACHE:
        r = cache_step(request);
        break;
    case NBD_CMD_BLOCK_STATUS:
        start_status(request);
        break;
    }
    if (r < 0)
        complete(request, r);
}

/* A request that is not even begun. */
static void refuse(struct request *request, int result)
{
    if (request->type <= NBD_CMD_BLOCK_STATUS)
        metrics_start(request->session->metrics);
    complete(request, result);
}

/* ---- Checking ---- */

static uint16_t allowed_flags(const struct session *session, uint16_t type)
{
    switch (type) {
    case NBD_CMD_READ:
        return session->structured ? NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF : NBD_CMD_FLAG_FUA;
    case NBD_CMD_WRITE_ZEROES:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    case NBD_CMD_BLOCK_STATUS:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
    default:
        return NBD_CMD_FLAG_FUA;
    }
}

static int check_range(const struct session *session, uint16_t type, uint64_t offset, uint32_t length)
{
    const struct catalog_info *info = &session->user.info;
    if (length == 0)
        return -EINVAL;
    if (offset > info->size || length > info->size - offset)
        return type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES ? -ENOSPC : -EINVAL;
    if (session->aligned && ((offset | length) & (info->block_size - 1)))
        return -EINVAL;
    return 0;
}

static int check(const struct session *session, uint16_t type, uint16_t flags, uint64_t offset,
                 uint32_t length)
{
    if (type > NBD_CMD_BLOCK_STATUS || (flags & ~allowed_flags(session, type)))
        return -EINVAL;
    if (atomic_load_explicit(&session->cut, memory_order_relaxed))
        return -ESHUTDOWN;
    switch (type) {
    case NBD_CMD_FLUSH:
        return 0;
    case NBD_CMD_WRITE:
    case NBD_CMD_TRIM:
    case NBD_CMD_WRITE_ZEROES:
        if (session->user.info.read_only)
            return -EPERM;
        break;
    case NBD_CMD_BLOCK_STATUS:
        if (!session->status)
            return -EINVAL;
        break;
    }
    if ((type == NBD_CMD_READ || type == NBD_CMD_WRITE) && length > PAYLOAD_MAX)
        return -EINVAL;
    return check_range(session, type, offset, length);
}

static size_t buffer_size(uint16_t type, uint32_t length)
{
    switch (type) {
    case NBD_CMD_READ:
    case NBD_CMD_WRITE:
        return length;
    case NBD_CMD_CACHE:
        return length < CACHE_STEP ? length : CACHE_STEP;
    case NBD_CMD_BLOCK_STATUS:
        return 4 + 8 * EXTENTS_A_REPLY;
    default:
        return 0;
    }
}

bool transmit_request(struct session *session, const uint8_t *header)
{
    uint16_t flags = nbd_get16(header + 4), type = nbd_get16(header + 6);
    uint64_t offset = nbd_get64(header + 16);
    uint32_t length = nbd_get32(header + 24);
    if (nbd_get32(header) != NBD_REQUEST_MAGIC) {
        session->state = SESSION_ENDED;
        return true;
    }
    if (type == NBD_CMD_DISC) {
        session->state = SESSION_DRAINING;
        return true;
    }

    int r = check(session, type, flags, offset, length);
    struct request *request = request_new(session, r < 0 ? 0 : buffer_size(type, length));
    if (!request)
        return false;
    request->started = clock_monotonic_ns();
    request->cookie = nbd_get64(header + 8);
    request->type = type;
    request->flags = flags;
    request->offset = offset;
    request->length = length;
    if (r == 0 && request->capacity < request->charged)
        r = -ENOMEM;

    if (type == NBD_CMD_WRITE && r == 0) {
        session->writing = request;
        session->written = 0;
        session->state = SESSION_PAYLOAD;
    } else if (type == NBD_CMD_WRITE) {
        session->skip = length;
        session->state = SESSION_PAYLOAD_SKIP;
        refuse(request, r);
    } else if (r < 0) {
        refuse(request, r);
    } else {
        start(request);
    }
    return true;
}

void transmit_write(struct request *request)
{
    start(request);
}
