# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Standard clients of a node's hosting volumes: mounts by mount(8), and the volfile server's protocol byte by byte."""

import contextlib
import os
import socket
import struct
import subprocess

from node import PATIENCE, wait_until

STRANGER = "127.0.0.2"
HANDSHAKE, HANDSHAKE_VERSION, GETSPEC = 14398633, 2, 2
CALLBACK = 52743234
LAST_FRAGMENT = 0x80000000


@contextlib.contextmanager
def mounted(node, what="/v", name="m", host="127.0.0.1", **options):
    """A mount of HOST:WHAT in the node's folder; words of `options` are those of mount(8), "_" for "-"."""
    point = node.folder / name
    point.mkdir(exist_ok=True)
    settings = {"server-port": node.volserver_port, "log-file": node.logs / f"mount-{name}.log", "log-level": "INFO"}
    settings.update({key.replace("_", "-"): value for key, value in options.items()})
    words = ",".join(f"{key}={value}" for key, value in settings.items())
    done = subprocess.run(["mount", "-t", "glusterfs", "-o", words, f"{host}:{what}", point], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=PATIENCE, env=node.environment())
    if done.returncode != 0 or not os.path.ismount(point):
        raise OSError(f"mount of {what}: {done.returncode}: {done.stdout} {done.stderr}")
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=False)


@contextlib.contextmanager
def stranger(node, *words):
    """A FUSE client of the volume v that comes from another address, with a volfile that somebody gave it."""
    point, volfile = node.folder / "stranger", node.folder / "stranger.vol"
    point.mkdir(exist_ok=True)
    text = (node.state / "volserver" / "v.mount.vol").read_text()
    volfile.write_text(text.replace("option remote-host",
                                    f"option transport.socket.source-addr {STRANGER}\n    option remote-host"))
    client = subprocess.Popen(["/usr/sbin/glusterfs", "-N", "-f", volfile, "-l", node.logs / "stranger.log", *words, point],
                              env=node.environment())
    try:
        wait_until("the stranger's mount, or its end", lambda: os.path.ismount(point) or client.poll() is not None)
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=False, stderr=subprocess.DEVNULL)
        client.terminate()
        client.wait(60)


def call(key, program=HANDSHAKE, version=HANDSHAKE_VERSION, procedure=GETSPEC, number=1):
    """One GETSPEC call as bytes, with its mark. The key is bytes."""
    body = struct.pack(">10I", number, 0, 2, program, version, procedure, 0, 0, 0, 0)
    body += struct.pack(">2I", 0, len(key)) + key + bytes(-len(key) % 4) + struct.pack(">I", 0)
    return struct.pack(">I", LAST_FRAGMENT | len(body)) + body


class Volfiles(socket.socket):
    """A connection to a node's volfile server: over TCP from any address of this machine, or by the unix socket."""

    def __init__(self, node, source=None, unix=False):
        super().__init__(socket.AF_UNIX if unix else socket.AF_INET)
        self.settimeout(PATIENCE)
        if source:
            self.bind((source, 0))
        self.connect(str(node.run / "volserver.sock") if unix else ("127.0.0.1", node.volserver_port))

    def exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.recv(count - len(data))
            if not part:
                raise EOFError(f"{len(data)} of {count} bytes")
            data += part
        return data

    def record(self):
        (mark,) = struct.unpack(">I", self.exactly(4))
        assert mark & LAST_FRAGMENT, hex(mark)
        return self.exactly(mark & ~LAST_FRAGMENT)

    def fetch(self, key):
        """The volfile of a key, or the negative result."""
        self.sendall(call(key.encode() if isinstance(key, str) else key))
        return self.answer()

    def answer(self):
        body = self.record()
        while body[4:8] == bytes(4):  # a notice came first
            body = self.record()
        number, kind, state, flavour, length, accepted = struct.unpack(">6I", body[:24])
        assert (number, kind, state, flavour, length) == (1, 1, 0, 0, 0), body[:24]
        assert accepted == 0, f"refused by RPC: {accepted}"
        result, error, length = struct.unpack(">iiI", body[24:36])
        return body[36:36 + length].decode() if result >= 0 else -error

    def notified(self):
        """Waits for what the server says by itself: it must be that the volfile is to be fetched again."""
        body = self.record()
        _, kind, version, program, _, procedure = struct.unpack(">6I", body[:24])
        assert (kind, version, program, procedure) == (0, 2, CALLBACK, 1), body


def replace(node, name, old, new):
    """Puts another text into a served file as blockd does, by rename."""
    path = node.state / "volserver" / name
    text = path.read_text()
    assert old in text, (name, old)
    fresh = path.with_suffix(".new")
    fresh.write_text(text.replace(old, new))
    fresh.rename(path)
