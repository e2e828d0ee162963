/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The nouns: what the API table becomes on the command line, the requests, what is printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "expect_cli.h"

/* Runs the words and wants exactly this request, whatever came of it. */
static void expect_request(const char *words, const char *line)
{
    fake_reset();
    fake_answer("GET", "/v1/status", 200, FAKE_STATUS);
    struct run run autorun = run_cli(words);
    autofree char *seen = fake_seen();
    const char *request = strstr(seen, "GET /v1/status\n") == seen ? seen + strlen("GET /v1/status\n") : seen;
    if (strncmp(request, line, strlen(line)) != 0 || request[strlen(line)] != '\n')
        fail_msg("%s asked:\n%swanted:\n%s\n%s%s", words, seen, line, run.out, run.err);
}

static void expect_refused(const char *words, const char *text)
{
    fake_reset();
    expect_text(words, 255, text);
    autofree char *seen = fake_seen();
    assert_string_equal(seen, "");
}

/* ---- The table ---- */

/* Every route that has words is reached by them, and no command has two options or more words than there is
 * room for. */
static void test_shapes(void **state)
{
    (void)state;
    size_t count, routes = 0;
    const struct command *commands = command_all(&count);
    for (size_t i = 0; i < API_OP_COUNT; i++)
        routes += api_routes[i].noun != NULL;
    for (size_t i = 0; i < count; i++) {
        const struct command *command = &commands[i];
        assert_ptr_equal(command_find(command->noun, command->verb), command);
        assert_true(command_is_noun(command->noun));
        assert_null(classic_find(command->noun));
        assert_non_null(command->help);
        struct command_shape shape cleanup(command_shape_clear) = {0};
        command_shape(command, &shape);
        assert_in_range(shape.positional_count, 0, COMMAND_POSITIONALS);
        assert_in_range(shape.option_count, 0, COMMAND_OPTIONS);
        for (size_t k = 0; k < shape.option_count; k++) {
            assert_ptr_equal(command_shape_option(&shape, shape.options[k].name), &shape.options[k]);
            assert_null(strchr(shape.options[k].name, '_'));
            assert_non_null(shape.options[k].help);
        }
        routes -= !command->alias;
        routes -= command->all_route != NULL;
    }
    assert_int_equal(routes, 0);
}

static void test_synopses(void **state)
{
    (void)state;
    static const struct {
        const char *noun, *verb, *synopsis;
    } wanted[] = {
        {"block", "create", "gluster-block block create VOLUME/NAME [SIZE] [OPTION]..."},
        {"block", "list", "gluster-block block list [VOLUME] [OPTION]..."},
        {"block", "rename", "gluster-block block rename VOLUME/BLOCK NAME [OPTION]..."},
        {"device", "add", "gluster-block device add NAME PATH [OPTION]..."},
        {"device", "info", "gluster-block device info [NODE/]DEVICE"},
        {"export", "create", "gluster-block export create VOLUME/BLOCK [OPTION]..."},
        {"export", "delete", "gluster-block export delete [NODE/]VOLUME/BLOCK [OPTION]..."},
        {"volume", "start", "gluster-block volume start VOLUME [OPTION]..."},
        {"status", NULL, "gluster-block status"},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        autofree char *synopsis = command_synopsis(command_find(wanted[i].noun, wanted[i].verb));
        assert_string_equal(synopsis, wanted[i].synopsis);
    }
    assert_null(command_find("block", NULL));
    assert_null(command_find("block", "explode"));
    assert_null(command_find("status", "list"));
}

/* ---- Requests ---- */

