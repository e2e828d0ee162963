/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The one table of error conversions between errno, the API's codes and HTTP. */
#include <errno.h>
#include <string.h>

#include "api.h"
#include "rpc/base/alloc.h"
#include "rpc/base/strings.h"

/*
 * Codes are gRPC's names (google/rpc/code.proto), so that CSI maps them one to one. The first row with a code
 * is the errno that a client makes of it when the reply carries no number of its own.
 */
static const struct api_code codes[] = {
    {EINVAL, "invalid_argument", 400},
    {EBADMSG, "invalid_argument", 400},
    {ENAMETOOLONG, "invalid_argument", 400},
    {ENOTBLK, "invalid_argument", 400},
    {ENOTDIR, "invalid_argument", 400},
    {EISDIR, "invalid_argument", 400},
    {EKEYREJECTED, "invalid_argument", 400},
    {ERANGE, "out_of_range", 400},
    {EFBIG, "out_of_range", 413},
    {E2BIG, "out_of_range", 413},
    {EACCES, "permission_denied", 403},
    {EPERM, "permission_denied", 403},
    {EROFS, "permission_denied", 403},
    {EBADE, "unauthenticated", 401},
    {EKEYEXPIRED, "unauthenticated", 401},
    {EKEYREVOKED, "unauthenticated", 401},
    {ENOENT, "not_found", 404},
    {ENODEV, "not_found", 404},
    {EEXIST, "already_exists", 409},
    {ESTALE, "aborted", 409},
    {EBUSY, "failed_precondition", 409},
    {ENOTEMPTY, "failed_precondition", 409},
    {ENOKEY, "failed_precondition", 409},
    {ENOSPC, "resource_exhausted", 507},
    {EDQUOT, "resource_exhausted", 507},
    {EUSERS, "resource_exhausted", 429},
    {ECANCELED, "cancelled", 409},
    {EOPNOTSUPP, "unimplemented", 501},
    {ENOSYS, "unimplemented", 501},
    {EAGAIN, "unavailable", 503},
    {ENOTCONN, "unavailable", 503},
    {ECONNREFUSED, "unavailable", 503},
    {ETIMEDOUT, "deadline_exceeded", 504},
    {EIO, "internal", 500},
};

const struct api_code *api_code_of_errno(int number)
{
    static const struct api_code internal = {EIO, "internal", 500};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].number == number)
            return &codes[i];
    return &internal;
}

/* Rows of one code stand together. */
const char *api_code_word(size_t index)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if ((i == 0 || strcmp(codes[i].code, codes[i - 1].code) != 0) && index-- == 0)
            return codes[i].code;
    return NULL;
}

int api_errno_of_code(const char *code)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(codes[i].code, code) == 0)
            return codes[i].number;
    return EIO;
}

/* A message may quote what a client sent: control characters, half a character, bytes that are no UTF-8. */
static json_t *encode_message(const char *message)
{
    autofree char *text = xstrdup(message);
    string_mask_controls(text, '?');
    return json_string_lossy(text);
}

json_t *api_error_encode(const struct error *error)
{
    int number = error ? error->number : EIO;
    return json_pack("{s:{s:s, s:o, s:{s:i}}}", "error", "code", api_code_of_errno(number)->code, "message",
                     encode_message(error_message(error)), "details", "errno", number);
}

void api_error_name_request(json_t *body, const char *request_id)
{
    json_t *details = json_object_get(json_object_get(body, "error"), "details");
    json_object_set_new(details, "request_id", json_string_lossy(request_id));
}

int api_error_decode(const json_t *body, unsigned status, struct error **ret_error)
{
    const json_t *error = json_object_get(body, "error");
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *message = json_string_value(json_object_get(error, "message"));
    if (!code || !message)
        return error_set(ret_error, EIO, "blockd answered with status %u and no message", status);

    json_int_t number = json_integer_value(json_object_get(json_object_get(error, "details"), "errno"));
    if (number <= 0 || number > 4095)
        number = api_errno_of_code(code);
    return error_set(ret_error, (int)number, "%s", message);
}
