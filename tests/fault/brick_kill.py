#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 240
"""kill -9 of one brick of three under a verified load: no error, nothing lost, the brick back in seconds, and healed."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
from load import Load

BACK_SECONDS = 30  # 5 are promised; the rest is for a busy machine


def brick_back(node, index, old_pid):
    """The brick's process when it serves again; 0 before."""
    brick = node.volume_status("v")["bricks"][index]
    return brick.get("pid", 0) if brick["state"] == "online" and brick.get("pid", 0) != old_pid else 0


def kill_and_wait(node, load, index):
    pid = node.brick_pids("v")[index]
    began = time.monotonic()
    faults.signal_all([pid])
    faults.wait_gone([pid])
    cluster.wait_until(f"brick {index} is back", lambda: brick_back(node, index, pid), timeout=BACK_SECONDS)
    print(f"brick {index} was back after {time.monotonic() - began:.2f} s", flush=True)
    load.wait_progress()


def main():
    cluster.require_root()
    rng = faults.chance()
    with cluster.Node() as node:
        node.replica3("v", "512MiB")
        node.create_block("v/b", "16MiB")
        uri = node.unix_uri("v/b")
        with Load(uri, rng) as load:
            for _ in range(faults.rounds(4)):
                index = rng.randrange(3)
                time.sleep(rng.uniform(0, 2))
                kill_and_wait(node, load, index)
                if rng.random() < 0.4:  # the same one again, which cuts its heal short
                    time.sleep(rng.uniform(0, 1))
                    kill_and_wait(node, load, index)
                faults.wait_whole(node, "v")
                load.check()
        load.verify(uri)
        faults.require_same_replicas(node, "v/b", load)
        print(f"{load.answered} commands, no error", flush=True)


if __name__ == "__main__":
    main()
