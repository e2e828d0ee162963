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
    void *query;      /* decoded as route->query says; NULL without one */
    void *body;       /* decoded as route->request says; NULL without one */
    uint64_t present; /* bit I: the body has field I */
};

/* ---- handlers.c: one function an operation ---- */

/* 0 with the response filled, or a negative errno with the error to answer. */
typedef int (*api_handler)(struct call *call, struct error **ret_error);
extern const api_handler api_handlers[API_OP_COUNT];
/* Fills `object`, as schema `request` of the route describes it, with what holds when a member is absent. */
void api_body_defaults(enum api_op op, void *object);

/* ---- respond.c ---- */

/* Takes the reference. */
void respond_json(struct http_response *response, unsigned status, json_t *json);
void respond_error(struct http_response *response, const struct error *error);
void respond_text(struct http_response *response, unsigned status, const char *content_type, char *text);

/* ---- watch.c ---- */

/* Turns the response into a stream of changes. */
int respond_watch(struct call *call, enum object_kind kind, const char *prefix, uint64_t after,
                  struct error **ret_error);

/* ---- metrics.c ---- */

/* The whole text of /metrics. The caller's. */
char *metrics_text(struct core *core);

#endif
