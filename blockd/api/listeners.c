/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * The listeners over TLS. A thread looks at the files of certificates from time to time: a node gets its
 * certificate after blockd has started, and a renewed one while clients are connected. An address that the
 * machine has not yet is tried again.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "blockd/api/api_priv.h"
#include "rpc/base/alloc.h"
#include "rpc/base/clock.h"
#include "rpc/base/files.h"
#include "rpc/base/log.h"
#include "rpc/endpoint.h"
#include "rpc/pki.h"

#define LOOK_SECONDS    5
#define REQUEST_SECONDS 10
#define KEEP_SECONDS    120
#define IDLE_SECONDS    60

struct listener {
    struct endpoint endpoint;
    struct http_server *server; /* NULL: not yet */
};

/* What is known of the four files; two that are equal hold the same. */
struct stamps {
    struct stamp {
        ino_t inode;
        off_t size;
        struct timespec changed;
    } of[4];
};

struct listeners {
    struct config_api_files files;
    struct http_server_options template;
    struct trust *trust;
    struct listener *list;
    size_t count;

    pthread_t thread;
    bool started;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;
    bool stopping, look_now;

    /* Of the thread. */
    struct tls_server *tls; /* NULL: no certificate yet */
    struct stamps stamps;
    char *complaint; /* the last one, which is not repeated */
};

static void complain(struct listeners *listeners, const char *message)
{
    if (!string_equal(listeners->complaint, message))
        log_warning("API over TLS: %s", message);
    free(listeners->complaint);
    listeners->complaint = xstrdup(message);
}

/* ---- Files ---- */

static struct stamps look_at_files(const struct config_api_files *files)
{
    const char *const paths[] = {files->ca, files->cert, files->key, files->crl};
    struct stamps stamps;
    memset(&stamps, 0, sizeof stamps); /* padding is compared too */
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct stat status;
        if (stat(paths[i], &status) == 0) {
            stamps.of[i].inode = status.st_ino;
            stamps.of[i].size = status.st_size;
            stamps.of[i].changed = status.st_mtim;
        }
    }
    return stamps;
}

static int read_text(const char *path, size_t limit, char **ret_text, struct error **ret_error)
{
    size_t length;
    char *text = NULL;
    int r = file_read(path, limit, &text, &length, ret_error);
    if (r < 0)
        return r;
    if (strlen(text) != length) {
        free(text);
        return error_set(ret_error, EINVAL, "%s holds a NUL byte", path);
    }
    *ret_text = text;
    return 0;
}

/* A list that is missing is an empty one; one that cannot be read would let the revoked in. */
static int read_list(const char *path, char **ret_text, struct error **ret_error)
{
    autoerror struct error *error = NULL;
    int r = read_text(path, PKI_LIST_MAX, ret_text, &error);
    return r == 0 || r == -ENOENT ? 0 : error_set(ret_error, -r, "%s", error_message(error));
}

int listeners_trust(struct listeners *listeners, struct error **ret_error)
{
    autofree char *ca = NULL, *list = NULL;
    if (!listeners->count)
        return 0;
    int r = read_text(listeners->files.ca, PKI_TEXT_MAX, &ca, ret_error);
    if (r == 0)
        r = read_list(listeners->files.crl, &list, ret_error);
    if (r == 0)
        trust_set(listeners->trust, ca, list);
    return r;
}

static int load(struct listeners *listeners, struct error **ret_error)
{
    const struct config_api_files *files = &listeners->files;
    autofree char *cert = NULL, *key = NULL;
    int r = read_text(files->cert, PKI_TEXT_MAX, &cert, ret_error);
    if (r == 0)
        r = read_text(files->key, PKI_TEXT_MAX, &key, ret_error);
    struct tls_server *tls = NULL;
    if (r == 0)
        r = tls_server_new(cert, key, &tls, ret_error);
    if (r == 0)
        r = listeners_trust(listeners, ret_error);
    if (r < 0) {
        tls_server_unref(tls);
        return r;
    }
    tls_server_unref(listeners->tls);
    listeners->tls = tls;
    return 0;
}

/* ---- Servers ---- */

static void start_server(struct listeners *listeners, struct listener *listener)
{
    autoerror struct error *error = NULL;
    struct http_server_options options = listeners->template;
    options.tls = listeners->tls;
    int r = tcp_listen(listener->endpoint.host, listener->endpoint.port, &options.listen_fd, &error);
    if (r == 0 && (r = http_server_start(&options, &listener->server, &error)) < 0)
        close(options.listen_fd);
    autofree char *url = endpoint_url(&listener->endpoint);
    if (r < 0)
        complain(listeners, error_message(error));
    else
        log_info("the API is served on %s", url);
}

