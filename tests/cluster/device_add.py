#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Which disks are taken and which are refused, whatever lies on them or uses them; stable names; disabled devices; health."""

import contextlib
import os
import pathlib
import shutil
import stat
import struct
import subprocess
import sys
import uuid
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import MIB, refused, require, require_equal

SIZE = 512 * MIB


def run(*words, **keywords):
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True, **keywords).stdout.strip()


@contextlib.contextmanager
def disk(node, name):
    """A loop device of its own, as a disk that blockd did not make."""
    path = node.folder / "images" / f"{name}.disk"
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(SIZE)
    loop = run("losetup", "--find", "--show", path)
    try:
        yield loop
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)
        path.unlink()


def add(path, name="x", **more):
    return {"name": name, "path": str(path), **more}


def must_refuse(node, path, *words, **more):
    """Refused, naming what was found; nothing changed."""
    with open(path, "rb") as file:
        before = file.read(2 * MIB)
    status, body = node.request("POST", "/v1/devices?wait=60", add(path, **more), timeout=120)
    message = body["error"]["message"]
    require_equal(status, 409, f"the status of adding {path}: {message}")
    for word in words:
        require(word in message, f"\"{word}\" is not in \"{message}\"")
    with open(path, "rb") as file:
        require(file.read(2 * MIB) == before, f"{path} was changed")
    require_equal(node.items("/v1/devices"), [], "devices after a refusal")


def write_at(path, offset, data):
    with open(path, "r+b", buffering=0) as file:
        file.seek(offset)
        file.write(data)


def dos_entry(kind, first, count):
    return struct.pack("<B3sB3sII", 0, b"\0\2\0", kind, b"\xff\xff\xff", first, count)


def write_gpt(path):
    """A table of one partition, as UEFI has it: a protective DOS table, a header, 128 entries."""
    last = SIZE // 512 - 1
    entry = struct.pack("<16s16sQQQ72s", uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4").bytes_le, uuid.uuid4().bytes_le,
                        2048, 133119, 0, "data".encode("utf-16le"))
    entries = entry + bytes(128 * 128 - len(entry))

    def header(checksum):
        return struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, checksum, 0, 1, last, 34, last - 33,
                           uuid.UUID(int=7).bytes_le, 2, 128, 128, zlib.crc32(entries))
    write_at(path, 446, dos_entry(0xee, 1, last) + bytes(48) + b"\x55\xaa")
    write_at(path, 512, header(zlib.crc32(header(0))) + bytes(420) + entries)


def contents(node):
    """What lies on a disk."""
    # Magic numbers as the formats put them; libblkid asks for no more of these.
    signatures = {
        "LVM2_member": lambda p: run("pvcreate", "-ff", "-y", p) if shutil.which("pvcreate") else None,
        "swap": lambda p: run("mkswap", p),
        "ext4": lambda p: run("mkfs.ext4", "-q", "-F", p),
        "partition table (gpt)": write_gpt,
        "partition table (dos)": lambda p: write_at(p, 446, dos_entry(0x83, 2048, 131072) + bytes(48) + b"\x55\xaa"),
        "crypto_LUKS": lambda p: write_at(p, 0, b"LUKS\xba\xbe\x00\x01" + bytes(160) + b"0f3b1c9e-5d2a-4e6f-8a7b-9c0d1e2f3a4b\0".ljust(40, b"\0")),
        "another device of blockd's": lambda p: run("mkfs.xfs", "-q", "-f", "-L", "blockd", p),
        "unknown kind": lambda p: write_at(p, 300_000, b"somebody's notes"),
        "data of an unknown kind": lambda p: write_at(p, SIZE - 5000, b"at the very end"),
    }
    for words, make in signatures.items():
        with disk(node, "content") as path:
            if make(path) is None and words == "LVM2_member":
                continue
            must_refuse(node, path, words, "destroy_existing_data")
    with disk(node, "content") as path:
        run("mkfs.ext4", "-q", "-F", path)
        made = node.post("/v1/devices", add(path, destroy_existing_data=True))
        require_equal(made["status"]["phase"], "ready", "a disk whose data may be destroyed")
        require(made["status"]["health"] == "unknown" and made["status"]["health_reason"], f"the health of an image: {made['status']}")
        node.delete("/v1/devices/node1/x")
        # What was blockd's leaves no trace that would be in the way of its next use.
        require_equal(node.post("/v1/devices", add(path))["status"]["phase"], "ready", "a disk that was removed before")
        node.delete("/v1/devices/node1/x")


