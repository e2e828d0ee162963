#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""The life of blockd-nbd and of its exports: grants that come, change and go, SIGTERM under load, kill -9 and reconnect."""
import os
import pathlib
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import nbd
from bricks import wait_until
from nbdserver import MIB, Fixture

SIZE = 16 * MIB


def connect(uri):
    handle = nbd.NBD()
    handle.connect_uri(uri)
    return handle


def refused(uri):
    try:
        connect(uri)
    except nbd.Error:
        return
    raise AssertionError(f"{uri} is served")


def cut(handle):
    """The server ended the connection, and no request gets through on it."""
    def dead():
        try:
            handle.pread(512, 0)
        except nbd.Error:
            return handle.aio_is_dead() or handle.aio_is_closed()
        return False
    wait_until(dead, "the client to be cut")


def threads_and_files(server):
    return [len(os.listdir(f"/proc/{server.process.pid}/{what}")) for what in ("task", "fd")]


def idle_costs_nothing(server):
    before = threads_and_files(server)
    for index in range(200):
        server.grant(f"idle{index}", SIZE, create=False)
    handle = nbd.NBD()
    handle.set_opt_mode(True)
    handle.connect_uri(f"nbd://127.0.0.1:{server.port}/x")
    assert handle.opt_list(lambda name, text: 0) >= 200
    handle.opt_abort()
    wait_until(lambda: threads_and_files(server)[1] <= before[1] + 1, "descriptors to be given back")  # one watch, no file
    assert threads_and_files(server)[0] <= before[0] + 20, threads_and_files(server)  # pool threads at most
    assert not server.exports(), server.exports()


def shared_and_closed(server):
    first, second = connect(server.uri("one")), connect(server.unix_uri("one"))
    export = server.exports()["testvol/one"]
    assert len(export["clients"]) == 2 and any("unix pid" in client for client in export["clients"]), export
    first.shutdown()
    second.shutdown()
    wait_until(lambda: not server.exports(), "an image that nobody uses to be closed")


def revoked(server):
    server.grant("gone", SIZE)
    handle, other = connect(server.uri("gone")), connect(server.uri("one"))
    handle.pwrite(bytes(512), 0)
    server.revoke("gone")
    cut(handle)  # by inotify
    refused(server.uri("gone"))
    other.pread(512, 0)
    # A call of sync returns when the image is closed, so that the caller may remove the file.
    server.grant("gone", SIZE)
    handle = connect(server.uri("gone"))
    server.revoke("gone")
    server.sync()
    assert "testvol/gone" not in server.exports()
    cut(handle)
    other.pread(512, 0)
    other.shutdown()
    # The same name, another block.
    server.grant("gone", SIZE, gbid="first")
    handle = connect(server.uri("gone"))
    server.grant("gone", SIZE, gbid="second")
    server.sync()
    cut(handle)
    connect(server.uri("gone")).shutdown()
    server.grant("gone", SIZE, gbid="second", read_only=True)
    server.sync()
    handle = connect(server.uri("gone"))
    assert handle.is_read_only()
    server.revoke("gone")
    server.sync()
    assert 'block="gone"' not in server.http("GET", "/metrics")[1]


def resized(server):
    handle = connect(server.uri("one"))
    server.grant("one", 2 * SIZE, create=False)
    def grown():
        again = connect(server.uri("one"))
        size = again.get_size()
        again.shutdown()
        return size == 2 * SIZE
    wait_until(grown, "a new connection to see the new size")
    assert handle.get_size() == SIZE
    handle.pread(512, SIZE - 512)  # the old one goes on
    again = connect(server.uri("one"))
    again.pwrite(b"grown" + bytes(507), 2 * SIZE - 512)
    assert again.pread(512, 2 * SIZE - 512)[:5] == b"grown"
    assert again.pread(4096, SIZE) == bytes(4096)
    again.shutdown()
    handle.shutdown()


