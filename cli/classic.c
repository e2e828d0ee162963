/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What the classic commands share: their table, the replies, the words. */
#include <errno.h>
#include <string.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"

static const struct classic_option create_options[] = {
    {"ha", "COUNT", "Number of hosts; 1 if absent, and the number of hosts that are named"},
    {"auth", "enable|disable", "CHAP; needs iSCSI"},
    {"prealloc", "full|no", "Allocate the space now (full, the default) or when it is written"},
    {"storage", "FILE", "Adopt this file of the hosting volume; then neither SIZE nor prealloc are given"},
    {"ring-buffer", "MIB", "1 to 1024; needs iSCSI"},
    {"block-size", "BYTES", "Logical block size, 512 or 4096"},
    {"io-timeout", "SECONDS", "43 if absent; another value needs iSCSI"},
    {NULL, NULL, NULL},
};
static const struct classic_option delete_options[] = {
    {"unlink-storage", "yes|no", "Remove the file of the block too; yes if absent"},
    {"force", NULL, "Go on where it is refused for safety"},
    {NULL, NULL, NULL},
};
static const struct classic_option modify_options[] = {
    {"size", "SIZE", "The new size"},
    {"auth", "enable|disable", "CHAP; needs iSCSI"},
    {"force", NULL, "With size: allow a smaller one, which cuts data off"},
    {NULL, NULL, NULL},
};

const struct classic_command classic_commands[] = {
    {"create",
     "VOLUME/BLOCK [ha COUNT] [auth enable|disable] [prealloc full|no] [storage FILE] [ring-buffer MIB] "
     "[block-size BYTES] [io-timeout SECONDS] HOST[,HOST]... [SIZE]",
     "Create a block and export it from the named hosts over NBD", create_options, classic_create},
    {"list", "VOLUME", "List the blocks of a volume", NULL, classic_list},
    {"info", "VOLUME/BLOCK", "Show a block and where it is exported", NULL, classic_info},
    {"delete", "VOLUME/BLOCK [unlink-storage yes|no] [force]", "Delete a block and its exports",
     delete_options, classic_delete},
    {"modify", "VOLUME/BLOCK auth enable|disable | VOLUME/BLOCK size SIZE [force]",
     "Change the size of a block", modify_options, classic_modify},
    {"replace", "VOLUME/BLOCK OLD-HOST NEW-HOST [force]", "Move a target to another host; needs iSCSI", NULL,
     classic_replace},
    {"reload", "VOLUME/BLOCK [force]", "Load the target of a block again; needs iSCSI", NULL, classic_reload},
    {"genconfig", "VOLUME[,VOLUME]... enable-tpg HOST", "Print a configuration of targets; needs iSCSI", NULL,
     classic_genconfig},
    {.word = NULL},
};

const struct classic_command *classic_find(const char *word)
{
    for (const struct classic_command *command = classic_commands; command->word; command++)
        if (strcmp(command->word, word) == 0)
            return command;
    return NULL;
}

/* ---- Replies ---- */

/* "KEY: a b"; "*Nil*" for an empty list. */
static void print_plain(FILE *stream, const char *key, const json_t *value)
{
    autostrbuf struct strbuf text = {0};
    const char *name;
    size_t index;
    json_t *member;
    if (json_is_array(value)) {
        json_array_foreach((json_t *)value, index, member)
            strbuf_addf(&text, "%s%s", index ? " " : "", json_string_value(member));
        if (!json_array_size(value))
            strbuf_adds(&text, "*Nil*");
    } else if (json_is_object(value)) {
        json_object_foreach((json_t *)value, name, member)
            strbuf_addf(&text, "%s%s: %s", text.length ? " " : "", name, json_string_value(member));
    } else if (json_is_string(value)) {
        strbuf_adds(&text, json_string_value(value));
    } else {
        autofree char *scalar = json_dumps(value, JSON_ENCODE_ANY);
        strbuf_adds(&text, scalar);
    }
    fprintf(stream, "%s: %s\n", key, strbuf_string(&text));
}

static void print_reply(struct cli *cli, FILE *stream, const json_t *reply)
{
    if (cli->json) {
        print_json(stream, cli->json, reply);
        return;
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)reply, key, value) print_plain(stream, key, value);
}

