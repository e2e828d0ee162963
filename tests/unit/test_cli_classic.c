/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The classic command line: words, replies in every style, exit statuses, and what is asked of the daemon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "expect_cli.h"

/* A block that is there, exported by n1 from 127.0.0.1. */
static void offer_block(void)
{
    fake_answer("GET", "/v1/blocks/v/b", 200, FAKE_BLOCK);
    fake_answer("GET", "/v1/volumes/v", 200, FAKE_VOLUME);
    fake_answer("GET", "/v1/exports", 200, FAKE_LIST(FAKE_OTHER_EXPORT "," FAKE_EXPORT));
    fake_answer("GET", "/v1/exports/n1/v/b", 200, FAKE_EXPORT);
    fake_answer("GET", "/v1/nodes", 200, FAKE_NODES);
    fake_answer("GET", "/v1/status", 200, FAKE_STATUS);
}

static void expect_asked(const char *line)
{
    autofree char *seen = fake_seen();
    if (!strstr(seen, line))
        fail_msg("\"%s\" was not asked; these were:\n%s", line, seen);
}

static void expect_nothing_changed(void)
{
    autofree char *seen = fake_seen();
    if (strstr(seen, "POST") || strstr(seen, "PATCH") || strstr(seen, "DELETE"))
        fail_msg("the daemon was asked for a change:\n%s", seen);
}

/* ---- create ---- */

#define IQN "iqn.2016-12.org.gluster-block:gbid-1"

static void test_create(void **state)
{
    (void)state;
    fake_answer("POST", "/v1/blocks", 201, FAKE_BLOCK);
    offer_block();
    expect("create v/b ha 1 auth disable prealloc no 127.0.0.1 1GiB --json", 0,
           "{ \"IQN\": \"" IQN "\", \"PORTAL(S)\": [ \"127.0.0.1:10809\" ], \"RESULT\": \"SUCCESS\" }\n", "");
    expect_asked("POST /v1/blocks?wait=300 {\"volume\":\"v\",\"name\":\"b\",\"block_size\":512,\"hosts\":"
                 "[\"127.0.0.1\"],\"size\":1073741824,\"prealloc\":\"no\"}\n");
    assert_int_equal(fake.keys.count, 1);
    assert_int_equal(strlen(fake.keys.items[0]), 36);
    expect("timeout 20 create v/b n1 1GiB --json-plain", 0,
           "{\"IQN\":\"" IQN "\",\"PORTAL(S)\":[\"127.0.0.1:10809\"],\"RESULT\":\"SUCCESS\"}\n", "");
    expect_asked(
        "POST /v1/blocks?wait=20 {\"volume\":\"v\",\"name\":\"b\",\"block_size\":512,\"hosts\":[\"n1\"],"
        "\"size\":1073741824,\"prealloc\":\"full\"}\n");
    assert_int_equal(fake.keys.count, 2);
    assert_string_not_equal(fake.keys.items[0], fake.keys.items[1]);
    expect("create v/b n1 1GiB", 0, "IQN: " IQN "\nPORTAL(S): 127.0.0.1:10809\nRESULT: SUCCESS\n", "");
    expect("create v/b n1 1GiB --json-pretty", 0,
           "{\n  \"IQN\":\"" IQN "\",\n  \"PORTAL(S)\":[\n    \"127.0.0.1:10809\"\n  ],\n"
           "  \"RESULT\":\"SUCCESS\"\n}\n",
           "");
}

static void test_create_options(void **state)
{
    (void)state;
    fake_answer("POST", "/v1/blocks", 201, FAKE_BLOCK);
    offer_block();
    expect_text("create v/b block-size 4096 prealloc disable ha 2 n1,[::1] 10m --json", 0, "SUCCESS");
    expect_asked("\"block_size\":4096,\"hosts\":[\"n1\",\"::1\"],\"size\":10485760,\"prealloc\":\"no\"}");
    expect_text("create v/b storage old.img io-timeout 43 n1 --json", 0, "SUCCESS");
    expect_asked("\"hosts\":[\"n1\"],\"storage\":\"old.img\",\"prealloc\":\"no\"}");
    /* The note about rounding must not stand in the reply. */
    struct run run autorun = run_cli("create v/b n1 1048577 --json");
    assert_int_equal(run.status, 0);
    assert_non_null(strstr(run.err, "rounded down to 1048576"));
    json_t *json = json_loads(run.out, 0, NULL);
    assert_non_null(json);
    json_decref(json);
    expect_asked("\"size\":1048576,");
    expect_text("create v/b n1 1.5GiB --json", 0, "SUCCESS");
    expect_asked("\"size\":1610612736,");
}

