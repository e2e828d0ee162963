#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 400
"""Three nodes over one etcd: any of them answers for all, one leads, and what is lost of them comes back."""

import concurrent.futures
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from api import MIB, require, require_equal, wait_equal
from cluster import Cluster
from node import ApiError, require_root, wait_until

PATTERN = 0x5A


def device(node, name, owner):
    (owner.folder / "images").mkdir(exist_ok=True)
    return node.post("/v1/devices", {"name": name, "node": owner.name, "path": str(owner.folder / "images" / f"{name}.img"),
                                     "image_size": "1GiB"})


def seen(node, volume):
    """Empty while the node does not reach the store, as just after its cable is back."""
    try:
        return node.volume_status(volume)
    except ApiError:
        return {}


def phases(nodes, volume):
    return [seen(node, volume).get("phase") for node in nodes]


def everywhere(nodes, volume, phase):
    wait_until(f"all nodes see volume {volume} {phase}", lambda: phases(nodes, volume) == [phase] * len(nodes))


def leader(nodes):
    """The node whose log says last of all that it leads; logs carry the time in front."""
    lines = [(line, node) for node in nodes for line in (node.folder / "blockd.log").read_text().splitlines()
             if line.endswith("this node leads the cluster")]
    return max(lines, key=lambda entry: entry[0])[1]


def made_together(nodes):
    """Devices of all nodes are added from one of them, a volume and a block from others."""
    first, second, third = nodes
    for node in nodes:
        made = device(first, "d1", node)
        require_equal((made["name"], made["status"]["phase"]), (f"{node.name}/d1", "ready"), "a device")
        require("/dev/loop" not in made["spec"]["path"] and made["status"]["size"] > 900 * MIB, f"the device: {made}")
    status, refused = first.request("POST", "/v1/devices", {"name": "d2", "node": "elsewhere", "path": "/dev/null"})
    require_equal((status, refused["error"]["code"]), (404, "not_found"), "a device of a node that there is not")
    made = second.post("/v1/volumes", {"name": "v", "template": "replica3"})
    require_equal([brick["node"] for brick in made["spec"]["bricks"]], [node.name for node in nodes], "the bricks' nodes")
    everywhere(nodes, "v", "online")
    for node in nodes:
        bricks = node.volume_status("v")["bricks"]
        require_equal([(b["node"], b["state"]) for b in bricks], [(n.name, "online") for n in nodes], f"as {node.name} sees it")
    third.post("/v1/blocks", {"volume": "v", "name": "b", "size": 64 * MIB, "hosts": [node.name for node in nodes]})
    wait_equal(lambda: first.get("/v1/blocks/v/b")["status"]["phase"], "ready", "the block as another node sees it")
    for path in ("devices/node1/d1/evacuate", "volumes/v/expand", "volumes/v/shrink"):
        status, answer = second.request("POST", f"/v1/{path}", {})
        require_equal((status, "several nodes" in answer["error"]["message"]), (501, True), f"{path}, which only one node can do")
    print("ok made together", flush=True)


def qemu_io(client, node, *commands):
    words = [word for command in commands for word in ("-c", command)]
    url = f"nbd://{node.machine.address}:{node.nbd_port}/v/b"
    out = client.run("qemu-io", "-f", "raw", *words, url)
    require("failed" not in out, f"qemu-io by {node.name}: {out}")


def served_by_all(nodes, client):
    for number, node in enumerate(nodes):
        qemu_io(client, node, f"write -f -P {PATTERN + number} {number}M 1M")
    for node in nodes:
        qemu_io(client, node, *(f"read -P {PATTERN + number} {number}M 1M" for number in range(len(nodes))))
    print("ok served by all", flush=True)


def races(nodes):
    """The same name from all nodes at once: one gets it."""
    def create(node, name):
        try:
            node.post("/v1/blocks", {"volume": "v", "name": name, "size": 16 * MIB, "hosts": []})
            return "made"
        except ApiError as error:
            return error.code
    with concurrent.futures.ThreadPoolExecutor(len(nodes)) as pool:
        for turn in range(4):
            answers = sorted(pool.map(create, nodes, [f"race{turn}"] * len(nodes)))
            require_equal(answers, ["already_exists"] * (len(nodes) - 1) + ["made"], "the answers to one name at once")
    for node in nodes:
        wait_equal(lambda: node.volume_status("v")["provisioned"], 64 * MIB + 4 * 16 * MIB, f"what {node.name} has promised")
        wait_equal(lambda: len(node.items("/v1/blocks")), 1 + 4, "the blocks")
    for turn in range(4):
        nodes[turn % len(nodes)].delete_block(f"v/race{turn}")
    print("ok races", flush=True)


