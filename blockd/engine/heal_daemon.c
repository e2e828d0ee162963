/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Orders to the self-heal daemon. It takes them from its management daemon on a unix socket: ONC RPC with one
 * call, whose argument and answer are dictionaries. The sentences that it answers with are not read, only
 * numbers, and the begin and end of each crawl.
 */
#include "blockd/engine/heal_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "rpc/base/alloc.h"
#include "rpc/volume_layout.h"

#define PROGRAM         4867634 /* of glusterd's calls to its processes */
#define PROGRAM_VERSION 2
#define CALL_XLATOR_OP  3
#define OP_HEAL_INDEX   1
#define OP_HEAL_FULL    2
#define OP_STATISTICS   7
#define ANSWER_MAX      (16u << 20)
#define ANSWER_SECONDS  10
#define LAST_FRAGMENT   0x80000000u

char *heal_socket(const struct engine *engine)
{
    return xasprintf("%s/heal.sock", engine->config->run_dir);
}

/* ---- The call ---- */

static void put_number(struct strbuf *buffer, uint32_t number)
{
    uint32_t wire = htonl(number);
    strbuf_add(buffer, (const char *)&wire, sizeof wire);
}

static void put_opaque(struct strbuf *buffer, const char *data, size_t length)
{
    static const char padding[4];
    put_number(buffer, (uint32_t)length);
    strbuf_add(buffer, data, length);
    strbuf_add(buffer, padding, (4 - length % 4) % 4);
}

/* Keys and values end with a NUL; a key's is not counted in its length. */
static void put_pair(struct strbuf *dictionary, const char *key, const char *value)
{
    put_number(dictionary, (uint32_t)strlen(key));
    put_number(dictionary, (uint32_t)strlen(value) + 1);
    strbuf_add(dictionary, key, strlen(key) + 1);
    strbuf_add(dictionary, value, strlen(value) + 1);
}

static void make_call(const char *translator, int operation, struct strbuf *ret_call)
{
    autostrbuf struct strbuf dictionary = {0}, body = {0};
    autofree char *number = xasprintf("%d", operation);
    put_number(&dictionary, 4);
    put_pair(&dictionary, "xl-op", number);
    put_pair(&dictionary, "count", "1");
    put_pair(&dictionary, "xl-0", translator);
    put_pair(&dictionary, translator, "0"); /* the number by which the answer's keys name it */

    static const uint32_t head[] = {1, 0, 2, PROGRAM, PROGRAM_VERSION, CALL_XLATOR_OP, 0, 0, 0, 0};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        put_number(&body, head[i]);
    put_opaque(&body, "", 0);
    put_number(&body, CALL_XLATOR_OP);
    put_opaque(&body, dictionary.data, dictionary.length);
    put_opaque(&body, "", 0);
    put_number(ret_call, LAST_FRAGMENT | (uint32_t)body.length);
    strbuf_add(ret_call, body.data, body.length);
}

static int connect_daemon(const struct engine *engine, int *ret_fd, struct error **ret_error)
{
    autofree char *path = heal_socket(engine);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return error_set(ret_error, ENAMETOOLONG, "the path of the socket %s is too long", path);
    strcpy(address.sun_path, path);
    autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = ANSWER_SECONDS};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return error_set(ret_error, ENOTCONN, "the self-heal daemon does not answer at %s: %s", path,
                         strerror(errno));
    *ret_fd = steal_fd(&fd);
    return 0;
}

