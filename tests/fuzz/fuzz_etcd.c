/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Whatever a server that says it is etcd answers: it is refused in one line, or gives keys that are keys and
 * revisions that are numbers; what is encoded comes back. The first line of the input is such an URL. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/store_etcd_priv.h"
#include "rpc/base/alloc.h"

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static void check_error(int r, const struct error *error)
{
    REQUIRE(r < 0 && error && error->number == -r && !strpbrk(error->message, "\n\r"));
}

static void check_entry(const struct store_entry *entry)
{
    size_t length = strlen(entry->key);
    REQUIRE(length > 0 && length <= STORE_KEY_MAX);
    for (size_t i = 0; i < length; i++)
        REQUIRE(entry->key[i] > ' ' && entry->key[i] <= '~');
    REQUIRE(entry->revision <= INT64_MAX);
}

static void check_range(const json_t *reply)
{
    struct store_list list = {0};
    autoerror struct error *error = NULL;
    autofree char *last = NULL;
    bool more;
    uint64_t revision = 0;
    int r = etcd_range_parse(reply, "/p/", &list, &more, &last, &error);
    if (r < 0)
        check_error(r, error);
    for (size_t i = 0; i < list.count; i++) {
        check_entry(&list.entries[i]);
        REQUIRE(list.entries[i].value);
    }
    store_list_clear(&list);
    if (etcd_header_revision(reply, &revision, NULL) == 0)
        REQUIRE(revision <= INT64_MAX);
}

static void check_watch(const char *text, size_t length)
{
    struct etcd_watch_message message = {0};
    autoerror struct error *error = NULL;
    int r = etcd_watch_parse(text, length, "/p/", &message, &error);
    if (r < 0) {
        check_error(r, error);
        return;
    }
    for (size_t i = 0; i < message.count; i++)
        check_entry(&message.events[i]);
    etcd_watch_message_clear(&message);
}

static void check_settings(const char *location)
{
    struct etcd_settings settings = {0};
    autoerror struct error *error = NULL;
    if (etcd_settings_parse(location, &settings, &error) < 0) {
        REQUIRE(error);
        return;
    }
    REQUIRE(settings.endpoints.count && settings.prefix[0] == '/');
    REQUIRE(settings.prefix[strlen(settings.prefix) - 1] == '/');
    for (size_t i = 0; i < settings.endpoints.count; i++)
        REQUIRE(string_starts_with(settings.endpoints.items[i], "http") &&
                !strpbrk(settings.endpoints.items[i], " @?#\\"));
    etcd_settings_clear(&settings);
}

/* Bytes as a value come back as they were, up to the first NUL. */
static void check_way_back(const char *bytes, size_t length)
{
    json_t *reply =
        json_pack("{s:[{s:o, s:o}]}", "kvs", "key", etcd_key("/p/", "k"), "value", etcd_bytes(bytes, length));
    struct store_list list = {0};
    bool more;
    REQUIRE(etcd_range_parse(reply, "/p/", &list, &more, NULL, NULL) == 0 && list.count == 1);
    REQUIRE(memcmp(list.entries[0].value, bytes, strnlen(bytes, length)) == 0);
    REQUIRE(strlen(list.entries[0].value) == strnlen(bytes, length));
    store_list_clear(&list);
    json_decref(reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autofree char *text = xstrndup((const char *)data, size);
    autofree char *line = xstrndup(text, strcspn(text, "\n"));
    check_settings(line);
    check_way_back((const char *)data, size);
    check_watch((const char *)data, size);
    json_t *reply = NULL;
    autoerror struct error *error = NULL;
    int r = etcd_reply_parse((const char *)data, size, size % 2 ? 200 : 503, &reply, &error);
    if (r < 0)
        check_error(r, error);
    else
        check_range(reply);
    json_decref(reply);
    return 0;
}
