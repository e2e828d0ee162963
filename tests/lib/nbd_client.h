/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What tests of sessions share: exports of one disk in memory, and a client that sends one thing after the
 * other and checks what comes back. Include cmocka first.
 */
#ifndef BLOCKD_TESTS_NBD_CLIENT_H
#define BLOCKD_TESTS_NBD_CLIENT_H

#include "tests/lib/nbd_peer.h"

static struct catalog *catalog;
static const struct session_options defaults = {.request_limit = 8, .memory_limit = 1 << 20};

static inline int setup(void **state)
{
    (void)state;
    peer_make_folder();
    memory_start(MEMORY_INLINE);
    peer_grant("disk", "gbid", MEMORY_DISK_SIZE, 512, false);
    peer_grant("coarse", "gbid", MEMORY_DISK_SIZE, 4096, false);
    peer_grant("ro", "gbid", MEMORY_DISK_SIZE, 512, true);
    struct catalog_options options = {.run_dir = peer_folder, .log_dir = peer_folder};
    catalog = catalog_new(&options);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    catalog_free(catalog);
    peer_revoke("disk");
    peer_revoke("coarse");
    peer_revoke("ro");
    peer_remove_folder();
    return atomic_load(&memory.images) || atomic_load(&memory.volumes);
}

static inline int reset(void **state)
{
    (void)state;
    memory.mode = MEMORY_INLINE;
    memory.refuse = false;
    memory.volume_error = memory.open_error = memory.io_error = 0;
    memory.flushes = memory.fua_writes = memory.discards = memory.zeroes = 0;
    memset(memory.disk, 0, sizeof memory.disk);
    memset(memory.allocated, 0, sizeof memory.allocated);
    return 0;
}

/* ---- The client's side ---- */

static inline void end(struct peer *peer)
{
    peer_stop(peer);
    assert_true(peer->freed);
}
#define autopeer cleanup(end)

static inline void send_bytes(struct peer *peer, struct strbuf *bytes)
{
    assert_int_equal(peer_feed(peer, bytes->data, bytes->length, SIZE_MAX), bytes->length);
    strbuf_clear(bytes);
}

static inline const uint8_t *expect(struct peer *peer, size_t length)
{
    assert_true(peer->received.length - peer->taken >= length);
    const uint8_t *at = (const uint8_t *)peer->received.data + peer->taken;
    peer->taken += length;
    return at;
}

static inline void expect_nothing(const struct peer *peer)
{
    assert_int_equal(peer->received.length, peer->taken);
}

static inline void begin(struct peer *peer, const struct session_options *options)
{
    peer_start(peer, catalog, options);
    peer_settle(peer);
    const uint8_t *greeting = expect(peer, NBD_GREETING_SIZE);
    assert_int_equal(nbd_get64(greeting), NBD_MAGIC);
    assert_int_equal(nbd_get64(greeting + 8), NBD_OPTION_MAGIC);
    assert_int_equal(nbd_get16(greeting + 16), NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    struct strbuf flags = {0};
    put32(&flags, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    send_bytes(peer, &flags);
}

static inline void option(struct peer *peer, uint32_t number, const void *data, size_t length)
{
    struct strbuf bytes = {0};
    put_option(&bytes, number, data, length);
    send_bytes(peer, &bytes);
}

/* The reply's data; its length in *ret_length when that is given. */
static inline const uint8_t *expect_reply(struct peer *peer, uint32_t number, uint32_t type,
                                          size_t *ret_length)
{
    const uint8_t *header = expect(peer, NBD_OPTION_REPLY_SIZE);
    assert_int_equal(nbd_get64(header), NBD_REP_MAGIC);
    assert_int_equal(nbd_get32(header + 8), number);
    assert_int_equal(nbd_get32(header + 12), type);
    if (ret_length)
        *ret_length = nbd_get32(header + 16);
    return expect(peer, nbd_get32(header + 16));
}

static inline void info_option(struct peer *peer, uint32_t number, const char *name, unsigned count,
                               const uint16_t *infos)
{
    autostrbuf struct strbuf data = {0};
    put32(&data, (uint32_t)strlen(name));
    strbuf_adds(&data, name);
    put16(&data, (uint16_t)count);
    for (unsigned i = 0; i < count; i++)
        put16(&data, infos[i]);
    option(peer, number, data.data, data.length);
}

static inline void meta_option(struct peer *peer, uint32_t number, const char *name, unsigned count,
                               const char *const *queries)
{
    autostrbuf struct strbuf data = {0};
    put32(&data, (uint32_t)strlen(name));
    strbuf_adds(&data, name);
    put32(&data, count);
    for (unsigned i = 0; i < count; i++) {
        put32(&data, (uint32_t)strlen(queries[i]));
        strbuf_adds(&data, queries[i]);
    }
    option(peer, number, data.data, data.length);
}

static inline void go(struct peer *peer, const char *name)
{
    static const uint16_t block_size[] = {NBD_INFO_BLOCK_SIZE};
    info_option(peer, NBD_OPT_GO, name, 1, block_size);
    expect_reply(peer, NBD_OPT_GO, NBD_REP_INFO, NULL);
    expect_reply(peer, NBD_OPT_GO, NBD_REP_INFO, NULL);
    expect_reply(peer, NBD_OPT_GO, NBD_REP_ACK, NULL);
}

static inline void structured(struct peer *peer)
{
    option(peer, NBD_OPT_STRUCTURED_REPLY, "", 0);
    expect_reply(peer, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL);
}

static inline void request(struct peer *peer, uint16_t type, uint16_t flags, uint64_t offset, uint32_t length)
{
    struct strbuf bytes = {0};
    put_request(&bytes, type, flags, 77, offset, length);
    send_bytes(peer, &bytes);
}

static inline void write_request(struct peer *peer, uint16_t flags, uint64_t offset, uint32_t length,
                                 int fill)
{
    struct strbuf bytes = {0};
    autofree char *payload = xcalloc(1, length);
    memset(payload, fill, length);
    put_request(&bytes, NBD_CMD_WRITE, flags, 77, offset, length);
    strbuf_add(&bytes, payload, length);
    send_bytes(peer, &bytes);
}

static inline void expect_simple(struct peer *peer, uint32_t error)
{
    const uint8_t *header = expect(peer, NBD_SIMPLE_REPLY_SIZE);
    assert_int_equal(nbd_get32(header), NBD_SIMPLE_REPLY_MAGIC);
    assert_int_equal(nbd_get32(header + 4), error);
    assert_int_equal(nbd_get64(header + 8), 77);
}

static inline const uint8_t *expect_chunk(struct peer *peer, uint16_t type, size_t length)
{
    const uint8_t *header = expect(peer, NBD_STRUCTURED_REPLY_SIZE);
    assert_int_equal(nbd_get32(header), NBD_STRUCTURED_REPLY_MAGIC);
    assert_int_equal(nbd_get16(header + 4), NBD_REPLY_FLAG_DONE);
    assert_int_equal(nbd_get16(header + 6), type);
    assert_int_equal(nbd_get64(header + 8), 77);
    assert_int_equal(nbd_get32(header + 16), length);
    return expect(peer, length);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

#endif
