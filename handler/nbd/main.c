/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* blockd-nbd: serves blocks over NBD by their grants. Wiring only. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

#include "handler/nbd/control.h"
#include "handler/nbd/server.h"
#include "handler/nbd/watch.h"
#include "rpc/base/files.h"
#include "rpc/base/log.h"
#include "rpc/base/loop.h"
#include "rpc/config.h"

#define POOL_THREADS 16
#define TICK_MS      1000
/* Short: while two processes hold a file open, replicate locks and syncs for each single write. */
#define IMAGE_LINGER_MS  2000
#define VOLUME_LINGER_MS 30000
#define DRAIN_LIMIT_MS   10000

struct program {
    struct config config;
    struct loop *loop;
    struct pool *open_pool; /* opening and closing; apart from the other, so that slow bricks delay no open */
    struct server_pools pools;
    struct catalog *catalog;
    struct server *server;
    struct control *control;
    struct watch *watch;
    struct loop_source *signals, *tick;
};

static const char usage[] = "usage: blockd-nbd [--config FILE]\n"
                            "Serves blocks over NBD by the grants that blockd writes.\n"
                            "  --config FILE  read FILE instead of " CONFIG_DEFAULT_PATH "\n"
                            "  --help         print this text\n"
                            "  --version      print the version\n";

static void reload(struct program *program)
{
    autoerror struct error *error = NULL;
    sd_notify(0, "RELOADING=1");
    if (server_reload(program->server, &error) < 0)
        log_error("reload: %s", error_message(error));
    else
        log_info("reloaded the TLS material");
    sd_notify(0, "READY=1");
}

static void on_signal(void *data, int signal)
{
    struct program *program = data;
    if (signal == SIGHUP)
        reload(program);
    else
        loop_stop(program->loop);
}

static void on_tick(void *data)
{
    struct program *program = data;
    catalog_tick(program->catalog);
    loop_timer_arm(program->tick, TICK_MS);
}

static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    /* Before any thread starts: all inherit it. */
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Each connection is a descriptor; so is each brick of a hosting volume. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int start(struct program *program, const sigset_t *signals, struct error **ret_error)
{
    const struct config *config = &program->config;
    int r = folder_make(config->run_dir, 0755, ret_error);
    if (r == 0)
        r = folder_make(config->log_dir, 0750, ret_error);
    if (r == 0)
        r = loop_new(&program->loop, ret_error);
    if (r < 0)
        return r;
    program->open_pool = pool_new(POOL_THREADS);
    program->pools = (struct server_pools){.query = pool_new(POOL_THREADS), .status = pool_new(POOL_THREADS)};
    struct catalog_options options = {
        .run_dir = config->run_dir,
        .log_dir = config->log_dir,
        .pool = program->open_pool,
        .image_linger_ms = IMAGE_LINGER_MS,
        .volume_linger_ms = VOLUME_LINGER_MS,
    };
    program->catalog = catalog_new(&options);
    r = loop_add_signals(program->loop, signals, on_signal, program, &program->signals, ret_error);
    if (r == 0)
        r = loop_add_timer(program->loop, on_tick, program, &program->tick, ret_error);
    if (r == 0)
        r = watch_start(program->loop, config->run_dir, program->catalog, program->open_pool, &program->watch,
                        ret_error);
    if (r == 0)
        r = server_start(program->loop, config, program->catalog, &program->pools, &program->server,
                         ret_error);
    if (r == 0)
        r = control_start(config, program->catalog, program->server, &program->control, ret_error);
    if (r == 0)
        loop_timer_arm(program->tick, TICK_MS);
    return r;
}

/* Requests that hang in the engine must not keep the process: what they would answer, nobody waits for any
 * more. */
static void stop(struct program *program)
{
    if (program->server && server_drain(program->server, DRAIN_LIMIT_MS) < 0) {
        log_warning("requests did not end within %d seconds: leaving without them", DRAIN_LIMIT_MS / 1000);
        _exit(EXIT_SUCCESS);
    }
    control_stop(program->control);
    server_free(program->server);
    watch_stop(program->watch);
    pool_free(program->pools.status);
    pool_free(program->pools.query);
    catalog_free(program->catalog);
    pool_free(program->open_pool);
    loop_free(program->loop);
    config_clear(&program->config);
}

static int parse_options(int argc, char **argv, const char **ret_config_path)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0},
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'c':
            *ret_config_path = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            exit(EXIT_SUCCESS);
        case 'V':
            puts("blockd-nbd " BLOCKD_VERSION);
            exit(EXIT_SUCCESS);
        default:
            return -EINVAL;
        }
    }
    return optind == argc ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
    const char *config_path = CONFIG_DEFAULT_PATH;
    if (parse_options(argc, argv, &config_path) < 0) {
        fputs(usage, stderr);
        return 2;
    }

    autoerror struct error *error = NULL;
    struct program program = {0};
    sigset_t signals;
    block_signals(&signals);
    raise_file_limit();
    int r = config_load(config_path, &program.config, &error);
    if (r == 0) {
        static const enum log_level levels[] = {LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO,
                                                LOG_LEVEL_DEBUG};
        log_set_level(levels[program.config.log_level]);
        r = start(&program, &signals, &error);
    }
    if (r == 0) {
        log_info("blockd-nbd " BLOCKD_VERSION " serves");
        sd_notify(0, "READY=1");
        r = loop_run(program.loop, &error);
        sd_notify(0, "STOPPING=1");
        log_info("stopping");
    }
    if (r < 0)
        log_error("%s", error_message(error));
    stop(&program);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
