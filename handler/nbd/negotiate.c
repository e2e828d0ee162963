/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* The handshake: greeting, options and their answers. */
#include <errno.h>
#include <stdlib.h>

#include "handler/nbd/session_priv.h"
#include "rpc/base/alloc.h"

#define CONTEXT_NAME         "base:allocation"
#define PREFERRED_BLOCK_SIZE 4096

/* ---- Writing messages ---- */

static void add16(struct strbuf *message, uint16_t value)
{
    uint8_t bytes[2];
    nbd_put16(bytes, value);
    strbuf_add(message, bytes, sizeof bytes);
}

static void add32(struct strbuf *message, uint32_t value)
{
    uint8_t bytes[4];
    nbd_put32(bytes, value);
    strbuf_add(message, bytes, sizeof bytes);
}

static void add64(struct strbuf *message, uint64_t value)
{
    uint8_t bytes[8];
    nbd_put64(bytes, value);
    strbuf_add(message, bytes, sizeof bytes);
}

static void add_reply(struct strbuf *message, uint32_t option, uint32_t type, size_t length)
{
    add64(message, NBD_REP_MAGIC);
    add32(message, option);
    add32(message, type);
    add32(message, (uint32_t)length);
}

static void acknowledge(struct session *session, uint32_t option)
{
    autostrbuf struct strbuf message = {0};
    add_reply(&message, option, NBD_REP_ACK, 0);
    session_send(session, &message);
}

/* Errors carry a text for people; its length has the protocol's limit. */
static void refuse(struct session *session, uint32_t option, uint32_t type, const char *text)
{
    autostrbuf struct strbuf message = {0};
    size_t length = strnlen(text, NBD_STRING_MAX);
    add_reply(&message, option, type, length);
    strbuf_add(&message, text, length);
    session_send(session, &message);
}

