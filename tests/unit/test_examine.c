/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What an examination tells of what is wanted and what is seen: pure comparisons against golden text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include <cmocka.h>

#include "blockd/engine/examine_priv.h"
#include "rpc/base/alloc.h"

#define GOOD (ST_NOATIME | ST_NODEV | ST_NOSUID | ST_NOEXEC)

/* "CODE OBJECT: FOUND [r][d]", one line a finding; empties the list. */
static void check(struct object_list *findings, const char *golden)
{
    autostrbuf struct strbuf text = {0};
    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *finding = (const struct finding *)findings->items + i;
        strbuf_addf(&text, "%s %s: %s%s%s\n", finding->code, finding->object, finding->found,
                    finding->repairable ? " [r]" : "", finding->destroys ? " [d]" : "");
    }
    findings_clear(findings);
    assert_string_equal(strbuf_string(&text), golden);
}

static void test_processes(void **state)
{
    (void)state;
    struct wanted_process wanted[] = {
        {.name = (char *)"brick v/n/d1",
         .program = (char *)"/usr/sbin/glusterfsd",
         .file = (char *)"/s/v.d1.vol",
         .pid = 10,
         .state = (char *)"running"},
        {.name = (char *)"brick v/n/d2",
         .program = (char *)"/usr/sbin/glusterfsd",
         .file = (char *)"/s/v.d2.vol",
         .pid = 11,
         .state = (char *)"running"},
        {.name = (char *)"self-heal",
         .program = (char *)"/usr/sbin/glusterfs",
         .file = (char *)"/s/heal.vol",
         .state = (char *)"backoff",
         .error = (char *)"it ended"},
    };
    struct seen_process seen[] = {
        {.pid = 10, .program = (char *)"/usr/sbin/glusterfsd", .file = (char *)"/s/v.d1.vol"},
        {.pid = 11, .program = (char *)"/usr/sbin/glusterfsd", .file = (char *)"/s/other.vol"},
        {.pid = 12, .program = (char *)"/usr/sbin/glusterfsd", .file = (char *)"/s/v.d1.vol"},
    };
    const struct object_list all = {wanted, 3}, first = {wanted, 1}, running = {seen, 3}, one = {seen, 1};
    struct object_list findings = {0};
    compare_processes(&first, &one, &findings);
    check(&findings, "");
    compare_processes(&all, &running, &findings);
    check(&findings,
          "process-differs brick v/n/d2: process 11 is glusterfsd with /s/other.vol\n"
          "process-missing self-heal: no process; supervision says backoff: it ended [r]\n"
          "process-orphan process 12: glusterfsd runs with /s/v.d1.vol, and no record asks for it [r] [d]\n");
}

static void test_mounts(void **state)
{
    (void)state;
    struct device device = {.meta = {.name = (char *)"n/d1", .uid = (char *)"u1"},
                            .spec = {.path = (char *)"/dev/x"}};
    struct object_list findings = {0};
    struct seen_mount seen = {.mounted = true, .readable = true, .flags = GOOD, .uid = (char *)"u1"};
    compare_mount(&device, "/m", &seen, &findings);
    check(&findings, "");
    seen.flags = ST_NOATIME | ST_NOSUID | ST_RDONLY;
    compare_mount(&device, "/m", &seen, &findings);
    check(&findings, "mount-options device n/d1: without nodev, noexec [r]\n"
                     "mount-readonly device n/d1: read-only\n");
    seen.uid = (char *)"u2";
    compare_mount(&device, "/m", &seen, &findings);
    check(&findings, "mount-foreign device n/d1: what is mounted there is device u2\n");
    seen.readable = false;
    compare_mount(&device, "/m", &seen, &findings);
    check(&findings, "mount-dead device n/d1: it cannot be read\n");
    seen.mounted = false;
    compare_mount(&device, "/m", &seen, &findings);
    check(&findings, "mount-missing device n/d1: nothing is mounted there [r]\n");
}

static void test_blocks(void **state)
{
    (void)state;
    const struct block block = {.meta = {.name = (char *)"v/b"},
                                .spec = {.size = 100, .storage = (char *)"/f"}};
    static const struct {
        struct seen_block seen;
        const char *golden;
    } cases[] = {
        {{.bricks = 3, .looked = 3, .found = 3, .sized = 2, .smallest = 100, .largest = 100}, ""},
        {{.bricks = 3, .looked = 3}, "block-missing block v/b: no such file on any brick\n"},
        {{.bricks = 3, .looked = 1}, ""}, /* the two that are away may have it */
        {{.bricks = 3, .looked = 3, .found = 1, .healing = true, .sized = 1, .smallest = 100, .largest = 100},
         ""},
        {{.bricks = 3, .looked = 3, .found = 2, .sized = 2, .smallest = 100, .largest = 100},
         "replica-missing block v/b: the file on 2 of 3 bricks, and nothing to heal is known\n"},
        {{.bricks = 3, .looked = 3, .found = 3, .sized = 3, .smallest = 50, .largest = 100},
         "replica-size block v/b: from 50 to 100 bytes, and nothing to heal is known\n"},
        {{.bricks = 3, .looked = 3, .found = 3, .healing = true, .sized = 3, .smallest = 50, .largest = 100},
         ""},
        {{.bricks = 3, .looked = 3, .found = 3, .sized = 3, .smallest = 50, .largest = 50},
         "block-size block v/b: 50 bytes [r]\n"},
        {{.bricks = 3, .looked = 3, .found = 3, .sized = 3, .smallest = 150, .largest = 150},
         "block-size block v/b: 150 bytes [r] [d]\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct object_list findings = {0};
        compare_block(&block, &cases[i].seen, &findings);
        check(&findings, cases[i].golden);
    }
}

static void test_texts(void **state)
{
    (void)state;
    struct object_list findings = {0};
    compare_text("/p", "volume v", "a\nb\nc\n", "a\nb\nc\n", &findings);
    check(&findings, "");
    compare_text("/p", "volume v", "a\nb\nc\n", "a\nbad\nc\n", &findings);
    check(&findings, "volfile-differs /p: line 2 is \"bad\" [r]\n");
    compare_text("/p", "volume v", "a\nb\n", "a\n", &findings);
    check(&findings, "volfile-differs /p: line 2 is \"\" [r]\n");
    compare_text("/p", "volume v", "a\nb\n", NULL, &findings);
    check(&findings, "volfile-missing /p: no such file [r]\n");
}

static void test_listeners(void **state)
{
    (void)state;
    static const char table[] =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:C000 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 "
        "100 0 0 10 0\n"
        "   1: 0100007F:C001 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 "
        "20 4 30 10 -1\n"
        "   2: 00000000:C000 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 "
        "100 0 0 10 0\n";
    assert_int_equal(listener_inode(table, 0xC000, 0), 4711);
    assert_int_equal(listener_inode(table, 0xC000, 1), 4713);
    assert_int_equal(listener_inode(table, 0xC000, 2), 0);
    assert_int_equal(listener_inode(table, 0xC001, 0), 0); /* a connection is no listener */
    assert_int_equal(listener_inode("", 0xC000, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_processes), cmocka_unit_test(test_mounts),    cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_texts),     cmocka_unit_test(test_listeners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
