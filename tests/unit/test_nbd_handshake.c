/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The handshake of NBD as blockd-nbd speaks it, from memory: options, their answers, bad input. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/nbd_client.h"

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

/* A client that asks and does not read gets no second answer: what waits for it is bounded. */
static void unread_answers(void **state)
{
    (void)state;
    autopeer struct peer peer = {0};
    begin(&peer, &defaults);
    struct strbuf bytes = {0};
    for (unsigned i = 0; i < 100; i++)
        put_option(&bytes, i % 2 ? NBD_OPT_LIST : 99, "", 0);
    struct iovec room[2];
    assert_int_equal(session_room(peer.session, room), 1);
    assert_true(room[0].iov_len > bytes.length);
    memcpy(room[0].iov_base, bytes.data, bytes.length);
    session_received(peer.session, bytes.length);
    for (unsigned i = 0; i < 10; i++)
        session_resume(peer.session);
    assert_int_equal(session_room(peer.session, room), 0);
    strbuf_clear(&bytes);
    struct iovec parts[64];
    assert_int_equal(session_output_begin(peer.session, parts, 64), 1);
    session_output_end(peer.session, 0, false);
    /* All of them come once it reads. */
    peer_settle(&peer);
    for (unsigned i = 0; i < 100; i++) {
        for (unsigned name = 0; i % 2 && name < 3; name++)
            expect_reply(&peer, NBD_OPT_LIST, NBD_REP_SERVER, NULL);
        expect_reply(&peer, i % 2 ? NBD_OPT_LIST : 99, i % 2 ? NBD_REP_ACK : NBD_REP_ERR_UNSUP, NULL);
    }
    go(&peer, "vol/disk");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(info_and_go),       TEST(list),
        TEST(export_name),       TEST(unknown_exports),
        TEST(opening_fails),     TEST(meta_contexts),
        TEST(tls_first),         TEST(starttls_forgets),
        TEST(malformed_options), TEST(broken_handshakes),
        TEST(unread_answers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
