# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# Rooms are found by wildcard: a new .c file in a room, and a new test, is built without a line here.
VERSION := 0.1.0

PREFIX  ?= /usr
DESTDIR ?=
BUILD   ?= build
CC      ?= gcc
# Set by check-asan, check-tsan and fuzz, which build into a folder of their own.
SANITIZE ?=

PACKAGES := jansson libcurl libmicrohttpd gnutls sqlite3 inih glusterfs-api libsystemd blkid uuid

CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DBLOCKD_VERSION='"$(VERSION)"' -I.
CFLAGS   ?= -O2 -g
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Werror
ALL_CFLAGS  = -std=gnu17 -fstack-protector-strong -fPIE -pthread $(WARNINGS) $(CFLAGS) $(SANITIZE) $(PACKAGE_CFLAGS)
ALL_LDFLAGS = -pie -pthread -Wl,--as-needed $(LDFLAGS) $(SANITIZE)
PACKAGE_CFLAGS = $(filter-out -D_FILE_OFFSET_BITS=64,$(shell pkg-config --cflags $(PACKAGES)))
PACKAGE_LIBS   = $(shell pkg-config --libs $(PACKAGES))

# ---- Rooms: one archive a process, so that a program links only what it uses ----
RPC_SOURCES     := $(wildcard rpc/base/*.c rpc/*.c)
IMAGE_SOURCES   := $(wildcard handler/image/*.c)
DAEMON_SOURCES  := $(wildcard blockd/*/*.c)
NBD_SOURCES     := $(filter-out handler/nbd/main.c,$(wildcard handler/nbd/*.c))
CLI_SOURCES     := $(filter-out cli/main.c,$(wildcard cli/*.c))

archive = $(BUILD)/lib/lib$(1).a
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

ARCHIVES := $(foreach room,daemon nbd cli image rpc,$(call archive,$(room)))
PROGRAMS := $(BUILD)/bin/blockd $(BUILD)/bin/blockd-nbd $(BUILD)/bin/gluster-block

.PHONY: all
all: $(PROGRAMS)

$(call archive,rpc):    $(call objects,$(RPC_SOURCES))
$(call archive,image):  $(call objects,$(IMAGE_SOURCES))
$(call archive,daemon): $(call objects,$(DAEMON_SOURCES))
$(call archive,nbd):    $(call objects,$(NBD_SOURCES))
$(call archive,cli):    $(call objects,$(CLI_SOURCES))

$(ARCHIVES):
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/bin/blockd:        $(call objects,blockd/main.c)      $(foreach a,daemon image rpc,$(call archive,$(a)))
$(BUILD)/bin/blockd-nbd:    $(call objects,handler/nbd/main.c) $(foreach a,nbd image rpc,$(call archive,$(a)))
$(BUILD)/bin/gluster-block: $(call objects,cli/main.c)         $(foreach a,cli rpc,$(call archive,$(a)))

$(PROGRAMS):
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PACKAGE_LIBS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# ---- Tests: each .c file under tests/unit, tests/golden and tests/contract is a cmocka program ----
TEST_SOURCES  := $(wildcard tests/unit/*.c tests/golden/*.c tests/contract/*.c)
TEST_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(TEST_SOURCES))

.PHONY: tests
tests: $(TEST_PROGRAMS)

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(ARCHIVES)
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $< -Wl,--start-group $(ARCHIVES) -Wl,--end-group $(PACKAGE_LIBS) -lcmocka

.SECONDARY:

.PHONY: format
format:
	git ls-files '*.c' '*.h' | xargs clang-format -i

.PHONY: clean
clean:
	rm -rf $(BUILD)