int classic_fail(struct cli *cli, json_t *reply, int result, const struct error *error)
{
    json_t *full cleanup(json_decrefp) = reply ? reply : json_object();
    int status = client_exit_status(cli, result);
    json_object_set_new(full, "RESULT", json_string("FAIL"));
    json_object_set_new(full, "errCode", json_integer(status));
    json_object_set_new(full, "errMsg", json_string_lossy(error_message(error)));
    print_reply(cli, cli->err, full);
    return status;
}

int classic_succeed(struct cli *cli, json_t *reply)
{
    print_reply(cli, cli->out, reply);
    json_decref(reply);
    /* Only now: a failure's reply stands on standard error itself, and must be alone there. */
    if (cli->note)
        fprintf(cli->err, "gluster-block: %s\n", cli->note);
    return 0;
}

int classic_usage(struct cli *cli, const char *command, const struct error *error)
{
    if (cli->json) {
        json_t *reply cleanup(json_decrefp) =
            json_pack("{s:s, s:i, s:o}", "RESULT", "FAIL", "errCode", STATUS_USAGE, "errMsg",
                      json_string_lossy(error_message(error)));
        print_json(cli->err, cli->json, reply);
        return STATUS_USAGE;
    }
    complain(cli, error);
    fprintf(cli->err, "Usage: gluster-block [timeout SECONDS] %s %s [--json]\nMore: gluster-block help %s\n",
            command, classic_find(command)->syntax, command);
    return STATUS_USAGE;
}

/* ---- Words ---- */

int classic_words(int argc, char **argv, int min, int max, const char *label, struct error **ret_error)
{
    if (argc < min)
        return error_set(ret_error, EINVAL, "%s is missing", label);
    if (argc > max)
        return error_set(ret_error, EINVAL, "\"%s\" is one word too many", argv[max]);
    return 0;
}

int block_name_parse(const char *text, struct block_name *ret_name, struct error **ret_error)
{
    const char *slash = strchr(text, '/');
    if (!slash)
        return error_set(ret_error, EINVAL, "\"%s\" is not of the form VOLUME/BLOCK", text);
    struct block_name name = {.volume = xstrndup(text, (size_t)(slash - text)),
                              .block = xstrdup(slash + 1),
                              .joined = xstrdup(text)};
    int r = name_check("volume", name.volume, ret_error);
    if (r == 0)
        r = name_check("block", name.block, ret_error);
    if (r < 0) {
        block_name_clear(&name);
        return r;
    }
    *ret_name = name;
    return 0;
}

void block_name_clear(struct block_name *name)
{
    free(name->volume);
    free(name->block);
    free(name->joined);
    *name = (struct block_name){0};
}

int classic_boolean(const char *option, const char *text, bool *ret_value, struct error **ret_error)
{
    static const char *const yes[] = {"yes", "true", "enable", "1", "set", "full", NULL};
    static const char *const no[] = {"no", "false", "disable", "0", "unset", NULL};
    if (enum_parse(yes, text) >= 0)
        *ret_value = true;
    else if (enum_parse(no, text) >= 0)
        *ret_value = false;
    else
        return error_set(ret_error, EINVAL, "%s is yes or no (or true, false, enable, disable), not \"%s\"",
                         option, text);
    return 0;
}

int classic_number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *ret_number,
                   struct error **ret_error)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t number = digits > 0 && digits <= 18 && !text[digits] ? strtoull(text, NULL, 10) : 0;
    if (number < min || number > max)
        return error_set(ret_error, EINVAL, "%s is a number from %llu to %llu, not \"%s\"", option,
                         (unsigned long long)min, (unsigned long long)max, text);
    *ret_number = number;
    return 0;
}

int classic_size(struct cli *cli, const char *text, uint64_t block_size, uint64_t *ret_size,
                 struct error **ret_error)
{
    uint64_t size;
    int r = size_parse(text, &size, ret_error);
    if (r < 0)
        return r;
    uint64_t rounded = size - size % block_size;
    if (!rounded)
        return error_set(ret_error, EINVAL, "the size \"%s\" is less than one block of %llu bytes", text,
                         (unsigned long long)block_size);
    if (rounded != size) {
        free(cli->note);
        cli->note =
            xasprintf("the size %llu was rounded down to %llu, whole blocks of %llu bytes",
                      (unsigned long long)size, (unsigned long long)rounded, (unsigned long long)block_size);
    }
    *ret_size = rounded;
    return 0;
}

