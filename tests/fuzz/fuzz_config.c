/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* blockd.conf: whatever the file holds, loading it ends in a valid configuration or in an error that says
 * where. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "rpc/base/alloc.h"
#include "rpc/config.h"

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

/* The file is read by its path, as in life; it lies in memory. */
static char *set_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("blockd.conf", MFD_CLOEXEC);
    REQUIRE(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    return xasprintf("/proc/self/fd/%d", fd);
}

static void check_config(const struct config *config)
{
    REQUIRE(config->node_name && *config->node_name && !strpbrk(config->node_name, "/. "));
    REQUIRE(config->state_dir[0] == '/' && config->run_dir[0] == '/' && config->log_dir[0] == '/');
    REQUIRE(strlen(config->run_dir) <= 80);
    REQUIRE(config->port_min >= 1 && config->port_min <= config->port_max && config->port_max <= 65535);
    REQUIRE(config->nbd_port < config->port_min || config->nbd_port > config->port_max);
    REQUIRE(config->ping_timeout >= 1 && config->nbd_connections >= 1 && config->nbd_requests >= 1);
    REQUIRE(!config_address_is_any(config->address));
    /* Nobody is served without TLS on a foreign address by accident. */
    REQUIRE(!*config->nbd_listen || config_address_is_loopback(config->nbd_listen) ||
            config->nbd_tls == TLS_REQUIRE || config->nbd_plain_anywhere);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autofree char *path = set_file(data, size);
    autoerror struct error *error = NULL;
    struct config config = {0};
    int r = config_load(path, &config, &error);
    if (r < 0) {
        REQUIRE(error && strstr(error->message, path) && !strchr(error->message, '\n'));
        REQUIRE(!config.node_name);
        return 0;
    }
    REQUIRE(!error);
    check_config(&config);
    config_clear(&config);
    return 0;
}
