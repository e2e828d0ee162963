#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Clients that are slow, half open, too many or hostile: they are bounded, and others do not notice them."""
import os
import pathlib
import random
import socket
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import nbd
from bricks import wait_until
from nbdserver import MIB, Fixture

SIZE = 64 * MIB
OPTION, REQUEST = 0x49484156454F5054, 0x25609513


class Raw:
    """A client made of bytes."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)

    def read(self, size):
        data = b""
        while len(data) < size:
            some = self.socket.recv(size - len(data))
            if not some:
                raise EOFError
            data += some
        return data

    def ended(self):
        """The server closes, whatever it says before."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    def greet(self, flags=3):
        assert self.read(18)[:16] == b"NBDMAGICIHAVEOPT"
        self.socket.sendall(struct.pack(">I", flags))
        return self

    def option(self, number, data=b"", length=None, magic=OPTION):
        self.socket.sendall(struct.pack(">QII", magic, number, len(data) if length is None else length) + data)

    def reply(self):
        magic, number, kind, length = struct.unpack(">QIII", self.read(20))
        assert magic == 0x3E889045565A9
        return number, kind, self.read(length)

    def go(self, name="testvol/one"):
        self.option(7, struct.pack(">I", len(name)) + name.encode() + struct.pack(">H", 0))
        while True:
            _, kind, _ = self.reply()
            if kind != 3:
                assert kind == 1, kind
                return self

    def request(self, kind, offset, length, cookie=1, flags=0, data=b"", magic=REQUEST):
        self.socket.sendall(struct.pack(">IHHQQI", magic, flags, kind, cookie, offset, length) + data)

    def answer(self, size=0):
        magic, error, cookie = struct.unpack(">IIQ", self.read(16))
        assert magic == 0x67446698
        return error, cookie, self.read(size) if not error else b""

    def close(self):
        self.socket.close()


def serves(server):
    handle = nbd.NBD()
    handle.connect_uri(server.uri("one"))
    assert len(handle.pread(65536, 0)) == 65536
    handle.shutdown()


def connections(server):
    wait_until(lambda: " 0\n" in metric(server, "blockd_nbd_connections "), "earlier clients to be gone")
    clients = [Raw(server).greet().go() for _ in range(8)]
    ninth = Raw(server)
    assert ninth.ended()
    assert "limit" in server.log_text()
    clients.pop().close()
    wait_until(lambda: " 7\n" in metric(server, "blockd_nbd_connections "), "a client to be counted out")
    serves(server)
    for client in clients:
        client.close()


def silent_ones_make_room(server):
    """Those who connect and choose no export, as many as may connect, keep nobody out."""
    wait_until(lambda: " 0\n" in metric(server, "blockd_nbd_connections "), "earlier clients to be gone")
    silent = [Raw(server) for _ in range(4)] + [Raw(server).greet() for _ in range(4)]
    wait_until(lambda: " 8\n" in metric(server, "blockd_nbd_connections "), "all places to be taken")
    chosen = [Raw(server).greet().go() for _ in range(8)]
    for client in silent:
        assert client.ended()
    assert "made room" in server.log_text()
    assert Raw(server).ended(), "one more than may be"
    for client in chosen:
        client.request(0, 0, 512)
        assert client.answer(512)[:2] == (0, 1)
        client.close()
    wait_until(lambda: " 0\n" in metric(server, "blockd_nbd_connections "), "the clients to be gone")
    serves(server)


def unread_options(server):
    """A client that asks and asks in the handshake and takes no answer is not read from any more."""
    client = Raw(server).greet()
    client.socket.settimeout(1)
    ask = struct.pack(">QII", OPTION, 3, 0) * 4096
    sent = 0
    try:
        while sent < 64 * MIB:
            sent += client.socket.send(ask)
        raise AssertionError("the server reads from a client that takes no answer")
    except (TimeoutError, ConnectionError):
        pass
    client.close()
    serves(server)


def metric(server, name):
    return "".join(line + "\n" for line in server.http("GET", "/metrics")[1].splitlines() if line.startswith(name))


def half_open(server):
    """Clients that say nothing, or half of something, are cut after the handshake's ten seconds; a chosen export is not."""
    silent, half, started = Raw(server), Raw(server).greet(), Raw(server).greet()
    half.socket.sendall(struct.pack(">QI", OPTION, 7))
    started.go()
    began = time.monotonic()
    serves(server)
    assert silent.ended() and half.ended()
    assert 5 < time.monotonic() - began < 60
    started.request(0, 0, 512)
    assert started.answer(512)[:2] == (0, 1)
    started.close()


def slow_reader(server):
    """A client that asks and does not read: the server stops reading from it, its memory stays bounded, others are served."""
    def memory():
        text = pathlib.Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
        return int(text.split("VmRSS:")[1].split()[0]) * 1024
    reads = int(metric(server, 'blockd_nbd_operations_total{volume="testvol",block="one",operation="read"}').split()[-1])
    before = memory()
    client = Raw(server).greet().go()
    count = 5000
    for cookie in range(count):
        client.request(0, 0, 4 * MIB, cookie)
    serves(server)
    wait_until(lambda: " 0\n" in metric(server, "blockd_nbd_in_flight"), "the reads that were begun")
    done = int(metric(server, 'blockd_nbd_operations_total{volume="testvol",block="one",operation="read"}').split()[-1])
    assert done - reads < 100, f"{done - reads} reads were done for a client that takes no answer"
    assert memory() - before < 200 * MIB, f"{(memory() - before) / MIB} MiB more"
    cookies = {client.answer(4 * MIB)[1] for _ in range(16)}
    assert len(cookies) == 16
    client.close()
    serves(server)


