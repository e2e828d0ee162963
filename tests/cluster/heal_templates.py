#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 200
"""Healing of volumes of several sets, with a witness, and of fragments: counted in every set, split-brains ended in every set."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import heals
import node as cluster
from api import refused, require, require_equal

FILES = 12


def distributed(node):
    """Files of two sets of three: each set has some of them."""
    node.create_volume("w", "replica3", node.devices(6, "512MiB"), sets=2)
    node.wait_volume("w")
    names = [f"/file{i}" for i in range(FILES)]
    with heals.no_healing(node):
        with heals.Mount(node, "w") as mount:
            for name in names:
                mount.file(name).write_bytes(b"the same everywhere\n")

        def act(mount, index):
            for name in names:
                mount.file(name).write_bytes(f"{name} {index}\n".encode() * (3 - index))
        heals.each_alone(node, "w", act)
        report = heals.report(node, "w")
        require_equal({file["file"] for file in report["files"] if file["state"] == "split-brain"}, set(names), "the files")
        require_equal(report["split_brain"], FILES, "their number")
        devices = {blame.split("/")[-1] for file in report["files"] for blame in file["blames"]}
        require_equal(devices, {f"d{i}" for i in range(1, 7)}, "the bricks that are blamed, of both sets")
    reply = node.post("/v1/volumes/w/heal/resolve", {"all": True, "keep": "largest"})
    require_equal({(file["file"], file["state"]) for file in reply["files"]}, {(name, "resolved") for name in names}, "the answer")
    require_equal({file["kept"] for file in reply["files"]}, {"node1/d1", "node1/d4"}, "the copies that were kept")
    node.wait_healed("w")
    for name in names:
        found = [copy.read_bytes() for copy in heals.copies(node, "w", name) if copy.exists()]
        require_equal(found, [f"{name} 0\n".encode() * 3] * 3, f"the copies of {name}")


def witnessed(node):
    """A data brick of an arbiter volume is behind; the witness has no copy to keep."""
    node.create_volume("a", "arbiter", node.devices(3, "512MiB", first=7))
    node.wait_volume("a")
    with heals.no_healing(node):
        with heals.Mount(node, "a", (0, 2)) as mount:
            mount.file("file").write_bytes(b"witnessed\n")
        entry = heals.listed(node, "a", "/file")
        require_equal(set(entry["blames"]), {"node1/d7 blames node1/d8", "node1/d9 blames node1/d8"}, "the blames")
        require_equal(entry["size"], len(b"witnessed\n"), "the size, which the witness does not know")
    node.wait_healed("a")
    require_equal([copy.read_bytes() for copy in heals.copies(node, "a", "file")], [b"witnessed\n", b"witnessed\n", b""], "the copies")


def fragments(node):
    """Disperse: a brick that missed a write is behind; there is no copy to choose."""
    node.create_volume("e", "disperse", node.devices(3, "512MiB", first=10), data=2, redundancy=1)
    node.wait_volume("e")
    node.create_block("e/b", "8MiB")
    refused(node, "POST", "/v1/volumes/e/heal/resolve", {"all": True, "keep": "newest"}, 501, "unimplemented")
    storage = node.get("/v1/blocks/e/b")["spec"]["storage"]
    with heals.no_healing(node):
        index = 2
        pid = node.brick_pids("e")[index]
        handle = cluster_nbd(node, "e/b")
        faults.signal_all([pid])
        faults.wait_gone([pid])
        handle.pwrite(b"x" * 65536, 0)
        handle.flush()
        handle.shutdown()
        entry = cluster.wait_until("the file is pending", lambda: pending(node, storage))
        require("data" in entry["kinds"] and entry.get("block") == "e/b", f"{entry}")
        require(node.volume_status("e")["heal_pending"] >= 1, "the volume's count")
        cluster.wait_until("the brick is back", lambda: node.brick_pids("e")[index] not in (0, pid))
    cluster.wait_until("the fragments are healed", lambda: order(node) and not pending(node, storage))


def order(node):
    node.post("/v1/volumes/e/heal", {})
    return True


def pending(node, storage):
    entry = heals.listed(node, "e", storage)
    return entry if entry and entry["state"] in ("pending", "healing") else None


def cluster_nbd(node, block):
    import nbd
    handle = nbd.NBD()
    handle.connect_uri(node.unix_uri(block))
    return handle


def main():
    cluster.require_root()
    with cluster.Node(ports=60) as node:
        distributed(node)
        witnessed(node)
        fragments(node)


if __name__ == "__main__":
    main()
