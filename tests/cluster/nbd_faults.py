#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""blockd-nbd on three replicas of which some die under load: one costs nothing, two cost the writes until they are back, and
nothing that was acknowledged is lost."""
# timeout: 180
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import nbd
from bricks import wait_until
from nbdserver import BUILD, MIB, Fixture

SIZE = 32 * MIB
BLOCK = 64 * 1024
FILE = "/block-store/one"


class Writer(threading.Thread):
    """Writes numbered blocks over one connection and knows of each block what it may hold: the last acknowledged content,
    or one that was tried since."""

    def __init__(self, uri):
        super().__init__(daemon=True)
        self.uri = uri
        self.allowed = {}  # block -> list of bytes values; the first is the acknowledged one
        self.acknowledged = self.failed = 0
        self.halt = threading.Event()
        self.random = random.Random(7)
        self.crash = None

    def run(self):
        try:
            handle = nbd.NBD()
            handle.connect_uri(self.uri)
            while not self.halt.is_set():
                self.write(handle)
            handle.shutdown()
        except BaseException as error:  # for the main thread to see
            self.crash = error

    def write(self, handle):
        block = self.random.randrange(SIZE // BLOCK)
        content = self.random.randrange(256)
        held = self.allowed.setdefault(block, [0])
        held.append(content)
        try:
            handle.pwrite(bytes([content]) * BLOCK, block * BLOCK, nbd.CMD_FLAG_FUA if content % 16 == 0 else 0)
        except nbd.Error as error:
            assert error.errno not in ("ENOTCONN", "EPIPE", "ECONNRESET"), f"the connection was lost: {error}"
            self.failed += 1
            time.sleep(0.02)
            return
        self.acknowledged += 1
        self.allowed[block] = [content]

    def progress(self, count=50):
        target = self.acknowledged + count
        wait_until(lambda: self.crash or self.acknowledged >= target, f"{count} more writes")
        if self.crash:
            raise self.crash

    def finish(self):
        self.halt.set()
        self.join(60)
        assert not self.is_alive(), "a write hangs"
        if self.crash:
            raise self.crash


def verify(uri, allowed):
    handle = nbd.NBD()
    handle.connect_uri(uri)
    for block in range(SIZE // BLOCK):
        data = handle.pread(BLOCK, block * BLOCK)
        values = allowed.get(block, [0])
        assert any(data == bytes([value]) * BLOCK for value in values), f"block {block} holds none of {values}"
    handle.shutdown()


def one_brick_dies(fixture, writer):
    for index in range(3):
        fixture.bricks.kill(index)
        writer.progress()
        wait_until(lambda: fixture.bricks.blamed(FILE) == {index}, f"the others to note that brick {index} is behind")
        fixture.bricks.start(index)
        wait_until(lambda: not fixture.bricks.blamed(FILE), f"the heal of brick {index}")
        writer.progress()
    assert writer.failed == 0, f"{writer.failed} writes failed with two bricks of three alive"


def holes_are_holes(fixture):
    """A brick that comes back without what was written meanwhile does not tell of holes where there is data."""
    handle = nbd.NBD()
    handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    handle.connect_uri(fixture.server.uri("sparse"))
    for index in range(3):
        at, found = index * 4 * MIB, []
        fixture.bricks.kill(index)
        handle.pwrite(b"d" * MIB, at)

        def collect(context, offset, entries, error):
            found.append(list(entries))
            return 0

        fixture.bricks.start(index)
        asked = 0
        while asked < 50 or fixture.bricks.blamed("/block-store/sparse"):
            handle.block_status(2 * MIB, at, collect)
            assert found.pop() == [MIB, 0, MIB, 3], f"brick {index}, question {asked}"
            asked += 1
    handle.shutdown()


def two_bricks_die(fixture, writer):
    fixture.bricks.kill(0)
    fixture.bricks.kill(1)
    wait_until(lambda: writer.crash or writer.failed > 3, "writes to fail without a quorum")
    assert not writer.crash, writer.crash
    acknowledged = writer.acknowledged
    time.sleep(0.3)
    assert writer.acknowledged == acknowledged, "a write was acknowledged by one brick of three"
    fixture.bricks.start(0)
    writer.progress()
    fixture.bricks.start(1)
    writer.progress()


def all_bricks_die(fixture, writer):
    failed = writer.failed
    for index in range(3):
        fixture.bricks.kill(index)
    wait_until(lambda: writer.crash or writer.failed > failed + 3, "writes to fail")
    for index in range(3):
        fixture.bricks.start(index)
    writer.progress()


def no_bricks_at_connect(fixture):
    """A volume that cannot be reached is an error, and is tried again with the next client."""
    server = fixture.server
    server.kill()
    for index in range(3):
        fixture.bricks.kill(index)
    server.start()
    try:
        nbd.NBD().connect_uri(server.uri("one"))
        raise AssertionError("connected to a volume without bricks")
    except nbd.Error as error:
        assert error.errno not in ("ENOTCONN",), error
    for index in range(3):
        fixture.bricks.start(index)
    handle = nbd.NBD()
    handle.connect_uri(server.uri("one"))
    handle.pread(512, 0)
    handle.shutdown()


with Fixture(count=3, heal=True) as fixture:
    fixture.server.grant("one", SIZE)
    uri = fixture.server.uri("one")
    writer = Writer(uri)
    writer.start()
    writer.progress()
    for scene in (one_brick_dies, two_bricks_die, all_bricks_die):
        began = time.monotonic()
        scene(fixture, writer)
        print(f"{scene.__name__}: {time.monotonic() - began:.1f} s, {writer.acknowledged} acknowledged, "
              f"{writer.failed} failed", flush=True)
    writer.finish()
    fixture.server.grant("sparse", SIZE)
    holes_are_holes(fixture)
    wait_until(lambda: all(fixture.bricks.pending_heals(i) == 0 for i in range(3)), "the heal")
    verify(uri, writer.allowed)
    # A client of GlusterFS that fails to start ends threads, and ThreadSanitizer ends the process for what it did not see of them.
    if BUILD.name != "tsan":
        no_bricks_at_connect(fixture)
    verify(uri, writer.allowed)
