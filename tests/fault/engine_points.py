#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""The engine is killed at each of its fault points, and the next one finishes the work; at the end nothing is left."""

import errno
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from engine_node import EngineNode
from node import PATIENCE, require_programs, require_root

XFS_INPROGRESS = 126  # offset in the superblock

# A point, and for points that several steps pass, which time.
UP = ["device.image.after-create", "device.format.before-mkfs", "device.format.after-mkfs", "device.mount.after-mount",
      "volume.up.after-client-volfile", "volume.up.after-served-image", "volume.up.after-brick-mkdir", "volume.up.after-brick-stamp",
      "volume.up.after-brick-folder", "volume.up.after-brick-folder:2", "volume.up.after-volfile",
      "heal.up.after-volfile", "process.start.after-spawn", "process.start.after-spawn:3", "process.start.after-spawn:4"]
DOWN = ["volume.erase.after-stop", "volume.erase.after-rename", "volume.erase.after-rename:2", "volume.erase.after-data",
        "volume.erase.after-bricks", "device.down.after-unmount", "device.erase.after-wipe", "device.erase.after-wipe:3"]


def bring_up(node, devices, volume):
    """The calls that a reconciler makes; False when the engine died on the way."""
    for device in devices:
        if not (answer := node.call("device_up", device=device)):
            return False
        assert answer["result"] == 0, answer
        device["status"] = answer["status"]
    for call, arguments in (("volume_up", {"volume": volume}), ("heal_up", {"volumes": [volume]})):
        if not (answer := node.call(call, nodes=node.nodes, **arguments)):
            return False
        assert answer["result"] == 0, answer
    return True


def take_down(node, devices, volume):
    calls = [("heal_up", {"volumes": [], "nodes": node.nodes}), ("volume_erase", {"volume": volume})]
    calls += [("device_erase", {"device": device}) for device in devices]
    for call, arguments in calls:
        if not (answer := node.call(call, **arguments)):
            return False
        assert answer["result"] == 0, answer
    return True


def wait_death(node):
    """Children are started behind a call's back, so that the engine may die after its answer."""
    node.driver.wait(PATIENCE)
    node.stop()


def bricks_of(node):
    """Pids of the bricks, by their volfiles."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        found += [w for w in words if w.startswith(str(node.folder / "state" / "bricks").encode())]
    return found


def check_up(node, point, number):
    devices = [node.device(f"u{number}-{i}") for i in range(3)]
    volume = node.volume(f"up{number}", devices)
    node.stop()
    node.start(fault=point)
    if bring_up(node, devices, volume):
        assert point.startswith("process."), f"{point} was not passed"
    wait_death(node)
    node.start()
    assert bring_up(node, devices, volume)
    status = node.wait_phase(volume, "online")
    volfiles = bricks_of(node)
    assert len(volfiles) == len(set(volfiles)) == 3, f"{point}: {volfiles}"
    assert all(brick["pid"] for brick in status["bricks"])
    assert take_down(node, devices, volume)
    check_empty(node, point)


def check_down(node, point, number):
    devices = [node.device(f"d{number}-{i}") for i in range(3)]
    volume = node.volume(f"down{number}", devices)
    node.stop()
    node.start(fault=point)
    assert bring_up(node, devices, volume)
    node.wait_phase(volume, "online")
    assert not take_down(node, devices, volume), f"{point} was not passed"
    wait_death(node)
    node.start()
    assert take_down(node, devices, volume)
    check_empty(node, point)


def check_empty(node, point):
    state = node.folder / "state"
    left = [str(p) for folder in ("devices", "bricks", "volfiles", "volserver") for p in (state / folder).rglob("*")]
    left += [str(p) for p in node.folder.glob("*.img")] + bricks_of(node)
    left += [str(p) for p in (node.folder / "run" / "processes").iterdir()]
    assert not left, f"{point}: {left}"


def check_half_format(node):
    """A format that was cut short is done again; but never on a device that once was ready."""
    device = node.device("half")
    path = pathlib.Path(device["spec"]["path"])
    status = node.ok("device_up", device=device)["status"]
    (pathlib.Path(status["mount"]) / "old").touch()
    node.ok("device_down", device=device)
    with open(path, "r+b") as file:
        file.seek(XFS_INPROGRESS)
        file.write(b"\1")
    node.refused(errno.ESTALE, "device_up", device=dict(device, status=status), destroy=True)
    node.ok("device_up", device=device)
    assert not (pathlib.Path(status["mount"]) / "old").exists()
    node.ok("device_erase", device=device)


def check_lost_folder(node):
    """A brick folder that vanished is not made anew: an empty copy would pass for a good one."""
    devices = node.devices_up(1)
    volume = node.volume("lost", devices, "single")
    node.volume_up(volume)
    brick = pathlib.Path(node.wait_phase(volume, "online")["bricks"][0]["path"])
    node.ok("volume_down", volume=volume)
    brick.rename(brick.with_name("elsewhere"))
    assert str(brick) in node.refused(errno.ESTALE, "volume_up", volume=volume, nodes=node.nodes)
    assert not brick.exists()
    brick.with_name("elsewhere").rename(brick)
    node.volume_up(volume)

    other = dict(volume, uid="0f3b1c9e-5d2a-4e6f-8a7b-9c0d1e2f3a4b")
    node.refused(errno.ESTALE, "volume_up", volume=other, nodes=node.nodes)
    node.refused(errno.ESTALE, "volume_erase", volume=other)
    assert brick.is_dir()
    node.volume_up(volume)
    node.wait_phase(volume, "online")
    assert take_down(node, devices, volume)


def main():
    require_root()
    require_programs("glusterfsd", "glusterfs", "mkfs.xfs")
    with EngineNode() as node:
        for number, point in enumerate(UP):
            check_up(node, point, number)
        for number, point in enumerate(DOWN):
            check_down(node, point, number)
        check_half_format(node)
        check_lost_folder(node)
        check_empty(node, "the end")


main()
