#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 500
"""Two thousand shares in one volume: no process and no mount each, memory that stays, and a restart that knows them all.
BLOCKD_SHARES=N makes another number."""

import concurrent.futures
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import shares
import traces
from api import MIB, require, require_equal
from node import Node, require_root, wait_until

COUNT = int(os.environ.get("BLOCKD_SHARES", 2000))
PER_SHARE = 16 << 10  # bytes of blockd's memory: a bound against leaks, far above what is needed


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"no VmRSS of {pid}")


def main():
    require_root()
    with Node() as node:
        node.replica3("v", "1GiB", overcommit=100.0)
        shares.create(node, "v/first", "1MiB")
        processes, mounts = set(node.processes()), traces.mounts(node.folder)
        memory = {pid: resident(pid) for pid in processes}

        started = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda i: shares.create(node, f"v/s{i}", "1MiB"), range(COUNT)))
        took = time.monotonic() - started
        growth = {pid: resident(pid) - memory[pid] for pid in processes}
        print(f"{COUNT} shares in {took:.0f} s, {COUNT / took:.0f} a second; blockd grew by "
              f"{growth[node.process.pid] >> 10} KiB, all {len(processes)} processes by {sum(growth.values()) >> 10} KiB",
              flush=True)
        require_equal(set(node.processes()), processes, "the processes")
        require_equal(traces.mounts(node.folder), mounts, "the mounts")
        require(growth[node.process.pid] < COUNT * PER_SHARE + 64 * MIB, f"blockd grew by {growth[node.process.pid]} bytes")
        status = node.volume_status("v")
        require_equal((status["shares"], status["provisioned"]), (COUNT + 1, (COUNT + 1) * MIB), "what is promised")

        projects = {share["spec"]["project"] for share in node.items("/v1/shares/v")}
        require_equal(len(projects), COUNT + 1, "the number of project ids")
        folder = shares.folders(node, "v", f"s{COUNT - 1}")[2]
        require_equal(len(list(folder.parent.iterdir())), COUNT + 1, "folders on a brick")

        node.restart()
        require_equal(node.volume_status("v")["shares"], COUNT + 1, "the shares after a restart")
        shares.create(node, "v/last", "1MiB")
        require(node.get("/v1/shares/v/last")["spec"]["project"] not in projects, "a project id was given twice")
        with shares.mounted(node, f"v/s{COUNT // 2}") as point:
            (point / "file").write_text("x")
        for i in range(20):
            node.delete(f"/v1/shares/v/s{i}")
        shares.wait_removed(node)
        wait_until("they are gone from the bricks", lambda: len(list(folder.parent.iterdir())) == COUNT + 2 - 20)


if __name__ == "__main__":
    main()
