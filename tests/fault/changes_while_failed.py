#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 400
"""Moves, growth and rebalances that cannot go on: refused before they begin, or waiting with the reason; canceled, and done again."""

import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
from api import MIB, open_nbd, refused, require, require_equal
from load import Load

SAME = {"allow_same_node": True}
BLOCKS = 8


def job(node, name):
    return node.get(f"/v1/jobs/{name}")["status"]


def wait_end(node, name):
    try:
        cluster.wait_until(f"job {name} ends", lambda: job(node, name)["phase"] in ("succeeded", "failed", "canceled"))
    except AssertionError as error:
        raise AssertionError(f"{error}: {job(node, name)}") from None
    require_equal(job(node, name)["phase"], "succeeded", f"the phase of {job(node, name)}")
    return job(node, name)


def wait_message(node, name, part):
    try:
        cluster.wait_until("", lambda: part in (job(node, name).get("message") or ""))
    except AssertionError:
        raise AssertionError(f"no \"{part}\" in {job(node, name)}") from None


def is_gone(node, name):
    return node.request("GET", f"/v1/jobs/{name}")[0] == 404


def devices_of(node):
    return [brick["device"] for brick in node.get("/v1/volumes/v")["spec"]["bricks"]]


def take_away(node, device):
    image = node.folder / "images" / f"{device}.img"
    os.rename(image, f"{image}.away")
    subprocess.run(["xfs_io", "-x", "-c", "shutdown", node.state / "devices" / device], check=True)
    cluster.wait_until("the device is taken out", lambda: node.get(f"/v1/devices/node1/{device}")["status"]["phase"] == "failed")

    def back():
        os.rename(f"{image}.away", image)
        cluster.wait_until("the device is back", lambda: node.get(f"/v1/devices/node1/{device}")["status"]["phase"] == "ready")
    return back


def plans(node):
    """Nothing has begun when a request is refused."""
    move = "/v1/devices/node1/d1"
    node.create_volume("u", "single", ["d4"], size="350MiB")
    full = "node1/d4: it can promise"
    for verb, body in (("evacuate", {}), ("evacuate", {"target": "d4"}), ("replace", {"target": "node1/d4"})):
        refused(node, "POST", f"{move}/{verb}", body, 507, "resource_exhausted", full)
    refused(node, "POST", f"{move}/evacuate", {}, 507, "resource_exhausted", "node1/d2: it has a brick of this volume already")
    refused(node, "POST", f"{move}/replace", {"target": "d2"}, 507, "resource_exhausted", "node1/d2: it has a brick")
    refused(node, "POST", f"{move}/replace", {"target": "d1"}, 400, "invalid_argument", "its own place")
    refused(node, "POST", f"{move}/replace", {"target": "d9"}, 404, "not_found", "d9")
    done = node.cli_run("device", "evacuate", "d1")
    require(done.returncode != 0 and full in done.stderr, done)
    node.delete("/v1/volumes/u")
    node.cli("device", "disable", "d4")
    refused(node, "POST", f"{move}/replace", {"target": "d4"}, 409, "failed_precondition", "node1/d4 is disabled")
    refused(node, "POST", f"{move}/evacuate", {}, 507, "resource_exhausted", "gluster-block device enable node1/d4")
    node.cli("device", "enable", "d4")
    node.patch("/v1/volumes/v", {"state": "stopped"})
    refused(node, "POST", f"{move}/evacuate", {}, 409, "failed_precondition", "volume v is stopped")
    node.patch("/v1/volumes/v", {"state": "started"})
    node.wait_volume("v")
    refused(node, "DELETE", move, None, 409, "failed_precondition", "gluster-block device evacuate node1/d1")
    require_equal(node.get(move)["spec"]["state"], "enabled", "the use of the device")
    require_equal(node.items("/v1/jobs"), [], "jobs")


def twice(node):
    """An empty device is evacuated, too."""
    for _ in range(2):
        name = node.call("POST", "/v1/devices/node1/d1/evacuate", {})["name"]
        require_equal(wait_end(node, name)["message"], "the device has no brick left", "the end")
    require_equal(set(devices_of(node)), {"d2", "d3", "d4"}, "the devices of v")
    require("no brick left" in node.cli("job", "list"), "the list of jobs does not tell")
    node.delete("/v1/devices/node1/d1")
    refused(node, "DELETE", "/v1/devices/node1/d1", None, 404, "not_found", "d1")


