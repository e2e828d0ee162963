/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * GlusterFS reads a volfile as a list of translators, from the bottom of the stack to its top. Every word
 * that comes from outside is quoted: the lexer takes bare words such as "option" or "volume" for keywords,
 * whatever stands around them.
 */
#include "blockd/engine/engine_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/sizes.h"
#include "rpc/volume_layout.h"

/* The shortest that replicate takes. A brick's return starts a heal at once; this is the retry. */
#define HEAL_INTERVAL_SECONDS 5
/* The shortest that disperse takes. */
#define FRAGMENT_HEAL_INTERVAL_SECONDS 60
#define HEAL_THREADS                   4
#define HEALTH_CHECK_SECONDS           15

int volfile_path_check(const char *what, const char *path, struct error **ret_error)
{
    if (!path || path[0] != '/')
        return error_set(ret_error, EINVAL, "%s \"%s\" must be an absolute path", what, path ? path : "");
    for (const unsigned char *c = (const unsigned char *)path; *c; c++)
        if (*c < ' ' || *c == 0x7f || strchr("\"\\`$%", *c))
            return error_set(
                ret_error, EINVAL,
                "%s \"%s\" has a character that cannot be used there (control, \", \\, `, $ or %%)", what,
                path);
    return 0;
}

/* How an address is to be written in a volfile, and its family; names are left to the resolver. */
struct address {
    char text[INET6_ADDRSTRLEN];
    const char *family;
};

static int address_parse(const char *node, const char *text, struct address *ret_address,
                         struct error **ret_error)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        inet_ntop(AF_INET, &v4, ret_address->text, sizeof ret_address->text);
        ret_address->family = "inet";
    } else if (inet_pton(AF_INET6, text, &v6) == 1) {
        /* Bricks compare the peer's address as text: only the canonical form matches. */
        inet_ntop(AF_INET6, &v6, ret_address->text, sizeof ret_address->text);
        ret_address->family = "inet6";
    } else {
        return error_set(ret_error, EINVAL, "node %s: \"%s\" is no IPv4 or IPv6 address", node, text);
    }
    return 0;
}

static int node_address(const struct volfile_sources *sources, const char *name, struct address *ret_address,
                        struct error **ret_error)
{
    for (size_t i = 0; i < sources->node_count; i++) {
        const struct node *node = &sources->nodes[i];
        if (string_equal(node->meta.name, name) && node->spec.addresses.count > 0)
            return address_parse(name, node->spec.addresses.items[0], ret_address, ret_error);
    }
    return error_set(ret_error, EINVAL, "volume %s has a brick on node %s, which has no address",
                     sources->volume->meta.name, name);
}

int volfile_volume_check(const struct volume *volume, struct error **ret_error)
{
    int r = engine_name_check("volume", volume->meta.name, ret_error);
    if (r < 0)
        return r;
    const char *name = volume->meta.name;
    if (!volume->meta.uid || strlen(volume->meta.uid) != 36 ||
        strspn(volume->meta.uid, "0123456789abcdef-") != 36)
        return error_set(ret_error, EINVAL, "volume %s has no UUID", name);
    size_t count = volume->spec.bricks.count;
    r = layout_check(&volume->spec, ret_error);
    if (r < 0) {
        error_prefix(ret_error, "volume %s", name);
        return r;
    }
    if (!layout_sets(&volume->spec) || count > VOLUME_BRICKS_MAX)
        return error_set(ret_error, EINVAL,
                         "volume %s has %zu bricks, but template %s needs a multiple of %zu, at most %d",
                         name, count, volume_template_words[volume->spec.template_name],
                         layout_set_bricks(&volume->spec), VOLUME_BRICKS_MAX);
    for (size_t i = 0; i < volume_children(volume); i++) {
        const struct brick_spec *brick = volume_child(volume, i);
        r = engine_name_check("node", brick->node, ret_error);
        if (r == 0)
            r = engine_name_check("device", brick->device, ret_error);
        if (r < 0)
            return r;
        if (brick->port < 1 || brick->port > UINT16_MAX)
            return error_set(ret_error, EINVAL, "volume %s: the brick on %s/%s has no port", name,
                             brick->node, brick->device);
    }
    return 0;
}