static void test_create_refused(void **state)
{
    (void)state;
    offer_block();
    expect("create v/b ha 2 n1 1GiB --json", 255, "",
           "{ \"RESULT\": \"FAIL\", \"errCode\": 255, \"errMsg\": \"ha is 2, but the number of hosts is 1\" "
           "}\n");
    expect_text("create v/b ha 0 n1 1GiB", 255, "ha is a number from 1");
    expect_text("create v/b n1,n2 1GiB", 255, "2 hosts need ha 2");
    expect_text("create v/b ha 2 n1,n1 1GiB", 255, "named twice");
    expect_text("create v/b n1,, 1GiB", 255, "empty part");
    expect_text("create v/b n1", 255, "SIZE is missing");
    expect_text("create v/b", 255, "HOST is missing");
    expect_text("create v/b prealloc", 255, "prealloc needs a value");
    expect_text("create v/b prealloc perhaps n1 1G", 255, "perhaps");
    expect_text("create", 255, "VOLUME/BLOCK is missing");
    expect_text("create vb n1 1G", 255, "not of the form VOLUME/BLOCK");
    expect_text("create v/b.c n1 1G", 255, "may hold letters");
    expect_text("create v/b/c n1 1G", 255, "may hold letters");
    expect_text("create v/b n1 1G more", 255, "one word too many");
    expect_text("create v/b\xff n1 1G --json", 255, "b?");
    expect_text("create v/b n1 lots", 255, "\"lots\" is no size");
    expect_text("create v/b n1 100", 255, "less than one block");
    expect_text("create v/b block-size 1000 n1 1G", 255, "multiple of 512");
    expect_text("create v/b ring-buffer 2000 n1 1G", 255, "from 1 to 1024");
    expect_text("create v/b io-timeout 0 n1 1G", 255, "io-timeout");
    expect_text("create v/b storage f n1 1G", 255, "SIZE has no place");
    expect_text("create v/b storage f prealloc no n1", 255, "prealloc has no place");
    expect_text("create v/b auth enable n1 1G", 95, "auth enable needs iSCSI");
    expect_text("create v/b ring-buffer 64 n1 1G", 95, "ring-buffer needs iSCSI");
    expect_text("create v/b io-timeout 60 n1 1G", 95, "io-timeout needs iSCSI");
    expect_nothing_changed();
}

static void test_create_fails(void **state)
{
    (void)state;
    offer_block();
    fake_answer_times("POST", "/v1/blocks", 409, FAKE_ERROR(17, "already_exists", "block v/b already exists"),
                      1);
    expect("create v/b n1 1GiB --json", 17, "",
           "{ \"RESULT\": \"FAIL\", \"errCode\": 17, \"errMsg\": \"block v/b already exists\" }\n");
    fake_answer_times("POST", "/v1/blocks", 507, FAKE_ERROR(28, "resource_exhausted", "no room"), 1);
    expect("create v/b n1 1GiB", 28, "", "RESULT: FAIL\nerrCode: 28\nerrMsg: no room\n");
    autofree char *seen = fake_seen();
    assert_null(strstr(seen, "DELETE"));
}

