#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A node as a whole: stop and start, a start as after a boot, volumes stopped with blocks on them, all templates, IPv6."""

import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
import traces
from api import MIB, export_phases, open_nbd, open_nbd_soon, refused, require, require_equal, wait_equal

VOLUMES = ("s", "r", "a")


def write_data(node):
    """{block: digest} of random data in each block."""
    written = {}
    for block in (f"{volume}/b" for volume in VOLUMES):
        data = os.urandom(2 * MIB)
        disk = open_nbd(node.unix_uri(block))
        for offset in range(0, len(data), 65536):
            disk.pwrite(data[offset:offset + 65536], 4 * MIB + offset)
        disk.flush()
        disk.shutdown()
        written[block] = hashlib.sha256(data).hexdigest()
    return written


def digest_of(node, block):
    """None while the server's clients have not found enough bricks again: that is an error, never wrong data."""
    import nbd
    disk = open_nbd_soon(node.unix_uri(block))
    found = hashlib.sha256()
    try:
        for offset in range(0, 2 * MIB, 65536):
            found.update(disk.pread(65536, 4 * MIB + offset))
        disk.shutdown()
    except nbd.Error:
        return None
    return found.hexdigest()


def check_data(node, written, when):
    for block, digest in written.items():
        found = cluster.wait_until(f"{block} can be read {when}", lambda: digest_of(node, block))
        require_equal(found, digest, f"the digest of {block} {when}")


def wait_all(node):
    for volume in VOLUMES:
        node.wait_volume(volume)


def mounted(node):
    return traces.mounts(node.folder)


def stop_and_start(node, written):
    stopped = node.patch("/v1/nodes/node1", {"state": "stopped"})
    require_equal(stopped["status"]["phase"], "stopped", "the node after its stop")
    others = {pid: line for pid, line in node.processes().items() if pid != node.process.pid}
    require_equal(others, {}, "processes of a stopped node")
    require_equal((mounted(node), traces.loops(node.folder)), ([], []), "mounts and loop devices of a stopped node")
    require_equal({d["status"]["phase"] for d in node.items("/v1/devices")}, {"stopped"}, "the devices of a stopped node")
    wait_equal(lambda: export_phases(node), {"offline"}, "the exports of a stopped node")
    cluster.wait_until("the status says that the node is stopped", lambda: any("node1 is stopped" in p for p in node.get("/v1/status")["problems"]))
    refused(node, "POST", "/v1/blocks", {"volume": "s", "name": "x", "size": "1MiB"}, 503, "unavailable", "volume s")
    refused(node, "POST", "/v1/volumes", {"name": "x", "template": "single", "devices": ["d1"]}, 409, "failed_precondition", "stopped")
    status, _ = node.request("DELETE", "/v1/blocks/s/extra")
    require_equal(status, 202, "a delete on a stopped node")

    node.restart()  # stays stopped over a restart of blockd
    wait_equal(lambda: node.get("/v1/nodes/node1")["status"]["phase"], "stopped", "the node after a restart of its blockd")
    require_equal(mounted(node), [], "mounts after a restart of a stopped node's blockd")
    require_equal(node.patch("/v1/nodes/node1", {"state": "enabled"})["status"]["phase"], "online", "the node after its start")
    wait_all(node)
    check_data(node, written, "after stop and start")
    wait_equal(lambda: export_phases(node), {"live"}, "the exports after the start")
    cluster.wait_until("the delete goes on", lambda: node.request("GET", "/v1/blocks/s/extra")[0] == 404)

    for _ in range(4):  # turned about before it is through
        node.request("PATCH", "/v1/nodes/node1", {"state": "stopped"})
        node.request("PATCH", "/v1/nodes/node1", {"state": "enabled"})
    wait_all(node)
    cluster.wait_until("the node is online", lambda: node.get("/v1/nodes/node1")["status"]["phase"] == "online")
    check_data(node, written, "after stops that were taken back")


def busy_device(node):
    """What keeps a node from stopping is named, and the stop goes on when it is gone."""
    point = mounted(node)[0]
    holder = subprocess.Popen(["sleep", "600"], cwd=point)
    try:
        status, body = node.request("PATCH", "/v1/nodes/node1?wait=3", {"state": "stopped"})
        require_equal((status, body["status"]["phase"]), (202, "stopping"), "a stop that cannot end")
        cluster.wait_until("a device says why", lambda: any(
            point in device["status"].get("error", "") for device in node.items("/v1/devices")))
    finally:
        holder.kill()
        holder.wait()
    cluster.wait_until("the stop goes on", lambda: node.get("/v1/nodes/node1")["status"]["phase"] == "stopped")
    require(not any("error" in d["status"] for d in node.items("/v1/devices")), "an error is left of a stop that ended well")
    node.patch("/v1/nodes/node1", {"state": "enabled"})
    wait_all(node)


