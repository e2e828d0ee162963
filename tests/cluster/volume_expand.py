#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""A volume of one set grows under a verified load: files move to the new set, those in use stay, every byte is checked."""

import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
from api import MIB, open_nbd, refused, require, require_equal
from load import Load

BLOCKS = 10


def replicas(node, block):
    file = node.get(f"/v1/blocks/{block}")["spec"]["storage"].lstrip("/")
    return [pathlib.Path(brick["path"]) / file for brick in node.volume_status(block.split("/")[0])["bricks"]]


def used_sets(node, block):
    """The sets whose bricks hold the block's file; a link of distribute has the mode bit t."""
    return {i // 3 for i, path in enumerate(replicas(node, block)) if path.exists() and not path.stat().st_mode & 0o1000}


def fill(node, block, seed):
    data = random.Random(seed).randbytes(2 * MIB)
    handle = open_nbd(node.unix_uri(block))
    handle.pwrite(data, seed % 4 * MIB)
    handle.flush()
    handle.shutdown()
    return data


def check(node, block, seed, data):
    handle = open_nbd(node.unix_uri(block))
    require(bytes(handle.pread(2 * MIB, seed % 4 * MIB)) == data, f"{block} holds something else")
    handle.shutdown()


def refusals(node):
    refused(node, "POST", "/v1/volumes/none/expand", {}, 404, "not_found", "none")
    refused(node, "POST", "/v1/volumes/v/expand", {"size": "100MiB", **SAME}, 400, "invalid_argument", "holds 100.0 MiB already")
    refused(node, "POST", "/v1/volumes/v/expand", {"size": "300MiB", "sets": 2, **SAME}, 400, "invalid_argument", "either size or sets")
    refused(node, "POST", "/v1/volumes/v/expand", {"sets": 2, **SAME}, 507, "resource_exhausted", "it has a brick of this volume already")
    refused(node, "POST", "/v1/volumes/v/rebalance", None, 400, "invalid_argument", "one set of bricks only")
    plan = node.cli("volume", "expand", "v", "--size", "150MiB", "--allow-same-node", "--dry-run", "--json")
    require_equal((plan["sets"], [b["set"] for b in plan["bricks"]], plan["size"]), (1, [1, 1, 1], 100 * MIB), "the plan")
    require_equal(len(node.get("/v1/volumes/v")["spec"]["bricks"]), 3, "bricks after a dry run")


SAME = {"allow_same_node": True}


def job_of(node, reply):
    return reply["name"]


def wait_job(node, name, phase="succeeded"):
    def ended():
        status = node.get(f"/v1/jobs/{name}")["status"]
        return status if status["phase"] in ("succeeded", "failed", "canceled") else None
    status = cluster.wait_until(f"job {name} ends", ended)
    require_equal((status["phase"], status.get("error")), (phase, None), "the job's end")
    return status


def grow(node, rng):
    blocks = [f"v/b{i}" for i in range(BLOCKS)]
    data = {}
    for seed, block in enumerate(blocks):
        node.create_block(block, "8MiB")
        data[block] = fill(node, block, seed)
    busy = "v/busy"
    node.create_block(busy, "8MiB")
    with Load(node.unix_uri(busy), rng, slots=256) as load:
        cluster.wait_until("the other blocks are closed", lambda: not open_blocks(node, blocks))
        job = node.call("POST", "/v1/volumes/v/expand", {"sets": 1, **SAME})["name"]
        refused(node, "POST", "/v1/volumes/v/expand", SAME, 409, "failed_precondition", job)
        node.wait_ready()
        status = wait_job(node, job)
        load.wait_progress()
        require("1 in use left in place" in status["message"], status)
        require_equal(status["done"], status["total"], "bytes of the job")
        moved = [block for block in blocks if used_sets(node, block) == {1}]
        require(moved and len(moved) < BLOCKS, f"the set got {moved}")
        require_equal(used_sets(node, busy), {0}, "the set of the block in use")
        for seed, block in enumerate(blocks):
            check(node, block, seed, data[block])
    load.verify(node.unix_uri(busy))
    status = node.volume_status("v")
    require_equal((status["size"], status["largest"], len(status["sets"])), (200 * MIB, 100 * MIB, 2), "the grown volume")
    return blocks, data, busy, load


def open_blocks(node, blocks):
    """Blocks that blockd-nbd still has open on some brick."""
    pids = [pid for pid in node.brick_pids("v") if pid]
    gfids = {str(path) for block in blocks for path in replicas(node, block)}
    found = set()
    for pid in pids:
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(fd.readlink())
            except OSError:
                continue
            found |= {g for g in gfids if target == g}
    return found


def killed(node, blocks, data, busy, load):
    """A rebalance that is killed, with blockd, goes on and ends; nothing is lost."""
    job = node.call("POST", "/v1/volumes/v/rebalance")["name"]
    cluster.wait_until("it runs", lambda: [p for p, line in node.processes().items() if "blockd-rebalance" in line]
                       or node.get(f"/v1/jobs/{job}")["status"]["phase"] == "succeeded")
    node.kill()
    faults.signal_all([p for p, line in node.processes().items() if "blockd-rebalance" in line])
    node.start()
    wait_job(node, job)
    for seed, block in enumerate(blocks):
        check(node, block, seed, data[block])
    load.verify(node.unix_uri(busy))
    cluster.wait_until("the program has ended", lambda: not [line for line in node.processes().values() if "blockd-rebalance" in line])


def main():
    cluster.require_root()
    rng = faults.chance()
    with cluster.Node() as node:
        node.devices(3, "512MiB")
        node.create_volume("v", "replica3", [], size="100MiB")
        node.wait_volume("v")
        refused(node, "POST", "/v1/volumes/v/expand", {"sets": 1, **SAME}, 507, "resource_exhausted", "it has a brick of this volume already")
        node.devices(3, "512MiB", first=4)
        refusals(node)
        blocks, data, busy, load = grow(node, rng)
        # New blocks land on both sets, a rebalance that finds nothing to do is done, and all can be deleted.
        killed(node, blocks, data, busy, load)
        for block in [*blocks, busy]:
            node.delete_block(block)
        node.delete("/v1/volumes/v")
    print("ok")


if __name__ == "__main__":
    main()
