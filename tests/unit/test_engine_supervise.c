/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Supervision of real processes (sleep), with pid files in a folder of its own; and of units by a systemctl
 * that takes notes. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "blockd/engine/supervise_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/files.h"

#define PATIENCE_MS 60000

static char folder[64];
static char *run_dir, *log_dir, *processes;
static struct config config;

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/engine-test-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    run_dir = xasprintf("%s/run", folder);
    log_dir = xasprintf("%s/log", folder);
    processes = xasprintf("%s/processes", run_dir);
    config = (struct config){
        .run_dir = run_dir, .log_dir = log_dir, .state_dir = folder, .supervisor = SUPERVISOR_CHILDREN};
    return 0;
}

static void empty(const char *path)
{
    autostring_list struct string_list names = {0};
    folder_list(path, &names, NULL);
    for (size_t i = 0; i < names.count; i++) {
        autofree char *name = xasprintf("%s/%s", path, names.items[i]);
        unlink(name);
    }
    rmdir(path);
}

static int remove_folder(void **state)
{
    (void)state;
    empty(processes);
    empty(run_dir);
    empty(log_dir);
    empty(folder);
    free(processes);
    free(run_dir);
    free(log_dir);
    return access(folder, F_OK) == 0 ? -1 : 0;
}

/* ---- Helpers ---- */

static struct supervisor *start(void)
{
    struct supervisor *supervisor = NULL;
    const struct supervisor_options options = {.config = &config, .config_path = "/etc/blockd/blockd.conf"};
    assert_int_equal(supervisor_new(&options, &supervisor, NULL), 0);
    return supervisor;
}

/* A plan for a sleep that no other test, and no other run of this one, has. */
static struct process_plan sleeper(const char *id, const char *version)
{
    static unsigned serial;
    struct process_plan plan = {
        .id = xstrdup(id),
        .name = xasprintf("sleeper %s", id),
        .unit = xasprintf("blockd-%s.service", id),
        .log_path = xasprintf("%s/%s.log", log_dir, id),
        .version = xstrdup(version),
    };
    string_list_add(&plan.argv, "/bin/sleep");
    string_list_addf(&plan.argv, "%d.%04u", 1000000 + (int)getpid(), serial++);
    return plan;
}

static struct process_view look(struct supervisor *supervisor, const char *id)
{
    struct process_view view = {.state = PROCESS_STOPPED};
    supervisor->ops->look(supervisor, id, &view);
    return view;
}

/* A pid that runs and is not `other`, once there is one. */
static pid_t await_pid(struct supervisor *supervisor, const char *id, pid_t other)
{
    int64_t deadline = clock_monotonic_ms() + PATIENCE_MS;
    for (;;) {
        cleanup(process_view_clear) struct process_view view = look(supervisor, id);
        if (view.pid && view.pid != other &&
            (view.state == PROCESS_STARTING || view.state == PROCESS_RUNNING))
            return view.pid;
        assert_true(clock_monotonic_ms() < deadline);
        poll(NULL, 0, 5);
    }
}

static bool is_alive(pid_t pid)
{
    cleanup(process_identity_clear) struct process_identity identity = {0};
    return process_identify(pid, &identity, NULL) == 0;
}

static void down(struct supervisor *supervisor, const struct process_plan *plan)
{
    assert_int_equal(supervisor->ops->down(supervisor, plan, NULL), 0);
}

#define UP(supervisor, plan) assert_int_equal((supervisor)->ops->up((supervisor), &(plan), NULL), 0)

/* ---- Children ---- */

static void killed_child_comes_back(void **state)
{
    (void)state;
    struct supervisor *supervisor = start();
    cleanup(process_plan_clear) struct process_plan plan = sleeper("again", NULL);
    UP(supervisor, plan);
    pid_t first = await_pid(supervisor, "again", 0);
    UP(supervisor, plan);
    assert_int_equal(await_pid(supervisor, "again", 0), first);

    kill(first, SIGKILL);
    pid_t second = await_pid(supervisor, "again", first);
    cleanup(process_view_clear) struct process_view view = look(supervisor, "again");
    assert_int_equal(view.restarts, 1);
    assert_non_null(strstr(view.error, "signal 9"));
    assert_int_equal(waitpid(first, NULL, WNOHANG), -1); /* it was reaped */

    down(supervisor, &plan);
    assert_false(is_alive(second));
    down(supervisor, &plan);
    assert_false(supervisor->ops->look(supervisor, "never", &(struct process_view){0}));
    supervisor_free(supervisor);
}

