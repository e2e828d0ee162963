# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# Rooms are found by wildcard: a new .c file in a room, and a new test, is built without a line here.
VERSION := 0.1.0

PREFIX  ?= /usr
DESTDIR ?=
BUILD   ?= build
ifeq ($(origin CC),default)
CC := gcc
endif
# Set by check-asan, check-tsan and fuzz, which build into a folder of their own.
SANITIZE ?=
# V=1 shows whole commands instead of a word and a file.
V ?=
Q = $(if $(V),,@echo "  $(1) $@";)

PACKAGES := jansson libcurl libmicrohttpd gnutls sqlite3 inih glusterfs-api libsystemd blkid

CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DBLOCKD_VERSION='"$(VERSION)"' -I.
CFLAGS   ?= -O2 -g
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Werror
ALL_CFLAGS  = -std=gnu17 -fstack-protector-strong -fPIE -pthread $(WARNINGS) $(CFLAGS) $(SANITIZE) $(PACKAGE_CFLAGS)
# The translator `watch` calls the program that it is loaded into.
ALL_LDFLAGS = -pie -pthread -Wl,--as-needed -Wl,--export-dynamic-symbol=blockd_brick_event $(LDFLAGS) $(SANITIZE)
# Asked for once, and only when something is compiled: the packages may be missing until `deps` has run.
PACKAGE_CFLAGS = $(eval PACKAGE_CFLAGS := $(filter-out -D_FILE_OFFSET_BITS=64,$(shell pkg-config --cflags $(PACKAGES))))$(PACKAGE_CFLAGS)
PACKAGE_LIBS   = $(eval PACKAGE_LIBS := $(shell pkg-config --libs $(PACKAGES)))$(PACKAGE_LIBS)

# ---- Rooms: one archive a process, so that a program links only what it uses ----
RPC_SOURCES     := $(wildcard rpc/base/*.c rpc/*.c)
IMAGE_SOURCES   := $(wildcard handler/image/*.c)
DAEMON_SOURCES  := $(wildcard blockd/*/*.c)
NBD_SOURCES     := $(filter-out handler/nbd/main.c,$(wildcard handler/nbd/*.c))
CLI_SOURCES     := $(filter-out cli/main.c,$(wildcard cli/*.c))

archive = $(BUILD)/lib/lib$(1).a
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

ARCHIVES := $(foreach room,daemon nbd cli image rpc,$(call archive,$(room)))
PROGRAMS := $(BUILD)/bin/blockd $(BUILD)/bin/blockd-nbd $(BUILD)/bin/blockd-rebalance $(BUILD)/bin/blockd-options $(BUILD)/bin/gluster-block

# Each goal that a user names makes what it needs in a make of its own: two of these at once would write the same archives.
ifeq ($(MAKELEVEL),0)
.NOTPARALLEL:
endif

# Translators: a folder is one. They are loaded into GlusterFS's own programs, so never with a sanitizer.
XLATORS := $(patsubst xlators/%/,$(BUILD)/xlators/%.so,$(wildcard xlators/*/))

.PHONY: all deps programs
all: deps
	+@$(MAKE) --no-print-directory programs

# Debian packages; does nothing when all of them are there.
deps:
	@tools/install-deps

programs: $(PROGRAMS) $(XLATORS) $(BUILD)/bin/generate-man
	@:

$(call archive,rpc):    $(call objects,$(RPC_SOURCES))
$(call archive,image):  $(call objects,$(IMAGE_SOURCES))
$(call archive,daemon): $(call objects,$(DAEMON_SOURCES))
$(call archive,nbd):    $(call objects,$(NBD_SOURCES))
$(call archive,cli):    $(call objects,$(CLI_SOURCES))

$(ARCHIVES):
	@mkdir -p $(@D)
	$(call Q,AR  )rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/bin/blockd:        $(call objects,blockd/main.c)      $(foreach a,daemon image rpc,$(call archive,$(a)))
