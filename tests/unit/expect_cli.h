/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What tests of the command line say of a run against the fake daemon. After <cmocka.h>. */
#ifndef BLOCKD_TESTS_EXPECT_CLI_H
#define BLOCKD_TESTS_EXPECT_CLI_H

#include "fake_daemon.h"

/* Group and test fixtures. */
static inline int fake_setup(void **state)
{
    (void)state;
    unsetenv("GB_CLI_TIMEOUT");
    fake_start();
    return 0;
}

static inline int fake_teardown(void **state)
{
    (void)state;
    fake_stop();
    return 0;
}

static inline int fake_forget(void **state)
{
    (void)state;
    fake_reset();
    return 0;
}

/* Exit status, standard output and standard error of a command. */
static inline void expect(const char *words, int status, const char *out, const char *err)
{
    struct run run autorun = run_cli(words);
    if (run.status != status || strcmp(run.out, out) != 0 || strcmp(run.err, err) != 0)
        fail_msg("%s: status %d\n--- out:\n%s--- err:\n%s--- wanted %d\n--- out:\n%s--- err:\n%s", words,
                 run.status, run.out, run.err, status, out, err);
}

/* The text must be in the output or the error of a command that ends with that status. */
static inline void expect_text(const char *words, int status, const char *text)
{
    struct run run autorun = run_cli(words);
    if (run.status != status || (!strstr(run.err, text) && !strstr(run.out, text)))
        fail_msg("%s: status %d, wanted %d and \"%s\"\n%s%s", words, run.status, status, text, run.out,
                 run.err);
}

#endif