static unsigned long long number_of(const struct volume *volume, size_t index)
{
    return volume_child_number(volume, index);
}

static void option(struct strbuf *text, const char *key, const char *value)
{
    strbuf_addf(text, "    option %s \"%s\"\n", key, value);
}

static void option_number(struct strbuf *text, const char *key, uint64_t value)
{
    strbuf_addf(text, "    option %s %llu\n", key, (unsigned long long)value);
}

__attribute__((format(printf, 3, 4))) static void begin(struct strbuf *text, const char *type,
                                                        const char *name_format, ...)
{
    va_list arguments;
    va_start(arguments, name_format);
    autofree char *name = xvasprintf(name_format, arguments);
    va_end(arguments);
    strbuf_addf(text, "volume \"%s\"\n    type %s\n", name, type);
}

__attribute__((format(printf, 2, 3))) static void end(struct strbuf *text, const char *below_format, ...)
{
    va_list arguments;
    va_start(arguments, below_format);
    autofree char *below = xvasprintf(below_format, arguments);
    va_end(arguments);
    if (*below)
        strbuf_addf(text, "    subvolumes %s\n", below);
    strbuf_adds(text, "end-volume\n\n");
}

/* ---- Bricks ---- */

/* "*", "10.*", "10.1.*", "10.1.2.*": whole parts of an IPv4 address. */
static bool is_pattern(const char *text)
{
    for (int parts = 0; parts < 4; parts++) {
        if (strcmp(text, "*") == 0)
            return true;
        size_t digits = strspn(text, "0123456789");
        if (digits < 1 || digits > 3 || text[digits] != '.')
            return false;
        text += digits + 1;
    }
    return false;
}

/*
 * GlusterFS compares with the peer's address as text. It would take networks too, but its masks are right for
 * whole bytes only, those of /32 match everything, and those of IPv6 write past their buffer.
 */
int volfile_access_pattern(const char *entry, char **ret_pattern, struct error **ret_error)
{
    static const char *const suffixes[] = {"/8", "/16", "/24"};
    struct in_addr v4;
    struct in6_addr v6;
    char text[INET6_ADDRSTRLEN];
    const char *slash = strchr(entry, '/');
    autofree char *address = slash ? xstrndup(entry, (size_t)(slash - entry)) : xstrdup(entry);
    if (!slash && inet_pton(AF_INET6, address, &v6) == 1) {
        *ret_pattern = xstrdup(inet_ntop(AF_INET6, &v6, text, sizeof text));
        return 0;
    }
    if (is_pattern(entry)) {
        *ret_pattern = xstrdup(entry);
        return 0;
    }
    if (inet_pton(AF_INET, address, &v4) == 1) {
        const unsigned char *bytes = (const unsigned char *)&v4;
        if (!slash) {
            *ret_pattern = xstrdup(inet_ntop(AF_INET, &v4, text, sizeof text));
            return 0;
        }
        for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
            if (strcmp(slash, suffixes[i]) != 0)
                continue;
            struct strbuf pattern = {0};
            for (size_t k = 0; k <= i; k++)
                strbuf_addf(&pattern, "%u.", bytes[k]);
            strbuf_adds(&pattern, "*");
            *ret_pattern = strbuf_steal(&pattern);
            return 0;
        }
    }
    return error_set(ret_error, EINVAL,
                     "access \"%.64s\" is none of: an IPv4 or IPv6 address, an IPv4 network /8, /16 or /24 "
                     "(or 10.*), \"*\"",
                     entry);
}

int engine_access_check(const struct string_list *access, struct error **ret_error)
{
    int r = 0;
    for (size_t i = 0; i < access->count && r == 0; i++) {
        autofree char *pattern = NULL;
        r = volfile_access_pattern(access->items[i], &pattern, ret_error);
    }
    return r;
}

