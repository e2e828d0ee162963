#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Volumes by intent: created by size, planned without a change, refused with each device's reason, repeated safely."""

import json
import os
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import GIB, MIB, refused, require, require_equal

SAME = {"allow_same_node": True}


def bricks(volume):
    return [(brick["device"], brick.get("size", 0)) for brick in volume["spec"]["bricks"]]


def steady(plan):
    """A plan without what is free at this very moment: blockd writes its manifests meanwhile."""
    return json.loads(re.sub(r'"room": \d+', '"room": 0', re.sub(r"(of|promise) [\d.]+ MiB", r"\1 some MiB", json.dumps(plan))))


def dry_run(node):
    body = {"name": "v", "size": "300MiB", **SAME}
    before = node.get("/v1/volumes")
    status, plan = node.request("POST", "/v1/volumes?dry_run=1", body)
    require_equal(status, 200, "the status of a dry run")
    require_equal((plan["layout"], plan["sets"], plan["size"], plan["largest"]), ("replica3", 1, 300 * MIB, 300 * MIB), "the plan")
    require_equal([(b["set"], b["device"], b["size"]) for b in plan["bricks"]], [(0, d, 300 * MIB) for d in ("d4", "d1", "d2")], "its bricks")
    require_equal([r["device"] for r in plan["refused"]], ["node1/d3"], "devices that are not taken")
    text = node.cli("volume", "create", "v", "--size", "300MiB", "--allow-same-node", "--dry-run")
    require_equal(steady(text.splitlines()), steady(plan["text"]), "the plan as text")
    again = node.cli("volume", "create", "v", "--size", "300MiB", "--allow-same-node", "--dry-run", "--json")
    require_equal(steady(again), steady(plan), "the plan as JSON")
    require_equal(node.get("/v1/volumes"), before, "volumes after dry runs")
    require(not [p for p in node.processes().values() if "/bricks/" in p], "a dry run started a brick")
    # What is refused is refused dry, too.
    refused(node, "POST", "/v1/volumes?dry_run=1", {**body, "size": "900MiB"}, 507, "resource_exhausted", "node1/d1: it can promise")
    return plan


def repeats(node, plan):
    body, key = {"name": "v", "size": "300MiB", **SAME}, {"Idempotency-Key": "volume-v"}
    first = node.call("POST", "/v1/volumes?wait=60", body, headers=key)
    require_equal(bricks(first), [(b["device"], b["size"]) for b in plan["bricks"]], "the bricks, as they were planned")
    again = node.call("POST", "/v1/volumes?wait=60", body, headers=key)
    require_equal((again["uid"], bricks(again)), (first["uid"], bricks(first)), "the answer to the same request")
    refused(node, "POST", "/v1/volumes", {**body, "size": "200MiB"}, 400, "invalid_argument", "used for another request", headers=key)
    refused(node, "POST", "/v1/volumes", body, 409, "already_exists", "volume v")
    refused(node, "POST", "/v1/volumes?dry_run=1", body, 409, "already_exists", "volume v")
    node.wait_volume("v")
    status = node.volume_status("v")
    require_equal((status["size"], status["largest"], len(status["sets"])), (300 * MIB, 300 * MIB, 1), "size, largest file, sets")
    require(status["free"] <= 300 * MIB, f"more is free than was promised: {status['free']}")


def promises(node):
    """What is promised to v is not promised again, though nothing has been written."""
    refused(node, "POST", "/v1/volumes", {"name": "w", "size": "600MiB", "template": "single", "devices": ["d1"]}, 507, "resource_exhausted",
            "node1/d1: it can promise")
    refused(node, "POST", "/v1/volumes", {"name": "w", "template": "single", "devices": ["d1"]}, 507, "resource_exhausted", "give the volume a size")
    refused(node, "POST", "/v1/volumes", {"name": "w", "size": "100MiB", **SAME, "devices": ["d1", "d2"]}, 507, "resource_exhausted",
            "node1/d3: not among the devices that were asked for")
    made = node.post("/v1/volumes", {"name": "w", "size": "400MiB", "template": "single", "devices": ["d1", "d2"]})
    require_equal(bricks(made)[0][1], 400 * MIB, "the second brick on the device")
    require(bricks(made)[0][0] in ("d1", "d2"), bricks(made))
    node.wait_volume("w")
    node.post("/v1/volumes", {"name": "all", "template": "single", "devices": ["d3"]})
    refused(node, "POST", "/v1/volumes", {"name": "x", "size": "100MiB", "template": "single", "devices": ["d3"]}, 507, "resource_exhausted",
            "volume all has all of it")
    # A block fits what was promised, not what the disk has.
    refused(node, "POST", "/v1/blocks", {"volume": "w", "name": "b", "size": "401MiB"}, 507, "resource_exhausted", "volume w")
    node.create_block("w/b", "400MiB", export=False)
    for name in ("all", "w"):
        for block in node.items(f"/v1/blocks/{name}"):
            node.delete_block(block["name"])
        node.delete(f"/v1/volumes/{name}")
    made = node.post("/v1/volumes", {"name": "x", "size": "100MiB", "template": "single", "devices": ["d3"]})
    require_equal(bricks(made), [("d3", 100 * MIB)], "the volume after the others are gone")
    node.delete("/v1/volumes/x")


def zones(node):
    refused(node, "POST", "/v1/volumes", {"name": "z", "size": "50MiB", "zones": ["east"], **SAME}, 404, "not_found", "no node is in zone east")
    refused(node, "POST", "/v1/volumes", {"name": "z", "size": "50MiB", "nodes": ["node9"], **SAME}, 404, "not_found", "node9")
    refused(node, "POST", "/v1/volumes", {"name": "z", "size": "50MiB", "devices": ["d9"], **SAME}, 404, "not_found", "d9")
    node.cli("node", "modify", "node1", "--zone", "east")
    refused(node, "POST", "/v1/volumes", {"name": "z", "size": "50MiB"}, 507, "resource_exhausted", "node node1 has a brick of this set already")
    plan = node.cli("volume", "create", "z", "--size", "50MiB", "--zones", "east", "--nodes", "node1", "--allow-same-node", "--dry-run", "--json")
    require_equal({b["zone"] for b in plan["bricks"]}, {"east"}, "the zones of the plan")


def numbers(node):
    for body, part in (({"size": 1}, "size"), ({"size": "50MiB", "sets": 41, **SAME}, "more than 120 bricks"), ({"sets": 0}, "sets"),
                       ({"data": 4, "size": "50MiB"}, "for template disperse"),
                       ({"template": "disperse", "data": 2, "redundancy": 2, "size": "50MiB"}, "cannot be")):
        refused(node, "POST", "/v1/volumes", {"name": "n", **body}, 400, "invalid_argument", part)


def main():
    cluster.require_root()
    cluster.require_programs("glusterfsd", "mkfs.xfs")
    with cluster.Node() as node:
        node.devices(3, "800MiB")
        node.add_device("d4", "1GiB")
        numbers(node)
        repeats(node, dry_run(node))
        promises(node)
        zones(node)
        node.restart()
        require_equal([v["name"] for v in node.items("/v1/volumes")], ["v"], "volumes after a restart")
    print("ok")


if __name__ == "__main__":
    main()
