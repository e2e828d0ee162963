/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "handler/nbd/connection.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/log.h"
#include "rpc/base/loop.h"

#define PARTS_A_SEND        64
#define HANDSHAKE_LIMIT_MS  10000
#define HANDSHAKE_CHECK_MS  500
#define TLS_RECEIVES_A_TURN 16 /* then other connections have their turn */

struct worker {
    struct loop *loop;
    pthread_t thread;
    struct loop_source *timer; /* runs while somebody is in the handshake */
    atomic_uint load;
    atomic_int beginners; /* connections that have chosen no export, less those that are to be dropped */
    /* The worker's thread */
    struct connection *first; /* the newest */
    bool timing, draining;
};

struct connection {
    struct worker *worker;
    struct session *session;
    int fd; /* open until the last request has ended: other threads send on it */
    struct tls *tls_credentials;
    char *peer;
    void (*gone)(void *data);
    void *gone_data;
    atomic_bool posted; /* a turn is on its way */
    atomic_bool stuck;  /* the socket is full: the worker waits for room */
    atomic_bool failed; /* sending failed, or the export was cut */

    /* The worker's thread */
    struct connection *next, *previous;
    struct loop_source *source;
    uint32_t events;
    int64_t deadline;
    bool closed;
    bool beginner, dropped;  /* is or was counted as one; makes room for another */
    bool again;              /* session_resume() is wanted within this turn */
    struct tls_session *tls; /* set before the first request, so that other threads may read it */
    bool tls_handshaking;
};

/* The connection whose turn runs on this thread: what it queues is sent when the turn ends. */
static _Thread_local struct connection *in_turn;

static void take_turn(struct connection *connection, uint32_t events);

/* ---- From the session, on any thread ---- */

static void posted_turn(void *data)
{
    struct connection *connection = data;
    struct session *session = connection->session;
    atomic_store(&connection->posted, false);
    take_turn(connection, 0);
    session_unref(session);
}

static void post_turn(struct connection *connection)
{
    if (atomic_exchange(&connection->posted, true))
        return;
    session_ref(connection->session);
    loop_post(connection->worker->loop, posted_turn, connection);
}

static void on_resume(void *data)
{
    struct connection *connection = data;
    if (in_turn == connection)
        connection->again = true;
    else
        post_turn(connection);
}

