/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/pki_files.h"

#include <errno.h>
#include <string.h>

#include "rpc/base/address.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/fault.h"
#include "rpc/base/files.h"

static const struct {
    const char *name;
    mode_t mode;
    size_t limit;
} files[] = {
    [PKI_AUTHORITY] = {"ca-cert.pem", 0644, PKI_TEXT_MAX},
    [PKI_AUTHORITY_KEY] = {"ca-key.pem", 0600, PKI_TEXT_MAX},
    [PKI_LIST] = {"ca-crl.pem", 0644, PKI_LIST_MAX},
    [PKI_BUNDLE] = {"ca-bundle.pem", 0644, PKI_LIST_MAX + PKI_TEXT_MAX},
    [PKI_NODE] = {"node-cert.pem", 0644, PKI_TEXT_MAX},
    [PKI_NODE_KEY] = {"node-key.pem", 0600, PKI_TEXT_MAX},
};

char *pki_path(const char *folder, enum pki_file file)
{
    return xasprintf("%s/%s", folder, files[file].name);
}

static int load(const char *folder, enum pki_file file, char **ret_text, struct error **ret_error)
{
    autofree char *path = pki_path(folder, file);
    return file_read(path, files[file].limit, ret_text, NULL, ret_error);
}

static int save(const char *folder, enum pki_file file, const char *text, struct error **ret_error)
{
    autofree char *path = pki_path(folder, file);
    return file_write_if_changed(path, text, files[file].mode, NULL, ret_error);
}

/* A message about what is in a file names it. */
static int in_file(const char *folder, enum pki_file file, int r, struct error **ret_error)
{
    autofree char *path = pki_path(folder, file);
    if (r < 0 && ret_error)
        error_prefix(ret_error, "%s", path);
    return r;
}

static int64_t now_seconds(void)
{
    return clock_real_ms() / 1000;
}

/* ---- The authority ---- */

/* Derived, so that it is written again whenever it is not what it should be. */
static int write_bundle(const char *folder, const char *certificate, const char *list,
                        struct error **ret_error)
{
    autofree char *bundle = xasprintf("%s%s", certificate, list);
    return save(folder, PKI_BUNDLE, bundle, ret_error);
}

static int load_list(const char *folder, char **ret_list, struct error **ret_error)
{
    int r = load(folder, PKI_LIST, ret_list, ret_error);
    if (r == -ENOENT && ret_error)
        error_prefix(ret_error, "the list of revoked certificates is lost; restore it, or remove the whole "
                                "authority and join all nodes and clients again");
    return r;
}

/* The certificate comes last: with it the authority is there. */
static int make_authority(const char *folder, const char *name, struct error **ret_error)
{
    autopki_authority struct pki_authority made = {0};
    autofree char *list = NULL;
    int r = folder_make(folder, 0755, ret_error);
    if (r == 0)
        r = files_sweep(folder, ret_error);
    if (r == 0)
        r = pki_authority_make(name, &made, ret_error);
    if (r == 0)
        r = pki_revoke(&made, NULL, NULL, &list, ret_error);
    if (r == 0)
        r = save(folder, PKI_AUTHORITY_KEY, made.key, ret_error);
    fault_point("pki.authority.after-key");
    if (r == 0)
        r = save(folder, PKI_LIST, list, ret_error);
    fault_point("pki.authority.after-list");
    if (r == 0)
        r = save(folder, PKI_AUTHORITY, made.certificate, ret_error);
    fault_point("pki.authority.after-certificate");
    return r;
}

int pki_folder_authority(const char *folder, const char *name, struct error **ret_error)
{
    autofree char *certificate = NULL, *list = NULL;
    int r = 0;
    if (load(folder, PKI_AUTHORITY, &certificate, NULL) == -ENOENT)
        r = make_authority(folder, name, ret_error);
    if (r == 0 && !certificate)
        r = load(folder, PKI_AUTHORITY, &certificate, ret_error);
    if (r == 0)
        r = load_list(folder, &list, ret_error);
    return r < 0 ? r : write_bundle(folder, certificate, list, ret_error);
}

int pki_folder_load_authority(const char *folder, struct pki_authority *ret_authority,
                              struct error **ret_error)
{
    autopki_authority struct pki_authority loaded = {0};
    int r = load(folder, PKI_AUTHORITY_KEY, &loaded.key, NULL);
    if (r == -ENOENT)
        return error_set(ret_error, ENOKEY, "this node has not the authority's key in %s: another one signs",
                         folder);
    if (r < 0)
        return load(folder, PKI_AUTHORITY_KEY, &loaded.key, ret_error);
    r = load(folder, PKI_AUTHORITY, &loaded.certificate, ret_error);
    if (r < 0)
        return r;
    ret_authority->key = steal_ptr(&loaded.key);
    ret_authority->certificate = steal_ptr(&loaded.certificate);
    return 0;
}

int pki_folder_take_authority(const char *folder, const char *certificate, const char *list, const char *key,
                              struct error **ret_error)
{
    autopki_certificate struct pki_certificate read = {0};
    int r = pki_read(certificate, &read, ret_error);
    if (r == 0 && !read.is_authority)
        r = error_set(ret_error, EINVAL, "certificate %s is not an authority's", read.name);
    if (r == 0 && key)
        r = pki_match(certificate, key, ret_error);
    if (r == 0)
        r = pki_verify_list(certificate, list, ret_error);
    if (r == 0)
        r = folder_make(folder, 0755, ret_error);
    if (r == 0 && key)
        r = save(folder, PKI_AUTHORITY_KEY, key, ret_error);
    if (r == 0)
        r = save(folder, PKI_LIST, list, ret_error);
    if (r == 0)
        r = save(folder, PKI_AUTHORITY, certificate, ret_error);
    return r < 0 ? r : write_bundle(folder, certificate, list, ret_error);
}

