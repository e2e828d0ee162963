#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# guest: quota disks=a:1GiB modules=xfs
# timeout: 240
"""XFS project quotas are enforced on a device as blockd makes and mounts it: what shares with a size rely on."""

import errno
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))
import faults
import node as cluster

LIMIT = 16 << 20
SLACK = 1 << 20  # for what the file system counts beside the data
PROJECT = 4711


def quota(mount, *commands):
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(["xfs_quota", "-x", *words, str(mount)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    faults.require(done.returncode == 0, f"xfs_quota {commands}: {done.stdout}")
    return done.stdout


def fill(path):
    """Bytes that a file takes until the file system refuses more, and the number of the error."""
    written = 0
    try:
        with open(path, "ab", buffering=0) as file:
            while written < 4 * LIMIT:
                written += file.write(bytes(1 << 16))
            os.fsync(file.fileno())
    except OSError as error:
        return written, error.errno
    return written, 0


def check_limit(mount):
    share, other = mount / "share", mount / "other"
    share.mkdir()
    other.mkdir()
    quota(mount, f"project -s -p {share} {PROJECT}", f"limit -p bhard={LIMIT} {PROJECT}")

    written, number = fill(share / "file")
    faults.require(number in (errno.EDQUOT, errno.ENOSPC), f"after {written} bytes: {os.strerror(number)}")
    faults.require(LIMIT - SLACK <= written <= LIMIT, f"{written} bytes were taken under a limit of {LIMIT}")
    # A new file takes the project of its folder; elsewhere nobody is hurt.
    faults.require(fill(share / "second") == (0, number), "a full project takes a second file's data")
    faults.require(fill(other / "file") == (4 * LIMIT, 0), "a full project hurts its neighbour")
    # What a client sees as the size of its share.
    space = os.statvfs(share)
    faults.require(space.f_blocks * space.f_frsize == LIMIT, f"statvfs says {space.f_blocks * space.f_frsize} bytes")

    quota(mount, f"limit -p bhard={2 * LIMIT} {PROJECT}")
    written, _ = fill(share / "second")
    faults.require(LIMIT - SLACK <= written <= LIMIT, f"{written} bytes more were taken under twice the limit")


def main():
    cluster.require_root()
    cluster.require_programs("xfs_quota", "mkfs.xfs")
    with cluster.Node() as node:
        node.post("/v1/devices", {"name": "a", "path": "/dev/disk/by-id/virtio-a"})
        mount = node.folder / "state" / "devices" / "a"
        state = quota(mount, "state -p")
        if "Enforcement: ON" not in state:
            cluster.skip(f"this kernel enforces no project quota: {state.strip()}")
        check_limit(mount)


if __name__ == "__main__":
    main()
