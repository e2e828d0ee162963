/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What is particular to the embedded backend: its file, its lock, a full disk, damage. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "blockd/store/store.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

static char folder[40];
static char *path, *url;
static struct store *store;

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test-embedded-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    path = xasprintf("%s/new/store.db", folder);
    url = xasprintf("sqlite:%s", path);
    return store_open(url, &store, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    store_close(store);
    store = NULL;
    static const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        autofree char *file = xasprintf("%s%s", path, suffixes[i]);
        unlink(file);
    }
    autofree char *new = xasprintf("%s/new", folder);
    rmdir(new);
    free(path);
    free(url);
    return rmdir(folder);
}

static int put(const char *key, const char *value)
{
    struct store_op op = {.kind = STORE_PUT, .key = key, .value = value};
    return store_commit(store, &op, 1, NULL, NULL);
}

static void assert_mode(const char *file, mode_t mode)
{
    struct stat status;
    assert_int_equal(stat(file, &status), 0);
    assert_int_equal(status.st_mode & 07777, mode);
}

static void files_are_for_the_owner_only(void **state)
{
    (void)state;
    assert_int_equal(put("k", "1"), 0);
    autofree char *parent = xasprintf("%s/new", folder);
    autofree char *wal = xasprintf("%s-wal", path);
    assert_mode(parent, 0700);
    assert_mode(path, 0600);
    assert_mode(wal, 0600);
}

static void one_process_has_it(void **state)
{
    (void)state;
    struct store *second = NULL;
    autoerror struct error *error = NULL;
    assert_int_equal(store_open(url, &second, &error), -EBUSY);
    assert_null(second);
    assert_non_null(strstr(error_message(error), path));
    store_close(store);
    store = NULL;
    assert_int_equal(store_open(url, &store, &error), 0);
}

static void bad_urls(void **state)
{
    (void)state;
    struct store *other = NULL;
    static const char *const urls[] = {"sqlite:",
                                       "sqlite:relative",
                                       "sqlite:/",
                                       "sqlite",
                                       "/tmp/x",
                                       "sqlite:/tmp/x?history=0",
                                       "sqlite:/tmp/x?history=-1",
                                       "sqlite:/tmp/x?history=",
                                       "sqlite:/tmp/x?history=9x"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++)
        assert_int_equal(store_open(urls[i], &other, NULL), -EINVAL);
}

/* ---- Damage ---- */

static void close_and_run_sql(const char *sql)
{
    store_close(store);
    store = NULL;
    sqlite3 *sqlite = NULL;
    assert_int_equal(sqlite3_open(path, &sqlite), SQLITE_OK);
    assert_int_equal(sqlite3_exec(sqlite, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(sqlite);
}

static void newer_formats_are_refused(void **state)
{
    (void)state;
    autoerror struct error *error = NULL;
    close_and_run_sql("PRAGMA user_version = 99");
    assert_int_equal(store_open(url, &store, &error), -EPROTONOSUPPORT);
    assert_non_null(strstr(error_message(error), "99"));
    assert_non_null(strstr(error_message(error), path));
}

static void other_databases_are_left_alone(void **state)
{
    (void)state;
    autoerror struct error *error = NULL;
    close_and_run_sql("PRAGMA application_id = 7");
    assert_int_equal(store_open(url, &store, &error), -EINVAL);
    assert_non_null(strstr(error_message(error), "another program"));
}

static void overwrite(off_t offset, size_t length)
{
    autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    autofree char *garbage = xcalloc(length, 1);
    memset(garbage, 0x5a, length);
    assert_int_equal(pwrite(fd, garbage, length, offset), (ssize_t)length);
}

static void damage_is_told(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++) {
        autofree char *key = xasprintf("blocks/v/%d", i);
        assert_int_equal(
            put(key, "{\"some\":\"value that fills pages, so that there is something to damage\"}"), 0);
    }
    store_close(store);
    store = NULL;
    autofree char *good = NULL;
    size_t length;
    assert_int_equal(file_read(path, 1 << 24, &good, &length, NULL), 0);
    assert_true(length > 8 * 4096);

    static const struct {
        off_t offset;
        size_t length;
    } damages[] = {{0, 100}, {4096, 4096}, {3 * 4096, 16384}};
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        autoerror struct error *error = NULL;
        overwrite(damages[i].offset, damages[i].length);
        assert_int_equal(store_open(url, &store, &error), -EUCLEAN);
        assert_null(store);
        assert_non_null(strstr(error_message(error), path));
        assert_non_null(strstr(error_message(error), "corrupt"));
        /* The next damage is done to the good file. */
        autoclose int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_int_equal(write(fd, good, length), (ssize_t)length);
    }
    assert_int_equal(truncate(path, (off_t)length / 2), 0);
    assert_int_equal(store_open(url, &store, NULL), -EUCLEAN);
}

