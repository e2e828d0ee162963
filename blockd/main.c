/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* blockd: wiring only. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "blockd/api/api.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/base/log.h"
#include "rpc/base/loop.h"
#include "rpc/http_client.h"

#define STORE_FILE   "store.db"
#define TRIES_A_LINE 20 /* tries for the store to one line of the log */

struct daemon {
    const char *config_path;
    struct config config;
    struct loop *loop;
    struct store *store;
    struct engine *engine;
    struct exports *exports;
    _Atomic(struct core *) core; /* the engine's thread may look before it is there */
    struct api *api;
    char *program; /* what to run again after a reload */
    bool again;
};

static void usage(FILE *stream)
{
    fputs("usage: blockd [--config FILE]\n"
          "       blockd --check-config [--config FILE]\n"
          "       blockd --help | --version\n"
          "\n"
          "The daemon of one node: it keeps hosting volumes, blocks and their exports as its store says.\n"
          "  --config FILE    read FILE instead of " CONFIG_DEFAULT_PATH "\n"
          "  --check-config   check the configuration, say what is wrong with it, and do nothing else\n"
          "\n"
          "See blockd(8) and blockd.conf(5).\n",
          stream);
}

/* ---- Signals ---- */

static void set_log_level(const struct config *config)
{
    enum log_level level;
    if (log_level_parse(config_log_level_words[config->log_level], &level, NULL) == 0)
        log_set_level(level);
}

/* A state folder, a run folder or a store cannot be left while what runs has its files or records there. */
static int check_reload(const struct config *now, const struct config *fresh, struct error **ret_error)
{
    const char *const kept[][3] = {
        {"node.name", now->node_name, fresh->node_name},
        {"daemon.state-dir", now->state_dir, fresh->state_dir},
        {"daemon.run-dir", now->run_dir, fresh->run_dir},
        {"daemon.log-dir", now->log_dir, fresh->log_dir},
        {"tls.dir", now->tls_dir, fresh->tls_dir},
        {"store.backend", config_store_words[now->store_backend], config_store_words[fresh->store_backend]},
        {"store.prefix", now->store_prefix, fresh->store_prefix}};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (strcmp(kept[i][1], kept[i][2]) != 0)
            return error_set(ret_error, EBUSY, "%s cannot change from %s to %s while the node serves",
                             kept[i][0], kept[i][1], kept[i][2]);
    return 0;
}

/*
 * The log level is taken over at once. For anything else blockd runs itself anew under its process id: that
 * is what a restart does, which no I/O notices.
 */
static void reload(struct daemon *daemon)
{
    autoerror struct error *error = NULL;
    struct config fresh = {0};
    sd_notify(0, "RELOADING=1");
    if (daemon->api)
        api_reload(daemon->api); /* whatever the file says: logs are rotated, certificates renewed */
    int r = config_load(daemon->config_path, &fresh, &error);
    if (r == 0)
        r = check_reload(&daemon->config, &fresh, &error);
    if (r < 0) {
        log_error("the configuration stays as it was: %s", error_message(error));
        config_clear(&fresh);
        sd_notify(0, "READY=1");
        return;
    }
    daemon->config.log_level = fresh.log_level;
    set_log_level(&fresh);
    autofree char *before = config_text(&daemon->config, NULL), *after = config_text(&fresh, NULL);
    daemon->again = strcmp(before, after) != 0;
    config_clear(&fresh);
    log_info("%s is taken over", daemon->config_path);
    if (daemon->again)
        loop_stop(daemon->loop);
    else
        sd_notify(0, "READY=1");
}

/* Connections to bricks that stayed open would keep their locks: nothing but the
 * standard streams goes over. */
static void run_again(const struct daemon *daemon, char **argv)
{
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    execv(daemon->program, argv);
    log_error("cannot run %s again: %s", daemon->program, strerror(errno));
}

static void on_signal(void *data, int number)
{
    struct daemon *daemon = data;
    if (number == SIGHUP) {
        reload(daemon);
        return;
    }
    log_info("stopping on %s; bricks and exports go on", strsignal(number));
    sd_notify(0, "STOPPING=1");
    loop_stop(daemon->loop);
}

