#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""Sets of bricks come and go while blockd, the program that moves files, and a brick die: the job goes on, and every byte is there."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
import steps
from api import MIB, open_nbd, open_nbd_soon, require, require_equal

SAME = {"allow_same_node": True}
ENDS = ("succeeded", "failed", "canceled")
BLOCKS = 6
# Which of the two operations comes by a point.
GROWS = ("volume.expand.", "rebalance.")


def job_of(node, kind):
    jobs = [j for j in node.items("/v1/jobs") if j["spec"]["kind"] == kind and j["status"]["phase"] not in ENDS]
    return jobs[0]["name"] if jobs else None


def ended(node, kind):
    return not job_of(node, kind)


def processes(node, word):
    return [pid for pid, line in node.processes().items() if word in line]


class Data:
    """Blocks with known bytes."""

    def __init__(self, node, rng):
        self.node, self.bytes = node, {}
        for i in range(BLOCKS):
            block = f"v/b{i}"
            node.create_block(block, "4MiB")
            self.bytes[block] = rng.randbytes(MIB)
            handle = open_nbd(node.unix_uri(block))
            handle.pwrite(self.bytes[block], MIB)
            handle.shutdown()

    def check(self):
        for block, data in self.bytes.items():
            handle = open_nbd_soon(self.node.unix_uri(block))
            require(bytes(handle.pread(MIB, MIB)) == data, f"{block} holds something else")
            handle.shutdown()


def sets(node):
    return len(node.get("/v1/volumes/v")["spec"]["bricks"]) // 3


def request(shrinks):
    if shrinks:
        return steps.Request("POST", "/v1/volumes/v/shrink", {"set": 0})
    return steps.Request("POST", "/v1/volumes/v/expand", {"sets": 1, **SAME})


def wait_end(node, shrinks):
    cluster.wait_until("the job has ended", lambda: ended(node, "shrink" if shrinks else "rebalance"))
    require_equal(sets(node), 1 if shrinks else 2, "sets afterwards")
    cluster.wait_until("the program has ended", lambda: not processes(node, "blockd-rebalance"))


def settle(node, shrinks):
    """Two sets before a shrink, one before an expand."""
    if (sets(node) == 2) != shrinks:
        request(not shrinks).again().must(node)
        wait_end(node, not shrinks)


def die_at(node, data, point):
    shrinks = not point.startswith(GROWS)
    settle(node, shrinks)
    died = steps.die_in(node, point, request(shrinks), after=cluster.PATIENCE)
    require(died, f"nothing came by {point}")
    node.start()
    require(job_of(node, "shrink" if shrinks else "rebalance") or sets(node) == (1 if shrinks else 2), "the job is lost")
    wait_end(node, shrinks)
    data.check()
    print(f"ok {point}", flush=True)


def canceled(node, data):
    """A cancel that blockd dies in is finished by the next start; the volume keeps the set."""
    settle(node, True)
    job = node.call("POST", "/v1/volumes/v/shrink", {"set": 0})["name"]
    died = steps.die_in(node, "shrink.after-cancel", steps.Request("DELETE", f"/v1/jobs/{job}", gone=True))
    node.start()
    if died:
        cluster.wait_until("the job is gone", lambda: node.request("GET", f"/v1/jobs/{job}")[0] == 404)
        require("leaving" not in node.get("/v1/volumes/v")["spec"], "the set leaves yet")
        require_equal(sets(node), 2, "sets after the cancel")
    data.check()
    print(f"ok cancel{'' if died else ' (too late)'}", flush=True)


def workers_die(node, data):
    """The program that moves files dies, and a brick of each set: both come back, and the job ends."""
    settle(node, True)
    node.call("POST", "/v1/volumes/v/shrink", {"set": 0})
    cluster.wait_until("it works", lambda: processes(node, "blockd-rebalance") or ended(node, "shrink"))
    faults.signal_all(processes(node, "blockd-rebalance"))
    pids = [pid for pid in node.brick_pids("v") if pid]
    faults.signal_all([pids[0], pids[-1]])
    wait_end(node, True)
    data.check()
    print("ok the program and two bricks", flush=True)


def main():
    cluster.require_root()
    rng = faults.chance()
    points = sorted(p for p in steps.points_in_sources() if p.startswith(("shrink.", *GROWS)) and p != "shrink.after-cancel")
    with cluster.Node() as node:
        node.devices(6, "512MiB")
        node.create_volume("v", "replica3", [], size="200MiB", sets=2)
        node.wait_volume("v")
        data = Data(node, rng)
        # By turns, so that no point needs a change of its own before it. A run takes some of them.
        grow = [p for p in points if p.startswith(GROWS)]
        shrink = [p for p in points if p not in grow]
        shrink = rng.sample(shrink, min(len(shrink), faults.rounds(3)))
        for i in range(max(len(grow), len(shrink))):
            for point in [*shrink[i:i + 1], *grow[i:i + 1]]:
                die_at(node, data, point)
        canceled(node, data)
        workers_die(node, data)
        for block in data.bytes:
            node.delete_block(block)
        node.delete("/v1/volumes/v")
        faults.require_nothing_leaked(node, "a volume that grew and shrank")


if __name__ == "__main__":
    main()
