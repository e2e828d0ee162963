/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Plans and refusals as text, beside the files tests/golden/plans/NAME.txt. GOLDEN_UPDATE=1 writes those
 * anew, for the difference to be read before it is committed.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/core/planner.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/volume_layout.h"

#define GIB       (UINT64_C(1) << 30)
#define COUNT(of) (sizeof(of) / sizeof *(of))

static void check_text(const char *name, const char *text)
{
    autofree char *path = xasprintf("tests/golden/plans/%s.txt", name);
    if (getenv("GOLDEN_UPDATE"))
        assert_int_equal(file_write_atomic(path, text, 0644, NULL), 0);
    autofree char *wanted = NULL;
    assert_int_equal(file_read(path, 1u << 20, &wanted, NULL, NULL), 0);
    assert_string_equal(text, wanted);
}

/* Devices of `gib` GiB, all of them free: {"node", "device", "zone"}. */
#define DISK(on, name, in, gib)                                                                              \
    {                                                                                                        \
        .node = (char *)on, .device = (char *)name, .zone = (char *)in, .size = (gib)*GIB, .free = (gib)*GIB \
    }

static void expect_plan(const char *name, const struct planner_request *request,
                        const struct planner_device *devices, size_t count)
{
    struct volume_plan plan cleanup(cleanup_volume_plan) = {0};
    autoerror struct error *error = NULL;
    if (planner_run(request, devices, count, &plan, &error) != 0)
        fail_msg("%s: %s", name, error_message(error));
    autostrbuf struct strbuf text = {0};
    for (size_t i = 0; i < plan.text.count; i++)
        strbuf_addf(&text, "%s\n", plan.text.items[i]);
    check_text(name, strbuf_string(&text));
}

static void expect_refusal(const char *name, int number, const struct planner_request *request,
                           const struct planner_device *devices, size_t count)
{
    struct volume_plan plan cleanup(cleanup_volume_plan) = {0};
    autoerror struct error *error = NULL;
    assert_int_equal(planner_run(request, devices, count, &plan, &error), -number);
    autofree char *text = xasprintf("%s\n", error_message(error));
    check_text(name, text);
}

static const struct volume_spec replica3 = {.template_name = TEMPLATE_REPLICA3};
static const struct volume_spec arbiter = {.template_name = TEMPLATE_ARBITER};
static const struct volume_spec disperse = {.template_name = TEMPLATE_DISPERSE, .data = 4, .redundancy = 2};

/* Two disks a node, two nodes a zone. */
static const struct planner_device cluster[] = {
    DISK("n1", "d1", "a", 100), DISK("n1", "d2", "a", 200), DISK("n2", "d1", "a", 300),
    DISK("n2", "d2", "a", 50),  DISK("n3", "d1", "b", 100), DISK("n3", "d2", "b", 100),
    DISK("n4", "d1", "b", 100), DISK("n4", "d2", "b", 400), DISK("n5", "d1", "c", 150),
    DISK("n5", "d2", "c", 100), DISK("n6", "d1", "c", 100), DISK("n6", "d2", "c", 100),
};

static void plans_over_zones(void **state)
{
    (void)state;
    struct planner_request request = {.volume = "v", .spec = &replica3, .size = 90 * GIB};
    expect_plan("zones", &request, cluster, COUNT(cluster));
    request.sets = 2;
    expect_plan("zones-two-sets", &request, cluster, COUNT(cluster));
    request.sets = 0;
    request.size = 190 * GIB; /* no third zone has a disk that large, so that it takes two sets */
    expect_plan("zones-splits", &request, cluster, COUNT(cluster));
    request.spec = &arbiter;
    request.size = 190 * GIB; /* two large disks and a witness on any other */
    expect_plan("zones-arbiter", &request, cluster, COUNT(cluster));
    request.spec = &disperse;
    request.size = 200 * GIB;
    expect_refusal("zones-disperse-refused", ENOSPC, &request, cluster, COUNT(cluster));
    request.allow_same_zone = true;
    expect_plan("zones-disperse", &request, cluster, COUNT(cluster));
}

