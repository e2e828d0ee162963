/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The volfiles of a volume's clients: the bricks' clients, what keeps them together as sets, and the top. */
#include "blockd/engine/volfile_priv.h"

#include "rpc/base/alloc.h"
#include "rpc/volume_layout.h"

/* Of a standard mount at least: one of them waits for another when a program that asks for a lock gets a
 * signal (xlators/gate/answers.c). */
#define EVENT_THREADS_MIN 2

/* A translator that nothing stands on is never told to end, and stays connected. */
static bool is_left_out(const struct volfile_sources *sources, size_t set)
{
    return sources->one_set && set + 1 != sources->one_set;
}

int vol_add_clients(const struct volfile_sources *sources, struct strbuf *text, struct error **ret_error)
{
    const char *volume = sources->volume->meta.name;
    for (size_t i = 0; i < volume_children(sources->volume); i++) {
        if (is_left_out(sources, volume_child_set(sources->volume, i)))
            continue;
        const struct brick_spec *brick = volume_child(sources->volume, i);
        struct vol_address address = {0};
        int r = vol_node_address(sources, brick->node, &address, ret_error);
        if (r < 0)
            return r;
        vol_begin(text, "protocol/client", "%s-client-%llu", volume, vol_child_number(sources->volume, i));
        vol_option(text, "transport-type", "tcp");
        vol_option(text, "transport.address-family", address.family);
        vol_option(text, "remote-host", address.text);
        vol_number(text, "remote-port", brick->port);
        strbuf_addf(text, "    option remote-subvolume \"%s-brick-%llu\"\n", volume,
                    vol_child_number(sources->volume, i));
        /* Bricks take requests from ports that only root may bind. */
        vol_option(text, "client-bind-insecure", "off");
        vol_number(text, "ping-timeout", sources->ping_timeout);
        vol_number(text, "transport.tcp-user-timeout", 2 * sources->ping_timeout);
        vol_number(text, "event-threads", sources->event_threads);
        r = vol_add_client_tls(sources, text, ret_error);
        if (r < 0)
            return r;
        vol_end(text, "%s", "");
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
        size_t set = volume_child_set(sources->volume, i);
        if (!volume_set_is_replicated(sources->volume, set) || is_left_out(sources, set))
            continue;
        vol_begin(text, type, "%s-watch-%llu", volume, vol_child_number(sources->volume, i));
        vol_end(text, "\"%s-client-%llu\"", volume, vol_child_number(sources->volume, i));
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
                        role, vol_child_number(volume, i), quote);
    return strbuf_steal(&names);
}

unsigned long long vol_set_number(const struct volume *volume, size_t set)
{
    return layout_set_number(&volume->spec, set);
}

/* What comes after "V-" in the name of a set's translator. The caller's. */
static char *set_role(const struct volume *volume, size_t set)
{
    if (volume_set_is_replicated(volume, set))
        return xasprintf("replicate-%llu", vol_set_number(volume, set));
    if (volume->spec.template_name == TEMPLATE_DISPERSE)
        return xasprintf("disperse-%llu", vol_set_number(volume, set));
    return xasprintf("client-%llu", vol_child_number(volume, set));
}

bool vol_is_bundle(const struct volume *volume, size_t set)
{
    return volume_set_is_replicated(volume, set) || volume->spec.template_name == TEMPLATE_DISPERSE;
}

