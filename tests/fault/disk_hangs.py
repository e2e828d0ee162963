#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""Disks that do not answer: at blockd's start, under a brick, and while their volume is deleted; all others are served meanwhile."""

import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
from slowdisk import SlowDisk

MIB = 1 << 20


def status_of(node, name):
    return node.get(f"/v1/devices/node1/{name}")["status"]


def wait_phase(node, name, phase):
    cluster.wait_until(f"device {name} is {phase}", lambda: status_of(node, name)["phase"] == phase)


def require_served(node, name):
    """What concerns another disk gets its answer."""
    node.create_block(f"v/{name}", "16MiB", export=False)
    node.devices(1, "512MiB", first=5)
    node.create_volume("other", "single", ["d5"])
    node.wait_volume("other")
    node.delete("/v1/volumes/other")
    node.delete("/v1/devices/node1/d5")


def at_the_start(node, disk):
    [brick] = node.brick_pids("v")
    node.terminate()
    os.kill(brick, signal.SIGKILL)
    subprocess.run(["umount", node.state / "devices" / "slow"], check=True)
    disk.hang()
    node.start()
    node.wait_volume("v")
    wait_phase(node, "slow", "failed")
    faults.require("has not answered" in status_of(node, "slow")["error"], status_of(node, "slow")["error"])
    report = node.call("POST", "/v1/devices/adopt", {"paths": [str(disk.path)]})
    faults.require("does not answer" in str(report["items"]), report)
    require_served(node, "b")
    disk.go_on()
    wait_phase(node, "slow", "ready")


def under_a_brick(node, disk):
    node.create_volume("w", "single", ["slow"])
    node.wait_volume("w")
    disk.hang()
    wait_phase(node, "slow", "failed")
    require_served(node, "c")
    faults.require(node.volume_status("w")["phase"] != "online", "a volume without its brick is online")
    node.delete("/v1/volumes/w?force=1")
    cluster.wait_until("the volume is gone", lambda: "w" not in [volume["name"] for volume in node.items("/v1/volumes")])
    disk.go_on()
    wait_phase(node, "slow", "ready")
    bricks = node.state / "devices" / "slow" / "bricks"
    cluster.wait_until("the brick is gone, and what it held", lambda: not os.listdir(bricks))


def main():
    cluster.require_root()
    if not os.path.exists("/dev/fuse"):
        cluster.skip("no /dev/fuse")
    with SlowDisk(400 * MIB) as disk, cluster.Node() as node:
        node.single("v", "512MiB")
        node.post("/v1/devices", {"name": "slow", "path": str(disk.path)})
        try:
            at_the_start(node, disk)
            under_a_brick(node, disk)
        finally:
            disk.go_on()


if __name__ == "__main__":
    main()