static void add_once(struct string_list *list, const char *text)
{
    if (!string_list_contains(list, text))
        string_list_add(list, text);
}

static int add_patterns(const struct string_list *access, struct string_list *list, struct error **ret_error)
{
    for (size_t i = 0; i < access->count; i++) {
        autofree char *pattern = NULL;
        int r = volfile_access_pattern(access->items[i], &pattern, ret_error);
        if (r < 0)
            return r;
        add_once(list, pattern);
    }
    return 0;
}

/* This machine, every address of the nodes, and the volume's own list. */
static int may_have_all(const struct volfile_sources *sources, struct string_list *list,
                        struct error **ret_error)
{
    string_list_add(list, "127.0.0.1");
    string_list_add(list, "::1");
    for (size_t i = 0; i < sources->node_count; i++) {
        const struct node *node = &sources->nodes[i];
        for (size_t k = 0; k < node->spec.addresses.count; k++) {
            struct address address;
            int r = address_parse(node->meta.name, node->spec.addresses.items[k], &address, ret_error);
            if (r < 0)
                return r;
            add_once(list, address.text);
        }
    }
    return add_patterns(&sources->volume->spec.access, list, ret_error);
}

static void join(const struct string_list *list, const char *separator, struct strbuf *text)
{
    for (size_t i = 0; i < list->count; i++)
        strbuf_addf(text, "%s%s", i ? separator : "", list->items[i]);
}

static bool shares_have_lists(const struct volfile_sources *sources)
{
    for (size_t i = 0; i < sources->share_count; i++)
        if (sources->shares[i].spec.access.count)
            return true;
    return false;
}

int volfile_access(const struct volfile_sources *sources, struct strbuf *ret_list, struct error **ret_error)
{
    autostring_list struct string_list list = {0};
    int r = may_have_all(sources, &list, ret_error);
    for (size_t i = 0; r == 0 && i < sources->share_count; i++)
        r = add_patterns(&sources->shares[i].spec.access, &list, ret_error);
    join(&list, ",", ret_list);
    return r;
}

/*
 * As auth.addr has it: a list that counts for every folder, or a list for each folder that may be mounted,
 * and then no other one may be.
 */
static int brick_access(const struct volfile_sources *sources, struct strbuf *ret_text,
                        struct error **ret_error)
{
    autostring_list struct string_list all = {0};
    int r = may_have_all(sources, &all, ret_error);
    if (r < 0 || !shares_have_lists(sources)) {
        join(&all, ",", ret_text);
        return r;
    }
    strbuf_adds(ret_text, "/(");
    join(&all, "|", ret_text);
    strbuf_adds(ret_text, ")");
    for (size_t i = 0; r == 0 && i < sources->share_count; i++) {
        const struct share *share = &sources->shares[i];
        autostring_list struct string_list list = {0};
        string_list_copy(&list, &all);
        r = add_patterns(&share->spec.access, &list, ret_error);
        strbuf_addf(ret_text, ",%s(", share->status.path);
        join(&list, "|", ret_text);
        strbuf_adds(ret_text, ")");
    }
    return r;
}

static void add_posix(const struct volfile_sources *sources, const char *folder, struct strbuf *text)
{
    begin(text, "storage/posix", "%s-posix", sources->volume->meta.name);
    option(text, "directory", folder);
    option(text, "volume-id", sources->volume->meta.uid);
    option_number(text, "shared-brick-count", 1);
    /* A brick whose disk hangs must leave, so that its replicas serve on without it. */
    option_number(text, "health-check-interval", HEALTH_CHECK_SECONDS);
    option(text, "fips-mode-rchecksum", "on");
    /* No client here sends times (features/utime), so their copy in an xattr would only cost. */
    option(text, "ctime", "off");
    end(text, "%s", "");
}

