/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Requests of NBD and their replies, from memory: ranges and flags, limits, the end of a session. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/nbd_client.h"

/* ---- Requests ---- */

static void simple_replies(void **state)
{
    (void)state;
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    go(&peer, "vol/disk");
    write_request(&peer, 0, 1024, 2048, 0xa5);
    expect_simple(&peer, 0);
    request(&peer, NBD_CMD_READ, 0, 512, 1024);
    expect_simple(&peer, 0);
    const uint8_t *data = expect(&peer, 1024);
    for (size_t i = 0; i < 1024; i++)
        assert_int_equal(data[i], i < 512 ? 0 : 0xa5);
    request(&peer, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512);
    expect_simple(&peer, NBD_EINVAL);
    request(&peer, NBD_CMD_BLOCK_STATUS, 0, 0, 512);
    expect_simple(&peer, NBD_EINVAL);
    expect_nothing(&peer);
}

static void structured_replies(void **state)
{
    (void)state;
    static const char *const query[] = {"base:allocation"};
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    structured(&peer);
    meta_option(&peer, NBD_OPT_SET_META_CONTEXT, "vol/disk", 1, query);
    expect_reply(&peer, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, NULL);
    expect_reply(&peer, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK, NULL);
    go(&peer, "vol/disk");
    write_request(&peer, NBD_CMD_FLAG_FUA, 8192, 4096, 7);
    expect_simple(&peer, 0);
    assert_int_equal(memory.fua_writes, 1);
    request(&peer, NBD_CMD_READ, NBD_CMD_FLAG_DF, 8192, 512);
    const uint8_t *chunk = expect_chunk(&peer, NBD_REPLY_TYPE_OFFSET_DATA, 8 + 512);
    assert_int_equal(nbd_get64(chunk), 8192);
    assert_int_equal(chunk[8], 7);
    request(&peer, NBD_CMD_BLOCK_STATUS, 0, 4096, 16384);
    chunk = expect_chunk(&peer, NBD_REPLY_TYPE_BLOCK_STATUS, 4 + 3 * 8);
    static const uint32_t expected[] = {4096, 3, 4096, 0, 8192, 3};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(nbd_get32(chunk + 4 + 4 * i), expected[i]);
    request(&peer, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 4096, 16384);
    chunk = expect_chunk(&peer, NBD_REPLY_TYPE_BLOCK_STATUS, 4 + 8);
    assert_int_equal(nbd_get32(chunk + 4), 4096);
    memory.io_error = -EIO;
    request(&peer, NBD_CMD_READ, 0, 0, 512);
    chunk = expect_chunk(&peer, NBD_REPLY_TYPE_ERROR, 6);
    assert_int_equal(nbd_get32(chunk), NBD_EIO);
    request(&peer, NBD_CMD_BLOCK_STATUS, 0, 0, 512);
    expect_chunk(&peer, NBD_REPLY_TYPE_ERROR, 6);
    expect_nothing(&peer);
}

