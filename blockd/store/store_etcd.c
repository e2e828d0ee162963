/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The etcd backend: a store that many processes share, on etcd v3's JSON gateway. All reads are linearizable:
 * they see every change that anybody was told of before.
 */
#include <errno.h>
#include <string.h>

#include "blockd/store/store_etcd_priv.h"
#include "rpc/base/alloc.h"

#define PAGE_KEYS 500 /* in one answer, halved when that is too much */

struct etcd {
    struct store base;
    struct etcd_settings settings;
    struct etcd_transport *transport;
    struct etcd_txns *txns;
    struct etcd_watches *watches;
};

/* ---- Reading ---- */

static int etcd_get(struct store *store, const char *key, struct store_entry *ret_entry,
                    struct error **ret_error)
{
    struct etcd *etcd = (struct etcd *)store;
    struct etcd_effort effort = etcd_effort_begin(etcd->transport);
    json_t *reply = NULL;
    int r = etcd_ask(etcd->transport, &effort, "/v3/kv/range",
                     json_pack("{s:o}", "key", etcd_key(etcd->settings.prefix, key)), &reply, ret_error);
    if (r < 0)
        return r;
    struct store_list list = {0};
    bool more;
    r = etcd_range_parse(reply, etcd->settings.prefix, &list, &more, NULL, ret_error);
    json_decref(reply);
    if (r == 0 && list.count == 0)
        r = error_set(ret_error, ENOENT, "%s does not exist", key);
    if (r == 0) {
        *ret_entry = list.entries[0];
        list.entries[0] = (struct store_entry){0};
    }
    store_list_clear(&list);
    return r;
}

/* A walk over the pages of one list, all of one revision. */
struct walk {
    const char *prefix;
    char *start; /* key in etcd, prefix and all: the page begins there */
    size_t page;
    struct store_list *list;
};

static json_t *page_request(const struct etcd *etcd, const struct walk *walk)
{
    json_t *request =
        json_pack("{s:o, s:o, s:o}", "key", etcd_bytes(walk->start, strlen(walk->start)), "range_end",
                  etcd_prefix_end(etcd->settings.prefix, walk->prefix), "limit", etcd_number(walk->page));
    if (walk->list->revision)
        json_object_set_new(request, "revision", etcd_number(walk->list->revision));
    return request;
}

static int read_page(struct etcd *etcd, struct walk *walk, bool *ret_more, struct error **ret_error)
{
    struct etcd_effort effort = etcd_effort_begin(etcd->transport);
    json_t *reply = NULL;
    int r = etcd_ask(etcd->transport, &effort, "/v3/kv/range", page_request(etcd, walk), &reply, ret_error);
    if (r < 0)
        return r;
    autofree char *last = NULL;
    uint64_t revision;
    r = etcd_header_revision(reply, &revision, ret_error);
    if (r == 0)
        r = etcd_range_parse(reply, etcd->settings.prefix, walk->list, ret_more, &last, ret_error);
    json_decref(reply);
    if (r < 0)
        return r;
    if (!walk->list->revision)
        walk->list->revision = revision;
    if (last) {
        free(walk->start);
        walk->start = xasprintf("%s\x01", last); /* no key of the store lies between the two */
    }
    *ret_more = *ret_more && last;
    return 0;
}

/* -ERANGE: the revision of the first page was compacted before the last one was read. */
static int read_pages(struct etcd *etcd, struct walk *walk, size_t limit, struct error **ret_error)
{
    bool more = true;
    while (more && (!limit || walk->list->count < limit)) {
        size_t left = limit ? limit - walk->list->count : PAGE_KEYS;
        if (walk->page > left)
            walk->page = left;
        autoerror struct error *problem = NULL;
        int r = read_page(etcd, walk, &more, &problem);
        if (r == -EMSGSIZE && walk->page > 1)
            walk->page /= 2;
        else if (r < 0)
            return error_set(ret_error, -r, "%s", error_message(problem));
    }
    return 0;
}

