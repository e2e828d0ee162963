# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# Rooms are found by wildcard: a new .c file in a room is built and linked without a line here.
VERSION := 0.1.0

PREFIX     ?= /usr
SBINDIR    ?= $(PREFIX)/sbin
DESTDIR    ?=

CC         ?= gcc
BUILD      ?= build
SANITIZE   ?=

PACKAGES := jansson libcurl libmicrohttpd gnutls sqlite3 inih glusterfs-api libsystemd blkid uuid

CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DBLOCKD_VERSION='"$(VERSION)"' -I.
CFLAGS   ?= -O2 -g
CFLAGS   += -std=gnu17 -fstack-protector-strong -pthread \
            -Wall -Wextra -Wshadow -Wconversion -Werror $(SANITIZE)
LDFLAGS  += -pthread $(SANITIZE)
