/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Inside the API room: one section a file. */
#ifndef BLOCKD_API_PRIV_H
#define BLOCKD_API_PRIV_H

#include "blockd/api/api.h"

/* One request on its way through. */
struct call {
    struct core *core;
    const struct http_request *request;
    struct http_response *response;
    const struct api_match *match;
    const struct caller *caller;
    void *query;       /* decoded as route->query says; NULL without one */
    void *body;        /* decoded as route->request says; NULL without one */
    uint64_t present;  /* bit I: the body has field I */
    char *object;      /* key of what a change made or changed, once that is known */
    uint64_t revision; /* of it */
};

/* ---- caller.c: who calls, and what they may ---- */

struct caller {
    unsigned role; /* enum api_role; 0: of a certificate with no role of the API's */
    const char *role_word;
    char *name;   /* CN of the certificate, or the user's */
    char *serial; /* of the certificate; NULL: none was shown */
    bool local;   /* on the unix socket */
};
void caller_clear(struct caller *caller);

/* The authority and its list of the revoked. Any thread. */
struct trust;
struct trust *trust_new(void);
void trust_free(struct trust *trust);
/* PEM texts; list NULL: nobody is revoked. */
void trust_set(struct trust *trust, const char *authority, const char *list);
/* Grows with each trust_set(): who was good may be no longer. */
uint64_t trust_generation(struct trust *trust);

/* Errors as of pki_verify(). Without a certificate the caller is ROLE_NOBODY. */
int caller_identify(struct trust *trust, const struct http_request *request, struct caller *ret_caller,
                    struct error **ret_error);
/* -EBADE without a certificate, -EACCES with one of another role; both say what it takes. */
int caller_check(const struct caller *caller, const struct api_route *route, struct error **ret_error);

/* ---- rate.c ---- */

struct rate;
struct rate *rate_new(uint64_t a_second);
void rate_free(struct rate *rate);
/* -EUSERS: the client has asked too much just now. Any thread. */
int rate_take(struct rate *rate, const struct caller *caller, const char *address, struct error **ret_error);

/* A line in the log about a client that was turned away; a flood of them is counted instead. Any thread. */
void log_stranger(const char *address, const char *reason);

/* ---- audit.c: the record of changes ---- */

struct audit;
struct audit *audit_new(const struct config *config);
void audit_free(struct audit *audit);
/* After the file was moved away. Any thread, as the next one. */
void audit_reopen(struct audit *audit);
void audit_change(struct audit *audit, const struct call *call, unsigned status, int64_t took_ms,
                  const struct error *error);

/* ---- listeners.c: the API over TLS ---- */

struct listeners;
/*
 * Serves on each address of the configuration as soon as there are certificates, and takes changed ones over.
 * `template` has what all servers have in common; the trust is filled from the files.
 */
int listeners_new(const struct config *config, const struct http_server_options *template,
                  struct trust *trust, struct listeners **ret_listeners, struct error **ret_error);
/* Looks at the files now. */
void listeners_reload(struct listeners *listeners);
/* Reads who is trusted, and who is revoked, before it returns. Any thread. */
int listeners_trust(struct listeners *listeners, struct error **ret_error);
/* NULL is allowed. */
void listeners_free(struct listeners *listeners);

/* ---- handlers.c: one function an operation ---- */

/* 0 with the response filled, or a negative errno with the error to answer. */
typedef int (*api_handler)(struct call *call, struct error **ret_error);
extern const api_handler api_handlers[API_OP_COUNT];
/* Fills `object`, as schema `request` of the route describes it, with what holds when a member is absent. */
void api_body_defaults(enum api_op op, void *object);

/* ---- respond.c ---- */

/* Takes the reference. */
void respond_json(struct http_response *response, unsigned status, json_t *json);
void respond_error(struct http_response *response, const struct error *error, const char *request_id);
void respond_text(struct http_response *response, unsigned status, const char *content_type, char *text);

/* ---- watch.c ---- */

/* Turns the response into a stream of changes. */
int respond_watch(struct call *call, enum object_kind kind, const char *prefix, uint64_t after,
                  struct error **ret_error);

/* ---- guard.c ---- */

/* Ends the response, if it is a stream, when the certificate that opened it is good no longer. */
void guard_stream(struct trust *trust, const struct http_request *request, struct http_response *response);

/* ---- metrics.c ---- */

/* The whole text of /metrics. The caller's. */
char *metrics_text(struct core *core);

#endif
