#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""The volfile server against what should not come: keys that lead elsewhere, random bytes, huge and half requests."""

import contextlib
import errno
import os
import pathlib
import random
import socket
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import volclient
from node import Node, require_root, wait_until
from volclient import Volfiles, call

BAD_KEYS = ["", "/", "..", ".", "../v", "/../volfiles/v/client", "v/../v", "v.mount", "v.share", "v.image", ".v", "-", "a" * 120, "a" * 4000,
            "v\n", "v%00", "`id`", "$(id)", "v;", "gluster/v", "v/team", "\u00fc", "*", "v*", "~root", "v.mount.vol"]


def server_pid(node):
    return next((pid for pid, line in node.processes().items() if "volserver.vol" in line), 0)


def memory(pid):
    """Bytes of the process's own memory."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no RssAnon")


def require_serving(node, pid, what):
    with Volfiles(node) as server:
        assert "volume \"v\"" in server.fetch("/v"), what
    assert server_pid(node) == pid, f"{what}: the volfile server ended"


def check_keys(node, pid):
    with Volfiles(node) as server:
        for key in BAD_KEYS:
            assert server.fetch(key) == -errno.ENOENT, key
        assert "end-volume" in server.fetch("////v")
    secret = node.state / "volserver" / "secret.mount.vol"
    (node.state / "outside").write_text("#: access *\nvolume a\n")
    secret.symlink_to(node.state / "outside")
    with Volfiles(node) as server:
        assert server.fetch("secret") == -errno.ENOENT
        secret.unlink()
        os.mkfifo(secret)
        assert server.fetch("secret") == -errno.ENOENT
        secret.unlink()
        for text in ("", "#: access *", "#: nonsense\nvolume a\n", "#: access *\n\0", "#: access *\n" + "x" * (1 << 20)):
            secret.write_text(text)
            assert server.fetch("secret") == -errno.ENOENT, text[:20]
        secret.write_text("volume a\n")
        assert server.fetch("secret") == -errno.ENOENT, "a file that names nobody"
        secret.write_text("#: access 127.0.0.1\nvolume a\n")
        assert server.fetch("secret") == "volume a\n"
        secret.unlink()
    require_serving(node, pid, "keys")


def check_access(node, pid):
    """Over TCP by the list; by the unix socket there is none, and only root may open it."""
    with Volfiles(node, source="127.0.0.2") as server:
        assert server.fetch("v") == -errno.ENOENT
        node.patch("/v1/volumes/v", {"access": ["127.0.0.2"]})
        assert "blockd" not in server.fetch("v")
        node.patch("/v1/volumes/v", {"access": []})
        assert server.fetch("v") == -errno.ENOENT
        node.patch("/v1/volumes/v", {"access": ["127.0.0.0/24"]})
        assert "#:" not in server.fetch("v")
    with Volfiles(node, source="127.0.1.2") as server:
        assert server.fetch("v") == -errno.ENOENT
        node.patch("/v1/volumes/v", {"access": ["*"]})
        assert "end-volume" in server.fetch("v")
        node.patch("/v1/volumes/v", {"access": []})
    with Volfiles(node, unix=True) as server:
        assert "v-watch-0" in server.fetch("v")
        assert "performance/write-behind" in server.fetch("v.mount")
        assert "v-gate" in server.fetch("v.share")
        for key in (".mount", ".share", "../v.mount", "v.mount.mount", "v.mount.share", "v.image", "/"):
            assert server.fetch(key) == -errno.ENOENT, key
    assert (node.run / "volserver.sock").stat().st_mode & 0o777 == 0o600
    for entry in ("", "host", "10.0.0.0/12", "10.0.0.1/32", "fe80::/64", "!10.0.0.1", "10.0.0.1,10.0.0.2", "10.*.*", "**",
                  "`id`", "\""):
        status, reply = node.request("PATCH", "/v1/volumes/v", {"access": [entry]})
        assert status == 400, (entry, status, reply)
    require_serving(node, pid, "access")


def hostile(rng):
    """One message, as somebody who knows the protocol and somebody who does not would send it."""
    good = call(b"/v")
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 4000))
    if kind == 1:
        at = rng.randrange(len(good))
        return good[:at] + rng.randbytes(rng.randrange(1, 8)) + good[at + 1:]
    if kind == 2:
        return good[:rng.randrange(1, len(good))]
    if kind == 3:
        return call(rng.randbytes(rng.randrange(300)), procedure=rng.randrange(40))
    if kind == 4:
        return call(b"v", program=rng.choice([14398633, 52743234, 123451501, 100003, 0]), version=rng.randrange(5))
    if kind == 5:  # a length that is not there
        return good[:48] + struct.pack(">I", rng.choice([3, 0x7fffffff, 0xffffffff, 1 << 20])) + good[52:]
    if kind == 6:  # credentials of a length that is not there
        return good[:32] + struct.pack(">I", rng.choice([1, 400, 0x7fffffff, 0xffffffff])) + good[36:]
    return struct.pack(">I", rng.choice([0, 1, 0x80000000, 0x80000001, 0xffffffff, 0x7fffffff, 0x90000000])) + rng.randbytes(200)


def check_random(node, pid):
    seed = int(os.environ.get("BLOCKD_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"BLOCKD_SEED={seed} repeats this run's choices", flush=True)
    rng = random.Random(seed)
    for turn in range(400):
        with Volfiles(node, unix=turn % 4 == 0) as server:
            try:
                for _ in range(rng.randrange(1, 4)):
                    server.sendall(hostile(rng))
                if rng.randrange(2):
                    server.shutdown(socket.SHUT_WR)
                    server.settimeout(0.05)
                    server.recv(4096)
            except OSError:
                pass
        if turn % 50 == 0:
            require_serving(node, pid, f"turn {turn}")
    require_serving(node, pid, "random bytes")


def check_huge(node, pid):
    """What a message claims to be long is not given, and what is sent of it is limited."""
    before = memory(pid)
    crowd = []
    for _ in range(20):
        server = Volfiles(node)
        server.sendall(struct.pack(">I", 0xffffffff) + call(b"v")[4:40] + bytes(100000))
        crowd.append(server)
    require_serving(node, pid, "huge messages")
    assert memory(pid) < before + (64 << 20), f"{before} -> {memory(pid)}"
    for server in crowd:
        server.close()


def check_slow(node, pid):
    """Who asks and asks, and does not read, is cut off; the answers to him take no memory without end. Small parts are put together."""
    before = memory(pid)
    with Volfiles(node) as server:
        server.settimeout(5)
        with contextlib.suppress(OSError):
            for _ in range(400):
                server.sendall(call(b"v") * 200)
        most = memory(pid)
        with contextlib.suppress(OSError):
            while server.recv(1 << 20):
                pass
    assert most < before + (48 << 20), f"{before} -> {most}"
    require_serving(node, pid, "a client that does not read")
    body = call(b"v")[4:]
    with Volfiles(node) as server:
        server.sendall(b"".join(struct.pack(">I", 1) + body[i:i + 1] for i in range(len(body) - 1)) + struct.pack(">I", 0x80000001) + body[-1:])
        server.settimeout(5)
        with contextlib.suppress(OSError):
            server.recv(4096)
    require_serving(node, pid, "a message of many fragments")
    for length in (0xfffffff0, 0xfffffffc, 0x7ffffffe):
        for at in (24, 32, 40, 44, 48, 52):
            with Volfiles(node) as server, contextlib.suppress(OSError):
                message = call(b"vv/v")
                server.sendall(message[:at] + struct.pack(">I", length) + message[at + 4:])
                server.settimeout(0.05)
                server.recv(4096)
    require_serving(node, pid, "lengths near the end")


def check_crowd(node, pid):
    """Connections that say nothing, or half a word, are cut off after a while, and hold up nobody; one that fetched is kept."""
    kept = Volfiles(node)
    assert "end-volume" in kept.fetch("v")
    crowd = [Volfiles(node) for _ in range(300)]
    for server in crowd[::2]:
        server.sendall(call(b"v")[:30])
    require_serving(node, pid, "a crowd")

    def is_over(server):
        server.setblocking(False)
        try:
            return server.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    wait_until("the crowd is cut off", lambda: all(is_over(server) for server in crowd))
    volclient.replace(node, "v.mount.vol", "option ping-timeout 5", "option ping-timeout 6")
    kept.notified()
    assert "ping-timeout 6" in kept.fetch("v")
    for server in [kept, *crowd]:
        server.close()
    require_serving(node, pid, "after the crowd")


def main():
    require_root()
    with Node() as node:
        node.replica3("v", "512MiB")
        pid = wait_until("the volfile server runs", lambda: server_pid(node))
        for check in (check_keys, check_access, check_random, check_huge, check_slow, check_crowd):
            check(node, pid)
            print(check.__name__, flush=True)


main()