static void add_brick_middle(const struct volfile_sources *sources, size_t index, const char *folder,
                             const char *roll, struct strbuf *text)
{
    autofree char *reload = xasprintf("%s/reload", sources->xlators);
    const char *volume = sources->volume->meta.name;
    const char *below = "posix";
    if (volume_child_is_witness(sources->volume, index)) {
        begin(text, "features/arbiter", "%s-arbiter", volume);
        end(text, "\"%s-%s\"", volume, below);
        below = "arbiter";
    }
    begin(text, "features/locks", "%s-locks", volume);
    end(text, "\"%s-%s\"", volume, below);

    begin(text, "features/index", "%s-index", volume);
    strbuf_addf(text, "    option index-base \"%s/.glusterfs/indices\"\n", folder);
    if (sources->volume->spec.template_name == TEMPLATE_DISPERSE) {
        option(text, "xattrop64-watchlist", "trusted.ec.dirty");
    } else {
        option(text, "xattrop-dirty-watchlist", "trusted.afr.dirty");
        strbuf_addf(text, "    option xattrop-pending-watchlist \"trusted.afr.%s-\"\n", volume);
    }
    end(text, "\"%s-locks\"", volume);

    begin(text, "performance/io-threads", "%s-io-threads", volume);
    end(text, "\"%s-index\"", volume);

    autofree char *type = xasprintf("%s/roll", sources->xlators);
    begin(text, type, "%s-roll", volume);
    option(text, "file", roll);
    end(text, "\"%s-io-threads\"", volume);

    begin(text, reload, "%s-reload", volume);
    end(text, "\"%s-roll\"", volume);

    begin(text, "debug/io-stats", "%s-brick-%llu", volume, number_of(sources->volume, index));
    option(text, "unique-id", folder);
    option(text, "volume-id", sources->volume->meta.uid);
    option(text, "latency-measurement", "off");
    option(text, "count-fop-hits", "off");
    end(text, "\"%s-reload\"", volume);
}

int volfile_brick(const struct volfile_sources *sources, size_t index, const char *folder, const char *roll,
                  struct strbuf *ret_text, struct error **ret_error)
{
    const struct volume *volume = sources->volume;
    int r = volfile_volume_check(volume, ret_error);
    if (r == 0)
        r = volfile_path_check("brick folder", folder, ret_error);
    if (r == 0)
        r = volfile_path_check("list of clients", roll, ret_error);
    if (r < 0)
        return r;
    struct address address = {0};
    r = node_address(sources, volume_child(volume, index)->node, &address, ret_error);
    if (r < 0)
        return r;
    autostrbuf struct strbuf peers = {0};
    r = brick_access(sources, &peers, ret_error);
    if (r < 0)
        return r;

    size_t from = ret_text->length;
    add_posix(sources, folder, ret_text);
    add_brick_middle(sources, index, folder, roll, ret_text);

    begin(ret_text, "protocol/server", "%s-server", volume->meta.name);
    option(ret_text, "transport-type", "tcp");
    option(ret_text, "transport.address-family", address.family);
    option(ret_text, "transport.socket.bind-address", address.text);
    option_number(ret_text, "transport.socket.listen-port", volume_child(volume, index)->port);
    option_number(ret_text, "transport.listen-backlog", 1024);
    /* The locks of a client that vanished are held until its connection is given up: as soon as a client
     * does. */
    option_number(ret_text, "transport.tcp-user-timeout", 2 * sources->ping_timeout);
    option_number(ret_text, "transport.socket.keepalive-time", sources->ping_timeout);
    option_number(ret_text, "transport.socket.keepalive-interval", 1);
    option_number(ret_text, "transport.socket.keepalive-count", sources->ping_timeout);
    option_number(ret_text, "event-threads", sources->event_threads);
    /* The protocol believes the user id that a client claims, so only root's ports of known machines may
     * speak. */
    option(ret_text, "rpc-auth-allow-insecure", "off");
    /* Clients that are connected are looked at again when the list changes. */
    option(ret_text, "dynamic-auth", "on");
    strbuf_addf(ret_text, "    option auth-path \"%s-brick-%llu\"\n", volume->meta.name,
                number_of(volume, index));
    strbuf_addf(ret_text, "    option \"auth.addr.%s-brick-%llu.allow\" \"%s\"\n", volume->meta.name,
                number_of(volume, index), strbuf_string(&peers));
    end(ret_text, "\"%s-brick-%llu\"", volume->meta.name, number_of(volume, index));
    volfile_set_options(volume, ret_text, from);
    return 0;
}

