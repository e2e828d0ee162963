#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""blockd dies between two steps of an operation on a block: the next start finishes or removes, and nothing leaks."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
import steps
from steps import Case, Request

CREATE = Request("POST", "/v1/blocks", {"volume": "v", "name": "b", "size": "8MiB", "hosts": ["node1"]})
BARE = Request("POST", "/v1/blocks", {"volume": "v", "name": "b", "size": "8MiB"})
FULL = Request("POST", "/v1/blocks", {"volume": "v", "name": "b", "size": "80MiB", "prealloc": "full",
                                      "hosts": ["node1"]})
DELETE = Request("DELETE", "/v1/blocks/v/b", gone=True)
DELETE_RENAMED = Request("DELETE", "/v1/blocks/v/c", gone=True)

CASES = {
    "block.create": Case("create", CREATE, undo=[DELETE]),
    "block.settle": Case("create", CREATE, undo=[DELETE]),
    "block.resize": Case("resize", Request("PATCH", "/v1/blocks/v/b", {"size": "16MiB"}), before=[CREATE], undo=[DELETE]),
    "block.rename": Case("rename", Request("POST", "/v1/blocks/v/b/rename", {"name": "c"}), before=[CREATE],
                         undo=[DELETE_RENAMED]),
    "block.delete": Case("delete", DELETE, before=[CREATE]),
    "job.preallocate": Case("preallocate", FULL, undo=[DELETE]),
    "export.create": Case("export", Request("POST", "/v1/exports", {"volume": "v", "block": "b"}), before=[BARE],
                          undo=[DELETE]),
    "export.up": Case("create", CREATE, undo=[DELETE]),
    "export.delete": Case("unexport", Request("DELETE", "/v1/exports/node1/v/b", gone=True), before=[CREATE],
                          undo=[DELETE]),
}
SHRINK = Case("shrink", Request("PATCH", "/v1/blocks/v/b?force=1", {"size": "4MiB"}), before=[CREATE], undo=[DELETE])
# Each commit of these, whichever: the process dies before or after the Nth one.
COMMITS = [CASES["block.create"], CASES["block.delete"], CASES["block.rename"], SHRINK]


def main():
    cluster.require_root()
    rng = faults.chance()
    points = sorted(p for p in steps.points_in_sources() if p.startswith(("block.", "job.preallocate.", "export.")))
    with cluster.Node() as node:
        node.single("v", "512MiB")
        for point in points:
            case = CASES.get(point.rsplit(".", 1)[0])
            faults.require(case, f"no operation here comes by the point {point}")
            faults.require(steps.run(node, case, point), f"{case.name} never came by {point}")
            print(f"ok {point}", flush=True)
        for point in ("block.resize.after-record", "block.resize.after-file"):
            faults.require(steps.run(node, SHRINK, point), f"shrink never came by {point}")
        for _ in range(faults.rounds(6)):
            case = rng.choice(COMMITS)
            point = f"store-{rng.choice(['before', 'after'])}-commit:{rng.randrange(1, 6)}"
            died = steps.run(node, case, point)
            print(f"ok {case.name} {point}{'' if died else ' (not reached)'}", flush=True)


if __name__ == "__main__":
    main()
