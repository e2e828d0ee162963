#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What volfiles promise, on real bricks: the templates, IPv6, who may connect, where bricks listen, what a failure says."""

import ctypes
import multiprocessing
import os
import pathlib
import shutil
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from engine_node import EngineNode
from node import require_programs, require_root, wait_until

PAYLOAD = b"block" * 20000
NOBODY = 65534


def check_single(node, devices):
    volume = node.volume("alone", devices[:1], "single")
    node.volume_up(volume)
    status = node.wait_phase(volume, "online")
    device = node.ok("device_status", device=devices[0])["status"]
    assert status["size"] == device["size"] and status["free"] > 0, (status, device)
    with node.fuse(volume) as point:
        (point / "file").write_bytes(PAYLOAD)
        assert (point / "file").read_bytes() == PAYLOAD
    node.heal_up(volume)
    assert node.process("self-heal") is None, "there is nothing to heal from"
    node.ok("volume_erase", volume=volume)


def check_arbiter(node, devices):
    """The third brick knows of the file, and holds none of its bytes; any brick may be missing."""
    volume = node.volume("witnessed", devices, "arbiter")
    node.volume_up(volume)
    node.heal_up(volume)
    bricks = [pathlib.Path(b["path"]) for b in node.wait_phase(volume, "online")["bricks"]]
    with node.fuse(volume) as point:
        (point / "file").write_bytes(PAYLOAD)
        assert (point / "file").read_bytes() == PAYLOAD
    assert [(b / "file").stat().st_size for b in bricks] == [len(PAYLOAD), len(PAYLOAD), 0]
    node.heal_up()
    node.ok("volume_erase", volume=volume)


def check_ipv6(node, devices):
    table = pathlib.Path("/proc/net/if_inet6")
    if not table.exists() or "0" * 31 + "1 " not in table.read_text():
        print("IPv6: no loopback address here, left out")
        return
    node.nodes[0]["spec"]["addresses"] = ["0:0::1"]
    volume = node.volume("six", devices)
    node.volume_up(volume)
    status = node.wait_phase(volume, "online")
    for brick in status["bricks"]:
        assert listeners(brick["port"]) == {"::1"}, listeners(brick["port"])
    with node.fuse(volume) as point:
        (point / "file").write_bytes(PAYLOAD)
    assert all((pathlib.Path(b["path"]) / "file").stat().st_size == len(PAYLOAD) for b in status["bricks"])
    node.ok("volume_erase", volume=volume)
    node.nodes[0]["spec"]["addresses"] = ["127.0.0.1"]


def listeners(port):
    """The addresses on which a TCP port listens."""
    found = set()
    for table, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            address, local_port = line.split()[1].split(":")
            if line.split()[3] == "0A" and int(local_port, 16) == port:
                words = [bytes.fromhex(address[i:i + 8])[::-1] for i in range(0, len(address), 8)]
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found


def connect(volfile, log, uid, result):
    """A client of the block servers' kind, as a user of this machine."""
    os.setgid(uid)
    os.setuid(uid)
    gfapi = ctypes.CDLL("libgfapi.so.0")
    gfapi.glfs_new.restype = ctypes.c_void_p
    fs = ctypes.c_void_p(gfapi.glfs_new(b"x"))
    gfapi.glfs_set_volfile(fs, str(volfile).encode())
    gfapi.glfs_set_logging(fs, str(log).encode(), 7)
    good = gfapi.glfs_init(fs) == 0
    buffer = ctypes.create_string_buffer(1024)
    good = good and gfapi.glfs_stat(fs, b"/", buffer) == 0
    result.value = 1 if good else 2
    os._exit(0)


def connects(volfile, log, uid):
    result = multiprocessing.Value("i", 0)
    client = multiprocessing.Process(target=connect, args=(volfile, log, uid, result))
    client.start()
    client.join(15)
    client.kill()  # a client that is refused may try for ever
    client.join()
    return result.value == 1


def check_admission(node, devices):
    """Bricks listen where the node has its address only, and serve root only: they would believe any user id."""
    volume = node.volume("guarded", devices)
    node.volume_up(volume)
    for brick in node.wait_phase(volume, "online")["bricks"]:
        assert listeners(brick["port"]) == {"127.0.0.1"}, listeners(brick["port"])
    os.chmod(node.folder, 0o755)
    volfile = node.folder / "copy.vol"
    shutil.copy(node.client_volfile(volume), volfile)
    os.chmod(volfile, 0o644)
    log = node.folder / "nobody.log"
    log.touch()
    os.chmod(log, 0o666)
    assert connects(volfile, log, 0)
    assert not connects(volfile, log, NOBODY)
    node.ok("volume_erase", volume=volume)


def check_failure(node, devices):
    """A brick that cannot start is called failed, with the reason, and comes up by itself once it can."""
    volume = node.volume("blocked", devices)
    port = volume["spec"]["bricks"][1]["port"]
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        node.volume_up(volume)
        brick = wait_until("a failed brick", lambda: (b := node.status(volume)["bricks"][1])["state"] == "failed" and b)
        assert "use" in brick["error"].lower(), brick
        status = node.wait_phase(volume, "degraded")
        assert brick["device"] in status["error"], status
    node.wait_phase(volume, "online")
    node.ok("volume_erase", volume=volume)


def main():
    require_root()
    require_programs("glusterfsd", "glusterfs", "mkfs.xfs")
    with EngineNode() as node:
        devices = node.devices_up(3)
        for check in (check_single, check_arbiter, check_ipv6, check_admission, check_failure):
            check(node, devices)
            print(check.__name__, flush=True)
        for device in devices:
            node.ok("device_erase", device=device)


main()
