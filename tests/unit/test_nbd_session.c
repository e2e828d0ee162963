/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The NBD protocol as blockd-nbd speaks it, from memory: the handshake, requests and replies, limits, bad
 * input. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/nbd_peer.h"

static struct catalog *catalog;
static const struct session_options defaults = {.request_limit = 8, .memory_limit = 1 << 20};

static int setup(void **state)
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

static int teardown(void **state)
{
    (void)state;
    catalog_free(catalog);
    peer_revoke("disk");
    peer_revoke("coarse");
    peer_revoke("ro");
    peer_remove_folder();
    return atomic_load(&memory.images) || atomic_load(&memory.volumes);
}

static int reset(void **state)
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

static void end(struct peer *peer)
{
    peer_stop(peer);
    assert_true(peer->freed);
}
#define autopeer cleanup(end)

static void send_bytes(struct peer *peer, struct strbuf *bytes)
{
    assert_int_equal(peer_feed(peer, bytes->data, bytes->length, SIZE_MAX), bytes->length);
    strbuf_clear(bytes);
}

static const uint8_t *expect(struct peer *peer, size_t length)
{
    assert_true(peer->received.length - peer->taken >= length);
    const uint8_t *at = (const uint8_t *)peer->received.data + peer->taken;
    peer->taken += length;
    return at;
}

static void expect_nothing(const struct peer *peer)
{
    assert_int_equal(peer->received.length, peer->taken);
}

static void begin(struct peer *peer, const struct session_options *options)
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

static void option(struct peer *peer, uint32_t number, const void *data, size_t length)
{
    struct strbuf bytes = {0};
    put_option(&bytes, number, data, length);
    send_bytes(peer, &bytes);
}

/* The reply's data; its length in *ret_length when that is given. */
static const uint8_t *expect_reply(struct peer *peer, uint32_t number, uint32_t type, size_t *ret_length)
{
    const uint8_t *header = expect(peer, NBD_OPTION_REPLY_SIZE);
    assert_int_equal(nbd_get64(header), NBD_REP_MAGIC);
    assert_int_equal(nbd_get32(header + 8), number);
    assert_int_equal(nbd_get32(header + 12), type);
    if (ret_length)
        *ret_length = nbd_get32(header + 16);
    return expect(peer, nbd_get32(header + 16));
}

