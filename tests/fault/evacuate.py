#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 600
"""A device is emptied under a verified load, blockd dying at every step of it; canceled; a dead one is replaced under load."""

import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
import steps
from load import Load

# Where a move without loss comes by, and where the replacement of a lost brick does.
POINTS = ["evacuate.after-record", "evacuate.after-begin", "move.after-mark", "move.join", "move.heal", "move.leave",
          "move.left", "move.after-erase", "evacuate.after-status"]
LOST_POINTS = ["move.swap-join", "move.swap-heal"]


def job(node, name):
    return node.get(f"/v1/jobs/{name}")


def begin(node, device, verb="evacuate", **body):
    return node.call("POST", f"/v1/devices/node1/{device}/{verb}", body)["name"]


def wait_job(node, name, phase="succeeded", timeout=180):
    def ended():
        status = job(node, name)["status"]
        return status["phase"] in ("succeeded", "failed", "canceled") and status
    status = cluster.wait_until(f"job {name} ends", ended, timeout)
    faults.require(status["phase"] == phase, f"the job is {status}")
    return status


def devices_of(node):
    return [brick["device"] for brick in node.get("/v1/volumes/v")["spec"]["bricks"]]


def device_status(node, name):
    return node.get(f"/v1/devices/node1/{name}")["status"]


def is_empty(node, device):
    folder = node.state / "devices" / device / "bricks"
    return not folder.is_dir() or not os.listdir(folder)


def require_empty(node, device):
    faults.require(device not in devices_of(node), f"{device} has a brick still")
    faults.require(is_empty(node, device), f"the folder of bricks on {device} holds something")


def settled(node, load):
    faults.require(not node.get("/v1/volumes/v")["spec"].get("moves"), "a move is left")
    faults.wait_whole(node, "v")
    load.wait_progress()
    load.check()


def under_load(node, load):
    status = wait_job(node, begin(node, "d1"))
    faults.require(status["done"] == status["total"], f"a job that is done says {status}")
    require_empty(node, "d1")
    faults.require(device_status(node, "d1")["phase"] == "ready", "the emptied device is not ready")
    settled(node, load)
    node.cli("device", "enable", "d1")


def dead_at_each_step(node, load):
    """One evacuation, in which blockd is killed at each step and started again to die at the next one."""
    source = next(d for d in devices_of(node) if d != "d1")
    node.terminate()
    node.start(BLOCKD_FAULT=POINTS[0])
    try:
        begin(node, source)
    except (OSError, cluster.http.client.HTTPException):
        pass  # it died before it answered
    for point, following in zip(POINTS, POINTS[1:] + [None]):
        faults.require(node.wait_died() == -signal.SIGKILL, f"blockd ended at {point} otherwise:\n{node.log_tail()}")
        print(f"ok {point}", flush=True)
        if following:
            node.start(wait=False, BLOCKD_FAULT=following)
    node.start()
    jobs = [j for j in node.items("/v1/jobs") if j["spec"]["object"] == f"devices/node1/{source}"]
    wait_job(node, max(jobs, key=lambda j: j["created"])["name"])
    require_empty(node, source)
    settled(node, load)
    node.cli("device", "enable", source)


def canceled(node, load):
    before = devices_of(node)
    name = begin(node, before[0])
    cluster.wait_until("the move has begun", lambda: node.get("/v1/volumes/v")["spec"].get("moves"), pause=0.01)
    node.delete(f"/v1/jobs/{name}")  # a canceled job is forgotten when all is taken back
    faults.require(devices_of(node) == before, f"a canceled job left the bricks on {devices_of(node)}, not {before}")
    spare = ({"d1", "d2", "d3", "d4"} - set(before)).pop()
    require_empty(node, spare)
    settled(node, load)
    node.cli("device", "enable", before[0])


def replaced(node, load, point=None):
    """A disk vanishes for good; another device takes its place. When it comes back all the same, it is let in empty."""
    lost = devices_of(node)[1]
    spare = ({"d1", "d2", "d3", "d4"} - set(devices_of(node))).pop()
    image = node.folder / "images" / f"{lost}.img"
    os.rename(image, f"{image}.away")
    subprocess.run(["xfs_io", "-x", "-c", "shutdown", node.state / "devices" / lost], check=True)
    cluster.wait_until("the device is taken out", lambda: device_status(node, lost)["phase"] == "failed")
    load.wait_progress()
    if point:
        node.terminate()
        node.start(BLOCKD_FAULT=point)
    name = begin(node, lost, "replace", target=spare)
    if point:
        faults.require(node.wait_died() == -signal.SIGKILL, f"blockd ended at {point} otherwise:\n{node.log_tail()}")
        node.start()
    wait_job(node, name)
    faults.require(spare in devices_of(node) and lost not in devices_of(node), f"bricks are on {devices_of(node)}")
    settled(node, load)
    os.rename(f"{image}.away", image)
    cluster.wait_until("the device is back", lambda: device_status(node, lost)["phase"] == "ready")
    cluster.wait_until("it is emptied", lambda: is_empty(node, lost))
    require_empty(node, lost)
    settled(node, load)
    node.cli("device", "enable", lost)


def main():
    cluster.require_root()
    cluster.require_programs("xfs_io")
    rng = faults.chance()
    with cluster.Node() as node:
        node.replica3("v", "512MiB")
        node.devices(1, "512MiB", first=4)
        node.create_block("v/b", "16MiB")
        uri = node.unix_uri("v/b")
        with Load(uri, rng) as load:
            under_load(node, load)
            print("under load", flush=True)
            canceled(node, load)
            print("canceled", flush=True)
            replaced(node, load)
            print("replaced", flush=True)
            dead_at_each_step(node, load)
            for point in LOST_POINTS:
                replaced(node, load, point)
                print(f"ok {point}", flush=True)
        load.verify(uri)
        faults.require_same_replicas(node, "v/b", load)
        faults.require_nothing_leaked(node, "after all moves")
        known = {p for p in steps.points_in_sources() if p.split(".")[0] in ("move", "evacuate")}
        known.discard("move.swap-mark")  # of fragments: evacuate_fragments.py
        faults.require(known == set(POINTS + LOST_POINTS), f"points that no test dies at: {known ^ set(POINTS + LOST_POINTS)}")


if __name__ == "__main__":
    main()