char *vol_bundle_names(const struct volume *volume)
{
    struct strbuf names = {0};
    for (size_t set = 0; set < layout_sets(&volume->spec); set++) {
        if (!vol_is_bundle(volume, set))
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
void vol_begin_replicate(const struct volume *volume, size_t set, struct strbuf *text)
{
    autofree char *pending = brick_names(volume, set, "client", "", ",");
    vol_begin(text, "cluster/replicate", "%s-replicate-%llu", volume->meta.name, vol_set_number(volume, set));
    vol_option(text, "afr-pending-xattr", pending);
    if (volume->spec.template_name == TEMPLATE_ARBITER)
        vol_number(text, "arbiter-count", 1);
    vol_option(text, "quorum-type", "auto");
    vol_option(text, "eager-lock", "on");
    vol_option(text, "ensure-durability", "on");
    vol_option(text, "granular-entry-heal", "on");
    vol_option(text, "locking-scheme", "granular");
}

void vol_end_set(const struct volume *volume, size_t set, const char *below, struct strbuf *text)
{
    autofree char *children = brick_names(volume, set, below, "\"", " ");
    vol_end(text, "%s", children);
}

void vol_begin_disperse(const struct volume *volume, size_t set, struct strbuf *text)
{
    vol_begin(text, "cluster/disperse", "%s-disperse-%llu", volume->meta.name, vol_set_number(volume, set));
    vol_number(text, "redundancy", volume->spec.redundancy);
    vol_option(text, "eager-lock", "on");
    vol_option(text, "other-eager-lock", "on");
}

/*
 * Heals are left to the daemon: a guest's request must not wait behind one. All reads of a file go to one
 * brick, the local one where there is one: spread over replicas, reads after a client's crash could see a
 * half replicated write come and go until it is healed.
 */
static void add_client_replicate(const struct volume *volume, size_t set, const char *below,
                                 struct strbuf *text)
{
    vol_begin_replicate(volume, set, text);
    vol_number(text, "post-op-delay-secs", 1);
    vol_option(text, "choose-local", "on");
    vol_number(text, "read-hash-mode", 1);
    vol_option(text, "data-self-heal", "off");
    vol_option(text, "metadata-self-heal", "off");
    vol_option(text, "entry-self-heal", "off");
    vol_end_set(volume, set, below, text);
}

static void add_client_disperse(const struct volume *volume, size_t set, const char *below,
                                struct strbuf *text)
{
    vol_begin_disperse(volume, set, text);
    vol_option(text, "read-policy", "gfid-hash");
    vol_number(text, "background-heals", 0);
    vol_end_set(volume, set, below, text);
}

/* The name of a set for distribute, which notes it in files: a brick's changes when that moves. */
static char *stable_name(const struct volfile_sources *sources, size_t set, struct strbuf *text)
{
    const struct volume *volume = sources->volume;
    autofree char *role = set_role(volume, set);
    if (volume->spec.template_name != TEMPLATE_SINGLE)
        return xasprintf("%s-%s", volume->meta.name, role);
    vol_begin(text, "debug/io-stats", "%s-single-%llu", volume->meta.name, vol_set_number(volume, set));
    vol_option(text, "latency-measurement", "off");
    vol_option(text, "count-fop-hits", "off");
    if (sources->evacuates)
        vol_end(text, "\"%s-steady-%llu\"", volume->meta.name, vol_child_number(volume, set));
    else
        vol_end(text, "\"%s-%s\"", volume->meta.name, role);
    return xasprintf("%s-single-%llu", volume->meta.name, vol_set_number(volume, set));
}

/*
 * A volume of one set has it too: folders get the note of their layout, without which they could not be
 * listed rightly once there is a second set. A file is looked for in every set when it is not where its name
 * says: it is so after an expand, until the volume is rebalanced, and after it for files that were in use. A
 * file that somebody writes to is moved by force only where replicate's locks keep the copy right
 * (xlators/steady). With TLS it has another name: a process that knows the volume without must make its
 * clients anew, as one that is there never begins to speak it.
 */
const char *vol_add_distribute(const struct volfile_sources *sources, struct strbuf *text)
{
    const struct volume *volume = sources->volume;
    const char *role = volume->spec.tls == VOLUME_TLS_ON ? "dht-tls" : "dht";
    bool force = sources->evacuates && volume_set_is_replicated(volume, 0);
    autostrbuf struct strbuf below = {0};
    autofree char *leaving = NULL;
    for (size_t set = 0; set < layout_sets(&volume->spec); set++) {
        autofree char *name = stable_name(sources, set, text);
        strbuf_addf(&below, "%s\"%s\"", set ? " " : "", name);
        if (set == layout_leaving(&volume->spec))
            leaving = steal_ptr(&name);
    }
    vol_begin(text, "cluster/distribute", "%s-%s", volume->meta.name, role);
    vol_option(text, "lookup-unhashed", "on");
    vol_option(text, "lookup-optimize", "off");
    vol_option(text, "force-migration", force ? "on" : "off");
    if (leaving)
        vol_option(text, "decommissioned-bricks", leaving);
    if (sources->evacuates) /* its files must go, wherever there is room */
        vol_option(text, "min-free-disk", "1%");
    vol_end(text, "%s", strbuf_string(&below));
    return role;
}

/* What is above the bricks' clients, up to where the sets are one. The caller's: the name of its top. */
static char *add_sets(const struct volfile_sources *sources, const char *below, struct strbuf *text)
{
    const struct volume *volume = sources->volume;
    for (size_t set = 0; set < layout_sets(&volume->spec); set++) {
        if (is_left_out(sources, set))
            continue;
        if (volume_set_is_replicated(volume, set))
            add_client_replicate(volume, set, below, text);
        else if (vol_is_bundle(volume, set))
            add_client_disperse(volume, set, sources->evacuates ? below : "client", text);
    }
    if (sources->one_set)
        return set_role(volume, sources->one_set - 1);
    return xstrdup(vol_add_distribute(sources, text));
}

/* Holds answers back until replicate has noted who missed a change; only machines with blockd have it. */
static void add_gate(const struct volfile_sources *sources, const char *below, struct strbuf *text)
{
    const char *volume = sources->volume->meta.name;
    autofree char *type = xasprintf("%s/gate", sources->xlators);
    vol_begin(text, type, "%s-gate", volume);
    vol_end(text, "\"%s-%s\"", volume, below);
}

/* The top of a client's stack bears the volume's name. */
static void add_client_top(const struct volume *volume, const char *below, struct strbuf *text)
{
    vol_begin(text, "debug/io-stats", "%s", volume->meta.name);
    vol_option(text, "volume-id", volume->meta.uid);
    vol_option(text, "latency-measurement", "off");
    vol_option(text, "count-fop-hits", "off");
    vol_end(text, "\"%s-%s\"", volume->meta.name, below);
}

int volfile_client(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error)
{
    const struct volume *volume = sources->volume;
    size_t from = ret_text->length;
    int r = volfile_volume_check(volume, ret_error);
    if (r == 0)
        r = vol_add_clients(sources, ret_text, ret_error);
    if (r < 0)
        return r;
    add_watches(sources, ret_text);
    autofree char *below = add_sets(sources, "watch", ret_text);
    add_client_top(volume, below, ret_text);
    volfile_set_options(volume, ret_text, from);
    return 0;
}

static void add_steady(const struct volfile_sources *sources, struct strbuf *text)
{
    const struct volume *volume = sources->volume;
    autofree char *type = xasprintf("%s/steady", sources->xlators);
    for (size_t i = 0; i < volume_children(volume); i++) {
        vol_begin(text, type, "%s-steady-%llu", volume->meta.name, vol_child_number(volume, i));
        vol_option(text, "locks",
                   volume_set_is_replicated(volume, volume_child_set(volume, i)) ? "on" : "off");
        vol_end(text, "\"%s-client-%llu\"", volume->meta.name, vol_child_number(volume, i));
    }
}

int volfile_evacuate(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error)
{
    struct volfile_sources evacuating = *sources;
    evacuating.evacuates = true;
    size_t from = ret_text->length;
    int r = volfile_volume_check(sources->volume, ret_error);
    if (r == 0)
        r = vol_add_clients(&evacuating, ret_text, ret_error);
    if (r < 0)
        return r;
    add_steady(&evacuating, ret_text);
    autofree char *below = add_sets(&evacuating, "steady", ret_text);
    add_client_top(sources->volume, below, ret_text);
    volfile_set_options(sources->volume, ret_text, from);
    return 0;
}

/*
 * Names and attributes are cached by the kernel, for a second. A cache below it would answer in its place
 * when the kernel asks again because something is wrong: with md-cache a name that another client gave to
 * another file is ESTALE for a second, with quick-read an open does not see what was written before it, and
 * with open-behind a file that another client removed cannot be read by who has it open.
 */
static int add_mount(const struct volfile_sources *sources, bool gated, struct strbuf *text,
                     struct error **ret_error)
{
    const struct volume *volume = sources->volume;
    struct volfile_sources standard = *sources;
    /* Other machines have their certificates where GlusterFS looks without being told. */
    if (!gated)
        standard.pki = NULL;
    if (!gated && standard.event_threads < EVENT_THREADS_MIN)
        standard.event_threads = EVENT_THREADS_MIN;
    size_t from = text->length;
    int r = volfile_volume_check(volume, ret_error);
    if (r == 0)
        r = vol_add_clients(&standard, text, ret_error);
    if (r < 0)
        return r;
    if (gated)
        add_watches(sources, text);
    autofree char *sets = add_sets(sources, gated ? "watch" : "client", text);
    const char *below = gated ? "gate" : sets;
    if (gated)
        add_gate(sources, sets, text);
    vol_begin(text, "performance/write-behind", "%s-write-behind", volume->meta.name);
    vol_end(text, "\"%s-%s\"", volume->meta.name, below);
    /* With several sets a folder is on all of them, and the answer to a change speaks of one. */
    bool parents = gated && layout_sets(&volume->spec) == 1;
    if (parents) {
        autofree char *type = xasprintf("%s/parents", sources->xlators);
        vol_begin(text, type, "%s-parents", volume->meta.name);
        vol_end(text, "\"%s-write-behind\"", volume->meta.name);
    }
    add_client_top(volume, parents ? "parents" : "write-behind", text);
    volfile_set_options(volume, text, from);
    return 0;
}

int volfile_mount(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error)
{
    return add_mount(sources, false, ret_text, ret_error);
}

int volfile_share(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error)
{
    return add_mount(sources, true, ret_text, ret_error);
}