static int send_plain(struct connection *connection)
{
    struct iovec parts[PARTS_A_SEND];
    for (int count; (count = session_output_begin(connection->session, parts, PARTS_A_SEND));) {
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        ssize_t sent = sendmsg(connection->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        int number = sent < 0 ? errno : 0;
        bool full = number == EAGAIN || number == EWOULDBLOCK;
        session_output_end(connection->session, sent > 0 ? (size_t)sent : 0, full);
        /* Last: room that the worker finds before this has already freed the session. */
        if (full)
            atomic_store(&connection->stuck, true);
        if (full || number == EINTR)
            continue;
        if (number) {
            atomic_store(&connection->failed, true);
            return -number;
        }
    }
    return 0;
}

/*
 * With other requests in flight, their replies come soon, and the worker sends them together: on a busy
 * connection that saves more system calls than the hand-over costs. A lone reply goes out from here, which
 * saves a change of threads.
 */
static void on_output(void *data, bool alone)
{
    struct connection *connection = data;
    if (in_turn == connection)
        return;
    if (!alone || connection->tls) {
        post_turn(connection);
        return;
    }
    send_plain(connection);
    if (atomic_load(&connection->stuck) || atomic_load(&connection->failed))
        post_turn(connection);
}

static void on_cut(void *data)
{
    struct connection *connection = data;
    atomic_store(&connection->failed, true);
    shutdown(connection->fd,
             SHUT_RDWR); /* which wakes the worker; the session may be past taking references */
}

static void on_note(void *data, const char *text)
{
    struct connection *connection = data;
    log_warning("client %s: %s", connection->peer, text);
}

static void on_freed(void *data)
{
    struct connection *connection = data;
    close(connection->fd);
    tls_session_free(connection->tls);
    tls_unref(connection->tls_credentials);
    free(connection->peer);
    atomic_fetch_sub(&connection->worker->load, 1);
    void (*gone)(void *data) = connection->gone;
    void *gone_data = connection->gone_data;
    free(connection);
    gone(gone_data);
}

/* ---- On the worker's thread ---- */

static void count_out(struct connection *connection)
{
    if (connection->beginner && !connection->dropped)
        atomic_fetch_sub(&connection->worker->beginners, 1);
    connection->beginner = false;
}

static void connection_close(struct connection *connection)
{
    connection->closed = true;
    count_out(connection);
    loop_source_free(steal_ptr(&connection->source));
    if (connection->tls && !connection->tls_handshaking && !atomic_load(&connection->failed))
        tls_bye(connection->tls);
    shutdown(connection->fd, SHUT_RDWR);
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        connection->worker->first = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    session_close(connection->session);
    session_unref(connection->session);
}

static int send_tls(struct connection *connection)
{
    struct iovec part;
    while (session_output_begin(connection->session, &part, 1)) {
        ssize_t sent = tls_send(connection->tls, part.iov_base, part.iov_len);
        if (sent == -EAGAIN)
            atomic_store(&connection->stuck, true);
        session_output_end(connection->session, sent > 0 ? (size_t)sent : 0, sent == -EAGAIN);
        if (sent < 0 && sent != -EAGAIN)
            return (int)sent;
    }
    return 0;
}

/* One receive of what the socket has: the loop comes back when that was not all. */
static int receive_plain(struct connection *connection)
{
    struct iovec room[2];
    int count = session_room(connection->session, room);
    if (count == 0)
        return 0;
    struct msghdr message = {.msg_iov = room, .msg_iovlen = (size_t)count};
    ssize_t got = recvmsg(connection->fd, &message, MSG_DONTWAIT);
    if (got > 0)
        session_received(connection->session, (size_t)got);
    else if (got == 0)
        session_drain(connection->session);
    else if (errno != EAGAIN && errno != EINTR)
        return -errno;
    return 0;
}

static int receive_tls(struct connection *connection)
{
    struct iovec room[2];
    for (int turns = 0; turns < TLS_RECEIVES_A_TURN && session_room(connection->session, room); turns++) {
        ssize_t got = tls_receive(connection->tls, room[0].iov_base, room[0].iov_len);
        if (got == -EAGAIN)
            return 0;
        if (got < 0)
            return (int)got;
        if (got == 0)
            session_drain(connection->session);
        else
            session_received(connection->session, (size_t)got);
    }
    return 0;
}

/* What GnuTLS has decrypted already makes no event of the socket. */
static bool holds_input(struct connection *connection)
{
    struct iovec room[2];
    return connection->tls && !connection->tls_handshaking && tls_pending(connection->tls) &&
           session_room(connection->session, room);
}

static int step_tls_handshake(struct connection *connection)
{
    autoerror struct error *error = NULL;
    int r = 0;
    if (!connection->tls)
        r = tls_session_new(connection->tls_credentials, connection->fd, &connection->tls, &error);
    connection->tls_handshaking = true;
    if (r == 0)
        r = tls_handshake(connection->tls, &error);
    if (r == -EAGAIN)
        return 0;
    connection->tls_handshaking = r < 0;
    if (r == 0)
        session_tls_started(connection->session);
    else
        log_warning("client %s: %s", connection->peer, error_message(error));
    return r;
}

static int move_bytes(struct connection *connection, uint32_t events)
{
    struct iovec room[2];
    int r = 0;
    if (events & EPOLLOUT) {
        atomic_store(&connection->stuck, false);
        session_unstuck(connection->session);
    }
    bool readable = events & (EPOLLIN | EPOLLHUP | EPOLLERR);
    if (!connection->tls_handshaking) {
        /* A dead socket is found by reading it; where nothing may be read, it is its own message. */
        if (readable && session_room(connection->session, room) == 0 && (events & (EPOLLHUP | EPOLLERR)))
            return -EPIPE;
        if (connection->tls && (readable || events == 0))
            r = receive_tls(connection);
        else if (readable)
            r = receive_plain(connection);
    }
    do {
        connection->again = false;
        session_resume(connection->session);
        if (r == 0 && !connection->tls_handshaking)
            r = connection->tls ? send_tls(connection) : send_plain(connection);
    } while (r == 0 && connection->again);
    if (r == 0 && session_wants_tls(connection->session))
        r = step_tls_handshake(connection);
    if (r == 0 && holds_input(connection))
        post_turn(connection);
    return r;
}

static uint32_t wanted_events(struct connection *connection)
{
    struct iovec room[2];
    if (connection->tls_handshaking)
        return tls_wants_write(connection->tls) ? EPOLLOUT : EPOLLIN;
    uint32_t events = session_room(connection->session, room) ? EPOLLIN : 0;
    return atomic_load(&connection->stuck) ? events | EPOLLOUT : events;
}

static void take_turn(struct connection *connection, uint32_t events)
{
    if (connection->closed)
        return;
    in_turn = connection;
    int r = atomic_load(&connection->failed) ? -EPIPE : move_bytes(connection, events);
    in_turn = NULL;
    if (r < 0)
        atomic_store(&connection->failed, true);
    if (r < 0 || session_finished(connection->session)) {
        connection_close(connection);
        return;
    }
    if (!session_in_handshake(connection->session))
        count_out(connection);
    uint32_t wanted = wanted_events(connection);
    if (wanted != connection->events) {
        connection->events = wanted;
        loop_source_set_events(connection->source, wanted);
    }
}

static void on_socket(void *data, uint32_t events)
{
    take_turn(data, events);
}

static void check_handshakes(void *data)
{
    struct worker *worker = data;
    int64_t now = clock_monotonic_ms();
    worker->timing = false;
    for (struct connection *connection = worker->first, *next; connection; connection = next) {
        next = connection->next;
        if (!session_in_handshake(connection->session))
            continue;
        if (!session_client_turn(connection->session)) {
            connection->deadline = now + HANDSHAKE_LIMIT_MS;
        } else if (now >= connection->deadline) {
            log_warning("client %s: no export chosen within %d seconds", connection->peer,
                        HANDSHAKE_LIMIT_MS / 1000);
            connection_close(connection);
            continue;
        }
        worker->timing = true;
    }
    if (worker->timing)
        loop_timer_arm(worker->timer, HANDSHAKE_CHECK_MS);
}

static void adopt(void *data)
{
    struct connection *connection = data;
    struct worker *worker = connection->worker;
    autoerror struct error *error = NULL;
    connection->next = worker->first;
    if (worker->first)
        worker->first->previous = connection;
    worker->first = connection;
    connection->deadline = clock_monotonic_ms() + HANDSHAKE_LIMIT_MS;
    connection->events = EPOLLIN;
    int r = loop_add_fd(worker->loop, connection->fd, EPOLLIN, on_socket, connection, &connection->source,
                        &error);
    if (r < 0)
        log_error("client %s: %s", connection->peer, error_message(error));
    if (r < 0 || worker->draining) {
        connection_close(connection);
        return;
    }
    if (!worker->timing) {
        worker->timing = true;
        loop_timer_arm(worker->timer, HANDSHAKE_CHECK_MS);
    }
    take_turn(connection, 0);
}

void connection_start(struct worker *worker, int fd, const struct connection_options *options)
{
    struct connection *connection = xcalloc(1, sizeof *connection);
    connection->worker = worker;
    connection->fd = fd;
    connection->tls_credentials = tls_ref(options->tls);
    connection->peer = xstrdup(options->session.peer);
    connection->gone = options->gone;
    connection->gone_data = options->gone_data;
    atomic_fetch_add(&worker->load, 1);
    /* Counted before it is adopted: whoever is to be dropped has been by then. */
    connection->beginner = true;
    atomic_fetch_add(&worker->beginners, 1);

    struct session_options session = options->session;
    session.tls_offered = options->tls != NULL;
    session.data = connection;
    session.output = on_output;
    session.resume = on_resume;
    session.cut = on_cut;
    session.note = on_note;
    session.freed = on_freed;
    in_turn = connection; /* the greeting waits for the first turn */
    connection->session = session_new(&session);
    in_turn = NULL;
    loop_post(worker->loop, adopt, connection);
}

/* ---- Workers ---- */

static void *worker_run(void *data)
{
    struct worker *worker = data;
    autoerror struct error *error = NULL;
    if (loop_run(worker->loop, &error) < 0)
        log_error("worker: %s", error_message(error));
    return NULL;
}

static void worker_free(struct worker *worker)
{
    if (!worker)
        return;
    loop_free(worker->loop);
    free(worker);
}
DEFINE_CLEANUP(struct worker *, cleanup_worker, worker_free)

int worker_start(struct worker **ret_worker, struct error **ret_error)
{
    cleanup(cleanup_worker) struct worker *worker = xcalloc(1, sizeof *worker);
    int r = loop_new(&worker->loop, ret_error);
    if (r == 0)
        r = loop_add_timer(worker->loop, check_handshakes, worker, &worker->timer, ret_error);
    if (r < 0)
        return r;
    r = pthread_create(&worker->thread, NULL, worker_run, worker);
    if (r)
        return error_set(ret_error, r, "cannot start a worker thread: %s", strerror(r));
    *ret_worker = steal_ptr(&worker);
    return 0;
}

void worker_stop(struct worker *worker)
{
    if (!worker)
        return;
    loop_stop(worker->loop);
    pthread_join(worker->thread, NULL);
    worker_free(worker);
}

unsigned worker_load(const struct worker *worker)
{
    return atomic_load(&worker->load);
}

static void drop_oldest(void *data)
{
    struct worker *worker = data;
    struct connection *oldest = NULL;
    for (struct connection *connection = worker->first; connection; connection = connection->next)
        if (connection->beginner)
            oldest = connection;
    if (!oldest) { /* it has chosen its export meanwhile */
        atomic_fetch_add(&worker->beginners, 1);
        return;
    }
    oldest->dropped = true;
    log_warning("client %s: made room for others before it chose an export", oldest->peer);
    connection_close(oldest);
}

bool worker_make_room(struct worker *worker)
{
    int beginners = atomic_load(&worker->beginners);
    do
        if (beginners <= 0)
            return false;
    while (!atomic_compare_exchange_weak(&worker->beginners, &beginners, beginners - 1));
    loop_post(worker->loop, drop_oldest, worker);
    return true;
}

static void drain(void *data)
{
    struct worker *worker = data;
    worker->draining = true;
    for (struct connection *connection = worker->first, *next; connection; connection = next) {
        next = connection->next;
        session_drain(connection->session);
        take_turn(connection, 0);
    }
}

void worker_drain(struct worker *worker)
{
    loop_post(worker->loop, drain, worker);
}
