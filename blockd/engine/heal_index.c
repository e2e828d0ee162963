/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * A brick's index: a folder with an entry for each file, by its gfid. One folder is of the files that another
 * brick is known to be behind with, one of those with a change under way; a third has a folder for each
 * folder of the volume, with the names in it that differ.
 */
#include "blockd/engine/heal_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"

#define INDICES ".glusterfs/indices"
/* A change in the same tick of the kernel's clock as the reading may not show in the folder's time. */
#define TICK_NS 100000000

void gfid_list_clear(struct gfid_list *list)
{
    free(list->items);
    *list = (struct gfid_list){0};
}

void gfid_format(const struct gfid *gfid, char text[GFID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < GFID_SIZE; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *text++ = '-';
        *text++ = digits[gfid->bytes[i] >> 4];
        *text++ = digits[gfid->bytes[i] & 15];
    }
    *text = '\0';
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool gfid_parse(const char *text, struct gfid *ret_gfid)
{
    struct gfid gfid;
    for (int i = 0; i < GFID_SIZE; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
            return false;
        int high = digit(text[0]), low = high < 0 ? -1 : digit(text[1]);
        if (low < 0)
            return false;
        gfid.bytes[i] = (unsigned char)(high << 4 | low);
        text += 2;
    }
    if (*text)
        return false;
    *ret_gfid = gfid;
    return true;
}

int gfid_compare(const void *a, const void *b)
{
    return memcmp(a, b, GFID_SIZE);
}

bool gfid_list_has(const struct gfid_list *list, const struct gfid *gfid)
{
    return list->count && bsearch(gfid, list->items, list->count, sizeof *gfid, gfid_compare);
}

struct gfid_list gfid_list_union(const struct gfid_list *a, const struct gfid_list *b)
{
    struct gfid_list both = {.items = xcalloc(a->count + b->count + 1, sizeof *both.items)};
    size_t i = 0, k = 0;
    while (i < a->count || k < b->count) {
        int order = i == a->count ? 1 : k == b->count ? -1 : gfid_compare(&a->items[i], &b->items[k]);
        both.items[both.count++] = order <= 0 ? a->items[i] : b->items[k];
        i += order <= 0;
        k += order >= 0;
    }
    return both;
}

static int index_stat(const char *brick, const char *folder, struct stat *ret_stat)
{
    autofree char *path = xasprintf("%s/" INDICES "/%s", brick, folder);
    return stat(path, ret_stat) < 0 ? -errno : 0;
}

static bool is_old(const struct timespec *changed)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (now.tv_sec - changed->tv_sec) * 1000000000 + now.tv_nsec - changed->tv_nsec > TICK_NS;
}

bool heal_index_changed(const char *brick, const char *folder, const struct heal_index *index)
{
    struct stat now;
    if (!index->known)
        return true;
    if (index_stat(brick, folder, &now) < 0)
        return index->files.count > 0 || index->changed.tv_sec;
    return now.st_mtim.tv_sec != index->changed.tv_sec || now.st_mtim.tv_nsec != index->changed.tv_nsec;
}

void heal_index_read(const char *brick, const char *folder, struct heal_index *index)
{
    autofree char *path = xasprintf("%s/" INDICES "/%s", brick, folder);
    struct stat before;
    struct heal_index fresh = {.read_ms = clock_monotonic_ms()};
    bool there = index_stat(brick, folder, &before) == 0;
    autoclosedir DIR *entries = there ? opendir(path) : NULL;
    size_t room = 0;
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        struct gfid gfid;
        if (!gfid_parse(entry->d_name, &gfid)) /* the file to which all entries are links */
            continue;
        if (fresh.files.count == room) {
            room = room ? 2 * room : 64;
            fresh.files.items = xrealloc(fresh.files.items, room, sizeof gfid);
        }
        fresh.files.items[fresh.files.count++] = gfid;
    }
    if (fresh.files.count)
        qsort(fresh.files.items, fresh.files.count, sizeof *fresh.files.items, gfid_compare);
    if (there)
        fresh.changed = before.st_mtim;
    fresh.known = !there || is_old(&before.st_mtim);
    gfid_list_clear(&index->files);
    *index = fresh;
}

uint64_t heal_pending_now(const char *brick)
{
    struct heal_index index = {0};
    heal_index_read(brick, HEAL_INDEX_PENDING, &index);
    uint64_t count = index.files.count;
    gfid_list_clear(&index.files);
    return count;
}

void heal_index_names(const char *brick, const struct gfid *folder, size_t limit, struct string_list *names)
{
    char text[GFID_TEXT_SIZE];
    gfid_format(folder, text);
    autofree char *path = xasprintf("%s/" INDICES "/entry-changes/%s", brick, text);
    autoclosedir DIR *entries = opendir(path);
    for (struct dirent *entry; entries && names->count < limit && (entry = readdir(entries));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !string_list_contains(names, entry->d_name))
            string_list_add(names, entry->d_name);
}