def damaged_grants(server):
    path = server.grant_path("bad")
    for text in ("", "{", "[]", '{"volume": "testvol"}', "x" * 100000):
        pathlib.Path(path).write_text(text, encoding="ascii")
        refused(server.uri("bad"))
    os.unlink(path)
    os.mkdir(path)
    refused(server.uri("bad"))
    os.rmdir(path)
    server.grant("bad", SIZE, create=False)
    refused(server.uri("bad"))  # no such file in the volume
    server.grant("bad", SIZE, create=False, volfile="/nonexistent")
    refused(server.uri("bad"))
    server.revoke("bad")
    connect(server.uri("one")).shutdown()


class Load(threading.Thread):
    """Writes in flight all the time; knows which were acknowledged. Reconnects when told to."""

    def __init__(self, server, reconnect):
        super().__init__(daemon=True)
        self.server, self.reconnect = server, reconnect
        self.acknowledged = {}
        self.count = self.connections = 0
        self.halt = threading.Event()

    def run(self):
        while not self.halt.is_set():
            try:
                handle = connect(self.server.uri("one"))
                self.connections += 1
                while not self.halt.is_set():
                    self.batch(handle)
                handle.shutdown()
            except nbd.Error:
                if not self.reconnect:
                    return
                time.sleep(0.02)

    def batch(self, handle):
        pending = {}
        for slot in range(16):
            value = self.count % 255 + 1
            self.count += 1
            buffer = nbd.Buffer.from_bytearray(bytearray([value]) * 4096)
            self.acknowledged.pop(slot, None)  # not known until it is answered
            pending[handle.aio_pwrite(buffer, slot * 4096)] = (slot, value)
        while pending:
            handle.poll(-1)
            for cookie in list(pending):
                if handle.aio_command_completed(cookie):
                    slot, value = pending.pop(cookie)
                    self.acknowledged[slot] = value

    def wait_for(self, more=500):
        target = self.count + more
        wait_until(lambda: self.count >= target, "more writes")


def verify(server, acknowledged):
    handle = connect(server.uri("one"))
    for slot, value in acknowledged.items():
        assert handle.pread(4096, slot * 4096) == bytes([value]) * 4096, f"the acknowledged write to slot {slot} is lost"
    handle.shutdown()


def drained(server):
    """SIGTERM: what was taken is answered, the sockets close, the exit status is 0; nothing acknowledged is lost."""
    for _ in range(3):
        load = Load(server, reconnect=False)
        load.start()
        load.wait_for()
        silent = socket.create_connection(("127.0.0.1", server.port))  # does not hold up the end
        server.stop(seconds=20)
        silent.close()
        load.join(30)
        assert not load.is_alive(), "the client was not told"
        server.start()
        verify(server, load.acknowledged)


def killed(server):
    load = Load(server, reconnect=True)
    load.start()
    for _ in range(5):
        load.wait_for()
        server.kill()
        assert os.path.exists(server.socket), "the stale socket that the next one has to replace"
        server.start()
        connect(server.unix_uri("one")).shutdown()
    load.wait_for()
    load.halt.set()
    load.join(30)
    assert not load.is_alive() and load.connections >= 6, load.connections
    verify(server, load.acknowledged)


def second_one_refused(server):
    """Another process on the same sockets does not start, and does not disturb the first."""
    second = server.spawn(stderr=-1)
    text = second.communicate(timeout=30)[1].decode()
    assert second.returncode == 1 and "error" in text, (second.returncode, text)
    connect(server.uri("one")).shutdown()
    connect(server.unix_uri("one")).shutdown()


with Fixture(count=1) as fixture:
    server = fixture.server
    server.grant("one", SIZE)
    for check in (idle_costs_nothing, shared_and_closed, revoked, resized, damaged_grants, second_one_refused, drained, killed):
        began = time.monotonic()
        check(server)
        print(f"{check.__name__}: {time.monotonic() - began:.1f} s", flush=True)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=20) == 0
    server.process = None
