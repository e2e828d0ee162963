#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# guest: disks-with-names disks=one:1GiB:ata,two:1GiB:nvme,three:1GiB:scsi,four:1GiB:scsi,small:64MiB modules=ata_piix,virtio_scsi,sd_mod,md-mod,raid1,dm-mod,xfs memory=1280
# timeout: 400
"""Disks as a machine has them, by ATA, NVMe and SCSI: what uses one is named when it is refused; names for good; SMART; one that
is pulled out under a verified load and comes back, and one that does not, and is replaced by another."""

import os
import pathlib
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))
import faults
import node as cluster
from load import Load

BY_ID = pathlib.Path("/dev/disk/by-id")


def run(*words):
    done = subprocess.run(list(map(str, words)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    faults.require(done.returncode == 0, f"{' '.join(map(str, words))}: exit {done.returncode}: {done.stdout}")
    return done.stdout


def link_of(serial):
    """The name that udev gives the disk, by its model and serial number."""
    names = [path for path in BY_ID.glob(f"*_{serial}") if not path.name.startswith("dm-")]
    return min(names, default=None)


def kernel_name(serial):
    return os.path.realpath(link_of(serial) or BY_ID / f"virtio-{serial}")


def must_refuse(node, path, *words):
    """Whatever data may be destroyed: refused, with what was found."""
    done = node.cli_run("device", "add", "x", path, "--destroy-existing-data")
    faults.require(done.returncode != 0, f"{path} was taken")
    print(done.stderr.strip(), flush=True)
    for word in words:
        faults.require(word in done.stderr, f"\"{word}\" is not in {done.stderr!r}")
    faults.require(node.items("/v1/devices") == [], f"there is a device after {path} was refused")


def must_name(node, path, word):
    """Refused until its data may be destroyed."""
    done = node.cli_run("device", "add", "x", path)
    print(done.stderr.strip(), flush=True)
    faults.require(done.returncode != 0 and word in done.stderr and "--destroy-existing-data" in done.stderr,
                   f"\"{word}\" or the way out is not in {done.stderr!r}")


def refusals(node):
    disk = kernel_name("four")
    must_refuse(node, "/dev/disk/by-id/virtio-scratch", "is mounted at /scratch")
    must_refuse(node, "/dev/disk/by-id/virtio-root", "virtio-root")
    must_refuse(node, "/dev/disk/by-id/virtio-small", "too small")

    run("blockdev", "--setro", disk)
    must_refuse(node, disk, "read-only")
    run("blockdev", "--setrw", disk)

    run("pvcreate", "-ff", "-y", disk)
    must_name(node, disk, "LVM2_member")
    run("vgcreate", "group", disk)
    run("lvcreate", "-y", "-L", "32m", "-n", "data", "group")
    must_refuse(node, disk, "group-data", "LVM")
    run("vgremove", "-f", "-y", "group")
    run("pvremove", "-ff", "-y", disk)

    # Else udev puts together what was just stopped.
    pathlib.Path("/etc/mdadm/mdadm.conf").write_text("AUTO -all\n")
    run("mdadm", "--create", "/dev/md0", "--run", "--level=1", "--raid-devices=2", disk, "missing")
    must_refuse(node, disk, "RAID /dev/md0")
    run("mdadm", "--stop", "/dev/md0")
    must_name(node, disk, "linux_raid_member")
    run("mdadm", "--zero-superblock", disk)

    with open(disk, "r+b", buffering=0) as file:
        file.seek(446)
        file.write(struct.pack("<B3sB3sII", 0, b"\0\2\0", 0x83, b"\xff\xff\xff", 2048, 131072) + bytes(48) + b"\x55\xaa")
    must_name(node, disk, "partition table (dos)")
    cluster.wait_until("udev has the kernel read the table", lambda: os.path.exists(f"{disk}1"))
    run("udevadm", "settle")
    run("mkfs.ext4", "-q", f"{disk}1")
    run("mount", f"{disk}1", "/mnt")
    must_refuse(node, disk, f"its partition {disk}1 is mounted at /mnt")
    run("umount", "/mnt")
    run("wipefs", "-q", "-a", f"{disk}1")
    run("udevadm", "settle")
    run("wipefs", "-q", "-a", disk)


def names(node):
    """Given by the kernel's name, known by the one that stays."""
    for name, serial in (("a", "one"), ("b", "two"), ("c", "three")):
        given = kernel_name(serial)
        told = node.cli("device", "add", name, given)
        print(told, flush=True)
        path = node.get(f"/v1/devices/node1/{name}")["spec"]["path"]
        faults.require(path.startswith(f"{BY_ID}/") and os.path.realpath(path) == given and serial in path,
                       f"{given} is known as {path}")
    print(node.cli("device", "list"), flush=True)
    for name in ("a", "b"):
        print(node.cli("device", "info", name), flush=True)
        faults.require(node.get(f"/v1/devices/node1/{name}")["status"]["health"] == "ok", "SMART is not read")
    print(node.cli("device", "info", "c"), flush=True)


def phase(node, name):
    return node.get(f"/v1/devices/node1/{name}")["status"]["phase"]


class Slot:
    """Where a SCSI disk is put in."""

    def __init__(self, serial):
        self.serial = serial
        self.device = pathlib.Path(os.path.realpath(f"/sys/block/{os.path.basename(kernel_name(serial))}/device"))
        self.host = next(part for part in self.device.parts if part.startswith("host"))

    def pull(self):
        (self.device / "delete").write_text("1")
        cluster.wait_until("the disk's name is gone", lambda: not link_of(self.serial))

    def put_back(self):
        pathlib.Path(f"/sys/class/scsi_host/{self.host}/scan").write_text("- - -")
        cluster.wait_until("the disk's name is there", lambda: link_of(self.serial))


def pulled(node, load, slot):
    load.wait_progress()
    before = kernel_name("three")
    slot.pull()
    cluster.wait_until("the device is taken out", lambda: phase(node, "c") == "failed")
    load.wait_writes(200)
    print(node.cli("device", "list"), *node.get("/v1/status")["problems"], sep="\n", flush=True)
    slot.put_back()
    cluster.wait_until("the device is back", lambda: phase(node, "c") == "ready")
    print(f"pulled out as {before}, put back as {kernel_name('three')}", flush=True)
    faults.wait_whole(node, "v")
    load.check()


def replaced(node, load, slot):
    slot.pull()
    cluster.wait_until("the device is taken out", lambda: phase(node, "c") == "failed")
    print(node.cli("device", "info", "c"), flush=True)
    print(node.cli("device", "add", "d", link_of("four"), "--destroy-existing-data"), flush=True)
    job = node.call("POST", "/v1/devices/node1/c/replace", {"target": "d"})["name"]
    load.wait_writes(100)

    def state():
        return node.get(f"/v1/jobs/{job}")["status"]
    cluster.wait_until("the replacement has ended", lambda: state()["phase"] not in ("pending", "running"))
    print(node.cli("job", "list"), flush=True)
    faults.require(state()["phase"] == "succeeded", f"{state()}")
    faults.wait_whole(node, "v")
    print(node.cli("device", "remove", "c"), node.cli("device", "list"), flush=True)
    slot.put_back()
    must_name(node, link_of("three"), "another device of blockd's")
    load.wait_writes(100)
    load.check()


def main():
    cluster.require_root()
    cluster.require_programs("smartctl", "mdadm", "pvcreate", "mkfs.ext4")
    run("udevadm", "settle")
    print(*sorted(path.name for path in BY_ID.iterdir()), flush=True)
    rng = faults.chance()
    with cluster.Node(settings={"engine": {"ping-timeout": 20}}) as node:
        refusals(node)
        names(node)
        node.create_volume("v", devices=["a", "b", "c"])
        node.wait_volume("v")
        node.create_block("v/b", "16MiB")
        uri = node.unix_uri("v/b")
        slot = Slot("three")
        with Load(uri, rng) as load:
            pulled(node, load, slot)
            replaced(node, load, slot)
        load.verify(uri)
        faults.require_same_replicas(node, "v/b", load)
        print(f"{load.answered} commands, no error", flush=True)


if __name__ == "__main__":
    main()