static int etcd_list(struct store *store, const char *prefix, const char *after, size_t limit,
                     struct store_list *ret_list, struct error **ret_error)
{
    struct etcd *etcd = (struct etcd *)store;
    bool inside = after && strcmp(after, prefix) > 0; /* one that lies before all of them is none */
    int r;
    do {
        struct store_list list = {0};
        struct walk walk = {.prefix = prefix, .page = PAGE_KEYS, .list = &list};
        walk.start =
            xasprintf("%s%s%s", etcd->settings.prefix, inside ? after : prefix, inside ? "\x01" : "");
        autoerror struct error *problem = NULL;
        r = read_pages(etcd, &walk, limit, &problem);
        free(walk.start);
        if (r == 0)
            *ret_list = list;
        else
            store_list_clear(&list);
        if (r < 0 && r != -ERANGE)
            error_set(ret_error, -r, "%s", error_message(problem));
    } while (r == -ERANGE);
    return r;
}

/* ---- The other slots ---- */

static int etcd_commit(struct store *store, const struct store_op *ops, size_t count, uint64_t *ret_revision,
                       struct error **ret_error)
{
    return etcd_txns_commit(((struct etcd *)store)->txns, ops, count, ret_revision, ret_error);
}

static int etcd_watch(struct store *store, const char *prefix, uint64_t after_revision,
                      store_watch_callback callback, void *data, struct store_watch **ret_watch,
                      struct error **ret_error)
{
    (void)ret_error;
    *ret_watch =
        etcd_watches_add(((struct etcd *)store)->watches, store, prefix, after_revision, callback, data);
    return 0;
}

static void etcd_watch_end(struct store_watch *watch)
{
    etcd_watches_remove(((struct etcd *)watch->store)->watches, watch);
}

static int grant_lease(struct store *store, unsigned seconds, int64_t *ret_lease, struct error **ret_error)
{
    return etcd_lease_grant(((struct etcd *)store)->transport, seconds, ret_lease, ret_error);
}

static int renew_lease(struct store *store, int64_t lease, struct error **ret_error)
{
    return etcd_lease_renew(((struct etcd *)store)->transport, lease, ret_error);
}

static int end_lease(struct store *store, int64_t lease, struct error **ret_error)
{
    return etcd_lease_revoke(((struct etcd *)store)->transport, lease, ret_error);
}

/* ---- Open and close ---- */

static void etcd_close(struct store *store)
{
    struct etcd *etcd = (struct etcd *)store;
    etcd_watches_free(etcd->watches);
    etcd_txns_free(etcd->txns);
    etcd_transport_free(etcd->transport);
    etcd_settings_clear(&etcd->settings);
    free(etcd);
}

/* Asks etcd nothing: whether it answers is seen by the first call. */
static int etcd_open(const char *location, struct store **ret_store, struct error **ret_error)
{
    struct etcd *etcd = xcalloc(1, sizeof *etcd);
    etcd->base.driver = &store_etcd_driver;
    int r = etcd_settings_parse(location, &etcd->settings, ret_error);
    if (r == 0)
        r = etcd_transport_new(&etcd->settings, &etcd->transport, ret_error);
    if (r == 0) {
        etcd->txns = etcd_txns_new(&etcd->settings, etcd->transport);
        r = etcd_watches_new(&etcd->settings, &etcd->watches, ret_error);
    }
    if (r < 0) {
        etcd_close(&etcd->base);
        return r;
    }
    *ret_store = &etcd->base;
    return 0;
}

const struct store_driver store_etcd_driver = {
    .scheme = "etcd",
    .shared = true,
    .open = etcd_open,
    .close = etcd_close,
    .get = etcd_get,
    .list = etcd_list,
    .commit = etcd_commit,
    .watch = etcd_watch,
    .watch_end = etcd_watch_end,
    .lease_grant = grant_lease,
    .lease_renew = renew_lease,
    .lease_revoke = end_lease,
};
