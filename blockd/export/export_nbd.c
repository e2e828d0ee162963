/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * NBD: an export is a grant, which blockd-nbd follows by itself. Its control socket is asked only where
 * blockd must know that a client is gone, and for numbers.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/export/export_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/files.h"
#include "rpc/base/sizes.h"
#include "rpc/base/strings.h"
#include "rpc/http_client.h"

#define ANSWER_MS 2000 /* what export_down() may block */
#define HEALTH_MS 1000
#define CALLS_MAX 8   /* at once; the server takes 64 connections, the last ones among them */
#define FRESH_MS  200 /* a list of a thousand exports asks the server a few times */

struct nbd {
    const struct config *config;
    char *control_path;

    pthread_mutex_t
        grants; /* a grant is written, or swept; taken before the store's own locks, see export_sweep() */

    pthread_mutex_t calls_mutex; /* guards the number below; no other lock is taken under it */
    pthread_cond_t call_ended;
    unsigned calls; /* to the server now */

    pthread_mutex_t mutex;     /* guards what follows; only the one above is taken under it */
    struct object_list health; /* of struct health, one a volume that was asked for */
};

/* What was last seen of the server and a volume. */
struct health {
    char *volume;
    bool checked;
    int64_t checked_at; /* clock_monotonic_ms() */
    char *problem;      /* why nobody was served then; NULL: they were */
};

static int nbd_start(const struct config *config, void **ret_state, struct error **ret_error)
{
    /* blockd-nbd watches this folder from its start on. */
    autofree char *grants = xasprintf("%s/grants", config->run_dir);
    int r = folder_make(grants, 0700, ret_error);
    if (r < 0)
        return r;
    struct nbd *nbd = xcalloc(1, sizeof *nbd);
    nbd->config = config;
    nbd->control_path = config_nbd_control_path(config);
    pthread_mutex_init(&nbd->grants, NULL);
    pthread_mutex_init(&nbd->calls_mutex, NULL);
    pthread_cond_init(&nbd->call_ended, NULL);
    pthread_mutex_init(&nbd->mutex, NULL);
    *ret_state = nbd;
    return 0;
}

static void nbd_stop(void *state)
{
    struct nbd *nbd = state;
    pthread_mutex_destroy(&nbd->grants);
    pthread_mutex_destroy(&nbd->calls_mutex);
    pthread_cond_destroy(&nbd->call_ended);
    pthread_mutex_destroy(&nbd->mutex);
    free(nbd->control_path);
    struct health *health = nbd->health.items;
    for (size_t i = 0; i < nbd->health.count; i++) {
        free(health[i].volume);
        free(health[i].problem);
    }
    free(health);
    free(nbd);
}

/* ---- The server ---- */

static int ask(struct nbd *nbd, const char *method, const char *path, int timeout_ms, unsigned *ret_status,
               struct strbuf *ret_body, struct error **ret_error)
{
    cleanup(cleanup_http_client) struct http_client *client = NULL;
    int r = http_client_new(nbd->control_path, &client, ret_error);
    if (r < 0)
        return r;
    struct http_call call = {.method = method, .path = path, .timeout_ms = timeout_ms};
    {
        scoped_lock(&nbd->calls_mutex);
        while (nbd->calls == CALLS_MAX)
            pthread_cond_wait(&nbd->call_ended, &nbd->calls_mutex);
        nbd->calls++;
    }
    r = http_client_call(client, &call, ret_status, ret_body, ret_error);
    scoped_lock(&nbd->calls_mutex);
    nbd->calls--;
    pthread_cond_signal(&nbd->call_ended);
    return r;
}

/* Returns once the server has closed what is no longer granted. A server that does not
 * run has nothing open. */
static int sync_server(struct nbd *nbd, const char *what, struct error **ret_error)
{
    autoerror struct error *problem = NULL;
    unsigned status = 0;
    int r = ask(nbd, "POST", "/sync", ANSWER_MS, &status, NULL, &problem);
    if (r == -ECONNREFUSED)
        return 0;
    if (r < 0)
        return error_set(ret_error, EAGAIN, "blockd-nbd did not confirm that %s is closed: %s", what,
                         error_message(problem));
    if (status / 100 != 2)
        return error_set(ret_error, EAGAIN, "blockd-nbd did not confirm that %s is closed: it answered %u",
                         what, status);
    return 0;
}

