#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""The store is lost, and made again from what lies on the devices: the same volumes, blocks and bytes."""

import json
import pathlib
import random
import shutil
import sys

import nbd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
from faults import require
from load import Load

MIB = 1 << 20


def image(node, number):
    return str(node.folder / "images" / f"d{number}.img")


def client(uri):
    handle = nbd.NBD()
    handle.connect_uri(uri)
    return handle


def fill(node, block, seed):
    """Writes every byte of the block, and returns what must be read again."""
    content = random.Random(seed).randbytes(node.get(f"/v1/blocks/{block}")["spec"]["size"])
    handle = client(node.unix_uri(block))
    for offset in range(0, len(content), 4 * MIB):
        handle.pwrite(content[offset:offset + 4 * MIB], offset)
    handle.flush()
    handle.shutdown()
    return content


def check(node, block, content):
    handle = client(node.unix_uri(block))
    require(handle.get_size() >= len(content), f"{block} has {handle.get_size()} bytes")
    for offset in range(0, len(content), 4 * MIB):
        part = content[offset:offset + 4 * MIB]
        require(handle.pread(len(part), offset) == part, f"{block} differs at {offset}")
    handle.shutdown()


def lose_store(node):
    """The daemon ends as in a power cut, and its store is gone."""
    node.kill()
    for file in node.state.glob("store.db*"):
        file.unlink()


def lose_machine(node):
    """As lose_store(), but nothing runs on, and all of the state but the disks is gone."""
    node.stop()
    shutil.rmtree(node.state)
    shutil.rmtree(node.run)


def records(node):
    """What must be the same again of each object."""
    return {f"{kind} {item['name']}": (item["uid"], {key: value for key, value in item["spec"].items() if key != "image_size"})
            for kind in ("devices", "volumes", "blocks", "exports") for item in node.items(f"/v1/{kind}")}


def adopt(node, *words):
    return node.cli("device", "adopt", *words, "--json")


def outcome(report):
    return {item["object"]: item["outcome"] for item in report["items"]}


def wait_ready(node, volume="v"):
    cluster.wait_until("the volume serves", lambda: node.volume_status(volume)["phase"] in ("online", "degraded"))
    cluster.wait_until("the blocks are ready", lambda: all(
        item["status"]["phase"] == "ready" for item in node.items("/v1/blocks")))
    cluster.wait_until("the exports are live", lambda: all(
        item["status"]["phase"] == "live" for item in node.items("/v1/exports")))


def manifests_are_whole(node):
    """Waits until an examination finds each manifest to have everything."""
    report = node.cli("examine", "--json")
    require(not report["findings"], f"a healthy node is examined: {report['findings']}")


def run_on(node):
    """Bricks and the server live on when the store and the daemon are gone."""
    content = {block: fill(node, block, block) for block in ("v/a", "v/b")}
    manifests_are_whole(node)
    node.create_block("v/busy", "16MiB")
    with Load(node.unix_uri("v/busy"), faults.chance()) as load:  # one connection, which nothing may break
        lost_and_adopted(node, content, load)
    node.delete_block("v/busy")
    manifests_are_whole(node)


def grants_of(node):
    return {str(path.relative_to(node.run / "grants")) for path in (node.run / "grants").glob("*/*")}