int pki_folder_revoke(const char *folder, const char *serial, struct error **ret_error)
{
    autopki_authority struct pki_authority authority = {0};
    autofree char *old = NULL, *list = NULL;
    int r = pki_folder_load_authority(folder, &authority, ret_error);
    if (r == 0)
        r = load_list(folder, &old, ret_error);
    if (r == 0)
        r = pki_revoke(&authority, old, serial, &list, ret_error);
    if (r == 0)
        r = save(folder, PKI_LIST, list, ret_error);
    fault_point("pki.revoke.after-list");
    return r < 0 ? r : write_bundle(folder, authority.certificate, list, ret_error);
}

int pki_folder_verify(const char *folder, const char *certificate, struct error **ret_error)
{
    autofree char *authority = NULL, *list = NULL;
    int r = load(folder, PKI_AUTHORITY, &authority, ret_error);
    if (r == 0)
        r = load_list(folder, &list, ret_error);
    return r < 0 ? r : pki_verify(certificate, authority, list, now_seconds(), ret_error);
}

/* ---- The node ---- */

int pki_folder_request(const char *folder, const char *name, char **ret_request, struct error **ret_error)
{
    autofree char *key = NULL;
    int r = load(folder, PKI_NODE_KEY, &key, NULL);
    if (r == -ENOENT) {
        r = folder_make(folder, 0755, ret_error);
        if (r == 0)
            r = pki_key_make(&key, ret_error);
        if (r == 0)
            r = save(folder, PKI_NODE_KEY, key, ret_error);
        if (r < 0)
            return r;
        fault_point("pki.node.after-key");
    } else if (r < 0) {
        return load(folder, PKI_NODE_KEY, &key, ret_error);
    }
    return in_file(folder, PKI_NODE_KEY, pki_request_make(key, name, ret_request, ret_error), ret_error);
}

int pki_folder_take_node(const char *folder, const char *certificate, struct error **ret_error)
{
    autofree char *key = NULL;
    int r = load(folder, PKI_NODE_KEY, &key, ret_error);
    if (r == 0)
        r = pki_match(certificate, key, ret_error);
    if (r == 0)
        r = pki_folder_verify(folder, certificate, ret_error);
    return r < 0 ? r : save(folder, PKI_NODE, certificate, ret_error);
}

int pki_folder_check(const char *folder, struct pki_certificate *ret_certificate, struct error **ret_error)
{
    autopki_certificate struct pki_certificate read = {0};
    autofree char *certificate = NULL, *key = NULL;
    int r = load(folder, PKI_NODE, &certificate, ret_error);
    if (r == 0)
        r = load(folder, PKI_NODE_KEY, &key, ret_error);
    if (r < 0)
        return r;
    r = pki_read(certificate, &read, ret_error);
    if (r == 0)
        r = pki_match(certificate, key, ret_error);
    if (r == 0)
        r = pki_folder_verify(folder, certificate, ret_error);
    if (r < 0)
        return in_file(folder, PKI_NODE, r, ret_error);
    *ret_certificate = read;
    read = (struct pki_certificate){0};
    return 0;
}

static bool same_host(const char *a, const char *b)
{
    return address_equal(a, b) || strcasecmp(a, b) == 0;
}

static bool is_host_of(const char *host, const struct pki_certificate *certificate)
{
    for (size_t i = 0; i < certificate->hosts.count; i++)
        if (same_host(host, certificate->hosts.items[i]))
            return true;
    return false;
}

/* In any order. */
static bool has_hosts(const struct pki_certificate *certificate, const struct string_list *hosts)
{
    size_t count = hosts ? hosts->count : 0;
    if (certificate->hosts.count != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!is_host_of(hosts->items[i], certificate))
            return false;
    return true;
}

static bool is_as_wanted(const struct pki_certificate *certificate, const struct pki_subject *subject)
{
    int64_t life = certificate->not_after - certificate->not_before;
    return strcmp(certificate->name, subject->name) == 0 && certificate->role == subject->role &&
           has_hosts(certificate, subject->hosts) && certificate->not_after - now_seconds() >= life / 3;
}

int pki_folder_node(const char *folder, const struct pki_subject *subject, bool *ret_changed,
                    struct error **ret_error)
{
    autopki_certificate struct pki_certificate now = {0};
    autopki_authority struct pki_authority authority = {0};
    autofree char *request = NULL, *certificate = NULL;
    autoerror struct error *why = NULL;
    int r = pki_folder_check(folder, &now, &why);
    if (r == -EKEYREVOKED)
        return error_set(ret_error, EKEYREVOKED, "%s", error_message(why));
    if (r == 0 && is_as_wanted(&now, subject)) {
        if (ret_changed)
            *ret_changed = false;
        return 0;
    }
    r = pki_folder_load_authority(folder, &authority, ret_error);
    if (r < 0 && why && ret_error)
        error_prefix(ret_error, "%s", error_message(why));
    if (r == 0)
        r = pki_folder_request(folder, subject->name, &request, ret_error);
    if (r == 0)
        r = pki_sign(&authority, request, subject, &certificate, ret_error);
    if (r == 0)
        r = pki_folder_take_node(folder, certificate, ret_error);
    if (r == 0 && ret_changed)
        *ret_changed = true;
    return r;
}