def boot(node, written):
    """As a power cut and a boot: no process, no mount, no run folder; then everything by itself."""
    node.kill()
    processes = traces.processes(node.mark, cluster.NODE_MARK)
    traces.kill(processes, signal.SIGKILL)
    cluster.wait_until("all processes are gone", lambda: not traces.processes(node.mark, cluster.NODE_MARK))
    for point in mounted(node):
        traces.unmount(point)
    for device, _ in traces.loops(node.folder):
        subprocess.run(["losetup", "-d", device], check=True)
    shutil.rmtree(node.run)
    node.start()
    wait_all(node)
    check_data(node, written, "after a boot")
    wait_equal(lambda: export_phases(node), {"live"}, "the exports after a boot")
    # What was written while the bricks came up one after the other is healed first.
    cluster.wait_until("nothing is left to say after a boot", lambda: node.get("/v1/status")["problems"] == [])


def volume_states(node, written):
    before = node.brick_pids("r")
    stopped = node.patch("/v1/volumes/r", {"state": "stopped"})
    require_equal(stopped["status"]["phase"], "stopped", "the volume after its stop")
    require(all(cluster.is_gone(pid) for pid in before), "bricks of a stopped volume run")
    require_equal(node.volume_status("s")["phase"], "online", "the other volume")
    check_data(node, {"s/b": written["s/b"]}, "beside a stopped volume")
    status, reply = node.request("GET", "/v1/blocks/r/b")
    require_equal((status, reply["spec"]["size"]), (200, 16 * MIB), "info on a stopped volume")
    node.restart()
    wait_equal(lambda: node.volume_status("r")["phase"], "stopped", "the volume after a restart")
    require_equal(node.patch("/v1/volumes/r", {"state": "stopped"})["status"]["phase"], "stopped", "a stop of a stopped volume")
    node.patch("/v1/volumes/r", {"state": "started"})
    node.wait_volume("r")
    check_data(node, written, "after the volume's start")
    node.create_block("r/new", "1MiB")
    node.delete_block("r/new")


def one_brick_less(node, written):
    """replica3 and arbiter serve with any one brick away, create and delete included; nothing is lost when it returns."""
    for volume in ("r", "a"):
        for index in range(3):
            pid = node.brick_pids(volume)[index]
            os.kill(pid, signal.SIGKILL)
            node.create_block(f"{volume}/k{index}", "1MiB")
            node.delete_block(f"{volume}/k{index}")
            cluster.wait_until("the brick is back", lambda: node.brick_pids(volume)[index] not in (0, pid))
            node.wait_healed(volume)
    check_data(node, written, "after each brick was away")


def ipv6():
    with cluster.Node("six", {"node": {"address": "::1"}, "nbd": {"listen": "::1"}}) as node:
        node.single("v", "512MiB")
        made = node.create_block("v/b", "4MiB", export=False, hosts=["0:0:0:0:0:0:0:1"])
        require_equal(made["status"]["phase"], "ready", "a block on a node with an IPv6 address")
        export = node.get("/v1/exports/six/v/b")
        require_equal(export["status"]["uri"], f"nbd://[::1]:{node.nbd_port}/v/b", "its URI")
        disk = open_nbd(export["status"]["uri"])
        disk.pwrite(b"6" * 512, 0)
        require_equal(bytes(disk.pread(512, 0)), b"6" * 512, "data over IPv6")
        disk.shutdown()
        port = node.get("/v1/volumes/v")["spec"]["bricks"][0]["port"]
        listens = [line for line in pathlib.Path("/proc/net/tcp").read_text().splitlines() if re.search(rf":{port:04X} 0+:0000 0A", line)]
        require_equal(listens, [], "IPv4 listeners of the brick")


def main():
    cluster.require_root()
    ipv6()
    with cluster.Node() as node:
        node.single("s", "512MiB")
        node.replica3("r", "512MiB")
        node.volume("a", "arbiter", "512MiB")
        for volume in VOLUMES:
            node.create_block(f"{volume}/b", "16MiB")
        node.create_block("s/extra", "1MiB")
        written = write_data(node)
        for part in (stop_and_start, busy_device, boot, volume_states, one_brick_less):
            part(*(node, written)[:part.__code__.co_argcount])
            print(part.__name__, flush=True)


if __name__ == "__main__":
    main()
