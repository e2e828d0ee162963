/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include <string.h>

#include "blockd/api/api_priv.h"

void respond_json(struct http_response *response, unsigned status, json_t *json)
{
    response->status = status;
    response->content_type = "application/json";
    response->body = json_dumps(json, JSON_COMPACT);
    response->body_length = response->body ? strlen(response->body) : 0;
    json_decref(json);
}

void respond_error(struct http_response *response, const struct error *error, const char *request_id)
{
    json_t *body = api_error_encode(error);
    api_error_name_request(body, request_id);
    respond_json(response, api_code_of_errno(error ? error->number : 0)->status, body);
}

void respond_text(struct http_response *response, unsigned status, const char *content_type, char *text)
{
    response->status = status;
    response->content_type = content_type;
    response->body = text;
    response->body_length = strlen(text);
}
