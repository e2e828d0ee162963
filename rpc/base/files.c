/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "alloc.h"
#include "strings.h"

int file_read(const char *path, size_t limit, char **ret_text, size_t *ret_length, struct error **ret_error)
{
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(ret_error, errno, "cannot open %s: %s", path, strerror(errno));

    autostrbuf struct strbuf text = {0};
    char chunk[8192];
    for (;;) {
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(ret_error, errno, "cannot read %s: %s", path, strerror(errno));
        if (got == 0)
            break;
        if (text.length + (size_t)got > limit)
            return error_set(ret_error, EFBIG, "%s is larger than %zu bytes", path, limit);
        strbuf_add(&text, chunk, (size_t)got);
    }
    if (ret_length)
        *ret_length = text.length;
    *ret_text = strbuf_steal(&text);
    return 0;
}

static int write_all(int fd, const char *text, size_t length)
{
    while (length) {
        ssize_t written = write(fd, text, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        text += written;
        length -= (size_t)written;
    }
    return 0;
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return xstrdup(".");
    return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

/* ---- Temporary names ---- */

/* Field 22 of /proc/PID/stat, when the process began: with it a pid is one process for good. 0: none runs. */
static unsigned long long process_start(int pid)
{
    autofree char *path = xasprintf("/proc/%d/stat", pid);
    autofree char *text = NULL;
    unsigned long long start = 0;
    if (file_read(path, 8192, &text, NULL, NULL) < 0)
        return 0;
    const char *rest = strrchr(text, ')'); /* the program's name before it may hold any byte */
    if (!rest ||
        sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &start) != 1)
        return 0;
    return start;
}

/*
 * Two threads may write the same path: each takes a name of its own. It has no part of the file's name, which
 * may be as long as a name can be, and tells the process, so that what a dead one left is known.
 */
static char *temporary_name(const char *folder)
{
    static atomic_uint serial;
    static atomic_ullong start;
    if (!atomic_load(&start))
        atomic_store(&start, process_start((int)getpid()));
    return xasprintf("%s/.%d.%llu.%u.tmp", folder, (int)getpid(), atomic_load(&start),
                     atomic_fetch_add(&serial, 1));
}

/* Without a start the name is one of an earlier version. */
static bool parse_unfinished(const char *name, int *ret_pid, unsigned long long *ret_start)
{
    int length = 0;
    *ret_start = 0;
    if (sscanf(name, ".%9d.%*[0-9].tmp%n", ret_pid, &length) == 1 && length && !name[length])
        return true;
    length = 0;
    return sscanf(name, ".%9d.%19llu.%*[0-9].tmp%n", ret_pid, ret_start, &length) == 2 && length &&
           !name[length];
}

bool file_is_unfinished(const char *name)
{
    int pid;
    unsigned long long start;
    return parse_unfinished(name, &pid, &start) && (!start || process_start(pid) != start);
}

int files_sweep(const char *folder, struct error **ret_error)
{
    autostring_list struct string_list names = {0};
    int r = folder_list(folder, &names, ret_error);
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        autofree char *path = xasprintf("%s/%s", folder, names.items[i]);
        if (file_is_unfinished(names.items[i]))
            r = file_remove(path, ret_error);
    }
    return r;
}

int folder_sync(const char *path, struct error **ret_error)
{
    autoclose int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return error_set(ret_error, errno, "cannot make what is in the folder %s durable: %s", path,
                         strerror(errno));
    return 0;
}

int file_write_atomic(const char *path, const char *text, mode_t mode, struct error **ret_error)
{
    autofree char *folder = folder_of(path);
    autofree char *temporary = temporary_name(folder);
    autoclose int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return error_set(ret_error, errno, "cannot create %s: %s", temporary, strerror(errno));

    int r = write_all(fd, text, strlen(text));
    if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0 || rename(temporary, path) < 0))
        r = -errno;
    if (r < 0) {
        unlink(temporary);
        return error_set(ret_error, -r, "cannot write %s: %s", path, strerror(-r));
    }
    return folder_sync(folder, ret_error);
}

int file_write_if_changed(const char *path, const char *text, mode_t mode, bool *ret_changed,
                          struct error **ret_error)
{
    autofree char *present = NULL;
    bool same = file_read(path, strlen(text), &present, NULL, NULL) == 0 && strcmp(present, text) == 0;
    if (!same) {
        int r = file_write_atomic(path, text, mode, ret_error);
        if (r < 0)
            return r;
    }
    if (ret_changed)
        *ret_changed = !same;
    return 0;
}

int file_remove(const char *path, struct error **ret_error)
{
    if (unlink(path) < 0 && errno != ENOENT)
        return error_set(ret_error, errno, "cannot remove %s: %s", path, strerror(errno));
    return 0;
}

int file_remove_durably(const char *path, struct error **ret_error)
{
    autofree char *folder = folder_of(path);
    int r = file_remove(path, ret_error);
    return r < 0 ? r : folder_sync(folder, ret_error);
}

int folder_make(const char *path, mode_t mode, struct error **ret_error)
{
    if (!*path)
        return error_set(ret_error, EINVAL, "the path of a folder is empty");
    autofree char *partial = xstrdup(path);
    for (char *slash = partial + 1;; slash++) {
        slash += strcspn(slash, "/");
        bool last = *slash == '\0';
        *slash = '\0';
        bool made = mkdir(partial, mode) == 0;
        if (!made && errno != EEXIST)
            return error_set(ret_error, errno, "cannot create the folder %s: %s", partial, strerror(errno));
        autofree char *parent = made ? folder_of(partial) : NULL;
        int r = made ? folder_sync(parent, ret_error) : 0;
        if (r < 0)
            return r;
        if (last)
            break;
        *slash = '/';
    }
    struct stat status;
    if (stat(path, &status) < 0)
        return error_set(ret_error, errno, "cannot stat %s: %s", path, strerror(errno));
    if (!S_ISDIR(status.st_mode))
        return error_set(ret_error, ENOTDIR, "%s is not a folder", path);
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int folder_list(const char *path, struct string_list *ret_names, struct error **ret_error)
{
    autoclosedir DIR *folder = opendir(path);
    if (!folder && errno == ENOENT)
        return 0;
    if (!folder)
        return error_set(ret_error, errno, "cannot open the folder %s: %s", path, strerror(errno));

    struct string_list names = {0};
    for (struct dirent *entry; errno = 0, (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            string_list_add(&names, entry->d_name);
    if (errno) {
        string_list_clear(&names);
        return error_set(ret_error, EIO, "cannot read the folder %s", path);
    }
    if (names.count)
        qsort(names.items, names.count, sizeof *names.items, compare_names);
    *ret_names = names;
    return 0;
}

char *program_relative(const char *path)
{
    autofree char *self = realpath("/proc/self/exe", NULL);
    char *slash = self ? strrchr(self, '/') : NULL;
    if (!slash)
        return NULL;
    autofree char *beside = xasprintf("%.*s/%s", (int)(slash - self), self, path);
    return realpath(beside, NULL);
}
