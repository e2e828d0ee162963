/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "blockd/engine/engine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

#define MOUNTINFO_LIMIT (16u << 20)

/* The kernel writes blanks and backslashes in a path as "\040". In place. */
static void unescape(char *path)
{
    char *to = path;
    for (const char *from = path; *from; to++) {
        unsigned code;
        if (*from == '\\' && sscanf(from + 1, "%3o", &code) == 1 && strlen(from) >= 4) {
            *to = (char)code;
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

struct line {
    unsigned major, minor;
    char *folder;        /* into the text */
    const char *options; /* of the file system */
};

/* "ID PARENT MAJOR:MINOR ROOT FOLDER OPTIONS [TAGS] - TYPE SOURCE OPTIONS", proc_pid_mountinfo(5). Changes
 * the text. */
static bool parse_line(char *text, struct line *ret_line)
{
    int folder_at = 0, folder_end = 0;
    struct line line = {0};
    if (sscanf(text, "%*u %*u %u:%u %*s %n%*s%n", &line.major, &line.minor, &folder_at, &folder_end) < 2 ||
        folder_end == 0)
        return false;
    const char *tail = strstr(text + folder_end, " - ");
    line.options = tail ? strrchr(tail, ' ') + 1 : "";
    text[folder_end] = '\0';
    line.folder = text + folder_at;
    unescape(line.folder);
    *ret_line = line;
    return true;
}

/* Visits each mount in order. */
static int each_mount(void (*visit)(const struct line *line, void *data), void *data,
                      struct error **ret_error)
{
    autofree char *text = NULL;
    int r = file_read("/proc/self/mountinfo", MOUNTINFO_LIMIT, &text, NULL, ret_error);
    if (r < 0)
        return r;
    char *rest = text;
    for (char *row; (row = strsep(&rest, "\n"));) {
        struct line line;
        if (parse_line(row, &line))
            visit(&line, data);
    }
    return 0;
}

static bool has_option(const char *options, const char *word)
{
    autostring_list struct string_list list = {0};
    string_list_split(&list, options, ',');
    return string_list_contains(&list, word);
}

struct at_search {
    const char *folder;
    bool found;
    struct mount_view view;
};

/* Later lines cover earlier ones, so the last that fits counts. */
static void visit_at(const struct line *line, void *data)
{
    struct at_search *search = data;
    if (strcmp(line->folder, search->folder) != 0)
        return;
    search->found = true;
    search->view.device = makedev(line->major, line->minor);
    search->view.quota = has_option(line->options, "prjquota");
}

int mounts_at(const char *folder, struct mount_view *ret_view, struct error **ret_error)
{
    /* The kernel reports the path without links. */
    autofree char *real = realpath(folder, NULL);
    struct at_search search = {.folder = real ? real : folder};
    int r = each_mount(visit_at, &search, ret_error);
    if (r < 0)
        return r;
    if (!search.found)
        return error_set(ret_error, ENOENT, "nothing is mounted at %s", folder);
    *ret_view = search.view;
    return 0;
}

bool mounts_has(const char *folder)
{
    struct statx status;
    struct mount_view view;
    if (statx(AT_FDCWD, folder, AT_STATX_DONT_SYNC, 0, &status) == 0 &&
        status.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT)
        return status.stx_attributes & STATX_ATTR_MOUNT_ROOT;
    /* A file system that gave up after an I/O error says nothing but EIO. */
    return mounts_at(folder, &view, NULL) == 0;
}

struct of_search {
    dev_t device;
    char *folder;
};

static void visit_of(const struct line *line, void *data)
{
    struct of_search *search = data;
    if (!search->folder && makedev(line->major, line->minor) == search->device)
        search->folder = xstrdup(line->folder);
}

int mounts_of(dev_t device, char **ret_folder, struct error **ret_error)
{
    struct of_search search = {.device = device};
    int r = each_mount(visit_of, &search, ret_error);
    if (r < 0)
        return r;
    *ret_folder = search.folder;
    return 0;
}

struct below_search {
    const char *folder;
    struct string_list *folders;
};

static void visit_below(const struct line *line, void *data)
{
    struct below_search *search = data;
    size_t length = strlen(search->folder);
    if (strncmp(line->folder, search->folder, length) == 0 && line->folder[length] == '/')
        string_list_add(search->folders, line->folder);
}

int mounts_below(const char *folder, struct string_list *ret_folders, struct error **ret_error)
{
    struct below_search search = {.folder = folder, .folders = ret_folders};
    return each_mount(visit_below, &search, ret_error);
}