/* The block fails for good after it was recorded: it is deleted again, if it is still the same. */
static void test_create_rolls_back(void **state)
{
    (void)state;
    fake_answer("POST", "/v1/blocks", 201, FAKE_BLOCK_AS("failed", ",\"error\":\"no space on brick 2\""));
    fake_answer_times("GET", "/v1/blocks/v/b", 200, FAKE_BLOCK_AS("failed", ""), 1);
    fake_answer("DELETE", "/v1/blocks/v/b", 200, "{}");
    expect("create v/b n1 1GiB --json", 5, "",
           "{ \"ROLLBACK SUCCESS ON\": [ \"n1\" ], \"RESULT\": \"FAIL\", \"errCode\": 5, \"errMsg\": "
           "\"block v/b could not be made: no space on brick 2\" }\n");
    expect_asked("DELETE /v1/blocks/v/b?force=1&wait=300\n");

    fake_reset();
    fake_answer("POST", "/v1/blocks", 201, FAKE_BLOCK_AS("failed", ",\"error\":\"gone\""));
    fake_answer_times("GET", "/v1/blocks/v/b", 200, FAKE_BLOCK_AS("failed", ""), 1);
    fake_answer("DELETE", "/v1/blocks/v/b", 200, "{}");
    expect_text("create v/b storage f n1", 5, "ROLLBACK SUCCESS ON: n1");
    expect_asked("DELETE /v1/blocks/v/b?force=1&keep_storage=1&wait=300\n");

    /* Somebody made another block of that name meanwhile. */
    fake_reset();
    fake_answer("POST", "/v1/blocks", 201, FAKE_BLOCK_AS("failed", ",\"error\":\"gone\""));
    fake_answer("GET", "/v1/blocks/v/b", 200, "{\"name\":\"v/b\",\"uid\":\"another\"}");
    expect_text("create v/b n1 1GiB", 5, "gone");
    autofree char *seen = fake_seen();
    assert_null(strstr(seen, "DELETE"));
}

static void test_create_rollback_fails(void **state)
{
    (void)state;
    fake_answer("POST", "/v1/blocks", 201, FAKE_BLOCK_AS("failed", ",\"error\":\"bad\""));
    fake_answer("GET", "/v1/blocks/v/b", 200, FAKE_BLOCK_AS("failed", ""));
    fake_answer("DELETE", "/v1/blocks/v/b", 409, FAKE_ERROR(16, "failed_precondition", "busy"));
    expect_text("create v/b n1 1GiB --json", 5, "\"ROLLBACK FAILED ON\": [ \"n1\" ], \"RESULT\": \"FAIL\"");
}

static void test_create_export_fails(void **state)
{
    (void)state;
    fake_answer("POST", "/v1/blocks", 201, FAKE_BLOCK);
    fake_answer("GET", "/v1/exports", 200, FAKE_LIST(FAKE_EXPORT_AS("n1", "failed", "")));
    fake_answer_times("GET", "/v1/blocks/v/b", 200, FAKE_BLOCK, 1);
    fake_answer("DELETE", "/v1/blocks/v/b", 200, "{}");
    expect_text("create v/b n1 1GiB", 5, "export n1/v/b has failed");
    expect_asked("DELETE /v1/blocks/v/b?force=1&wait=300\n");
}

/* A block that is not ready in time goes on: nothing is deleted, and the caller learns it. */
static void test_create_times_out(void **state)
{
    (void)state;
    fake_answer("POST", "/v1/blocks", 202, FAKE_BLOCK_AS("pending", ""));
    fake_answer("GET", "/v1/blocks/v/b", 200, FAKE_BLOCK_AS("pending", ""));
    fake_answer("GET", "/v1/blocks", 200, "");
    expect_text("timeout 1 create v/b n1 1GiB", 110, "goes on in blockd");
    autofree char *seen = fake_seen();
    assert_null(strstr(seen, "DELETE"));
}

/* The answer may be the job that allocates; then the block and the stream of changes say when it is ready. */
static void test_create_waits_for_job(void **state)
{
    (void)state;
    fake_answer(
        "POST", "/v1/blocks", 202,
        "{\"name\":\"j1\",\"spec\":{\"kind\":\"preallocate\",\"object\":\"blocks/v/b\",\"object_uid\":"
        "\"gbid-1\"},\"status\":{\"phase\":\"running\",\"done\":1,\"total\":10}}");
    fake_answer_times("GET", "/v1/blocks/v/b", 200, FAKE_BLOCK_AS("preallocating", ",\"job\":\"j1\""), 1);
    fake_answer("GET", "/v1/blocks", 200,
                "{\"type\":\"put\",\"key\":\"blocks/v/x\",\"revision\":8,\"object\":{}}\n"
                "{\"type\":\"put\",\"key\":\"blocks/v/b\",\"revision\":9,\"object\":" FAKE_BLOCK "}\n");
    offer_block();
    expect_text("create v/b n1 1GiB --json", 0, "\"RESULT\": \"SUCCESS\"");
    expect_asked("GET /v1/blocks?watch=1&after=7\n");
}

