/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Exports in a run folder of our own; in place of blockd-nbd's control socket stands a real HTTP server. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "blockd/export/export.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/files.h"
#include "rpc/http_server.h"

static char run_dir[40];
static struct config config;
static struct exports *exports;
static struct http_server *server;

static atomic_int syncs;       /* POST /sync so far */
static atomic_int sync_answer; /* status */
static atomic_bool hang;       /* until it is false */
static atomic_bool bricks_away;
static atomic_bool granted_at_sync; /* whether vol/disk was still granted then */

static void control(void *data, const struct http_request *request, struct http_response *response)
{
    (void)data;
    while (atomic_load(&hang)) {
        struct timespec pause = {.tv_nsec = 5000000};
        nanosleep(&pause, NULL);
    }
    if (strcmp(request->method, "POST") == 0 && strcmp(request->path, "/sync") == 0) {
        autofree char *path = grant_path(run_dir, "vol", "disk");
        granted_at_sync = access(path, F_OK) == 0;
        atomic_fetch_add(&syncs, 1);
        response->status = (unsigned)atomic_load(&sync_answer);
        return;
    }
    if (strcmp(request->path, "/metrics") == 0) {
        response->content_type = "text/plain";
        response->body = xstrdup("blockd_nbd_operations_total 7\n");
        response->body_length = strlen(response->body);
        return;
    }
    if (strcmp(request->path, "/health") == 0) {
        response->body =
            xstrdup(atomic_load(&bricks_away) ? "{\"problem\":\"no bricks\"}" : "{\"problem\":null}");
        response->body_length = strlen(response->body);
        return;
    }
    if (strcmp(request->path, "/clients") == 0) {
        response->body = xstrdup("{\"clients\":[{\"export\":\"vol/disk\",\"peer\":\"127.0.0.1:5\"}]}");
        response->body_length = strlen(response->body);
        return;
    }
    response->status = 404;
}

static void start_server(void)
{
    autofree char *path = config_nbd_control_path(&config);
    struct http_server_options options = {
        .connection_limit = 8, .body_limit = 1024, .idle_seconds = 30, .handler = control};
    assert_int_equal(unix_listen(path, 0600, &options.listen_fd, NULL), 0);
    assert_int_equal(http_server_start(&options, &server, NULL), 0);
}

static void stop_server(void)
{
    http_server_stop(server);
    server = NULL;
}

