#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Two volfile servers: a client learns of the second one from the first, and asks it once the first is gone for good."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from engine_node import EngineNode
from node import NODE_MARK, require_programs, require_root, skip, wait_until
from volclient import mounted, replace

OTHER = "127.0.0.2"


def as_node(node):
    """What the tools for mounts know of a node."""
    return types.SimpleNamespace(folder=node.folder, state=node.folder / "state", logs=node.folder / "log",
                                 run=node.folder / "run", volserver_port=node.volserver_port,
                                 environment=lambda: dict(os.environ, **{NODE_MARK: node.mark}))


def start_second(node):
    """The other node's server, which serves the same."""
    text = (node.folder / "state" / "volserver.vol").read_text()
    volfile = node.folder / "second.vol"
    volfile.write_text(text.replace('addresses "127.0.0.1"', f'addresses "{OTHER}"').replace("volserver.sock", "second.sock"))
    process = subprocess.Popen(["/usr/sbin/glusterfsd", "-N", "-f", volfile, "-l", node.folder / "log" / "second.log"],
                               env=as_node(node).environment())

    def serves():
        with socket.socket() as probe:
            return probe.connect_ex((OTHER, node.volserver_port)) == 0

    wait_until("the second server serves", serves)
    return process


def is_connected(address, port):
    """Somebody on this machine has a connection to that server."""
    wanted = f"{int.from_bytes(socket.inet_aton(address), 'little'):08X}:{port:04X}"
    lines = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(words[2] == wanted and words[3] == "01" for words in lines)


def window(point):
    return (point / ".meta" / "graphs" / "active" / "pair-write-behind" / "private").read_text()


def check_failover(node):
    tools = as_node(node)
    with mounted(tools, "/pair") as point:
        assert is_connected("127.0.0.1", node.volserver_port)
        (point / "file").write_bytes(b"before")
        server = node.process("volserver")["pid"]
        node.kill()  # nobody starts the server again
        os.kill(server, signal.SIGKILL)
        wait_until("the mount asks the other server", lambda: is_connected(OTHER, node.volserver_port))
        kind = "    type performance/write-behind\n"
        replace(tools, "pair.mount.vol", kind, f"{kind}    option cache-size 2MB\n")
        wait_until("a change comes from there", lambda: "2097152" in window(point))
        assert (point / "file").read_bytes() == b"before"
    node.start()


def check_port_taken(node):
    """Another program on the port is named in the log; once it is gone, the server serves, without a hand."""
    node.ok("volserver_down")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", node.volserver_port))
        taken.listen()
        node.ok("volserver_up", nodes=node.nodes)
        log = node.folder / "log" / "volserver.log"
        wait_until("the log tells", lambda: f"cannot listen on 127.0.0.1, port {node.volserver_port}" in log.read_text())
    wait_until("the server runs", lambda: node.process("volserver")["state"] == "running")
    with mounted(as_node(node), "/pair") as point:
        assert (point / "file").read_bytes() == b"before"


def main():
    require_root()
    require_programs("glusterfsd", "mount.glusterfs", "glusterfs")
    if not pathlib.Path("/dev/fuse").exists():
        skip("there is no /dev/fuse")
    with EngineNode() as node:
        node.nodes.append({"name": "node2", "uid": "0f3b1c9e-5d2a-4e6f-8a7b-9c0d1e2f3a4b", "spec": {"addresses": [OTHER]}})
        devices = node.devices_up(1)
        volume = node.volume("pair", devices, "single")
        node.ok("volserver_up", nodes=node.nodes)
        node.volume_up(volume)
        node.wait_phase(volume, "online")
        second = start_second(node)
        try:
            check_failover(node)
            node.volume_up(volume)
            node.wait_phase(volume, "online")
        finally:
            second.kill()
            second.wait()
        check_port_taken(node)
        node.ok("volserver_down")
        assert node.process("volserver") is None
        node.ok("volume_erase", volume=volume)
        for device in devices:
            node.ok("device_erase", device=device)


main()