static void info_option(struct peer *peer, uint32_t number, const char *name, unsigned count,
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

static void meta_option(struct peer *peer, uint32_t number, const char *name, unsigned count,
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

static void go(struct peer *peer, const char *name)
{
    static const uint16_t block_size[] = {NBD_INFO_BLOCK_SIZE};
    info_option(peer, NBD_OPT_GO, name, 1, block_size);
    expect_reply(peer, NBD_OPT_GO, NBD_REP_INFO, NULL);
    expect_reply(peer, NBD_OPT_GO, NBD_REP_INFO, NULL);
    expect_reply(peer, NBD_OPT_GO, NBD_REP_ACK, NULL);
}

static void structured(struct peer *peer)
{
    option(peer, NBD_OPT_STRUCTURED_REPLY, "", 0);
    expect_reply(peer, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL);
}

static void request(struct peer *peer, uint16_t type, uint16_t flags, uint64_t offset, uint32_t length)
{
    struct strbuf bytes = {0};
    put_request(&bytes, type, flags, 77, offset, length);
    send_bytes(peer, &bytes);
}

static void write_request(struct peer *peer, uint16_t flags, uint64_t offset, uint32_t length, int fill)
{
    struct strbuf bytes = {0};
    autofree char *payload = xcalloc(1, length);
    memset(payload, fill, length);
    put_request(&bytes, NBD_CMD_WRITE, flags, 77, offset, length);
    strbuf_add(&bytes, payload, length);
    send_bytes(peer, &bytes);
}

static void expect_simple(struct peer *peer, uint32_t error)
{
    const uint8_t *header = expect(peer, NBD_SIMPLE_REPLY_SIZE);
    assert_int_equal(nbd_get32(header), NBD_SIMPLE_REPLY_MAGIC);
    assert_int_equal(nbd_get32(header + 4), error);
    assert_int_equal(nbd_get64(header + 8), 77);
}

static const uint8_t *expect_chunk(struct peer *peer, uint16_t type, size_t length)
{
    const uint8_t *header = expect(peer, NBD_STRUCTURED_REPLY_SIZE);
    assert_int_equal(nbd_get32(header), NBD_STRUCTURED_REPLY_MAGIC);
    assert_int_equal(nbd_get16(header + 4), NBD_REPLY_FLAG_DONE);
    assert_int_equal(nbd_get16(header + 6), type);
    assert_int_equal(nbd_get64(header + 8), 77);
    assert_int_equal(nbd_get32(header + 16), length);
    return expect(peer, length);
}

/* ---- The handshake ---- */

static void info_and_go(void **state)
{
    (void)state;
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    static const uint16_t all[] = {NBD_INFO_NAME, NBD_INFO_BLOCK_SIZE, 999};
    info_option(&peer, NBD_OPT_INFO, "vol/coarse", 3, all);
    const uint8_t *export = expect_reply(&peer, NBD_OPT_INFO, NBD_REP_INFO, NULL);
    assert_int_equal(nbd_get16(export), NBD_INFO_EXPORT);
    assert_int_equal(nbd_get64(export + 2), MEMORY_DISK_SIZE);
    size_t length;
    const uint8_t *name = expect_reply(&peer, NBD_OPT_INFO, NBD_REP_INFO, &length);
    assert_int_equal(length, 12);
    assert_memory_equal(name + 2, "vol/coarse", 10);
    const uint8_t *sizes = expect_reply(&peer, NBD_OPT_INFO, NBD_REP_INFO, NULL);
    assert_int_equal(nbd_get32(sizes + 2), 4096);
    assert_int_equal(nbd_get32(sizes + 6), 4096);
    assert_int_equal(nbd_get32(sizes + 10), 32 << 20);
    expect_reply(&peer, NBD_OPT_INFO, NBD_REP_ACK, NULL);
    /* Asking is not opening. */
    assert_int_equal(atomic_load(&memory.images), 0);
    assert_true(session_in_handshake(peer.session));

    info_option(&peer, NBD_OPT_GO, "vol/coarse", 0, NULL);
    export = expect_reply(&peer, NBD_OPT_GO, NBD_REP_INFO, NULL);
    unsigned flags = nbd_get16(export + 10);
    assert_true(flags & NBD_FLAG_SEND_TRIM && flags & NBD_FLAG_CAN_MULTI_CONN && flags & NBD_FLAG_SEND_FUA);
    assert_false(flags & NBD_FLAG_SEND_DF || flags & NBD_FLAG_READ_ONLY);
    expect_reply(&peer, NBD_OPT_GO, NBD_REP_ACK, NULL);
    assert_false(session_in_handshake(peer.session));
    assert_int_equal(atomic_load(&memory.images), 1);
    expect_nothing(&peer);
}

static void list(void **state)
{
    (void)state;
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    option(&peer, NBD_OPT_LIST, "", 0);
    static const char *const names[] = {"vol/coarse", "vol/disk", "vol/ro"};
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *data = expect_reply(&peer, NBD_OPT_LIST, NBD_REP_SERVER, NULL);
        assert_int_equal(nbd_get32(data), strlen(names[i]));
        assert_memory_equal(data + 4, names[i], strlen(names[i]));
    }
    expect_reply(&peer, NBD_OPT_LIST, NBD_REP_ACK, NULL);
    option(&peer, NBD_OPT_ABORT, "bye", 3);
    expect_reply(&peer, NBD_OPT_ABORT, NBD_REP_ACK, NULL);
    assert_true(session_finished(peer.session));
}

static void export_name(void **state)
{
    (void)state;
    for (unsigned flags = 0; flags < 4; flags++) {
        autopeer struct peer peer = {0};
        peer_start(&peer, catalog, &defaults);
        peer_settle(&peer);
        expect(&peer, NBD_GREETING_SIZE);
        struct strbuf bytes = {0};
        put32(&bytes, flags);
        put_option(&bytes, NBD_OPT_EXPORT_NAME, "vol/ro", 6);
        send_bytes(&peer, &bytes);
        const uint8_t *answer = expect(&peer, flags & NBD_FLAG_NO_ZEROES ? 10 : 10 + NBD_PADDING_SIZE);
        assert_int_equal(nbd_get64(answer), MEMORY_DISK_SIZE);
        assert_true(nbd_get16(answer + 8) & NBD_FLAG_READ_ONLY);
        assert_false(nbd_get16(answer + 8) & NBD_FLAG_SEND_TRIM);
        request(&peer, NBD_CMD_READ, 0, 3, 5);
        expect_simple(&peer, 0);
        expect(&peer, 5);
        expect_nothing(&peer);
    }
}

static void unknown_exports(void **state)
{
    (void)state;
    static const char *const names[] = {"",           "vol",         "vol/",       "/disk", "vol/none",
                                        "other/disk", "../vol/disk", "vol/disk/x", "vol/.."};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        autopeer struct peer peer = {0};
        begin(&peer, &defaults);
        info_option(&peer, NBD_OPT_INFO, names[i], 0, NULL);
        expect_reply(&peer, NBD_OPT_INFO, NBD_REP_ERR_UNKNOWN, NULL);
        info_option(&peer, NBD_OPT_GO, names[i], 0, NULL);
        expect_reply(&peer, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, NULL);
        go(&peer, "vol/disk"); /* the handshake goes on */
        autopeer struct peer old = {0};
        begin(&old, &defaults);
        option(&old, NBD_OPT_EXPORT_NAME, names[i], strlen(names[i]));
        assert_true(session_finished(old.session));
    }
}

