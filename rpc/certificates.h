/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* What the cluster's authority is asked for over the API, and what it answers. */
#ifndef BLOCKD_RPC_CERTIFICATES_H
#define BLOCKD_RPC_CERTIFICATES_H

#include "rpc/schema.h"

#define CERTIFICATE_DAYS 365 /* of one that is asked for without */

struct certificate_sign {
    char *name;               /* CN that is wanted */
    char *role;               /* a word of pki_role_word(), but not "node": that is had by joining */
    char *request;            /* PEM */
    struct string_list hosts; /* names and addresses */
    uint64_t days;
};
extern const struct schema certificate_sign_schema;

struct certificate_signed {
    char *certificate, *authority; /* PEM */
    char *serial, *fingerprint;
    int64_t expires; /* milliseconds since the epoch */
};
extern const struct schema certificate_signed_schema;

struct certificate_revoke {
    char *serial; /* hexadecimal */
};
extern const struct schema certificate_revoke_schema;

struct certificate_revoked {
    char *serial;
    char *list; /* PEM: everybody who is revoked */
    char *name; /* whom it was for; NULL: no certificate of that number is known */
};
extern const struct schema certificate_revoked_schema;

#endif