def slow_writer(server):
    """A payload that comes byte by byte holds nobody up."""
    client = Raw(server).greet().go()
    client.request(1, 0, 4096)
    for byte in range(16):
        client.socket.sendall(bytes([byte]))
        serves(server)
    client.socket.sendall(bytes(4080))
    assert client.answer() == (0, 1, b"")
    # And one that never ends leaves no trace on the disk.
    client.request(1, 8192, 4096, data=b"\xee" * 4000)
    client.close()
    handle = nbd.NBD()
    handle.connect_uri(server.uri("one"))
    assert handle.pread(4096, 8192) == bytes(4096)
    handle.shutdown()


def pipelined(server):
    """The whole session in one segment, more requests than may be in flight, an end without goodbye."""
    client = Raw(server)
    name = b"testvol/one"
    data = struct.pack(">I", 3) + struct.pack(">QII", OPTION, 1, len(name)) + name
    count = 500
    for cookie in range(count):
        data += struct.pack(">IHHQQI", REQUEST, 0, 1, cookie, 1 * MIB + 512 * cookie, 512) + bytes([cookie % 251]) * 512
    data += struct.pack(">IHHQQI", REQUEST, 0, 3, count, 0, 0)
    client.socket.sendall(data)
    client.socket.shutdown(socket.SHUT_WR)
    client.read(18 + 10)
    assert sorted(client.answer()[1] for _ in range(count + 1)) == list(range(count + 1))
    assert client.ended()
    check = Raw(server).greet().go()
    check.request(0, MIB, 512 * count)
    content = check.answer(512 * count)[2]
    assert content == b"".join(bytes([i % 251]) * 512 for i in range(count))
    check.request(2, 0, 0)
    assert check.ended()


def hostile(server):
    for flags in (0xFFFFFFFF, 4):
        assert Raw(server).greet(flags).ended()
    for bad in (lambda c: c.option(7, magic=1), lambda c: c.option(7, length=0xFFFFFFFF), lambda c: c.option(1, b"x" * 5000),
                lambda c: c.option(1, b"testvol/one\0"), lambda c: c.option(1, b"../../etc/passwd"),
                lambda c: c.option(1, b""), lambda c: c.option(5, b"", 0) or c.option(2)):
        client = Raw(server).greet()
        bad(client)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.ended()
    client = Raw(server).greet(1)
    for number, data, kind in (
            (7, b"", 3), (7, b"\xff" * 4, 3), (6, struct.pack(">I", 11) + b"testvol/one", 3),
            (7, struct.pack(">I", 11) + b"testvol/one" + struct.pack(">H", 9), 3), (3, b"x", 3), (8, b"x", 3), (99, b"", 1),
            (10, b"", 3), (9, struct.pack(">II", 0, 0xFFFFFFFF), 3), (9, struct.pack(">I", 0x7FFFFFFF) + b"x", 3), (4, b"", 1),
            (5, b"", 2), (7, bytes(40000), 9)):
        client.option(number, data)
        reply = client.reply()
        assert reply[:2] == (number, 0x80000000 + kind), (number, data[:20], reply)
    client.go()
    client.request(0, 0, 512, magic=0)
    assert client.ended()
    client = Raw(server).greet().go()
    for kind, offset, length, expected in ((0, 0, 0xFFFFFFFF, 22), (0, 2**64 - 1, 1, 22), (0, SIZE - 1, 2, 22), (77, 0, 0, 22),
                                           (0, 0, 0, 22), (7, 0, 512, 22), (4, 2**63, 512, 22), (6, SIZE, 512, 28)):
        client.request(kind, offset, length, 5)
        assert client.answer() == (expected, 5, b""), (kind, offset, length)
    client.request(1, SIZE - 512, 1024, 6, data=bytes(1024))
    assert client.answer() == (28, 6, b"")
    client.request(1, 0, 0, 7)
    assert client.answer() == (22, 7, b"")
    client.request(1, 0, 33 * MIB, 8)
    for _ in range(33):
        client.socket.sendall(bytes(MIB))
    assert client.answer() == (22, 8, b"")
    client.request(0, 0, 512, 9)
    assert client.answer(512)[:2] == (0, 9)
    client.close()


def noise(server):
    generator = random.Random(os.environ.get("SEED", "nbd"))
    for turn in range(150):
        client = Raw(server)
        try:
            if turn % 3:
                client.greet()
            if turn % 3 == 2:
                client.go()
            client.socket.sendall(generator.randbytes(generator.randrange(1, 4000)))
        except (EOFError, ConnectionError):
            pass
        client.close()
    serves(server)


with Fixture(count=1, settings="connections = 8\nrequests = 32\nmemory = 32MiB\n") as fixture:
    server = fixture.server
    server.grant("one", SIZE)
    serves(server)
    for check in (connections, silent_ones_make_room, unread_options, slow_writer, pipelined, hostile, noise, slow_reader, half_open):
        began = time.monotonic()
        check(server)
        print(f"{check.__name__}: {time.monotonic() - began:.1f} s", flush=True)
