#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A volume of several sets promises no block that no set has room for: a file lies in one set, and never in two."""

import concurrent.futures
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import MIB, refused, require, require_equal

SAME = {"allow_same_node": True}


def place(node, block):
    """The sets that have the block's file; a link of distribute has no mode but the sticky bit."""
    path = node.get(f"/v1/blocks/{block}")["spec"]["storage"]
    files = [pathlib.Path(brick["path"] + path) for brick in node.volume_status("v")["bricks"]]
    return [i for i, file in enumerate(files) if file.exists() and file.stat().st_mode & 0o7777 != 0o1000]


def sets_of(node):
    """{set: MiB of the blocks in it}, by the bricks; the records must say the same."""
    serials = [brick.get("set_serial", i + 1) for i, brick in enumerate(node.get("/v1/volumes/v")["spec"]["bricks"])]
    sums = dict.fromkeys(range(len(serials)), 0)
    for block in node.items("/v1/blocks"):
        (here,) = place(node, block["name"])
        require_equal(block["status"].get("set"), serials[here], f"the set in the record of {block['name']}")
        sums[here] += block["spec"]["size"] // MIB
    return sums


def clear(node):
    for block in node.items("/v1/blocks"):
        node.delete_block(block["name"])


def creates(node):
    for name in ("v/a", "v/b"):
        node.create_block(name, "60MiB", export=False, prealloc="full")
    cluster.wait_until("both are allocated", lambda: {b["status"]["phase"] for b in node.items("/v1/blocks")} == {"ready"})
    require_equal(sets_of(node), {0: 60, 1: 60}, "two blocks that only fit two sets")
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "c", "size": "60MiB"}, 507, "resource_exhausted", "set 0 40.0 MiB, set 1 40.0 MiB")
    refused(node, "PATCH", "/v1/blocks/v/a", {"size": "110MiB"}, 507, "resource_exhausted", "fits no set of bricks of volume v")
    node.patch("/v1/blocks/v/a", {"size": "100MiB"})
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "c", "size": "41MiB"}, 507, "resource_exhausted", " 40.0 MiB")
    node.create_block("v/c", "40MiB", export=False)
    require_equal(sets_of(node), {0: 100, 1: 100}, "a full volume")
    clear(node)


def at_once(node):
    """Many at once: never more in a set than it holds, and all that fits is there."""
    def create(number):
        return node.request("POST", "/v1/blocks?wait=60", {"volume": "v", "name": f"n{number}", "size": "30MiB"}, timeout=120)[0]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(create, range(10)))
    require_equal(answers, [201] * 6 + [507] * 4, "the answers to ten creates")
    require_equal(sets_of(node), {0: 90, 1: 90}, "what the sets hold")
    clear(node)


def with_shares(node):
    """A share lies in all sets."""
    node.post("/v1/shares", {"volume": "v", "name": "s", "size": "40MiB", "no_quota": True})
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "a", "size": "90MiB"}, 507, "resource_exhausted", "set 0 80.0 MiB, set 1 80.0 MiB")
    node.create_block("v/a", "80MiB", export=False)
    node.delete("/v1/shares/v/s")
    clear(node)


def adopted(node):
    node.create_block("v/a", "60MiB", export=False)
    storage = node.get("/v1/blocks/v/a")["spec"]["storage"]
    node.delete_block("v/a", "?keep_storage=1")
    made = node.post("/v1/blocks", {"volume": "v", "name": "b", "storage": storage})
    (here,) = place(node, "v/b")
    require_equal(made["status"]["set"], here + 1, "the set of a file that was adopted")
    clear(node)
    for brick in node.volume_status("v")["bricks"]:
        file = pathlib.Path(brick["path"] + storage)
        if file.exists():
            os.unlink(file)


def wait_job(node, job):
    status = cluster.wait_until("the job ends", lambda: (s := node.get(f"/v1/jobs/{job}")["status"])["phase"] not in ("pending", "running") and s, 120)
    require_equal((status["phase"], status.get("error")), ("succeeded", None), f"the job {status}")


