/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/engine/supervise_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

#define TAIL_LIMIT    65536
#define MESSAGE_LIMIT 400

/* The writer has the file open for appending, so that cutting it to nothing moves the writer to the start. */
static void trim(const char *path)
{
    autofree char *older = xasprintf("%s.1", path);
    autoclose int from = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    autoclose int to = open(older, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (from < 0 || to < 0)
        return;
    ssize_t moved;
    do
        moved = copy_file_range(from, NULL, to, NULL, 1u << 20, 0);
    while (moved > 0);
    /* Also when the copy failed, for want of space most likely: that is when a log must not grow on. */
    int cut = ftruncate(from, 0);
    (void)cut;
}

void logs_trim(const char *folder, off_t limit)
{
    autostring_list struct string_list names = {0};
    if (folder_list(folder, &names, NULL) < 0)
        return;
    for (size_t i = 0; i < names.count; i++) {
        const char *dot = strrchr(names.items[i], '.');
        autofree char *path = xasprintf("%s/%s", folder, names.items[i]);
        struct stat status;
        if (dot && strcmp(dot, ".log") == 0 && lstat(path, &status) == 0 && S_ISREG(status.st_mode) &&
            status.st_size > limit)
            trim(path);
    }
}

/* In place; what is no printable ASCII becomes "?", as the line goes into status and log. */
static void make_printable(char *line)
{
    for (unsigned char *c = (unsigned char *)line; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    if (strlen(line) > MESSAGE_LIMIT)
        line[MESSAGE_LIMIT] = '\0';
}

static bool is_error(const char *line)
{
    return strstr(line, "] E [") != NULL;
}

char *log_telling_line(const char *path, off_t offset, bool first)
{
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return xstrdup("");
    if (status.st_size < offset)
        offset = 0; /* it was cut meanwhile */
    bool cut = status.st_size - offset > TAIL_LIMIT;
    if (cut)
        offset = status.st_size - TAIL_LIMIT;
    autofree char *text = xcalloc(1, TAIL_LIMIT + 1);
    if (pread(fd, text, TAIL_LIMIT, offset) <= 0)
        return xstrdup("");

    autostring_list struct string_list lines = {0};
    string_list_split(&lines, text, '\n');
    const char *last = "", *telling = NULL;
    for (size_t i = cut ? 1 : 0; i < lines.count; i++) {
        const char *line = lines.items[i];
        last = *line ? line : last;
        if (is_error(line) && !(first && telling))
            telling = line;
    }
    char *line = xstrdup(telling ? telling : last);
    make_printable(line);
    return line;
}