static void other_commands(void **state)
{
    (void)state;
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    go(&peer, "vol/disk");
    static const struct {
        uint16_t type, flags;
        unsigned error, flushes, discards, zeroes;
    } cases[] = {
        {NBD_CMD_FLUSH, 0, 0, 1, 0, 0},
        {NBD_CMD_CACHE, 0, 0, 0, 0, 0},
        {NBD_CMD_TRIM, 0, 0, 0, 1, 0},
        {NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 0, 1, 1, 0},
        {NBD_CMD_WRITE_ZEROES, 0, 0, 0, 0, 1},
        {NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FUA, 0, 1, 0, 1},
        {NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0, 0, 1, 0},
        {NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO | NBD_CMD_FLAG_NO_HOLE, NBD_ENOTSUP, 0, 0, 0},
        {NBD_CMD_TRIM, NBD_CMD_FLAG_NO_HOLE, NBD_EINVAL, 0, 0, 0},
        {NBD_CMD_READ, 0x8000, NBD_EINVAL, 0, 0, 0},
        {9, 0, NBD_EINVAL, 0, 0, 0},
        {0xffff, 0, NBD_EINVAL, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memory.flushes = memory.discards = memory.zeroes = 0;
        request(&peer, cases[i].type, cases[i].flags, 4096, 8192);
        expect_simple(&peer, cases[i].error);
        expect_nothing(&peer);
        assert_int_equal(memory.flushes, cases[i].flushes);
        assert_int_equal(memory.discards, cases[i].discards);
        assert_int_equal(memory.zeroes, cases[i].zeroes);
    }
    /* A trim that cannot be done is no error; an error of the flush that FUA asked for is. */
    memory.io_error = -EOPNOTSUPP;
    request(&peer, NBD_CMD_TRIM, 0, 0, 512);
    expect_simple(&peer, 0);
    /* "Not supported" answers nothing but the question whether zeroing is fast. */
    request(&peer, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0, 512);
    expect_simple(&peer, NBD_ENOTSUP);
    request(&peer, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 0, 512);
    expect_simple(&peer, NBD_EIO);
    memory.io_error = -ENOSPC;
    request(&peer, NBD_CMD_WRITE_ZEROES, 0, 0, 512);
    expect_simple(&peer, NBD_ENOSPC);
    memory.io_error = 0;
    memory.refuse = true;
    request(&peer, NBD_CMD_FLUSH, 0, 0, 0);
    expect_simple(&peer, NBD_EIO);
}

static void ranges(void **state)
{
    (void)state;
    static const struct {
        uint16_t type;
        uint64_t offset;
        uint32_t length;
        unsigned error;
    } cases[] = {
        {NBD_CMD_READ, MEMORY_DISK_SIZE, 512, NBD_EINVAL},
        {NBD_CMD_READ, MEMORY_DISK_SIZE - 512, 1024, NBD_EINVAL},
        {NBD_CMD_READ, UINT64_MAX - 511, 512, NBD_EINVAL},
        {NBD_CMD_READ, 0, UINT32_MAX, NBD_EINVAL},
        {NBD_CMD_READ, 0, 0, NBD_EINVAL},
        {NBD_CMD_READ, 1, 512, NBD_EINVAL},
        {NBD_CMD_READ, 0, 511, NBD_EINVAL},
        {NBD_CMD_TRIM, MEMORY_DISK_SIZE - 512, 1024, NBD_EINVAL},
        {NBD_CMD_CACHE, MEMORY_DISK_SIZE, 512, NBD_EINVAL},
        {NBD_CMD_WRITE_ZEROES, MEMORY_DISK_SIZE, 512, NBD_ENOSPC},
        {NBD_CMD_WRITE_ZEROES, 0, UINT32_MAX, NBD_ENOSPC},
    };
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    go(&peer, "vol/disk");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        request(&peer, cases[i].type, 0, cases[i].offset, cases[i].length);
        expect_simple(&peer, cases[i].error);
    }
    /* The payload of a refused write is skipped, and the next request is found. */
    write_request(&peer, 0, MEMORY_DISK_SIZE - 512, 1024, 1);
    expect_simple(&peer, NBD_ENOSPC);
    write_request(&peer, 0, 0, 300032, 1);
    expect_simple(&peer, 0);
    write_request(&peer, 0, 7, 200000, 1);
    expect_simple(&peer, NBD_EINVAL);
    write_request(&peer, 0, 0, 0, 1);
    expect_simple(&peer, NBD_EINVAL);
    request(&peer, NBD_CMD_READ, 0, 0, 512);
    expect_simple(&peer, 0);
    expect(&peer, 512);
    expect_nothing(&peer);
}

static void read_only(void **state)
{
    (void)state;
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    go(&peer, "vol/ro");
    write_request(&peer, 0, 0, 512, 1);
    expect_simple(&peer, NBD_EPERM);
    request(&peer, NBD_CMD_TRIM, 0, 0, 512);
    expect_simple(&peer, NBD_EPERM);
    request(&peer, NBD_CMD_WRITE_ZEROES, 0, 0, 512);
    expect_simple(&peer, NBD_EPERM);
    request(&peer, NBD_CMD_FLUSH, 0, 0, 0);
    expect_simple(&peer, 0);
    assert_int_equal(memory.disk[0], 0);
}

static void any_segmentation(void **state)
{
    (void)state;
    for (size_t step = 1; step < 200; step += step < 40 ? 1 : 23) {
        autopeer struct peer peer = {0};
        begin(&peer, &defaults);
        go(&peer, "vol/disk");
        autostrbuf struct strbuf bytes = {0};
        char payload[512];
        for (unsigned i = 0; i < 20; i++) {
            memset(payload, (int)(i + step), sizeof payload);
            put_request(&bytes, NBD_CMD_WRITE, 0, 77, i * 512, 512);
            strbuf_add(&bytes, payload, sizeof payload);
        }
        assert_int_equal(peer_feed(&peer, bytes.data, bytes.length, step), bytes.length);
        for (unsigned i = 0; i < 20; i++) {
            expect_simple(&peer, 0);
            assert_int_equal(memory.disk[i * 512], (i + step) % 256);
            assert_int_equal(memory.disk[i * 512 + 511], (i + step) % 256);
        }
    }
}