def another_address(nodes):
    """A node is told about another one's addresses: its own do not count."""
    first, second = nodes[0], nodes[1]
    own = first.get("/v1/nodes/node2")["spec"]["addresses"]
    require_equal(first.patch("/v1/nodes/node2", {"addresses": [*own, "192.0.2.7"]})["spec"]["addresses"], [*own, "192.0.2.7"], "the addresses")
    status, body = second.request("PATCH", "/v1/nodes/node1", {"addresses": own})
    require_equal((status, "the first address of node node1 is" in body["error"]["message"]), (400, True), "another node's address")
    second.patch("/v1/nodes/node2", {"addresses": own})


def leader_dies(nodes):
    """What one node does for all another one does when its blockd is gone."""
    dead = leader(nodes)
    others = [node for node in nodes if node is not dead]
    dead.kill()
    made = others[0].post("/v1/blocks", {"volume": "v", "name": "after", "size": 16 * MIB, "hosts": [others[0].name]})
    require_equal(made["status"]["phase"], "ready", "a block that was made without the former leader")
    wait_until("somebody else leads", lambda: leader(nodes) in others)
    everywhere(others, "v", "degraded")
    wait_equal(lambda: {brick["node"]: brick["state"] for brick in others[0].volume_status("v")["bricks"]}[dead.name], "unknown",
               "the brick of a node that does not answer")
    dead.start()
    everywhere(nodes, "v", "online")
    others[1].delete_block("v/after")
    print("ok leader dies", flush=True)


def cable_pulled(nodes, client):
    """A node that is cut off serves nothing new; the others go on, and it catches up."""
    lost = nodes[2]
    others = nodes[:2]
    lost.machine.unplug()
    everywhere(others, "v", "degraded")
    qemu_io(client, others[0], f"write -f -P {PATTERN + 7} 8M 4M")
    made = others[1].post("/v1/blocks", {"volume": "v", "name": "without", "size": 16 * MIB, "hosts": [others[1].name]})
    require_equal(made["status"]["phase"], "ready", "a block that two nodes make")
    status, answer = lost.request("POST", "/v1/blocks", {"volume": "v", "name": "alone", "size": 16 * MIB, "hosts": []})
    require_equal((status, answer["error"]["code"]), (503, "unavailable"), "a change on the node that is cut off")
    lost.machine.plug()
    wait_until("the volume is whole again", lambda: phases(nodes, "v") == ["online"] * 3 and not any(
        brick.get("heal_pending") for node in nodes for brick in seen(node, "v").get("bricks", [])))
    qemu_io(client, lost, f"read -P {PATTERN + 7} 8M 4M")
    require_equal(sorted(block["name"] for block in lost.items("/v1/blocks")), ["v/b", "v/without"], "blocks, seen by the lost")
    print("ok cable pulled", flush=True)


def all_restart(nodes, client):
    for node in nodes:
        node.kill()
    for node in nodes:
        node.start(wait=False)
    for node in nodes:
        node.wait_ready()
    everywhere(nodes, "v", "online")
    served_by_all(nodes, client)


def all_gone(nodes):
    first, second, third = nodes
    status, answer = second.request("DELETE", "/v1/volumes/v?wait=60", timeout=120)
    require_equal((status, answer["error"]["code"]), (409, "failed_precondition"), "the end of a volume that holds blocks")
    for name in ("b", "without"):
        third.delete_block(f"v/{name}")
    second.delete("/v1/volumes/v")
    for node in nodes:
        wait_until("no brick is left", lambda: not [p for p in node.processes().values() if "/bricks/" in p])
        left = [str(path) for path in (node.state / "devices/d1").glob("**/v") if path.is_dir()]
        require(not left, f"{node.name} still has {left}")
    for node in nodes:
        first.delete(f"/v1/devices/{node.name}/d1")
    require_equal(third.items("/v1/devices"), [], "the devices")
    print("ok all gone", flush=True)


def main():
    require_root()
    with Cluster(3) as cluster:
        client = cluster.client()
        made_together(cluster.nodes)
        served_by_all(cluster.nodes, client)
        races(cluster.nodes)
        another_address(cluster.nodes)
        leader_dies(cluster.nodes)
        cable_pulled(cluster.nodes, client)
        all_restart(cluster.nodes, client)
        all_gone(cluster.nodes)


if __name__ == "__main__":
    main()
