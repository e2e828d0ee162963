#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""Disks that fail under a verified load: read-only, errors, vanished; taken out, told of, and back; a volume deleted without one."""

import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
from load import Load


def status_of(node, name):
    return node.get(f"/v1/devices/node1/{name}")["status"]


def mount_of(node, name):
    return node.state / "devices" / name


def read_only(node):
    """A file system that somebody (or the kernel) made read-only; it can only be done to one that nobody writes to."""
    node.devices(1, "512MiB", first=5)
    remount = ["mount", "-o", "remount,ro", mount_of(node, "d5")]
    cluster.wait_until("blockd's own look at it is over", lambda: subprocess.run(remount, capture_output=True).returncode == 0)
    node.call("PATCH", "/v1/devices/node1/d5", {"state": "disabled"})  # a change makes blockd look
    cluster.wait_until("a read-only device is counted as failed", lambda: status_of(node, "d5").get("failures", 0) > 0)
    cluster.wait_until("it is mounted anew", lambda: status_of(node, "d5")["phase"] == "ready")
    node.delete("/v1/devices/node1/d5")


def shut_down(node, name):
    """What XFS does by itself when it cannot write its log."""
    subprocess.run(["xfs_io", "-x", "-c", "shutdown", mount_of(node, name)], check=True)


def fails_and_returns(node, load, name, how):
    before = status_of(node, name).get("failures", 0)
    how(node, name)
    cluster.wait_until(f"{how.__name__}: the failure is counted", lambda: status_of(node, name).get("failures", 0) > before)
    load.wait_progress()
    cluster.wait_until(f"{how.__name__}: the device is back", lambda: status_of(node, name)["phase"] == "ready")
    faults.wait_whole(node, "v")
    load.check()


def away(node, name):
    image = node.folder / "images" / f"{name}.img"
    os.rename(image, f"{image}.away")
    shut_down(node, name)
    cluster.wait_until("the device is taken out for as long as it is away",
                       lambda: status_of(node, name)["phase"] == "failed" and "cannot find" in status_of(node, name)["error"])
    return image


def vanishes(node, load, name):
    image = away(node, name)
    load.wait_progress()
    node.wait_volume("v", "degraded")
    cluster.wait_until("the status names the device", lambda: any(
        f"device node1/{name} failed" in p and "replace" in p for p in node.get("/v1/status")["problems"]))
    cluster.wait_until("the metrics call it not ready", lambda: f'blockd_device_ready{{device="node1/{name}"}} 0' in node.get("/metrics"))
    # What a restarted blockd finds is the same.
    node.restart()
    cluster.wait_until("the device is failed after a restart", lambda: status_of(node, name)["phase"] == "failed")
    load.wait_progress()
    os.rename(f"{image}.away", image)
    cluster.wait_until("the device is back", lambda: status_of(node, name)["phase"] == "ready")
    faults.wait_whole(node, "v")
    load.check()


def dead_while_taking_out(node, load, name):
    for point in ("device.take-out.after-mark", "device.take-out.after-unmount"):
        node.terminate()
        node.start(BLOCKD_FAULT=point)
        shut_down(node, name)
        faults.require(node.wait_died() == -signal.SIGKILL, f"at {point}:\n{node.log_tail()}")
        load.wait_progress()
        node.start()
        cluster.wait_until("the device is back", lambda: status_of(node, name)["phase"] == "ready")
        faults.wait_whole(node, "v")
        load.check()


def deleted_without(node):
    """A volume whose device is gone: deleted by force only, and nothing of it is left when the device comes back."""
    node.devices(1, "512MiB", first=4)
    node.create_volume("w", "single", ["d4"])
    node.wait_volume("w")
    node.create_block("w/b", "16MiB", export=False)
    image = away(node, "d4")
    node.call("DELETE", "/v1/blocks/w/b")
    status, body = node.request("DELETE", "/v1/volumes/w")
    faults.require(status == 409, f"the volume's delete with a block in it: {status} {body}")
    node.delete("/v1/volumes/w?force=1")
    faults.require([v["name"] for v in node.items("/v1/volumes")] == ["v"], "the volume is there still")
    cluster.wait_until("its block is gone too", lambda: [b["name"] for b in node.items("/v1/blocks")] == ["v/b"])
    node.terminate()
    os.rename(f"{image}.away", image)
    for point in ("brick.bury.after-rename", "brick.bury.after-data"):
        node.start(wait=False, BLOCKD_FAULT=point)
        node.wait_died()
    node.start()
    cluster.wait_until("the device is back", lambda: status_of(node, "d4")["phase"] == "ready")
    folder = mount_of(node, "d4") / "bricks"
    cluster.wait_until("what the volume left is erased", lambda: not folder.is_dir() or not os.listdir(folder))
    cluster.wait_until("nothing is to be erased any more", lambda: not node.get("/v1/devices/node1/d4")["spec"].get("graves"))
    image = away(node, "d4")
    node.delete("/v1/devices/node1/d4")  # of a disk that is gone, nothing can be wiped
    os.unlink(f"{image}.away")


def main():
    cluster.require_root()
    cluster.require_programs("xfs_io")
    rng = faults.chance()
    with cluster.Node() as node:
        node.replica3("v", "512MiB")
        node.create_block("v/b", "16MiB")
        read_only(node)
        print("read-only", flush=True)
        with Load(node.unix_uri("v/b"), rng) as load:
            for name in ("d1", "d2", "d3"):
                fails_and_returns(node, load, name, shut_down)
            print("shut down", flush=True)
            vanishes(node, load, rng.choice(["d1", "d2", "d3"]))
            print("vanished", flush=True)
            dead_while_taking_out(node, load, "d1")
            print("dead while taking out", flush=True)
        load.verify(node.unix_uri("v/b"))
        faults.require_same_replicas(node, "v/b", load)
        deleted_without(node)
        faults.require_nothing_leaked(node, "after all failures")


if __name__ == "__main__":
    main()
