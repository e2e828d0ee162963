/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "alloc.h"
#include "strings.h"

static atomic_int threshold = LOG_LEVEL_INFO;

static const struct {
    enum log_level level;
    const char *word;
} levels[] = {
    {LOG_LEVEL_ERROR, "error"},
    {LOG_LEVEL_WARNING, "warning"},
    {LOG_LEVEL_INFO, "info"},
    {LOG_LEVEL_DEBUG, "debug"},
};

static const char *level_word(enum log_level level)
{
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (levels[i].level == level)
            return levels[i].word;
    return "notice";
}

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

int log_level_parse(const char *word, enum log_level *ret_level, struct error **ret_error)
{
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (strcmp(levels[i].word, word) == 0) {
            *ret_level = levels[i].level;
            return 0;
        }
    return error_set(ret_error, EINVAL, "log level \"%s\" is none of error, warning, info, debug", word);
}

void log_write(enum log_level level, const char *format, ...)
{
    if ((int)level > atomic_load(&threshold))
        return;

    va_list arguments;
    va_start(arguments, format);
    autofree char *text = xvasprintf(format, arguments);
    va_end(arguments);
    /* A line quotes what clients and programs said: it stays one line, and does nothing to a terminal. */
    string_mask_controls(text, ' ');

    autofree char *line = NULL;
    if (getenv("JOURNAL_STREAM")) {
        line = xasprintf("<%d>%s\n", (int)level, text);
    } else {
        struct timespec now;
        struct tm utc;
        char stamp[32];
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &utc);
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
        line = xasprintf("%s.%03ldZ %s: %s\n", stamp, now.tv_nsec / 1000000, level_word(level), text);
    }
    ssize_t written = write(STDERR_FILENO, line, strlen(line));
    (void)written; /* there is no place left to report it */
}