static void test_requests(void **state)
{
    (void)state;
    expect_request("volume list", "GET /v1/volumes");
    expect_request("volume list --limit 5 --start=v", "GET /v1/volumes?limit=5&start=v");
    expect_request("block list", "GET /v1/blocks");
    expect_request("block list v", "GET /v1/blocks/v");
    expect_request("block info v/b", "GET /v1/blocks/v/b");
    expect_request("block info v/a%2Fb", "GET /v1/blocks/v/a%252Fb");
    expect_request("device info n2/d", "GET /v1/devices/n2/d");
    expect_request("device info d", "GET /v1/devices/n1/d");
    expect_request("export info v/b", "GET /v1/exports/n1/v/b");
    expect_request("job info abc", "GET /v1/jobs/abc");
    expect_request("block create v/b 10GiB",
                   "POST /v1/blocks?wait=60 {\"volume\":\"v\",\"name\":\"b\",\"size\":\"10GiB\"}");
    expect_request(
        "block create v/b 1G --hosts n1,n2 --hosts n3 --block-size 4096 --prealloc=full --no-wait",
        "POST /v1/blocks?wait=0 {\"volume\":\"v\",\"name\":\"b\",\"size\":\"1G\",\"hosts\":[\"n1\","
        "\"n2\",\"n3\"],\"block_size\":4096,\"prealloc\":\"full\"}");
    expect_request("volume create v --template arbiter --overcommit 1.5 --allow-same-node --wait 7",
                   "POST /v1/volumes?wait=7 {\"name\":\"v\",\"template\":\"arbiter\",\"overcommit\":1.5,"
                   "\"allow_same_node\":true}");
    expect_request("volume create v --allow-same-node=no",
                   "POST /v1/volumes?wait=60 {\"name\":\"v\",\"allow_same_node\":false}");
    expect_request(
        "device add d /dev/sdb --node n2 --image-size 1GiB",
        "POST /v1/devices?wait=60 {\"name\":\"d\",\"path\":\"/dev/sdb\",\"node\":\"n2\",\"image_size\":"
        "\"1GiB\"}");
    expect_request("block modify v/b 2GiB --force",
                   "PATCH /v1/blocks/v/b?force=1&wait=60 {\"size\":\"2GiB\"}");
    expect_request("block rename v/b c", "POST /v1/blocks/v/b/rename?wait=60 {\"name\":\"c\"}");
    expect_request("block delete v/b --keep-storage --revision 9",
                   "DELETE /v1/blocks/v/b?keep_storage=1&revision=9&wait=60");
    expect_request("volume stop v", "PATCH /v1/volumes/v?wait=60 {\"state\":\"stopped\"}");
    expect_request("node start n1", "PATCH /v1/nodes/n1?wait=60 {\"state\":\"enabled\"}");
    expect_request("export create v/b --read-only --node 127.0.0.1",
                   "POST /v1/exports?wait=60 {\"volume\":\"v\",\"block\":\"b\",\"read_only\":true,\"node\":"
                   "\"127.0.0.1\"}");
    expect_request("export delete n9/v/b", "DELETE /v1/exports/n9/v/b?wait=60");
    expect_request("job cancel j", "DELETE /v1/jobs/j?wait=60");
}

/* What a value must be is the daemon's to say: what does not look like its type goes there as it is. */
static void test_values_left_to_the_daemon(void **state)
{
    (void)state;
    expect_request(
        "block create v/b many --block-size huge",
        "POST /v1/blocks?wait=60 {\"volume\":\"v\",\"name\":\"b\",\"size\":\"many\",\"block_size\":"
        "\"huge\"}");
    expect_request("block create v/b -5 --block-size 00512",
                   "POST /v1/blocks?wait=60 {\"volume\":\"v\",\"name\":\"b\",\"size\":\"-5\",\"block_size\":"
                   "\"00512\"}");
    expect_request("volume create v! --overcommit 1e9",
                   "POST /v1/volumes?wait=60 {\"name\":\"v!\",\"overcommit\":\"1e9\"}");
    expect_request("block create v/a/b 1G",
                   "POST /v1/blocks?wait=60 {\"volume\":\"v\",\"name\":\"a/b\",\"size\":\"1G\"}");
}