/* ---- Start ---- */

/* On the engine's thread. */
static void on_engine_changed(void *data)
{
    struct daemon *daemon = data;
    struct core *core = daemon->core;
    if (core)
        core_engine_changed(core);
}

static int make_folders(const struct config *config, struct error **ret_error)
{
    int r = folder_make(config->state_dir, 0711, ret_error);
    if (r == 0)
        r = folder_make(config->run_dir, 0755, ret_error);
    if (r == 0)
        r = folder_make(config->log_dir, 0750, ret_error);
    return r;
}

/* The server beside this program, or the installed one. The caller's. */
static char *nbd_program(void)
{
    char *beside = program_relative("blockd-nbd");
    return beside ? beside : xstrdup("blockd-nbd");
}

/* ---- The store ---- */

static void add_option(struct strbuf *url, const char *name, const char *value)
{
    if (!*value)
        return;
    autofree char *escaped = http_escape(value);
    strbuf_addf(url, "&%s=%s", name, escaped);
}

/* The caller's. */
static char *store_url(const struct config *config)
{
    if (config->store_backend == CONFIG_STORE_SQLITE)
        return xasprintf("sqlite:%s/" STORE_FILE, config->state_dir);
    struct strbuf url = {0};
    autofree char *prefix = http_escape(config->store_prefix);
    strbuf_addf(&url, "etcd://%s?prefix=%s&timeout=%llu", config->store_endpoints, prefix,
                (unsigned long long)config->store_timeout);
    add_option(&url, "ca", config->store_ca);
    add_option(&url, "cert", config->store_cert);
    add_option(&url, "key", config->store_key);
    return strbuf_steal(&url);
}

/* With another store than before everything that runs here would be taken for a leftover. */
static int check_former_store(const struct config *config, struct error **ret_error)
{
    autofree char *file = xasprintf("%s/" STORE_FILE, config->state_dir);
    if (config->store_backend == CONFIG_STORE_SQLITE || access(file, F_OK) < 0)
        return 0;
    return error_set(
        ret_error, EEXIST,
        "[store] backend is etcd, and this node's records are in %s: set backend = sqlite, or move the "
        "file away when etcd has them",
        file);
}

static bool is_told_to_end(struct daemon *daemon, const sigset_t *signals)
{
    const struct timespec pause = {.tv_sec = 1};
    int number = sigtimedwait(signals, NULL, &pause);
    if (number == SIGHUP)
        reload(daemon);
    return daemon->again || number == SIGTERM || number == SIGINT;
}

/* What runs goes on meanwhile, as it does without blockd. -ECANCELED: told to end. */
static int await_store(struct daemon *daemon, const sigset_t *signals, struct error **ret_error)
{
    for (unsigned tries = 0;; tries++) {
        struct store_list nothing = {0};
        autoerror struct error *problem = NULL;
        int r = store_list(daemon->store, "nodes/", NULL, 1, &nothing, &problem);
        store_list_clear(&nothing);
        if (r == 0 && tries)
            log_info("the store answers");
        if (r != -ENOTCONN)
            return r < 0 ? error_set(ret_error, -r, "%s", error_message(problem)) : 0;
        if (tries % TRIES_A_LINE == 0)
            log_warning("waiting for the store; what runs on this node goes on: %s", error_message(problem));
        sd_notifyf(0, "STATUS=Waiting for the store: %s\nEXTEND_TIMEOUT_USEC=60000000",
                   error_message(problem));
        if (is_told_to_end(daemon, signals))
            return error_set(ret_error, ECANCELED, "told to end");
    }
}

static int open_store(struct daemon *daemon, const sigset_t *signals, struct error **ret_error)
{
    autofree char *url = store_url(&daemon->config);
    int r = check_former_store(&daemon->config, ret_error);
    if (r == 0)
        r = store_open(url, &daemon->store, ret_error);
    return r < 0 ? r : await_store(daemon, signals, ret_error);
}

