/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Which options a volume may have: what the translators themselves say, read by a program of its own. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "blockd/engine/engine_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/base/spawn.h"

#define READ_MS     10000
#define VALUE_MAX   128
#define VALUE_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,:+%-"

static const struct translator {
    const char *word, *file;
} translators[] = {
    {"replicate", "cluster/replicate"},   {"disperse", "cluster/disperse"},
    {"distribute", "cluster/distribute"}, {"client", "protocol/client"},
    {"server", "protocol/server"},        {"posix", "storage/posix"},
    {"locks", "features/locks"},          {"io-threads", "performance/io-threads"},
    {"io-stats", "debug/io-stats"},       {"write-behind", "performance/write-behind"},
};

/* What blockd says in a volfile and nobody else may: identity, addresses, and what keeps data safe. */
static const char *const owned[] = {"replicate.afr-pending-xattr",
                                    "replicate.arbiter-count",
                                    "replicate.iam-self-heal-daemon",
                                    "replicate.self-heal-daemon",
                                    "replicate.node-uuid",
                                    "replicate.volume-id",
                                    "replicate.thin-arbiter",
                                    "replicate.quorum-type",
                                    "replicate.quorum-count",
                                    "replicate.ensure-durability",
                                    "replicate.granular-entry-heal",
                                    "replicate.locking-scheme",
                                    "replicate.pre-op-compat",
                                    "disperse.redundancy",
                                    "disperse.iam-self-heal-daemon",
                                    "disperse.self-heal-daemon",
                                    "distribute.force-migration",
                                    "distribute.lookup-unhashed",
                                    "distribute.lookup-optimize",
                                    "distribute.xattr-name",
                                    "distribute.decommissioned-bricks",
                                    "distribute.rebalance-cmd",
                                    "distribute.node-uuid",
                                    "distribute.commit-hash",
                                    "distribute.directory-layout-spread",
                                    "client.username",
                                    "client.password",
                                    "client.remote-host",
                                    "client.remote-port",
                                    "client.remote-subvolume",
                                    "client.transport-type",
                                    "client.client-bind-insecure",
                                    "client.send-gids",
                                    "client.testing.old-protocol",
                                    "client.ping-timeout",
                                    "server.volume-filename.*",
                                    "server.transport.*",
                                    "server.transport-type",
                                    "server.auth.*",
                                    "server.auth-path",
                                    "server.dynamic-auth",
                                    "server.rpc-auth-allow-insecure",
                                    "server.rpc-auth.addr.*",
                                    "server.volfile-id",
                                    "server.config-directory",
                                    "server.root-squash",
                                    "posix.volume-id",
                                    "posix.directory",
                                    "posix.glusterd-uuid",
                                    "posix.shared-brick-count",
                                    "posix.brick-uid",
                                    "posix.brick-gid",
                                    "posix.batch-fsync-mode",
                                    "posix.ctime",
                                    "posix.gfid2path",
                                    "posix.o-direct",
                                    "posix.update-link-count-parent",
                                    "io-stats.unique-id",
                                    "io-stats.volume-id",
                                    NULL};

static bool is_owned(const char *name)
{
    for (size_t i = 0; owned[i]; i++) {
        size_t length = strlen(owned[i]);
        bool prefix = owned[i][length - 1] == '*';
        if (prefix ? strncmp(name, owned[i], length - 1) == 0 : strcmp(name, owned[i]) == 0)
            return true;
    }
    return false;
}

/* ---- The translators' own tables ---- */

static int read_table(struct engine *engine, const struct translator *translator, json_t **ret_table,
                      struct error **ret_error)
{
    autostrbuf struct strbuf folder = {0}, text = {0};
    const char *const where[] = {engine->roots.glusterfsd, "--print-xlatordir", NULL};
    int r = program_run(where, READ_MS, &folder, NULL, ret_error);
    if (r < 0)
        return r;
    autofree char *path = xasprintf("%.*s/%s.so", (int)strcspn(strbuf_string(&folder), "\n"),
                                    strbuf_string(&folder), translator->file);
    const char *const read[] = {engine->options_program, path, NULL};
    r = program_run(read, READ_MS, &text, NULL, ret_error);
    if (r < 0)
        return r;
    *ret_table = json_loads(strbuf_string(&text), 0, NULL);
    return json_is_array(*ret_table) ? 0
                                     : error_set(ret_error, EIO, "%s did not tell the options of %s",
                                                 engine->options_program, path);
}

static const json_t *find_option(const json_t *table, const char *name)
{
    size_t i, k;
    const json_t *option, *word;
    json_array_foreach(table, i, option)
        json_array_foreach(json_object_get(option, "names"), k,
                           word) if (strcmp(json_string_value(word), name) == 0) return option;
    return NULL;
}

static bool is_true(const json_t *option, const char *key)
{
    return json_is_true(json_object_get(option, key));
}

/* ---- Values ---- */