static void test_bad_words(void **state)
{
    (void)state;
    expect_refused("block create", "VOLUME/NAME is missing");
    expect_refused("block create b 1G", "not of the form VOLUME/NAME");
    expect_refused("block create v/b 1G more", "\"more\" is one word too many");
    expect_refused("block create v/b 1G --colour red", "there is no option --colour");
    expect_refused("block create v/b 1G --block-size", "--block-size needs a value");
    expect_refused("block create v/b 1G --no-wait=1", "--no-wait takes no value");
    expect_refused("block delete v/b --force=perhaps", "--force is yes or no");
    expect_refused("block delete v/b --wait 99999", "--wait takes seconds");
    expect_refused("block delete v/b --wait soon", "--wait takes seconds");
    expect_refused("block info v", "not of the form VOLUME/BLOCK");
    expect_refused("block info v/b/c", "not of the form VOLUME/BLOCK");
    expect_refused("device info a/b/c", "not of the form [NODE/]DEVICE");
    expect_refused("volume start v --state stopped", "no option --state");
    expect_refused("block create v/\xff 1G", "not UTF-8");
    expect_refused("block", "commands");
    expect_text("block crate v/b", 1, "did you mean \"block create\"?");
    expect_text("status more", 255, "one word too many");
    expect_refused("block list -x", "there is no option -x");
    expect_refused("volume modify v", "nothing is to be changed");
    expect_refused("block modify v/b", "SIZE is missing");
    expect_text("volume heal", 255, "volume heal takes one more word: info, start, resolve, history\n");
    expect_text("volume heal strat v", 1, "did you mean \"volume heal start\"?");
    expect("foo", 1, "", "gluster-block: there is no command \"foo\"\nAll commands: gluster-block help\n");
    expect_text("node join n2", 255, "Usage: gluster-block node join HOST[:PORT]");
    expect_text("cluster init --what", 255, "Usage: gluster-block cluster init");
}

/* ---- What is printed ---- */

static void test_lists(void **state)
{
    (void)state;
    fake_answer("GET", "/v1/exports", 200, FAKE_LIST(FAKE_EXPORT "," FAKE_EXPORT_AS("n2", "failed", "")));
    expect("export list", 0,
           "NAME    STATE   PROTOCOL  READ ONLY  URI\n"
           "n1/v/b  live    nbd       no         nbd://127.0.0.1:10809/v/b\n"
           "n2/v/b  failed  nbd       no         -\n",
           "");
    fake_answer("GET", "/v1/volumes", 200, FAKE_LIST(FAKE_VOLUME));
    expect("volume list", 0,
           "NAME  STATE   TEMPLATE  SIZE     FREE     PROVISIONED  BLOCKS  TO HEAL\n"
           "v     online  replica3  1.0 GiB  1.0 GiB  0 B          0       0\n",
           "");
    fake_answer("GET", "/v1/jobs", 200, FAKE_LIST(""));
    expect("job list", 0, "NAME  KIND  OBJECT  STATE  DONE  TOTAL  STARTED  MESSAGE  ERROR\n", "");
    expect("job list --json", 0, "{ \"items\": [ ], \"revision\": 9 }\n", "");
    expect("job list --json-plain", 0, "{\"items\":[],\"revision\":9}\n", "");
    expect("job list --json-pretty", 0, "{\n  \"items\":[],\n  \"revision\":9\n}\n", "");
}

static void test_info(void **state)
{
    (void)state;
    fake_answer("GET", "/v1/blocks/v/b", 200,
                FAKE_BLOCK_AS("ready", ",\"used\":4096,\"error\":\"a\\u001bb\""));
    expect("block info v/b", 0,
           "name:                  v/b\n"
           "uid:                   gbid-1\n"
           "revision:              7\n"
           "generation:            1\n"
           "created:               2026-01-01T00:00:00.000Z\n"
           "spec:\n"
           "  size:                1.0 GiB (1073741824 bytes)\n"
           "  block_size:          512\n"
           "  prealloc:            no\n"
           "  storage:             /block-store/gbid-1\n"
           "status:\n"
           "  phase:               ready\n"
           "  size:                1.0 GiB (1073741824 bytes)\n"
           "  used:                4.0 KiB (4096 bytes)\n"
           "  observed_generation: 1\n"
           "  error:               a?b\n",
           "");
    fake_answer("GET", "/v1/volumes/w", 200,
                "{\"name\":\"w\",\"spec\":{\"bricks\":[{\"node\":\"n1\",\"device\":\"d1\",\"port\":49152},"
                "{\"node\":\"n1\",\"device\":\"d10\"}]},\"status\":{}}");
    expect("volume info w", 0,
           "name: w\n"
           "spec:\n"
           "  bricks:\n"
           "    node  device  port\n"
           "    n1    d1      49152\n"
           "    n1    d10     -\n"
           "status:\n",
           "");
    expect("block info v/c", 2, "", "gluster-block: nothing at /v1/blocks/v/c\n");
    expect("block info v/c --json-plain", 2, "",
           "{\"error\":{\"code\":\"not_found\",\"message\":\"nothing at "
           "/v1/blocks/v/c\",\"details\":{\"errno\":2}}}"
           "\n");
}

