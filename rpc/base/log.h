/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later */
/*
 * Logging to standard error. Under systemd (JOURNAL_STREAM is set) each line begins with its priority as
 * "<N>" (sd-daemon(3)); elsewhere with the time and a word. One write(2) a line, so that threads do not mix
 * their lines. Only api/, main and supervision call this; libraries return errors.
 */
#ifndef BLOCKD_BASE_LOG_H
#define BLOCKD_BASE_LOG_H

#include "error.h"

/* The values are those of syslog(3). */
enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* Lines above this level are dropped. Any thread; takes effect at once. */
void log_set_level(enum log_level level);
/* "error", "warning", "info" or "debug". */
int log_level_parse(const char *word, enum log_level *ret_level, struct error **ret_error);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
