#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# guest: kernel-nbd disks=a:1GiB,b:1GiB,c:1GiB modules=nbd,xfs memory=1280
# timeout: 300
"""The kernel's NBD client on a block of three bricks, each on a disk of its own: file systems are made on it and used, while
blockd-nbd and a brick are killed with SIGKILL. Every file that was synced is there afterwards."""

import fcntl
import hashlib
import os
import pathlib
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))
import faults
import node as cluster
from kernel_nbd import KernelNbd


def run(*argv):
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    faults.require(done.returncode == 0, f"{' '.join(map(str, argv))}: exit {done.returncode}: {done.stdout}")
    return done.stdout


BLKFLSBUF = 0x1261
# By default the log alone takes 64 MiB, which mkfs writes and a mount and xfs_repair read: minutes for a guest on a busy machine.
SMALL_XFS = ["--unsupported", "-d", "agcount=2", "-l", "size=8m"]


class Writer(threading.Thread):
    """Writes files and syncs each; what it has synced, it knows."""

    def __init__(self, folder, rng):
        super().__init__(daemon=True)
        self.folder, self.rng = folder, rng
        self.synced = {}
        self.ending = threading.Event()
        self.error = None

    def run(self):
        try:
            while not self.ending.is_set():
                name = f"f{len(self.synced)}"
                data = self.rng.randbytes(self.rng.randrange(1, 200_000))
                with open(self.folder / name, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                self.synced[name] = hashlib.sha256(data).hexdigest()
        except OSError as error:
            self.error = error

    def wait_more(self, count=10):
        wanted = len(self.synced) + count
        cluster.wait_until(f"{count} more files are synced", lambda: len(self.synced) >= wanted or self.error)
        faults.require(not self.error, f"file {len(self.synced)}: {self.error}")

    def stop(self):
        self.ending.set()
        self.join(cluster.PATIENCE)
        faults.require(not self.is_alive() and not self.error, f"the writer hangs or failed: {self.error}")


def require_files(folder, digests):
    wrong = [name for name, digest in digests.items() if faults.digest(folder / name) != digest]
    faults.require(not wrong, f"of {len(digests)} synced files these are not what was written: {wrong}")


def kill_server(node, disk):
    pid, reconnections = node.nbd_pid(), disk.reconnections
    faults.signal_all([pid])
    faults.wait_gone([pid])
    cluster.wait_until("the disk is connected again", lambda: disk.reconnections > reconnections)


def kill_brick(node):
    pid = node.brick_pids("v")[0]
    faults.signal_all([pid])
    faults.wait_gone([pid])
    cluster.wait_until("the brick is back", lambda: node.brick_pids("v")[0] not in (0, pid))


def check_faults(node, folder, rng):
    """The server and a brick die under a file system's load, and nothing fails."""
    with KernelNbd(node.nbd_socket, "v/ext4") as disk:
        run("mkfs.ext4", "-q", disk.path)
        run("mount", disk.path, folder)
        writer = Writer(folder, rng)
        writer.start()
        writer.wait_more()
        kill_server(node, disk)
        writer.wait_more()
        kill_brick(node)
        writer.wait_more()
        writer.stop()
        run("umount", folder)
    print(f"{len(writer.synced)} files were synced", flush=True)

    # Another attachment reads from the block, not from this kernel's memory.
    with KernelNbd(node.nbd_socket, "v/ext4", index=1) as disk:
        run("e2fsck", "-fn", disk.path)
        run("mount", disk.path, folder)
        require_files(folder, writer.synced)
        run("umount", folder)


def check_plain_client(node, folder, rng):
    """nbd-client as the manual page says it: XFS, a discard, and an error, not a hang, once the export is gone for good."""
    device = "/dev/nbd2"
    connect = ["nbd-client", "-timeout", "120", "-unix", node.nbd_socket, "-N", "v/xfs", device]
    run(*connect)
    run("mkfs.xfs", "-q", *SMALL_XFS, device)
    run("mount", device, folder)
    data = rng.randbytes(1 << 20)
    (folder / "file").write_bytes(data)
    (folder / "gone").write_bytes(data)
    (folder / "gone").unlink()
    run("fstrim", folder)
    run("umount", folder)
    run("nbd-client", "-d", device)
    run(*connect)
    run("xfs_repair", "-n", device)
    run("mount", "-o", "ro", device, folder)
    faults.require((folder / "file").read_bytes() == data, "the file is not what was written")
    run("umount", folder)

    node.delete(f"/v1/exports/{node.name}/v/xfs?force=true")
    with open(device, "rb", buffering=0) as file:
        fcntl.ioctl(file, BLKFLSBUF)
        try:
            file.read(4096)
        except OSError as error:
            print(f"without its export: {error}", flush=True)
        else:
            raise AssertionError("a block was read through an export that was deleted")
    run("nbd-client", "-d", device)


def main():
    cluster.require_root()
    cluster.require_programs("nbd-client", "mkfs.xfs", "mkfs.ext4")
    if not os.path.exists("/sys/block/nbd0"):
        cluster.skip("this kernel has no NBD client")
    rng = faults.chance()
    with cluster.Node() as node:
        folder = node.folder / "mnt"
        folder.mkdir()
        for name in ("a", "b", "c"):
            node.post("/v1/devices", {"name": name, "path": f"/dev/disk/by-id/virtio-{name}"})
        node.create_volume("v", devices=["a", "b", "c"])
        node.wait_volume("v")
        node.create_block("v/xfs", "64MiB")
        node.create_block("v/ext4", "64MiB")
        try:
            check_faults(node, folder, rng)
            check_plain_client(node, folder, rng)
            faults.require_same_replicas(node, "v/ext4")
        finally:
            subprocess.run(["umount", "-l", folder], stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
