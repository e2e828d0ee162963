/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What a test of the NBD server needs: a folder of grants, and a session driven from memory, without a
 * socket. */
#ifndef BLOCKD_TESTS_NBD_PEER_H
#define BLOCKD_TESTS_NBD_PEER_H

#include <stdlib.h>

#include "handler/nbd/protocol.h"
#include "handler/nbd/session.h"
#include "rpc/base/alloc.h"
#include "rpc/base/strings.h"
#include "rpc/grant.h"
#include "tests/lib/image_memory.h"

/* ---- Grants ---- */

static char *peer_folder;

static inline void peer_make_folder(void)
{
    const char *parent = getenv("TMPDIR");
    peer_folder = xasprintf("%s/nbd-test-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(peer_folder))
        abort();
}

static inline void peer_remove_folder(void)
{
    autofree char *volume = xasprintf("%s/grants/vol", peer_folder);
    autofree char *grants = xasprintf("%s/grants", peer_folder);
    rmdir(volume);
    rmdir(grants);
    rmdir(peer_folder);
    free(steal_ptr(&peer_folder));
}

static inline void peer_grant(const char *block, const char *gbid, uint64_t size, uint64_t block_size,
                              bool read_only)
{
    struct grant grant = {.volume = (char *)"vol",
                          .block = (char *)block,
                          .gbid = (char *)gbid,
                          .file = (char *)"/block-store/file",
                          .volfile = (char *)"/nonexistent/client.vol",
                          .size = size,
                          .block_size = block_size,
                          .read_only = read_only};
    if (grant_write(peer_folder, &grant, NULL, NULL) < 0)
        abort();
}

static inline void peer_revoke(const char *block)
{
    grant_remove(peer_folder, "vol", block, NULL);
}

/* ---- A session and its client ---- */

struct peer {
    struct session *session;
    struct strbuf received; /* what the server sent and nobody looked at yet */
    size_t taken;
    bool resume, cut, freed;
    struct strbuf notes;
};

static void peer_output(void *data, bool alone)
{
    (void)data;
    (void)alone;
}

static void peer_resume(void *data)
{
    ((struct peer *)data)->resume = true;
}

static void peer_cut(void *data)
{
    ((struct peer *)data)->cut = true;
}

static void peer_note(void *data, const char *text)
{
    strbuf_adds(&((struct peer *)data)->notes, text);
}

static void peer_freed(void *data)
{
    ((struct peer *)data)->freed = true;
}

static inline void peer_start(struct peer *peer, struct catalog *catalog,
                              const struct session_options *limits)
{
    *peer = (struct peer){0};
    struct session_options options = *limits;
    options.catalog = catalog;
    options.peer = "test";
    options.data = peer;
    options.output = peer_output;
    options.resume = peer_resume;
    options.cut = peer_cut;
    options.note = peer_note;
    options.freed = peer_freed;
    peer->session = session_new(&options);
}

/* Takes all output, in steps of at most `step` bytes. */
static inline void peer_collect(struct peer *peer, size_t step)
{
    struct iovec parts[4];
    for (int count; (count = session_output_begin(peer->session, parts, 4));) {
        size_t sent = 0;
        for (int i = 0; i < count && sent < step; i++) {
            size_t some = parts[i].iov_len < step - sent ? parts[i].iov_len : step - sent;
            strbuf_add(&peer->received, parts[i].iov_base, some);
            sent += some;
        }
        session_output_end(peer->session, sent, false);
    }
}

static inline void peer_settle(struct peer *peer)
{
    do {
        peer->resume = false;
        session_resume(peer->session);
        peer_collect(peer, SIZE_MAX);
        if (session_wants_tls(peer->session))
            session_tls_started(peer->session);
    } while (peer->resume);
}

/* Feeds bytes in pieces of at most `step`; returns how many were taken before the session wanted no more. */
static inline size_t peer_feed(struct peer *peer, const void *bytes, size_t length, size_t step)
{
    size_t fed = 0;
    while (fed < length) {
        struct iovec room[2];
        int count = session_room(peer->session, room);
        size_t some = 0;
        for (int i = 0; i < count && some < step && fed + some < length; i++) {
            size_t part = room[i].iov_len;
            part = part < step - some ? part : step - some;
            part = part < length - fed - some ? part : length - fed - some;
            memcpy(room[i].iov_base, (const char *)bytes + fed + some, part);
            some += part;
        }
        if (some == 0)
            break;
        fed += some;
        session_received(peer->session, some);
        peer_settle(peer);
    }
    return fed;
}

static inline void peer_stop(struct peer *peer)
{
    session_close(peer->session);
    session_unref(peer->session);
    strbuf_clear(&peer->received);
    strbuf_clear(&peer->notes);
}

/* ---- What a client writes ---- */

static inline void put16(struct strbuf *to, uint16_t value)
{
    uint8_t bytes[2];
    nbd_put16(bytes, value);
    strbuf_add(to, bytes, sizeof bytes);
}

static inline void put32(struct strbuf *to, uint32_t value)
{
    uint8_t bytes[4];
    nbd_put32(bytes, value);
    strbuf_add(to, bytes, sizeof bytes);
}

static inline void put64(struct strbuf *to, uint64_t value)
{
    uint8_t bytes[8];
    nbd_put64(bytes, value);
    strbuf_add(to, bytes, sizeof bytes);
}

static inline void put_option(struct strbuf *to, uint32_t option, const void *data, size_t length)
{
    put64(to, NBD_OPTION_MAGIC);
    put32(to, option);
    put32(to, (uint32_t)length);
    strbuf_add(to, data, length);
}

static inline void put_request(struct strbuf *to, uint16_t type, uint16_t flags, uint64_t cookie,
                               uint64_t offset, uint32_t length)
{
    put32(to, NBD_REQUEST_MAGIC);
    put16(to, flags);
    put16(to, type);
    put64(to, cookie);
    put64(to, offset);
    put32(to, length);
}

#endif
