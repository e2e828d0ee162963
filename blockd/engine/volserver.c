/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The volfile server of this node (xlators/volserver), and what it serves, below STATE_DIR/volserver:
 * V.mount.vol to standard clients, and by the unix socket V.share.vol to our own mounts, which have more
 * translators, and V.image.vol to our own block servers. Bricks follow
 * their files themselves (xlators/reload) and the self-heal daemon is restarted, so that none of them waits
 * for this server.
 */
#include "blockd/engine/engine_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"
#include "rpc/grant.h"

#define LOOPBACK "127.0.0.1"

static char *served_folder(const struct engine *engine)
{
    return xasprintf("%s/volserver", engine->config->state_dir);
}

/* `role` is "mount", "share" or "image". */
static char *served_path(const struct engine *engine, const char *volume, const char *role)
{
    return xasprintf("%s/volserver/%s.%s.vol", engine->config->state_dir, volume, role);
}

void volserver_mark(const struct engine *engine, const char *volume, struct strbuf *ret_text)
{
    autofree char *socket = config_volserver_socket_path(engine->config);
    strbuf_addf(ret_text, VOLFILE_LIVE_MARK "%s %s\n", volume, socket);
}

/* ---- What is served ---- */

/* Where else standard clients can ask; one address is no other. */
static void add_servers(const struct volfile_sources *sources, uint64_t port, struct strbuf *text)
{
    if (sources->node_count < 2)
        return;
    const char *before = "#: servers ";
    for (size_t i = 0; i < sources->node_count; i++) {
        const struct string_list *addresses = &sources->nodes[i].spec.addresses;
        if (addresses->count == 0)
            continue;
        strbuf_addf(text, "%s%s:%llu", before, addresses->items[0], (unsigned long long)port);
        before = " ";
    }
    strbuf_adds(text, "\n");
}

/* For both kinds of mounts: `role` is "mount" or "share". */
static int publish_mount(struct engine *engine, const struct volfile_sources *sources, const char *role,
                         int (*write)(const struct volfile_sources *sources, struct strbuf *ret_text,
                                      struct error **ret_error),
                         struct error **ret_error)
{
    autofree char *path = served_path(engine, sources->volume->meta.name, role);
    autostrbuf struct strbuf text = {0}, access = {0};
    int r = volfile_access(sources, &access, ret_error);
    if (r < 0)
        return r;
    strbuf_addf(&text, "#: access %s\n", strbuf_string(&access));
    add_servers(sources, engine->config->volserver_port, &text);
    r = write(sources, &text, ret_error);
    return r < 0 ? r : file_write_if_changed(path, strbuf_string(&text), 0640, NULL, ret_error);
}

static int publish_image(struct engine *engine, const struct volfile_sources *sources,
                         struct error **ret_error)
{
    autofree char *path = served_path(engine, sources->volume->meta.name, "image");
    autostrbuf struct strbuf text = {0};
    int r = volfile_client(sources, &text, ret_error);
    return r < 0 ? r : file_write_if_changed(path, strbuf_string(&text), 0640, NULL, ret_error);
}

int volserver_publish(struct engine *engine, const struct volfile_sources *sources, struct error **ret_error)
{
    int r = publish_image(engine, sources, ret_error);
    if (r < 0)
        return r;
    fault_point("volume.up.after-served-image");
    r = publish_mount(engine, sources, "share", volfile_share, ret_error);
    return r < 0 ? r : publish_mount(engine, sources, "mount", volfile_mount, ret_error);
}

int volserver_withdraw(struct engine *engine, const char *volume, struct error **ret_error)
{
    static const char *const roles[] = {"mount", "share", "image"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof roles / sizeof *roles; i++) {
        autofree char *path = served_path(engine, volume, roles[i]);
        r = file_remove(path, ret_error);
    }
    return r;
}

/* ---- The process ---- */

static void add_once(struct string_list *list, const char *text)
{
    if (!string_list_contains(list, text))
        string_list_add(list, text);
}

/* `node` stands in the configuration for the address that others know, and for what
 * people type on the node. */
static void listen_addresses(const struct engine *engine, const struct node *node,
                             struct string_list *ret_addresses)
{
    autostring_list struct string_list wanted = {0};
    config_volserver_addresses(engine->config, &wanted);
    for (size_t i = 0; i < wanted.count; i++) {
        if (strcmp(wanted.items[i], CONFIG_LISTEN_NODE) != 0) {
            add_once(ret_addresses, wanted.items[i]);
            continue;
        }
        add_once(ret_addresses, LOOPBACK);
        add_once(ret_addresses,
                 node->spec.addresses.count ? node->spec.addresses.items[0] : engine->config->address);
    }
}

static void plan(const struct engine *engine, const char *volfile, const char *text,
                 struct process_plan *ret_plan)
{
    struct process_plan made = {
        .id = xstrdup("volserver"),
        .name = xstrdup("volserver"),
        .unit = xstrdup("blockd-volserver.service"),
        .log_path = xasprintf("%s/volserver.log", engine->config->log_dir),
        .version = text ? text_version(text) : NULL,
    };
    const char *const words[] = {
        engine->roots.glusterfsd, "-N", "-f", volfile, "-l", made.log_path, "-L", "WARNING"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        string_list_add(&made.argv, words[i]);
    *ret_plan = made;
}

int engine_volserver_up(struct engine *engine, const struct node *node, struct error **ret_error)
{
    scoped_claim(engine, "volserver", "");
    autofree char *folder = served_folder(engine);
    autofree char *volfile = xasprintf("%s/volserver.vol", engine->config->state_dir);
    autofree char *socket = config_volserver_socket_path(engine->config);
    autostring_list struct string_list addresses = {0};
    autostrbuf struct strbuf text = {0};
    listen_addresses(engine, node, &addresses);
    int r = volfile_volserver(engine->xlators, folder, socket, &addresses, engine->config->volserver_port,
                              engine->config->tls_volserver ? engine->pki : NULL, &text, ret_error);
    if (r == 0)
        r = file_write_if_changed(volfile, strbuf_string(&text), 0640, NULL, ret_error);
    if (r < 0)
        return r;
    cleanup(process_plan_clear) struct process_plan wanted;
    plan(engine, volfile, strbuf_string(&text), &wanted);
    return engine->supervisor->ops->up(engine->supervisor, &wanted, ret_error);
}

int engine_volserver_down(struct engine *engine, struct error **ret_error)
{
    scoped_claim(engine, "volserver", "");
    autofree char *volfile = xasprintf("%s/volserver.vol", engine->config->state_dir);
    cleanup(process_plan_clear) struct process_plan wanted;
    plan(engine, volfile, NULL, &wanted);
    return engine->supervisor->ops->down(engine->supervisor, &wanted, ret_error);
}