/* ---- Clients ---- */

static int add_clients(const struct volfile_sources *sources, struct strbuf *text, struct error **ret_error)
{
    const char *volume = sources->volume->meta.name;
    for (size_t i = 0; i < volume_children(sources->volume); i++) {
        const struct brick_spec *brick = volume_child(sources->volume, i);
        struct address address = {0};
        int r = node_address(sources, brick->node, &address, ret_error);
        if (r < 0)
            return r;
        begin(text, "protocol/client", "%s-client-%llu", volume, number_of(sources->volume, i));
        option(text, "transport-type", "tcp");
        option(text, "transport.address-family", address.family);
        option(text, "remote-host", address.text);
        option_number(text, "remote-port", brick->port);
        strbuf_addf(text, "    option remote-subvolume \"%s-brick-%llu\"\n", volume,
                    number_of(sources->volume, i));
        /* Bricks take requests from ports that only root may bind (add_server()). */
        option(text, "client-bind-insecure", "off");
        option_number(text, "ping-timeout", sources->ping_timeout);
        option_number(text, "transport.tcp-user-timeout", 2 * sources->ping_timeout);
        option_number(text, "event-threads", sources->event_threads);
        end(text, "%s", "");
    }
    return 0;
}

/*
 * The self-heal daemon has none: it needs the clients right below replicate. Neither has disperse: it reads
 * under its lock, and notes who is behind before it gives that up.
 */
static void add_watches(const struct volfile_sources *sources, struct strbuf *text)
{
    const char *volume = sources->volume->meta.name;
    autofree char *type = xasprintf("%s/watch", sources->xlators);
    for (size_t i = 0; i < volume_children(sources->volume); i++) {
        if (!volume_set_is_replicated(sources->volume, volume_child_set(sources->volume, i)))
            continue;
        begin(text, type, "%s-watch-%llu", volume, number_of(sources->volume, i));
        end(text, "\"%s-client-%llu\"", volume, number_of(sources->volume, i));
    }
}

/* The names "V-ROLE-N" of the bricks of one set, joined by a separator. */
static char *brick_names(const struct volume *volume, size_t set, const char *role, const char *quote,
                         const char *separator)
{
    struct strbuf names = {0};
    for (size_t i = 0; i < volume_children(volume); i++)
        if (volume_child_set(volume, i) == set)
            strbuf_addf(&names, "%s%s%s-%s-%llu%s", names.length ? separator : "", quote, volume->meta.name,
                        role, number_of(volume, i), quote);
    return strbuf_steal(&names);
}

/* What comes after "V-" in the name of a set's translator. The caller's. */
static char *set_role(const struct volume *volume, size_t set)
{
    if (volume_set_is_replicated(volume, set))
        return xasprintf("replicate-%zu", set);
    if (volume->spec.template_name == TEMPLATE_DISPERSE)
        return xasprintf("disperse-%zu", set);
    return xasprintf("client-%llu", number_of(volume, set));
}

/* Has the set a translator that keeps several bricks together? */
static bool is_bundle(const struct volume *volume, size_t set)
{
    return volume_set_is_replicated(volume, set) || volume->spec.template_name == TEMPLATE_DISPERSE;
}

static char *bundle_names(const struct volume *volume)
{
    struct strbuf names = {0};
    for (size_t set = 0; set < layout_sets(&volume->spec); set++) {
        if (!is_bundle(volume, set))
            continue;
        autofree char *role = set_role(volume, set);
        strbuf_addf(&names, "%s\"%s-%s\"", names.length ? " " : "", volume->meta.name, role);
    }
    return strbuf_steal(&names);
}

