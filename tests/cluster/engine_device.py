#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Devices: images and real block devices, formatted, mounted, known again, refused when they hold anything else."""

import contextlib
import errno
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from engine_node import IMAGE_SIZE, EngineNode
from node import require_programs, require_root


def run(*argv):
    return subprocess.run([str(a) for a in argv], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def check_image(node):
    device = node.device("image")
    node.ok("device_probe", device=device)
    assert node.ok("device_status", device=device)["status"]["phase"] == "stopped"
    first = node.ok("device_up", device=device)["status"]
    assert first["phase"] == "ready" and first["uuid"] == device["uid"], first
    assert IMAGE_SIZE / 2 < first["free"] <= first["size"] <= IMAGE_SIZE, first
    mount = pathlib.Path(first["mount"])
    assert os.path.ismount(mount) and "reflink=1" in run("xfs_info", mount)
    device["status"] = first

    (mount / "data").write_text("kept")
    again = node.ok("device_up", device=device)["status"]
    assert again["uuid"] == first["uuid"]
    node.ok("device_probe", device=device)

    with open(mount / "data"):
        node.refused(errno.EBUSY, "device_down", device=device)
    node.ok("device_down", device=device)
    node.ok("device_down", device=device)
    assert not mount.exists() and not loops(device), loops(device)
    node.ok("device_up", device=device, destroy=True)  # consent does not format what is ours already
    assert (mount / "data").read_text() == "kept"
    return device


def loops(device):
    return run("losetup", "-n", "-O", "NAME", "-j", device["spec"]["path"])


def check_adoption(node, device):
    """The next engine finds the device mounted, and works on it."""
    node.kill()
    node.start()
    assert node.ok("device_up", device=device)["status"]["phase"] == "ready"
    assert len(loops(device).split()) == 1
    assert node.ok("device_status", device=device)["status"]["phase"] == "ready"


def check_stale(node, device):
    """Where another file system was recorded, nothing is formatted or mounted, with consent or without."""
    other = dict(device, status=dict(device["status"], uuid="11111111-2222-4333-8444-555555555555"))
    node.ok("device_down", device=device)
    assert "right disk" in node.refused(errno.ESTALE, "device_up", device=other, destroy=True)
    gone = dict(device, spec=dict(device["spec"], path=str(node.folder / "gone.img")))
    node.refused(errno.ENOENT, "device_up", device=gone, destroy=True)
    assert not (node.folder / "gone.img").exists()
    node.ok("device_up", device=device)


def check_erase(node, device):
    path = pathlib.Path(device["spec"]["path"])
    node.ok("device_erase", device=device)
    assert not path.exists() and not loops(device)
    node.ok("device_erase", device=device)


def check_foreign(node):
    """Data of others is named and kept, until its owner consents."""
    path = node.folder / "foreign.img"
    for make, words in (
            (["mkfs.ext4", "-q", "-L", "photos", path], ["ext4", "photos"]),
            (["mkfs.xfs", "-q", "-f", path], ["xfs"]),
            (["mkswap", "-q", path], ["swap"])):
        path.unlink(missing_ok=True)
        run("truncate", "-s", IMAGE_SIZE, path)
        run(*make)
        device = node.device("foreign", size=0, path=path)
        before = path.read_bytes()[:1 << 20]
        for call in ("device_probe", "device_up"):
            message = node.refused(errno.EEXIST, call, device=device)
            assert all(word in message for word in words), message
        assert path.read_bytes()[:1 << 20] == before
        node.ok("device_erase", device=device)  # nothing of it is ours
        assert path.read_bytes()[:1 << 20] == before

    # A file is not taken for empty because nobody knows its format.
    path.write_bytes(b"my notes" * 1000)
    os.truncate(path, IMAGE_SIZE)
    node.refused(errno.EEXIST, "device_up", device=device)
    assert path.read_bytes()[:8] == b"my notes"
    node.refused(errno.EEXIST, "device_up", device=node.device("foreign", path=path))

    node.ok("device_up", device=device, destroy=True)
    node.ok("device_erase", device=device)
    assert path.exists(), "a file that blockd did not make was removed"
    path.unlink()


@contextlib.contextmanager
def loop_disk(node, name):
    """A disk of the machine: a loop device that this test, not the engine, attached."""
    file = node.folder / name
    run("truncate", "-s", IMAGE_SIZE, file)
    disk = run("losetup", "-f", "--show", file)
    try:
        yield pathlib.Path(disk)
    finally:
        subprocess.run(["losetup", "-d", disk], check=False)
        file.unlink()


def check_disk(node):
    with loop_disk(node, "disk") as disk:
        device = node.device("disk", size=0, path=disk)
        node.ok("device_probe", device=device)
        mount = node.ok("device_up", device=device)["status"]["mount"]
        assert os.path.ismount(mount)
        other = node.device("twin", size=0, path=disk)
        assert mount in node.refused(errno.EBUSY, "device_probe", device=other)
        assert mount in node.refused(errno.EBUSY, "device_up", device=other, destroy=True)
        node.ok("device_down", device=device)
        node.refused(errno.EEXIST, "device_up", device=other)
        node.ok("device_up", device=device)
        node.ok("device_erase", device=device)
        assert not run("lsblk", "-n", "-o", "FSTYPE", disk)
        node.ok("device_probe", device=other)


def check_bad(node):
    missing = node.device("x", size=0, path=node.folder / "missing")
    node.refused(errno.ENOENT, "device_probe", device=missing)
    node.refused(errno.ENOENT, "device_up", device=missing)
    node.refused(errno.ENOENT, "device_probe", device=node.device("x", path=node.folder / "no" / "folder" / "x.img"))
    node.refused(errno.ENOSPC, "device_probe", device=node.device("x", size=1 << 60))
    node.refused(errno.EINVAL, "device_probe", device=node.device("x", size=100 << 20))
    node.refused(errno.ENOTBLK, "device_up", device=node.device("x", size=0, path="/dev/null"))
    node.refused(errno.EINVAL, "device_up", device=node.device("x", path=f"{node.folder}/`id`.img"))
    node.refused(errno.EINVAL, "device_up", device=dict(node.device("x"), name="node1/../x"))


def main():
    require_root()
    require_programs("mkfs.xfs", "mkfs.ext4", "losetup", "xfs_info")
    with EngineNode() as node:
        device = check_image(node)
        check_adoption(node, device)
        check_stale(node, device)
        check_erase(node, device)
        check_foreign(node)
        check_disk(node)
        check_bad(node)


main()