def moved(node):
    """Blocks that a rebalance or a set that leaves has moved count where they are now."""
    for i in range(8):
        node.create_block(f"v/m{i}", "10MiB", export=False)
    node.devices(1, "512MiB", first=3)
    wait_job(node, node.call("POST", "/v1/volumes/v/expand", {"sets": 1, **SAME})["name"])
    require_equal(sum(sets_of(node).values()), 80, "the blocks after a rebalance")
    wait_job(node, node.call("POST", "/v1/volumes/v/shrink", {"set": 0})["name"])
    require_equal(sum(sets_of(node).values()), 80, "the blocks after a set left")
    wait_job(node, node.call("POST", "/v1/volumes/v/expand", {"sets": 1, **SAME})["name"])
    clear(node)
    # What the set that leaves has promised must fit the others, block by block.
    for name in ("v/x", "v/y", "v/z"):
        node.create_block(name, "60MiB", export=False)
    require_equal(sets_of(node), {0: 60, 1: 60, 2: 60}, "three blocks in three sets")
    refused(node, "POST", "/v1/volumes/v/shrink", {"set": 1}, 507, "resource_exhausted", "of 60.0 MiB fits no set of bricks of volume v")
    clear(node)


def metric(node, name, place):
    line = next(line for line in node.get("/metrics").splitlines() if line.startswith(f'{name}{{volume="v",set="{place}"}}'))
    return int(line.split()[-1])


def sums(node):
    """Size and free space of a volume with one set full, and with one set offline."""
    def look():
        status = node.volume_status("v")
        sets = [(each["size"] // MIB, each["free"] // MIB) for each in status["sets"]]
        require_equal((status["size"] // MIB, status["free"] // MIB), tuple(map(sum, zip(*sets))), f"the sums of {sets}")
        return sets
    require_equal(look(), [(100, 100)] * 3, "sizes and free space of the sets")
    root = node.volume_status("v")["bricks"][1]["path"].split("/bricks")[0]
    fill = pathlib.Path(root) / "fill"
    with open(fill, "wb") as file:
        space = os.statvfs(root)
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - 8 * MIB)
    sets = look()
    require(sets[1][0] == 100 and sets[1][1] <= 8 and sets[0] == sets[2] == (100, 100), f"sizes and free space of the sets: {sets}")
    require(metric(node, "blockd_volume_set_free_bytes", 1) <= 8 * MIB, "the metrics do not show that a set is full")
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "a", "size": "101MiB"}, 507, "resource_exhausted", "set 1 100.0 MiB")
    node.create_block("v/a", "90MiB", export=False, prealloc="full")
    require(place(node, "v/a") != [1], "a block that is allocated at once was put into a full set")
    clear(node)
    fill.unlink()

    device = node.volume_status("v")["bricks"][2]["device"]
    image = node.folder / "images" / f"{device}.img"
    os.rename(image, f"{image}.away")
    subprocess.run(["xfs_io", "-x", "-c", "shutdown", node.state / "devices" / device], check=True)
    cluster.wait_until("the set is gone", lambda: node.volume_status("v")["sets"][2]["phase"] in ("offline", "failed"))
    cluster.wait_until("its free space does not count", lambda: look() == [(100, 100), (100, 100), (100, 0)])
    require_equal([metric(node, "blockd_volume_set_up", i) for i in range(3)], [1, 1, 0], "the sets in the metrics")
    os.rename(f"{image}.away", image)
    node.wait_volume("v")
    require_equal(look(), [(100, 100)] * 3, "sizes and free space of the sets that are back")


def main():
    cluster.require_root()
    with cluster.Node() as node:
        node.create_volume("v", "single", node.devices(2, "512MiB"), size="200MiB", sets=2)
        node.wait_volume("v")
        for part in (creates, at_once, with_shares, adopted, moved, sums):
            part(node)
            print(f"ok {part.__name__}", flush=True)
        require(not node.cli("examine", "--json")["findings"], "examine finds something")


if __name__ == "__main__":
    main()