static void test_status(void **state)
{
    (void)state;
    fake_answer(
        "GET", "/v1/status", 200,
        "{\"node\":\"n1\",\"version\":\"0.1\",\"phase\":\"degraded\",\"nodes\":1,\"devices\":3,\"volumes\":1,"
        "\"blocks\":2,\"shares\":3,\"exports\":2,\"jobs_running\":0,\"problems\":[\"brick v/n1/d1 is "
        "down\",\"x\"]}");
    expect("status", 0,
           "degraded as node n1 sees it (blockd 0.1)\n\nTo do:\n  1. brick v/n1/d1 is down\n  2. x\n\n"
           "1 node, 3 devices, 1 volume, 2 blocks, 3 shares, 2 exports, 0 running jobs\n",
           "");
    fake_answer("GET", "/v1/volumes", 200, FAKE_LIST(FAKE_VOLUME));
    expect_text("status", 0, "replica3");
    expect_text("status --json-plain", 0, "\"problems\":[\"brick v/n1/d1 is down\",\"x\"]}\n");
    expect_text("--socket /nowhere status", 255, "is blockd running?");
}

static void test_version(void **state)
{
    (void)state;
    fake_answer("GET", "/v1/version", 200, "{\"version\":\"9\",\"api\":\"v1\"}");
    expect("version", 0, "gluster-block " BLOCKD_VERSION "\nblockd 9 (API v1)\n", "");
    expect_text("--version --json", 0, "\"blockd\": { \"version\": \"9\", \"api\": \"v1\" } }\n");
    expect_text("version --socket /nowhere", 0, "is blockd running?");
}

/* ---- Changes ---- */

static void test_change(void **state)
{
    (void)state;
    fake_answer("PATCH", "/v1/volumes/v", 200, FAKE_VOLUME);
    expect("volume start v", 0, "volume v: online\n", "");
    struct run run autorun = run_cli("volume start v --json-plain");
    assert_int_equal(run.status, 0);
    assert_non_null(strstr(run.out, "\"name\":\"v\""));
    fake_answer("POST", "/v1/blocks", 201, FAKE_BLOCK_AS("failed", ",\"error\":\"no space\""));
    expect("block create v/b 1G", 5, "", "gluster-block: block v/b has failed: no space\n");
    fake_answer("POST", "/v1/exports", 409, FAKE_ERROR(17, "already_exists", "it is exported already"));
    expect("export create v/b", 17, "", "gluster-block: it is exported already\n");
    fake_answer("DELETE", "/v1/blocks/v/b", 200, "{}");
    expect("block delete v/b", 0, "block v/b: gone\n", "");
    fake_answer("DELETE", "/v1/jobs/j", 200, "{}");
    expect("job cancel j", 0, "job j: gone\n", "");
}

static void test_change_goes_on(void **state)
{
    (void)state;
    fake_answer("POST", "/v1/blocks", 202, FAKE_BLOCK_AS("pending", ""));
    fake_answer("GET", "/v1/blocks/v/b", 200, FAKE_BLOCK_AS("pending", ",\"error\":\"brick away\""));
    fake_answer("GET", "/v1/blocks", 200, "");
    expect("block create v/b 1G --no-wait", 0, "block v/b: pending\n", "");
    fake_answer("PATCH", "/v1/nodes/n1", 202,
                "{\"name\":\"n1\",\"spec\":{\"state\":\"stopped\"},\"status\":{\"phase\":\"online\"}}");
    expect("node stop n1 --no-wait", 0, "node n1: recorded, still online\n", "");
    expect_text("block create v/b 1G --wait 1", 110, "goes on in blockd: brick away");
    fake_answer("DELETE", "/v1/blocks/v/b", 202, FAKE_BLOCK);
    expect("block delete v/b --no-wait", 0, "block v/b: going\n", "");
    expect_text("block delete v/b --wait 1", 110, "its deletion goes on");
}

