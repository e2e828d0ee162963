#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""Two of three bricks die, or hang: writes fail with an error, nothing that was answered is lost, service comes back."""

import errno
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
from load import Load

# A hung brick is given up after the ping-timeout (5 s), and pings go out every 5 s; the rest is for a busy machine.
GIVEN_UP_SECONDS = 60


def require_refused(load):
    """From the first failure on no write is answered: it could not be on two bricks."""
    load.wait_failures(1, timeout=GIVEN_UP_SECONDS)
    load.wait_failures(20, timeout=GIVEN_UP_SECONDS)
    before = load.written
    load.wait_failures(20, timeout=GIVEN_UP_SECONDS)
    faults.require(load.written == before, "writes are answered while two bricks of three are away")


def killed(node, load, rng):
    """blockd is down, so that nobody starts the bricks again."""
    node.kill()
    faults.signal_all(rng.sample(pids_of(node), 2))
    require_refused(load)
    time.sleep(rng.uniform(0, 1))
    node.start()


def hung(node, load, rng):
    pids = rng.sample(node.brick_pids("v"), 2)
    faults.signal_all(pids, signal.SIGSTOP)
    try:
        require_refused(load)
        time.sleep(rng.uniform(0, 1))
    finally:
        faults.signal_all(pids, signal.SIGCONT)


def pids_of(node):
    return [pid for pid, line in node.processes().items() if "/glusterfsd " in line and "/bricks/" in line]


def main():
    cluster.require_root()
    rng = faults.chance()
    with cluster.Node() as node:
        node.replica3("v", "512MiB")
        node.create_block("v/b", "16MiB")
        server = node.nbd_pid()
        with Load(node.unix_uri("v/b"), rng, tolerate=[errno.EIO]) as load:
            for count in range(faults.rounds(4)):
                time.sleep(rng.uniform(0, 1.5))
                way = (killed, hung)[count % 2]
                began = time.monotonic()
                way(node, load, rng)
                load.wait_writes()
                print(f"{way.__name__}: {time.monotonic() - began:.1f} s", flush=True)
                faults.wait_whole(node, "v")
            faults.require(load.connections == 1, f"the load connected {load.connections} times")
        faults.require(node.nbd_pid() == server, "service returned with another blockd-nbd")
        load.verify()
        faults.require_same_replicas(node, "v/b", load)
        print(f"{load.answered} commands, {len(load.failures)} of them failed", flush=True)


if __name__ == "__main__":
    main()