/*
 * What clients and the self-heal daemon must agree on, or they would lock and mark files in different ways.
 * ensure-durability makes a brick's data durable before the mark that it may be behind is taken away: without
 * it, a power cut could leave replicas that differ and do not know.
 */
static void add_replicate_common(const struct volume *volume, size_t set, struct strbuf *text)
{
    autofree char *pending = brick_names(volume, set, "client", "", ",");
    begin(text, "cluster/replicate", "%s-replicate-%zu", volume->meta.name, set);
    option(text, "afr-pending-xattr", pending);
    if (volume->spec.template_name == TEMPLATE_ARBITER)
        option_number(text, "arbiter-count", 1);
    option(text, "quorum-type", "auto");
    option(text, "eager-lock", "on");
    option(text, "ensure-durability", "on");
    option(text, "granular-entry-heal", "on");
    option(text, "locking-scheme", "granular");
}

static void end_set(const struct volume *volume, size_t set, const char *below, struct strbuf *text)
{
    autofree char *children = brick_names(volume, set, below, "\"", " ");
    end(text, "%s", children);
}

static void add_disperse_common(const struct volume *volume, size_t set, struct strbuf *text)
{
    begin(text, "cluster/disperse", "%s-disperse-%zu", volume->meta.name, set);
    option_number(text, "redundancy", volume->spec.redundancy);
    option(text, "eager-lock", "on");
    option(text, "other-eager-lock", "on");
}

/*
 * Heals are left to the daemon: a guest's request must not wait behind one. All reads of a file go to one
 * brick, the local one where there is one: spread over replicas, reads after a client's crash could see a
 * half replicated write come and go until it is healed.
 */
static void add_client_replicate(const struct volume *volume, size_t set, const char *below,
                                 struct strbuf *text)
{
    add_replicate_common(volume, set, text);
    option_number(text, "post-op-delay-secs", 1);
    option(text, "choose-local", "on");
    option_number(text, "read-hash-mode", 1);
    option(text, "data-self-heal", "off");
    option(text, "metadata-self-heal", "off");
    option(text, "entry-self-heal", "off");
    end_set(volume, set, below, text);
}

static void add_client_disperse(const struct volume *volume, size_t set, const char *below,
                                struct strbuf *text)
{
    add_disperse_common(volume, set, text);
    option(text, "read-policy", "gfid-hash");
    option_number(text, "background-heals", 0);
    end_set(volume, set, below, text);
}

/* The name of a set for distribute, which notes it in files: a brick's changes when that moves. */
static char *stable_name(const struct volume *volume, size_t set, struct strbuf *text)
{
    autofree char *role = set_role(volume, set);
    if (volume->spec.template_name != TEMPLATE_SINGLE)
        return xasprintf("\"%s-%s\"", volume->meta.name, role);
    begin(text, "debug/io-stats", "%s-single-%zu", volume->meta.name, set);
    option(text, "latency-measurement", "off");
    option(text, "count-fop-hits", "off");
    end(text, "\"%s-%s\"", volume->meta.name, role);
    return xasprintf("\"%s-single-%zu\"", volume->meta.name, set);
}

/*
 * A volume of one set has it too: folders get the note of their layout, without which they could not be
 * listed rightly once there is a second set. A file is looked for in every set when it is not where its name
 * says: it is so after an expand, until the volume is rebalanced, and after it for files that were in use. A
 * file that somebody writes to is never moved by force.
 */
static void add_distribute(const struct volume *volume, struct strbuf *text)
{
    autostrbuf struct strbuf below = {0};
    for (size_t set = 0; set < layout_sets(&volume->spec); set++) {
        autofree char *name = stable_name(volume, set, text);
        strbuf_addf(&below, "%s%s", set ? " " : "", name);
    }
    begin(text, "cluster/distribute", "%s-dht", volume->meta.name);
    option(text, "lookup-unhashed", "on");
    option(text, "lookup-optimize", "off");
    option(text, "force-migration", "off");
    end(text, "%s", strbuf_string(&below));
}

