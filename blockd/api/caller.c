/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Who calls. On the unix socket it is whoever the socket's permissions let in, with all rights; over TLS the
 * certificate says it, once it is found good against the authority and its list of the revoked.
 */
#include <errno.h>
#include <pwd.h>
#include <string.h>

#include "blockd/api/api_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/pki.h"

#define REMEMBERED 64 /* certificates that were judged and need no second look */

struct judged {
    char *text; /* PEM; NULL: the place is free */
    struct pki_certificate certificate;
};

struct trust {
    pthread_mutex_t mutex;  /* guards what follows */
    char *authority, *list; /* PEM; authority NULL: nobody is trusted yet */
    uint64_t generation;
    struct judged judged[REMEMBERED];
    size_t next; /* place that is taken over next */
};

/* ---- What is trusted ---- */

struct trust *trust_new(void)
{
    struct trust *trust = xcalloc(1, sizeof *trust);
    pthread_mutex_init(&trust->mutex, NULL);
    return trust;
}

static void forget_judged(struct judged *judged)
{
    if (judged->text)
        pki_certificate_clear(&judged->certificate);
    free(judged->text);
    *judged = (struct judged){0};
}

void trust_free(struct trust *trust)
{
    if (!trust)
        return;
    for (size_t i = 0; i < REMEMBERED; i++)
        forget_judged(&trust->judged[i]);
    free(trust->authority);
    free(trust->list);
    pthread_mutex_destroy(&trust->mutex);
    free(trust);
}

void trust_set(struct trust *trust, const char *authority, const char *list)
{
    scoped_lock(&trust->mutex);
    for (size_t i = 0; i < REMEMBERED; i++)
        forget_judged(&trust->judged[i]);
    free(trust->authority);
    free(trust->list);
    trust->authority = xstrdup(authority);
    trust->list = xstrdup(list);
    trust->generation++;
}

uint64_t trust_generation(struct trust *trust)
{
    scoped_lock(&trust->mutex);
    return trust->generation;
}

/* ---- One certificate ---- */

static const struct judged *remembered(struct trust *trust, const char *text)
{
    for (size_t i = 0; i < REMEMBERED; i++)
        if (trust->judged[i].text && strcmp(trust->judged[i].text, text) == 0)
            return &trust->judged[i];
    return NULL;
}

static int judge(struct trust *trust, const char *text, const struct judged **ret_judged,
                 struct error **ret_error)
{
    int64_t now = clock_real_ms() / 1000;
    const struct judged *known = remembered(trust, text);
    if (known && now >= known->certificate.not_before && now < known->certificate.not_after) {
        *ret_judged = known;
        return 0;
    }
    struct pki_certificate certificate = {0};
    int r = pki_read(text, &certificate, ret_error);
    if (r < 0)
        return r;
    r = pki_verify(text, trust->authority, trust->list, now, ret_error);
    if (r < 0) {
        if (ret_error)
            error_prefix(ret_error, "the certificate of \"%s\"", certificate.name);
        pki_certificate_clear(&certificate);
        return r;
    }
    struct judged *place = &trust->judged[trust->next++ % REMEMBERED];
    forget_judged(place);
    *place = (struct judged){xstrdup(text), certificate};
    *ret_judged = place;
    return 0;
}

static unsigned api_role_of(enum pki_role role)
{
    int bit = enum_parse(api_role_words, pki_role_word(role));
    return bit < 0 ? 0 : 1u << bit;
}

static int identify_by_certificate(struct trust *trust, const char *text, struct caller *ret_caller,
                                   struct error **ret_error)
{
    const struct judged *judged;
    scoped_lock(&trust->mutex);
    if (!trust->authority)
        return error_set(ret_error, EAGAIN, "this node does not know yet whose certificates are good");
    int r = judge(trust, text, &judged, ret_error);
    if (r < 0)
        return r;
    const struct pki_certificate *certificate = &judged->certificate;
    *ret_caller = (struct caller){
        .role = api_role_of(certificate->role),
        .role_word = pki_role_word(certificate->role),
        .name = xstrdup(certificate->name),
        .serial = xstrdup(certificate->serial),
    };
    return 0;
}

/* ---- The caller ---- */

static char *user_name(uid_t uid)
{
    char room[4096];
    struct passwd entry, *found = NULL;
    if (getpwuid_r(uid, &entry, room, sizeof room, &found) == 0 && found)
        return xstrdup(found->pw_name);
    return xasprintf("%u", (unsigned)uid);
}

int caller_identify(struct trust *trust, const struct http_request *request, struct caller *ret_caller,
                    struct error **ret_error)
{
    if (!request->tls) {
        *ret_caller = (struct caller){.role = ROLE_ADMIN, .role_word = "admin", .local = true};
        ret_caller->name = request->peer_known ? user_name(request->peer_uid) : xstrdup("?");
        return 0;
    }
    if (request->peer_certificate)
        return identify_by_certificate(trust, request->peer_certificate, ret_caller, ret_error);
    *ret_caller = (struct caller){.role = ROLE_NOBODY, .role_word = "none", .name = xstrdup("")};
    return 0;
}

void caller_clear(struct caller *caller)
{
    free(caller->name);
    free(caller->serial);
    *caller = (struct caller){0};
}

/* "admin or csi" */
static char *role_words(unsigned roles)
{
    struct strbuf words = {0};
    for (size_t i = 0; api_role_words[i]; i++)
        if (roles & (1u << i | ROLE_ANYONE))
            strbuf_addf(&words, "%s%s", words.length ? " or " : "", api_role_words[i]);
    return strbuf_steal(&words);
}

int caller_check(const struct caller *caller, const struct api_route *route, struct error **ret_error)
{
    unsigned may = route->roles | ROLE_ADMIN;
    if (caller->role & may || may & ROLE_NOBODY || (caller->role & ROLES_KNOWN && may & ROLE_ANYONE))
        return 0;
    if (caller->role == ROLE_NOBODY)
        return error_set(ret_error, EBADE,
                         "no client certificate was shown; it takes one of the cluster's authority");
    autofree char *words = role_words(may);
    return error_set(ret_error, EACCES, "%s has the role %s, and %s %s takes the role %s", caller->name,
                     caller->role_word, route->method, route->path, words);
}
