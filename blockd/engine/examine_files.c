/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Volfiles as the objects would have them, and files that an interrupted write left. */
#include "blockd/engine/examine_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"

#define VOLFILE_LIMIT (4u << 20)

/* ---- Comparing ---- */

/* The first line that differs, for people. The caller's. */
static char *first_difference(const char *wanted, const char *found)
{
    size_t line = 1, at = 0;
    for (; wanted[at] && wanted[at] == found[at]; at++)
        line += wanted[at] == '\n';
    while (at && wanted[at - 1] != '\n')
        at--;
    return xasprintf("line %zu is \"%.*s\"", line, (int)strcspn(found + at, "\n"), found + at);
}

void compare_text(const char *path, const char *owner, const char *wanted, const char *found,
                  struct object_list *findings)
{
    autofree char *expected = xasprintf("the volfile of %s", owner);
    if (found && strcmp(wanted, found) == 0)
        return;
    autofree char *difference = found ? first_difference(wanted, found) : xstrdup("no such file");
    finding_add(findings, found ? "volfile-differs" : "volfile-missing", path, expected, difference,
                "write it again")
        ->repairable = true;
}

/* ---- Volfiles ---- */

static void examine_text(const struct look *look, const char *path, const char *owner, const char *wanted)
{
    autofree char *found = NULL;
    file_read(path, VOLFILE_LIMIT, &found, NULL, NULL);
    ++*look->checked;
    compare_text(path, owner, wanted, found, look->findings);
}

static int examine_volume(const struct look *look, const struct volume *volume, struct error **ret_error)
{
    const struct examine_target *target = look->target;
    autofree char *owner = xasprintf("volume %s", volume->meta.name);
    autofree char *client_path = engine_client_volfile(look->engine, volume->meta.name);
    autostrbuf struct strbuf client = {0};
    int r = volume_client_text(look->engine, volume, target->nodes, target->node_count, &client, ret_error);
    if (r == 0)
        examine_text(look, client_path, owner, strbuf_string(&client));
    for (size_t i = 0; r == 0 && i < volume_children(volume); i++) {
        const struct brick_spec *brick = volume_child(volume, i);
        if (!child_runs(look, volume, i))
            continue;
        autofree char *path = brick_volfile(look->engine, brick->device, volume->meta.name);
        autostrbuf struct strbuf text = {0};
        r = volume_brick_text(look->engine, volume, i, target->nodes, target->node_count, &text, ret_error);
        if (r == 0)
            examine_text(look, path, owner, strbuf_string(&text));
    }
    return r;
}

static int examine_heal(const struct look *look, struct error **ret_error)
{
    const struct examine_target *target = look->target;
    autofree struct volume *running = xcalloc(target->volume_count + 1, sizeof *running); /* borrowed */
    autofree char *path = xasprintf("%s/heal.vol", look->engine->config->state_dir);
    autostrbuf struct strbuf text = {0};
    size_t count = 0;
    for (size_t i = 0; i < target->volume_count; i++)
        if (volume_runs(look, &target->volumes[i]))
            running[count++] = target->volumes[i];
    int r = heal_text(look->engine, running, count, target->nodes, target->node_count, &text, ret_error);
    if (r == 0 && text.length)
        examine_text(look, path, "the self-heal daemon", strbuf_string(&text));
    return r;
}

static bool belongs_to_brick(const struct look *look, const char *file)
{
    for (size_t i = 0; i < look->target->volume_count; i++) {
        const struct volume *volume = &look->target->volumes[i];
        for (size_t k = 0; k < volume_children(volume); k++) {
            autofree char *name = xasprintf("%s.%s.vol", volume->meta.name, volume_child(volume, k)->device);
            if (brick_is_local(look->engine, volume_child(volume, k)) && strcmp(name, file) == 0)
                return true;
        }
    }
    return false;
}

static bool is_volume(const struct look *look, const char *name)
{
    for (size_t i = 0; i < look->target->volume_count; i++)
        if (strcmp(look->target->volumes[i].meta.name, name) == 0)
            return true;
    return false;
}

static int examine_unknown(const struct look *look, const char *below,
                           bool (*known)(const struct look *, const char *), struct error **ret_error)
{
    autofree char *folder = xasprintf("%s/%s", look->engine->config->state_dir, below);
    autostring_list struct string_list names = {0};
    int r = folder_list(folder, &names, ret_error);
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        if (names.items[i][0] == '.' || known(look, names.items[i]))
            continue;
        autofree char *path = xasprintf("%s/%s", folder, names.items[i]);
        finding_add(
            look->findings, "volfile-unknown", path, "nothing", "what belonged to a volume that is no more",
            look->target->volume_count ? "remove it"
                                       : "if the store was lost: gluster-block device adopt; else remove it")
            ->repairable = look->target->volume_count > 0;
    }
    return r;
}

/* ---- Unfinished files ---- */

static void examine_unfinished(const struct look *look, const char *folder)
{
    autostring_list struct string_list names = {0};
    folder_list(folder, &names, NULL);
    for (size_t i = 0; i < names.count; i++) {
        if (!file_is_unfinished(names.items[i]))
            continue;
        autofree char *path = xasprintf("%s/%s", folder, names.items[i]);
        finding_add(look->findings, "file-unfinished", path, "nothing",
                    "what a process that died began to write", "remove it")
            ->repairable = true;
    }
}

/* The folder, and with `below` each folder in it. */
static void examine_folder(const struct look *look, const char *root, const char *name, bool below)
{
    autofree char *folder = xasprintf("%s%s", root, name);
    autostring_list struct string_list names = {0};
    examine_unfinished(look, folder);
    if (below)
        folder_list(folder, &names, NULL);
    for (size_t i = 0; i < names.count; i++) {
        autofree char *path = xasprintf("%s/%s", folder, names.items[i]);
        if (names.items[i][0] != '.')
            examine_unfinished(look, path);
    }
}

static void examine_all_folders(const struct look *look)
{
    const struct config *config = look->engine->config;
    examine_folder(look, config->state_dir, "", false);
    examine_folder(look, config->state_dir, "/bricks", false);
    examine_folder(look, config->state_dir, "/volfiles", true);
    examine_folder(look, config->state_dir, "/volserver", false);
    examine_folder(look, config->run_dir, "", false);
    examine_folder(look, config->run_dir, "/processes", false);
    examine_folder(look, config->run_dir, "/grants", true);
    for (size_t i = 0; i < look->target->device_count; i++) {
        autofree char *name = object_name_part(look->target->devices[i].meta.name, 1);
        autofree char *root = device_mount_point(look->engine, name);
        examine_folder(look, root, "", false);
        examine_folder(look, root, "/" MANIFEST_FOLDER, false);
    }
}

int examine_files(const struct look *look, struct error **ret_error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < look->target->volume_count; i++)
        if (volume_runs(look, &look->target->volumes[i]))
            r = examine_volume(look, &look->target->volumes[i], ret_error);
    if (r == 0)
        r = examine_heal(look, ret_error);
    if (r == 0)
        r = examine_unknown(look, "bricks", belongs_to_brick, ret_error);
    if (r == 0)
        r = examine_unknown(look, "volfiles", is_volume, ret_error);
    examine_all_folders(look);
    return r;
}
