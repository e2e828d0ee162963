/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Volfiles as text, beside the files tests/golden/NAME.vol. After a change that is meant, GOLDEN_UPDATE=1
 * writes those anew, for the difference to be read before it is committed.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/engine/engine_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

#define VOLUME_ID "0f3b1c9e-5d2a-4e6f-8a7b-9c0d1e2f3a4b"
#define NODE_ID   "6c1d2e3f-4a5b-4c6d-9e8f-0a1b2c3d4e5f"

struct scene {
    struct volume volume;
    struct node nodes[3];
    struct volfile_sources sources;
};

static void make_scene(struct scene *scene, const char *name, int template_name,
                       const char *const addresses[3])
{
    *scene = (struct scene){0};
    scene->volume.meta.name = xstrdup(name);
    scene->volume.meta.uid = xstrdup(VOLUME_ID);
    scene->volume.spec.template_name = template_name;
    size_t count = template_name == TEMPLATE_SINGLE ? 1 : 3;
    for (size_t i = 0; i < 3; i++) {
        scene->nodes[i].meta.name = xasprintf("node%zu", i + 1);
        string_list_add(&scene->nodes[i].spec.addresses, addresses[i]);
        if (i >= count)
            continue;
        struct brick_spec *brick = object_list_add(&scene->volume.spec.bricks, sizeof *brick);
        brick->node = xasprintf("node%zu", i + 1);
        brick->device = xasprintf("disk-%zu", i + 1);
        brick->port = 49152 + i;
    }
    scene->sources = (struct volfile_sources){
        .volume = &scene->volume,
        .nodes = scene->nodes,
        .node_count = 3,
        .ping_timeout = 5,
        .event_threads = 2,
        .xlators = "blockd",
    };
}

/* More bricks on the same nodes, each on a disk of its own. */
static void add_bricks(struct scene *scene, size_t count)
{
    for (size_t end = scene->volume.spec.bricks.count + count; scene->volume.spec.bricks.count < end;) {
        size_t i = scene->volume.spec.bricks.count;
        struct brick_spec *brick = object_list_add(&scene->volume.spec.bricks, sizeof *brick);
        brick->node = xasprintf("node%zu", i % 3 + 1);
        brick->device = xasprintf("disk-%zu", i + 1);
        brick->port = 49152 + i;
    }
}

static void make_disperse(struct scene *scene, uint64_t data, uint64_t redundancy)
{
    scene->volume.spec.data = data;
    scene->volume.spec.redundancy = redundancy;
}

static void clear_scene(struct scene *scene)
{
    cleanup_volume(&scene->volume);
    for (size_t i = 0; i < 3; i++)
        cleanup_node(&scene->nodes[i]);
}

#define MADE_SCENE(name, ...)                                                                                \
    cleanup(clear_scene) struct scene name;                                                                  \
    make_scene(&name, __VA_ARGS__)

static const char *const v4[] = {"192.0.2.1", "192.0.2.2", "192.0.2.3"};
static const char *const v6[] = {"2001:DB8::0:1", "2001:db8::2", "2001:db8::3"};

static void check_golden(const char *name, const struct strbuf *text)
{
    autofree char *path = xasprintf("tests/golden/%s.vol", name);
    if (getenv("GOLDEN_UPDATE"))
        assert_int_equal(file_write_atomic(path, strbuf_string(text), 0644, NULL), 0);
    autofree char *wanted = NULL;
    assert_int_equal(file_read(path, 1u << 20, &wanted, NULL, NULL), 0);
    assert_string_equal(strbuf_string(text), wanted);
}

static void check_client(const char *name, const struct scene *scene)
{
    autostrbuf struct strbuf text = {0};
    assert_int_equal(volfile_client(&scene->sources, &text, NULL), 0);
    check_golden(name, &text);
}

static void check_mount(const char *name, const struct scene *scene)
{
    autostrbuf struct strbuf text = {0};
    assert_int_equal(volfile_mount(&scene->sources, &text, NULL), 0);
    check_golden(name, &text);
}

