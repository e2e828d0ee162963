#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A replicated volume on real bricks: up, a killed brick, an engine that is killed and adopts, heal, down, erase."""

import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from engine_node import EngineNode
from node import require_programs, require_root, wait_until


def pids(status):
    return [brick["pid"] for brick in status["bricks"]]


def is_alive(pid):
    """A zombie is not: what an engine that was killed had started is left to init."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def check_writable(node, volume):
    with node.fuse(volume) as point:
        (point / "file").write_bytes(b"x" * 100000)
        os.sync()
    for brick in node.status(volume)["bricks"]:
        assert (pathlib.Path(brick["path"]) / "file").read_bytes() == b"x" * 100000


def check_killed_brick(node, volume):
    """A brick that is killed is back, three times in a row: 5 seconds are promised, the rest is for a busy machine."""
    for _ in range(3):
        victim = node.wait_phase(volume, "online")["bricks"][1]["pid"]
        os.kill(victim, signal.SIGKILL)
        wait_until("the killed brick serves again",
                   lambda: (b := node.status(volume)["bricks"][1])["state"] == "online" and b["pid"] != victim, 30)


def check_adoption(node, volume):
    """What ran under an engine that was killed goes on, under the next one, with the same pids; and is guarded there."""
    node.wait_phase(volume, "online")
    before, heal = pids(node.status(volume)), node.process("self-heal")["pid"]
    node.kill()
    node.start()
    node.volume_up(volume)
    node.heal_up(volume)
    assert pids(node.wait_phase(volume, "online")) == before
    assert wait_until("self-heal is found", lambda: node.process("self-heal")["pid"]) == heal
    os.kill(before[0], signal.SIGKILL)
    wait_until("an adopted brick is guarded too",
               lambda: (b := node.status(volume)["bricks"][0])["state"] == "online" and b["pid"] != before[0], 30)


def check_heal(node, volume):
    """Writes that a stopped brick missed are counted as pending, and healed soon after its return."""
    victim = node.wait_phase(volume, "online")["bricks"][2]
    os.kill(victim["pid"], signal.SIGSTOP)
    with node.fuse(volume) as point:
        with open(point / "behind", "wb", buffering=0) as file:
            file.write(b"1" * 65536)
            os.fsync(file.fileno())
        status = wait_until("pending heals are counted", lambda: (s := node.status(volume))["heal_pending"] and s)
        assert status["phase"] == "degraded", status
    os.kill(victim["pid"], signal.SIGCONT)
    node.wait_phase(volume, "online")
    assert node.status(volume)["heal_pending"] == 0
    assert (pathlib.Path(victim["path"]) / "behind").read_bytes() == b"1" * 65536


def check_down(node, volume):
    last = pids(node.status(volume))
    node.ok("volume_down", volume=volume)
    assert not any(is_alive(pid) for pid in last)
    stopped = dict(volume, spec=dict(volume["spec"], state="stopped"))
    assert node.status(stopped)["phase"] == "stopped"
    assert node.status(volume)["phase"] == "offline"
    node.ok("volume_down", volume=volume)
    node.volume_up(volume)
    node.wait_phase(volume, "online")


def check_erase(node, volume, devices):
    for device in devices:
        assert "brick" in node.refused(16, "device_down", device=device)
    node.heal_up()
    assert node.process("self-heal") is None
    node.ok("volume_erase", volume=volume)
    node.ok("volume_erase", volume=volume)
    state = node.folder / "state"
    left = [str(p.relative_to(state)) for p in state.rglob("*") if volume["name"] in p.name]
    assert not left, left
    assert not list((node.folder / "log").glob("brick.*"))
    for device in devices:
        node.ok("device_erase", device=device)
    assert not list(node.folder.glob("*.img"))


def main():
    require_root()
    require_programs("glusterfsd", "glusterfs", "mkfs.xfs")
    with EngineNode() as node:
        started = time.monotonic()
        devices = node.devices_up(3)
        volume = node.volume("cellar", devices)
        node.volume_up(volume)
        node.volume_up(volume)
        node.heal_up(volume)
        node.wait_phase(volume, "online")
        print(f"online after {time.monotonic() - started:.1f} s")
        for check in (check_writable, check_killed_brick, check_adoption, check_heal, check_down):
            check(node, volume)
            print(f"{check.__name__}: {time.monotonic() - started:.1f} s", flush=True)
        check_erase(node, volume, devices)
    print(f"done after {time.monotonic() - started:.1f} s")


main()