/* What only the store itself can say of its settings; a file is not touched. */
static int check_store(const struct config *config, struct error **ret_error)
{
    if (config->store_backend == CONFIG_STORE_SQLITE)
        return 0;
    autofree char *url = store_url(config);
    struct store *store cleanup(cleanup_store) = NULL;
    return store_open(url, &store, ret_error);
}

static int start(struct daemon *daemon, const sigset_t *signals, struct error **ret_error)
{
    const struct config *config = &daemon->config;
    autofree char *nbd = nbd_program();
    autofree char *rebalance = program_relative("blockd-rebalance");
    autofree char *options = program_relative("blockd-options");
    autofree char *xlators = program_relative("../xlators"); /* of a build that is not installed */
    int r = make_folders(config, ret_error);
    if (r == 0)
        r = open_store(daemon, signals, ret_error);
    if (r < 0)
        return r;

    struct engine_options engine_options = {
        .config = config,
        .node = config->node_name,
        .nbd_program = nbd,
        .rebalance_program = rebalance,
        .options_program = options,
        .xlators = xlators,
        .config_path = daemon->config_path,
        .changed = on_engine_changed,
        .changed_data = daemon,
    };
    if ((r = engine_new(&engine_options, &daemon->engine, ret_error)) < 0 ||
        (r = exports_new(config, &daemon->exports, ret_error)) < 0)
        return r;

    struct core_options core_options = {
        .config = config,
        .store = daemon->store,
        .engine = daemon->engine,
        .exports = daemon->exports,
    };
    struct core *core = NULL;
    r = core_new(&core_options, &core, ret_error);
    if (r < 0)
        return r;
    daemon->core = core;
    r = core_start(core, ret_error);
    if (r < 0)
        return r;
    return api_start(daemon->core, config, &daemon->api, ret_error);
}

static void stop(struct daemon *daemon)
{
    if (daemon->core)
        core_stop(daemon->core); /* first: it wakes the requests that wait */
    api_stop(daemon->api);
    engine_free(daemon->engine); /* before the core, which its thread calls */
    core_free(daemon->core);
    exports_free(daemon->exports);
    store_close(daemon->store);
    loop_free(daemon->loop);
    config_clear(&daemon->config);
}

static int run(struct daemon *daemon, struct error **ret_error)
{
    sigset_t signals;
    struct loop_source *source;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread starts: all of them inherit it */
    signal(SIGPIPE, SIG_IGN);

    int r = loop_new(&daemon->loop, ret_error);
    if (r == 0)
        r = loop_add_signals(daemon->loop, &signals, on_signal, daemon, &source, ret_error);
    if (r == 0)
        r = start(daemon, &signals, ret_error);
    if (r < 0)
        return r;
    sd_notify(0, "READY=1\nSTATUS=");
    log_info("blockd %s serves node %s", BLOCKD_VERSION, daemon->config.node_name);
    return loop_run(daemon->loop, ret_error);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, 'k'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    struct daemon daemon = {.config_path = CONFIG_DEFAULT_PATH, .program = realpath("/proc/self/exe", NULL)};
    bool check_only = false;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'c':
            daemon.config_path = optarg;
            break;
        case 'k':
            check_only = true;
            break;
        case 'h':
            usage(stdout);
            return 0;
        case 'V':
            puts("blockd " BLOCKD_VERSION);
            return 0;
        default:
            usage(stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "blockd: unexpected argument \"%s\"\n", argv[optind]);
        usage(stderr);
        return 2;
    }

    autoerror struct error *error = NULL;
    if (config_load(daemon.config_path, &daemon.config, &error) < 0) {
        fprintf(stderr, "blockd: %s\n", error_message(error));
        return 2;
    }
    set_log_level(&daemon.config);
    int r = check_only ? check_store(&daemon.config, &error) : run(&daemon, &error);
    if (r == -ECANCELED)
        r = 0; /* told to end while it waited */
    if (r < 0)
        log_error("%s", error_message(error));
    stop(&daemon);
    fflush(NULL);
    if (r == 0 && daemon.again && daemon.program)
        run_again(&daemon, argv);
    /* Not exit(): libgfapi's threads may still be at work, and what they use would be torn
     * down under them. */
    _exit(r < 0 || daemon.again ? 1 : 0);
}