$(BUILD)/bin/blockd-nbd:    $(call objects,handler/nbd/main.c) $(foreach a,nbd image rpc,$(call archive,$(a)))
$(BUILD)/bin/blockd-rebalance: $(call objects,$(wildcard handler/rebalance/*.c)) $(call archive,rpc)
$(BUILD)/bin/blockd-options: $(call objects,$(wildcard handler/options/*.c))
$(BUILD)/bin/gluster-block: $(call objects,cli/main.c)         $(foreach a,cli rpc,$(call archive,$(a)))

GENERATE_MAN := $(BUILD)/bin/generate-man
$(GENERATE_MAN):            $(call objects,$(wildcard man/*.c)) $(foreach a,cli rpc,$(call archive,$(a)))

$(PROGRAMS) $(GENERATE_MAN):
	@mkdir -p $(@D)
	$(call Q,LINK)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PACKAGE_LIBS)

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call Q,CC  )$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# GlusterFS's headers and its conventions for callbacks are not ours to warn about.
XLATOR_CFLAGS = -std=gnu17 -fstack-protector-strong -fPIC -shared -Wall -Wextra -Wshadow -Werror $(CFLAGS) \
	-isystem /usr/include/glusterfs -isystem /usr/include/glusterfs/rpc -isystem /usr/include/tirpc $(PACKAGE_CFLAGS)

.SECONDEXPANSION:
$(XLATORS): $(BUILD)/xlators/%.so: $$(wildcard xlators/%/*.[ch] xlators/*.h)
	@mkdir -p $(@D)
	$(call Q,CC  )$(CC) $(CPPFLAGS) $(XLATOR_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c,$^) -lglusterfs -lgfrpc -lgfxdr

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# ---- Tests: each .c file under tests/unit, tests/golden and tests/contract is a cmocka program ----
TEST_SOURCES  := $(wildcard tests/unit/*.c tests/golden/*.c tests/contract/*.c)
TEST_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(TEST_SOURCES))

# Programs that tests drive.
TEST_TOOLS    := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/lib/*.c))

.PHONY: tests test-tools
tests: $(TEST_PROGRAMS) test-tools
test-tools: $(TEST_TOOLS)

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(ARCHIVES)
	@mkdir -p $(@D)
	$(call Q,LINK)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(ARCHIVES) -Wl,--end-group $(PACKAGE_LIBS) -lcmocka

# The part of a translator that knows nothing of GlusterFS is tested as it is.
$(BUILD)/tests/unit/test_settle: $(BUILD)/obj/xlators/gate/settle.o

# ---- Fuzzers: built in build/fuzz, by clang, with the rooms under the same sanitizers ----
FUZZ_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: fuzzers
fuzzers: $(FUZZ_PROGRAMS)

$(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(ARCHIVES)
	@mkdir -p $(@D)
	$(call Q,LINK)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $< -Wl,--start-group $(ARCHIVES) -Wl,--end-group $(PACKAGE_LIBS)

# ---- What the benchmark compares with ----
.PHONY: bench-programs
bench-programs: $(BUILD)/bench/gfapi_loop $(BUILD)/bench/load $(BUILD)/bench/nbdkit_gfapi.so

$(BUILD)/bench/gfapi_loop: $(BUILD)/obj/tests/bench/gfapi_loop.o
	@mkdir -p $(@D)
	$(call Q,LINK)$(CC) $(ALL_LDFLAGS) -o $@ $< $(PACKAGE_LIBS)

$(BUILD)/bench/load: $(call objects,$(wildcard tests/bench/load/*.c))
	@mkdir -p $(@D)
	$(call Q,LINK)$(CC) $(ALL_LDFLAGS) -o $@ $^ -lnbd -liscsi

$(BUILD)/bench/nbdkit_gfapi.so: tests/bench/nbdkit_gfapi.c
	@mkdir -p $(@D)
	$(call Q,CC  )$(CC) $(CPPFLAGS) $(filter-out -fPIE,$(ALL_CFLAGS)) -fPIC -shared -Wl,--as-needed -o $@ $< $(PACKAGE_LIBS)

.SECONDARY:
.DELETE_ON_ERROR:

# ---- Checks ----
# TESTS="name ..." runs only the tests whose names contain one of the words; JOBS is how many run at once.
TESTS ?=
JOBS  ?= 4
RUN_TESTS = tests/run -j $(JOBS)

SANITIZE_ASAN := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SANITIZE_TSAN := -fsanitize=thread -fno-omit-frame-pointer
SANITIZE_FUZZ := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SUBMAKE = $(MAKE) --no-print-directory
ASAN = $(SUBMAKE) BUILD=build/asan SANITIZE="$(SANITIZE_ASAN)"
TSAN = $(SUBMAKE) BUILD=build/tsan SANITIZE="$(SANITIZE_TSAN)"
FUZZ = $(SUBMAKE) BUILD=build/fuzz SANITIZE="$(SANITIZE_FUZZ)" CC=clang WARNINGS=-w

.PHONY: check check-root check-vm check-layers check-asan check-tsan
check: deps
	+@$(SUBMAKE) programs tests
	@$(RUN_TESTS) $(TESTS)

# Only the tests with real bricks, which need root.
check-root: deps
	+@$(SUBMAKE) programs test-tools
	@$(RUN_TESTS) --stages cluster,fault $(TESTS)

# Only the tests in guests with Debian's kernel, which need root and QEMU.
check-vm: deps
	+@$(SUBMAKE) programs test-tools
	@$(RUN_TESTS) --stages vm $(TESTS)

check-layers:
	@tests/check-layers

# Unit and cluster tests with every program under the sanitizer.
check-asan: deps build-asan
	+@$(ASAN) programs
	@$(RUN_TESTS) --build build/asan --stages unit,cluster,fault $(TESTS)

check-tsan: deps build-tsan
	+@$(TSAN) programs
	@$(RUN_TESTS) --build build/tsan --stages unit,cluster,fault $(TESTS)

.PHONY: build-asan build-tsan build-fuzz build-vm
# What guests boot; says so, and does nothing, where there can be none.
build-vm:
	@tests/vm/build

build-asan:
	+@$(ASAN) tests

build-tsan:
	+@$(TSAN) tests

build-fuzz:
	+@$(FUZZ) fuzzers

# Each fuzzer for FUZZ_SECONDS. New inputs go to build/fuzz/corpus, findings to build/fuzz/findings.
FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz: deps build-fuzz
	@tests/fuzz/run --seconds $(FUZZ_SECONDS) $(TESTS)

.PHONY: bench
bench: deps
	@tools/install-deps --bench
	+@$(SUBMAKE) programs bench-programs
	@tests/bench/run

# ---- The demo ----
.PHONY: demo demo-stop
demo: deps
	+@$(SUBMAKE) programs
	@tools/demo start

demo-stop:
	@tools/demo stop

# ---- Installation ----
SBINDIR   := $(PREFIX)/sbin
BINDIR    := $(PREFIX)/bin
UNITDIR   := $(PREFIX)/lib/systemd/system
SYSUSERS  := $(PREFIX)/lib/sysusers.d
TMPFILES  := $(PREFIX)/lib/tmpfiles.d
MANDIR    := $(PREFIX)/share/man
BASHDIR   := $(PREFIX)/share/bash-completion/completions
CONFIGDIR := /etc/blockd
# GlusterFS has no other place to load translators from.
XLATORDIR  = $(eval XLATORDIR := $(shell glusterfsd --print-xlatordir))$(XLATORDIR)

UNITS     := $(wildcard systemd/*.service systemd/*.target systemd/*.slice systemd/*.socket)
MAN_PAGES := $(wildcard man/*.[1-8])
installed_man = $(foreach page,$(MAN_PAGES),$(MANDIR)/man$(patsubst .%,%,$(suffix $(page)))/$(notdir $(page)).gz)

# One list for install and uninstall: what stands here is made, and is removed.
INSTALLED = $(SBINDIR)/blockd $(SBINDIR)/blockd-nbd $(SBINDIR)/blockd-rebalance $(SBINDIR)/blockd-options $(BINDIR)/gluster-block \
	$(addprefix $(UNITDIR)/,$(notdir $(UNITS))) $(SYSUSERS)/blockd.conf $(TMPFILES)/blockd.conf \
	$(BASHDIR)/gluster-block $(installed_man) $(addprefix $(XLATORDIR)/blockd/,$(notdir $(XLATORS)))

.PHONY: install uninstall
install: all
	install -d $(sort $(dir $(addprefix $(DESTDIR),$(INSTALLED)))) $(DESTDIR)$(CONFIGDIR)
	install -m 755 $(BUILD)/bin/blockd $(BUILD)/bin/blockd-nbd $(BUILD)/bin/blockd-rebalance $(BUILD)/bin/blockd-options $(DESTDIR)$(SBINDIR)
	install -m 755 $(BUILD)/bin/gluster-block $(DESTDIR)$(BINDIR)
	install -m 644 $(XLATORS) $(DESTDIR)$(XLATORDIR)/blockd
	install -m 644 $(UNITS) $(DESTDIR)$(UNITDIR)
	sed -i 's,/usr/sbin/blockd,$(SBINDIR)/blockd,' $(addprefix $(DESTDIR)$(UNITDIR)/,$(notdir $(UNITS)))
	install -m 644 systemd/blockd.sysusers $(DESTDIR)$(SYSUSERS)/blockd.conf
	install -m 644 systemd/blockd.tmpfiles $(DESTDIR)$(TMPFILES)/blockd.conf
	install -m 644 cli/gluster-block.bash $(DESTDIR)$(BASHDIR)/gluster-block
	for page in $(MAN_PAGES); do \
		gzip -9nc "$$page" >"$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}.gz" || exit 1; \
	done
	[ -e $(DESTDIR)$(CONFIGDIR)/blockd.conf ] || \
		install -m 644 systemd/blockd.conf $(DESTDIR)$(CONFIGDIR)/blockd.conf

# The configuration goes too unless somebody changed it. State under /var/lib/blockd is never touched.
uninstall:
	rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	[ ! -d $(DESTDIR)$(XLATORDIR)/blockd ] || rmdir --ignore-fail-on-non-empty $(DESTDIR)$(XLATORDIR)/blockd
	if cmp -s systemd/blockd.conf $(DESTDIR)$(CONFIGDIR)/blockd.conf; then \
		rm -f $(DESTDIR)$(CONFIGDIR)/blockd.conf; \
	fi
	[ ! -d $(DESTDIR)$(CONFIGDIR) ] || rmdir --ignore-fail-on-non-empty $(DESTDIR)$(CONFIGDIR)

# Writes the parts of the manual pages and of the example configuration that come from tables in the programs; tests say when they are out of date.
.PHONY: man
man: $(GENERATE_MAN)
	$(GENERATE_MAN) $(MAN_PAGES) systemd/blockd.conf

.PHONY: format
format:
	git ls-files '*.c' '*.h' | xargs clang-format -i

.PHONY: clean
clean:
	rm -rf build
