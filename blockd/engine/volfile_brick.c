/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* A brick's volfile: from the folder on a device up to the port that clients connect to. */
#include "blockd/engine/volfile_priv.h"

#include "rpc/base/alloc.h"

#define HEALTH_CHECK_SECONDS 15
#define PRIORITY_THREADS     64 /* the most that the translator takes; it never has more threads */

static void add_posix(const struct volfile_sources *sources, const char *folder, struct strbuf *text)
{
    vol_begin(text, "storage/posix", "%s-posix", sources->volume->meta.name);
    vol_option(text, "directory", folder);
    vol_option(text, "volume-id", sources->volume->meta.uid);
    vol_number(text, "shared-brick-count", 1);
    /* A brick ends when it can open no file any more. One whose disk hangs is ended by device_check.c. */
    vol_number(text, "health-check-interval", HEALTH_CHECK_SECONDS);
    vol_option(text, "fips-mode-rchecksum", "on");
    /* No client here sends times (features/utime), so their copy in an xattr would only cost. */
    vol_option(text, "ctime", "off");
    vol_end(text, "%s", "");
}

/*
 * Each kind of request has its own limit of threads at once, and while one waits for that, all idle threads
 * look for work without a rest. What heals may use one by default: the brick's processors are busy with
 * nothing then, as long as a heal lasts. There is no limit here but that of all threads; a heal's request
 * still begins only when no other one waits.
 */
static void add_io_threads(const char *volume, struct strbuf *text)
{
    static const char *const limits[] = {"high-prio-threads", "normal-prio-threads", "low-prio-threads",
                                         "least-prio-threads"};
    vol_begin(text, "performance/io-threads", "%s-io-threads", volume);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        vol_number(text, limits[i], PRIORITY_THREADS);
    vol_end(text, "\"%s-index\"", volume);
}

static void add_brick_middle(const struct volfile_sources *sources, size_t index, const char *folder,
                             const char *roll, struct strbuf *text)
{
    autofree char *reload = xasprintf("%s/reload", sources->xlators);
    const char *volume = sources->volume->meta.name;
    const char *below = "posix";
    if (volume_child_is_witness(sources->volume, index)) {
        vol_begin(text, "features/arbiter", "%s-arbiter", volume);
        vol_end(text, "\"%s-%s\"", volume, below);
        below = "arbiter";
    }
    vol_begin(text, "features/locks", "%s-locks", volume);
    vol_end(text, "\"%s-%s\"", volume, below);

    vol_begin(text, "features/index", "%s-index", volume);
    strbuf_addf(text, "    option index-base \"%s/.glusterfs/indices\"\n", folder);
    if (sources->volume->spec.template_name == TEMPLATE_DISPERSE) {
        vol_option(text, "xattrop64-watchlist", "trusted.ec.dirty");
    } else {
        vol_option(text, "xattrop-dirty-watchlist", "trusted.afr.dirty");
        strbuf_addf(text, "    option xattrop-pending-watchlist \"trusted.afr.%s-\"\n", volume);
    }
    vol_end(text, "\"%s-locks\"", volume);

    add_io_threads(volume, text);

    autofree char *type = xasprintf("%s/roll", sources->xlators);
    vol_begin(text, type, "%s-roll", volume);
    vol_option(text, "file", roll);
    vol_end(text, "\"%s-io-threads\"", volume);

    vol_begin(text, reload, "%s-reload", volume);
    strbuf_addf(text, "    option applied \"%s" APPLIED_SUFFIX "\"\n", roll);
    vol_end(text, "\"%s-roll\"", volume);

    vol_begin(text, "debug/io-stats", "%s-brick-%llu", volume, vol_child_number(sources->volume, index));
    vol_option(text, "unique-id", folder);
    vol_option(text, "volume-id", sources->volume->meta.uid);
    vol_option(text, "latency-measurement", "off");
    vol_option(text, "count-fop-hits", "off");
    vol_end(text, "\"%s-reload\"", volume);
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
    struct vol_address address = {0};
    r = vol_node_address(sources, volume_child(volume, index)->node, &address, ret_error);
    if (r < 0)
        return r;
    autostrbuf struct strbuf peers = {0};
    r = vol_brick_access(sources, &peers, ret_error);
    if (r < 0)
        return r;

    size_t from = ret_text->length;
    add_posix(sources, folder, ret_text);
    add_brick_middle(sources, index, folder, roll, ret_text);

    vol_begin(ret_text, "protocol/server", "%s-server", volume->meta.name);
    vol_option(ret_text, "transport-type", "tcp");
    vol_option(ret_text, "transport.address-family", address.family);
    vol_option(ret_text, "transport.socket.bind-address", address.text);
    vol_number(ret_text, "transport.socket.listen-port", volume_child(volume, index)->port);
    r = vol_add_server_tls(sources, ret_text, ret_error);
    if (r < 0)
        return r;
    vol_number(ret_text, "transport.listen-backlog", 1024);
    /* The locks of a client that vanished are held until its connection is given up: as soon as a client
     * does. */
    vol_number(ret_text, "transport.tcp-user-timeout", 2 * sources->ping_timeout);
    vol_number(ret_text, "transport.socket.keepalive-time", sources->ping_timeout);
    vol_number(ret_text, "transport.socket.keepalive-interval", 1);
    vol_number(ret_text, "transport.socket.keepalive-count", sources->ping_timeout);
    vol_number(ret_text, "event-threads", sources->event_threads);
    /* The protocol believes the user id that a client claims, so only root's ports of known machines may
     * speak. */
    vol_option(ret_text, "rpc-auth-allow-insecure", "off");
    /* Clients that are connected are looked at again when the list changes. */
    vol_option(ret_text, "dynamic-auth", "on");
    strbuf_addf(ret_text, "    option auth-path \"%s-brick-%llu\"\n", volume->meta.name,
                vol_child_number(volume, index));
    strbuf_addf(ret_text, "    option \"auth.addr.%s-brick-%llu.allow\" \"%s\"\n", volume->meta.name,
                vol_child_number(volume, index), strbuf_string(&peers));
    if (volume->spec.tls == VOLUME_TLS_ON) {
        autostrbuf struct strbuf names = {0};
        vol_brick_names(sources, &names);
        strbuf_addf(ret_text, "    option \"auth.login.%s-brick-%llu.ssl-allow\" \"%s\"\n", volume->meta.name,
                    vol_child_number(volume, index), strbuf_string(&names));
    }
    vol_end(ret_text, "\"%s-brick-%llu\"", volume->meta.name, vol_child_number(volume, index));
    volfile_set_options(volume, ret_text, from);
    return 0;
}
