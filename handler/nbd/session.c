/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The session as such: its input buffer, its requests and their limits, its output queue. */
#include "handler/nbd/session.h"

#include <errno.h>
#include <stdlib.h>

#include "handler/nbd/session_priv.h"
#include "rpc/base/alloc.h"

/* ---- Life ---- */

static void user_cut(struct catalog_user *user)
{
    struct session *session = (struct session *)((char *)user - offsetof(struct session, user));
    atomic_store(&session->cut, true);
    atomic_store(&session->ending, true);
    session->options.cut(session->options.data);
}

struct session *session_new(const struct session_options *options)
{
    struct session *session = xcalloc(1, sizeof *session);
    session->options = *options;
    session->options.peer = NULL; /* copied below */
    atomic_init(&session->references, 1);
    session->input = xcalloc(1, INPUT_SIZE);
    session->output_last = &session->output;
    session->asking_last = &session->asking;
    session->user.cut = user_cut;
    snprintf(session->user.peer, sizeof session->user.peer, "%s", options->peer);
    pthread_mutex_init(&session->mutex, NULL);
    negotiate_greet(session);
    return session;
}

struct session *session_ref(struct session *session)
{
    atomic_fetch_add(&session->references, 1);
    return session;
}

static void request_free(struct request *request)
{
    free(request->buffer);
    free(request);
}

static void free_requests(struct request *request)
{
    while (request) {
        struct request *next = request->next;
        request_free(request);
        request = next;
    }
}

void session_unref(struct session *session)
{
    if (!session || atomic_fetch_sub(&session->references, 1) != 1)
        return;
    catalog_leave(session->options.catalog, &session->user);
    free_requests(session->output);
    free_requests(session->free);
    negotiation_free(session->answer);
    pthread_mutex_destroy(&session->mutex);
    free(session->meta_export);
    free(session->input);
    void (*freed)(void *data) = session->options.freed;
    void *data = session->options.data;
    free(session);
    freed(data);
}

/* ---- Requests ---- */

/* With the mutex held. Who waits has a request of its own, whose end lets it try again. */
static bool within_limits(const struct session *session, size_t payload)
{
    const struct session_memory *shared = session->options.shared;
    if (session->held >= session->options.request_limit)
        return false;
    return session->memory == 0 || payload == 0 ||
           (session->memory + payload <= session->options.memory_limit &&
            (!shared || atomic_load(&shared->used) + payload <= shared->limit));
}

/* With the mutex held. */
static void charge(struct session *session, size_t more, size_t less)
{
    session->memory += more - less;
    if (session->options.shared)
        atomic_fetch_add(&session->options.shared->used, more - less);
}

static struct request *request_take(struct session *session, size_t payload, bool limited)
{
    struct request *request;
    {
        scoped_lock(&session->mutex);
        if (limited && !within_limits(session, payload)) {
            session->wants_room = true;
            return NULL;
        }
        session->executing++;
        session->held++;
        charge(session, payload, 0);
        request = session->free;
        if (request) {
            session->free = request->next;
            session->kept -= request->capacity;
        }
    }
    if (!request)
        request = xcalloc(1, sizeof *request);
    session_ref(session);
    request->session = session;
    request->next = NULL;
    request->charged = payload;
    request->flush_after = false;
    request->cached = 0;
    request->header_length = request->payload_length = request->sent = 0;
    if (payload > request->capacity) {
        free(request->buffer);
        request->buffer = malloc(payload);
        request->capacity = request->buffer ? payload : 0;
    }
    return request;
}

struct request *request_new(struct session *session, size_t payload)
{
    return request_take(session, payload, true);
}

/* With the mutex held; true: options.resume should be called. */
static bool release(struct session *session, struct request *request)
{
    session->held--;
    charge(session, 0, request->charged);
    if (request->capacity > KEPT_BUFFER_MAX || session->kept + request->capacity > KEPT_MAX) {
        free(request->buffer);
        request->buffer = NULL;
        request->capacity = 0;
    }
    session->kept += request->capacity;
    request->next = session->free;
    session->free = request;
    bool resume = session->wants_room || (session->wants_end && session->held == 0);
    session->wants_room = false;
    return resume;
}

static void finish(struct request *request, bool send)
{
    struct session *session = request->session;
    bool alone, queued = false, resume = false;
    {
        scoped_lock(&session->mutex);
        alone = --session->executing == 0;
        if (send && !session->closed) {
            request->next = NULL;
            *session->output_last = request;
            session->output_last = &request->next;
            queued = true;
        } else {
            resume = release(session, request);
        }
    }
    if (queued)
        session->options.output(session->options.data, alone);
    if (resume)
        session->options.resume(session->options.data);
    session_unref(session);
}