static void check_share(const char *name, const struct scene *scene)
{
    autostrbuf struct strbuf text = {0};
    assert_int_equal(volfile_share(&scene->sources, &text, NULL), 0);
    check_golden(name, &text);
}

static void check_brick(const char *name, const struct scene *scene, size_t index)
{
    autostrbuf struct strbuf text = {0};
    autofree char *folder =
        xasprintf("/var/lib/blockd/devices/disk-%zu/bricks/%s", index + 1, scene->volume.meta.name);
    assert_int_equal(
        volfile_brick(&scene->sources, index, folder, "/run/blockd/clients/volume.disk", &text, NULL), 0);
    check_golden(name, &text);
}

static void single(void **state)
{
    (void)state;
    MADE_SCENE(scene, "alone", TEMPLATE_SINGLE, v4);
    check_client("single-client", &scene);
    check_mount("single-mount", &scene);
    check_brick("single-brick", &scene, 0);
}

static void replica3(void **state)
{
    (void)state;
    MADE_SCENE(scene, "demo", TEMPLATE_REPLICA3, v4);
    check_client("replica3-client", &scene);
    check_mount("replica3-mount", &scene);
    check_share("replica3-share", &scene);
    check_brick("replica3-brick", &scene, 1);
}

static void arbiter(void **state)
{
    (void)state;
    MADE_SCENE(scene, "witnessed", TEMPLATE_ARBITER, v4);
    check_client("arbiter-client", &scene);
    check_brick("arbiter-brick-data", &scene, 0);
    check_brick("arbiter-brick-witness", &scene, 2);
}

static void ipv6(void **state)
{
    (void)state;
    MADE_SCENE(scene, "six", TEMPLATE_REPLICA3, v6);
    check_client("ipv6-client", &scene);
    check_mount("ipv6-mount", &scene);
    check_brick("ipv6-brick", &scene, 0);
}

static void heal(void **state)
{
    (void)state;
    MADE_SCENE(first, "demo", TEMPLATE_REPLICA3, v4);
    MADE_SCENE(second, "witnessed", TEMPLATE_ARBITER, v4);
    const struct volfile_sources both[] = {first.sources, second.sources};
    autostrbuf struct strbuf text = {0};
    assert_int_equal(volfile_heal(both, 2, NODE_ID, &text, NULL), 0);
    check_golden("heal", &text);
}

static void access_list(void **state)
{
    (void)state;
    MADE_SCENE(scene, "demo", TEMPLATE_REPLICA3, v4);
    static const char *const more[] = {
        "198.51.100.7", "10.0.0.0/8", "172.16.9.9/16", "203.0.113.0/24", "192.0.2.1", "2001:DB8::0:00", "*"};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        string_list_add(&scene.volume.spec.access, more[i]);
    autostrbuf struct strbuf list = {0};
    assert_int_equal(volfile_access(&scene.sources, &list, NULL), 0);
    assert_string_equal(strbuf_string(&list), "127.0.0.1,::1,192.0.2.1,192.0.2.2,192.0.2.3,198.51.100.7,10.*,"
                                              "172.16.*,203.0.113.*,2001:db8::,*");
    check_brick("access-brick", &scene, 0);
}

static void share_access(void **state)
{
    (void)state;
    MADE_SCENE(scene, "demo", TEMPLATE_REPLICA3, v4);
    struct share shares[2] = {0};
    shares[0].status.path = xstrdup("/shares/team");
    shares[1].status.path = xstrdup("/shares/public");
    scene.sources.shares = shares;
    scene.sources.share_count = 2;
    check_brick("replica3-brick", &scene, 1); /* without lists nothing is said of folders */
    string_list_add(&shares[1].spec.access, "198.51.100.7");
    string_list_add(&shares[1].spec.access, "10.1.*");
    check_brick("share-access-brick", &scene, 0);
    autostrbuf struct strbuf list = {0};
    assert_int_equal(volfile_access(&scene.sources, &list, NULL), 0);
    assert_string_equal(strbuf_string(&list),
                        "127.0.0.1,::1,192.0.2.1,192.0.2.2,192.0.2.3,198.51.100.7,10.1.*");
    for (size_t i = 0; i < 2; i++)
        schema_clear(&share_schema, &shares[i]);
}