/* Ends the supervisor and starts another one, as a restart of blockd does. */
static pid_t restarted(struct process_plan *plan, struct supervisor **supervisor)
{
    supervisor_free(*supervisor);
    *supervisor = start();
    UP(*supervisor, *plan);
    return await_pid(*supervisor, plan->id, 0);
}

static void next_supervisor_adopts(void **state)
{
    (void)state;
    struct supervisor *supervisor = start();
    cleanup(process_plan_clear) struct process_plan plan = sleeper("kept", "1");
    autofree char *pidfile = xasprintf("%s/kept.pid", processes);
    UP(supervisor, plan);
    pid_t pid = await_pid(supervisor, "kept", 0);
    assert_int_equal(restarted(&plan, &supervisor), pid);

    /* An earlier blockd died between the start and the pid file. */
    free(plan.version);
    plan.version = NULL;
    assert_int_equal(unlink(pidfile), 0);
    assert_int_equal(restarted(&plan, &supervisor), pid);
    assert_int_equal(access(pidfile, F_OK), 0);

    /* It also stops what an earlier one started. */
    supervisor_free(supervisor);
    supervisor = start();
    down(supervisor, &plan);
    assert_false(is_alive(pid));
    assert_int_equal(access(pidfile, F_OK), -1);
    supervisor_free(supervisor);
}

static void foreign_pid_is_left_alone(void **state)
{
    (void)state;
    assert_int_equal(folder_make(processes, 0755, NULL), 0);
    autofree char *pidfile = xasprintf("%s/other.pid", processes);
    cleanup(process_identity_clear) struct process_identity mine = {0};
    assert_int_equal(process_identify(getpid(), &mine, NULL), 0);
    mine.start--; /* the pid of this process, as an earlier process had it */
    assert_int_equal(pidfile_write(pidfile, &mine, NULL), 0);

    struct supervisor *supervisor = start();
    cleanup(process_plan_clear) struct process_plan plan = sleeper("other", NULL);
    UP(supervisor, plan);
    assert_int_not_equal(await_pid(supervisor, "other", 0), getpid());
    down(supervisor, &plan);

    mine.start++;
    strcpy(mine.boot, "of-another-boot");
    assert_int_equal(pidfile_write(pidfile, &mine, NULL), 0);
    UP(supervisor, plan);
    assert_int_not_equal(await_pid(supervisor, "other", 0), getpid());
    down(supervisor, &plan);
    supervisor_free(supervisor);
}

static void other_version_restarts(void **state)
{
    (void)state;
    struct supervisor *supervisor = start();
    cleanup(process_plan_clear) struct process_plan plan = sleeper("versioned", "1");
    UP(supervisor, plan);
    pid_t first = await_pid(supervisor, "versioned", 0);
    plan.version[0] = '2';
    UP(supervisor, plan);
    pid_t second = await_pid(supervisor, "versioned", first);
    assert_int_equal(restarted(&plan, &supervisor), second);
    plan.version[0] = '3';
    supervisor_free(supervisor);
    supervisor = start();
    UP(supervisor, plan);
    await_pid(supervisor, "versioned", second);
    assert_false(is_alive(second));
    down(supervisor, &plan);
    supervisor_free(supervisor);
}

static void failing_child_says_why(void **state)
{
    (void)state;
    struct supervisor *supervisor = start();
    cleanup(process_plan_clear) struct process_plan plan = sleeper("broken", NULL);
    string_list_clear(&plan.argv);
    string_list_add(&plan.argv, "/bin/sh");
    string_list_add(&plan.argv, "-c");
    string_list_add(&plan.argv, "echo '[now] E [x] the port is taken'; echo going; exit 3");
    UP(supervisor, plan);
    int64_t deadline = clock_monotonic_ms() + PATIENCE_MS;
    for (bool done = false; !done; poll(NULL, 0, 5)) {
        cleanup(process_view_clear) struct process_view view = look(supervisor, "broken");
        done = view.failures >= 2;
        if (view.failures)
            assert_string_equal(view.error, "ended with status 3: [now] E [x] the port is taken");
        assert_true(clock_monotonic_ms() < deadline);
    }
    down(supervisor, &plan);

    free(plan.argv.items[0]);
    plan.argv.items[0] = xstrdup("/nonexistent/program");
    UP(supervisor, plan);
    for (bool done = false; !done; poll(NULL, 0, 5)) {
        cleanup(process_view_clear) struct process_view view = look(supervisor, "broken");
        done = view.error && strstr(view.error, "/nonexistent/program") && view.state == PROCESS_BACKOFF;
        assert_true(clock_monotonic_ms() < deadline);
    }
    down(supervisor, &plan);
    supervisor_free(supervisor);
}

