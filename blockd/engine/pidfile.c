/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/engine/supervise_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

#define PIDFILE_LIMIT 4096
#define ARGV_LIMIT    (128u << 10)

void process_identity_clear(struct process_identity *identity)
{
    free(identity->version);
    *identity = (struct process_identity){0};
}

static int read_boot(char boot[40], struct error **ret_error)
{
    autofree char *text = NULL;
    int r = file_read("/proc/sys/kernel/random/boot_id", 64, &text, NULL, ret_error);
    if (r < 0)
        return r;
    text[strcspn(text, "\n")] = '\0';
    snprintf(boot, 40, "%s", text);
    return 0;
}

int process_identify(pid_t pid, struct process_identity *ret_identity, struct error **ret_error)
{
    autofree char *path = xasprintf("/proc/%d/stat", (int)pid);
    autofree char *text = NULL;
    if (pid <= 0 || file_read(path, 8192, &text, NULL, NULL) < 0)
        return error_set(ret_error, ESRCH, "there is no process %d", (int)pid);

    /* The second field is the program's name in parentheses, and may hold any byte: what counts follows the
     * last. */
    const char *rest = strrchr(text, ')');
    char state = 0;
    unsigned long long start = 0;
    if (!rest ||
        sscanf(rest, ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &state, &start) != 2)
        return error_set(ret_error, EIO, "cannot understand %s", path);
    if (state == 'Z' || state == 'X')
        return error_set(ret_error, ESRCH, "process %d has ended", (int)pid);

    struct process_identity identity = {.pid = pid, .start = start};
    int r = read_boot(identity.boot, ret_error);
    if (r < 0)
        return r;
    *ret_identity = identity;
    return 0;
}

int pidfile_write(const char *path, const struct process_identity *identity, struct error **ret_error)
{
    autofree char *text = xasprintf("pid %d\nstart %llu\nboot %s\nversion %s\n", (int)identity->pid,
                                    (unsigned long long)identity->start, identity->boot,
                                    identity->version ? identity->version : "-");
    return file_write_atomic(path, text, 0644, ret_error);
}

int pidfile_read(const char *path, struct process_identity *ret_identity, struct error **ret_error)
{
    autofree char *text = NULL;
    int r = file_read(path, PIDFILE_LIMIT, &text, NULL, ret_error);
    if (r < 0)
        return r;
    int pid = 0;
    unsigned long long start = 0;
    struct process_identity identity = {0};
    char version[65] = "";
    if (sscanf(text, "pid %d\nstart %llu\nboot %39s\nversion %64s\n", &pid, &start, identity.boot, version) !=
            4 ||
        pid <= 0)
        return error_set(ret_error, EINVAL, "%s is no pid file of blockd", path);
    identity.pid = pid;
    identity.start = start;
    identity.version = strcmp(version, "-") == 0 ? NULL : xstrdup(version);
    *ret_identity = identity;
    return 0;
}

/* /proc/PID/cmdline is the argv with a NUL after each word. */
static bool has_argv(const char *pid, const struct strbuf *wanted)
{
    autofree char *path = xasprintf("/proc/%s/cmdline", pid);
    autofree char *text = NULL;
    size_t length;
    return file_read(path, ARGV_LIMIT, &text, &length, NULL) == 0 && length == wanted->length &&
           memcmp(text, wanted->data, length) == 0;
}

pid_t process_find(const struct string_list *argv)
{
    autostrbuf struct strbuf wanted = {0};
    for (size_t i = 0; i < argv->count; i++)
        strbuf_add(&wanted, argv->items[i], strlen(argv->items[i]) + 1);
    autoclosedir DIR *folder = opendir("/proc");
    if (!folder || wanted.length == 0)
        return 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        if (isdigit((unsigned char)entry->d_name[0]) && has_argv(entry->d_name, &wanted))
            return (pid_t)strtol(entry->d_name, NULL, 10);
    return 0;
}