static void volserver(void **state)
{
    (void)state;
    autostring_list struct string_list addresses = {0};
    string_list_add(&addresses, "127.0.0.1");
    string_list_add(&addresses, "2001:DB8::1");
    autostrbuf struct strbuf text = {0}, bad = {0};
    assert_int_equal(volfile_volserver("blockd", "/var/lib/blockd/volserver", "/run/blockd/volserver.sock",
                                       &addresses, 24007, NULL, &text, NULL),
                     0);
    check_golden("volserver", &text);
    assert_int_equal(volfile_volserver("blockd", "/a`id`", "/run/s", &addresses, 24007, NULL, &bad, NULL),
                     -EINVAL);
    string_list_add(&addresses, "host");
    assert_int_equal(volfile_volserver("blockd", "/a", "/run/s", &addresses, 24007, NULL, &bad, NULL),
                     -EINVAL);
}

static void tls(void **state)
{
    (void)state;
    MADE_SCENE(scene, "demo", TEMPLATE_REPLICA3, v4);
    scene.volume.spec.tls = VOLUME_TLS_ON;
    scene.sources.pki = "/var/lib/blockd/pki";
    string_list_add(&scene.volume.spec.access, "cert:app.example");
    check_client("tls-client", &scene);
    check_mount("tls-mount", &scene);
    check_brick("tls-brick", &scene, 1);
    autostring_list struct string_list addresses = {0};
    string_list_add(&addresses, "192.0.2.1");
    autostrbuf struct strbuf text = {0}, list = {0};
    assert_int_equal(volfile_volserver("blockd", "/var/lib/blockd/volserver", "/run/blockd/volserver.sock",
                                       &addresses, 24007, "/var/lib/blockd/pki", &text, NULL),
                     0);
    check_golden("tls-volserver", &text);
    assert_int_equal(volfile_access(&scene.sources, &list, NULL), 0);
    assert_non_null(strstr(strbuf_string(&list), ",*"));

    /* A folder of certificates is looked at as other paths are. */
    scene.sources.pki = "/var/`id`";
    autostrbuf struct strbuf bad = {0};
    assert_int_equal(volfile_client(&scene.sources, &bad, NULL), -EINVAL);
    assert_int_equal(volfile_brick(&scene.sources, 0, "/brick", "/run/roll", &bad, NULL), -EINVAL);
}

