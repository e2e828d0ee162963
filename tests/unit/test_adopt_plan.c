/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The plan of an adoption, from manifests and bricks played in memory, against golden text. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/core/adopt_priv.h"
#include "rpc/base/alloc.h"

#define UID(c) "00000000-0000-4000-8000-00000000000" c
#define MIB    (1 << 20)

static const char *const device_uids[] = {UID("1"), UID("2"), UID("3")};

/* The bricks: of each disk, the files and their sizes; -1: not there. */
static struct {
    const char *brick_uid[3];
    long long size_a[3], size_b[3], size_stray[3];
} world;

static long long size_of(size_t disk, const char *file)
{
    return strcmp(file, "/block-store/a") == 0           ? world.size_a[disk]
           : strcmp(file, "/block-store/b") == 0         ? world.size_b[disk]
           : strcmp(file, "/block-store/" UID("9")) == 0 ? world.size_stray[disk]
                                                         : -1;
}

static int look_brick(void *data, size_t disk, const char *volume, char **ret_uid)
{
    (void)data, (void)volume;
    if (!world.brick_uid[disk])
        return -ENOENT;
    *ret_uid = xstrdup(world.brick_uid[disk]);
    return 0;
}

static int look_file(void *data, size_t disk, const char *volume, const char *file, uint64_t *ret_size)
{
    (void)data, (void)volume;
    if (size_of(disk, file) < 0)
        return -ENOENT;
    *ret_size = (uint64_t)size_of(disk, file);
    return 0;
}

static int look_folder(void *data, size_t disk, const char *volume, const char *folder,
                       struct string_list *ret_names)
{
    static const char *const names[] = {"a", "b", UID("9")};
    (void)data, (void)volume;
    for (size_t i = 0; i < 3; i++) {
        autofree char *file = xasprintf("%s/%s", folder, names[i]);
        if (size_of(disk, file) >= 0)
            string_list_add(ret_names, names[i]);
    }
    return 0;
}

static char *record(const char *name, const char *uid, const char *spec)
{
    return xasprintf("{\"name\":\"%s\",\"uid\":\"%s\",\"spec\":%s,\"status\":{\"phase\":\"ready\"}}", name,
                     uid, spec);
}

static void add(struct strbuf *text, const char *key, const char *uid, const char *spec)
{
    autofree char *value = record(strchr(key, '/') + 1, uid, spec);
    manifest_add_record(text, key, 5, value);
}

/* The manifest of a replica3 volume on three devices with blocks a and b, as disk `index` has it. */
static struct adopt_disk disk(size_t index, uint64_t revision, bool with_b)
{
    static const struct manifest_identity identity = {.store = (char *)UID("f"), .incarnation = 1};
    static const char *const paths[] = {"/dev/x1", "/dev/x2", "/dev/x3"};
    autostrbuf struct strbuf text = {0};
    manifest_add_header(&text, &identity, device_uids[index]);
    add(&text, "devices/n/d1", device_uids[0], "{\"path\":\"/dev/old1\"}");
    add(&text, "devices/n/d2", device_uids[1], "{\"path\":\"/dev/old2\",\"destroy_existing_data\":true}");
    add(&text, "devices/n/d3", device_uids[2], "{\"path\":\"/dev/old3\"}");
    add(&text, "volumes/v", UID("4"),
        "{\"template\":\"replica3\",\"overcommit\":1.0,\"bricks\":["
        "{\"node\":\"n\",\"device\":\"d1\",\"port\":50000},{\"node\":\"n\",\"device\":\"d2\",\"port\":50001},"
        "{\"node\":\"n\",\"device\":\"d3\",\"port\":50002}]}");
    add(&text, "blocks/v/a", UID("5"),
        "{\"size\":1048576,\"block_size\":512,\"storage\":\"/block-store/a\"}");
    if (with_b)
        add(&text, "blocks/v/b", UID("6"),
            "{\"size\":1048576,\"block_size\":512,\"storage\":\"/block-store/b\"}");
    add(&text, "exports/n/v/a", UID("7"), "{}");
    manifest_add_end(&text, revision);
    struct adopt_disk made = {
        .path = paths[index], .device_uid = device_uids[index], .fs_uuid = "fs", .has_manifest = true};
    assert_int_equal(manifest_parse(strbuf_string(&text), &made.manifest, NULL), 0);
    return made;
}

static void set_world(void)
{
    for (size_t i = 0; i < 3; i++) {
        world.brick_uid[i] = UID("4");
        world.size_a[i] = MIB;
        world.size_b[i] = MIB;
        world.size_stray[i] = -1;
    }
}

