/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* A stream outlives the look at its reader's certificate: while it goes on, the look is repeated. */
#include "blockd/api/api_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define LOOK_MS 30000 /* for certificates whose time ends; revocation is seen at once */

struct guarded {
    struct trust *trust;
    char *certificate;
    uint64_t generation;
    int64_t next_look; /* CLOCK_MONOTONIC ms */
    struct http_response stream;
};

static bool still_good(struct guarded *guarded)
{
    uint64_t generation = trust_generation(guarded->trust);
    int64_t now = clock_monotonic_ms();
    if (generation == guarded->generation && now < guarded->next_look)
        return true;
    struct caller caller cleanup(caller_clear) = {0};
    struct http_request request = {.tls = true, .peer_certificate = guarded->certificate};
    guarded->generation = generation;
    guarded->next_look = now + LOOK_MS;
    return caller_identify(guarded->trust, &request, &caller, NULL) == 0;
}

static ssize_t next_bytes(void *data, char *buffer, size_t size)
{
    struct guarded *guarded = data;
    return still_good(guarded) ? guarded->stream.stream(guarded->stream.stream_data, buffer, size) : -1;
}

static void guarded_free(void *data)
{
    struct guarded *guarded = data;
    if (guarded->stream.stream_free)
        guarded->stream.stream_free(guarded->stream.stream_data);
    free(guarded->certificate);
    free(guarded);
}

void guard_stream(struct trust *trust, const struct http_request *request, struct http_response *response)
{
    if (!response->stream || !request->peer_certificate)
        return;
    struct guarded *guarded = xcalloc(1, sizeof *guarded);
    guarded->trust = trust;
    guarded->certificate = xstrdup(request->peer_certificate);
    guarded->stream = *response;
    response->stream = next_bytes;
    response->stream_free = guarded_free;
    response->stream_data = guarded;
}
