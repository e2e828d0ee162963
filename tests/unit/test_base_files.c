/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Whole files and folders, and programs that are run. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/files.h"
#include "rpc/base/spawn.h"
#include "rpc/base/strings.h"

static char folder[32];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test-files-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    const char *const argv[] = {"rm", "-rf", "--", folder, NULL};
    return program_run(argv, 30000, NULL, NULL, NULL);
}

static char *in_folder(const char *name)
{
    return xasprintf("%s/%s", folder, name);
}

/* ---- Files ---- */

static void write_and_read(void **state)
{
    (void)state;
    autofree char *path = in_folder("file"), *text = NULL;
    autoerror struct error *error = NULL;
    size_t length = 77;
    assert_int_equal(file_read(path, 100, &text, &length, &error), -ENOENT);
    assert_non_null(strstr(error_message(error), path));
    assert_null(text);
    assert_int_equal(length, 77);

    assert_int_equal(file_write_atomic(path, "0123456789", 0640, NULL), 0);
    assert_int_equal(file_read(path, 9, &text, &length, NULL), -EFBIG);
    assert_null(text);
    assert_int_equal(file_read(path, 10, &text, &length, NULL), 0);
    assert_string_equal(text, "0123456789");
    assert_int_equal(length, 10);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);

    free(steal_ptr(&text));
    assert_int_equal(file_write_atomic(path, "", 0600, NULL), 0);
    assert_int_equal(file_read(path, 0, &text, NULL, NULL), 0);
    assert_string_equal(text, "");
    assert_int_equal(file_remove(path, NULL), 0);
    assert_int_equal(file_remove(path, NULL), 0);
    assert_int_equal(file_remove(folder, NULL), -EISDIR);
}

static void a_failed_write_leaves_nothing(void **state)
{
    (void)state;
    autoerror struct error *error = NULL;
    autofree char *lost = in_folder("lost/file");
    assert_int_equal(file_write_atomic(lost, "x", 0600, &error), -ENOENT);
    autofree char *occupied = in_folder("occupied");
    assert_int_equal(folder_make(occupied, 0700, NULL), 0);
    assert_int_equal(file_write_atomic(occupied, "x", 0600, &error), -EISDIR);
    autostring_list struct string_list names = {0};
    assert_int_equal(folder_list(folder, &names, NULL), 0);
    assert_int_equal(names.count, 1);
    assert_string_equal(names.items[0], "occupied");
}

static void names_of_full_length(void **state)
{
    (void)state;
    autofree char *name = xasprintf("%0255d", 0);
    autofree char *path = in_folder(name);
    assert_int_equal(file_write_atomic(path, "x", 0600, NULL), 0);
    assert_int_equal(file_write_atomic(path, "y", 0600, NULL), 0);
    assert_int_equal(file_remove(path, NULL), 0);
}

static void unchanged_files_are_left_alone(void **state)
{
    (void)state;
    autofree char *path = in_folder("file");
    bool changed = false;
    struct stat before, after;
    assert_int_equal(file_write_if_changed(path, "one", 0600, &changed, NULL), 0);
    assert_true(changed);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(file_write_if_changed(path, "one", 0600, &changed, NULL), 0);
    assert_false(changed);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    static const char *const others[] = {"on", "one ", "two", ""};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(file_write_if_changed(path, others[i], 0600, &changed, NULL), 0);
        assert_true(changed);
        autofree char *text = NULL;
        assert_int_equal(file_read(path, 10, &text, NULL, NULL), 0);
        assert_string_equal(text, others[i]);
    }
}

#define WRITER_ROUNDS 200

static void *write_often(void *data)
{
    for (int i = 0; i < WRITER_ROUNDS; i++)
        if (file_write_atomic(data, i % 2 ? "aaaaaaaaaaaaaaaaaaaa" : "bbbbbbbbbb", 0600, NULL) < 0)
            return data;
    return NULL;
}

static void touch(const char *name)
{
    autofree char *path = in_folder(name);
    autoclose int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
}

static bool is_there(const char *name)
{
    autofree char *path = in_folder(name);
    return access(path, F_OK) == 0;
}

/* A child is killed between the creation of its temporary file and the rename. */
static void unfinished_files_are_swept(void **state)
{
    (void)state;
    autofree char *mine = xasprintf(".%d.%u.tmp", (int)getpid(), 7u);
    static const char *const kept[] = {"a.tmp",     ".1.2.3.4.tmp", ".1.x.tmp",
                                       ".1.2.tmpx", "..tmp",        ".1.2.3.tmp.json"};
    touch(".77.1.tmp"); /* as an earlier version called them */
    touch(".2147483.1.3.tmp");
    touch(".1.1.3.tmp"); /* process 1 runs, and is another one */
    touch(mine);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        touch(kept[i]);

    autostring_list struct string_list left = {0};
    assert_int_equal(files_sweep(folder, NULL), 0);
    assert_int_equal(folder_list(folder, &left, NULL), 0);
    assert_int_equal(left.count, sizeof kept / sizeof *kept);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        assert_true(is_there(kept[i]));
    autofree char *gone = in_folder("not-there");
    assert_int_equal(files_sweep(gone, NULL), 0);
}

