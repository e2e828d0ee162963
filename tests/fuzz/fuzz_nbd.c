/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * What an NBD client sends, from its first byte to its last. The first byte of the input chooses how: its low
 * bits the TLS policy and the limits, its high bits in how large pieces the rest arrives. The image is
 * memory, and aborts when it is asked for anything outside of it. Replies are taken at once.
 */
#include <stdint.h>

#include "tests/lib/nbd_peer.h"

static struct catalog *catalog;

static void leave(void)
{
    catalog_free(catalog);
    peer_revoke("disk");
    peer_revoke("ro");
    peer_remove_folder();
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    peer_make_folder();
    peer_grant("disk", "gbid", MEMORY_DISK_SIZE, 512, false);
    peer_grant("ro", "gbid", MEMORY_DISK_SIZE, 4096, true);
    memory_start(MEMORY_INLINE);
    /* An image stays open between inputs: opening is not what is looked at. */
    struct catalog_options options = {.run_dir = peer_folder,
                                      .log_dir = peer_folder,
                                      .image_linger_ms = INT64_MAX,
                                      .volume_linger_ms = INT64_MAX};
    catalog = catalog_new(&options);
    atexit(leave);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    static const size_t steps[] = {SIZE_MAX, 1, 7, 28, 31, 512, 4096, 65536};
    unsigned how = data[0];
    struct session_options options = {
        .request_limit = how & 1 ? 1 : 16,
        .memory_limit = how & 2 ? 4096 : 1 << 20,
        .tls_offered = how & 4,
        .tls_required = (how & 12) == 12,
    };
    memory.mode = how & 16 ? MEMORY_HELD : MEMORY_INLINE;
    struct peer peer;
    peer_start(&peer, catalog, &options);
    peer_settle(&peer);
    size_t fed = 0;
    data++;
    size--;
    while (fed < size) {
        size_t some = peer_feed(&peer, data + fed, size - fed, steps[how >> 5]);
        fed += some;
        /* It wants no more until something ends. */
        bool ended = memory_end_one(false);
        peer_settle(&peer);
        if (some == 0 && !ended)
            break;
    }
    session_drain(peer.session);
    memory_end_all();
    peer_settle(&peer);
    if (!session_finished(peer.session))
        abort();
    peer_stop(&peer);
    if (!peer.freed)
        abort();
    return 0;
}
