#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 200
"""Split-brain of data, metadata and names, made on purpose: reported everywhere, refused or resolved by each policy, copies equal."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import heals
import node as cluster
from api import refused, require, require_equal, wait_equal

CONTENT = {  # by brick; of the file "largest" the second copy is the largest one, and so on
    "newest": (b"0 is no newest\n", b"1\n", b"2 is none either\n"),
    "largest": (b"0\n", b"1 is the largest copy\n", b"2 is not\n"),
    "brick": (b"brick 0\n", b"brick 1\n", b"brick 2\n"),
    "equal": (b"a\n", b"b\n", b"c\n"),
    "one": (b"one 0\n", b"one 1\n", b"one 2\n"),
    "folder/clash": (b"clash 0\n", b"clash 1\n", b"clash 2\n"),
}
MODES = (0o640, 0o604, 0o600)
FRESH = 1_900_000_000  # seconds: the time of the newest copy


def make(node, storage):
    with heals.Mount(node, "v") as mount:
        mount.file("folder").mkdir()
        for name in ("newest", "largest", "brick", "equal", "one", "mode", "fine"):
            mount.file(name).write_bytes(b"the same everywhere\n")

    def act(mount, index):
        for name, texts in CONTENT.items():
            mount.file(name).write_bytes(texts[index])
        os.utime(mount.file("equal"), (FRESH, FRESH))
        if index == 1:
            os.utime(mount.file("newest"), (FRESH, FRESH))
        os.chmod(mount.file("mode"), MODES[index])
        with open(mount.file(storage), "r+b") as file:
            file.write(b"block %d" % index)
    heals.each_alone(node, "v", act)


def reported(node, storage):
    wanted = {f"/{name}" for name in CONTENT} | {"/mode", storage}
    wait_equal(lambda: {file["file"] for file in heals.report(node, "v", "?split_brain=1")["files"]}, wanted, "the files in split-brain")
    report = heals.report(node, "v", "?split_brain=1")
    found = {file["file"]: file for file in report["files"]}
    require_equal(report["split_brain"], len(wanted), "their number")
    require(all(file["state"] == "split-brain" for file in found.values()), f"a state is another: {found}")
    require_equal(found["/brick"]["kinds"], ["data"], "the kind of a split-brain of data")
    require_equal(found["/mode"]["kinds"], ["metadata"], "the kind of a split-brain of metadata")
    require_equal(found["/folder/clash"]["kinds"], ["gfid"], "the kind of a name that is three files")
    require_equal(found[storage].get("block"), "v/b", "the block whose file it is")
    require_equal(sorted(found["/brick"]["blames"]),
                  sorted(f"node1/d{i} blames node1/d{k}" for i in (1, 2, 3) for k in (1, 2, 3) if i != k), "who blames whom")
    wait_equal(lambda: node.get("/v1/blocks/v/b")["status"].get("heal"), "split-brain", "the block's heal")
    wait_equal(lambda: ((status := node.volume_status("v"))["split_brain"], status["phase"]), (len(wanted), "degraded"), "the volume's status")
    problems = " ".join(node.get("/v1/status")["problems"])
    require(f"{len(wanted)} files in split-brain" in problems and "block v/b is in split-brain" in problems, problems)
    metrics = node.get("/metrics")
    require(f'blockd_volume_split_brain_files{{volume="v"}} {len(wanted)}\n' in metrics, "no metric says so")
    require("split-brain" in node.cli("volume", "heal", "info", "v"), "the command line does not say so")


def resolve(node, file, keep):
    reply = node.post("/v1/volumes/v/heal/resolve", {"file": file, "keep": keep})
    return reply["files"][0]


def refusals(node):
    path = "/v1/volumes/v/heal/resolve"
    refused(node, "POST", path, {"file": "/fine", "keep": "newest"}, 409, "already_exists", "not in split-brain")
    refused(node, "POST", path, {"file": "/../../../etc/passwd", "keep": "newest"}, 409, "already_exists", "not in split-brain")
    refused(node, "POST", path, {"file": "v/none", "keep": "newest"}, 404, "not_found", "v/none")
    refused(node, "POST", path, {"file": "/brick", "keep": "node1"}, 400, "invalid_argument", "several bricks")
    refused(node, "POST", path, {"file": "/brick", "keep": "d4"}, 400, "invalid_argument", "d4")
    refused(node, "POST", path, {"file": "/equal", "keep": "newest"}, 400, "invalid_argument", "newest")
    refused(node, "POST", path, {"file": "/equal", "keep": "largest"}, 400, "invalid_argument", "largest")
    refused(node, "POST", path, {"file": "/brick"}, 400, "invalid_argument", "which copy")
    refused(node, "POST", path, {"keep": "newest"}, 400, "invalid_argument", "all of them")
    refused(node, "POST", path, {"file": "/brick", "all": True, "keep": "newest"}, 400, "invalid_argument", "all of them")
    refused(node, "POST", "/v1/volumes/none/heal/resolve", {"all": True, "keep": "newest"}, 404, "not_found", "none")


def require_content(node, name, wanted):
    for copy in heals.copies(node, "v", name):
        require_equal(copy.read_bytes()[:len(wanted)], wanted, f"the content of {copy}")


def main():
    cluster.require_root()
    with cluster.Node() as node:
        node.replica3("v", "512MiB")
        node.create_block("v/b", "8MiB", export=False)
        storage = node.get("/v1/blocks/v/b")["spec"]["storage"]
        with heals.no_healing(node):
            make(node, storage)
        reported(node, storage)
        refusals(node)

        require_equal(resolve(node, "/newest", "newest"), {"file": "/newest", "kept": "node1/d2", "state": "resolved"}, "the newest")
        require_equal(resolve(node, "/largest", "largest")["kept"], "node1/d2", "the largest copy")
        require_equal(resolve(node, "/brick", "node1/d3")["kept"], "node1/d3", "the brick's copy")
        require_equal(resolve(node, "/mode", "d2")["kept"], "node1/d2", "the device's copy")
        require_equal(resolve(node, "/folder/clash", "d3")["kept"], "node1/d3", "the name that was three files")
        require_equal(resolve(node, "v/b", "d1"), {"file": storage, "kept": "node1/d1", "state": "resolved"}, "the block")
        refused(node, "POST", "/v1/volumes/v/heal/resolve", {"file": "/newest", "keep": "d1"}, 409, "already_exists")
        wait_equal(lambda: node.get("/v1/blocks/v/b")["status"].get("heal"), None, "the block's heal, once it is resolved")

        done = node.cli("volume", "heal", "resolve", "v", "--all", "--keep", "d1", "--json")
        require_equal(sorted((file["file"], file["kept"], file["state"]) for file in done["files"]),
                      [("/equal", "node1/d1", "resolved"), ("/one", "node1/d1", "resolved")], "all that were left")
        node.wait_healed("v")
        for name, index in (("newest", 1), ("largest", 1), ("brick", 2), ("equal", 0), ("one", 0), ("folder/clash", 2)):
            require_content(node, name, CONTENT[name][index])
        require_content(node, storage, b"block 0")
        require_equal({copy.stat().st_mode & 0o777 for copy in heals.copies(node, "v", "mode")}, {MODES[1]}, "the modes")
        with heals.Mount(node, "v") as mount:
            for name, index in (("largest", 1), ("folder/clash", 2)):
                require_equal(mount.file(name).read_bytes(), CONTENT[name][index], f"what a client reads of {name}")
        wait_equal(lambda: heals.report(node, "v")["files"], [], "the files that wait for a heal")
        wait_equal(lambda: node.get("/v1/status")["phase"], "ok", "the state of everything")


if __name__ == "__main__":
    main()
