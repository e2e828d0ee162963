/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/grant.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/base/sizes.h"

#define GRANT_FILE_LIMIT (64u << 10)
#define PATH_LIMIT       4095
#define SUFFIX           ".json"

#define FIELD(word, member, kind, ...)                                                                       \
    {                                                                                                        \
        .name = word, .type = kind, .offset = offsetof(struct grant, member), __VA_ARGS__                    \
    }

static const struct field grant_fields[] = {
    FIELD("volume", volume, FIELD_NAME, .flags = FIELD_REQUIRED, .help = "Hosting volume"),
    FIELD("block", block, FIELD_NAME, .flags = FIELD_REQUIRED, .help = "Name of the block"),
    FIELD("gbid", gbid, FIELD_NAME, .flags = FIELD_REQUIRED,
          .help = "Identity of the block, whatever its name"),
    FIELD("file", file, FIELD_STRING, .flags = FIELD_REQUIRED, .min = 1, .max = PATH_LIMIT,
          .help = "Path of the image inside the hosting volume"),
    FIELD("volfile", volfile, FIELD_STRING, .flags = FIELD_REQUIRED, .min = 1, .max = PATH_LIMIT,
          .help = "Path of the client volfile of the hosting volume"),
    FIELD("size", size, FIELD_SIZE, .flags = FIELD_REQUIRED, .max = INT64_MAX,
          .help = "Bytes that clients see"),
    FIELD("block_size", block_size, FIELD_UINT, .flags = FIELD_REQUIRED, .min = 512, .max = 4096,
          .help = "Sector size, 512 or 4096"),
    FIELD("read_only", read_only, FIELD_BOOL, .help = "Writes are refused"),
    FIELD("epoch", epoch, FIELD_UINT, .help = "Of the fence; 0: no fence"),
    {0},
};

const struct schema grant_schema = {
    .name = "Grant",
    .size = sizeof(struct grant),
    .fields = grant_fields,
    .help = "What a data-path process may open, and how",
};

/* Behind the longest names there is no room for the suffix: they stand alone. */
static bool has_suffix(size_t name_length)
{
    return name_length + strlen(SUFFIX) <= NAME_MAX;
}

char *grant_path(const char *run_dir, const char *volume, const char *block)
{
    return xasprintf("%s/grants/%s/%s%s", run_dir, volume, block, has_suffix(strlen(block)) ? SUFFIX : "");
}

char *grant_file_block(const char *file)
{
    size_t length = strlen(file), suffix = strlen(SUFFIX);
    if (length > suffix && strcmp(file + length - suffix, SUFFIX) == 0)
        length -= suffix;
    else if (has_suffix(length))
        return NULL;
    autofree char *block = xstrndup(file, length);
    return name_check("block", block, NULL) == 0 ? steal_ptr(&block) : NULL;
}

/* A name becomes part of a path: one with a slash or a dot must not get that far. */
static int check_names(const char *volume, const char *block, struct error **ret_error)
{
    int r = name_check("volume", volume, ret_error);
    return r < 0 ? r : name_check("block", block, ret_error);
}

/* Nothing in the hosting volume is reached by a detour: no empty, "." or ".." part. */
static bool is_plain_absolute(const char *path)
{
    if (path[0] != '/')
        return false;
    while (*path == '/') {
        path++;
        size_t length = strcspn(path, "/");
        if (length == 0 || (length == 1 && path[0] == '.') ||
            (length == 2 && path[0] == '.' && path[1] == '.'))
            return false;
        path += length;
    }
    return true;
}

/* What the table of fields cannot say. */
static int check_values(const struct grant *grant, struct error **ret_error)
{
    if (grant->block_size != 512 && grant->block_size != 4096)
        return error_set(ret_error, EINVAL, "block_size %llu is neither 512 nor 4096",
                         (unsigned long long)grant->block_size);
    if (grant->size == 0 || grant->size % grant->block_size)
        return error_set(ret_error, EINVAL, "size %llu is no positive multiple of block_size",
                         (unsigned long long)grant->size);
    if (!is_plain_absolute(grant->file))
        return error_set(ret_error, EINVAL, "file \"%s\" is no plain absolute path", grant->file);
    if (!is_plain_absolute(grant->volfile))
        return error_set(ret_error, EINVAL, "volfile \"%s\" is no plain absolute path", grant->volfile);
    return 0;
}

static int decode(const char *text, size_t length, const char *volume, const char *block, struct grant *grant,
                  struct error **ret_error)
{
    json_error_t problem;
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem);
    if (!json)
        return error_set(ret_error, EINVAL, "line %d: %s", problem.line, problem.text);
    int r = schema_decode(&grant_schema, json, grant, NULL, ret_error);
    json_decref(json);
    if (r < 0)
        return r;
    if (strcmp(grant->volume, volume) != 0 || strcmp(grant->block, block) != 0)
        return error_set(ret_error, EINVAL, "it is for %s/%s", grant->volume, grant->block);
    return check_values(grant, ret_error);
}

int grant_read(const char *run_dir, const char *volume, const char *block, struct grant *ret_grant,
               struct error **ret_error)
{
    int r = check_names(volume, block, ret_error);
    if (r < 0)
        return r;
    autofree char *path = grant_path(run_dir, volume, block);
    autofree char *text = NULL;
    size_t length;
    r = file_read(path, GRANT_FILE_LIMIT, &text, &length, ret_error);
    if (r < 0)
        return r;

    cleanup(cleanup_grant) struct grant grant = {0};
    r = decode(text, length, volume, block, &grant, ret_error);
    if (r < 0) {
        if (ret_error)
            error_prefix(ret_error, "grant %s", path);
        return r;
    }
    *ret_grant = grant;
    grant = (struct grant){0};
    return 0;
}

int grant_write(const char *run_dir, const struct grant *grant, bool *ret_changed, struct error **ret_error)
{
    int r = check_names(grant->volume, grant->block, ret_error);
    if (r == 0)
        r = schema_check(&grant_schema, grant, ret_error);
    if (r == 0)
        r = check_values(grant, ret_error);
    if (r < 0)
        return r;

    autofree char *folder = xasprintf("%s/grants/%s", run_dir, grant->volume);
    r = folder_make(folder, 0700, ret_error);
    if (r < 0)
        return r;
    json_t *json = schema_encode(&grant_schema, grant);
    autofree char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (!text)
        return error_set(ret_error, EINVAL, "the grant for %s/%s cannot be written as JSON", grant->volume,
                         grant->block);
    autofree char *path = grant_path(run_dir, grant->volume, grant->block);
    return file_write_if_changed(path, text, 0600, ret_changed, ret_error);
}

int grant_remove(const char *run_dir, const char *volume, const char *block, struct error **ret_error)
{
    int r = check_names(volume, block, ret_error);
    if (r < 0)
        return r;
    autofree char *path = grant_path(run_dir, volume, block);
    return file_remove(path, ret_error);
}