def lost_and_adopted(node, content, load):
    before = records(node)
    manifests_are_whole(node)
    pids, grants = node.brick_pids("v"), grants_of(node)
    lose_store(node)
    load.wait_progress()
    node.start()
    load.wait_progress()
    require(grants_of(node) == grants and len(grants) == 3, f"grants before {grants}, after {grants_of(node)}")
    node.restart()
    require(grants_of(node) == grants, f"grants before {grants}, after a restart {grants_of(node)}")
    found = {finding["object"] for finding in json.loads(node.cli_run("examine", "--json").stdout)["findings"] if finding["code"] == "grant-stale"}
    require(found == {"grant v/a", "grant v/b", "grant v/busy"}, f"examine named the grants {found}")
    require(not node.items("/v1/volumes"), "the store is not empty")
    told = node.cli_run("examine")
    require(told.returncode == 1 and "device adopt" in told.stdout, f"an empty store is not seen: {told.stdout}")
    dry = adopt(node, *(image(node, i) for i in (1, 2, 3)))
    require(not dry["applied"] and dry["adopted"] == 10 and not node.items("/v1/devices"), f"the dry run said {dry}")
    done = adopt(node, "--apply", *(image(node, i) for i in (1, 2, 3)))
    require(done["applied"] and outcome(done) == outcome(dry), f"the adoption said {done}, the dry run {dry}")
    wait_ready(node)
    node.wait_volume("v")
    require(records(node) == before, f"before {before}, after {records(node)}")
    require(node.brick_pids("v") == pids, "bricks that ran were started again")
    load.wait_progress()
    node.restart()
    load.wait_progress()
    for block in content:
        check(node, block, content[block])
    again = adopt(node, "--apply", image(node, 1))
    require(set(outcome(again).values()) == {"present"}, f"a second adoption said {again}")
    node.delete_block("v/b")
    node.create_block("v/b", "32MiB")
    faults.require_nothing_leaked(node, "adopted from running bricks")
    manifests_are_whole(node)


def one_missing(node):
    """All is gone but two disks of three; the third comes back later."""
    content = fill(node, "v/a", 7)
    before = records(node)
    manifests_are_whole(node)
    lose_machine(node)
    away = pathlib.Path(image(node, 3)).rename(node.folder / "away.img")
    node.start()
    done = adopt(node, "--apply", image(node, 1), image(node, 2))
    require(outcome(done)["device node1/d3"] == "adopt" and done["refused"] == 0, f"the adoption said {done}")
    wait_ready(node)
    require(records(node) == before, f"before {before}, after {records(node)}")
    check(node, "v/a", content)
    content = fill(node, "v/a", 8)
    away.rename(image(node, 3))
    node.wait_healed("v")
    check(node, "v/a", content)
    faults.require_nothing_leaked(node, "the third disk is back")


def stale_disk(node):
    """One disk knows an older state: blocks were made, renamed, resized and deleted without it."""
    node.create_block("v/gone", "16MiB")
    node.create_block("v/old-name", "16MiB")
    manifests_are_whole(node)
    stale = (node.state / "devices/d1/.blockd/manifest").read_bytes()
    node.delete_block("v/gone")
    node.post("/v1/blocks/v/old-name/rename", {"name": "new-name"})
    node.patch("/v1/blocks/v/new-name", {"size": "24MiB"})
    node.create_block("v/late", "16MiB")
    content = {block: fill(node, block, block) for block in ("v/new-name", "v/late")}
    manifests_are_whole(node)
    before = records(node)
    lose_store(node)
    (node.state / "devices/d1/.blockd/manifest").write_bytes(stale)
    node.start()
    # Alone the stale disk knows old names; beside another it is outvoted.
    alone = outcome(adopt(node, image(node, 1)))
    require(alone["block v/gone"] == "skip" and alone["block v/old-name"] == "adopt"
            and any(name.startswith("file ") for name in alone), f"the stale disk alone: {alone}")
    adopt(node, "--apply", *(image(node, i) for i in (1, 2, 3)))
    wait_ready(node)
    require(records(node) == before, f"before {before}, after {records(node)}")
    for block in content:
        check(node, block, content[block])
    for block in ("v/new-name", "v/late"):
        node.delete_block(block)


