# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Writes while one brick of three is away: a block beside qemu-nbd on gluster://, a share beside a plain mount. Both of ours answer
a change only when the other bricks have noted who missed it; neither peer does. blockd itself is away meanwhile, or it would
start the brick again."""

import contextlib
import os
import pathlib
import signal
import statistics

import datapath
import node as cluster
import servers
import sharebench
import shares
from table import MIB

VOLUME = "away"
SIZE = 64 * MIB
AWAY = 2  # the brick
#        name                 how          block size  depth  unit
CASES = [
    ("4k-randwrite-qd1",   "randwrite", 4096,      1,     "IOPS"),
    ("4k-randwrite-qd32",  "randwrite", 4096,      32,    "IOPS"),
    ("128k-write",         "write",     131072,    1,     "MiB/s"),
]


def on_mount(path):
    """A contender: a function of pattern and seconds that gives the rate of writes to a file, past the kernel's cache."""
    def measure(pattern, seconds):
        rate = datapath.fio_rate([f"--filename={path}", "--ioengine=libaio", "--direct=1", f"--size={SIZE}"], pattern, seconds)
        return datapath.scaled(rate, pattern)
    return measure


def on_block(uri):
    def measure(pattern, seconds):
        return datapath.scaled(datapath.by_fio(uri, pattern, seconds), pattern)
    return measure


def new_file(folder, name):
    path = folder / name
    path.write_bytes(os.urandom(SIZE))
    return path


@contextlib.contextmanager
def contenders_of(node):
    """{case: (ours, peer, the peer's name)}"""
    place = shares.create(node, f"{VOLUME}/bench", "1GiB")["status"]["path"]
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(shares.mounted(node, f"{VOLUME}/bench"))
        plain = pathlib.Path(f"{stack.enter_context(sharebench.plain_mount(node, VOLUME))}{place}")
        datapath.filled(node, f"{VOLUME}/ours")
        uri, _ = stack.enter_context(servers.qemu_nbd(
            node.folder / "away.sock",
            f"gluster://127.0.0.1:{servers.GLFS_PORT}/{VOLUME}{datapath.filled(node, f'{VOLUME}/qemu')}"))
        yield {"block": (on_block(node.uri(f"{VOLUME}/ours")), on_block(uri), "qemu-nbd on gluster://"),
               "share": (on_mount(new_file(ours, "ours")), on_mount(new_file(plain, "plain")), sharebench.PEER)}


def measure(node, table, options):
    node.replica3(VOLUME, "2GiB")
    with contenders_of(node) as contenders:
        brick = node.brick_pids(VOLUME)[AWAY]
        node.terminate()
        os.kill(brick, signal.SIGKILL)
        try:
            for pattern in CASES:
                for case, (ours, peer, name) in contenders.items():
                    runs = [(ours(pattern, options.seconds), peer(pattern, options.seconds)) for _ in range(options.rounds)]
                    table.add(f"{pattern[0]} {case}, a brick away", *map(statistics.median, zip(*runs)), name, pattern[4])
        finally:
            node.start()