static void picks_among_the_named(void **state)
{
    (void)state;
    char *zones[] = {(char *)"a", (char *)"b"}, *nodes[] = {(char *)"n1", (char *)"n3", (char *)"n5"};
    const struct string_list two_zones = {zones, 2}, three_nodes = {nodes, 3};
    struct planner_request request = {
        .volume = "v", .spec = &replica3, .size = 40 * GIB, .nodes = &three_nodes};
    expect_plan("named-nodes", &request, cluster, COUNT(cluster));
    request.nodes = NULL;
    request.zones = &two_zones;
    expect_refusal("named-zones-refused", ENOSPC, &request, cluster, COUNT(cluster));
}

static void plans_without_zones(void **state)
{
    (void)state;
    static const struct planner_device devices[] = {
        DISK("n1", "d1", NULL, 100),
        DISK("n1", "d2", NULL, 900),
        DISK("n2", "d1", NULL, 100),
        DISK("n3", "d1", NULL, 100),
    };
    struct planner_request request = {.volume = "v", .spec = &replica3, .size = 50 * GIB};
    expect_plan("nodes", &request, devices, COUNT(devices));
    expect_refusal("nodes-refused", ENOSPC, &request, devices, 3);
    request.allow_same_node = true;
    expect_plan("nodes-same", &request, devices, 3);
    request.size = 0;
    expect_plan("nodes-whole", &request, devices, COUNT(devices));
}

/* What is promised counts, not what is used; what is used by others counts too. */
static void keeps_promises(void **state)
{
    (void)state;
    static const struct planner_device devices[] = {
        {.node = (char *)"n1",
         .device = (char *)"promised",
         .size = 100 * GIB,
         .free = 100 * GIB,
         .promised = 60 * GIB},
        {.node = (char *)"n1", .device = (char *)"filled", .size = 100 * GIB, .free = 10 * GIB},
        {.node = (char *)"n1",
         .device = (char *)"whole",
         .size = 100 * GIB,
         .free = 100 * GIB,
         .whole = (char *)"other"},
        {.node = (char *)"n1",
         .device = (char *)"lost",
         .size = 100 * GIB,
         .free = 100 * GIB,
         .unusable = (char *)"it is failed, not ready"},
        {.node = (char *)"n1", .device = (char *)"mine", .size = 100 * GIB, .free = 100 * GIB},
    };
    struct brick_spec brick = {.node = (char *)"n1", .device = (char *)"mine"};
    const struct volume_spec spec = {.template_name = TEMPLATE_SINGLE, .bricks = {&brick, 1}};
    struct planner_request request = {.volume = "v", .spec = &spec, .size = 30 * GIB, .sets = 1};
    expect_plan("promises", &request, devices, COUNT(devices));
    request.size = 50 * GIB;
    expect_refusal("promises-refused", ENOSPC, &request, devices, COUNT(devices));
    request.size = 0;
    request.brick_size = 0;
    expect_plan("promises-whole", &request, devices + 1, 4);
    expect_refusal("no-devices", ENOSPC, &request, NULL, 0);
}

/* Taking the largest first would leave nothing for the second set. */
static void finds_what_greed_misses(void **state)
{
    (void)state;
    static const struct volume_spec pair = {.template_name = TEMPLATE_DISPERSE, .data = 2, .redundancy = 1};
    static const struct planner_device devices[] = {
        DISK("n1", "d1", NULL, 100), DISK("n1", "d2", NULL, 100), DISK("n2", "d1", NULL, 100),
        DISK("n2", "d2", NULL, 100), DISK("n3", "d1", NULL, 300), DISK("n4", "d1", NULL, 300),
    };
    struct planner_request request = {.volume = "v", .spec = &pair, .size = 100 * GIB, .sets = 2};
    expect_plan("greed", &request, devices, COUNT(devices));
}

/* ---- Whatever is asked, a plan keeps its word ---- */

