/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/* A progress bar on one line of a terminal. */
#include <string.h>

#include "cli.h"
#include "rpc/base/sizes.h"

#define BAR_WIDTH 30

void progress_show(struct progress *progress, uint64_t done, uint64_t total)
{
    if (done > total)
        done = total;
    double part = total ? (double)done / (double)total : 0;
    char bar[BAR_WIDTH + 1];
    size_t filled = (size_t)(part * BAR_WIDTH);
    memset(bar, '#', filled);
    memset(bar + filled, '.', BAR_WIDTH - filled);
    bar[BAR_WIDTH] = '\0';

    char done_text[SIZE_TEXT_SIZE], total_text[SIZE_TEXT_SIZE], line[512];
    size_format(done, done_text);
    size_format(total, total_text);
    int length = snprintf(line, sizeof line, "%.200s [%s] %3d%%  %s of %s", progress->label, bar,
                          (int)(part * 100), done_text, total_text);
    fprintf(progress->stream, "\r%-*s", (int)progress->width, line);
    fflush(progress->stream);
    progress->width = (size_t)length;
}

void progress_end(struct progress *progress)
{
    if (!progress->width)
        return;
    fprintf(progress->stream, "\r%*s\r", (int)progress->width, "");
    fflush(progress->stream);
    progress->width = 0;
}
