/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The messages of etcd's JSON gateway: protobuf's JSON mapping, in which bytes are base64, 64 bit numbers are
 * strings, and what has its default value is left out.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "blockd/store/store_etcd_priv.h"
#include "rpc/base/alloc.h"

/* ---- Base64 (RFC 4648) ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

json_t *etcd_bytes(const void *bytes, size_t length)
{
    const unsigned char *in = bytes;
    autofree char *text = xcalloc((length + 2) / 3 * 4 + 1, 1);
    char *out = text;
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t word = (uint32_t)in[i] << 16;
        word |= left > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        word |= left > 2 ? in[i + 2] : 0;
        *out++ = alphabet[word >> 18];
        *out++ = alphabet[word >> 12 & 63];
        *out++ = left > 1 ? alphabet[word >> 6 & 63] : '=';
        *out++ = left > 2 ? alphabet[word & 63] : '=';
    }
    return json_stringn(text, (size_t)(out - text));
}

static int digit_value(char digit)
{
    const char *found = digit ? strchr(alphabet, digit) : NULL;
    return found ? (int)(found - alphabet) : -1;
}

/* The bytes of a member, NUL terminated; an absent one has none. */
static int bytes_of(const json_t *object, const char *key, char **ret_bytes, size_t *ret_length,
                    struct error **ret_error)
{
    const json_t *member = json_object_get(object, key);
    if (member && !json_is_string(member))
        return error_set(ret_error, EBADMSG, "\"%s\" is no string", key);
    const char *text = member ? json_string_value(member) : "";
    size_t length = member ? json_string_length(member) : 0;
    while (length && text[length - 1] == '=')
        length--;

    autofree char *bytes = xcalloc(length / 4 * 3 + 4, 1);
    size_t count = 0;
    uint32_t word = 0;
    for (size_t i = 0; i < length; i++) {
        int value = digit_value(text[i]);
        if (value < 0)
            return error_set(ret_error, EBADMSG, "\"%s\" is no base64", key);
        word = word << 6 | (uint32_t)value;
        if (i % 4)
            bytes[count++] = (char)(word >> (6 - 2 * (i % 4)));
    }
    if (length % 4 == 1)
        return error_set(ret_error, EBADMSG, "\"%s\" is cut base64", key);
    bytes[count] = '\0';
    *ret_bytes = steal_ptr(&bytes);
    *ret_length = count;
    return 0;
}

json_t *etcd_key(const char *prefix, const char *key)
{
    autofree char *whole = xasprintf("%s%s", prefix, key);
    return etcd_bytes(whole, strlen(whole));
}

json_t *etcd_number(uint64_t number)
{
    return json_sprintf("%llu", (unsigned long long)number);
}

json_t *etcd_prefix_end(const char *prefix, const char *text)
{
    autofree char *end = xasprintf("%s%s", prefix, text);
    size_t length = strlen(end);
    end[length - 1]++; /* ASCII throughout, so this never wraps */
    return etcd_bytes(end, length);
}

/* ---- Answers ---- */

int etcd_number_of(const json_t *object, const char *key, uint64_t *ret_number, struct error **ret_error)
{
    const json_t *member = json_object_get(object, key);
    if (!member) {
        *ret_number = 0;
        return 0;
    }
    if (json_is_integer(member) && json_integer_value(member) >= 0) {
        *ret_number = (uint64_t)json_integer_value(member);
        return 0;
    }
    const char *text = json_string_value(member);
    size_t digits = text ? strspn(text, "0123456789") : 0;
    errno = 0;
    uint64_t number = digits && !text[digits] ? strtoull(text, NULL, 10) : UINT64_MAX;
    /* etcd's numbers are signed, but those of the headers' ids, which nobody reads here. */
    if (number > INT64_MAX)
        return error_set(ret_error, EBADMSG, "\"%s\" is no number", key);
    *ret_number = number;
    return 0;
}