static void *write_on(void *data)
{
    autofree char *path = in_folder("busy");
    atomic_bool *end = data;
    while (!atomic_load(end))
        assert_int_equal(file_write_atomic(path, "text", 0600, NULL), 0);
    return NULL;
}

/* A sweep beside a writer never takes its file away before it is renamed. */
static void a_sweep_spares_who_writes(void **state)
{
    (void)state;
    atomic_bool end = false;
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, write_on, &end), 0);
    for (int i = 0; i < 200; i++)
        assert_int_equal(files_sweep(folder, NULL), 0);
    atomic_store(&end, true);
    pthread_join(writer, NULL);
}

static void readers_see_old_or_new(void **state)
{
    (void)state;
    autofree char *path = in_folder("file");
    assert_int_equal(file_write_atomic(path, "bbbbbbbbbb", 0600, NULL), 0);
    pthread_t writers[3];
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_often, path), 0);
    for (int i = 0; i < 2000; i++) {
        autofree char *text = NULL;
        assert_int_equal(file_read(path, 100, &text, NULL, NULL), 0);
        assert_true(strcmp(text, "aaaaaaaaaaaaaaaaaaaa") == 0 || strcmp(text, "bbbbbbbbbb") == 0);
    }
    for (size_t i = 0; i < 3; i++) {
        void *failed;
        pthread_join(writers[i], &failed);
        assert_null(failed);
    }
    autostring_list struct string_list names = {0};
    assert_int_equal(folder_list(folder, &names, NULL), 0);
    assert_int_equal(names.count, 1);
}

