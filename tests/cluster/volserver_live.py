#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Volfiles that change under running I/O on a mount and over NBD, and a volfile server that dies, hangs and is away."""

import contextlib
import os
import pathlib
import random
import re
import signal
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import nbd

import faults
from load import Load
from node import Node, require_programs, require_root, skip, wait_until
from volclient import Volfiles, mounted, replace, stranger

RECORD = 4096


class Writer(threading.Thread):
    """Appends numbered records to a file, each made durable, and reads back what it wrote; every error counts."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.done, self.error, self.stopping = path, 0, None, False

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, error, trace):
        self.stopping = True
        self.join(60)
        if kind is None:
            self.check()
            assert self.path.read_bytes() == b"".join(self.record(i) for i in range(self.done))

    @staticmethod
    def record(number):
        return number.to_bytes(8, "big") * (RECORD // 8)

    def run(self):
        try:
            with open(self.path, "w+b", buffering=0) as file:
                while not self.stopping:
                    assert file.write(self.record(self.done)) == RECORD
                    os.fsync(file)
                    back = random.randrange(self.done + 1)
                    assert os.pread(file.fileno(), RECORD, back * RECORD) == self.record(back), back
                    self.done += 1
        except (OSError, AssertionError) as error:
            self.error = error

    def check(self):
        assert not self.error and self.is_alive() or self.stopping and not self.error, f"the writer failed: {self.error!r}"

    def wait_progress(self, count=20):
        wanted = self.done + count
        wait_until("the writer goes on", lambda: self.check() or self.done >= wanted)


def process(node, word):
    return next((pid for pid, line in node.processes().items() if word in line), 0)


def graphs(point):
    def names():
        with contextlib.suppress(OSError):  # while one is taken over for another
            return os.listdir(point / ".meta" / "graphs")
        return None
    return set(wait_until("a list of graphs", names)) - {"active"}


def private(point, translator):
    return (point / ".meta" / "graphs" / "active" / translator / "private").read_text()


def to_bricks(node, pid):
    """The process's connections to bricks, by their inodes."""
    found = set()
    ports = {f"{brick['port']:04X}" for brick in node.volume_status("v")["bricks"]}
    lines = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {words[9] for words in lines if words[2].split(":")[1] in ports and words[3] == "01"}
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found |= {inode for inode in inodes if os.readlink(entry) == f"socket:[{inode}]"}
    return found


def change_window(node, point, mib):
    """Changes an option of the mount that can be seen there. blockd may write its own text again, at any time."""
    kind = "    type performance/write-behind\n"
    change = f"{kind}    option cache-size {mib}MB\n"

    def is_there():
        if change not in (node.state / "volserver" / "v.mount.vol").read_text():
            replace(node, "v.mount.vol", kind, change)
        return re.search(rf"window_size\s*=\s*{mib << 20}\b", private(point, "v-write-behind"))

    wait_until("the mount has the option", is_there)


def check_options(node, point, writer, load):
    """Only options: no client makes a new graph, no connection is lost, no process is another one afterwards."""
    before, bricks, nbd = graphs(point), node.brick_pids("v"), to_bricks(node, node.nbd_pid())
    assert len(nbd) == 3, nbd
    node.configure({"engine": {"ping-timeout": 7}})
    node.reload()
    wait_until("the new option is served", lambda: "ping-timeout 7" in (node.state / "volserver/v.mount.vol").read_text())
    change_window(node, point, 2)
    writer.wait_progress()
    load.wait_progress()
    assert graphs(point) == before
    assert (node.brick_pids("v"), to_bricks(node, node.nbd_pid())) == (bricks, nbd)


def add_translator(node, name):
    """One more, right below the top of the stack."""
    top = re.search(r'volume "v"\n(    .*\n)*?    subvolumes "(.+)"\n', (node.state / "volserver" / name).read_text())
    extra = f'volume "v-extra"\n    type performance/io-threads\n    subvolumes "{top[2]}"\nend-volume\n\n'
    replace(node, name, top[0], extra + top[0].replace(f'"{top[2]}"', '"v-extra"'))


def check_translators(node, point, writer, load):
    """A translator more: clients change over to a new graph, with their open files."""
    before, nbd = graphs(point), to_bricks(node, node.nbd_pid())
    add_translator(node, "v.mount.vol")
    add_translator(node, "v.image.vol")
    wait_until("the mount has a new graph", lambda: graphs(point) - before)
    wait_until("blockd-nbd has new connections", lambda: len(to_bricks(node, node.nbd_pid()) - nbd) == 3)
    writer.wait_progress(50)
    load.wait_progress()
    # The next look at the volume writes what the store says, which takes it back.
    node.patch("/v1/volumes/v", {"overcommit": 1.5})
    wait_until("what blockd wants is served again", lambda: "v-extra" not in (node.state / "volserver/v.mount.vol").read_text())
    writer.wait_progress(50)
    load.wait_progress()


