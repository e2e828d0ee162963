/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* Settings that a command adds to blockd.conf. What somebody wrote there stays as it is. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "rpc/base/alloc.h"
#include "rpc/base/files.h"
#include "rpc/config.h"

#define FILE_LIMIT (1u << 20)

const char *config_file(const struct cli *cli)
{
    return cli->config_option ? cli->config_option : CONFIG_DEFAULT_PATH;
}

/* The text as blockd would read it. */
static int check(const char *path, const char *text, struct error **ret_error)
{
    struct config config = {0};
    autofree char *trial = xasprintf("%s.trial", path);
    int r = file_write_atomic(trial, text, 0600, ret_error);
    if (r < 0)
        return r;
    r = config_load(trial, &config, ret_error);
    config_clear(&config);
    file_remove(trial, NULL);
    return r;
}

static int read_present(const char *path, char **ret_text, mode_t *ret_mode, struct error **ret_error)
{
    autoerror struct error *error = NULL;
    struct stat status;
    int r = file_read(path, FILE_LIMIT, ret_text, NULL, &error);
    if (r == -ENOENT) {
        *ret_text = xstrdup("");
        return 0;
    }
    if (r < 0)
        return error_set(ret_error, -r, "%s", error_message(error));
    if (stat(path, &status) == 0)
        *ret_mode = status.st_mode & 0777;
    return 0;
}

int config_append(const char *path, const char *lines, struct error **ret_error)
{
    autofree char *before = NULL;
    mode_t mode = 0644;
    int r = read_present(path, &before, &mode, ret_error);
    if (r < 0)
        return r;
    size_t length = strlen(before);
    autofree char *after =
        xasprintf("%s%s%s", before, length && before[length - 1] != '\n' ? "\n" : "", lines);
    autofree char *folder = xstrndup(path, (size_t)(strrchr(path, '/') ? strrchr(path, '/') - path : 0));
    r = *folder ? folder_make(folder, 0755, ret_error) : 0;
    if (r == 0)
        r = check(path, after, ret_error);
    return r < 0 ? r : file_write_atomic(path, after, mode, ret_error);
}