/* What is above the bricks' clients, up to where the sets are one. The caller's: the name of its top. */
static char *add_sets(const struct volfile_sources *sources, const char *below, struct strbuf *text)
{
    const struct volume *volume = sources->volume;
    for (size_t set = 0; set < layout_sets(&volume->spec); set++) {
        if (volume_set_is_replicated(volume, set))
            add_client_replicate(volume, set, below, text);
        else if (is_bundle(volume, set))
            add_client_disperse(volume, set, "client", text);
    }
    if (sources->one_set)
        return set_role(volume, sources->one_set - 1);
    add_distribute(volume, text);
    return xstrdup("dht");
}

/* The top of a client's stack bears the volume's name. */
static void add_client_top(const struct volume *volume, const char *below, struct strbuf *text)
{
    begin(text, "debug/io-stats", "%s", volume->meta.name);
    option(text, "volume-id", volume->meta.uid);
    option(text, "latency-measurement", "off");
    option(text, "count-fop-hits", "off");
    end(text, "\"%s-%s\"", volume->meta.name, below);
}

int volfile_client(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error)
{
    const struct volume *volume = sources->volume;
    size_t from = ret_text->length;
    int r = volfile_volume_check(volume, ret_error);
    if (r == 0)
        r = add_clients(sources, ret_text, ret_error);
    if (r < 0)
        return r;
    add_watches(sources, ret_text);
    autofree char *below = add_sets(sources, "watch", ret_text);
    add_client_top(volume, below, ret_text);
    volfile_set_options(volume, ret_text, from);
    return 0;
}

/*
 * Names and attributes are cached by the kernel, for a second. A cache below it would answer in its place
 * when the kernel asks again because something is wrong: with md-cache a name that another client gave to
 * another file is ESTALE for a second, with quick-read an open does not see what was written before it, and
 * with open-behind a file that another client removed cannot be read by who has it open.
 */
int volfile_mount(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error)
{
    const struct volume *volume = sources->volume;
    size_t from = ret_text->length;
    int r = volfile_volume_check(volume, ret_error);
    if (r == 0)
        r = add_clients(sources, ret_text, ret_error);
    if (r < 0)
        return r;
    autofree char *below = add_sets(sources, "client", ret_text);

    begin(ret_text, "performance/write-behind", "%s-write-behind", volume->meta.name);
    end(ret_text, "\"%s-%s\"", volume->meta.name, below);
    add_client_top(volume, "write-behind", ret_text);
    volfile_set_options(volume, ret_text, from);
    return 0;
}

/* ---- The volfile server ---- */

int volfile_volserver(const char *xlators, const char *folder, const char *socket,
                      const struct string_list *addresses, uint64_t port, struct strbuf *ret_text,
                      struct error **ret_error)
{
    int r = volfile_path_check("the folder of volfiles", folder, ret_error);
    if (r == 0)
        r = volfile_path_check("the socket", socket, ret_error);
    if (r < 0)
        return r;
    autofree char *type = xasprintf("%s/volserver", xlators);
    begin(ret_text, type, "volserver");
    option(ret_text, "folder", folder);
    option(ret_text, "socket", socket);
    autostrbuf struct strbuf list = {0};
    for (size_t i = 0; i < addresses->count; i++) {
        struct address address;
        r = address_parse("of this machine", addresses->items[i], &address, ret_error);
        if (r < 0)
            return r;
        strbuf_addf(&list, "%s%s", i ? "," : "", address.text);
    }
    if (addresses->count)
        option(ret_text, "addresses", strbuf_string(&list));
    option_number(ret_text, "port", port);
    end(ret_text, "%s", "");
    return 0;
}

/* ---- Self-heal daemon ---- */

