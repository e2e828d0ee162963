/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Grants, images and volumes of blockd-nbd, with threads as in life and an image in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "handler/nbd/volumes.h"
#include "rpc/base/clock.h"
#include "tests/lib/nbd_peer.h"

static struct pool *pool;
static struct catalog *catalog;

static int setup(void **state)
{
    (void)state;
    peer_make_folder();
    memory_start(MEMORY_INLINE);
    memory.volume_error = memory.open_error = 0;
    pool = pool_new(4);
    struct catalog_options options = {.run_dir = peer_folder, .log_dir = peer_folder, .pool = pool};
    catalog = catalog_new(&options);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    catalog_free(catalog);
    pool_free(pool);
    peer_revoke("disk");
    peer_revoke("other");
    peer_remove_folder();
    return atomic_load(&memory.images) || atomic_load(&memory.volumes);
}

/* A client of the catalog. */
struct client {
    struct catalog_user user;
    atomic_int result; /* 1: not known yet */
    atomic_bool cut;
};

static void client_cut(struct catalog_user *user)
{
    atomic_store(&((struct client *)user)->cut, true);
}

static void client_opened(void *data, int result, const struct error *error)
{
    struct client *client = data;
    if ((result < 0) != (error != NULL))
        abort();
    atomic_store(&client->result, result);
}

static void open_begin(struct client *client, const char *name)
{
    *client = (struct client){.user = {.cut = client_cut, .peer = "client"}};
    atomic_store(&client->result, 1);
    catalog_open(catalog, name, &client->user, client_opened, client);
}

static int open_end(struct client *client)
{
    int64_t deadline = clock_monotonic_ms() + 60000;
    while (atomic_load(&client->result) == 1) {
        assert_true(clock_monotonic_ms() < deadline);
        usleep(100);
    }
    return atomic_load(&client->result);
}

static int open_now(struct client *client, const char *name)
{
    open_begin(client, name);
    return open_end(client);
}

static void one_image_for_all(void **state)
{
    (void)state;
    peer_grant("disk", "gbid", 4096, 512, false);
    struct client clients[20];
    for (size_t i = 0; i < 20; i++)
        open_begin(&clients[i], "vol/disk");
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(open_end(&clients[i]), 0);
        assert_int_equal(clients[i].user.info.size, 4096);
        assert_ptr_equal(entry_image(clients[i].user.entry), entry_image(clients[0].user.entry));
    }
    assert_int_equal(atomic_load(&memory.images), 1);
    assert_int_equal(atomic_load(&memory.volumes), 1);
    for (size_t i = 0; i < 20; i++)
        catalog_leave(catalog, &clients[i].user);
    catalog_leave(catalog, &clients[0].user); /* twice is harmless */
}

static void one_volume_for_all_blocks(void **state)
{
    (void)state;
    peer_grant("disk", "gbid", 4096, 512, false);
    peer_grant("other", "gbid2", 8192, 4096, true);
    struct client first, second;
    open_begin(&first, "vol/disk");
    open_begin(&second, "vol/other");
    assert_int_equal(open_end(&first), 0);
    assert_int_equal(open_end(&second), 0);
    assert_int_equal(atomic_load(&memory.images), 2);
    assert_int_equal(atomic_load(&memory.volumes), 1);
    assert_true(second.user.info.read_only && second.user.info.block_size == 4096);
    autofree char *report = catalog_report(catalog);
    assert_non_null(strstr(report, "\"vol/other\""));
    catalog_leave(catalog, &first.user);
    catalog_leave(catalog, &second.user);
}

static void failures_are_not_kept(void **state)
{
    (void)state;
    struct client client, other;
    assert_int_equal(open_now(&client, "vol/disk"), -ENOENT);
    assert_int_equal(open_now(&client, "nonsense"), -ENOENT);
    peer_grant("disk", "gbid", 4096, 512, false);
    memory.volume_error = -ENOTCONN;
    open_begin(&client, "vol/disk");
    open_begin(&other, "vol/disk");
    assert_int_equal(open_end(&client), -ENOTCONN);
    assert_int_equal(open_end(&other), -ENOTCONN);
    memory.volume_error = 0;
    memory.open_error = -ENOENT;
    assert_int_equal(open_now(&client, "vol/disk"), -ENOENT);
    memory.open_error = 0;
    assert_int_equal(open_now(&client, "vol/disk"), 0);
    catalog_leave(catalog, &client.user);
}

static void size_changes_for_the_next(void **state)
{
    (void)state;
    struct client first, second;
    peer_grant("disk", "gbid", 4096, 512, false);
    assert_int_equal(open_now(&first, "vol/disk"), 0);
    peer_grant("disk", "gbid", 8192, 512, false);
    assert_int_equal(catalog_sync(catalog, 0, NULL), 0);
    assert_int_equal(open_now(&second, "vol/disk"), 0);
    assert_int_equal(first.user.info.size, 4096);
    assert_int_equal(second.user.info.size, 8192);
    assert_int_equal(atomic_load(&memory.images), 1);
    assert_false(atomic_load(&first.cut));
    catalog_leave(catalog, &first.user);
    catalog_leave(catalog, &second.user);
}

/* Who still sees the larger block would write beyond the end of what is left. */
static void shrinking_cuts_those_who_see_more(void **state)
{
    (void)state;
    struct client large, small;
    peer_grant("disk", "gbid", 8192, 512, false);
    assert_int_equal(open_now(&large, "vol/disk"), 0);
    peer_grant("disk", "gbid", 4096, 512, false);
    assert_int_equal(open_now(&small, "vol/disk"), 0);
    assert_int_equal(small.user.info.size, 4096);
    assert_true(atomic_load(&large.cut));
    assert_false(atomic_load(&small.cut));
    autoerror struct error *error = NULL;
    assert_int_equal(catalog_sync(catalog, 1, &error), -ETIMEDOUT);
    catalog_leave(catalog, &large.user);
    assert_int_equal(catalog_sync(catalog, 20000, NULL), 0);
    assert_int_equal(atomic_load(&memory.images), 1);
    catalog_leave(catalog, &small.user);
}