def check_death(node, point, writer, load):
    """Clients go on without the server, and ask again when it is back; changes reach them as before."""
    before, nbd, log = graphs(point), to_bricks(node, node.nbd_pid()), node.logs / "mount-m.log"
    asked = log.read_text().count("No change in volfile")
    for _ in range(2):
        old = process(node, "volserver.vol")
        os.kill(old, signal.SIGKILL)
        wait_until("the server is back", lambda: process(node, "volserver.vol") not in (0, old))
        writer.wait_progress()
    assert (graphs(point), to_bricks(node, node.nbd_pid())) == (before, nbd)
    with contextlib.closing(Volfiles(node)) as server:
        assert "end-volume" in server.fetch("v")
    wait_until("the mount asks again", lambda: log.read_text().count("No change in volfile") > asked)
    change_window(node, point, 4)
    load.wait_progress()


def check_hang(node, load):
    """While the server hangs, blockd-nbd starts anew all the same, with the file."""
    server, old = process(node, "volserver.vol"), node.nbd_pid()
    os.kill(server, signal.SIGSTOP)
    try:
        os.kill(old, signal.SIGKILL)
        wait_until("blockd-nbd is back", lambda: node.nbd_pid() not in (0, old))
        load.wait_progress()
        assert len(to_bricks(node, node.nbd_pid())) == 3
    finally:
        os.kill(server, signal.SIGCONT)


def reads(path):
    try:
        return path.read_bytes()
    except OSError:
        return None


def check_access(node, point, writer):
    """Bricks refuse who is not on the list, take him once he is, and cut him off when he is not any more; all while they run."""
    (point / "known").write_bytes(b"known")
    bricks = node.brick_pids("v")
    with stranger(node) as strange:
        assert reads(strange / "known") is None
    node.patch("/v1/volumes/v", {"access": ["127.0.0.2"]})
    with stranger(node) as strange:
        wait_until("the bricks admit him", lambda: reads(strange / "known") == b"known")
        node.patch("/v1/volumes/v", {"access": []})

        def is_refused():
            with contextlib.suppress(FileExistsError):
                try:
                    (strange / str(random.random())).touch()
                except OSError:
                    return True
            return False

        wait_until("the bricks cut him off", is_refused)
    # A share's own list: he may mount that folder and no other.
    node.post("/v1/shares", {"volume": "v", "name": "team", "size": "4MiB", "no_quota": True})
    node.post("/v1/shares", {"volume": "v", "name": "public", "size": "4MiB", "no_quota": True, "access": ["127.0.0.2"]})
    (point / "shares" / "public" / "leaflet").write_bytes(b"for all")
    with stranger(node, "--subdir-mount=/shares/public") as strange:
        wait_until("he has the share", lambda: reads(strange / "leaflet") == b"for all")
    for words in ((), ("--subdir-mount=/shares/team",), ("--subdir-mount=/",)):
        with stranger(node, *words) as strange:
            assert reads(strange / "known") is None and not reads(strange / "shares/public/leaflet"), words
    with mounted(node, "/v/shares/team", "team") as team:
        (team / "minutes").touch()
    with Volfiles(node, source="127.0.0.2") as server:
        assert "end-volume" in server.fetch("v")
    writer.wait_progress()
    assert node.brick_pids("v") == bricks


def check_again(node):
    """A volume that is deleted and made again under its name is another one, also for who had connected to it."""
    node.single("w", "512MiB")
    device = node.get("/v1/volumes/w")["spec"]["bricks"][0]["device"]
    for turn in range(3):
        node.create_block("w/b", "16MiB")
        handle = nbd.NBD()
        handle.connect_uri(node.uri("w/b"))
        assert not any(handle.pread(1 << 20, 0)), turn
        handle.pwrite(b"x" * 65536, 0)
        handle.flush()
        handle.shutdown()
        node.delete_block("w/b")
        node.delete("/v1/volumes/w")
        node.create_volume("w", "single", [device])
        node.wait_volume("w")


def main():
    require_root()
    require_programs("mount.glusterfs", "glusterfs")
    if not pathlib.Path("/dev/fuse").exists():
        skip("there is no /dev/fuse")
    rng = faults.chance()
    with Node() as node:
        node.replica3("v")
        node.create_block("v/b", "64MiB")
        uri = node.uri("v/b")
        with mounted(node) as point:
            with Writer(point / "records") as writer:
                with Load(uri, rng) as load:
                    for check in (check_options, check_translators, check_death):
                        check(node, point, writer, load)
                        print(check.__name__, flush=True)
                load.verify(uri)
                check_access(node, point, writer)
                print("check_access", flush=True)
        node.create_block("v/c", "64MiB")
        with Load(node.uri("v/c"), rng, reconnect=True) as load:
            check_hang(node, load)
        load.verify(node.uri("v/c"))
        print("check_hang", flush=True)
        check_again(node)


main()