static void backoff_grows_to_its_limit(void **state)
{
    (void)state;
    assert_true(supervise_backoff_ms(0) < 1000);
    assert_true(supervise_backoff_ms(1) < 1000);
    for (uint64_t i = 0; i < 20; i++)
        assert_true(supervise_backoff_ms(i + 1) >= supervise_backoff_ms(i));
    assert_int_equal(supervise_backoff_ms(UINT64_MAX), 30000);
}

/* ---- Pid files ---- */

static void pid_files(void **state)
{
    (void)state;
    autofree char *path = xasprintf("%s/x.pid", folder);
    cleanup(process_identity_clear) struct process_identity mine = {0}, back = {0};
    assert_int_equal(process_identify(getpid(), &mine, NULL), 0);
    mine.version = xstrdup("abc");
    assert_int_equal(pidfile_read(path, &back, NULL), -ENOENT);
    assert_int_equal(pidfile_write(path, &mine, NULL), 0);
    assert_int_equal(pidfile_read(path, &back, NULL), 0);
    assert_int_equal(back.pid, mine.pid);
    assert_int_equal(back.start, mine.start);
    assert_string_equal(back.boot, mine.boot);
    assert_string_equal(back.version, "abc");

    static const char *const bad[] = {"", "123\n", "pid -1\nstart 1\nboot x\nversion -\n", "pid 1\nstart\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct process_identity none = {0};
        assert_int_equal(file_write_atomic(path, bad[i], 0644, NULL), 0);
        assert_int_equal(pidfile_read(path, &none, NULL), -EINVAL);
    }

    pid_t zombie = fork();
    if (zombie == 0)
        _exit(0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)zombie, &info, WEXITED | WNOWAIT), 0);
    struct process_identity none = {0};
    assert_int_equal(process_identify(zombie, &none, NULL), -ESRCH);
    waitpid(zombie, NULL, 0);
    assert_int_equal(process_identify(zombie, &none, NULL), -ESRCH);
    assert_int_equal(process_identify(0, &none, NULL), -ESRCH);
}

/* ---- Logs ---- */

static void logs(void **state)
{
    (void)state;
    assert_int_equal(folder_make(log_dir, 0755, NULL), 0);
    autofree char *path = xasprintf("%s/a.log", log_dir);
    autofree char *older = xasprintf("%s/a.log.1", log_dir);
    autofree char *absent = log_telling_line("/nonexistent", 0, false);
    assert_string_equal(absent, "");
    assert_int_equal(
        file_write_atomic(path, "[1] E [old]\n[2] E [x] why\n[2] E [x] so\n[2] W [x] bye\x01\n", 0644, NULL),
        0);
    autofree char *first = log_telling_line(path, 12, true);
    assert_string_equal(first, "[2] E [x] why");
    autofree char *last = log_telling_line(path, 12, false);
    assert_string_equal(last, "[2] E [x] so");
    autofree char *bye = log_telling_line(path, 39, true);
    assert_string_equal(bye, "[2] W [x] bye?");

    /* A writer that has it open for appending goes on in the emptied file. */
    FILE *writer cleanup(cleanup_fclose) = fopen(path, "a");
    logs_trim(log_dir, 1000);
    assert_int_equal(access(older, F_OK), -1);
    logs_trim(log_dir, 10);
    autofree char *kept = NULL;
    assert_int_equal(file_read(older, 1000, &kept, NULL, NULL), 0);
    assert_non_null(strstr(kept, "why"));
    fputs("next\n", writer);
    fflush(writer);
    autofree char *now = NULL;
    assert_int_equal(file_read(path, 1000, &now, NULL, NULL), 0);
    assert_string_equal(now, "next\n");
}

/* ---- systemd ---- */

static char *notes(void)
{
    autofree char *path = xasprintf("%s/notes", folder);
    char *text = NULL;
    return file_read(path, 1u << 20, &text, NULL, NULL) == 0 ? text : xstrdup("");
}

/* What was asked of systemctl but for "show", which is asked when it suits. */
static char *orders(void)
{
    autofree char *text = notes();
    autostring_list struct string_list lines = {0};
    string_list_split(&lines, text, '\n');
    struct strbuf list = {0};
    for (size_t i = 0; i < lines.count; i++)
        if (*lines.items[i] && !string_starts_with(lines.items[i], "show"))
            strbuf_addf(&list, "%s\n", lines.items[i]);
    return strbuf_steal(&list);
}