void negotiate_greet(struct session *session)
{
    autostrbuf struct strbuf message = {0};
    add64(&message, NBD_MAGIC);
    add64(&message, NBD_OPTION_MAGIC);
    add16(&message, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    session_send(session, &message);
}

void negotiate_client_flags(struct session *session, uint32_t flags)
{
    if (flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) {
        session->state = SESSION_ENDED;
        return;
    }
    session->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
    session->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    session->state = SESSION_OPTION;
}

void negotiate_too_big(struct session *session, uint32_t option)
{
    if (option == NBD_OPT_EXPORT_NAME || !session->fixed)
        session->state = SESSION_ENDED; /* there is no other way to refuse */
    else
        refuse(session, option, NBD_REP_ERR_TOO_BIG, "the option is too long");
}

/* ---- Reading options ---- */

struct reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static const uint8_t *take(struct reader *reader, size_t length)
{
    if (reader->bad || length > reader->left) {
        reader->bad = true;
        return NULL;
    }
    const uint8_t *at = reader->at;
    reader->at += length;
    reader->left -= length;
    return at;
}

static uint16_t take16(struct reader *reader)
{
    const uint8_t *at = take(reader, 2);
    return at ? nbd_get16(at) : 0;
}

static uint32_t take32(struct reader *reader)
{
    const uint8_t *at = take(reader, 4);
    return at ? nbd_get32(at) : 0;
}

/* A string without NUL inside and within the protocol's limit, as the caller's copy; NULL when it is not. */
static char *take_string(struct reader *reader, size_t length)
{
    const uint8_t *at = length > NBD_STRING_MAX ? NULL : take(reader, length);
    if (!at || memchr(at, '\0', length)) {
        reader->bad = true;
        return NULL;
    }
    return xstrndup((const char *)at, length);
}

/* ---- Questions that are answered elsewhere ---- */

static struct negotiation *negotiation_new(struct session *session, uint32_t option)
{
    struct negotiation *negotiation = xcalloc(1, sizeof *negotiation);
    negotiation->session = session_ref(session);
    negotiation->option = option;
    return negotiation;
}

void negotiation_free(struct negotiation *negotiation)
{
    if (!negotiation)
        return;
    free(negotiation->name);
    free(negotiation->message);
    string_list_clear(&negotiation->queries);
    string_list_clear(&negotiation->names);
    free(negotiation);
}

/*
 * Hands the answer to the session's thread. It drops the reference here, so that an answer which nobody
 * fetches does not keep its session alive.
 */
static void answer(struct negotiation *negotiation, int result, const struct error *error)
{
    struct session *session = negotiation->session;
    negotiation->result = result;
    if (result < 0)
        negotiation->message = xstrdup(error_message(error));
    {
        scoped_lock(&session->mutex);
        session->answer = negotiation;
    }
    session->options.resume(session->options.data);
    session_unref(session);
}

static void opened(void *data, int result, const struct error *error)
{
    answer(data, result, error);
}

static void run_info(void *data)
{
    struct negotiation *negotiation = data;
    autoerror struct error *error = NULL;
    int r =
        catalog_info(negotiation->session->options.catalog, negotiation->name, &negotiation->info, &error);
    answer(negotiation, r, error);
}

static void run_list(void *data)
{
    struct negotiation *negotiation = data;
    autoerror struct error *error = NULL;
    int r = catalog_list(negotiation->session->options.catalog, &negotiation->names, &error);
    answer(negotiation, r, error);
}

static void ask(struct negotiation *negotiation)
{
    struct session *session = negotiation->session;
    session->state = SESSION_WAITING;
    switch (negotiation->option) {
    case NBD_OPT_GO:
    case NBD_OPT_EXPORT_NAME:
        catalog_open(session->options.catalog, negotiation->name, &session->user, opened, negotiation);
        break;
    case NBD_OPT_LIST:
        pool_submit(session->options.pool, run_list, negotiation);
        break;
    default:
        pool_submit(session->options.pool, run_info, negotiation);
        break;
    }
}

/* Asks when the option was understood to its last byte. */
static void ask_when_read(struct negotiation *negotiation, const struct reader *reader)
{
    if (!reader->bad && reader->left == 0) {
        ask(negotiation);
        return;
    }
    struct session *session = negotiation->session;
    refuse(session, negotiation->option, NBD_REP_ERR_INVALID, "the option is malformed");
    negotiation_free(negotiation);
    session_unref(session);
}

/* ---- Options ---- */

static void option_export_name(struct session *session, const uint8_t *data, uint32_t length)
{
    struct reader reader = {data, length, false};
    char *name = take_string(&reader, length);
    if (!name) {
        session->state = SESSION_ENDED;
        return;
    }
    struct negotiation *negotiation = negotiation_new(session, NBD_OPT_EXPORT_NAME);
    negotiation->name = name;
    ask(negotiation);
}

static void option_info(struct session *session, uint32_t option, const uint8_t *data, uint32_t length)
{
    struct reader reader = {data, length, false};
    struct negotiation *negotiation = negotiation_new(session, option);
    negotiation->name = take_string(&reader, take32(&reader));
    for (unsigned count = take16(&reader); count && !reader.bad; count--) {
        uint16_t info = take16(&reader);
        negotiation->wants_name |= info == NBD_INFO_NAME;
        negotiation->wants_block_size |= info == NBD_INFO_BLOCK_SIZE;
    }
    ask_when_read(negotiation, &reader);
}

static void option_meta_context(struct session *session, uint32_t option, const uint8_t *data,
                                uint32_t length)
{
    if (option == NBD_OPT_SET_META_CONTEXT) {
        /* A selection that fails also ends the one before. */
        free(steal_ptr(&session->meta_export));
        if (!session->structured) {
            refuse(session, option, NBD_REP_ERR_INVALID, "structured replies must be negotiated first");
            return;
        }
    }
    struct reader reader = {data, length, false};
    struct negotiation *negotiation = negotiation_new(session, option);
    negotiation->name = take_string(&reader, take32(&reader));
    for (uint32_t count = take32(&reader); count && !reader.bad; count--) {
        autofree char *query = take_string(&reader, take32(&reader));
        if (query)
            string_list_add(&negotiation->queries, query);
    }
    ask_when_read(negotiation, &reader);
}

static void option_starttls(struct session *session)
{
    if (session->tls) {
        refuse(session, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, "TLS is in use already");
    } else if (!session->options.tls_offered) {
        refuse(session, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, "this server has no TLS configured");
    } else if (session->input_end != session->input_start) {
        /* Bytes after STARTTLS came in the clear: somebody may have put them there. */
        session->state = SESSION_ENDED;
    } else {
        /* What was agreed in the clear is forgotten. */
        session->structured = false;
        free(steal_ptr(&session->meta_export));
        acknowledge(session, NBD_OPT_STARTTLS);
        session->state = SESSION_TLS;
    }
}

static bool tls_missing(struct session *session, uint32_t option)
{
    if (!session->options.tls_required || session->tls || option == NBD_OPT_STARTTLS ||
        option == NBD_OPT_ABORT)
        return false;
    if (option == NBD_OPT_EXPORT_NAME)
        session->state = SESSION_ENDED;
    else
        refuse(session, option, NBD_REP_ERR_TLS_REQD, "this server wants STARTTLS first");
    return true;
}

void negotiate_option(struct session *session, uint32_t option, const uint8_t *data, uint32_t length)
{
    if (!session->fixed && option != NBD_OPT_EXPORT_NAME) {
        session->state = SESSION_ENDED;
        return;
    }
    if (tls_missing(session, option))
        return;
    bool bare = option == NBD_OPT_LIST || option == NBD_OPT_STARTTLS || option == NBD_OPT_STRUCTURED_REPLY;
    if (bare && length) {
        refuse(session, option, NBD_REP_ERR_INVALID, "this option takes no data");
        return;
    }
    switch (option) {
    case NBD_OPT_EXPORT_NAME:
        option_export_name(session, data, length);
        break;
    case NBD_OPT_ABORT:
        acknowledge(session, option);
        session->state = SESSION_DRAINING;
        break;
    case NBD_OPT_LIST:
        ask(negotiation_new(session, option));
        break;
    case NBD_OPT_STARTTLS:
        option_starttls(session);
        break;
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        option_info(session, option, data, length);
        break;
    case NBD_OPT_STRUCTURED_REPLY:
        session->structured = true;
        acknowledge(session, option);
        break;
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        option_meta_context(session, option, data, length);
        break;
    default:
        refuse(session, option, NBD_REP_ERR_UNSUP, "this option is unknown");
        break;
    }
}

/* ---- Answers ---- */

static uint16_t transmission_flags(const struct session *session, const struct catalog_info *info)
{
    unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN |
                     NBD_FLAG_SEND_CACHE;
    if (session->structured)
        flags |= NBD_FLAG_SEND_DF;
    if (info->read_only)
        flags |= NBD_FLAG_READ_ONLY;
    else
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    return (uint16_t)flags;
}

static void enter_transmission(struct session *session, const struct negotiation *negotiation)
{
    session->image = entry_image(session->user.entry);
    session->metrics = entry_metrics(session->user.entry);
    session->aligned = negotiation->wants_block_size;
    session->status = session->structured && string_equal(session->meta_export, negotiation->name);
    session->state = SESSION_REQUEST;
}

static void answer_export_name(struct session *session, struct negotiation *negotiation)
{
    static const char padding[NBD_PADDING_SIZE];
    autostrbuf struct strbuf message = {0};
    add64(&message, session->user.info.size);
    add16(&message, transmission_flags(session, &session->user.info));
    if (!session->no_zeroes)
        strbuf_add(&message, padding, sizeof padding);
    enter_transmission(session, negotiation);
    session_send(session, &message);
}

static void answer_info(struct session *session, struct negotiation *negotiation)
{
    bool go = negotiation->option == NBD_OPT_GO;
    const struct catalog_info *info = go ? &session->user.info : &negotiation->info;
    autostrbuf struct strbuf message = {0};
    add_reply(&message, negotiation->option, NBD_REP_INFO, 12);
    add16(&message, NBD_INFO_EXPORT);
    add64(&message, info->size);
    add16(&message, transmission_flags(session, info));
    if (negotiation->wants_name) {
        add_reply(&message, negotiation->option, NBD_REP_INFO, 2 + strlen(negotiation->name));
        add16(&message, NBD_INFO_NAME);
        strbuf_adds(&message, negotiation->name);
    }
    if (negotiation->wants_block_size) {
        add_reply(&message, negotiation->option, NBD_REP_INFO, 14);
        add16(&message, NBD_INFO_BLOCK_SIZE);
        add32(&message, info->block_size);
        add32(&message, info->block_size > PREFERRED_BLOCK_SIZE ? info->block_size : PREFERRED_BLOCK_SIZE);
        add32(&message, PAYLOAD_MAX);
    }
    add_reply(&message, negotiation->option, NBD_REP_ACK, 0);
    if (go)
        enter_transmission(session, negotiation);
    session_send(session, &message);
}

static void answer_list(struct session *session, struct negotiation *negotiation)
{
    autostrbuf struct strbuf message = {0};
    for (size_t i = 0; i < negotiation->names.count; i++) {
        const char *name = negotiation->names.items[i];
        size_t length = strlen(name);
        add_reply(&message, NBD_OPT_LIST, NBD_REP_SERVER, 4 + length);
        add32(&message, (uint32_t)length);
        strbuf_add(&message, name, length);
    }
    add_reply(&message, NBD_OPT_LIST, NBD_REP_ACK, 0);
    session_send(session, &message);
}

/* To list, no query means all and "base:" all of that namespace; to select, only the full name counts. */
static bool context_asked_for(const struct negotiation *negotiation)
{
    bool list = negotiation->option == NBD_OPT_LIST_META_CONTEXT;
    return (list &&
            (negotiation->queries.count == 0 || string_list_contains(&negotiation->queries, "base:"))) ||
           string_list_contains(&negotiation->queries, CONTEXT_NAME);
}

static void answer_meta_context(struct session *session, struct negotiation *negotiation)
{
    bool list = negotiation->option == NBD_OPT_LIST_META_CONTEXT;
    autostrbuf struct strbuf message = {0};
    if (context_asked_for(negotiation)) {
        add_reply(&message, negotiation->option, NBD_REP_META_CONTEXT, 4 + strlen(CONTEXT_NAME));
        add32(&message, list ? 0 : CONTEXT_ID);
        strbuf_adds(&message, CONTEXT_NAME);
        if (!list)
            session->meta_export = steal_ptr(&negotiation->name);
    }
    add_reply(&message, negotiation->option, NBD_REP_ACK, 0);
    session_send(session, &message);
}

static void answer_failed(struct session *session, struct negotiation *negotiation)
{
    uint32_t type = NBD_REP_ERR_PLATFORM;
    if (negotiation->result == -ENOENT)
        type = NBD_REP_ERR_UNKNOWN;
    else if (negotiation->result == -ESHUTDOWN)
        type = NBD_REP_ERR_SHUTDOWN;
    if (type != NBD_REP_ERR_UNKNOWN)
        session->options.note(session->options.data, negotiation->message);
    if (negotiation->option == NBD_OPT_EXPORT_NAME)
        session->state = SESSION_ENDED;
    else
        refuse(session, negotiation->option, type, negotiation->message);
}

void negotiate_answered(struct session *session, struct negotiation *negotiation)
{
    if (session->state == SESSION_WAITING) {
        session->state = SESSION_OPTION;
        if (negotiation->result < 0)
            answer_failed(session, negotiation);
        else if (negotiation->option == NBD_OPT_EXPORT_NAME)
            answer_export_name(session, negotiation);
        else if (negotiation->option == NBD_OPT_LIST)
            answer_list(session, negotiation);
        else if (negotiation->option == NBD_OPT_INFO || negotiation->option == NBD_OPT_GO)
            answer_info(session, negotiation);
        else
            answer_meta_context(session, negotiation);
    }
    negotiation_free(negotiation);
}