static void an_empty_file_is_a_new_store(void **state)
{
    (void)state;
    assert_int_equal(put("k", "1"), 0);
    store_close(store);
    store = NULL;
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(store_open(url, &store, NULL), 0);
    struct store_entry entry;
    assert_int_equal(store_get(store, "k", &entry, NULL), -ENOENT);
}

/* ---- A full disk ---- */

#define VALUE_SIZE   20000
#define NO_NAMESPACE 77

static atomic_int refused, accepted, wrong;

static void *put_large(void *data)
{
    autofree char *value = xcalloc(VALUE_SIZE + 1, 1);
    memset(value, 'v', VALUE_SIZE);
    for (int i = 0; i < 40; i++) {
        autofree char *key = xasprintf("large/%p/%d", data, i);
        int r = put(key, value);
        atomic_fetch_add(r == 0 ? &accepted : r == -ENOSPC ? &refused : &wrong, 1);
    }
    return NULL;
}

#define require(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                          \
            return 1;                                                                                        \
        }                                                                                                    \
    } while (0)

static int fill_and_free(const char *mount_point)
{
    autofree char *ballast = xasprintf("%s/ballast", mount_point);
    autofree char *full_url = xasprintf("sqlite:%s/store.db", mount_point);
    autoclose int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    require(fd >= 0 && posix_fallocate(fd, 0, 6 << 20) == 0);
    require(store_open(full_url, &store, NULL) == 0);
    require(put("small", "1") == 0);

    pthread_t threads[8];
    char marks[8];
    for (size_t i = 0; i < 8; i++)
        require(pthread_create(&threads[i], NULL, put_large, &marks[i]) == 0);
    for (size_t i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    require(wrong == 0);
    require(refused > 0);
    require(accepted > 0);

    /* Everything that was acknowledged is there and nothing else; reading still works. */
    struct store_list list = {0};
    require(store_list(store, "large/", NULL, 0, &list, NULL) == 0);
    require(list.count == (size_t)accepted);
    for (size_t i = 0; i < list.count; i++)
        require(strlen(list.entries[i].value) == VALUE_SIZE);
    store_list_clear(&list);

    /* Space returns: the same open store goes on. */
    require(unlink(ballast) == 0 && ftruncate(fd, 0) == 0);
    require(put("small", "2") == 0);
    require(put("large/again", "2") == 0);
    store_close(store);
    store = NULL;
    require(store_open(full_url, &store, NULL) == 0);
    struct store_entry entry = {0};
    require(store_get(store, "small", &entry, NULL) == 0 && strcmp(entry.value, "2") == 0);
    store_entry_clear(&entry);
    store_close(store);
    return 0;
}

static int write_text(const char *file, const char *text)
{
    autoclose int fd = open(file, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
}

/* Mounting needs root: an ordinary user is root in a user namespace of its own. */
static int become_root(void)
{
    autofree char *users = xasprintf("0 %u 1", geteuid());
    autofree char *groups = xasprintf("0 %u 1", getegid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || write_text("/proc/self/setgroups", "deny") < 0 ||
                   write_text("/proc/self/uid_map", users) < 0 || write_text("/proc/self/gid_map", groups) < 0
               ? -1
               : 0;
}

/* A small file system of our own; where user namespaces are forbidden there is none. */
static int in_namespace(const char *mount_point)
{
    if ((geteuid() == 0 ? unshare(CLONE_NEWNS) : become_root()) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", mount_point, "tmpfs", 0, "size=8m") < 0)
        return NO_NAMESPACE;
    return fill_and_free(mount_point);
}

/* A child with a mount namespace of its own: its exit status. */
static int run_in_namespace(void)
{
    autofree char *mount_point = xasprintf("%s/new", folder);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(in_namespace(mount_point));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_full_disk_is_an_error_and_no_end(void **state)
{
    (void)state;
    store_close(store);
    store = NULL;
    int status = run_in_namespace();
    if (status == NO_NAMESPACE)
        skip();
    assert_int_equal(status, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_are_for_the_owner_only),
        TEST(one_process_has_it),
        TEST(bad_urls),
        TEST(newer_formats_are_refused),
        TEST(other_databases_are_left_alone),
        TEST(damage_is_told),
        TEST(an_empty_file_is_a_new_store),
        TEST(a_full_disk_is_an_error_and_no_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
