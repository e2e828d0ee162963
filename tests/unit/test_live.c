/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* A volfile that a server has too: how a file says so, and servers that answer, refuse, babble and hang. */
#include <endian.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "handler/image/live.h"
#include "rpc/base/alloc.h"

static char folder[] = "/tmp/live-XXXXXX";

static void parses(const char *text, const char *key, const char *socket_path)
{
    cleanup(live_volfile_clear) struct live_volfile live = {0};
    live_volfile_parse(text, &live);
    if (!key) {
        assert_null(live.key);
        assert_false(live_volfile_served(&live));
        return;
    }
    assert_string_equal(live.key, key);
    assert_string_equal(live.socket, socket_path);
}

static void first_line(void **state)
{
    (void)state;
    parses("#: live demo /run/a b.sock\nvolume x\n", "demo", "/run/a b.sock");
    parses("#: live demo /run/s", "demo", "/run/s");
    parses("volume x\n#: live demo /run/s\n", NULL, NULL);
    parses("", NULL, NULL);
    parses("#: live \n", NULL, NULL);
    parses("#: live demo\n/run/s\n", NULL, NULL);
    parses("#: live  /run/s\n", NULL, NULL);
    autofree char *longest = xcalloc(1, 400);
    memset(longest, 'x', 300);
    memcpy(longest, "#: live ", 8);
    memcpy(longest + 290, " /s\n", 4);
    parses(longest, NULL, NULL);
}

/* ---- Servers ---- */

struct server {
    int listener;
    const uint32_t *words; /* big endian; NULL: it says nothing until it is told to end */
    size_t count;
    char request[256];
    ssize_t received;
};

static void *serve(void *data)
{
    struct server *server = data;
    int fd = accept(server->listener, NULL, NULL);
    server->received = recv(fd, server->request, sizeof server->request, 0);
    if (server->words)
        send(fd, server->words, server->count * sizeof *server->words, MSG_NOSIGNAL);
    else
        recv(fd, server->request, 1, 0); /* until the client gives up */
    close(fd);
    return NULL;
}

static bool served(struct server *server)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    autofree char *path = xasprintf("%s/socket", folder);
    strcpy(address.sun_path, path);
    server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server->listener, 1), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, serve, server), 0);
    const struct live_volfile live = {.key = (char *)"demo", .socket = path};
    bool result = live_volfile_served(&live);
    pthread_join(thread, NULL);
    close(server->listener);
    unlink(path);
    return result;
}

#define REPLY(name, ...)                                                                                     \
    uint32_t name##_words[] = {__VA_ARGS__};                                                                 \
    for (size_t i = 0; i < sizeof name##_words / 4; i++)                                                     \
        name##_words[i] = htobe32(name##_words[i]);                                                          \
    struct server name = {.words = name##_words, .count = sizeof name##_words / 4}

static void servers(void **state)
{
    (void)state;
    REPLY(good, 0x80000000u | 40, 1, 1, 0, 0, 0, 0, 4, 0, 4, 0x61626364);
    assert_true(served(&good));
    /* The whole call, as the wire has it. */
    static const char wanted[] = "\x80\0\0\x38\0\0\0\1\0\0\0\0\0\0\0\2\0\xdb\xb4\xa9\0\0\0\2\0\0\0\2"
                                 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\4demo\0\0\0";
    assert_int_equal(good.received, sizeof wanted);
    assert_memory_equal(good.request, wanted, sizeof wanted);

    REPLY(refused, 0x80000000u | 40, 1, 1, 0, 0, 0, 0, (uint32_t)-1, 2, 0, 0);
    assert_false(served(&refused));
    REPLY(denied, 0x80000000u | 40, 1, 1, 1, 0, 0, 0, 4, 0, 4, 0);
    assert_false(served(&denied));
    REPLY(unavailable, 0x80000000u | 40, 1, 1, 0, 0, 0, 3, 4, 0, 4, 0);
    assert_false(served(&unavailable));
    REPLY(brief, 0x80000000u | 8, 1, 1);
    assert_false(served(&brief));
    struct server hangs = {0};
    assert_false(served(&hangs));
}

static void no_server(void **state)
{
    (void)state;
    autofree char *path = xasprintf("%s/none", folder);
    struct live_volfile live = {.key = (char *)"demo", .socket = path};
    assert_false(live_volfile_served(&live));
    autofree char *longest = xcalloc(1, 300);
    memset(longest, '/', 299);
    live.socket = longest;
    assert_false(live_volfile_served(&live));
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_line),
        cmocka_unit_test(servers),
        cmocka_unit_test(no_server),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
