#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Devices and hosting volumes by the API: whose data is overwritten, what is in use, where bricks go, what a delete leaves."""

import concurrent.futures
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
import traces
from api import MIB, refused, require, require_equal, wait_equal


def image(node, name, size="512MiB", filesystem=None):
    path = node.folder / "images" / name
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        file.truncate({"512MiB": 512 * MIB, "100MiB": 100 * MIB}[size])
    if filesystem:
        subprocess.run([f"mkfs.{filesystem}", "-q", *(["-F", "-L", "precious"] if filesystem == "ext4" else []), path], check=True)
    return path


def device(path, name="d1", **more):
    return {"name": name, "path": str(path), **more}


def foreign_data(node):
    for number, path in enumerate((image(node, "ext4.img", filesystem="ext4"), image(node, "xfs.img", filesystem="xfs"))):
        before = path.read_bytes()[:65536]
        refused(node, "POST", "/v1/devices", device(path), 409, "already_exists", "destroy_existing_data")
        require_equal(path.read_bytes()[:65536], before, "data of a refused device")
        require_equal(node.items("/v1/devices"), [], "devices after a refusal")
        made = node.post("/v1/devices", device(path, f"f{number}", destroy_existing_data=True))
        require_equal(made["status"]["phase"], "ready", "a device whose data may be destroyed")
        require_equal(node.delete(f"/v1/devices/node1/f{number}"), {}, "the answer to the device's delete")
        require(path.exists(), "blockd removed an image that it did not make")
    unknown = image(node, "text.img")
    with open(unknown, "r+b") as file:
        file.write(b"somebody's notes\n" * 1000)
    refused(node, "POST", "/v1/devices", device(unknown), 409, "already_exists", "destroy_existing_data")
    refused(node, "POST", "/v1/devices", device(image(node, "small.img", "100MiB")), 400, "invalid_argument", "too small")
    refused(node, "POST", "/v1/devices", device(node.folder / "images"), 400, "invalid_argument")
    refused(node, "POST", "/v1/devices", device(node.folder / "images/new.img", image_size="100MiB"), 400, "invalid_argument", "512 MiB")
    refused(node, "POST", "/v1/devices", device(node.folder / "none/new.img", image_size="512MiB"), 404, "not_found", "none")
    refused(node, "POST", "/v1/devices", device(node.folder / "images/new.img", image_size="1EiB"), 507, "resource_exhausted", "free")
    require(not (node.folder / "images/new.img").exists(), "a refused image was made")


def twice(node):
    path = image(node, "twice.img")
    link = node.folder / "images" / "link.img"
    link.symlink_to(path)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda i: node.request("POST", "/v1/devices?wait=60", device(path if i % 2 else link, f"t{i}"), timeout=120)[0], range(6)))
    require_equal(sorted(replies), [201] + [409] * 5, "the answers to six names for one disk")
    name = node.items("/v1/devices")[0]["name"]
    refused(node, "POST", "/v1/devices", device(path), 409, "already_exists", name)
    refused(node, "POST", "/v1/devices", device(image(node, "other.img"), name.split("/")[1]), 409, "already_exists", name)
    node.delete(f"/v1/devices/{name}")
    # A file that blockd did not make is judged as somebody's while anything is in it.
    refused(node, "POST", "/v1/devices", device(path, "again"), 409, "already_exists", "destroy_existing_data")
    made = node.post("/v1/devices", device(path, "again", destroy_existing_data=True))
    require_equal(made["status"]["phase"], "ready", "a device that was removed and is added again")
    node.delete("/v1/devices/node1/again")

    # An image that blockd makes goes with the device; a mounted file system is never touched.
    own = node.folder / "images" / "own.img"
    node.post("/v1/devices", device(own, "own", image_size="512MiB"))
    require(own.stat().st_blocks * 512 < 128 * MIB, "an image takes its whole size")
    node.delete("/v1/devices/node1/own")
    require(not own.exists(), "the image that blockd made is left")
    mounted, point = image(node, "mounted.img", filesystem="ext4"), node.folder / "mounted"
    point.mkdir()
    subprocess.run(["mount", "-o", "loop", mounted, point], check=True)
    try:
        refused(node, "POST", "/v1/devices", device(mounted, destroy_existing_data=True), 409, "failed_precondition", "mounted")
    finally:
        traces.unmount(point)