static void partial_output(void **state)
{
    (void)state;
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    structured(&peer);
    go(&peer, "vol/disk");
    memset(memory.disk, 0x3c, sizeof memory.disk);
    memory.mode = MEMORY_HELD;
    request(&peer, NBD_CMD_READ, 0, 0, 1024);
    request(&peer, NBD_CMD_READ, 0, 1024, 1024);
    memory_end_all();
    peer_collect(&peer, 7);
    for (uint64_t at = 0; at < 2048; at += 1024) {
        const uint8_t *chunk = expect_chunk(&peer, NBD_REPLY_TYPE_OFFSET_DATA, 8 + 1024);
        assert_int_equal(nbd_get64(chunk), at);
        assert_int_equal(chunk[8], 0x3c);
        assert_int_equal(chunk[8 + 1023], 0x3c);
    }
    expect_nothing(&peer);
}

/* ---- Limits ---- */

static void request_limit(void **state)
{
    (void)state;
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    go(&peer, "vol/disk");
    memory.mode = MEMORY_HELD;
    autostrbuf struct strbuf bytes = {0};
    for (unsigned i = 0; i < 20; i++)
        put_request(&bytes, NBD_CMD_READ, 0, 77, 0, 512);
    assert_int_equal(peer_feed(&peer, bytes.data, bytes.length, SIZE_MAX), bytes.length);
    struct iovec room[2];
    assert_int_equal(session_room(peer.session, room), 0); /* no more is read from this client */
    unsigned ended = 0;
    while (memory_end_one(false)) {
        ended++;
        peer_settle(&peer);
    }
    assert_int_equal(ended, 20);
    assert_int_equal(peer.received.length - peer.taken, 20 * (NBD_SIMPLE_REPLY_SIZE + 512));
    assert_true(session_room(peer.session, room) > 0);
}

static void memory_limit(void **state)
{
    (void)state;
    struct session_options options = {.request_limit = 100, .memory_limit = 100000};
    autopeer struct peer peer = {0};
    begin(&peer, &options);
    go(&peer, "vol/disk");
    memory.mode = MEMORY_HELD;
    request(&peer, NBD_CMD_READ, 0, 0, 65536);
    request(&peer, NBD_CMD_READ, 0, 0, 65536);
    struct iovec room[2];
    assert_int_equal(session_room(peer.session, room), 0);
    assert_true(memory_end_one(false));
    assert_false(memory_end_one(false)); /* the second has not begun */
    peer_settle(&peer);
    assert_true(memory_end_one(false));
    peer_settle(&peer);
    /* One that is larger than the limit is served alone. */
    request(&peer, NBD_CMD_READ, 0, 0, 500224);
    assert_true(memory_end_one(false));
    peer_settle(&peer);
    assert_int_equal(peer.received.length - peer.taken, 3 * NBD_SIMPLE_REPLY_SIZE + 2 * 65536 + 500224);
}

/* At the limit of all together each session still has one request, so that nobody starves. */
static void memory_of_all_sessions(void **state)
{
    (void)state;
    struct session_memory shared = {.limit = 100000};
    struct session_options options = {.request_limit = 100, .memory_limit = 1 << 20, .shared = &shared};
    {
        autopeer struct peer first = {0}, second = {0};
        struct iovec room[2];
        begin(&first, &options);
        begin(&second, &options);
        go(&first, "vol/disk");
        go(&second, "vol/disk");
        memory.mode = MEMORY_HELD;
        request(&first, NBD_CMD_READ, 0, 0, 65536);
        request(&second, NBD_CMD_READ, 0, 0, 65536);
        assert_int_equal(atomic_load(&shared.used), 2 * 65536);
        request(&first, NBD_CMD_READ, 0, 0, 512);
        request(&second, NBD_CMD_FLUSH, 0, 0, 0);
        assert_int_equal(session_room(first.session, room), 0);
        assert_true(session_room(second.session, room) > 0); /* no payload, no limit */
        assert_true(memory_end_one(false));
        peer_settle(&first); /* its first is read, so that its second may begin */
        assert_true(session_room(first.session, room) > 0);
        memory_end_all();
        peer_settle(&first);
        peer_settle(&second);
        assert_int_equal(first.received.length - first.taken, 2 * NBD_SIMPLE_REPLY_SIZE + 65536 + 512);
    }
    assert_int_equal(atomic_load(&shared.used), 0);
}