/* What names a client depends on whether bricks see certificates. */
static void access_with_tls(void **state)
{
    (void)state;
    static const struct {
        const char *entry;
        bool plain, tls;
    } cases[] = {
        {"10.0.0.1", true, false},  {"10.0.0.0/8", true, false}, {"*", true, true},
        {"cert:a", false, true},    {"cert:*", false, true},     {"cert:", false, false},
        {"cert:a*", false, false},  {"cert:a b", false, false},  {"cert:a,b", false, false},
        {"cert:[a]", false, false}, {"cert:-a", false, false},   {"CERT:a", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        autostring_list struct string_list list = {0};
        string_list_add(&list, cases[i].entry);
        assert_int_equal(engine_access_check(&list, false, NULL), cases[i].plain ? 0 : -EINVAL);
        assert_int_equal(engine_access_check(&list, true, NULL), cases[i].tls ? 0 : -EINVAL);
    }
}

static void disperse(void **state)
{
    (void)state;
    MADE_SCENE(scene, "coded", TEMPLATE_DISPERSE, v4);
    make_disperse(&scene, 2, 1);
    check_client("disperse-client", &scene);
    check_share("disperse-share", &scene);
    check_brick("disperse-brick", &scene, 2);
}

static void distribute(void **state)
{
    (void)state;
    MADE_SCENE(replicas, "demo", TEMPLATE_REPLICA3, v4);
    add_bricks(&replicas, 3);
    check_client("distribute-replica3-client", &replicas);
    check_brick("distribute-replica3-brick", &replicas, 4);
    MADE_SCENE(witnessed, "witnessed", TEMPLATE_ARBITER, v4);
    add_bricks(&witnessed, 3);
    check_client("distribute-arbiter-client", &witnessed);
    check_brick("distribute-arbiter-brick-witness", &witnessed, 5);
    MADE_SCENE(coded, "coded", TEMPLATE_DISPERSE, v4);
    make_disperse(&coded, 4, 2);
    add_bricks(&coded, 9);
    check_client("distribute-disperse-client", &coded);
    MADE_SCENE(plain, "plain", TEMPLATE_SINGLE, v4);
    add_bricks(&plain, 2);
    check_client("distribute-single-client", &plain);
}

/* They take the place of what stands there, a profile's first. */
static void options_of_the_volume(void **state)
{
    (void)state;
    MADE_SCENE(scene, "demo", TEMPLATE_REPLICA3, v4);
    scene.volume.spec.profile = xstrdup("vm");
    string_list_add(&scene.volume.spec.options, "io-threads.thread-count=64");
    string_list_add(&scene.volume.spec.options, "replicate.choose-local=off");
    check_client("options-client", &scene);
    check_brick("options-brick", &scene, 0);
    autostrbuf struct strbuf text = {0};
    assert_int_equal(volfile_heal(&scene.sources, 1, NODE_ID, &text, NULL), 0);
    check_golden("options-heal", &text);
}

static void heals_all_sets(void **state)
{
    (void)state;
    MADE_SCENE(first, "demo", TEMPLATE_REPLICA3, v4);
    add_bricks(&first, 3);
    MADE_SCENE(second, "coded", TEMPLATE_DISPERSE, v4);
    make_disperse(&second, 2, 1);
    const struct volfile_sources both[] = {first.sources, second.sources};
    autostrbuf struct strbuf text = {0};
    assert_int_equal(volfile_heal(both, 2, NODE_ID, &text, NULL), 0);
    check_golden("distribute-heal", &text);
}

/* ---- What is refused ---- */

static void refuses_access(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "host",
                                      "10.0.0.0/12",
                                      "10.0.0.1/32",
                                      "10.0.0.1/",
                                      "fe80::/8",
                                      "!10.0.0.1",
                                      "10.0.0.1,10.0.0.2",
                                      "10.*.*",
                                      "10.0.0.0.*",
                                      "1000.*",
                                      "**",
                                      "`id`",
                                      "10.0.0.1\n",
                                      "10.0.0.0/24 10.0.0.1",
                                      "/24"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        autoerror struct error *error = NULL;
        autostring_list struct string_list list = {0};
        string_list_add(&list, bad[i]);
        assert_int_equal(engine_access_check(&list, false, &error), -EINVAL);
        MADE_SCENE(scene, "demo", TEMPLATE_SINGLE, v4);
        string_list_add(&scene.volume.spec.access, bad[i]);
        autostrbuf struct strbuf text = {0};
        assert_int_equal(volfile_brick(&scene.sources, 0, "/brick", "/run/roll", &text, NULL), -EINVAL);
    }
}

static void refuses(const struct scene *scene, int number)
{
    autostrbuf struct strbuf text = {0};
    autoerror struct error *error = NULL;
    assert_int_equal(volfile_client(&scene->sources, &text, &error), -number);
    assert_non_null(error);
}

static void refuses_names(void **state)
{
    (void)state;
    static const char *const names[] = {"", "-x", "a b", "a\nb", "a`b`", "a\"b", "a.b", "a/b", "ü"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        MADE_SCENE(scene, names[i], TEMPLATE_REPLICA3, v4);
        refuses(&scene, EINVAL);
    }
    autofree char *longest = xcalloc(ENGINE_NAME_MAX + 2, 1);
    memset(longest, 'x', ENGINE_NAME_MAX + 1);
    MADE_SCENE(scene, longest, TEMPLATE_REPLICA3, v4);
    refuses(&scene, ENAMETOOLONG);
    scene.volume.meta.name[ENGINE_NAME_MAX] = '\0';
    autostrbuf struct strbuf text = {0};
    assert_int_equal(volfile_client(&scene.sources, &text, NULL), 0);
}