/* On a terminal the job is read again and again, and drawn; the bar is gone when the reply comes. */
static void test_progress(void **state)
{
    (void)state;
#define JOB(phase, done)                                                                                     \
    "{\"name\":\"j1\",\"revision\":3,\"spec\":{\"kind\":\"preallocate\",\"object\":\"blocks/v/"              \
    "b\",\"object_uid\":"                                                                                    \
    "\"gbid-1\"},\"status\":{\"phase\":\"" phase "\",\"done\":" done ",\"total\":1073741824}}"
    fake_answer("POST", "/v1/blocks", 202, JOB("running", "0"));
    fake_answer_times("GET", "/v1/blocks/v/b", 200, FAKE_BLOCK_AS("preallocating", ",\"job\":\"j1\""), 1);
    fake_answer_times("GET", "/v1/jobs/j1", 200, JOB("running", "268435456"), 1);
    fake_answer_times("GET", "/v1/jobs/j1", 200, JOB("running", "536870912"), 1);
    fake_answer("GET", "/v1/jobs/j1", 200, JOB("succeeded", "1073741824"));
    fake_answer("GET", "/v1/jobs", 200, "");
    fake_answer("GET", "/v1/blocks", 200,
                "{\"type\":\"put\",\"key\":\"blocks/v/b\",\"revision\":9,\"object\":" FAKE_BLOCK "}\n");
    offer_block();
    struct run run autorun = run_cli_on("create v/b n1 1GiB --json-plain", true);
    assert_int_equal(run.status, 0);
    assert_string_equal(run.out,
                        "{\"IQN\":\"" IQN "\",\"PORTAL(S)\":[\"127.0.0.1:10809\"],\"RESULT\":\"SUCCESS\"}\n");
    static const char first[] = "\rv/b [#######.......................]  25%  256.0 MiB of 1.0 GiB";
    static const char second[] = "\rv/b [###############...............]  50%  512.0 MiB of 1.0 GiB";
    assert_memory_equal(run.err, first, strlen(first));
    assert_memory_equal(run.err + strlen(first), second, strlen(second));
    assert_int_equal(strspn(run.err + strlen(first) + strlen(second), "\r "),
                     strlen(run.err) - strlen(first) - strlen(second));
    /* The daemon is asked to wait only shortly before the bar appears. */
    expect_asked("POST /v1/blocks?wait=1 ");
}

/* A host or a file that is not there is not the block, nor the volume. */
static void test_create_missing_part(void **state)
{
    (void)state;
    fake_answer("POST", "/v1/blocks", 404, FAKE_ERROR(2, "not_found", "there is no node n7"));
    expect_text("create v/b n7 1GiB", 2, "errMsg: volume v does not exist");
    fake_answer("GET", "/v1/volumes/v", 200, FAKE_VOLUME);
    expect_text("create v/b n7 1GiB", 2, "errMsg: there is no node n7");
}

/* ---- list, info ---- */

static void test_list(void **state)
{
    (void)state;
    fake_answer_times("GET", "/v1/blocks/v", 200, FAKE_LIST("{\"name\":\"v/a\"},{\"name\":\"v/b\"}"), 3);
    expect("list v", 0, "a\nb\n", "");
    expect("list v --json", 0, "{ \"blocks\": [ \"a\", \"b\" ], \"RESULT\": \"SUCCESS\" }\n", "");
    expect("list v --json-pretty", 0,
           "{\n  \"blocks\":[\n    \"a\",\n    \"b\"\n  ],\n  \"RESULT\":\"SUCCESS\"\n}\n", "");
    fake_answer_times("GET", "/v1/blocks/v", 200, FAKE_LIST(""), 2);
    expect("list v", 0, "*Nil*\n", "");
    expect("list v --json", 0, "{ \"blocks\": [ ], \"RESULT\": \"SUCCESS\" }\n", "");
    expect("list v --json", 2, "",
           "{ \"RESULT\": \"FAIL\", \"errCode\": 2, \"errMsg\": \"volume v does not exist\" }\n");
    expect_text("list", 255, "VOLUME is missing");
    expect_text("list v w", 255, "one word too many");
    expect_text("list v/w", 255, "may hold letters");
}