static void folders(void **state)
{
    (void)state;
    autofree char *deep = in_folder("a/b//c/"), *file = in_folder("a/file"), *below = in_folder("a/file/x");
    assert_int_equal(folder_make(deep, 0750, NULL), 0);
    assert_int_equal(folder_make(deep, 0700, NULL), 0);
    assert_int_equal(folder_make("/", 0700, NULL), 0);
    assert_int_equal(folder_make("", 0700, NULL), -EINVAL);
    struct stat status;
    assert_int_equal(stat(deep, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0750);
    assert_int_equal(file_write_atomic(file, "x", 0600, NULL), 0);
    assert_int_equal(folder_make(file, 0700, NULL), -ENOTDIR);
    assert_int_equal(folder_make(below, 0700, NULL), -ENOTDIR);

    autofree char *a = in_folder("a"), *none = in_folder("none");
    autostring_list struct string_list names = {0}, empty = {0};
    assert_int_equal(folder_list(a, &names, NULL), 0);
    assert_int_equal(names.count, 2);
    assert_string_equal(names.items[0], "b");
    assert_string_equal(names.items[1], "file");
    assert_int_equal(folder_list(none, &empty, NULL), 0);
    assert_int_equal(empty.count, 0);
    assert_int_equal(folder_list(file, &empty, NULL), -ENOTDIR);
}

/* ---- Programs ---- */

static void programs_are_run_to_their_end(void **state)
{
    (void)state;
    autostrbuf struct strbuf output = {0};
    int status = -1;
    const char *const both[] = {"/bin/sh", "-c", "echo out; echo err >&2; cat", NULL};
    assert_int_equal(program_run(both, 30000, &output, &status, NULL), 0);
    assert_int_equal(status, 0);
    assert_string_equal(strbuf_string(&output), "out\nerr\n"); /* and standard input was empty */

    /* Arguments reach the program as they are. */
    strbuf_clear(&output);
    const char *const plain[] = {"printf", "%s|", "a b", "$HOME;*", "", "'\"", NULL};
    assert_int_equal(program_run(plain, 30000, &output, NULL, NULL), 0);
    assert_string_equal(strbuf_string(&output), "a b|$HOME;*||'\"|");
}

static void failures_of_programs(void **state)
{
    (void)state;
    autoerror struct error *error = NULL;
    int status = -1;
    autostrbuf struct strbuf output = {0};
    const char *const failing[] = {"/bin/sh", "-c", "echo first; echo the reason >&2; echo; exit 7", NULL};
    assert_int_equal(program_run(failing, 30000, &output, &status, &error), -EIO);
    assert_int_equal(status, 7);
    assert_non_null(strstr(error_message(error), "the reason"));
    assert_null(strchr(error_message(error), '\n'));

    const char *const killed[] = {"/bin/sh", "-c", "kill -9 $$", NULL};
    assert_int_equal(program_run(killed, 30000, NULL, &status, &error), -EIO);
    assert_int_equal(status, 128 + SIGKILL);

    const char *const absent[] = {"no-such-program-here", NULL};
    assert_int_equal(program_run(absent, 30000, NULL, NULL, &error), -ENOENT);
    assert_non_null(strstr(error_message(error), "no-such-program-here"));
    pid_t pid = -1;
    assert_int_equal(program_start(absent, NULL, &pid, &error), -ENOENT);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left behind */
}

static void programs_that_take_too_long(void **state)
{
    (void)state;
    autoerror struct error *error = NULL;
    int64_t before = clock_monotonic_ms();
    const char *const talking[] = {"/bin/sh", "-c", "while :; do echo x; done", NULL};
    assert_int_equal(program_run(talking, 200, NULL, NULL, &error), -ETIMEDOUT);
    const char *const silent[] = {"sleep", "60", NULL};
    assert_int_equal(program_run(silent, 100, NULL, NULL, &error), -ETIMEDOUT);
    const char *const closed[] = {"/bin/sh", "-c", "exec >&- 2>&-; exec sleep 60", NULL};
    assert_int_equal(program_run(closed, 100, NULL, NULL, &error), -ETIMEDOUT);
    assert_true(clock_monotonic_ms() - before < 30000);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* A daemon keeps the pipe open behind the program that started it: what counts is the program's end. */
static void programs_that_leave_a_child(void **state)
{
    (void)state;
    autofree char *note = in_folder("pid");
    autofree char *script = xasprintf("sleep 300 & echo $! >%s; echo started", note);
    autostrbuf struct strbuf output = {0};
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    int r = program_run(argv, 20000, &output, NULL, NULL);
    autofree char *text = NULL;
    assert_int_equal(file_read(note, 20, &text, NULL, NULL), 0);
    kill((pid_t)atoi(text), SIGKILL);
    assert_int_equal(r, 0);
    assert_string_equal(strbuf_string(&output), "started\n");
}

static void output_is_limited(void **state)
{
    (void)state;
    autostrbuf struct strbuf output = {0};
    const char *const argv[] = {"head", "-c", "3000000", "/dev/zero", NULL};
    assert_int_equal(program_run(argv, 30000, &output, NULL, NULL), 0);
    assert_in_range(output.length, 1 << 20, (1 << 20) + 4096);
}

static void children_start_with_plain_signals(void **state)
{
    (void)state;
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    signal(SIGPIPE, SIG_IGN);
    autostrbuf struct strbuf output = {0};
    const char *const argv[] = {"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status", NULL};
    assert_int_equal(program_run(argv, 30000, &output, NULL, NULL), 0);
    unsigned long long blocked_mask = 1, ignored_mask = 1;
    assert_int_equal(
        sscanf(strbuf_string(&output), "SigBlk: %llx SigIgn: %llx", &blocked_mask, &ignored_mask), 2);
    assert_int_equal(blocked_mask, 0);
    /* The C library keeps signals 32 and 33 for itself. */
    assert_int_equal(ignored_mask & ~(3ull << 31), 0);
    signal(SIGPIPE, SIG_DFL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void children_inherit_no_descriptors(void **state)
{
    (void)state;
    autoclose int inherited = fcntl(STDIN_FILENO, F_DUPFD, 100); /* the shell has low ones of its own */
    assert_true(inherited >= 100);
    autostrbuf struct strbuf output = {0};
    const char *const argv[] = {"/bin/sh", "-c", "for fd in /proc/$$/fd/*; do echo ${fd##*/}; done", NULL};
    assert_int_equal(program_run(argv, 30000, &output, NULL, NULL), 0);
    autofree char *listed = xasprintf("\n%s", strbuf_string(&output));
    autofree char *number = xasprintf("\n%d\n", inherited);
    assert_non_null(strstr(listed, "\n0\n1\n2\n"));
    assert_null(strstr(listed, number));
}

static void started_programs_have_their_session_and_log(void **state)
{
    (void)state;
    autofree char *log = in_folder("log"), *text = NULL;
    assert_int_equal(file_write_atomic(log, "before\n", 0600, NULL), 0);
    pid_t pid = -1;
    const char *const argv[] = {"/bin/sh", "-c", "echo out; echo err >&2; ps -o sid= -p $$ | tr -d ' '",
                                NULL};
    assert_int_equal(program_start(argv, log, &pid, NULL), 0);
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(file_read(log, 1000, &text, NULL, NULL), 0);
    autofree char *expected = xasprintf("before\nout\nerr\n%d\n", (int)pid);
    assert_string_equal(text, expected);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(write_and_read),
        TEST(a_failed_write_leaves_nothing),
        TEST(names_of_full_length),
        TEST(unchanged_files_are_left_alone),
        TEST(unfinished_files_are_swept),
        TEST(a_sweep_spares_who_writes),
        TEST(readers_see_old_or_new),
        TEST(folders),
        TEST(programs_are_run_to_their_end),
        TEST(failures_of_programs),
        TEST(programs_that_take_too_long),
        TEST(programs_that_leave_a_child),
        TEST(output_is_limited),
        TEST(children_start_with_plain_signals),
        TEST(children_inherit_no_descriptors),
        TEST(started_programs_have_their_session_and_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
