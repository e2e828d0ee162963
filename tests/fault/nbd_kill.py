#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 240
"""kill -9 of blockd-nbd under load: blockd starts it again, clients reconnect, and what was stable is there."""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
from load import Load


def main():
    cluster.require_root()
    rng = faults.chance()
    with cluster.Node() as node:
        node.replica3("v", "512MiB")
        for name in ("v/a", "v/b"):
            node.create_block(name, "16MiB")
        with Load(node.unix_uri("v/a"), rng, promise="stable", reconnect=True) as first, \
                Load(node.uri("v/b"), rng, promise="stable", reconnect=True) as second:
            loads = (first, second)
            for _ in range(faults.rounds(8)):
                time.sleep(rng.uniform(0, 2))
                server = node.nbd_pid()
                connections = [load.connections for load in loads]
                faults.signal_all([server])
                for load, count in zip(loads, connections):
                    load.wait_connection(count + 1)
                    load.wait_progress()
                faults.require(node.nbd_pid() not in (0, server), "blockd-nbd was not started again")
        for name, load in (("v/a", first), ("v/b", second)):
            load.verify()
            faults.require_same_replicas(node, name, load)
            print(f"{name}: {load.answered} commands over {load.connections} connections", flush=True)


if __name__ == "__main__":
    main()
