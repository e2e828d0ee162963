/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The manifest: the store's records on each device, from which the store can be made again. A text of lines,
 * each with a checksum: a header that says whose it is, then records with their revisions, and after each
 * batch of these the revision of the store that it brings the text to. A torn end is passed over.
 */
#ifndef BLOCKD_CORE_MANIFEST_PRIV_H
#define BLOCKD_CORE_MANIFEST_PRIV_H

#include "blockd/core/core_priv.h"

#define MANIFEST_KEY "manifest" /* in the store: whose manifests are written */
#define ADOPTION_KEY "adoption" /* in the store while an adoption is not complete: no manifest is written */

/* A store, and how often it was made again from manifests: of two manifests of one store the one of the later
 * incarnation counts, then the one with the higher revision. */
struct manifest_identity {
    char *store; /* UUID */
    uint64_t incarnation;
};
void manifest_identity_clear(struct manifest_identity *identity);
char *manifest_identity_text(const struct manifest_identity *identity); /* the value of MANIFEST_KEY */
int manifest_identity_parse(const char *text, struct manifest_identity *ret_identity,
                            struct error **ret_error);

/* -ENOENT before the store has one. */
int manifest_identity_get(struct core *core, struct manifest_identity *ret_identity,
                          struct error **ret_error);

/* ---- manifest_text.c: pure functions ---- */

void manifest_add_header(struct strbuf *text, const struct manifest_identity *identity,
                         const char *device_uid);
/* `value` is the record's JSON; NULL: it is deleted. */
void manifest_add_record(struct strbuf *text, const char *key, uint64_t revision, const char *value);
void manifest_add_end(struct strbuf *text, uint64_t revision);

struct manifest_view {
    struct manifest_identity identity;
    char *device_uid;
    uint64_t revision; /* of the last batch that is whole */
    json_t *records;   /* key -> value */
    bool torn;         /* it ends in what is no whole batch */
};
/* -EBADMSG when there is no header. Text of any origin. */
int manifest_parse(const char *text, struct manifest_view *ret_view, struct error **ret_error);
void manifest_view_clear(struct manifest_view *view);
/* Less than, equal to or greater than 0 as a tells of an earlier, the same or a later state of the same
 * store. */
int manifest_compare(const struct manifest_view *a, const struct manifest_view *b);

/* Is the record of a key part of manifests? Objects are, but for jobs, which are of the day. */
bool manifest_has_key(const char *key);

#endif
