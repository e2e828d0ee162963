/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "cli/readahead.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "rpc/base/files.h"

#define KIBIBYTES "1024"

void readahead_widen(const char *folder)
{
    struct stat status;
    char path[96];
    if (stat(folder, &status) < 0)
        return;
    snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", major(status.st_dev),
             minor(status.st_dev));
    autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, KIBIBYTES, strlen(KIBIBYTES)) < 0)
        return; /* it stays as it was */
}
