# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Shares in tests: made without a quota where the kernel has none, mounted and unmounted by the command line."""

import contextlib
import fcntl
import os
import pathlib
import struct
import subprocess

import node as cluster


def create(node, path, size="16MiB", **more):
    volume, name = path.split("/")
    return node.post("/v1/shares", {"volume": volume, "name": name, "size": size, "no_quota": True, **more})


def mount(node, path, *options):
    """The folder where it is mounted from now on; each call has one of its own."""
    number = len(list(node.folder.glob("mnt-*")))
    point = node.folder / f"mnt-{number}"
    point.mkdir()
    node.cli("share", "mount", path, point, *options, "--config", node.config)
    return point


def unmount(node, point):
    node.cli("share", "unmount", point, "--config", node.config)
    point.rmdir()


@contextlib.contextmanager
def mounted(node, path, *options):
    point = mount(node, path, *options)
    try:
        yield point
    finally:
        if os.path.ismount(point):
            # A test that fails leaves files open.
            subprocess.run(["umount", "-l", point], check=False)


def clients(node):
    """Pids of the node's FUSE clients."""
    return [pid for pid, line in node.processes().items() if "--process-name=fuse" in line]


def wait_connected(node, volume):
    """Each FUSE client is connected to each brick: from here on one of them may die."""
    import faults
    ports = {brick["port"] for brick in node.volume_status(volume)["bricks"]}
    cluster.wait_until("all mounts are connected to all bricks",
                       lambda: all(ports <= faults.connected_ports(pid) for pid in clients(node)))


def wait_removed(node):
    """No removal is under way."""
    cluster.wait_until("all removals have ended", lambda: not [
        job for job in node.items("/v1/jobs")
        if job["spec"]["kind"] == "remove" and job["status"]["phase"] in ("pending", "running")])


def folders(node, volume, name):
    """The share's folder on each brick."""
    path = node.get(f"/v1/shares/{volume}/{name}")["status"]["path"]
    return [pathlib.Path(brick["path"] + path) for brick in node.volume_status(volume)["bricks"]]


FSGETXATTR = 0x801C581F
FSSETXATTR = 0x401C5820
ATTRIBUTES = struct.Struct("=IIIII8x")
INHERIT = 0x200


def attributes(path):
    """(flags, project id) of a file or folder on a brick."""
    with open_any(path) as fd:
        flags, _, _, project, _ = ATTRIBUTES.unpack(fcntl.ioctl(fd, FSGETXATTR, bytes(ATTRIBUTES.size)))
        return flags, project


def set_attributes(path, flags, project):
    with open_any(path) as fd:
        fcntl.ioctl(fd, FSSETXATTR, ATTRIBUTES.pack(flags, 0, 0, project, 0))


@contextlib.contextmanager
def open_any(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def uncounted(top, project):
    """What below the folder of a share on a brick does not count for its project, the folder itself included."""
    found = []
    for folder, folders, files in os.walk(top):
        for path in [folder, *(os.path.join(folder, name) for name in files)]:
            if os.path.islink(path) or not (os.path.isfile(path) or os.path.isdir(path)):
                continue
            flags, number = attributes(path)
            if number != project or (os.path.isdir(path) and not flags & INHERIT):
                found.append(path)
    return found
