# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""The control plane: a thousand blocks, beside what managing plain files by hand on a mount of the volume would cost."""

import concurrent.futures
import os
import statistics
import subprocess

import node as cluster
from table import MIB, resident, timed

COUNT = 1000
ALONE = 100  # of them one after the other
CLIENTS = 20


def each(work, items):
    with concurrent.futures.ThreadPoolExecutor(max_workers=CLIENTS) as pool:
        return list(pool.map(work, items))


class FuseMount:
    """The same hosting volume through glusterfs's FUSE client: what managing plain files by hand would cost."""

    def __init__(self, node, volume):
        self.point = node.folder / "fuse"
        self.point.mkdir()
        self.argv = ["glusterfs", "-f", node.state / "volfiles" / volume / "client.vol", "-l", node.folder / "fuse.log",
                     "--no-daemon", self.point]
        self.process = None

    def start(self):
        self.process = subprocess.Popen([str(a) for a in self.argv], stdin=subprocess.DEVNULL, start_new_session=True)
        cluster.wait_until("the FUSE mount answers", lambda: os.path.ismount(self.point), pause=0.01)

    def stop(self):
        if self.process:
            subprocess.run(["umount", self.point], check=False)
            self.process.wait(timeout=30)
            self.process = None

    def create(self, name):
        folder = self.point / "files"
        folder.mkdir(exist_ok=True)
        with open(folder / name, "xb") as file:
            file.truncate(MIB)
            os.fsync(file.fileno())

    def list(self):
        return [(entry.name, entry.stat().st_size) for entry in os.scandir(self.point / "files")]


def median_ms(work, items):
    return statistics.median(timed(lambda item=item: work(item))[0] for item in items) * 1000


def measure(node, table):
    names = [f"b{i:04}" for i in range(COUNT)]
    first, rest = names[:ALONE], names[ALONE:]
    fuse = FuseMount(node, "replica3")
    peer = "plain files on a FUSE mount"

    # The file of a block exists when its creation has been answered with ?wait, so the two sides do the same.
    def create(name):
        node.create_block(f"replica3/{name}", MIB, export=False)

    alone = median_ms(create, first)
    ours, _ = timed(lambda: each(create, rest))
    try:
        fuse.start()
        table.add("create, one client, p50", alone, median_ms(fuse.create, first), peer, "ms", True)
        theirs, _ = timed(lambda: each(fuse.create, rest))
        table.add(f"create, {CLIENTS} clients", len(rest) / ours, len(rest) / theirs, peer, "per s")

        ours = statistics.median(timed(lambda: listed(node))[0] for _ in range(5))
        theirs = statistics.median(timed(fuse.list)[0] for _ in range(5))
        table.add(f"list of {COUNT}", ours * 1000, theirs * 1000, f"{peer}, with their sizes, cached", "ms", True)
        table.add(f"memory with {COUNT} blocks", resident(node.process.pid), resident(fuse.process.pid),
                  "the FUSE client process", "MiB", True)

        node.terminate()
        ours, _ = timed(lambda: (node.start(), listed(node)))
        fuse.stop()
        theirs, _ = timed(lambda: (fuse.start(), fuse.list()))
        table.add(f"start, {COUNT} blocks, until listed", ours * 1000, theirs * 1000, "mounting by FUSE, until listed",
                  "ms", True)

        ours, _ = timed(lambda: each(lambda n: node.delete_block(f"replica3/{n}"), names))
        theirs, _ = timed(lambda: each(lambda n: os.unlink(fuse.point / "files" / n), names))
        table.add(f"delete, {CLIENTS} clients", COUNT / ours, COUNT / theirs, peer, "per s")
    finally:
        fuse.stop()


def listed(node):
    blocks = node.items("/v1/blocks/replica3")
    if len(blocks) < COUNT:
        raise RuntimeError(f"{len(blocks)} of {COUNT} blocks are listed")