/* "OUTCOME OBJECT: DETAIL" of each item, then the keys that are put. */
static void check(struct adopt_disk *disks, size_t count, const char *store, bool unknown, const char *golden)
{
    json_t *present = json_loads(store, 0, NULL);
    assert_non_null(present);
    const struct adopt_input input = {.node = "n",
                                      .port_min = 50000,
                                      .port_max = 50009,
                                      .disks = disks,
                                      .count = count,
                                      .present = present,
                                      .unknown = unknown,
                                      .lookup = {NULL, look_brick, look_file, look_folder}};
    struct adopt_plan plan;
    adopt_plan(&input, &plan);
    autostrbuf struct strbuf text = {0};
    for (size_t i = 0; i < plan.items.count; i++) {
        const struct adopt_item *item = (const struct adopt_item *)plan.items.items + i;
        strbuf_addf(&text, "%s %s: %s\n", adopt_outcome_words[item->outcome], item->object, item->detail);
    }
    for (size_t i = 0; i < json_array_size(plan.puts); i++)
        strbuf_addf(&text, "%s ", json_string_value(json_array_get(json_array_get(plan.puts, i), 0)));
    adopt_plan_clear(&plan);
    json_decref(present);
    for (size_t i = 0; i < count; i++)
        manifest_view_clear(&disks[i].manifest);
    assert_string_equal(strbuf_string(&text), golden);
}

#define NODE "\"nodes/n\":{\"uid\":\"" UID("a") "\"}"

static void test_all_there(void **state)
{
    (void)state;
    set_world();
    struct adopt_disk disks[] = {disk(0, 9, true), disk(1, 9, true), disk(2, 7, false)};
    check(disks, 3, "{" NODE "}", false,
          "adopt device n/d1: /dev/x1, as of revision 9\n"
          "adopt device n/d2: /dev/x2, as of revision 9\n"
          "adopt device n/d3: /dev/x3, as of revision 7; another disk knows more\n"
          "adopt volume v: replica3, 3 of 3 bricks\n"
          "adopt block v/a: 1.0 MiB\n"
          "adopt block v/b: 1.0 MiB\n"
          "adopt export n/v/a: as it was\n"
          "devices/n/d1 devices/n/d2 devices/n/d3 ports/n/50000 ports/n/50001 ports/n/50002 volumes/v "
          "blocks/v/a "
          "blocks/v/b exports/n/v/a ");
}

static void test_files_count(void **state)
{
    (void)state;
    set_world();
    world.size_a[0] = 3 * MIB; /* grown; the other brick is behind */
    world.size_b[0] = world.size_b[1] = -1;
    world.size_stray[0] = world.size_stray[1] = 2 * MIB;
    struct adopt_disk disks[] = {disk(0, 9, true), disk(1, 9, true)};
    check(disks, 2, "{" NODE "}", true,
          "adopt device n/d1: /dev/x1, as of revision 9\n"
          "adopt device n/d2: /dev/x2, as of revision 9\n"
          "adopt device n/d3: not among the disks that were named: it is missing until it appears\n"
          "adopt volume v: replica3, 2 of 3 bricks\n"
          "adopt block v/a: 3.0 MiB, as its file is; its record says 1.0 MiB\n"
          "skip block v/b: its file /block-store/b is not there: it was deleted, or never made\n"
          "adopt block v/" UID("9") ": its name is lost: rename it\n"
                                    "adopt export n/v/a: as it was\n"
                                    "devices/n/d1 devices/n/d2 devices/n/d3 ports/n/50000 ports/n/50001 "
                                    "ports/n/50002 volumes/v blocks/v/a "
                                    "blocks/v/" UID("9") " exports/n/v/a ");
}

static void test_refusals(void **state)
{
    (void)state;
    set_world();
    world.brick_uid[1] = UID("8");
    struct adopt_disk disks[] = {disk(0, 9, true), disk(1, 9, true)};
    check(disks, 2, "{" NODE ",\"devices/n/d1\":{\"uid\":\"" UID("b") "\"}}", false,
          "refuse device n/d1: another device has this name: delete or rename that one first\n"
          "adopt device n/d2: /dev/x2, as of revision 9\n"
          "refuse volume v: its brick folder on /dev/x2 carries the identity " UID("8") ", not " UID(
              "4") "\n"
                   "devices/n/d2 ");
}

/* A second run after the first was cut short: what is there is kept, the rest is made; a port moves. */
static void test_second_run(void **state)
{
    (void)state;
    set_world();
    struct adopt_disk disks[] = {disk(0, 9, false)};
    check(disks, 1,
          "{" NODE ",\"devices/n/d1\":{\"uid\":\"" UID("1") "\"},\"ports/n/50000\":\"volumes/v\","
                                                            "\"ports/n/50001\":\"volumes/w\"}",
          false,
          "present device n/d1: known already\n"
          "adopt device n/d2: not among the disks that were named: it is missing until it appears\n"
          "adopt device n/d3: not among the disks that were named: it is missing until it appears\n"
          "adopt volume v: replica3, 1 of 3 bricks\n"
          "adopt block v/a: 1.0 MiB\n"
          "skip file /block-store/b: no record names this file of volume v (1048576 bytes): --unknown makes "
          "a block of it\n"
          "adopt export n/v/a: as it was\n"
          "devices/n/d2 devices/n/d3 ports/n/50002 ports/n/50003 volumes/v blocks/v/a exports/n/v/a ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_there),
        cmocka_unit_test(test_files_count),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_second_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