static void add_heal_replicate(const struct volume *volume, size_t set, const char *node_uuid,
                               struct strbuf *text)
{
    add_replicate_common(volume, set, text);
    option(text, "node-uuid", node_uuid);
    option(text, "iam-self-heal-daemon", "on");
    option(text, "self-heal-daemon", "on");
    option(text, "data-self-heal", "on");
    option(text, "metadata-self-heal", "on");
    option(text, "entry-self-heal", "on");
    option_number(text, "heal-timeout", HEAL_INTERVAL_SECONDS);
    option_number(text, "shd-max-threads", HEAL_THREADS);
    end_set(volume, set, "client", text);
}

static void add_heal_disperse(const struct volume *volume, size_t set, struct strbuf *text)
{
    add_disperse_common(volume, set, text);
    option(text, "iam-self-heal-daemon", "on");
    option(text, "self-heal-daemon", "on");
    option_number(text, "heal-timeout", FRAGMENT_HEAL_INTERVAL_SECONDS);
    option_number(text, "shd-max-threads", HEAL_THREADS);
    end_set(volume, set, "client", text);
}

static int add_heal_volume(const struct volfile_sources *sources, const char *node_uuid, struct strbuf *text,
                           struct error **ret_error)
{
    const struct volume *volume = sources->volume;
    size_t from = text->length;
    int r = volfile_volume_check(volume, ret_error);
    if (r < 0)
        return r;
    if (!volume_heals(volume))
        return error_set(ret_error, EINVAL, "volume %s has one copy only: there is nothing to heal it from",
                         volume->meta.name);
    r = add_clients(sources, text, ret_error);
    if (r < 0)
        return r;
    for (size_t set = 0; set < layout_sets(&volume->spec); set++) {
        if (volume->spec.template_name == TEMPLATE_DISPERSE)
            add_heal_disperse(volume, set, text);
        else if (is_bundle(volume, set))
            add_heal_replicate(volume, set, node_uuid, text);
    }
    volfile_set_options(volume, text, from);
    return 0;
}

int volfile_heal(const struct volfile_sources *sources, size_t count, const char *node_uuid,
                 struct strbuf *ret_text, struct error **ret_error)
{
    if (!node_uuid || strlen(node_uuid) != 36 || strspn(node_uuid, "0123456789abcdef-") != 36)
        return error_set(ret_error, EINVAL, "this node has no UUID");
    autostrbuf struct strbuf below = {0};
    for (size_t i = 0; i < count; i++) {
        int r = add_heal_volume(&sources[i], node_uuid, ret_text, ret_error);
        if (r < 0)
            return r;
        autofree char *sets = bundle_names(sources[i].volume);
        strbuf_addf(&below, "%s%s", i ? " " : "", sets);
    }
    begin(ret_text, "debug/io-stats", "glustershd");
    option(ret_text, "latency-measurement", "off");
    option(ret_text, "count-fop-hits", "off");
    end(ret_text, "%s", strbuf_string(&below));
    return 0;
}

/* ---- The program that ends a split-brain ---- */

/* It names a copy by the client's name, so that nothing may stand between the clients and replicate. */
int volfile_resolve(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error)
{
    const struct volume *volume = sources->volume;
    int r = volfile_volume_check(volume, ret_error);
    if (r == 0)
        r = add_clients(sources, ret_text, ret_error);
    if (r < 0)
        return r;
    size_t sets = layout_sets(&volume->spec);
    for (size_t set = 0; set < sets; set++) {
        add_replicate_common(volume, set, ret_text);
        option(ret_text, "data-self-heal", "on");
        option(ret_text, "metadata-self-heal", "on");
        option(ret_text, "entry-self-heal", "on");
        end_set(volume, set, "client", ret_text);
    }
    if (sets > 1)
        add_distribute(volume, ret_text);
    begin(ret_text, "debug/io-stats", "%s", volume->meta.name);
    option(ret_text, "latency-measurement", "off");
    option(ret_text, "count-fop-hits", "off");
    end(ret_text, sets > 1 ? "\"%s-dht\"" : "\"%s-replicate-0\"", volume->meta.name);
    return 0;
}