int etcd_header_revision(const json_t *reply, uint64_t *ret_revision, struct error **ret_error)
{
    return etcd_number_of(json_object_get(reply, "header"), "revision", ret_revision, ret_error);
}

/* gRPC's codes, and which errno each one is. What is not listed stays -EIO. */
static int errno_of_code(json_int_t code)
{
    static const struct {
        json_int_t code;
        int number;
    } codes[] = {
        {1, EAGAIN},  /* canceled */
        {2, EAGAIN},  /* unknown: what a member that is stopping says */
        {3, EINVAL},  /* invalid argument */
        {4, EAGAIN},  /* deadline exceeded */
        {5, ENOENT},  /* not found */
        {7, EACCES},  /* permission denied */
        {8, ENOSPC},  /* resource exhausted */
        {9, EAGAIN},  /* failed precondition: not this member, or not now */
        {11, ERANGE}, /* out of range: a revision that is compacted, or of the future */
        {13, EAGAIN}, /* internal: what the gateway makes of a connection that broke */
        {14, EAGAIN}, /* unavailable: no leader, a new leader, no answer in time */
        {16, EACCES}, /* unauthenticated */
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == code)
            return codes[i].number;
    return EIO;
}

bool etcd_is_transient(int result)
{
    return result == -EAGAIN;
}

/* {"error": "words", "code": N}, or in a stream {"error": {"grpc_code": N, "message": "words"}}. */
static int parse_error(const json_t *reply, unsigned status, struct error **ret_error)
{
    const json_t *error = json_object_get(reply, "error");
    bool stream = json_is_object(error);
    const json_t *code = stream ? json_object_get(error, "grpc_code") : json_object_get(reply, "code");
    const char *words = json_string_value(stream ? json_object_get(error, "message") : error);
    if (!words)
        return error_set(ret_error, EAGAIN, "the answer has the HTTP status %u", status);
    autofree char *line = xstrdup(words);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    int number = errno_of_code(json_integer_value(code));
    /* One code for two things that a caller treats differently. */
    if (strstr(line, "too large") || strstr(line, "larger than max"))
        number = EFBIG;
    if (number == ENOSPC && strstr(line, "too many requests"))
        number = EAGAIN;
    return error_set(ret_error, number, "etcd says: %.200s", line);
}

int etcd_reply_parse(const char *text, size_t length, unsigned status, json_t **ret_reply,
                     struct error **ret_error)
{
    json_error_t json_error;
    json_t *reply = json_loadb(text, length, 0, &json_error);
    if (!json_is_object(reply)) {
        json_decref(reply);
        /* A proxy or something else than etcd: another endpoint may be the right one. */
        return error_set(ret_error, EAGAIN, "the answer with the HTTP status %u is none of etcd's gateway",
                         status);
    }
    if (json_object_get(reply, "error") || status != 200) {
        int r = parse_error(reply, status, ret_error);
        json_decref(reply);
        return r;
    }
    *ret_reply = reply;
    return 0;
}

/* ---- Keys and values ---- */