static void await_state(struct supervisor *supervisor, const char *id, enum process_state state)
{
    int64_t deadline = clock_monotonic_ms() + PATIENCE_MS;
    for (bool done = false; !done; poll(NULL, 0, 5)) {
        cleanup(process_view_clear) struct process_view view = look(supervisor, id);
        done = view.state == state;
        assert_true(clock_monotonic_ms() < deadline);
    }
}

static struct supervisor *start_systemd(const char *systemctl, const char *units_env)
{
    struct supervisor *supervisor = NULL;
    config.supervisor = SUPERVISOR_SYSTEMD;
    const struct supervisor_options options = {
        .config = &config,
        .systemctl = systemctl,
        .units_env = units_env,
        .config_path = "/etc/blockd/blockd.conf",
    };
    int r = supervisor_new(&options, &supervisor, NULL);
    config.supervisor = SUPERVISOR_CHILDREN;
    assert_int_equal(r, 0);
    return supervisor;
}

static void units_by_systemctl(void **state)
{
    (void)state;
    autofree char *systemctl = xasprintf("%s/systemctl", folder);
    autofree char *env = xasprintf("%s/units.env", folder);
    autofree char *script = xasprintf("#!/bin/sh\necho \"$*\" >>%s/notes\n"
                                      "[ -e %s/masked ] && echo 'Unit is masked.' && exit 1\n"
                                      "[ \"$1\" = show ] && cat %s/answer\nexit 0\n",
                                      folder, folder, folder);
    autofree char *answer = xasprintf("%s/answer", folder);
    autofree char *running = xasprintf(
        "MainPID=%d\nNRestarts=4\nResult=success\nId=blockd-heal.service\nActiveState=active\n\n"
        "MainPID=0\nNRestarts=9\nResult=signal\nId=blockd-brick@v.d.service\nActiveState=activating\n",
        (int)getpid());
    assert_int_equal(file_write_atomic(systemctl, script, 0755, NULL), 0);
    assert_int_equal(file_write_atomic(answer, running, 0644, NULL), 0);

    struct supervisor *supervisor = start_systemd(systemctl, env);
    cleanup(process_plan_clear) struct process_plan heal = sleeper("heal", "1");
    cleanup(process_plan_clear) struct process_plan brick = sleeper("brick.v.d", NULL);
    free(brick.unit);
    brick.unit = xstrdup("blockd-brick@v.d.service");
    UP(supervisor, heal);
    UP(supervisor, brick);
    await_state(supervisor, "heal", PROCESS_RUNNING);
    await_state(supervisor, "brick.v.d", PROCESS_BACKOFF);
    cleanup(process_view_clear) struct process_view view = look(supervisor, "heal");
    assert_int_equal(view.pid, getpid());
    assert_int_equal(view.restarts, 4);

    UP(supervisor, heal); /* nothing new: no order */
    heal.version[0] = '2';
    UP(supervisor, heal);
    supervisor_free(supervisor);
    supervisor = start_systemd(systemctl, env); /* the version is known across a restart of blockd */
    UP(supervisor, heal);
    down(supervisor, &heal);
    autofree char *told = orders();
    assert_string_equal(told, "restart --no-block blockd-heal.service\n"
                              "start --no-block blockd-brick@v.d.service\n"
                              "restart --no-block blockd-heal.service\n"
                              "start --no-block blockd-heal.service\n"
                              "stop --quiet blockd-heal.service\n");
    autofree char *wanted = xasprintf("BLOCKD_STATE_DIR=\"%s\"\nBLOCKD_LOG_DIR=\"%s\"\n"
                                      "BLOCKD_RUN_DIR=\"%s\"\nBLOCKD_CONFIG=\"/etc/blockd/blockd.conf\"\n",
                                      folder, log_dir, run_dir);
    autofree char *folders = NULL;
    assert_int_equal(file_read(env, 1000, &folders, NULL, NULL), 0);
    assert_string_equal(folders, wanted);

    autofree char *masked = xasprintf("%s/masked", folder);
    assert_int_equal(file_write_atomic(masked, "", 0644, NULL), 0);
    autoerror struct error *error = NULL;
    assert_int_equal(supervisor->ops->up(supervisor, &heal, &error), -EIO);
    assert_non_null(strstr(error_message(error), "Unit is masked."));
    supervisor_free(supervisor);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(killed_child_comes_back),
        TEST(next_supervisor_adopts),
        TEST(foreign_pid_is_left_alone),
        TEST(other_version_restarts),
        TEST(failing_child_says_why),
        TEST(backoff_grows_to_its_limit),
        TEST(pid_files),
        TEST(logs),
        TEST(units_by_systemctl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