void request_reply(struct request *request)
{
    finish(request, true);
}

void request_drop(struct request *request)
{
    finish(request, false);
}

void session_send(struct session *session, struct strbuf *message)
{
    if (message->length == 0)
        return;
    struct request *request = request_take(session, 0, false);
    free(request->buffer);
    request->payload_length = message->length;
    request->capacity = message->capacity;
    request->buffer = strbuf_steal(message);
    request_reply(request);
}

/* ---- Output ---- */

static size_t total(const struct request *request)
{
    return request->header_length + request->payload_length;
}

static int describe(struct request *request, struct iovec *parts, int max)
{
    int count = 0;
    size_t sent = request->sent;
    if (sent < request->header_length) {
        parts[count++] = (struct iovec){request->header + sent, request->header_length - sent};
        sent = request->header_length;
    }
    sent -= request->header_length;
    if (sent < request->payload_length && count < max)
        parts[count++] = (struct iovec){request->buffer + sent, request->payload_length - sent};
    return count;
}

int session_output_begin(struct session *session, struct iovec *parts, int max)
{
    scoped_lock(&session->mutex);
    if (session->sending || session->stuck || session->closed || !session->output)
        return 0;
    session->sending = true;
    int count = 0;
    for (struct request *request = session->output; request && count < max; request = request->next)
        count += describe(request, parts + count, max - count);
    return count;
}

void session_output_end(struct session *session, size_t sent, bool stuck)
{
    bool resume = false;
    {
        scoped_lock(&session->mutex);
        session->sending = false;
        session->stuck = stuck;
        while (session->output) {
            struct request *request = session->output;
            size_t left = total(request) - request->sent;
            if (sent < left && !session->closed) {
                request->sent += sent;
                break;
            }
            sent = sent < left ? 0 : sent - left;
            session->output = request->next;
            if (release(session, request))
                resume = true;
            if (sent == 0 && !session->closed)
                break;
        }
        if (!session->output)
            session->output_last = &session->output;
    }
    if (resume)
        session->options.resume(session->options.data);
}

void session_unstuck(struct session *session)
{
    scoped_lock(&session->mutex);
    session->stuck = false;
}

/* ---- Input ---- */

static size_t smaller(size_t a, uint64_t b)
{
    return a < b ? a : (size_t)b;
}

/* The next option waits until the answers before it are sent: a client that reads none gets no second one. */
static bool answers_unsent(struct session *session)
{
    scoped_lock(&session->mutex);
    session->wants_room = session->stalled = session->held != 0;
    return session->stalled;
}

static bool option_step(struct session *session, const uint8_t *at, size_t have)
{
    if (have < NBD_OPTION_SIZE || session->stalled || answers_unsent(session))
        return false;
    uint32_t option = nbd_get32(at + 8), length = nbd_get32(at + 12);
    if (nbd_get64(at) != NBD_OPTION_MAGIC || length > OPTION_SKIP_MAX) {
        session->state = SESSION_ENDED;
        return false;
    }
    if (length > OPTION_LIMIT) {
        session->input_start += NBD_OPTION_SIZE;
        session->skip = length;
        session->state = SESSION_OPTION_SKIP;
        negotiate_too_big(session, option);
        return true;
    }
    if (have < NBD_OPTION_SIZE + length)
        return false;
    session->input_start += NBD_OPTION_SIZE + length;
    negotiate_option(session, option, at + NBD_OPTION_SIZE, length);
    return true;
}

static bool skip_step(struct session *session, size_t have, enum session_state next)
{
    size_t some = smaller(have, session->skip);
    session->input_start += some;
    session->skip -= some;
    if (session->skip)
        return false;
    session->state = next;
    return true;
}

static bool request_step(struct session *session, const uint8_t *at, size_t have)
{
    if (have < NBD_REQUEST_SIZE || session->stalled)
        return false;
    if (!transmit_request(session, at)) {
        session->stalled = true;
        return false;
    }
    session->input_start += NBD_REQUEST_SIZE;
    return true;
}

static bool payload_step(struct session *session, const uint8_t *at, size_t have)
{
    struct request *request = session->writing;
    size_t some = smaller(have, request->length - session->written);
    memcpy(request->buffer + session->written, at, some);
    session->written += some;
    session->input_start += some;
    if (session->written < request->length)
        return false;
    session->writing = NULL;
    session->state = SESSION_REQUEST;
    transmit_write(request);
    return true;
}