/* A node that is being started is not done while it is still stopped, and the other way round. */
static void test_settled(void **state)
{
    (void)state;
    static const struct {
        const char *object;
        enum settled wanted;
    } cases[] = {
        {"{\"spec\":{\"state\":\"enabled\"},\"status\":{\"phase\":\"stopped\"}}", SETTLED_NOT_YET},
        {"{\"spec\":{\"state\":\"enabled\"},\"status\":{\"phase\":\"online\"}}", SETTLED_DONE},
        {"{\"spec\":{\"state\":\"stopped\"},\"status\":{\"phase\":\"online\"}}", SETTLED_NOT_YET},
        {"{\"spec\":{\"state\":\"stopped\"},\"status\":{\"phase\":\"stopped\"}}", SETTLED_DONE},
        {"{\"status\":{\"phase\":\"ready\"}}", SETTLED_DONE},
        {"{\"status\":{\"phase\":\"pending\"}}", SETTLED_NOT_YET},
        {"{\"status\":{\"phase\":\"failed\"}}", SETTLED_FAILED},
        {"{\"deleting\":true,\"status\":{\"phase\":\"ready\"}}", SETTLED_NOT_YET},
        {"{\"generation\":2,\"status\":{\"phase\":\"ready\",\"observed_generation\":1}}", SETTLED_NOT_YET},
        {"{\"generation\":2,\"status\":{\"phase\":\"failed\",\"observed_generation\":1}}", SETTLED_NOT_YET},
        {"{\"generation\":2,\"status\":{\"phase\":\"ready\",\"observed_generation\":2}}", SETTLED_DONE},
        {"{}", SETTLED_NOT_YET},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *object cleanup(json_decrefp) = json_loads(cases[i].object, 0, NULL);
        assert_non_null(object);
        if (object_settled(object) != cases[i].wanted)
            fail_msg("%s: %d", cases[i].object, object_settled(object));
    }
}

/* ---- Watching ---- */

static void test_watch(void **state)
{
    (void)state;
    fake_answer_times("GET", "/v1/blocks/v", 200, FAKE_LIST(FAKE_BLOCK), 1);
    fake_answer_times("GET", "/v1/blocks/v", 200,
                      "{\"type\":\"put\",\"key\":\"blocks/v/c\",\"revision\":12,\"object\":{\"name\":\"v/c\","
                      "\"status\":{\"phase\":\"pending\"}}}\n{\"type\":\"delete\",\"key\":\"blocks/v/b\","
                      "\"revision\":13,\"object\":null}\n",
                      1);
    fake_answer("GET", "/v1/blocks/v", 500, FAKE_ERROR(5, "internal", "enough"));
    expect("block list v --watch", 5,
           "put     v/b  status.phase=ready  spec.size=1.0 GiB  spec.prealloc=no  "
           "created=2026-01-01T00:00:00.000Z\n"
           "put     v/c  status.phase=pending\n"
           "delete  v/b\n",
           "gluster-block: enough\n");
    autofree char *seen = fake_seen();
    assert_string_equal(seen, "GET /v1/blocks/v\nGET /v1/blocks/v?watch=1&after=9\n"
                              "GET /v1/blocks/v?watch=1&after=13\n");
}

static void test_watch_json(void **state)
{
    (void)state;
    fake_answer_times("GET", "/v1/jobs", 200,
                      "{\"type\":\"put\",\"key\":\"jobs/j\",\"revision\":5,\"object\":{\"name\":\"j\"}}\n",
                      1);
    fake_answer("GET", "/v1/jobs", 500, FAKE_ERROR(5, "internal", "enough"));
    expect_text("job list --watch --after 4 --json-pretty", 5,
                "{\"type\":\"put\",\"key\":\"jobs/j\",\"revision\":5,\"object\":{\"name\":\"j\"}}\n");
    autofree char *seen = fake_seen();
    assert_string_equal(seen, "GET /v1/jobs?watch=1&after=4\nGET /v1/jobs?watch=1&after=5\n");
}

/* ---- Help and completion ---- */