static void test_info(void **state)
{
    (void)state;
    offer_block();
    expect("info v/b --json", 0,
           "{ \"NAME\": \"b\", \"VOLUME\": \"v\", \"GBID\": \"gbid-1\", \"SIZE\": \"1.0 GiB\", \"HA\": 1, "
           "\"IOTIMEOUT\": \"43 Seconds\", \"PASSWORD\": \"\", \"EXPORTED ON\": [ \"127.0.0.1\" ] }\n",
           "");
    expect("info v/b", 0,
           "NAME: b\nVOLUME: v\nGBID: gbid-1\nSIZE: 1.0 GiB\nHA: 1\nIOTIMEOUT: 43 Seconds\nPASSWORD: \n"
           "EXPORTED ON: 127.0.0.1\n",
           "");
    expect_text("info v/c --json", 2, "\"errMsg\": \"block v/c doesn't exist\"");
    expect_text("info w/c --json", 2, "\"errMsg\": \"volume w does not exist\"");
}

/* Exports that do not serve are named as such, and a resize that did not get through too. */
static void test_info_troubled(void **state)
{
    (void)state;
    fake_answer(
        "GET", "/v1/blocks/v/b", 200,
        "{\"name\":\"v/b\",\"uid\":\"g\",\"spec\":{\"size\":2147483648},\"status\":{\"phase\":\"failed\","
        "\"size\":1073741824}}");
    fake_answer("GET", "/v1/exports", 200, FAKE_LIST(FAKE_EXPORT "," FAKE_EXPORT_AS("n2", "offline", "")));
    fake_answer("GET", "/v1/nodes", 200, FAKE_NODES);
    expect("info v/b --json-plain", 0,
           "{\"NAME\":\"b\",\"VOLUME\":\"v\",\"GBID\":\"g\",\"SIZE\":\"2.0 GiB\",\"HA\":2,\"IOTIMEOUT\":"
           "\"43 Seconds\",\"PASSWORD\":\"\",\"EXPORTED ON\":[\"127.0.0.1\"],\"RESIZE FAILED ON\":"
           "{\"127.0.0.1\":\"1.0 GiB\",\"::1\":\"1.0 GiB\"},\"ENCOUNTERED FAILURES ON\":[\"::1\"]}\n",
           "");
    expect_text("info v/b", 0, "RESIZE FAILED ON: 127.0.0.1: 1.0 GiB ::1: 1.0 GiB\n");
}

/* ---- delete, modify ---- */

static void test_delete(void **state)
{
    (void)state;
    fake_answer("DELETE", "/v1/blocks/v/b", 200, "{}");
    fake_answer("GET", "/v1/exports", 200, FAKE_LIST(FAKE_EXPORT));
    fake_answer("GET", "/v1/nodes", 200, FAKE_NODES);
    expect("delete v/b --json", 0, "{ \"SUCCESSFUL ON\": [ \"127.0.0.1\" ], \"RESULT\": \"SUCCESS\" }\n", "");
    expect_asked("DELETE /v1/blocks/v/b?force=0&keep_storage=0&wait=300\n");
    expect_text("delete v/b unlink-storage no force", 0, "SUCCESS");
    expect_asked("DELETE /v1/blocks/v/b?force=1&keep_storage=1&wait=300\n");
    expect_text("delete v/b unlink-storage", 255, "needs a value");
    expect_text("delete v/b now", 255, "no option of delete");
    expect_text("delete", 255, "VOLUME/BLOCK is missing");
}

/* heketi takes these two messages for "it is gone already". */
static void test_delete_missing(void **state)
{
    (void)state;
    fake_answer("GET", "/v1/volumes/v", 200, FAKE_VOLUME);
    expect("delete v/gone --json", 2, "",
           "{ \"RESULT\": \"FAIL\", \"errCode\": 2, \"errMsg\": \"block v/gone doesn't exist\" }\n");
    expect("delete w/gone --json", 2, "",
           "{ \"RESULT\": \"FAIL\", \"errCode\": 2, \"errMsg\": \"volume w does not exist\" }\n");
}