def uses(node):
    """What the machine does with a disk; no consent takes it away."""
    point = node.folder / "point"
    point.mkdir()
    with disk(node, "used") as path:
        run("mkfs.ext4", "-q", "-F", path)
        run("mount", path, point)
        try:
            must_refuse(node, path, "mounted at", str(point), destroy_existing_data=True)
        finally:
            run("umount", point)
        run("mkswap", "-f", path)
        if subprocess.run(["swapon", path], capture_output=True).returncode == 0:
            try:
                must_refuse(node, path, "swap", destroy_existing_data=True)
            finally:
                run("swapoff", path)
    with disk(node, "exclusive") as path:
        holder = os.open(path, os.O_RDONLY | os.O_EXCL)
        try:
            must_refuse(node, path, "in use", destroy_existing_data=True)
        finally:
            os.close(holder)


def names(node):
    folder = pathlib.Path("/dev/disk/by-id")
    made = [parent for parent in (folder.parent, folder) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with disk(node, "named") as path:
        number = os.stat(path).st_rdev
        plain = pathlib.Path("/dev") / f"blockd-test-{os.getpid()}"
        os.mknod(plain, 0o600 | stat.S_IFBLK, number)
        link = folder / f"ata-BLOCKD_TEST_{os.getpid()}"
        world = folder / f"wwn-0x{os.getpid()}"
        for name in (link, world):
            name.symlink_to(path)
        try:
            text = node.cli("device", "add", "n", plain)
            require(f"{plain} is known as {link} from now on" in text, f"the answer is {text!r}")
            spec = node.get("/v1/devices/node1/n")["spec"]
            require_equal((spec["path"], spec["given_path"]), (str(link), str(plain)), "the recorded names")
            status, body = node.request("POST", "/v1/devices", add(path, "again"))
            require_equal((status, "node1/n" in body["error"]["message"]), (409, True), "the same disk by another name")
            node.delete("/v1/devices/node1/n")
        finally:
            for name in (link, world, plain):
                name.unlink()
            for parent in reversed(made):
                parent.rmdir()


def disabled(node):
    node.devices(3, "512MiB")
    node.cli("device", "disable", "d2")
    refused(node, "POST", "/v1/volumes", {"name": "v", "allow_same_node": True}, 507, "resource_exhausted", "disabled")
    refused(node, "POST", "/v1/volumes", {"name": "v", "template": "single", "devices": ["d2"]}, 409, "failed_precondition", "device enable")
    node.cli("device", "enable", "d2")
    node.create_volume("v", devices=["d1", "d2", "d3"])
    node.wait_volume("v")
    device = node.get("/v1/devices/node1/d2")
    require_equal((device["spec"]["state"], device["status"]["bricks"]), ("enabled", ["v"]), "the device")
    refused(node, "DELETE", "/v1/devices/node1/d2", None, 409, "failed_precondition", "device evacuate")
    done = node.cli_run("device", "evacuate", "d2")
    require(done.returncode != 0 and "no device can take the brick" in done.stderr + done.stdout, f"{done}")
    for wrong, code in (("d2", 400), ("none", 404)):
        status, body = node.request("POST", "/v1/devices/node1/d2/replace", {"target": wrong})
        require_equal(status, code, f"replace by {wrong}: {body}")
    node.delete("/v1/volumes/v")
    for name in ("d1", "d2", "d3"):
        node.delete(f"/v1/devices/node1/{name}")


def main():
    cluster.require_root()
    cluster.require_programs("mkfs.ext4", "mkfs.xfs", "mkswap", "losetup")
    with cluster.Node() as node:
        for part in (contents, uses, names, disabled):
            part(node)
            print(part.__name__, flush=True)


if __name__ == "__main__":
    main()