static bool is_store_key(const char *key, size_t length)
{
    if (length == 0 || length > STORE_KEY_MAX)
        return false;
    for (size_t i = 0; i < length; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return false;
    return true;
}

/* *ret_entry stays empty for what is no key of the store. A value with a NUL ends there, and is then no JSON.
 */
static int parse_key_value(const json_t *kv, const char *prefix, struct store_entry *ret_entry,
                           char **ret_whole_key, struct error **ret_error)
{
    autofree char *key = NULL, *value = NULL;
    size_t key_length, value_length;
    uint64_t revision;
    int r = bytes_of(kv, "key", &key, &key_length, ret_error);
    if (r == 0)
        r = bytes_of(kv, "value", &value, &value_length, ret_error);
    if (r == 0)
        r = etcd_number_of(kv, "mod_revision", &revision, ret_error);
    if (r < 0)
        return r;
    size_t skip = strlen(prefix);
    if (key_length > skip && memcmp(key, prefix, skip) == 0 && is_store_key(key + skip, key_length - skip))
        *ret_entry = (struct store_entry){xstrdup(key + skip), steal_ptr(&value), revision};
    if (ret_whole_key)
        *ret_whole_key = steal_ptr(&key);
    return 0;
}

int etcd_range_parse(const json_t *reply, const char *prefix, struct store_list *list, bool *ret_more,
                     char **ret_last, struct error **ret_error)
{
    const json_t *kvs = json_object_get(reply, "kvs");
    size_t count = json_array_size(kvs);
    autofree char *last = NULL;
    if (count)
        list->entries = xrealloc(list->entries, list->count + count, sizeof *list->entries);
    for (size_t i = 0; i < count; i++) {
        struct store_entry entry = {0};
        autofree char *key = NULL;
        int r = parse_key_value(json_array_get(kvs, i), prefix, &entry, &key, ret_error);
        if (r < 0)
            return r;
        if (entry.key)
            list->entries[list->count++] = entry;
        if (i == count - 1)
            last = steal_ptr(&key);
    }
    *ret_more = json_is_true(json_object_get(reply, "more"));
    if (ret_last)
        *ret_last = steal_ptr(&last);
    return 0;
}

/* ---- Watches ---- */

static int parse_event(const json_t *event, const char *prefix, struct etcd_watch_message *message,
                       struct error **ret_error)
{
    struct store_entry entry = {0};
    const json_t *kv = json_object_get(event, "kv");
    uint64_t revision;
    int r = etcd_number_of(kv, "mod_revision", &revision, ret_error);
    if (r == 0)
        r = parse_key_value(kv, prefix, &entry, NULL, ret_error);
    if (r == 0 && message->until < revision)
        message->until = revision;
    if (r < 0 || !entry.key)
        return r;
    if (string_equal(json_string_value(json_object_get(event, "type")), "DELETE")) {
        free(entry.value);
        entry.value = NULL;
    }
    message->events = xrealloc(message->events, message->count + 1, sizeof *message->events);
    message->events[message->count++] = entry;
    return 0;
}

static int parse_watch_result(const json_t *result, const char *prefix, struct etcd_watch_message *message,
                              struct error **ret_error)
{
    message->created = json_is_true(json_object_get(result, "created"));
    message->canceled = json_is_true(json_object_get(result, "canceled"));
    int r = etcd_header_revision(result, &message->revision, ret_error);
    if (r == 0)
        r = etcd_number_of(result, "compact_revision", &message->compacted, ret_error);
    const json_t *events = json_object_get(result, "events");
    for (size_t i = 0; r == 0 && i < json_array_size(events); i++)
        r = parse_event(json_array_get(events, i), prefix, message, ret_error);
    /* Without changes it tells how far the member came; the one that opens a stream does not speak of it. */
    if (r == 0 && !json_array_size(events) && !message->created && !message->canceled)
        message->until = message->revision;
    return r;
}

int etcd_watch_parse(const char *line, size_t length, const char *prefix,
                     struct etcd_watch_message *ret_message, struct error **ret_error)
{
    json_t *reply = NULL;
    int r = etcd_reply_parse(line, length, 200, &reply, ret_error);
    if (r < 0)
        return r;
    struct etcd_watch_message message = {0};
    r = parse_watch_result(json_object_get(reply, "result"), prefix, &message, ret_error);
    json_decref(reply);
    if (r < 0) {
        etcd_watch_message_clear(&message);
        return r;
    }
    *ret_message = message;
    return 0;
}

void etcd_watch_message_clear(struct etcd_watch_message *message)
{
    for (size_t i = 0; i < message->count; i++)
        store_entry_clear(&message->events[i]);
    free(message->events);
    *message = (struct etcd_watch_message){0};
}
