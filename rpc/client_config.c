/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "rpc/client_config.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/base/strings.h"

#define FILE_LIMIT (64u << 10)

void client_config_clear(struct client_config *config)
{
    free(config->endpoint);
    free(config->ca);
    free(config->cert);
    free(config->key);
    *config = (struct client_config){0};
}

static char *trimmed(const char *text, size_t length)
{
    static const char blank[] = " \t\r";
    while (length && strchr(blank, *text)) {
        text++;
        length--;
    }
    while (length && strchr(blank, text[length - 1]))
        length--;
    return xstrndup(text, length);
}

/* The path as a program finds it from anywhere. */
static char *from_folder(const char *config_path, const char *path)
{
    const char *end = strrchr(config_path, '/');
    if (path[0] == '/' || !end)
        return xstrdup(path);
    return xasprintf("%.*s/%s", (int)(end - config_path), config_path, path);
}

static int set(struct client_config *config, const char *path, const char *key, const char *value,
               struct error **ret_error)
{
    const struct {
        const char *key;
        char **member;
    } keys[] = {
        {"endpoint", &config->endpoint}, {"ca", &config->ca}, {"cert", &config->cert}, {"key", &config->key}};
    if (!*value || strlen(value) >= PATH_MAX)
        return error_set(ret_error, EINVAL, "the value of %.64s is %s", key, *value ? "too long" : "empty");
    for (const char *c = value; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return error_set(ret_error, EINVAL, "the value of %.64s has a control character", key);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(keys[i].key, key) != 0)
            continue;
        if (*keys[i].member)
            return error_set(ret_error, EINVAL, "%s is set a second time", key);
        *keys[i].member = i == 0 ? xstrdup(value) : from_folder(path, value);
        return 0;
    }
    return error_set(ret_error, EINVAL, "there is no key \"%.64s\": endpoint, ca, cert and key are known",
                     key);
}

static int parse_line(struct client_config *config, const char *path, const char *line, size_t length,
                      struct error **ret_error)
{
    autofree char *whole = trimmed(line, length);
    if (!*whole || *whole == '#')
        return 0;
    char *equals = strchr(whole, '=');
    if (!equals)
        return error_set(ret_error, EINVAL, "the line is not KEY = VALUE");
    autofree char *key = trimmed(whole, (size_t)(equals - whole));
    autofree char *value = trimmed(equals + 1, strlen(equals + 1));
    return set(config, path, key, value, ret_error);
}

int client_config_parse(const char *text, const char *path, struct client_config *ret_config,
                        struct error **ret_error)
{
    struct client_config config = {0};
    int number = 1;
    for (const char *line = text; *line; number++) {
        size_t length = strcspn(line, "\n");
        int r = parse_line(&config, path, line, length, ret_error);
        if (r < 0) {
            if (ret_error)
                error_prefix(ret_error, "%s:%d", path, number);
            client_config_clear(&config);
            return r;
        }
        line += length + (line[length] == '\n');
    }
    *ret_config = config;
    return 0;
}

int client_config_load(const char *path, struct client_config *ret_config, struct error **ret_error)
{
    autofree char *text = NULL;
    autoerror struct error *error = NULL;
    size_t length;
    int r = file_read(path, FILE_LIMIT, &text, &length, &error);
    if (r == -ENOENT) {
        *ret_config = (struct client_config){0};
        return 0;
    }
    if (r < 0)
        return error_set(ret_error, -r, "%s", error_message(error));
    if (strlen(text) != length)
        return error_set(ret_error, EINVAL, "%s is no text file: it holds a NUL byte", path);
    return client_config_parse(text, path, ret_config, ret_error);
}
