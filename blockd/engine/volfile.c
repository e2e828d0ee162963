/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * GlusterFS reads a volfile as a list of translators, from the bottom of the stack to its top. Every word
 * that comes from outside is quoted: the lexer takes bare words such as "option" or "volume" for keywords,
 * whatever stands around them.
 */
#include "blockd/engine/volfile_priv.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/volume_layout.h"

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

int vol_address_parse(const char *node, const char *text, struct vol_address *ret_address,
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

int vol_node_address(const struct volfile_sources *sources, const char *name, struct vol_address *ret_address,
                     struct error **ret_error)
{
    for (size_t i = 0; i < sources->node_count; i++) {
        const struct node *node = &sources->nodes[i];
        if (string_equal(node->meta.name, name) && node->spec.addresses.count > 0)
            return vol_address_parse(name, node->spec.addresses.items[0], ret_address, ret_error);
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

unsigned long long vol_child_number(const struct volume *volume, size_t index)
{
    return volume_child_number(volume, index);
}

void vol_option(struct strbuf *text, const char *key, const char *value)
{
    strbuf_addf(text, "    option %s \"%s\"\n", key, value);
}

void vol_number(struct strbuf *text, const char *key, uint64_t value)
{
    strbuf_addf(text, "    option %s %llu\n", key, (unsigned long long)value);
}

void vol_begin(struct strbuf *text, const char *type, const char *name_format, ...)
{
    va_list arguments;
    va_start(arguments, name_format);
    autofree char *name = xvasprintf(name_format, arguments);
    va_end(arguments);
    strbuf_addf(text, "volume \"%s\"\n    type %s\n", name, type);
}

void vol_end(struct strbuf *text, const char *below_format, ...)
{
    va_list arguments;
    va_start(arguments, below_format);
    autofree char *below = xvasprintf(below_format, arguments);
    va_end(arguments);
    if (*below)
        strbuf_addf(text, "    subvolumes %s\n", below);
    strbuf_adds(text, "end-volume\n\n");
}