/* A process that has no descriptor left cannot see its grants: that withdraws none. */
static void what_cannot_be_read_cuts_nobody(void **state)
{
    (void)state;
    struct client client, next;
    peer_grant("disk", "gbid", 4096, 512, false);
    assert_int_equal(open_now(&client, "vol/disk"), 0);
    struct rlimit limit, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    autoerror struct error *error = NULL;
    int checked = catalog_check(catalog, "vol", "disk", &error), synced = catalog_sync(catalog, 1, NULL);
    int opened = open_now(&next, "vol/disk");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(checked, -EMFILE);
    assert_int_equal(synced, -EAGAIN);
    assert_int_equal(opened, -EMFILE);
    assert_false(atomic_load(&client.cut));
    /* A withdrawal that was missed meanwhile is found by the next look. */
    peer_revoke("disk");
    int64_t deadline = clock_monotonic_ms() + 60000;
    while (!atomic_load(&client.cut)) {
        assert_true(clock_monotonic_ms() < deadline);
        catalog_tick(catalog);
        usleep(100);
    }
    catalog_leave(catalog, &client.user);
}

static void withdrawal_cuts_and_closes(void **state)
{
    (void)state;
    for (unsigned change = 0; change < 3; change++) {
        struct client client;
        peer_grant("disk", "gbid", 4096, 512, false);
        assert_int_equal(open_now(&client, "vol/disk"), 0);
        if (change == 0)
            peer_revoke("disk");
        else
            peer_grant("disk", change == 1 ? "another" : "gbid", 4096, 512, change == 2);
        autoerror struct error *error = NULL;
        assert_int_equal(catalog_sync(catalog, 1, &error), -ETIMEDOUT); /* the client is still there */
        assert_true(atomic_load(&client.cut));
        struct client next;
        assert_int_equal(open_now(&next, "vol/disk"), change == 0 ? -ENOENT : 0);
        catalog_leave(catalog, &client.user);
        assert_int_equal(catalog_sync(catalog, 20000, NULL), 0);
        catalog_leave(catalog, &next.user);
    }
}

/* Clients come and go while the grant does too: who has the export open has a grant that was there, and a
 * sync that follows a withdrawal leaves nothing open. */
static void races(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        struct client clients[4];
        peer_grant("disk", "gbid", 4096, 512, false);
        for (size_t i = 0; i < 4; i++)
            open_begin(&clients[i], "vol/disk");
        if (round % 3)
            peer_revoke("disk");
        catalog_check(catalog, "vol", "disk", NULL);
        for (size_t i = 0; i < 4; i++)
            if (open_end(&clients[i]) == 0)
                catalog_leave(catalog, &clients[i].user);
        peer_revoke("disk");
        assert_int_equal(catalog_sync(catalog, 20000, NULL), 0);
        assert_int_equal(atomic_load(&memory.images), 0);
    }
}

static void counters(void **state)
{
    (void)state;
    struct client client;
    peer_grant("disk", "gbid", 4096, 512, false);
    assert_int_equal(open_now(&client, "vol/disk"), 0);
    metrics_start(entry_metrics(client.user.entry));
    metrics_count(entry_metrics(client.user.entry), METRIC_READ, 4096, 60000, false);
    metrics_start(entry_metrics(client.user.entry));
    metrics_count(entry_metrics(client.user.entry), METRIC_READ, 4096, 99000000000, true);
    metrics_start(entry_metrics(client.user.entry));
    autostrbuf struct strbuf text = {0};
    catalog_metrics(catalog, &text);
#define LABELS "{volume=\"vol\",block=\"disk\",operation=\"read\""
    static const char *const lines[] = {
        "blockd_nbd_operations_total" LABELS "} 2\n",
        "blockd_nbd_errors_total" LABELS "} 1\n",
        "blockd_nbd_bytes_total" LABELS "} 4096\n",
        "blockd_nbd_latency_seconds_bucket" LABELS ",le=\"0.00005\"} 0\n",
        "blockd_nbd_latency_seconds_bucket" LABELS ",le=\"0.0001\"} 1\n",
        "blockd_nbd_latency_seconds_bucket" LABELS ",le=\"+Inf\"} 2\n",
        "blockd_nbd_latency_seconds_count" LABELS "} 2\n",
        "blockd_nbd_in_flight{volume=\"vol\",block=\"disk\"} 1\n",
        "blockd_nbd_export_connections{volume=\"vol\",block=\"disk\"} 1\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        assert_non_null(strstr(text.data, lines[i]));
    assert_null(strstr(text.data, "operation=\"write\""));
    /* They outlive the image, and end with the grant. */
    catalog_leave(catalog, &client.user);
    strbuf_clear(&text);
    catalog_metrics(catalog, &text);
    assert_non_null(strstr(text.data, lines[0]));
    peer_revoke("disk");
    assert_int_equal(catalog_sync(catalog, 20000, NULL), 0);
    catalog_check(catalog, "vol", "disk", NULL);
    strbuf_clear(&text);
    catalog_metrics(catalog, &text);
    assert_null(strstr(text.data, "disk"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_image_for_all),
        TEST(one_volume_for_all_blocks),
        TEST(failures_are_not_kept),
        TEST(size_changes_for_the_next),
        TEST(shrinking_cuts_those_who_see_more),
        TEST(what_cannot_be_read_cuts_nobody),
        TEST(withdrawal_cuts_and_closes),
        TEST(races),
        TEST(counters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