static void test_help(void **state)
{
    (void)state;
    size_t count;
    const struct command *commands = command_all(&count);
    for (size_t i = 0; i < count; i++) {
        const char *verb = commands[i].verb ? commands[i].verb : "";
        autofree char *synopsis = command_synopsis(&commands[i]);
        autofree char *words = xasprintf("help %s%s%s", commands[i].noun, *verb ? " " : "", verb);
        autofree char *other = xasprintf("%s%s%s --help", commands[i].noun, *verb ? " " : "", verb);
        autofree char *noun = xasprintf("help %s", commands[i].noun);
        expect_text(words, 0, synopsis);
        expect_text(other, 0, synopsis);
        expect_text(noun, 0, synopsis);
    }
    expect_text("volume help", 0, "gluster-block volume create NAME");
    expect_text("volume --help", 0, "gluster-block volume create NAME");
}

static void expect_candidates(const char *words, const char *last, const char *wanted)
{
    struct run run = {0};
    size_t size;
    struct cli cli = {.socket_option = fake.socket, .out = open_memstream(&run.out, &size), .err = stderr};
    autostring_list struct string_list list = {0};
    string_list_split(&list, words, ' ');
    string_list_add(&list, last);
    char *argv[16] = {NULL};
    char program[] = "gluster-block", complete[] = "complete";
    argv[0] = program;
    argv[1] = complete;
    memcpy(argv + 2, list.items, list.count * sizeof *argv);
    run.status = cli_run(&cli, (int)list.count + 2, argv);
    cli_clear(&cli);
    fclose(cli.out);
    if (run.status != 0 || strcmp(run.out, wanted) != 0)
        fail_msg("%s [%s]: status %d\n%swanted:\n%s", words, last, run.status, run.out, wanted);
    run_clear(&run);
}

static void test_complete(void **state)
{
    (void)state;
    fake_answer("GET", "/v1/volumes", 200, FAKE_LIST(FAKE_VOLUME));
    fake_answer("GET", "/v1/blocks", 200, FAKE_LIST(FAKE_BLOCK));
    fake_answer("GET", "/v1/exports", 200, FAKE_LIST(FAKE_EXPORT));
    fake_answer("GET", "/v1/nodes", 200, FAKE_NODES);
    expect_candidates("", "vo", "volume\n");
    expect_candidates("", "de", "device\ndelete\n");
    expect_candidates("", "--so", "--socket\n");
    expect_candidates("volume", "st", "start\nstop\n");
    expect_candidates("volume info", "", "v\n");
    expect_candidates("volume info v", "", "");
    expect_candidates("block info", "", "v/b\n");
    expect_candidates("block create", "", "v/\n");
    expect_candidates("block list", "", "v\n");
    expect_candidates("export create", "", "v/b\n");
    expect_candidates("export delete", "v", "v/b\n");
    expect_candidates("export delete", "n", "n1/v/b\n");
    expect_candidates("volume create x --template", "", "single\nreplica3\narbiter\ndisperse\n");
    expect_candidates("volume create x --te", "--te", "--template\n");
    expect_candidates("volume create --template single", "", "");
    expect_candidates("create", "", "v/\n");
    expect_candidates("create v/b", "pre", "prealloc\n");
    expect_candidates("create v/b prealloc", "", "full\nno\n");
    expect_candidates("create v/b prealloc no", "n", "n1\nn2\n");
    expect_candidates("timeout 5 delete", "", "v/b\n");
    expect_candidates("delete v/b", "f", "force\n");
    expect_candidates("list", "", "v\n");
    expect_candidates("uri", "v", "v/b\n");
    expect_candidates("help volume", "mo", "modify\n");
    expect_candidates("nonsense", "", "");
    expect_candidates("--socket /nowhere block info", "", "");
    expect_candidates("--socket", "", "");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup(function, fake_forget)
    const struct CMUnitTest tests[] = {
        TEST(test_shapes),         TEST(test_synopses),
        TEST(test_requests),       TEST(test_values_left_to_the_daemon),
        TEST(test_bad_words),      TEST(test_lists),
        TEST(test_info),           TEST(test_status),
        TEST(test_version),        TEST(test_change),
        TEST(test_change_goes_on), TEST(test_settled),
        TEST(test_watch),          TEST(test_watch_json),
        TEST(test_help),           TEST(test_complete),
    };
    return cmocka_run_group_tests(tests, fake_setup, fake_teardown);
}
