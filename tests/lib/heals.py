# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Files that need a heal, made on purpose: a mount that reaches one brick only, and a self-heal daemon that is held still."""

import contextlib
import os
import pathlib
import signal
import socket
import struct
import subprocess

import bricks as plain
import faults
import node as cluster


class Mount:
    """The volume mounted by FUSE with those bricks of each set that are in `reach`, and without quorum: what is written there blames the others."""

    def __init__(self, node, volume, reach=(0, 1, 2)):
        self.node, self.volume, self.reach = node, volume, reach
        label = "".join(map(str, reach))
        self.path = node.folder / f"mount-{volume}-{label}"
        self.volfile = node.folder / f"mount-{volume}-{label}.vol"
        self.log = node.folder / f"mount-{volume}-{label}.log"
        self.process = None

    def __enter__(self):
        self.volfile.write_text(self.volfile_text())
        self.path.mkdir(exist_ok=True)
        self.process = subprocess.Popen(["glusterfs", "-N", "-f", self.volfile, "-l", self.log, "--attribute-timeout=0",
                                         "--entry-timeout=0", self.path], env=self.node.environment())
        try:
            cluster.wait_until(f"{self.path} is mounted", self.mounted)
        except BaseException:
            self.__exit__()
            raise
        return self

    def volfile_text(self):
        spec = self.node.get(f"/v1/volumes/{self.volume}")["spec"]
        bricks, name = spec["bricks"], self.volume
        text = "".join(plain.CLIENT.format(name=name, index=index, ping_timeout=5, event_threads=1,
                                           port=brick["port"] if index % 3 in self.reach else 1)
                       for index, brick in enumerate(bricks))
        text = text.replace("    option ping-timeout", "    option client-bind-insecure off\n    option ping-timeout")
        sets = []
        for first in range(0, len(bricks), 3):
            names = [f"{name}-client-{index}" for index in range(first, first + 3)]
            extra = "    option arbiter-count 1" if spec["template"] == "arbiter" else ""
            sets.append(f"{name}-replicate-{first // 3}")
            text += plain.REPLICATE.format(name=name, pending=",".join(names), clients=" ".join(names), extra=extra).replace(
                f"{name}-replicate-0", sets[-1])
        if len(sets) > 1:
            text += f"volume {name}-dht\n    type cluster/distribute\n    subvolumes {' '.join(sets)}\nend-volume\n"
        if len(self.reach) < 3:
            text = text.replace("option quorum-type auto", "option quorum-type none")
        return text + plain.TOP.format(name=name, below=f"{name}-dht" if len(sets) > 1 else sets[0])

    def mounted(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the mount ended: {self.log.read_text()[-2000:]}")
        with contextlib.suppress(OSError):
            return os.path.ismount(self.path) and self.connected() and os.listdir(self.path) is not None
        return False

    def connected(self):
        """To every brick that it may reach."""
        bricks = self.node.get(f"/v1/volumes/{self.volume}")["spec"]["bricks"]
        return {brick["port"] for index, brick in enumerate(bricks) if index % 3 in self.reach} <= faults.connected_ports(self.process.pid)

    def file(self, name):
        return pathlib.Path(f"{self.path}/{name.lstrip('/')}")

    def at_rest(self):
        """Replicate has closed the changes of all files: what a client leaves open is blamed on nobody."""
        return not any(name for root in roots(self.node, self.volume) for name in os.listdir(root / ".glusterfs/indices/dirty")
                       if not name.startswith("dirty-"))

    def __exit__(self, kind=None, *_):
        if not kind and self.process.poll() is None:
            with contextlib.suppress(AssertionError, OSError):  # what another client left open stays
                cluster.wait_until("", self.at_rest, 5)
        subprocess.run(["umount", "-l", self.path], check=False, stderr=subprocess.DEVNULL)
        self.process.terminate()
        self.process.wait(timeout=cluster.PATIENCE)

    def kill(self):
        """The client dies in the middle of what it does."""
        self.process.kill()
        self.process.wait()
        subprocess.run(["umount", "-l", self.path], check=False)


def healer_pid(node):
    pids = [pid for pid, line in node.processes().items() if "glustershd" in line]
    return pids[0] if pids else 0


@contextlib.contextmanager
def no_healing(node):
    """The self-heal daemon runs and does nothing."""
    pid = cluster.wait_until("the self-heal daemon runs", lambda: healer_pid(node))
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def roots(node, volume):
    return [pathlib.Path(brick["path"]) for brick in node.volume_status(volume)["bricks"]]


def copies(node, volume, name):
    return [root / name.lstrip("/") for root in roots(node, volume)]


def each_alone(node, volume, act):
    """act(mount, index) through a mount of each brick by itself, so that each blames all others."""
    for index in range(3):
        with Mount(node, volume, (index,)) as mount:
            act(mount, index)


def report(node, volume, query=""):
    return node.get(f"/v1/volumes/{volume}/heal{query}")


def listed(node, volume, name):
    """The report's entry of a file, or None."""
    found = [file for file in report(node, volume)["files"] if file["file"] == name]
    return found[0] if found else None


# ---- Orders to the self-heal daemon, past blockd ----

def _opaque(data):
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)


def order_index_heal(node, volume):
    """Goes through the index at once; False when the daemon does not answer."""
    name = f"{volume}-replicate-0"
    pairs = {"xl-op": "1", "count": "1", "xl-0": name, name: "0"}
    dictionary = struct.pack(">I", len(pairs)) + b"".join(
        struct.pack(">II", len(key), len(value) + 1) + key.encode() + b"\0" + value.encode() + b"\0"
        for key, value in pairs.items())
    call = (struct.pack(">10I", 7, 0, 2, 4867634, 2, 3, 0, 0, 0, 0) + _opaque(b"") + struct.pack(">i", 3)
            + _opaque(dictionary) + _opaque(b""))
    try:
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.settimeout(5)
            daemon.connect(str(node.run / "heal.sock"))
            daemon.sendall(struct.pack(">I", 0x80000000 | len(call)) + call)
            return bool(daemon.recv(4))
    except OSError:
        return False
