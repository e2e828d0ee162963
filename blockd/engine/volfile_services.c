/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The volfiles of what serves no data: the volfile server, the self-heal daemon, the end of a split-brain. */
#include "blockd/engine/volfile_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/volume_layout.h"

/* The shortest that replicate takes. A brick's return starts a heal at once; this is the retry. */
#define HEAL_INTERVAL_SECONDS 5
/* The shortest that disperse takes. */
#define FRAGMENT_HEAL_INTERVAL_SECONDS 60
#define HEAL_THREADS                   4

/* ---- The volfile server ---- */

int volfile_volserver(const char *xlators, const char *folder, const char *socket,
                      const struct string_list *addresses, uint64_t port, const char *pki,
                      struct strbuf *ret_text, struct error **ret_error)
{
    int r = volfile_path_check("the folder of volfiles", folder, ret_error);
    if (r == 0)
        r = volfile_path_check("the socket", socket, ret_error);
    if (r < 0)
        return r;
    autofree char *type = xasprintf("%s/volserver", xlators);
    vol_begin(ret_text, type, "volserver");
    vol_option(ret_text, "folder", folder);
    vol_option(ret_text, "socket", socket);
    autostrbuf struct strbuf list = {0};
    for (size_t i = 0; i < addresses->count; i++) {
        struct vol_address address;
        r = vol_address_parse("of this machine", addresses->items[i], &address, ret_error);
        if (r < 0)
            return r;
        strbuf_addf(&list, "%s%s", i ? "," : "", address.text);
    }
    if (addresses->count)
        vol_option(ret_text, "addresses", strbuf_string(&list));
    vol_number(ret_text, "port", port);
    if (pki && (r = vol_add_server_certificates(pki, ret_text, ret_error)) < 0)
        return r;
    vol_end(ret_text, "%s", "");
    return 0;
}

/* ---- Self-heal daemon ---- */

static void add_heal_replicate(const struct volume *volume, size_t set, const char *node_uuid,
                               struct strbuf *text)
{
    vol_begin_replicate(volume, set, text);
    vol_option(text, "node-uuid", node_uuid);
    vol_option(text, "iam-self-heal-daemon", "on");
    vol_option(text, "self-heal-daemon", "on");
    vol_option(text, "data-self-heal", "on");
    vol_option(text, "metadata-self-heal", "on");
    vol_option(text, "entry-self-heal", "on");
    vol_number(text, "heal-timeout", HEAL_INTERVAL_SECONDS);
    vol_number(text, "shd-max-threads", HEAL_THREADS);
    vol_end_set(volume, set, "client", text);
}

static void add_heal_disperse(const struct volume *volume, size_t set, struct strbuf *text)
{
    vol_begin_disperse(volume, set, text);
    vol_option(text, "iam-self-heal-daemon", "on");
    vol_option(text, "self-heal-daemon", "on");
    vol_number(text, "heal-timeout", FRAGMENT_HEAL_INTERVAL_SECONDS);
    vol_number(text, "shd-max-threads", HEAL_THREADS);
    vol_end_set(volume, set, "client", text);
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
    r = vol_add_clients(sources, text, ret_error);
    if (r < 0)
        return r;
    for (size_t set = 0; set < layout_sets(&volume->spec); set++) {
        if (volume->spec.template_name == TEMPLATE_DISPERSE)
            add_heal_disperse(volume, set, text);
        else if (vol_is_bundle(volume, set))
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
        autofree char *sets = vol_bundle_names(sources[i].volume);
        strbuf_addf(&below, "%s%s", i ? " " : "", sets);
    }
    vol_begin(ret_text, "debug/io-stats", "glustershd");
    vol_option(ret_text, "latency-measurement", "off");
    vol_option(ret_text, "count-fop-hits", "off");
    vol_end(ret_text, "%s", strbuf_string(&below));
    return 0;
}

/* ---- The program that ends a split-brain ---- */

/* It names a copy by the client's name, so that nothing may stand between the clients and replicate. */
int volfile_resolve(const struct volfile_sources *sources, struct strbuf *ret_text, struct error **ret_error)
{
    const struct volume *volume = sources->volume;
    int r = volfile_volume_check(volume, ret_error);
    if (r == 0)
        r = vol_add_clients(sources, ret_text, ret_error);
    if (r < 0)
        return r;
    size_t sets = layout_sets(&volume->spec);
    for (size_t set = 0; set < sets; set++) {
        vol_begin_replicate(volume, set, ret_text);
        vol_option(ret_text, "data-self-heal", "on");
        vol_option(ret_text, "metadata-self-heal", "on");
        vol_option(ret_text, "entry-self-heal", "on");
        vol_end_set(volume, set, "client", ret_text);
    }
    autofree char *only = xasprintf("replicate-%llu", vol_set_number(volume, 0));
    const char *below = sets > 1 ? vol_add_distribute(sources, ret_text) : only;
    vol_begin(ret_text, "debug/io-stats", "%s", volume->meta.name);
    vol_option(ret_text, "latency-measurement", "off");
    vol_option(ret_text, "count-fop-hits", "off");
    vol_end(ret_text, "\"%s-%s\"", volume->meta.name, below);
    return 0;
}