static int set_up(void **state)
{
    (void)state;
    strcpy(run_dir, "/tmp/test-export-XXXXXX");
    if (!mkdtemp(run_dir) || config_load("/nonexistent/blockd.conf", &config, NULL) < 0)
        return -1;
    free(config.run_dir);
    config.run_dir = xstrdup(run_dir);
    atomic_store(&syncs, 0);
    atomic_store(&sync_answer, 204);
    return exports_new(&config, &exports, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    atomic_store(&hang, false);
    stop_server();
    exports_free(exports);
    autofree char *socket_path = config_nbd_control_path(&config);
    unlink(socket_path);
    autofree char *grants = xasprintf("%s/grants", run_dir);
    static const char *const volumes[] = {"vol", "old", "not a name"};
    for (size_t i = 0; i < sizeof volumes / sizeof *volumes; i++) {
        autofree char *folder = xasprintf("%s/%s", grants, volumes[i]);
        autostring_list struct string_list files = {0};
        folder_list(folder, &files, NULL);
        for (size_t j = 0; j < files.count; j++) {
            autofree char *path = xasprintf("%s/%s", folder, files.items[j]);
            unlink(path);
        }
        rmdir(folder);
    }
    config_clear(&config);
    rmdir(grants);
    return rmdir(run_dir);
}

static struct export disk = {.meta.name = (char *)"node1/vol/disk"};

static int offer(const char *volume, const char *block)
{
    struct grant grant = {
        .volume = (char *)volume,
        .block = (char *)block,
        .gbid = (char *)"1234",
        .file = (char *)"/block-store/1234",
        .volfile = (char *)"/var/lib/blockd/volfiles/vol/client.vol",
        .size = 1 << 20,
        .block_size = 512,
    };
    return export_up(exports, &disk, &grant, NULL);
}

static bool is_granted(const char *volume, const char *block)
{
    autofree char *path = grant_path(run_dir, volume, block);
    return access(path, F_OK) == 0;
}

static void assert_status(const char *phase, const char *uri, const char *error)
{
    struct export_status status = {0};
    assert_int_equal(export_status(exports, &disk, &status, NULL), 0);
    assert_string_equal(status.phase, phase);
    assert_string_equal(status.uri, uri);
    if (error)
        assert_non_null(strstr(status.error, error));
    else
        assert_null(status.error);
    free(status.phase);
    free(status.uri);
    free(status.error);
}

static void up_and_down(void **state)
{
    (void)state;
    start_server();
    assert_int_equal(offer("vol", "disk"), 0);
    assert_int_equal(offer("vol", "disk"), 0);
    assert_true(is_granted("vol", "disk"));
    assert_int_equal(atomic_load(&syncs), 0);

    assert_int_equal(export_down(exports, "vol", "disk", NULL), 0);
    assert_false(is_granted("vol", "disk"));
    assert_int_equal(atomic_load(&syncs), 1);
    assert_false(granted_at_sync); /* asked only after the grant was gone */
    assert_int_equal(export_down(exports, "vol", "disk", NULL), 0);
    assert_int_equal(atomic_load(&syncs), 2);
    assert_int_equal(export_down(exports, "..", "disk", NULL), -EINVAL);
}

static void down_without_a_server(void **state)
{
    (void)state;
    assert_int_equal(offer("vol", "disk"), 0);
    assert_int_equal(export_down(exports, "vol", "disk", NULL), 0); /* never started: no socket */
    start_server();
    stop_server();
    assert_int_equal(offer("vol", "disk"), 0);
    assert_int_equal(export_down(exports, "vol", "disk", NULL), 0); /* died: a socket that nobody serves */
    assert_false(is_granted("vol", "disk"));
}

static void down_waits_for_the_confirmation(void **state)
{
    (void)state;
    autoerror struct error *error = NULL;
    start_server();
    assert_int_equal(offer("vol", "disk"), 0);
    atomic_store(&sync_answer, 503);
    assert_int_equal(export_down(exports, "vol", "disk", &error), -EAGAIN);
    assert_non_null(strstr(error_message(error), "vol/disk"));
    assert_false(is_granted("vol", "disk"));

    atomic_store(&hang, true);
    int64_t before = clock_monotonic_ms();
    assert_int_equal(export_down(exports, "vol", "disk", &error), -EAGAIN);
    assert_true(clock_monotonic_ms() - before >= 1900);
    atomic_store(&hang, false);
    atomic_store(&sync_answer, 200);
    assert_int_equal(export_down(exports, "vol", "disk", &error), 0);
}

static void clients(void **state)
{
    (void)state;
    autostring_list struct string_list list = {0};
    assert_int_equal(export_clients(exports, "vol", NULL, &list, NULL), 0); /* no server, no clients */
    assert_int_equal(list.count, 0);
    start_server();
    assert_int_equal(export_clients(exports, "vol", "disk", &list, NULL), 0);
    assert_int_equal(list.count, 1);
    assert_string_equal(list.items[0], "vol/disk by 127.0.0.1:5");
    atomic_store(&hang, true);
    assert_int_equal(export_clients(exports, "vol", "disk", &list, NULL), -EAGAIN);
    atomic_store(&hang, false);
}

static void restart_exports(void)
{
    exports_free(exports);
    exports = NULL;
    assert_int_equal(exports_new(&config, &exports, NULL), 0);
}

static void set_string(char **member, const char *value)
{
    free(*member);
    *member = xstrdup(value);
}

static void phases(void **state)
{
    (void)state;
    static const char uri[] = "nbd://127.0.0.1:10809/vol/disk";
    start_server();
    assert_status("pending", uri, NULL);
    assert_int_equal(offer("vol", "disk"), 0);
    assert_status("live", uri, NULL);
    atomic_store(&bricks_away, true);
    restart_exports();
    assert_status("offline", uri, "no bricks");
    atomic_store(&bricks_away, false);
    stop_server();
    restart_exports(); /* the last answer is fresh for a while */
    assert_status("offline", uri, "does not run");

    autofree char *path = grant_path(run_dir, "vol", "disk");
    assert_int_equal(file_write_atomic(path, "{", 0600, NULL), 0);
    struct export_status status = {0};
    assert_int_equal(export_status(exports, &disk, &status, NULL), -EINVAL);
    struct export bad = {.meta.name = (char *)"vol/disk"};
    assert_int_equal(export_status(exports, &bad, &status, NULL), -EINVAL);
    bad.spec.protocol = 99;
    assert_int_equal(export_status(exports, &bad, &status, NULL), -EOPNOTSUPP);
}

static void uris(void **state)
{
    (void)state;
    config.nbd_port = 10810;
    set_string(&config.nbd_listen, "2001:db8::1");
    assert_status("pending", "nbd://[2001:db8::1]:10810/vol/disk", NULL);
    config.nbd_tls = TLS_ALLOW;
    assert_status("pending", "nbd://[2001:db8::1]:10810/vol/disk", NULL);
    config.nbd_tls = TLS_REQUIRE;
    assert_status("pending", "nbds://[2001:db8::1]:10810/vol/disk", NULL);
    set_string(&config.nbd_listen, "0.0.0.0");
    set_string(&config.address, "192.0.2.9");
    assert_status("pending", "nbds://192.0.2.9:10810/vol/disk", NULL);
    set_string(&config.nbd_listen, "");
    autofree char *expected = xasprintf("nbd+unix:///vol/disk?socket=%s/nbd.sock", run_dir);
    assert_status("pending", expected, NULL);
    set_string(&config.run_dir, "/run/a b&c");
    assert_status("pending", "nbd+unix:///vol/disk?socket=/run/a%20b%26c/nbd.sock", NULL);
    set_string(&config.run_dir, run_dir);
}

/* A grant comes with its block's identity, unless it is damaged. */
static bool is_keep(void *data, const char *volume, const char *block, const char *gbid)
{
    assert_true(strcmp(block, "damaged") == 0 ? !gbid : gbid != NULL);
    (*(int *)data)++;
    return strcmp(volume, "vol") == 0 && strcmp(block, "keep") == 0;
}

static void sweep(void **state)
{
    (void)state;
    int asked = 0;
    start_server();
    assert_int_equal(export_sweep(exports, is_keep, &asked, NULL), 0);
    assert_int_equal(asked, 0);
    assert_int_equal(atomic_load(&syncs), 0);

    assert_int_equal(offer("vol", "keep"), 0);
    assert_int_equal(offer("vol", "disk"), 0);
    assert_int_equal(offer("old", "disk"), 0);
    autofree char *unfinished = xasprintf("%s/grants/vol/.77.1.tmp", run_dir);
    autofree char *foreign = xasprintf("%s/grants/vol/README", run_dir);
    autofree char *strange = xasprintf("%s/grants/not a name", run_dir);
    autofree char *damaged = xasprintf("%s/grants/vol/damaged.json", run_dir);
    assert_int_equal(file_write_atomic(unfinished, "{", 0600, NULL), 0);
    assert_int_equal(file_write_atomic(foreign, "x", 0600, NULL), 0);
    assert_int_equal(file_write_atomic(damaged, "{", 0600, NULL), 0);
    assert_int_equal(folder_make(strange, 0700, NULL), 0);

    assert_int_equal(export_sweep(exports, is_keep, &asked, NULL), 0);
    assert_int_equal(asked, 4);
    assert_true(is_granted("vol", "keep"));
    assert_false(is_granted("vol", "disk"));
    assert_false(is_granted("old", "disk"));
    assert_int_equal(access(unfinished, F_OK), -1);
    assert_int_equal(access(damaged, F_OK), -1);
    assert_int_equal(access(foreign, F_OK), 0);
    autofree char *old = xasprintf("%s/grants/old", run_dir);
    assert_int_equal(access(old, F_OK), -1);
    assert_int_equal(atomic_load(&syncs), 1);
}

static void metrics(void **state)
{
    (void)state;
    autofree char *none = export_metrics(exports);
    assert_string_equal(none, "");
    start_server();
    autofree char *some = export_metrics(exports);
    assert_string_equal(some, "blockd_nbd_operations_total 7\n");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(up_and_down),
        TEST(down_without_a_server),
        TEST(down_waits_for_the_confirmation),
        TEST(clients),
        TEST(phases),
        TEST(uris),
        TEST(sweep),
        TEST(metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
