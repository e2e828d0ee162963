#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""Blocks on disperse and distribute volumes: bricks killed under a verified load, healed, and every fragment needed once."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
from api import MIB, open_nbd, refused, require, require_equal
from load import Load


def sets(node, volume):
    return [(s["phase"], s["online"], s["quorum"]) for s in node.volume_status(volume)["sets"]]


def without(node, volume, index):
    """Kills blockd and then one brick, which nobody starts again; returns a function that brings both back."""
    pid = node.brick_pids(volume)[index]
    node.kill()
    faults.signal_all([pid])
    faults.wait_gone([pid])

    def back():
        node.start()
        faults.wait_whole(node, volume)
    return back


def touch(uri):
    """Disperse opens a file on a brick that came back with the next request for it, and serves that one without the brick."""
    handle = open_nbd(uri)
    for _ in range(3):
        handle.pread(4096, 0)
        handle.pwrite(handle.pread(4096, 0), 0)
        handle.flush()
    handle.shutdown()


def zeroes(uri):
    """Disperse cannot make zeroes by itself: every way to ask for them has to work all the same."""
    import nbd
    handle = open_nbd(uri)
    for flags in (0, nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_FAST_ZERO):
        handle.pwrite(b"\xff" * 4 * MIB, 0)
        handle.zero(3 * MIB, 512, flags)
        content = bytes(handle.pread(4 * MIB, 0))
        require(content == b"\xff" * 512 + bytes(3 * MIB) + b"\xff" * (MIB - 512), f"zeroes with flags {flags}")
    handle.pwrite(b"\xff" * MIB, 0)
    handle.trim(MIB, 0, nbd.CMD_FLAG_FUA)
    require(bytes(handle.pread(MIB, 0)) == bytes(MIB), "a trim")
    handle.shutdown()


def disperse(node, rng):
    made = node.create_volume("coded", "disperse", [], size="180MiB", data=2, redundancy=1)
    node.wait_volume("coded")
    require_equal([b["size"] for b in made["spec"]["bricks"]], [90 * MIB] * 3, "the bricks of 2+1")
    status = node.volume_status("coded")
    require_equal((status["size"], sets(node, "coded")), (180 * MIB, [("online", 3, 2)]), "size and sets")
    node.create_block("coded/b", "16MiB")
    uri = node.unix_uri("coded/b")
    zeroes(uri)
    with Load(uri, rng, slots=512) as load:
        pid = node.brick_pids("coded")[rng.randrange(3)]
        faults.signal_all([pid])
        faults.wait_gone([pid])
        load.wait_progress()
        cluster.wait_until("all bricks are up", lambda: all(node.brick_pids("coded")) and pid not in node.brick_pids("coded"))
        load.wait_progress()
    faults.wait_whole(node, "coded")
    touch(uri)
    # Each fragment in turn is missing: what is left must give every byte.
    for index in range(3):
        back = without(node, "coded", index)
        load.verify(uri)
        back()
        touch(uri)
    # Two of three are gone: reads fail, nothing lies.
    node.kill()
    pids = [pid for pid, line in node.processes().items() if "/glusterfsd " in line and "coded" in line]
    faults.signal_all(pids[:2])
    faults.wait_gone(pids[:2])
    try:
        load.verify(uri)
    except Exception as error:
        require("pread" in str(error), error)
    else:
        raise AssertionError("one fragment of three was enough to read")
    node.start()
    faults.wait_whole(node, "coded")
    load.verify(uri)
    require_equal(node.cli("block", "info", "coded/b", "--json")["status"]["phase"], "ready", "the block")
    node.delete_block("coded/b")
    node.delete("/v1/volumes/coded")


def distribute(node, rng):
    made = node.create_volume("wide", "replica3", [], size="200MiB", sets=2)
    node.wait_volume("wide")
    require_equal([b["size"] for b in made["spec"]["bricks"]], [100 * MIB] * 6, "the bricks of 2 x replica3")
    status = node.volume_status("wide")
    require_equal((status["size"], status["largest"], sets(node, "wide")), (200 * MIB, 100 * MIB, [("online", 3, 2)] * 2), "size and sets")
    refused(node, "POST", "/v1/blocks", {"volume": "wide", "name": "b", "size": "120MiB"}, 507, "resource_exhausted", "fits no set")
    blocks, where = [], []
    while len(blocks) < 6 or len({s for w in where for s in w}) < 2:  # the name of its file says in which set a block is
        blocks.append(f"wide/b{len(blocks)}")
        node.create_block(blocks[-1], "4MiB")
        where.append(used_sets(node, blocks[-1]))
        require(len(blocks) < 24, "all blocks are in one set")
    require_equal({len(w) for w in where}, {1}, "in how many sets a block lies")
    require_equal({s for w in where for s in w}, {0, 1}, "the sets that have blocks")
    chosen = [blocks[[w for w in where].index({s})] for s in (0, 1)]
    loads = [Load(node.unix_uri(block), rng, slots=512) for block in chosen]
    with loads[0], loads[1]:
        for index in (1, 4):  # a brick of each set
            pid = node.brick_pids("wide")[index]
            faults.signal_all([pid])
            faults.wait_gone([pid])
            for load in loads:
                load.wait_progress()
            faults.wait_whole(node, "wide")
    for block, load in zip(chosen, loads):
        load.verify(node.unix_uri(block))
        check_replicas(node, block, load)
    # A set without its quorum: its blocks cannot be written, those of the other can.
    node.delete_block(blocks[-1])
    for block in blocks[:-1]:
        node.delete_block(block)
    node.delete("/v1/volumes/wide")


def replicas(node, block):
    file = node.get(f"/v1/blocks/{block}")["spec"]["storage"].lstrip("/")
    return [pathlib.Path(brick["path"]) / file for brick in node.volume_status(block.split("/")[0])["bricks"]]


def used_sets(node, block):
    """The sets whose bricks hold the block's file; a link of distribute has no bytes and the mode bit t."""
    found = set()
    for index, path in enumerate(replicas(node, block)):
        if path.exists() and not path.stat().st_mode & 0o1000:
            found.add(index // 3)
    return found


def check_replicas(node, block, load):
    node.wait_healed(block.split("/")[0])
    files = [path for path in replicas(node, block) if path.exists() and not path.stat().st_mode & 0o1000]
    require_equal(len(files), 3, f"replicas of {block}")
    for file in files:
        load.verify_file(file)


def main():
    cluster.require_root()
    rng = faults.chance()
    with cluster.Node() as node:
        node.devices(6, "512MiB")
        disperse(node, rng)
        distribute(node, rng)
    print("ok")


if __name__ == "__main__":
    main()
