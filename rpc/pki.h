/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The cluster's own certificate authority: keys, requests, certificates and the list of those revoked, as PEM
 * texts. One level: the authority signs everything itself. Who somebody is stands in a certificate's CN, what
 * they may do in its OU. Every text may come from a foreign machine: what is not what it should be is
 * -EINVAL, and what is beyond its limit -EFBIG. Any thread. pki_files.h keeps them in a folder.
 */
#ifndef BLOCKD_RPC_PKI_H
#define BLOCKD_RPC_PKI_H

#include <stdbool.h>
#include <stdint.h>

#include "rpc/base/error.h"
#include "rpc/base/strings.h"

#define PKI_TEXT_MAX  65536            /* bytes of a key, a request, a certificate */
#define PKI_LIST_MAX  (4u << 20)       /* bytes of a list of revoked certificates */
#define PKI_NAME_MAX  64               /* what X.509 allows a CN */
#define PKI_HOSTS_MAX 64               /* names and addresses in one certificate */
#define PKI_LIFE_MAX  (3650LL * 86400) /* seconds of a certificate that is no authority's */

enum pki_role {
    PKI_ROLE_NONE, /* of a certificate that is read: its OU is no role of ours, so that it may do nothing */
    PKI_ROLE_ADMIN,
    PKI_ROLE_NODE,
    PKI_ROLE_CSI,
    PKI_ROLE_METRICS,
    PKI_ROLE_CLIENT, /* uses the volumes whose access lists name it, and nothing of the API */
};
/* "none", "admin", "node", ... */
const char *pki_role_word(enum pki_role role);
/* "none" is -EINVAL. */
int pki_role_parse(const char *word, enum pki_role *ret_role, struct error **ret_error);

/* A CN: [A-Za-z0-9._-], 1 to PKI_NAME_MAX characters, the first one none of "." and "-". */
int pki_name_check(const char *name, struct error **ret_error);

/* ---- Keys and requests: made where they are used ---- */

/* A private key on the curve P-256, which nobody else may see. The caller's. */
int pki_key_make(char **ret_key, struct error **ret_error);
/* Asks to sign the key's public part. `name` is a wish: the authority writes the name that it chooses. */
int pki_request_make(const char *key, const char *name, char **ret_request, struct error **ret_error);

/* ---- The authority ---- */

struct pki_authority {
    char *key, *certificate; /* owned */
};
/* It is good for twenty years from now, and so are the lists that it signs. */
int pki_authority_make(const char *name, struct pki_authority *ret_authority, struct error **ret_error);
void pki_authority_clear(struct pki_authority *authority);
#define autopki_authority cleanup(pki_authority_clear)

struct pki_subject {
    const char *name;   /* CN */
    enum pki_role role; /* OU; a node's is good for both ends of a connection, others' as clients */
    const struct string_list *hosts; /* IP addresses and DNS names; NULL: none */
    int64_t seconds;                 /* valid that long from now, but no longer than the authority */
};
/*
 * Signs the public key of a request, once that proves that who asks has the private one; nothing else of it
 * counts. -EKEYREJECTED when the key is weak, or the authority's key and certificate are not what signs.
 */
int pki_sign(const struct pki_authority *authority, const char *request, const struct pki_subject *subject,
             char **ret_certificate, struct error **ret_error);

/*
 * The list of revoked certificates with one more serial number (hexadecimal). `list` NULL makes a new one,
 * `serial` NULL adds nobody; a number that is on it already stays as it is.
 */
int pki_revoke(const struct pki_authority *authority, const char *list, const char *serial, char **ret_list,
               struct error **ret_error);

/* ---- Looking at certificates ---- */

struct pki_certificate {
    char *name;
    enum pki_role role;
    bool is_authority;
    struct string_list hosts;      /* DNS names and addresses */
    char *serial;                  /* hexadecimal, lower case */
    char *fingerprint;             /* SHA-256 of the whole, likewise */
    int64_t not_before, not_after; /* seconds since 1970 */
};
void pki_certificate_clear(struct pki_certificate *certificate);
#define autopki_certificate cleanup(pki_certificate_clear)
/* What it says of itself; nothing of that is proven. Of several in one text, the first one. */
int pki_read(const char *certificate, struct pki_certificate *ret_certificate, struct error **ret_error);

/*
 * Is it good at the time `now` (seconds since 1970), as the authority and its list (NULL: none) say? -EACCES:
 * not of this authority, -EKEYEXPIRED: its time is over or has not come, -EKEYREVOKED. How old the list is
 * does not matter: one that cannot be renewed must lock nobody out.
 */
int pki_verify(const char *certificate, const char *authority, const char *list, int64_t now,
               struct error **ret_error);
/* Did the authority sign the list? -EACCES: no. */
int pki_verify_list(const char *authority, const char *list, struct error **ret_error);
/* Does the certificate belong to the private key? -EKEYREJECTED: no. */
int pki_match(const char *certificate, const char *key, struct error **ret_error);

/* Who is at the other end of a gnutls_session_t: their certificate, not verified by this. -ENOENT when they
 * showed none. */
int pki_peer(void *session, char **ret_certificate, struct error **ret_error);

#endif