static void test_delete_times_out(void **state)
{
    (void)state;
    fake_answer("DELETE", "/v1/blocks/v/b", 202, FAKE_BLOCK);
    fake_answer("GET", "/v1/blocks", 200, "");
    offer_block();
    expect_text("timeout 1 delete v/b --json", 110, "\"FAILED ON\": [ \"127.0.0.1\" ], \"RESULT\": \"FAIL\"");
}

static void test_modify(void **state)
{
    (void)state;
    offer_block();
    fake_answer("PATCH", "/v1/blocks/v/b", 200, FAKE_BLOCK);
    expect("modify v/b size 1GiB --json", 0,
           "{ \"IQN\": \"" IQN "\", \"SIZE\": \"1.0 GiB\", \"SUCCESSFUL ON\": [ \"127.0.0.1\" ], \"RESULT\": "
           "\"SUCCESS\" }\n",
           "");
    expect_asked("PATCH /v1/blocks/v/b?force=0&wait=300 {\"size\":1073741824}\n");
    expect_text("modify v/b size 1048577 force", 0, "SUCCESS");
    expect_asked("PATCH /v1/blocks/v/b?force=1&wait=300 {\"size\":1048576}\n");
    expect("modify v/b auth disable --json", 0,
           "{ \"IQN\": \"" IQN "\", \"SUCCESSFUL ON\": [ \"127.0.0.1\" ], \"RESULT\": \"SUCCESS\" }\n", "");
}

static void test_modify_refused(void **state)
{
    (void)state;
    offer_block();
    expect_text("modify v/b size", 255, "VOLUME/BLOCK size SIZE is missing");
    expect_text("modify v/b size lots", 255, "is no size");
    expect_text("modify v/b colour red", 255, "size or auth");
    expect_text("modify v/b colour", 255, "size or auth");
    expect_text("modify v/b auth enable force", 255, "takes no force");
    expect_text("modify v/b size 1G force force", 255, "one word too many");
    expect_text("modify v/b auth enable", 95, "auth enable needs iSCSI");
    expect_text("modify v/c size 1G --json", 2, "block v/c doesn't exist");
    expect_nothing_changed();
    fake_answer("PATCH", "/v1/blocks/v/b", 400, FAKE_ERROR(22, "invalid_argument", "shrinking needs force"));
    expect("modify v/b size 1MiB --json", 22, "",
           "{ \"IQN\": \"" IQN "\", \"FAILED ON\": [ \"127.0.0.1\" ], \"RESULT\": \"FAIL\", \"errCode\": 22, "
           "\"errMsg\": \"shrinking needs force\" }\n");
}

static void test_targets_refused(void **state)
{
    (void)state;
    expect_text("replace v/b n1 n2 force --json", 95, "replace needs iSCSI");
    expect_text("replace v/b n1 n1", 255, "the same");
    expect_text("replace v/b n1", 255, "missing");
    expect_text("reload v/b force", 95, "reload needs iSCSI");
    expect_text("reload", 255, "missing");
    expect_text("genconfig v,w enable-tpg n1", 95, "genconfig needs iSCSI");
    expect_text("genconfig v disable-tpg n1", 255, "enable-tpg");
}

/* ---- uri, timeout, unknown words ---- */

static void test_uri(void **state)
{
    (void)state;
    fake_answer("GET", "/v1/status", 200, FAKE_STATUS);
    fake_answer_times("GET", "/v1/exports", 200,
                      FAKE_LIST(FAKE_EXPORT_AS("n0", "live", "nbd://n0/v/b") "," FAKE_EXPORT), 2);
    expect("uri v/b", 0, "nbd://127.0.0.1:10809/v/b\n", "");
    expect("uri v/b --json-plain", 0, "{\"uri\":\"nbd://127.0.0.1:10809/v/b\"}\n", "");
    fake_answer_times("GET", "/v1/exports", 200, FAKE_LIST(FAKE_EXPORT_AS("n0", "live", "nbd://n0/v/b")), 1);
    expect("uri v/b", 0, "nbd://n0/v/b\n", "");
    fake_answer_times("GET", "/v1/exports", 200, FAKE_LIST(FAKE_EXPORT_AS("n1", "offline", "")), 1);
    expect_text("uri v/b", 11, "n1/v/b is offline");
    fake_answer("GET", "/v1/exports", 200, FAKE_LIST(FAKE_OTHER_EXPORT));
    expect_text("uri v/b", 2, "volume v does not exist");
    fake_answer("GET", "/v1/blocks/v/b", 200, FAKE_BLOCK);
    expect_text("uri v/b", 2, "export create v/b");
    expect_text("uri", 255, "missing");
}