static void opening_fails(void **state)
{
    (void)state;
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    catalog_tick(catalog);
    memory.open_error = -ENOTCONN;
    info_option(&peer, NBD_OPT_GO, "vol/disk", 0, NULL);
    expect_reply(&peer, NBD_OPT_GO, NBD_REP_ERR_PLATFORM, NULL);
    assert_non_null(strstr(strbuf_string(&peer.notes), "made to fail"));
    memory.open_error = 0;
    go(&peer, "vol/disk");
}

static void meta_contexts(void **state)
{
    (void)state;
    static const char *const full[] = {"other:x", "base:allocation"}, *const wild[] = {"base:"},
                             *const other[] = {"x-y:z"};
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    meta_option(&peer, NBD_OPT_SET_META_CONTEXT, "vol/disk", 2, full);
    expect_reply(&peer, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID, NULL);
    structured(&peer);
    for (unsigned i = 0; i < 3; i++) {
        const char *const *queries = i == 0 ? NULL : i == 1 ? full : wild;
        meta_option(&peer, NBD_OPT_LIST_META_CONTEXT, "vol/disk", i == 0 ? 0 : i == 1 ? 2 : 1, queries);
        const uint8_t *data = expect_reply(&peer, NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT, NULL);
        assert_memory_equal(data + 4, "base:allocation", 15);
        expect_reply(&peer, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK, NULL);
    }
    meta_option(&peer, NBD_OPT_LIST_META_CONTEXT, "vol/disk", 1, other);
    expect_reply(&peer, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK, NULL);
    meta_option(&peer, NBD_OPT_SET_META_CONTEXT, "vol/disk", 1, wild);
    expect_reply(&peer, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK, NULL);
    meta_option(&peer, NBD_OPT_SET_META_CONTEXT, "vol/none", 2, full);
    expect_reply(&peer, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_UNKNOWN, NULL);
    meta_option(&peer, NBD_OPT_SET_META_CONTEXT, "vol/coarse", 2, full);
    expect_reply(&peer, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, NULL);
    expect_reply(&peer, NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK, NULL);
    /* Selected for another export than the one that is used. */
    go(&peer, "vol/disk");
    request(&peer, NBD_CMD_BLOCK_STATUS, 0, 0, 4096);
    assert_int_equal(nbd_get32(expect_chunk(&peer, NBD_REPLY_TYPE_ERROR, 6)), NBD_EINVAL);
}

static void tls_first(void **state)
{
    (void)state;
    struct session_options options = defaults;
    options.tls_offered = options.tls_required = true;
    autopeer struct peer peer = {0};
    begin(&peer, &options);
    info_option(&peer, NBD_OPT_GO, "vol/disk", 0, NULL);
    expect_reply(&peer, NBD_OPT_GO, NBD_REP_ERR_TLS_REQD, NULL);
    option(&peer, NBD_OPT_LIST, "", 0);
    expect_reply(&peer, NBD_OPT_LIST, NBD_REP_ERR_TLS_REQD, NULL);
    option(&peer, NBD_OPT_STRUCTURED_REPLY, "", 0);
    expect_reply(&peer, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_TLS_REQD, NULL);
    option(&peer, NBD_OPT_STARTTLS, "x", 1);
    expect_reply(&peer, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, NULL);
    option(&peer, NBD_OPT_STARTTLS, "", 0);
    expect_reply(&peer, NBD_OPT_STARTTLS, NBD_REP_ACK, NULL);
    option(&peer, NBD_OPT_STARTTLS, "", 0);
    expect_reply(&peer, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, NULL);
    go(&peer, "vol/disk");

    autopeer struct peer plain = {0};
    begin(&plain, &options);
    option(&plain, NBD_OPT_EXPORT_NAME, "vol/disk", 8);
    assert_true(session_finished(plain.session));

    /* What came in the clear after STARTTLS is not taken as if it had come encrypted. */
    autopeer struct peer injected = {0};
    begin(&injected, &options);
    autostrbuf struct strbuf bytes = {0};
    put_option(&bytes, NBD_OPT_STARTTLS, "", 0);
    put_option(&bytes, NBD_OPT_LIST, "", 0);
    peer_feed(&injected, bytes.data, bytes.length, SIZE_MAX);
    assert_true(session_finished(injected.session));
}

