#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""blockd dies between two steps of an operation on a device or a volume: the next start finishes or removes."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
import steps
import traces
from steps import Case, Request

# Beginnings of the points that other tests come by: blockd_steps, shares_steps, evacuate, device_failure, adopt_steps, heal_kill,
# volume_sets and cluster_join.
ELSEWHERE = ("block.", "job.", "export.", "share.", "move.", "evacuate.", "device.take-out.", "adopt.", "manifest.",
             "heal.resolve.", "volume.expand.", "rebalance.", "shrink.", "join-", "brick.")

CREATE = Request("POST", "/v1/volumes", {"name": "v", "template": "replica3", "devices": ["d1", "d2", "d3"],
                                         "allow_same_node": True})
DELETE = Request("DELETE", "/v1/volumes/v", gone=True)
ADD = Request("POST", "/v1/devices", {"name": "d4", "path": "", "image_size": "512MiB"})  # the path is set in main()
REMOVE = Request("DELETE", "/v1/devices/node1/d4", gone=True)

MAKE, ERASE = Case("create a volume", CREATE, undo=[DELETE]), Case("delete a volume", DELETE, before=[CREATE])
PLUG, UNPLUG = Case("add a device", ADD, undo=[REMOVE]), Case("remove a device", REMOVE, before=[ADD])

# By the beginning of a point's name; the longest counts.
CASES = {
    "volume.create": MAKE, "volume.up": MAKE, "heal.up": MAKE, "process.start": MAKE,
    "volume.erase": ERASE, "volume.delete": ERASE,
    "device.create": PLUG, "device.image": PLUG, "device.format": PLUG, "device.mount": PLUG,
    "device.down": UNPLUG, "device.erase": UNPLUG, "device.delete": UNPLUG,
    "store-before-commit:2": MAKE, "store-after-commit:2": MAKE,
}


def case_of(point):
    for words in (point.rsplit(".", 1)[0], point):
        if words in CASES:
            return CASES[words]
    raise AssertionError(f"no operation here comes by the point {point}")


def stopped_half_way(node, point):
    """The node's orderly stop goes on where it was, and so does its start."""
    CREATE.again().must(node)
    stop = Request("PATCH", "/v1/nodes/node1", {"state": "stopped"})
    faults.require(steps.die_in(node, point, stop), f"a node's stop never came by {point}")
    node.start()
    stop.again().must(node)
    left = [line for line in node.processes().values() if "/blockd " not in line]
    faults.require(not left and not traces.mounts(node.state), f"a stopped node has {left}, {traces.mounts(node.state)}")
    Request("PATCH", "/v1/nodes/node1", {"state": "enabled"}).must(node)
    node.wait_volume("v")
    faults.require_nothing_leaked(node, f"a stop that died at {point}, and a start")
    DELETE.again().must(node)


def main():
    cluster.require_root()
    rng = faults.chance()
    points = sorted(p for p in steps.points_in_sources() if not p.startswith(ELSEWHERE))
    points = [p + ":2" if p.startswith("store-") else p for p in points]  # the first commit is the node's own
    with cluster.Node() as node:
        node.devices(3, "512MiB")
        ADD.body["path"] = str(node.folder / "images" / "d4.img")
        for point in points:
            case = case_of(point)
            faults.require(steps.run(node, case, point), f"{case.name} never came by {point}")
            print(f"ok {point}", flush=True)
        stopped_half_way(node, "device.down.after-unmount")
        for _ in range(faults.rounds(2)):
            case = rng.choice([MAKE, ERASE, PLUG, UNPLUG])
            point = f"store-{rng.choice(['before', 'after'])}-commit:{rng.randrange(1, 6)}"
            died = steps.run(node, case, point)
            print(f"ok {case.name} {point}{'' if died else ' (not reached)'}", flush=True)


if __name__ == "__main__":
    main()