static char *ask_health(struct nbd *nbd, const char *volume)
{
    autofree char *word = http_escape(volume);
    autofree char *path = xasprintf("/health?volume=%s", word);
    autoerror struct error *problem = NULL;
    autostrbuf struct strbuf text = {0};
    unsigned status;
    int r = ask(nbd, "GET", path, HEALTH_MS, &status, &text, &problem);
    if (r == -ECONNREFUSED)
        return xstrdup("blockd-nbd does not run");
    if (r < 0)
        return xasprintf("blockd-nbd does not answer: %s", error_message(problem));
    json_t *report cleanup(json_decrefp) = json_loads(strbuf_string(&text), 0, NULL);
    const char *found = json_string_value(json_object_get(report, "problem"));
    return found ? xasprintf("blockd-nbd does not reach the bricks: %s", found) : NULL;
}

/* With the lock held. */
static struct health *health_of(struct nbd *nbd, const char *volume)
{
    struct health *health = nbd->health.items;
    for (size_t i = 0; i < nbd->health.count; i++)
        if (strcmp(health[i].volume, volume) == 0)
            return &health[i];
    health = object_list_add(&nbd->health, sizeof *health);
    health->volume = xstrdup(volume);
    return health;
}

/* NULL when the server answers, and so do the volume's bricks to it; otherwise why not. The caller's. */
static char *server_problem(struct nbd *nbd, const char *volume)
{
    scoped_lock(&nbd->mutex);
    struct health *health = health_of(nbd, volume);
    if (!health->checked || clock_monotonic_ms() - health->checked_at > FRESH_MS) {
        free(health->problem);
        health->problem = ask_health(nbd, volume);
        health->checked = true;
        health->checked_at = clock_monotonic_ms();
    }
    return xstrdup(health->problem);
}

static char *nbd_metrics(void *state)
{
    autostrbuf struct strbuf text = {0};
    unsigned status = 0;
    if (ask(state, "GET", "/metrics", ANSWER_MS, &status, &text, NULL) < 0 || status != 200)
        return NULL;
    return strbuf_steal(&text);
}

/* ---- Up, down, status ---- */

static int nbd_up(void *state, const struct export *export, const struct grant *grant,
                  struct error **ret_error)
{
    struct nbd *nbd = state;
    (void)export;
    scoped_lock(&nbd->grants);
    return grant_write(nbd->config->run_dir, grant, NULL, ret_error);
}

static int nbd_down(void *state, const char *volume, const char *block, struct error **ret_error)
{
    struct nbd *nbd = state;
    int r = grant_remove(nbd->config->run_dir, volume, block, ret_error);
    if (r < 0)
        return r;
    /* Also when the grant was gone before: an earlier call may have ended without the confirmation. */
    autofree char *what = xasprintf("%s/%s", volume, block);
    return sync_server(nbd, what, ret_error);
}

/* Percent-encodes a path for the query of a URI; its slashes may stay. */
static char *escape_path(const char *path)
{
    autostring_list struct string_list parts = {0};
    string_list_split(&parts, path, '/');
    struct strbuf text = {0};
    for (size_t i = 0; i < parts.count; i++) {
        autofree char *part = http_escape(parts.items[i]);
        strbuf_addf(&text, "%s%s", i ? "/" : "", part);
    }
    return strbuf_steal(&text);
}

static char *make_uri(const struct config *config, const char *volume, const char *block)
{
    if (!*config->nbd_listen) {
        autofree char *socket_path = config_nbd_socket_path(config);
        autofree char *escaped = escape_path(socket_path);
        return xasprintf("nbd+unix:///%s/%s?socket=%s", volume, block, escaped);
    }
    const char *address = config_address_is_any(config->nbd_listen) ? config->address : config->nbd_listen;
    bool v6 = strchr(address, ':') != NULL;
    return xasprintf("%s://%s%s%s:%llu/%s/%s", config->nbd_tls == TLS_REQUIRE ? "nbds" : "nbd", v6 ? "[" : "",
                     address, v6 ? "]" : "", (unsigned long long)config->nbd_port, volume, block);
}

static int nbd_status(void *state, const struct export *export, struct export_status *ret_status,
                      struct error **ret_error)
{
    struct nbd *nbd = state;
    autofree char *volume = object_name_part(export->meta.name, 1);
    autofree char *block = object_name_part(export->meta.name, 2);
    if (!volume || !block)
        return error_set(ret_error, EINVAL, "\"%s\" is no name of an export: NODE/VOLUME/BLOCK",
                         export->meta.name);
    struct grant grant cleanup(cleanup_grant) = {0};
    autoerror struct error *problem = NULL;
    int r = grant_read(nbd->config->run_dir, volume, block, &grant, &problem);
    if (r < 0 && r != -ENOENT)
        return error_set(ret_error, -r, "%s", error_message(problem));