static void starttls_forgets(void **state)
{
    (void)state;
    struct session_options options = defaults;
    options.tls_offered = true;
    autopeer struct peer peer = {0};
    begin(&peer, &options);
    structured(&peer);
    option(&peer, NBD_OPT_STARTTLS, "", 0);
    expect_reply(&peer, NBD_OPT_STARTTLS, NBD_REP_ACK, NULL);
    go(&peer, "vol/disk");
    request(&peer, NBD_CMD_READ, 0, 0, 512);
    expect_simple(&peer, 0);
    autopeer struct peer without = {0};
    begin(&without, &defaults);
    option(&without, NBD_OPT_STARTTLS, "", 0);
    expect_reply(&without, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, NULL);
}

static void malformed_options(void **state)
{
    (void)state;
    static const struct {
        uint32_t option;
        const char *data;
        size_t length;
        uint32_t reply;
    } cases[] = {
        {NBD_OPT_GO, "", 0, NBD_REP_ERR_INVALID},
        {NBD_OPT_GO, "\xff\xff\xff\xff", 4, NBD_REP_ERR_INVALID},
        {NBD_OPT_GO, "\0\0\0\1v", 5, NBD_REP_ERR_INVALID},
        {NBD_OPT_GO, "\0\0\0\1v\0\1", 7, NBD_REP_ERR_INVALID},
        {NBD_OPT_GO, "\0\0\0\1v\0\0x", 8, NBD_REP_ERR_INVALID},
        {NBD_OPT_GO, "\0\0\0\1\0\0\0", 7, NBD_REP_ERR_INVALID}, /* NUL in the name */
        {NBD_OPT_LIST, "x", 1, NBD_REP_ERR_INVALID},
        {NBD_OPT_STRUCTURED_REPLY, "x", 1, NBD_REP_ERR_INVALID},
        {NBD_OPT_LIST_META_CONTEXT, "\0\0\0\0\xff\xff\xff\xff", 8, NBD_REP_ERR_INVALID},
        {NBD_OPT_LIST_META_CONTEXT, "\0\0\0\0\0\0\0\1\0\0\0\2x", 13, NBD_REP_ERR_INVALID},
        {0, "", 0, NBD_REP_ERR_UNSUP},
        {4, "", 0, NBD_REP_ERR_UNSUP},
        {0xffffffff, "x", 1, NBD_REP_ERR_UNSUP},
    };
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        option(&peer, cases[i].option, cases[i].data, cases[i].length);
        expect_reply(&peer, cases[i].option, cases[i].reply, NULL);
    }
    autofree char *large = xcalloc(1, 100000);
    option(&peer, NBD_OPT_GO, large, 100000);
    expect_reply(&peer, NBD_OPT_GO, NBD_REP_ERR_TOO_BIG, NULL);
    go(&peer, "vol/disk");
}

static void broken_handshakes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        autopeer struct peer peer = {0};
        struct strbuf bytes = {0};
        begin(&peer, &defaults);
        if (i == 0)
            put64(&bytes, NBD_MAGIC);
        else
            put64(&bytes, NBD_OPTION_MAGIC);
        put32(&bytes, i == 2 ? NBD_OPT_EXPORT_NAME : NBD_OPT_GO);
        put32(&bytes, i == 1 ? 0xffffffff : i == 2 ? 40000 : 0);
        if (i == 3)
            session_drain(peer.session);
        if (i == 4)
            session_close(peer.session);
        peer_feed(&peer, bytes.data, bytes.length, 1);
        strbuf_clear(&bytes);
        assert_true(session_finished(peer.session));
    }
    autopeer struct peer peer = {0};
    peer_start(&peer, catalog, &defaults);
    struct strbuf flags = {0};
    put32(&flags, 4);
    send_bytes(&peer, &flags);
    assert_true(session_finished(peer.session));
}

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

static void error_table(void **state)
{
    (void)state;
    assert_int_equal(nbd_error_of(0), 0);
    assert_int_equal(nbd_error_of(-EROFS), NBD_EPERM);
    assert_int_equal(nbd_error_of(-EDQUOT), NBD_ENOSPC);
    assert_int_equal(nbd_error_of(-EOPNOTSUPP), NBD_ENOTSUP);
    assert_int_equal(nbd_error_of(-ENOTCONN), NBD_EIO);
    assert_int_equal(nbd_error_of(-ESHUTDOWN), NBD_ESHUTDOWN);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(info_and_go),       TEST(list),
        TEST(export_name),       TEST(unknown_exports),
        TEST(opening_fails),     TEST(meta_contexts),
        TEST(tls_first),         TEST(starttls_forgets),
        TEST(malformed_options), TEST(broken_handshakes),
        TEST(simple_replies),    TEST(structured_replies),
        TEST(other_commands),    TEST(ranges),
        TEST(read_only),         TEST(any_segmentation),
        TEST(partial_output),    TEST(request_limit),
        TEST(memory_limit),      TEST(unsent_replies_count),
        TEST(disconnect_drains), TEST(close_with_requests_in_flight),
        TEST(cut_by_revocation), TEST(error_table),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