class Data:
    def __init__(self, node, rng):
        self.node, self.bytes = node, {}
        for i in range(BLOCKS):
            node.create_block(f"v/f{i}", "8MiB")
            self.bytes[f"v/f{i}"] = rng.randbytes(4 * MIB)
            handle = open_nbd(node.unix_uri(f"v/f{i}"))
            handle.pwrite(self.bytes[f"v/f{i}"], MIB)
            handle.flush()
            handle.shutdown()

    def check(self):
        for block, data in self.bytes.items():
            handle = open_nbd(self.node.unix_uri(block))
            require(bytes(handle.pread(4 * MIB, MIB)) == data, f"{block} holds something else")
            handle.shutdown()


def grows_without_brick(node, data):
    """The set is added at once, and no file moves until all bricks are back."""
    back = take_away(node, "d2")
    name = node.call("POST", "/v1/volumes/v/expand", {"sets": 1, **SAME})["name"]
    wait_message(node, name, "waits: the brick of volume v on node1/d2 is")
    node.restart()
    wait_message(node, name, "waits: the brick of volume v on node1/d2 is")
    node.delete(f"/v1/jobs/{name}")
    require(is_gone(node, name), "the job is there still")
    require_equal(len(devices_of(node)), 6, "bricks after the cancel")
    data.check()
    name = node.call("POST", "/v1/volumes/v/rebalance")["name"]
    wait_message(node, name, "node1/d2")
    node.delete(f"/v1/jobs/{name}")
    back()
    faults.wait_whole(node, "v")


def flush(node, block):
    handle = open_nbd(node.unix_uri(block))
    handle.flush()
    handle.shutdown()


def processes(node):
    return [pid for pid, line in node.processes().items() if "blockd-rebalance" in line]


def rebalance_is_canceled(node, data):
    """In the middle of a file, and while the program that moves it does not even listen."""
    for hold in (signal.SIGSTOP, None):
        name = node.call("POST", "/v1/volumes/v/rebalance")["name"]
        cluster.wait_until("it works", lambda: processes(node) or job(node, name)["phase"] == "succeeded", pause=0.01)
        faults.signal_all(processes(node) if hold else [], signal.SIGSTOP)
        node.delete(f"/v1/jobs/{name}")
        require(is_gone(node, name) and not processes(node), "the job or its program is there still")
        data.check()
    name = node.call("POST", "/v1/volumes/v/rebalance")["name"]
    status = wait_end(node, name)
    require(" moved, " in status["message"] and not status.get("error"), status)
    require(not processes(node), "the program is left")
    data.check()


def dies_while_emptied(node, data):
    """The disk that is emptied dies in the middle; the job goes on from the other copies."""
    source, other = devices_of(node)[0], devices_of(node)[1]
    back = take_away(node, other)  # so that it cannot end before
    name = node.call("POST", f"/v1/devices/node1/{source}/evacuate", {})["name"]
    cluster.wait_until("clients are told, or the new brick is filled", lambda: any(
        move["step"] in ("join", "heal") for move in node.get("/v1/volumes/v")["spec"].get("moves", [])))
    refused(node, "POST", "/v1/volumes/v/rebalance", None, 409, "failed_precondition", "on its way")
    refused(node, "POST", "/v1/volumes/v/expand", {"sets": 1, **SAME}, 409, "failed_precondition", "on its way")
    refused(node, "POST", "/v1/volumes/v/shrink", {}, 409, "failed_precondition", "on its way")
    take_away(node, source)
    back()
    wait_end(node, name)
    node.wait_healed("v")
    data.check()
    node.delete(f"/v1/devices/node1/{source}")
    os.unlink(node.folder / "images" / f"{source}.img.away")


def main():
    cluster.require_root()
    cluster.require_programs("xfs_io")
    rng = faults.chance()
    with cluster.Node() as node:
        node.devices(4, "512MiB")
        node.create_volume("v", "replica3", ["d1", "d2", "d3"], size="200MiB")
        node.wait_volume("v")
        plans(node)
        twice(node)
        print("ok plans", flush=True)
        node.devices(4, "512MiB", first=5)
        data = Data(node, rng)
        node.create_block("v/busy", "8MiB")
        with Load(node.unix_uri("v/busy"), rng, slots=512) as load:
            for phase in (grows_without_brick, rebalance_is_canceled):
                phase(node, data)
                load.wait_progress()
                print(f"ok {phase.__name__}", flush=True)
        flush(node, "v/busy")  # two of three disks lose what is not on them yet
        dies_while_emptied(node, data)
        load.verify(node.unix_uri("v/busy"))
        for block in [*data.bytes, "v/busy"]:
            node.delete_block(block)
        node.delete("/v1/volumes/v")
        faults.require_nothing_leaked(node, "after all changes")


if __name__ == "__main__":
    main()