    *ret_status = (struct export_status){.uri = make_uri(nbd->config, volume, block)};
    if (r == -ENOENT) {
        ret_status->phase = xstrdup("pending");
        return 0;
    }
    ret_status->error = server_problem(nbd, volume);
    ret_status->phase = xstrdup(ret_status->error ? "offline" : "live");
    return 0;
}

/* ---- Clients ---- */

static int nbd_clients(void *state, const char *volume, const char *block, struct string_list *ret_clients,
                       struct error **ret_error)
{
    autofree char *volume_word = http_escape(volume);
    autofree char *block_word = http_escape(block ? block : "");
    autofree char *path =
        xasprintf("/clients?volume=%s%s%s", volume_word, block ? "&block=" : "", block_word);
    autoerror struct error *problem = NULL;
    autostrbuf struct strbuf text = {0};
    unsigned status = 0;
    int r = ask(state, "GET", path, ANSWER_MS, &status, &text, &problem);
    if (r == -ECONNREFUSED)
        return 0;
    json_t *report cleanup(json_decrefp) = r == 0 ? json_loads(strbuf_string(&text), 0, NULL) : NULL;
    json_t *clients = json_object_get(report, "clients"), *client;
    if (status != 200 || !json_is_array(clients))
        return error_set(ret_error, EAGAIN, "blockd-nbd does not say who is connected: %s",
                         problem ? error_message(problem) : "its answer is no list");
    size_t i;
    json_array_foreach(clients, i, client)
    {
        autofree char *entry = xasprintf("%s by %s", json_string_value(json_object_get(client, "export")),
                                         json_string_value(json_object_get(client, "peer")));
        string_list_add(ret_clients, entry);
    }
    return 0;
}

/* ---- The sweep ---- */

/* Removes one file of a volume's folder if it must go. */
static int sweep_file(struct nbd *nbd, const char *folder, const char *volume, const char *file,
                      export_wanted wanted, void *data, bool *ret_withdrawn, struct error **ret_error)
{
    struct grant grant cleanup(cleanup_grant) = {0};
    autofree char *path = xasprintf("%s/%s", folder, file);
    autofree char *block = grant_file_block(file);
    if (!block)
        return 0;
    int r = grant_read(nbd->config->run_dir, volume, block, &grant, NULL);
    if (wanted(data, volume, block, r == 0 ? grant.gbid : NULL))
        return 0;
    *ret_withdrawn = true;
    return file_remove(path, ret_error);
}

static int sweep_volume(struct nbd *nbd, const char *volume, export_wanted wanted, void *data,
                        bool *ret_withdrawn, struct error **ret_error)
{
    autofree char *folder = xasprintf("%s/grants/%s", nbd->config->run_dir, volume);
    autostring_list struct string_list files = {0};
    scoped_lock(&nbd->grants);
    int r = files_sweep(folder, ret_error);
    if (r == 0)
        r = folder_list(folder, &files, ret_error);
    for (size_t i = 0; r == 0 && i < files.count; i++)
        r = sweep_file(nbd, folder, volume, files.items[i], wanted, data, ret_withdrawn, ret_error);
    if (r == 0)
        rmdir(folder); /* stays while it holds a grant */
    return r;
}

static int nbd_sweep(void *state, export_wanted wanted, void *data, struct error **ret_error)
{
    struct nbd *nbd = state;
    autofree char *grants = xasprintf("%s/grants", nbd->config->run_dir);
    autostring_list struct string_list volumes = {0};
    int r = folder_list(grants, &volumes, ret_error);
    bool withdrawn = false;
    for (size_t i = 0; r == 0 && i < volumes.count; i++)
        if (name_check("volume", volumes.items[i], NULL) == 0)
            r = sweep_volume(nbd, volumes.items[i], wanted, data, &withdrawn, ret_error);
    return r == 0 && withdrawn ? sync_server(nbd, "what was withdrawn", ret_error) : r;
}

const struct export_driver export_nbd_driver = {
    .protocol = EXPORT_NBD,
    .start = nbd_start,
    .stop = nbd_stop,
    .up = nbd_up,
    .down = nbd_down,
    .clients = nbd_clients,
    .status = nbd_status,
    .sweep = nbd_sweep,
    .metrics = nbd_metrics,
};