/* Takes the next thing out of the input; false: there is nothing complete, or nothing is wanted. */
static bool step(struct session *session)
{
    size_t have = session->input_end - session->input_start;
    const uint8_t *at = session->input + session->input_start;
    switch (session->state) {
    case SESSION_CLIENT_FLAGS:
        if (have < NBD_CLIENT_FLAGS_SIZE)
            return false;
        session->input_start += NBD_CLIENT_FLAGS_SIZE;
        negotiate_client_flags(session, nbd_get32(at));
        return true;
    case SESSION_OPTION:
        return option_step(session, at, have);
    case SESSION_OPTION_SKIP:
        return skip_step(session, have, SESSION_OPTION);
    case SESSION_REQUEST:
        return request_step(session, at, have);
    case SESSION_PAYLOAD:
        return payload_step(session, at, have);
    case SESSION_PAYLOAD_SKIP:
        return skip_step(session, have, SESSION_REQUEST);
    case SESSION_WAITING:
    case SESSION_TLS:
    case SESSION_DRAINING:
    case SESSION_ENDED:
        break;
    }
    return false;
}

static void process(struct session *session)
{
    while (step(session))
        ;
    size_t left = session->input_end - session->input_start;
    if (left && session->input_start)
        memmove(session->input, session->input + session->input_start, left);
    session->input_start = 0;
    session->input_end = left;
}

int session_room(struct session *session, struct iovec room[2])
{
    int count = 0;
    switch (session->state) {
    case SESSION_PAYLOAD:
        room[count++] = (struct iovec){session->writing->buffer + session->written,
                                       session->writing->length - session->written};
        break;
    case SESSION_OPTION:
    case SESSION_REQUEST:
        if (session->stalled)
            return 0;
        break;
    case SESSION_CLIENT_FLAGS:
    case SESSION_OPTION_SKIP:
    case SESSION_PAYLOAD_SKIP:
        break;
    case SESSION_WAITING:
    case SESSION_TLS:
    case SESSION_DRAINING:
    case SESSION_ENDED:
        return 0;
    }
    room[count++] = (struct iovec){session->input + session->input_end, INPUT_SIZE - session->input_end};
    return count;
}

void session_received(struct session *session, size_t length)
{
    if (session->state == SESSION_PAYLOAD) {
        size_t some = smaller(length, session->writing->length - session->written);
        session->written += some;
        length -= some;
    }
    session->input_end += length;
    process(session);
}

void session_resume(struct session *session)
{
    struct negotiation *answer;
    {
        scoped_lock(&session->mutex);
        answer = steal_ptr(&session->answer);
    }
    if (answer)
        negotiate_answered(session, answer);
    session->stalled = false;
    process(session);
}

void session_drain(struct session *session)
{
    atomic_store(&session->ending, true);
    if (session->writing)
        request_drop(steal_ptr(&session->writing));
    bool transmission = session->state == SESSION_REQUEST || session->state == SESSION_PAYLOAD ||
                        session->state == SESSION_PAYLOAD_SKIP || session->state == SESSION_DRAINING;
    session->state = transmission ? SESSION_DRAINING : SESSION_ENDED;
}

void session_close(struct session *session)
{
    session->state = SESSION_ENDED;
    atomic_store(&session->ending, true);
    {
        scoped_lock(&session->mutex);
        session->closed = true;
        if (!session->sending) {
            while (session->output) {
                struct request *request = session->output;
                session->output = request->next;
                release(session, request);
            }
            session->output_last = &session->output;
        }
    }
    if (session->writing)
        request_drop(steal_ptr(&session->writing));
}

bool session_finished(struct session *session)
{
    if (session->state == SESSION_ENDED)
        return true;
    if (session->state != SESSION_DRAINING)
        return false;
    scoped_lock(&session->mutex);
    session->wants_end = session->held != 0;
    return session->held == 0;
}

bool session_in_handshake(const struct session *session)
{
    return session->state < SESSION_REQUEST;
}

bool session_client_turn(const struct session *session)
{
    return session->state != SESSION_WAITING;
}

bool session_wants_tls(struct session *session)
{
    if (session->state != SESSION_TLS)
        return false;
    scoped_lock(&session->mutex);
    return session->held == 0;
}

void session_tls_started(struct session *session)
{
    session->tls = true;
    session->state = SESSION_OPTION;
}