static bool receive(int fd, char *data, size_t length)
{
    while (length) {
        ssize_t got = recv(fd, data, length, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        data += got;
        length -= (size_t)got;
    }
    return true;
}

/* A record of one fragment or more. */
static bool receive_record(int fd, struct strbuf *ret_record)
{
    uint32_t head;
    do {
        if (!receive(fd, (char *)&head, sizeof head))
            return false;
        head = ntohl(head);
        size_t length = head & ~LAST_FRAGMENT;
        if (length > ANSWER_MAX - ret_record->length)
            return false;
        autofree char *data = xcalloc(1, length + 1);
        if (!receive(fd, data, length))
            return false;
        strbuf_add(ret_record, data, length);
    } while (!(head & LAST_FRAGMENT));
    return true;
}

static bool send_all(int fd, const struct strbuf *call)
{
    for (size_t sent = 0; sent < call->length;) {
        ssize_t r = send(fd, call->data + sent, call->length - sent, MSG_NOSIGNAL);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return false;
        sent += (size_t)r;
    }
    return true;
}

/* ---- The answer ---- */

struct reader {
    const char *at;
    size_t left;
};

static bool take_number(struct reader *reader, uint32_t *ret_number)
{
    if (reader->left < 4)
        return false;
    uint32_t wire;
    memcpy(&wire, reader->at, sizeof wire);
    *ret_number = ntohl(wire);
    reader->at += 4;
    reader->left -= 4;
    return true;
}

static bool take_bytes(struct reader *reader, size_t length, const char **ret_bytes)
{
    if (reader->left < length)
        return false;
    *ret_bytes = reader->at;
    reader->at += length;
    reader->left -= length;
    return true;
}

struct answer {
    struct strbuf record;
    uint32_t result; /* 0: done on every brick */
    struct string_list keys, values;
};

static void answer_clear(struct answer *answer)
{
    strbuf_clear(&answer->record);
    string_list_clear(&answer->keys);
    string_list_clear(&answer->values);
}

static bool decode_dictionary(struct reader *reader, struct answer *answer)
{
    uint32_t count, key_length, value_length;
    if (!take_number(reader, &count))
        return reader->left == 0;
    for (; count; count--) {
        const char *key, *value;
        if (!take_number(reader, &key_length) || !take_number(reader, &value_length) ||
            !take_bytes(reader, (size_t)key_length + 1, &key) || !take_bytes(reader, value_length, &value))
            return false;
        autofree char *key_text = xstrndup(key, key_length), *value_text = xstrndup(value, value_length);
        string_list_add(&answer->keys, key_text);
        string_list_add(&answer->values, value_text);
    }
    return true;
}

/* After the reply's head: transaction, "reply", "accepted", verifier, "success". */
static bool decode_answer(struct answer *answer)
{
    struct reader reader = {answer->record.data, answer->record.length};
    uint32_t number, reply[3], flavour, length, status;
    const char *skipped;
    for (int i = 0; i < 3; i++)
        if (!take_number(&reader, &reply[i]))
            return false;
    if (reply[1] != 1 || reply[2] != 0 || !take_number(&reader, &flavour) || !take_number(&reader, &length) ||
        !take_bytes(&reader, length, &skipped) || !take_number(&reader, &status) || status != 0)
        return false;
    if (!take_number(&reader, &answer->result) || !take_number(&reader, &number) ||
        !take_number(&reader, &length) || length > reader.left)
        return false;
    struct reader dictionary = {reader.at, length};
    return decode_dictionary(&dictionary, answer);
}

static const char *answer_text(const struct answer *answer, const char *key)
{
    for (size_t i = 0; i < answer->keys.count; i++)
        if (strcmp(answer->keys.items[i], key) == 0)
            return answer->values.items[i];
    return NULL;
}

static uint64_t answer_number(const struct answer *answer, const char *key)
{
    const char *text = answer_text(answer, key);
    return text ? strtoull(text, NULL, 10) : 0;
}

static int order(const struct engine *engine, const char *translator, int operation,
                 struct answer *ret_answer, struct error **ret_error)
{
    autoclose int fd = -1;
    autostrbuf struct strbuf call = {0};
    int r = connect_daemon(engine, &fd, ret_error);
    if (r < 0)
        return r;
    make_call(translator, operation, &call);
    struct answer answer cleanup(answer_clear) = {0};
    if (!send_all(fd, &call) || !receive_record(fd, &answer.record))
        return error_set(ret_error, ENOTCONN, "the self-heal daemon gave no answer");
    if (!decode_answer(&answer))
        return error_set(ret_error, EPROTO, "the self-heal daemon's answer cannot be understood");
    *ret_answer = answer;
    answer = (struct answer){0};
    return 0;
}

/* ---- Heals ---- */

static char *translator_of(const struct volume *volume, size_t set)
{
    bool fragments = volume->spec.template_name == TEMPLATE_DISPERSE;
    return xasprintf("%s-%s-%llu", volume->meta.name, fragments ? "disperse" : "replicate",
                     (unsigned long long)layout_set_number(&volume->spec, set));
}

int engine_heal_start(struct engine *engine, const struct volume *volume, bool full, struct error **ret_error)
{
    struct volume seen cleanup(cleanup_volume) = {0};
    heal_volume(volume, &seen);
    for (size_t set = 0; set < heal_sets(&seen); set++) {
        autofree char *translator = translator_of(volume, set);
        struct answer answer cleanup(answer_clear) = {0};
        int r = order(engine, translator, full ? OP_HEAL_FULL : OP_HEAL_INDEX, &answer, ret_error);
        if (r < 0)
            return r;
        if (answer.result)
            return error_set(ret_error, EAGAIN, "volume %s: the heal waits until all bricks are up",
                             volume->meta.name);
    }
    return 0;
}

/* As ctime(3) writes it, in local time. */
static int64_t parse_time(const char *text)
{
    struct tm when = {.tm_isdst = -1};
    return text && strptime(text, "%a %b %d %H:%M:%S %Y", &when) ? (int64_t)mktime(&when) : 0;
}

/* What one brick's crawls of that type say. */
static void read_crawls(const struct answer *answer, size_t brick, const char *type, int64_t since,
                        struct heal_crawl *crawl)
{
    autofree char *count_key = xasprintf("statistics-0-%zu-count", brick);
    uint64_t count = answer_number(answer, count_key);
    bool finished = false;
    for (uint64_t i = 0; i < count && i < answer->keys.count; i++) {
        autofree char *suffix = xasprintf("0-%zu-%llu", brick, (unsigned long long)i);
        autofree char *type_key = xasprintf("statistics_crawl_type-%s", suffix);
        autofree char *start_key = xasprintf("statistics_strt_time-%s", suffix);
        autofree char *running_key = xasprintf("statistics_inprogress-%s", suffix);
        autofree char *healed_key = xasprintf("statistics_healed_cnt-%s", suffix);
        autofree char *failed_key = xasprintf("statistics_heal_failed_cnt-%s", suffix);
        autofree char *split_key = xasprintf("statistics_sb_cnt-%s", suffix);
        if (!string_equal(answer_text(answer, type_key), type) ||
            parse_time(answer_text(answer, start_key)) < since)
            continue;
        bool running = answer_number(answer, running_key) != 0;
        crawl->running |= running;
        finished |= !running;
        crawl->healed += answer_number(answer, healed_key);
        crawl->failed += answer_number(answer, failed_key);
        crawl->split_brain += answer_number(answer, split_key);
    }
    crawl->finished &= finished;
}

int engine_heal_crawl(struct engine *engine, const struct volume *volume, bool full, int64_t since,
                      struct heal_crawl *ret_crawl, struct error **ret_error)
{
    struct heal_crawl crawl = {.finished = true};
    if (volume->spec.template_name == TEMPLATE_DISPERSE)
        return error_set(ret_error, EOPNOTSUPP, "volume %s: disperse does not say how far its heals are",
                         volume->meta.name);
    struct volume seen cleanup(cleanup_volume) = {0};
    heal_volume(volume, &seen);
    for (size_t set = 0; set < heal_sets(&seen); set++) {
        autofree char *translator = translator_of(volume, set);
        struct answer answer cleanup(answer_clear) = {0};
        int r = order(engine, translator, OP_STATISTICS, &answer, ret_error);
        if (r < 0)
            return r;
        size_t place = 0; /* in the set, by which the answer names the brick */
        for (size_t child = 0; child < volume_children(&seen); child++) {
            if (volume_child_set(&seen, child) != set)
                continue;
            if (brick_is_local(engine, volume_child(&seen, child)))
                read_crawls(&answer, place, full ? "FULL" : "INDEX", since / 1000, &crawl);
            place++;
        }
    }
    if (crawl.running)
        crawl.finished = false;
    *ret_crawl = crawl;
    return 0;
}