static void unsent_replies_count(void **state)
{
    (void)state;
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    go(&peer, "vol/disk");
    memory.mode = MEMORY_HELD;
    for (unsigned i = 0; i < 8; i++)
        request(&peer, NBD_CMD_FLUSH, 0, 0, 0);
    memory_end_all(); /* answered, but the client does not read */
    struct strbuf bytes = {0};
    put_request(&bytes, NBD_CMD_FLUSH, 0, 77, 0, 0);
    struct iovec room[2];
    assert_true(session_room(peer.session, room) > 0);
    memcpy(room[0].iov_base, bytes.data, bytes.length);
    session_received(peer.session, bytes.length);
    strbuf_clear(&bytes);
    assert_int_equal(session_room(peer.session, room), 0);
    peer_settle(&peer);
    memory_end_all();
    peer_settle(&peer);
    assert_int_equal(peer.received.length - peer.taken, 9 * NBD_SIMPLE_REPLY_SIZE);
}

/* ---- The end ---- */

static void disconnect_drains(void **state)
{
    (void)state;
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    go(&peer, "vol/disk");
    memory.mode = MEMORY_HELD;
    request(&peer, NBD_CMD_READ, 0, 0, 512);
    request(&peer, NBD_CMD_DISC, 0, 0, 0);
    assert_false(session_finished(peer.session));
    memory_end_all();
    assert_false(session_finished(peer.session));
    peer.resume = false;
    peer_collect(&peer, SIZE_MAX);
    assert_true(peer.resume); /* whoever closes is told */
    assert_true(session_finished(peer.session));
    expect_simple(&peer, 0);
}

static void close_with_requests_in_flight(void **state)
{
    (void)state;
    struct peer peer;
    begin(&peer, &defaults);
    go(&peer, "vol/disk");
    memory.mode = MEMORY_HELD;
    request(&peer, NBD_CMD_READ, 0, 0, 4096);
    request(&peer, NBD_CMD_WRITE, 0, 0, 4096); /* whose payload never comes */
    peer_stop(&peer);
    assert_false(peer.freed); /* the image still writes into its buffer */
    assert_int_equal(atomic_load(&memory.images), 1);
    memory_end_all();
    assert_true(peer.freed);
}

static void cut_by_revocation(void **state)
{
    (void)state;
    peer_grant("gone", "gbid", MEMORY_DISK_SIZE, 512, false);
    {
        autopeer struct peer peer = {0};
        begin(&peer, &defaults);
        go(&peer, "vol/gone");
        peer_revoke("gone");
        assert_int_equal(catalog_sync(catalog, 0, NULL), -ETIMEDOUT);
        assert_true(peer.cut);
        request(&peer, NBD_CMD_READ, 0, 0, 512);
        expect_simple(&peer, NBD_ESHUTDOWN);
        write_request(&peer, 0, 0, 512, 1);
        expect_simple(&peer, NBD_ESHUTDOWN);
        assert_int_equal(memory.disk[0], 0);
    }
    assert_int_equal(catalog_sync(catalog, 0, NULL), 0);
}

/* Nobody waits for what a hint would bring: it ends with the session, and the image is free. */
static void hints_end_with_the_session(void **state)
{
    (void)state;
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    memory.mode = MEMORY_HELD;
    go(&peer, "vol/disk");
    request(&peer, NBD_CMD_CACHE, 0, 0, MEMORY_DISK_SIZE);
    assert_true(memory_end_one(false));
    assert_true(memory_end_one(false)); /* in steps */
    session_drain(peer.session);
    assert_true(memory_end_one(false));
    assert_false(memory_end_one(false));
    peer_settle(&peer);
    expect_simple(&peer, 0);
    assert_true(session_finished(peer.session));
}

static void error_table(void **state)
{
    (void)state;
    assert_int_equal(nbd_error_of(0), 0);
    assert_int_equal(nbd_error_of(-EROFS), NBD_EPERM);
    assert_int_equal(nbd_error_of(-EDQUOT), NBD_ENOSPC);
    assert_int_equal(nbd_error_of(-EOPNOTSUPP), NBD_ENOTSUP);
    assert_int_equal(nbd_error_of(-EOVERFLOW), NBD_EIO);
    assert_int_equal(nbd_error_of(-ENOTCONN), NBD_EIO);
    assert_int_equal(nbd_error_of(-ESHUTDOWN), NBD_ESHUTDOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(simple_replies),
        TEST(structured_replies),
        TEST(other_commands),
        TEST(ranges),
        TEST(read_only),
        TEST(any_segmentation),
        TEST(partial_output),
        TEST(request_limit),
        TEST(memory_limit),
        TEST(memory_of_all_sessions),
        TEST(unsent_replies_count),
        TEST(disconnect_drains),
        TEST(close_with_requests_in_flight),
        TEST(cut_by_revocation),
        TEST(hints_end_with_the_session),
        TEST(error_table),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
