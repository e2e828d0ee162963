#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# guest: device-mapper disks=a:1GiB,b:1GiB,c:1GiB modules=dm-mod,dm-flakey,xfs memory=1280
# timeout: 400
"""The disk below a brick begins to fail, first its writes and then everything, and another one hangs, under a verified load:
clients see no error, the device and the brick are reported down, and what was written is on the other two. When the disk works
again the brick is back, and healed, without a hand."""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))
import faults
import node as cluster
from load import Load


def dmsetup(*words):
    subprocess.run(["dmsetup", *words], check=True, stdin=subprocess.DEVNULL)


class Disk:
    """A virtio disk below a table of device-mapper that can be exchanged while it is in use."""

    def __init__(self, name):
        self.name, self.path = name, f"/dev/mapper/{name}"
        self.below = pathlib.Path(f"/dev/disk/by-id/virtio-{name}").resolve()
        self.sectors = int(pathlib.Path(f"/sys/block/{self.below.name}/size").read_text())
        dmsetup("create", name, "--table", self._table("linear", 0))

    def _table(self, target, *words):
        return " ".join(map(str, (0, self.sectors, target, *([self.below] if target != "error" else []), *words)))

    def _exchange(self, table):
        # Not flushed: what waits meets the new table, as with a disk that fails in the middle of something.
        dmsetup("suspend", "--noflush", "--nolockfs", self.name)
        dmsetup("load", self.name, "--table", table)
        dmsetup("resume", self.name)

    def fail_writes(self):
        self._exchange(self._table("flakey", 0, 0, 3600, 1, "error_writes"))

    def fail(self):
        self._exchange(self._table("error"))

    def repair(self):
        self._exchange(self._table("linear", 0))

    def hang(self):
        """Nothing that is asked of it is answered, and whoever asks is stuck in the kernel, until it goes on."""
        dmsetup("suspend", "--noflush", "--nolockfs", self.name)

    def go_on(self):
        dmsetup("resume", self.name)

    def remove(self):
        dmsetup("remove", "--retry", self.name)


def brick_state(node, index):
    return node.volume_status("v")["bricks"][index]["state"]


def device_phase(node, name):
    return node.get(f"/v1/devices/{node.name}/{name}")["status"]["phase"]


def check_hanging(node, disk, load):
    """Only the device hangs: neither blockd nor the volume, nor what else is asked for meanwhile."""
    load.wait_progress()
    disk.hang()
    try:
        cluster.wait_until("the device is reported as not answering", lambda: device_phase(node, "c") == "failed")
        cluster.wait_until("its brick is reported down", lambda: brick_state(node, 2) != "online")
        load.wait_writes(200)
        node.create_block("v/meanwhile", "4MiB", export=False)
        told = node.cli("device", "info", "c")
        faults.require("has not answered for" in told, f"the device is described as: {told}")
        problems = "\n".join(node.get("/v1/status")["problems"])
        faults.require("its disk has not answered for" in problems, f"problems: {problems}")
        print(told, node.cli("device", "list"), problems, flush=True)
    finally:
        disk.go_on()
    cluster.wait_until("the device is back", lambda: device_phase(node, "c") == "ready")
    faults.wait_whole(node, "v")
    node.delete_block("v/meanwhile")
    load.wait_writes(200)
    load.check()


def check(node, disks, load):
    load.wait_progress()
    disks[1].fail_writes()
    load.wait_writes(200)
    cluster.wait_until("the brick is reported down", lambda: brick_state(node, 1) != "online")
    cluster.wait_until("the device is reported down", lambda: device_phase(node, "b") == "failed")
    disks[1].fail()
    load.wait_writes(200)
    load.check()
    told = node.cli("volume", "info", "v")
    print(node.cli("device", "list"), told, flush=True)
    states = [brick_state(node, index) for index in range(3)]
    faults.require(states[0] == states[2] == "online" != states[1], f"the bricks are {states}")
    faults.require("device b" in told, "the command line does not name the device that failed")

    disks[1].repair()
    cluster.wait_until("the device is back", lambda: device_phase(node, "b") == "ready")
    load.wait_writes(200)


def main():
    cluster.require_root()
    cluster.require_programs("dmsetup")
    rng = faults.chance()
    disks = [Disk(name) for name in ("a", "b", "c")]
    # On a machine that is slow enough, a brick that works may be late, too.
    with cluster.Node(settings={"engine": {"ping-timeout": 20}}) as node:
        for disk in disks:
            node.post("/v1/devices", {"name": disk.name, "path": disk.path})
        node.create_volume("v", devices=[disk.name for disk in disks])
        node.wait_volume("v")
        node.create_block("v/b", "16MiB")
        uri = node.unix_uri("v/b")
        with Load(uri, rng) as load:
            check(node, disks, load)
            faults.wait_whole(node, "v")
            check_hanging(node, disks[2], load)
        load.verify(uri)
        faults.require_same_replicas(node, "v/b", load)
        print(f"{load.answered} commands, no error", flush=True)
    for disk in disks:
        disk.remove()


if __name__ == "__main__":
    main()
