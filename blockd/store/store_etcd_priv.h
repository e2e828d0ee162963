/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * For the files of the etcd backend only, one section for each.
 *
 * In etcd a key of the store is PREFIX/KEY, and its value the text as it is. Beside them, below PREFIX.txn/,
 * each process has a few marks by which it tells what became of a transaction whose answer was lost
 * (store_etcd_txn.c); they go with the process's own lease.
 */
#ifndef BLOCKD_STORE_ETCD_PRIV_H
#define BLOCKD_STORE_ETCD_PRIV_H

#include <jansson.h>

#include "blockd/store/store_priv.h"
#include "rpc/base/strings.h"

/* ---- store_etcd_settings.c: the URL ---- */

struct etcd_settings {
    struct string_list endpoints; /* "https://HOST:PORT", no slash at the end */
    char *prefix;                 /* "/blockd/": begins and ends with a slash */
    char *marks;                  /* "/blockd.txn/" */
    char *ca, *cert, *key;        /* paths of PEM files; NULL without */
    int patience_ms;              /* of an operation */
};

/* `location` is what follows "etcd:" (see store_open()). *ret_settings is released with
 * etcd_settings_clear(). */
int etcd_settings_parse(const char *location, struct etcd_settings *ret_settings, struct error **ret_error);
void etcd_settings_clear(struct etcd_settings *settings);

/* ---- store_etcd_json.c: etcd's messages, and nothing but them: no network, no locks ---- */

/* Bytes as base64, as a JSON string. */
json_t *etcd_bytes(const void *bytes, size_t length);
/* PREFIX followed by a key. */
json_t *etcd_key(const char *prefix, const char *key);
/* etcd writes 64 bit numbers as strings. */
json_t *etcd_number(uint64_t number);
/* The first key behind all that begin with the text. */
json_t *etcd_prefix_end(const char *prefix, const char *text);

/* A whole answer. `status` is HTTP's; an answer that says an error gives its errno and etcd's own words. */
int etcd_reply_parse(const char *text, size_t length, unsigned status, json_t **ret_reply,
                     struct error **ret_error);
/* May the same request be answered later, by another endpoint? From what etcd_reply_parse() returned. */
bool etcd_is_transient(int result);

/* A number of an object; 0 when it is absent, as etcd leaves out what is 0. -EBADMSG. */
int etcd_number_of(const json_t *object, const char *key, uint64_t *ret_number, struct error **ret_error);
/* The revision in an answer's header. */
int etcd_header_revision(const json_t *reply, uint64_t *ret_revision, struct error **ret_error);

/*
 * Adds the keys of a range's answer to a list, without the prefix. What is no key of the store (others may
 * write there) is left out. *ret_more: etcd has further ones. *ret_last (may be NULL) is the last key as etcd
 * has it, prefix and all, NULL without any; the caller's.
 */
int etcd_range_parse(const json_t *reply, const char *prefix, struct store_list *list, bool *ret_more,
                     char **ret_last, struct error **ret_error);

/* A line of a watch's stream. */
struct etcd_watch_message {
    bool created, canceled; /* the stream begins, ends */
    uint64_t revision;      /* of the member, where the message says it */
    uint64_t until;         /* there are no other changes up to this revision; 0: does not say so */
    uint64_t compacted;     /* revisions before this one are not known any more; 0: does not say so */
    struct store_entry *events;
    size_t count;
};
int etcd_watch_parse(const char *line, size_t length, const char *prefix,
                     struct etcd_watch_message *ret_message, struct error **ret_error);
void etcd_watch_message_clear(struct etcd_watch_message *message);

/* ---- store_etcd_transport.c: one request to whichever endpoint answers. Knows libcurl ---- */

struct etcd_transport;

/* The settings outlive it. */
int etcd_transport_new(const struct etcd_settings *settings, struct etcd_transport **ret_transport,
                       struct error **ret_error);
/* No request may be under way. */
void etcd_transport_free(struct etcd_transport *transport);

/* What one caller's operation may still take, over all its requests. */
struct etcd_effort {
    int64_t deadline; /* clock_monotonic_ms() */
    bool uncertain;   /* a request went unanswered: it may have been done, or be done later */
};
struct etcd_effort etcd_effort_begin(struct etcd_transport *transport);

/*
 * One request to one endpoint. -EAGAIN: nothing came of it, and another attempt may be made; -ENOTCONN: the
 * time is over; anything else is etcd's own answer.
 */
int etcd_attempt(struct etcd_transport *transport, struct etcd_effort *effort, const char *path,
                 const char *body, json_t **ret_reply, struct error **ret_error);
/* The same until there is an answer: for requests that may be done twice. Takes over `request`. */
int etcd_ask(struct etcd_transport *transport, struct etcd_effort *effort, const char *path, json_t *request,
             json_t **ret_reply, struct error **ret_error);

/* Options that all connections have in common, for the watches' own handles: TLS, no proxy, close-on-exec. */
void etcd_handle_prepare(const struct etcd_settings *settings, void *curl);

/* ---- store_etcd_txn.c: transactions that happen once, whatever happens to their answers ---- */

struct etcd_txns;

/* Both outlive it. */
struct etcd_txns *etcd_txns_new(const struct etcd_settings *settings, struct etcd_transport *transport);
/* Takes the marks of this process away, as far as etcd answers. */
void etcd_txns_free(struct etcd_txns *txns);
int etcd_txns_commit(struct etcd_txns *txns, const struct store_op *ops, size_t count, uint64_t *ret_revision,
                     struct error **ret_error);

/* ---- store_etcd_lease.c ---- */

int etcd_lease_grant(struct etcd_transport *transport, unsigned seconds, int64_t *ret_lease,
                     struct error **ret_error);
int etcd_lease_renew(struct etcd_transport *transport, int64_t lease, struct error **ret_error);
int etcd_lease_revoke(struct etcd_transport *transport, int64_t lease, struct error **ret_error);

/* ---- store_etcd_watch.c: one thread with a stream for each watch. Knows libcurl ---- */

struct etcd_watches;

/* The settings outlive it. */
int etcd_watches_new(const struct etcd_settings *settings, struct etcd_watches **ret_watches,
                     struct error **ret_error);
/* Ends the thread and frees every watch that is left. */
void etcd_watches_free(struct etcd_watches *watches);
struct store_watch *etcd_watches_add(struct etcd_watches *watches, struct store *store, const char *prefix,
                                     uint64_t after_revision, store_watch_callback callback, void *data);
void etcd_watches_remove(struct etcd_watches *watches, struct store_watch *watch);

#endif