/* What cannot be loaded leaves what there is; true: there is a certificate to serve with. */
static bool load_and_tell(struct listeners *listeners, const struct stamps *now)
{
    autoerror struct error *error = NULL;
    int r = load(listeners, &error);
    if (r == 0) {
        listeners->stamps = *now;
        log_info("API over TLS: the certificates in %s and its neighbours are taken over",
                 listeners->files.cert);
        return true;
    }
    if (r == -ENOENT && !listeners->tls)
        error_prefix(&error,
                     "it waits for certificates, which gluster-block cluster init makes, or node join "
                     "brings");
    complain(listeners, error_message(error));
    return listeners->tls != NULL;
}

static void take_over(struct listeners *listeners)
{
    struct stamps now = look_at_files(&listeners->files);
    bool changed = memcmp(&now, &listeners->stamps, sizeof now) != 0;
    if ((changed || !listeners->tls) && !load_and_tell(listeners, &now))
        return;
    for (size_t i = 0; i < listeners->count; i++) {
        struct listener *listener = &listeners->list[i];
        if (!listener->server)
            start_server(listeners, listener);
        else if (changed)
            http_server_set_tls(listener->server, listeners->tls);
    }
}

static void *run(void *data)
{
    struct listeners *listeners = data;
    for (;;) {
        take_over(listeners);
        scoped_lock(&listeners->mutex);
        int64_t until = clock_monotonic_ms() + LOOK_SECONDS * 1000;
        struct timespec when = {until / 1000, until % 1000 * 1000000};
        int r = 0;
        while (!listeners->stopping && !listeners->look_now && r == 0)
            r = pthread_cond_clockwait(&listeners->wake, &listeners->mutex, CLOCK_MONOTONIC, &when);
        if (listeners->stopping)
            return NULL;
        listeners->look_now = false;
    }
}

/* ---- Life ---- */

static void parse_addresses(struct listeners *listeners, const char *text)
{
    autostring_list struct string_list parts = {0};
    string_list_split(&parts, text, ',');
    listeners->list = xcalloc(parts.count + 1, sizeof *listeners->list);
    for (size_t i = 0; i < parts.count; i++)
        if (endpoint_parse(parts.items[i], &listeners->list[listeners->count].endpoint, NULL) == 0)
            listeners->count++;
}

int listeners_new(const struct config *config, const struct http_server_options *template,
                  struct trust *trust, struct listeners **ret_listeners, struct error **ret_error)
{
    struct listeners *listeners = xcalloc(1, sizeof *listeners);
    listeners->template = *template;
    listeners->template.connection_limit = (unsigned)config->api_connections;
    listeners->template.address_limit = (unsigned)config->api_address_connections;
    listeners->template.request_seconds = REQUEST_SECONDS;
    listeners->template.keep_seconds = KEEP_SECONDS;
    listeners->template.idle_seconds = IDLE_SECONDS;
    listeners->trust = trust;
    config_api_files(config, &listeners->files);
    pthread_mutex_init(&listeners->mutex, NULL);
    pthread_cond_init(&listeners->wake, NULL);
    parse_addresses(listeners, config->api_listen);
    int number = listeners->count ? pthread_create(&listeners->thread, NULL, run, listeners) : 0;
    listeners->started = listeners->count && !number;
    if (number) {
        listeners_free(listeners);
        return error_set(ret_error, number, "cannot start a thread: %s", strerror(number));
    }
    *ret_listeners = listeners;
    return 0;
}

static void wake(struct listeners *listeners, bool stop)
{
    scoped_lock(&listeners->mutex);
    listeners->stopping |= stop;
    listeners->look_now = true;
    pthread_cond_signal(&listeners->wake);
}

void listeners_reload(struct listeners *listeners)
{
    wake(listeners, false);
}

void listeners_free(struct listeners *listeners)
{
    if (!listeners)
        return;
    if (listeners->started) {
        wake(listeners, true);
        pthread_join(listeners->thread, NULL);
    }
    for (size_t i = 0; i < listeners->count; i++) {
        http_server_stop(listeners->list[i].server);
        endpoint_clear(&listeners->list[i].endpoint);
    }
    free(listeners->list);
    tls_server_unref(listeners->tls);
    config_api_files_clear(&listeners->files);
    pthread_cond_destroy(&listeners->wake);
    pthread_mutex_destroy(&listeners->mutex);
    free(listeners->complaint);
    free(listeners);
}