def just_before(node):
    """The store is lost right after blocks were deleted, renamed, resized and made."""
    for name in ("deleted", "grown", "cut", "renamed"):
        node.create_block(f"v/{name}", "16MiB")
    manifests_are_whole(node)
    uid = {item["name"]: item["uid"] for item in node.items("/v1/blocks")}
    node.delete_block("v/deleted")
    node.patch("/v1/blocks/v/grown", {"size": "24MiB"})
    node.call("PATCH", "/v1/blocks/v/cut?force=1&wait=60", {"size": "8MiB"})
    node.create_block("v/made", "16MiB")
    made = node.get("/v1/blocks/v/made")["uid"]
    content = fill(node, "v/made", 3)
    node.post("/v1/blocks/v/renamed/rename", {"name": "other"})
    lose_store(node)
    node.start()
    done = adopt(node, "--apply", "--unknown", *(image(node, i) for i in (1, 2, 3)))
    wait_ready(node)
    blocks = {item["uid"]: item for item in node.items("/v1/blocks")}
    require(uid["v/deleted"] not in blocks, f"a deleted block is back: {done}")
    require(blocks[uid["v/grown"]]["spec"]["size"] == 24 * MIB, f"{blocks[uid['v/grown']]}")
    require(blocks[uid["v/cut"]]["spec"]["size"] == 8 * MIB, f"{blocks[uid['v/cut']]}")
    require(blocks[uid["v/renamed"]]["name"] == "v/other", f"{blocks[uid['v/renamed']]}")
    require(made in blocks, f"a new block is lost: {done}")
    name = blocks[made]["name"]
    if not any(item["name"] == f"node1/{name}" for item in node.items("/v1/exports")):
        node.post("/v1/exports", {"volume": "v", "block": name.split("/")[1]})
    check(node, name, content)
    faults.require_nothing_leaked(node, "lost right after changes")


def refused(node):
    """What has a name already, is no disk of ours, or lost its brick stands in the way, and nothing is adopted."""
    lose_store(node)
    node.start()
    node.add_device("d9", "512MiB")
    done = node.cli_run("volume", "create", "v", "--template", "single")
    require(done.returncode and "v/a is served" in done.stderr, f"another volume in the place of one that is served: {done}")
    node.cli_run("examine", "--repair")
    require(not grants_of(node), f"after a repair there are the grants {grants_of(node)}")
    node.create_volume("v", "single", ["d9"])
    node.wait_volume("v")
    done = node.cli_run("device", "adopt", "--apply", image(node, 1), image(node, 2), image(node, 3))
    require(done.returncode == 1 and "refuse   volume v" in done.stdout and "Nothing was adopted" in done.stdout,
            f"a clash of names: {done}")
    require(len(node.items("/v1/devices")) == 1, "something was adopted all the same")
    node.delete("/v1/volumes/v")
    node.delete("/v1/devices/node1/d9")
    foreign = node.folder / "images" / "foreign.img"
    foreign.write_bytes(bytes(MIB))
    done = node.cli_run("device", "adopt", "--apply", image(node, 1), foreign, node.folder / "nothing")
    require(done.returncode == 1 and f"refuse   disk {foreign}" in done.stdout and "nothing" in done.stdout, f"{done}")
    foreign.unlink()
    brick = node.state / "devices/d2/bricks/v"
    brick.rename(node.state / "devices/d2/moved")
    done = node.cli_run("device", "adopt", "--apply", *(image(node, i) for i in (1, 2, 3)))
    require(done.returncode == 1 and "leave this disk out" in done.stdout, f"a brick that is gone: {done}")
    require(not node.items("/v1/devices"), "something was adopted all the same")
    (node.state / "devices/d2/moved").rename(brick)
    adopt(node, "--apply", *(image(node, i) for i in (1, 2, 3)))
    wait_ready(node)


def beside(node):
    """The store has other volumes by now, which took the ports: the adopted bricks move to others."""
    content = fill(node, "v/a", 11)
    lose_machine(node)
    node.start()
    node.add_device("d9", "512MiB")
    node.create_volume("w", "single", ["d9"])
    node.wait_volume("w")
    taken = {brick["port"] for brick in node.get("/v1/volumes/w")["spec"]["bricks"]}
    adopt(node, "--apply", *(image(node, i) for i in (1, 2, 3)))
    wait_ready(node)
    node.wait_volume("v")
    ports = {brick["port"] for brick in node.get("/v1/volumes/v")["spec"]["bricks"]}
    require(len(ports) == 3 and not ports & taken, f"ports {ports} and {taken}")
    check(node, "v/a", content)
    manifests_are_whole(node)
    faults.require_nothing_leaked(node, "adopted beside another volume")


def main():
    cluster.require_root()
    with cluster.Node() as node:
        node.replica3("v", "512MiB")
        node.create_block("v/a", "24MiB")
        node.create_block("v/b", "32MiB")
        for step in (run_on, one_missing, stale_disk, just_before, refused, beside):
            step(node)
            print(f"ok {step.__name__}", flush=True)


if __name__ == "__main__":
    main()