static void refuses_addresses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "*", "192.0.2.1,*", "192.0.2.1\n", "host`id`", "host.example", "::1 ", "[::1]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *const addresses[] = {bad[i], v4[1], v4[2]};
        MADE_SCENE(scene, "demo", TEMPLATE_REPLICA3, addresses);
        refuses(&scene, EINVAL);
    }
    MADE_SCENE(scene, "demo", TEMPLATE_REPLICA3, v4);
    scene.sources.node_count = 2;
    refuses(&scene, EINVAL);
}

static void refuses_paths(void **state)
{
    (void)state;
    static const char *const bad[] = {"relative", "", "/a\nb", "/a`id`", "/a\"b", "/a\\b", "/a\tb", "/$HOME"};
    MADE_SCENE(scene, "demo", TEMPLATE_REPLICA3, v4);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        autostrbuf struct strbuf text = {0};
        assert_int_equal(volfile_brick(&scene.sources, 0, bad[i], "/run/roll", &text, NULL), -EINVAL);
    }
}

static void refuses_shapes(void **state)
{
    (void)state;
    MADE_SCENE(scene, "demo", TEMPLATE_SINGLE, v4);
    scene.volume.spec.template_name = TEMPLATE_REPLICA3;
    refuses(&scene, EINVAL);
    MADE_SCENE(no_port, "demo", TEMPLATE_REPLICA3, v4);
    ((struct brick_spec *)no_port.volume.spec.bricks.items)[2].port = 0;
    refuses(&no_port, EINVAL);
    MADE_SCENE(no_id, "demo", TEMPLATE_REPLICA3, v4);
    no_id.volume.meta.uid[3] = '"';
    refuses(&no_id, EINVAL);
    MADE_SCENE(broken, "demo", TEMPLATE_REPLICA3, v4);
    add_bricks(&broken, 2);
    refuses(&broken, EINVAL);
    MADE_SCENE(endless, "demo", TEMPLATE_REPLICA3, v4);
    add_bricks(&endless, 120);
    refuses(&endless, EINVAL);
    static const uint64_t shapes[][2] = {{0, 0}, {1, 1}, {2, 0}, {2, 2}, {1, 2}, {17, 2}, {UINT64_MAX, 2}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        MADE_SCENE(coded, "demo", TEMPLATE_DISPERSE, v4);
        make_disperse(&coded, shapes[i][0], shapes[i][1]);
        refuses(&coded, EINVAL);
    }
    MADE_SCENE(mixed, "demo", TEMPLATE_REPLICA3, v4);
    make_disperse(&mixed, 2, 1);
    refuses(&mixed, EINVAL);
    MADE_SCENE(alone, "demo", TEMPLATE_SINGLE, v4);
    autostrbuf struct strbuf text = {0};
    assert_int_equal(volfile_heal(&alone.sources, 1, NODE_ID, &text, NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single),
        cmocka_unit_test(replica3),
        cmocka_unit_test(arbiter),
        cmocka_unit_test(ipv6),
        cmocka_unit_test(heal),
        cmocka_unit_test(access_list),
        cmocka_unit_test(share_access),
        cmocka_unit_test(volserver),
        cmocka_unit_test(tls),
        cmocka_unit_test(access_with_tls),
        cmocka_unit_test(refuses_access),
        cmocka_unit_test(disperse),
        cmocka_unit_test(distribute),
        cmocka_unit_test(heals_all_sets),
        cmocka_unit_test(options_of_the_volume),
        cmocka_unit_test(refuses_names),
        cmocka_unit_test(refuses_addresses),
        cmocka_unit_test(refuses_paths),
        cmocka_unit_test(refuses_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
