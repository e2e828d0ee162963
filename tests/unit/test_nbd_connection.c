/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Connections over real sockets, with the worker's and the image's threads: order,
 * ends at any moment, drain. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "handler/nbd/connection.h"
#include "tests/lib/nbd_peer.h"

static struct pool *pool;
static struct catalog *catalog;
static struct worker *worker;
static atomic_int alive;

static int setup(void **state)
{
    (void)state;
    peer_make_folder();
    memory_start(MEMORY_THREAD);
    peer_grant("disk", "gbid", MEMORY_DISK_SIZE, 512, false);
    pool = pool_new(4);
    struct catalog_options options = {.run_dir = peer_folder, .log_dir = peer_folder, .pool = pool};
    catalog = catalog_new(&options);
    return worker_start(&worker, NULL);
}

static int teardown(void **state)
{
    (void)state;
    worker_stop(worker);
    catalog_free(catalog);
    pool_free(pool);
    memory_stop();
    peer_revoke("disk");
    peer_remove_folder();
    return 0;
}

static void gone(void *data)
{
    (void)data;
    atomic_fetch_sub(&alive, 1);
}

static void wait_for_all(void)
{
    for (unsigned i = 0; atomic_load(&alive); i++) {
        assert_true(i < 20000);
        usleep(1000);
    }
}

static int client(void)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct timeval limit = {.tv_sec = 20};
    setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    struct connection_options options = {
        .session = {.catalog = catalog,
                    .pool = pool,
                    .status_pool = pool,
                    .request_limit = 16,
                    .memory_limit = 1 << 20,
                    .peer = "pair"},
        .gone = gone,
    };
    atomic_fetch_add(&alive, 1);
    connection_start(worker, fds[1], &options);
    return fds[0];
}

static void receive(int fd, void *buffer, size_t length)
{
    assert_int_equal(recv(fd, buffer, length, MSG_WAITALL), (ssize_t)length);
}

static void transmit(int fd, struct strbuf *bytes)
{
    assert_int_equal(send(fd, bytes->data, bytes->length, MSG_NOSIGNAL), (ssize_t)bytes->length);
    strbuf_clear(bytes);
}

static int ready_client(void)
{
    int fd = client();
    char answer[NBD_GREETING_SIZE + 10];
    struct strbuf bytes = {0};
    put32(&bytes, 3);
    put_option(&bytes, NBD_OPT_EXPORT_NAME, "vol/disk", 8);
    transmit(fd, &bytes);
    receive(fd, answer, sizeof answer);
    return fd;
}

/* Sends requests of its own thread, reads replies on another, as a kernel does. */
struct load {
    int fd;
    unsigned index, count;
    pthread_t reader;
};

static void *read_replies(void *data)
{
    struct load *load = data;
    autofree char *payload = xcalloc(1, 4096);
    uint8_t seen[4096] = {0};
    for (unsigned i = 0; i < load->count; i++) {
        uint8_t header[NBD_SIMPLE_REPLY_SIZE];
        if (recv(load->fd, header, sizeof header, MSG_WAITALL) != sizeof header)
            abort();
        uint64_t cookie = nbd_get64(header + 8);
        if (nbd_get32(header + 4) || cookie >= load->count || seen[cookie]++)
            abort();
        if (cookie % 2 && recv(load->fd, payload, 4096, MSG_WAITALL) != 4096)
            abort();
    }
    return NULL;
}

static void *run_load(void *data)
{
    struct load *load = data;
    pthread_create(&load->reader, NULL, read_replies, load);
    autofree char *payload = xcalloc(1, 4096);
    for (unsigned i = 0; i < load->count; i++) {
        struct strbuf bytes = {0};
        uint64_t offset = (load->index * 16 + i % 16) * 4096;
        put_request(&bytes, i % 2 ? NBD_CMD_READ : NBD_CMD_WRITE, 0, i, offset, 4096);
        if (i % 2 == 0)
            strbuf_add(&bytes, payload, 4096);
        if (send(load->fd, bytes.data, bytes.length, MSG_NOSIGNAL) != (ssize_t)bytes.length)
            abort();
        strbuf_clear(&bytes);
    }
    pthread_join(load->reader, NULL);
    return NULL;
}

static void every_request_is_answered_once(void **state)
{
    (void)state;
    struct load loads[4];
    pthread_t threads[4];
    for (unsigned i = 0; i < 4; i++) {
        loads[i] = (struct load){.fd = ready_client(), .index = i, .count = 2000};
        pthread_create(&threads[i], NULL, run_load, &loads[i]);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        close(loads[i].fd);
    }
    wait_for_all();
}

static void lone_requests(void **state)
{
    (void)state;
    int fd = ready_client();
    for (unsigned i = 0; i < 500; i++) {
        struct strbuf bytes = {0};
        uint8_t reply[NBD_SIMPLE_REPLY_SIZE + 512];
        put_request(&bytes, NBD_CMD_READ, 0, i, 0, 512);
        transmit(fd, &bytes);
        receive(fd, reply, sizeof reply);
        assert_int_equal(nbd_get64(reply + 8), i);
    }
    struct strbuf bytes = {0};
    put_request(&bytes, NBD_CMD_DISC, 0, 0, 0, 0);
    transmit(fd, &bytes);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
    wait_for_all();
}

static void ends_at_any_moment(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        int fd = round % 4 ? ready_client() : client();
        struct strbuf bytes = {0};
        for (unsigned i = 0; i < round % 30; i++)
            put_request(&bytes, NBD_CMD_READ, 0, i, 0, 4096);
        put_request(&bytes, NBD_CMD_WRITE, 0, 1, 0, 8192);
        strbuf_add(&bytes, "half", 4);
        transmit(fd, &bytes);
        if (round % 3 == 0)
            shutdown(fd, SHUT_WR);
        close(fd);
    }
    wait_for_all();
}

static void revoked_under_load(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 30; round++) {
        int fd = ready_client();
        struct strbuf bytes = {0};
        for (unsigned i = 0; i < 16; i++)
            put_request(&bytes, NBD_CMD_FLUSH, 0, i, 0, 0);
        transmit(fd, &bytes);
        peer_revoke("disk");
        assert_int_equal(catalog_sync(catalog, 20000, NULL), 0);
        assert_int_equal(atomic_load(&memory.images), 0);
        char sink[4096];
        while (recv(fd, sink, sizeof sink, 0) > 0)
            ;
        close(fd);
        peer_grant("disk", "gbid", MEMORY_DISK_SIZE, 512, false);
    }
    wait_for_all();
}

/* The last: a worker that drains takes no more. */
static void drain(void **state)
{
    (void)state;
    int busy = ready_client(), silent = client();
    struct strbuf bytes = {0};
    for (unsigned i = 0; i < 8; i++)
        put_request(&bytes, NBD_CMD_FLUSH, 0, i, 0, 0);
    transmit(busy, &bytes);
    char first[NBD_SIMPLE_REPLY_SIZE];
    receive(busy, first, sizeof first);
    worker_drain(worker);
    wait_for_all();
    char sink[4096];
    ssize_t got = recv(busy, sink, sizeof sink, MSG_WAITALL);
    assert_true(got >= 0 && got % NBD_SIMPLE_REPLY_SIZE == 0); /* whole replies */
    close(busy);
    close(silent);
    close(client());
    wait_for_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_request_is_answered_once),
        cmocka_unit_test(lone_requests),
        cmocka_unit_test(ends_at_any_moment),
        cmocka_unit_test(revoked_under_load),
        cmocka_unit_test(drain),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