/* ---- Objects ---- */

int classic_missing_volume(struct cli *cli, const char *volume, int result, struct error **error)
{
    if (result != -ENOENT || cli->no_answer)
        return result;
    autofree char *path = xasprintf("/v1/volumes/%s", volume);
    if (client_get(cli, path, NULL, NULL) == -ENOENT && !cli->no_answer)
        error_set(error, ENOENT, "volume %s does not exist", volume);
    cli->no_answer = false; /* the answer that counts had come */
    return result;
}

int classic_missing(struct cli *cli, const struct block_name *name, int result, struct error **error)
{
    if (result == -ENOENT && !cli->no_answer)
        error_set(error, ENOENT, "block %s doesn't exist", name->joined);
    return classic_missing_volume(cli, name->volume, result, error);
}

int classic_get_block(struct cli *cli, const struct block_name *name, json_t **ret_block,
                      struct error **ret_error)
{
    autofree char *path = xasprintf("/v1/blocks/%s", name->joined);
    int r = client_get(cli, path, ret_block, ret_error);
    return classic_missing(cli, name, r, ret_error);
}

static bool names_block(const json_t *export, const struct block_name *name)
{
    const char *slash = strchr(json_text(export, "name"), '/');
    return slash && strcmp(slash + 1, name->joined) == 0;
}

int classic_exports(struct cli *cli, const struct block_name *name, json_t **ret_exports,
                    struct error **ret_error)
{
    json_t *reply cleanup(json_decrefp) = NULL;
    int r = client_get(cli, "/v1/exports", &reply, ret_error);
    if (r < 0)
        return r;
    json_t *mine = json_array(), *export;
    size_t index;
    json_array_foreach(json_object_get(reply, "items"), index, export) if (names_block(export, name))
        json_array_append(mine, export);
    *ret_exports = mine;
    return 0;
}

static bool is_live(const json_t *export)
{
    return strcmp(json_text(export, "status.phase"), "live") == 0;
}

/* The address that a node advertises, or its name. */
static json_t *address_of(const json_t *nodes, const char *node)
{
    size_t index;
    json_t *item;
    json_array_foreach(json_object_get(nodes, "items"), index, item)
    {
        const char *address = json_string_value(json_array_get(json_at(item, "spec.addresses"), 0));
        if (strcmp(json_text(item, "name"), node) == 0 && address)
            return json_string(address);
    }
    return json_string(node);
}

json_t *classic_hosts(struct cli *cli, const json_t *exports, bool live)
{
    json_t *nodes cleanup(json_decrefp) = NULL;
    if (json_array_size(exports))
        client_get(cli, "/v1/nodes", &nodes, NULL); /* without it hosts are given by name */
    json_t *hosts = json_array(), *export;
    size_t index;
    json_array_foreach((json_t *)exports, index, export)
    {
        if (is_live(export) != live)
            continue;
        autofree char *node = object_name_part(json_text(export, "name"), 0);
        json_array_append_new(hosts, address_of(nodes, node));
    }
    return hosts;
}

json_t *classic_portals(const json_t *exports)
{
    json_t *portals = json_array(), *export;
    size_t index;
    json_array_foreach((json_t *)exports, index, export)
    {
        const char *uri = json_text(export, "status.uri");
        const char *authority = strstr(uri, "://");
        if (!is_live(export) || !authority)
            continue;
        authority += 3;
        /* Over a unix socket there is no host: then the whole URI says where to connect. */
        size_t length = strcspn(authority, "/");
        json_array_append_new(portals, length ? json_stringn(authority, length) : json_string(uri));
    }
    return portals;
}

json_t *classic_iqn(const json_t *block)
{
    autofree char *iqn = xasprintf("iqn.2016-12.org.gluster-block:%s", json_text(block, "uid"));
    return json_string(iqn);
}