static bool is_word_of(const json_t *values, const char *value)
{
    size_t i;
    const json_t *word;
    json_array_foreach(values, i, word) if (strcasecmp(json_string_value(word), value) == 0) return true;
    return json_array_size(values) == 0;
}

static bool is_bool(const char *value)
{
    static const char *const words[] = {"on",     "off",     "yes", "no", "true", "false",
                                        "enable", "disable", "1",   "0",  NULL};
    return enum_parse(words, value) >= 0;
}

/* The number that a value of this type stands for; false when it stands for none. */
static bool number_of_value(const char *type, const char *value, double *ret_number)
{
    char *end;
    uint64_t bytes;
    if (strcmp(type, "size") == 0 || strcmp(type, "percent-or-size") == 0) {
        if (size_parse(value, &bytes, NULL) == 0) {
            *ret_number = (double)bytes;
            return true;
        }
        if (strcmp(type, "size") == 0)
            return false;
    }
    *ret_number = strtod(value, &end);
    if (end == value || !isfinite(*ret_number))
        return false;
    if (*end == '%' && strstr(type, "percent"))
        end++;
    if (strstr(type, "percent") && (*ret_number < 0 || *ret_number > 100))
        return false;
    bool whole = strcmp(type, "double") == 0 || strpbrk(value, ".eExX") == NULL;
    return *end == '\0' && whole;
}

static int check_value(const char *name, const json_t *option, const char *value, struct error **ret_error)
{
    const char *type = json_string_value(json_object_get(option, "type"));
    double number = 0, min = json_number_value(json_object_get(option, "min")),
           max = json_number_value(json_object_get(option, "max"));
    if (strcmp(type, "bool") == 0)
        return is_bool(value)
                   ? 0
                   : error_set(ret_error, EINVAL, "option %s is on or off, not \"%s\"", name, value);
    if (strcmp(type, "string") == 0) {
        autofree char *words = json_dumps(json_object_get(option, "values"), JSON_COMPACT);
        return is_word_of(json_object_get(option, "values"), value)
                   ? 0
                   : error_set(ret_error, EINVAL, "option %s is one of %s, not \"%s\"", name, words, value);
    }
    if (!number_of_value(type, value, &number))
        return error_set(ret_error, EINVAL, "option %s is a %s, not \"%s\"", name, type, value);
    bool ranged = min != 0 || max != 0; /* both 0: no limits */
    if (ranged && ((is_true(option, "check_min") && number < min) ||
                   (is_true(option, "check_max") && max != 0 && number > max)))
        return error_set(ret_error, ERANGE, "option %s is from %.0f to %.0f, not %s", name, min, max, value);
    return 0;
}

/* ---- The answer ---- */

static int check_known(const char *name, const json_t *option, bool advanced, struct error **ret_error)
{
    if (!option && !is_owned(name))
        return error_set(ret_error, EINVAL, "there is no option %s", name);
    const char *type = json_string_value(json_object_get(option, "type"));
    if (is_owned(name) || strcmp(type, "other") == 0)
        return error_set(ret_error, EINVAL, "option %s is blockd's own and cannot be set", name);
    bool plain = is_true(option, "settable") && is_true(option, "documented");
    if (!plain && !advanced)
        return error_set(ret_error, EINVAL, "option %s is an advanced one: say advanced to set it", name);
    return 0;
}

int engine_option_check(struct engine *engine, const char *text, bool advanced, struct error **ret_error)
{
    const char *equals = strchr(text, '='), *dot = strchr(text, '.');
    if (!equals || !dot || dot > equals)
        return error_set(ret_error, EINVAL, "option \"%s\" is not TRANSLATOR.OPTION=VALUE", text);
    autofree char *name = xstrndup(text, (size_t)(equals - text));
    autofree char *word = xstrndup(text, (size_t)(dot - text));
    const char *value = equals + 1;
    const struct translator *translator = NULL;
    autostrbuf struct strbuf words = {0};
    for (size_t i = 0; i < sizeof translators / sizeof *translators; i++) {
        strbuf_addf(&words, "%s%s", i ? ", " : "", translators[i].word);
        if (strcmp(translators[i].word, word) == 0)
            translator = &translators[i];
    }
    if (!translator)
        return error_set(ret_error, EINVAL, "option %s: there is no translator %s; they are %s", name, word,
                         strbuf_string(&words));
    if (!*value || strlen(value) > VALUE_MAX || strspn(value, VALUE_CHARS) != strlen(value))
        return error_set(ret_error, EINVAL, "option %s: a value has letters, digits and _.,:+%%- only", name);
    json_t *table = NULL;
    int r = read_table(engine, translator, &table, ret_error);
    const json_t *option =
        r == 0 ? find_option(table, dot + 1 < equals ? name + strlen(word) + 1 : "") : NULL;
    if (r == 0)
        r = check_known(name, option, advanced, ret_error);
    if (r == 0)
        r = check_value(name, option, value, ret_error);
    json_decref(table);
    return r;
}