def placement(node):
    names = node.devices(3, "512MiB")
    volume = {"name": "p", "devices": names}
    refused(node, "POST", "/v1/volumes", volume, 400, "invalid_argument", "allow_same_node")
    refused(node, "POST", "/v1/volumes", {"name": "p"}, 507, "resource_exhausted", "node node1 has a brick of this set already")
    refused(node, "POST", "/v1/volumes", {**volume, "devices": names[:2], "allow_same_node": True}, 400, "invalid_argument", "takes 3 devices")
    refused(node, "POST", "/v1/volumes", {**volume, "devices": [names[0]] * 3, "allow_same_node": True}, 400, "invalid_argument", "named twice")
    refused(node, "POST", "/v1/volumes", {**volume, "devices": ["none", *names[1:]], "allow_same_node": True}, 404, "not_found", "none")
    require_equal(node.items("/v1/volumes"), [], "volumes after refusals")

    made = node.post("/v1/volumes", {"name": "p", "template": "arbiter", "allow_same_node": True})
    node.wait_volume("p")
    require_equal((made["spec"]["template"], sorted(b["device"] for b in made["spec"]["bricks"])), ("arbiter", sorted(names)), "the planned volume")
    ports = [b["port"] for b in made["spec"]["bricks"]]
    require_equal((len(set(ports)), all(p in node.ports.range for p in ports)), (3, True), f"its ports {ports}")
    refused(node, "POST", "/v1/volumes", {"name": "p", "template": "single"}, 409, "already_exists", "volume p")
    for name in names:
        refused(node, "DELETE", f"/v1/devices/node1/{name}", None, 409, "failed_precondition", "volume p")
    # Two volumes share devices, and no ports.
    other = node.post("/v1/volumes", {"name": "q", "template": "single", "devices": [f"node1/{names[0]}"]})
    require(other["spec"]["bricks"][0]["port"] not in ports, "a port is used twice")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda i: node.post("/v1/volumes", {"name": f"c{i}", "template": "single", "devices": [names[i % 3]]}), range(4)))
    ports = [b["port"] for v in node.items("/v1/volumes") for b in v["spec"]["bricks"]]
    require_equal(len(set(ports)), len(ports), "different ports of volumes made at once")

    paths = [b["path"] for b in node.volume_status("p")["bricks"]]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        gone = list(pool.map(lambda v: node.delete(f"/v1/volumes/{v}"), ["p", "q", *(v["name"] for v in made)]))
    require_equal(gone, [{}] * 6, "the answers to the deletes")
    require(not any(os.path.exists(p) for p in paths), "brick folders are left")
    wait_equal(lambda: [p for p in node.processes().values() if "brick" in p or "glustershd" in p], [], "processes of deleted volumes")
    again = node.post("/v1/volumes", {"name": "p", "template": "single", "devices": [names[1]]})
    require_equal(again["spec"]["bricks"][0]["port"], node.ports.range[0], "the port of a volume when all are free")
    node.delete("/v1/volumes/p")
    for name in names:
        node.delete(f"/v1/devices/node1/{name}")
    require_equal(list((node.folder / "images").glob("d*.img")), [], "images of removed devices")


def delete_against_create(node):
    """A device is never removed below a volume that is being made."""
    node.devices(1, "512MiB")
    for i in range(6):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            create = pool.submit(node.request, "POST", "/v1/volumes?wait=60", {"name": "r", "template": "single", "devices": ["d1"]}, timeout=120)
            delete = pool.submit(node.request, "DELETE", "/v1/devices/node1/d1?wait=60", timeout=120)
            created, deleted = create.result()[0], delete.result()[0]
        require((created < 300) != (deleted < 300), f"create answers {created}, delete {deleted}")
        if created < 300:
            node.wait_volume("r")
            node.delete("/v1/volumes/r")
        else:
            node.devices(1, "512MiB")
    node.delete("/v1/devices/node1/d1")


def main():
    cluster.require_root()
    cluster.require_programs("mkfs.ext4", "mkfs.xfs")
    with cluster.Node() as node:
        for part in (foreign_data, twice, placement, delete_against_create):
            part(node)
            print(part.__name__, flush=True)


if __name__ == "__main__":
    main()