static void test_timeout(void **state)
{
    (void)state;
    fake_answer("DELETE", "/v1/blocks/v/b", 200, "{}");
    setenv("GB_CLI_TIMEOUT", "44", 1);
    expect_text("delete v/b", 0, "SUCCESS");
    expect_asked("keep_storage=0&wait=44\n");
    expect_text("timeout 45 delete v/b", 0, "SUCCESS");
    expect_asked("keep_storage=0&wait=45\n");
    setenv("GB_CLI_TIMEOUT", "soon", 1);
    expect_text("delete v/b", 1, "GB_CLI_TIMEOUT");
    unsetenv("GB_CLI_TIMEOUT");
    expect_text("timeout soon delete v/b", 1, "timeout");
    expect_text("timeout 0 delete v/b", 1, "timeout");
    expect_text("timeout", 1, "timeout");
    /* The daemon waits for an hour at most. */
    expect_text("timeout 7200 delete v/b", 0, "SUCCESS");
    expect_asked("keep_storage=0&wait=3600\n");
}

static void test_unknown(void **state)
{
    (void)state;
    expect("craete v/b n1 1G", 1, "",
           "gluster-block: there is no command \"craete\"; did you mean \"create\"?\n"
           "All commands: gluster-block help\n");
    expect_text("zzzzzzzz", 1, "there is no command \"zzzzzzzz\"\n");
    expect_text("", 1, "Two command lines are one program");
    expect_text("--socket", 255, "--socket needs a value");
    expect_text("--socket /nowhere/s list v --json", 255, "is blockd running?");
    expect_text("--socket=/nowhere/s info v/b", 255, "errCode: 255");
    for (size_t i = 0; i < 4; i++) {
        static const char *const nouns[] = {"status", "uri v/b", "volume list", "examine"};
        autofree char *words = xasprintf("--socket /nowhere/s --json-plain %s", nouns[i]);
        expect_text(words, 255, "{\"error\":{\"code\":");
    }
}

static void test_help(void **state)
{
    (void)state;
    expect_text("help", 0, "NOUN VERB");
    expect_text("--usage", 0, "create");
    for (const struct classic_command *command = classic_commands; command->word; command++) {
        autofree char *words = xasprintf("help %s", command->word),
                      *other = xasprintf("%s --help", command->word);
        expect_text(words, 0, command->syntax);
        expect_text(other, 0, command->syntax);
    }
    expect_text("help uri", 0, "Usage: gluster-block uri VOLUME/BLOCK");
    expect_text("uri --help", 0, "Usage: gluster-block uri VOLUME/BLOCK");
    expect_text("help nonsense", 1, "no help");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup(function, fake_forget)
    const struct CMUnitTest tests[] = {
        TEST(test_create),
        TEST(test_create_options),
        TEST(test_create_refused),
        TEST(test_create_fails),
        TEST(test_create_rolls_back),
        TEST(test_create_rollback_fails),
        TEST(test_create_export_fails),
        TEST(test_create_times_out),
        TEST(test_create_waits_for_job),
        TEST(test_progress),
        TEST(test_create_missing_part),
        TEST(test_list),
        TEST(test_info),
        TEST(test_info_troubled),
        TEST(test_delete),
        TEST(test_delete_missing),
        TEST(test_delete_times_out),
        TEST(test_modify),
        TEST(test_modify_refused),
        TEST(test_targets_refused),
        TEST(test_uri),
        TEST(test_timeout),
        TEST(test_unknown),
        TEST(test_help),
    };
    return cmocka_run_group_tests(tests, fake_setup, fake_teardown);
}