static void check_plan(const struct planner_request *request, const struct planner_device *devices,
                       size_t count, const struct volume_plan *plan)
{
    const struct plan_brick *bricks = plan->bricks.items;
    size_t each = layout_set_bricks(request->spec);
    uint64_t held = 0;
    assert_int_equal(plan->bricks.count, plan->sets * each);
    assert_int_equal(plan->bricks.count + plan->refused.count, count);
    for (size_t i = 0; i < plan->bricks.count; i++) {
        size_t device = 0;
        while (device < count && !(string_equal(devices[device].node, bricks[i].node) &&
                                   string_equal(devices[device].device, bricks[i].device)))
            device++;
        assert_true(device < count && !devices[device].unusable);
        assert_true(bricks[i].size <= planner_room(&devices[device]));
        held += i % each < layout_set_data(request->spec) ? bricks[i].size : 0;
        for (size_t k = 0; k < i; k++) {
            bool one_set = k / each == i / each;
            assert_false(string_equal(bricks[k].node, bricks[i].node) &&
                         string_equal(bricks[k].device, bricks[i].device));
            if (one_set && !request->allow_same_node)
                assert_string_not_equal(bricks[k].node, bricks[i].node);
            if (one_set && !request->allow_same_node && !request->allow_same_zone && bricks[i].zone)
                assert_false(string_equal(bricks[k].zone, bricks[i].zone));
        }
    }
    assert_true(held >= request->size && plan->size == held);
}

static void keeps_its_word(void **state)
{
    (void)state;
    static const char *const zones[] = {NULL, "a", "b", "c", "d"};
    static const char *const nodes[] = {"n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"};
    unsigned seed = 1, planned = 0, refused = 0;
    for (int round = 0; round < 2000; round++) {
        struct planner_device devices[24];
        autostring_list struct string_list names = {0};
        size_t count = (size_t)rand_r(&seed) % 24;
        bool with_zones = rand_r(&seed) % 2;
        for (size_t i = 0; i < count; i++) {
            size_t node = (size_t)rand_r(&seed) % 8;
            string_list_addf(&names, "d%zu", i);
            devices[i] = (struct planner_device){
                .node = (char *)nodes[node],
                .zone = with_zones ? (char *)zones[node % 5] : NULL,
                .size = (uint64_t)(rand_r(&seed) % 500 + 1) * GIB,
                .promised = (uint64_t)(rand_r(&seed) % 100) * GIB,
                .unusable = rand_r(&seed) % 8 ? NULL : (char *)"it is failed, not ready",
            };
            devices[i].free = devices[i].size;
        }
        for (size_t i = 0; i < count; i++)
            devices[i].device = names.items[i];
        const struct volume_spec specs[] = {{.template_name = TEMPLATE_SINGLE},
                                            replica3,
                                            arbiter,
                                            disperse,
                                            {.template_name = TEMPLATE_DISPERSE, .data = 2, .redundancy = 1}};
        const struct planner_request request = {
            .volume = "v",
            .spec = &specs[rand_r(&seed) % 5],
            .size = (uint64_t)(rand_r(&seed) % 1000 + 1) * GIB,
            .sets = (uint64_t)(rand_r(&seed) % 4),
            .allow_same_node = rand_r(&seed) % 4 == 0,
            .allow_same_zone = rand_r(&seed) % 4 == 0,
        };
        struct volume_plan plan cleanup(cleanup_volume_plan) = {0};
        autoerror struct error *error = NULL;
        int r = planner_run(&request, devices, count, &plan, &error);
        if (r == 0)
            check_plan(&request, devices, count, &plan);
        for (size_t i = 0; r < 0 && i < count; i++) /* the refusal names each device */
            assert_non_null(strstr(error_message(error), devices[i].device));
        assert_true(r == 0 || r == -ENOSPC);
        planned += r == 0;
        refused += r < 0;
    }
    assert_true(planned > 200 && refused > 200);
}

static void refuses_numbers(void **state)
{
    (void)state;
    static const struct volume_spec odd = {.template_name = TEMPLATE_DISPERSE, .data = 2, .redundancy = 2};
    struct planner_request request = {.volume = "v", .spec = &odd, .size = GIB};
    expect_refusal("odd-disperse", EINVAL, &request, cluster, COUNT(cluster));
    request.spec = &replica3;
    request.sets = 41;
    expect_refusal("too-many-bricks", EINVAL, &request, cluster, COUNT(cluster));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_over_zones),        cmocka_unit_test(picks_among_the_named),
        cmocka_unit_test(plans_without_zones),     cmocka_unit_test(keeps_promises),
        cmocka_unit_test(finds_what_greed_misses), cmocka_unit_test(keeps_its_word),
        cmocka_unit_test(refuses_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
