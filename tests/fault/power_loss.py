#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""Everything ends at once, with and without what the disks had not written yet; the next start brings it all back.

The power cut is real for the file systems: they are shut down without writing their logs or any cached data, as
XFS_IOC_GOINGDOWN does, so that only what a brick made stable by itself is there afterwards.
"""

import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
import traces
from load import Load


def cut_disks(node):
    for point in traces.mounts(node.state):
        subprocess.run(["xfs_io", "-x", "-c", "shutdown", point], check=True, stdout=subprocess.DEVNULL)


def power_loss(node, cut):
    pids = list(node.processes())
    if cut:
        # One machine loses its power at one moment, and to shut a file system down takes milliseconds.
        faults.signal_all(pids, signal.SIGSTOP)
        cut_disks(node)
    faults.signal_all(pids)
    faults.wait_gone(pids)
    node.process.wait()
    if cut:
        for point in traces.mounts(node.state):
            traces.unmount(point)


def main():
    cluster.require_root()
    cluster.require_programs("xfs_io")
    rng = faults.chance()
    with cluster.Node() as node:
        node.replica3("v", "512MiB")
        node.create_block("v/b", "16MiB")
        # An open that was under way when the cut came is made again by the load as any reconnection.
        with Load(node.unix_uri("v/b"), rng, promise="stable", reconnect=True) as load:
            for count in range(faults.rounds(6)):
                load.wait_progress(200)
                time.sleep(rng.uniform(0, 1))
                connections = load.connections
                cut = count % 2 == 1
                power_loss(node, cut)
                began = time.monotonic()
                node.start()
                node.wait_volume("v")
                load.wait_connection(connections + 1)
                load.wait_progress()
                print(f"{'power cut' if cut else 'kill'}: served again after {time.monotonic() - began:.1f} s", flush=True)
        load.verify()
        faults.require_same_replicas(node, "v/b", load)
        faults.require_nothing_leaked(node, "after power losses")
        print(f"{load.answered} commands over {load.connections} connections", flush=True)


if __name__ == "__main__":
    main()
