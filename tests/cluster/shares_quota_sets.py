#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# guest: modules=xfs,fuse,loop memory=1536 (XFS project quota)
# timeout: 400
"""Where the kernel has XFS project quota: the size of a share over several sets of bricks, when a set comes, files move, a set goes."""

import errno
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import shares
import shares_quota as quota
from api import MIB, require, require_equal
from node import Node, require_root, skip, wait_until


def write_files(point, numbers):
    """Files of 1 MiB, as many of them as find room; the numbers of those that did."""
    taken = []
    for number in numbers:
        path = point / f"file-{number}"
        try:
            with open(path, "wb", buffering=0) as file:
                file.write(bytes([number]) * MIB)
                os.fsync(file.fileno())
            taken.append(number)
        except OSError as error:
            require(error.errno in (errno.EDQUOT, errno.ENOSPC), f"{path.name} failed with {error}")
            path.unlink(missing_ok=True)
    return taken


def check_files(point, numbers):
    for number in numbers:
        require((point / f"file-{number}").read_bytes() == bytes([number]) * MIB, f"file-{number} holds something else")


def wait_moved(node, job, point):
    """Ends with the job; df shows the share's size meanwhile. (It does not for the moment in which the mount takes over another
    number of sets, nor while their parts change one after the other.)"""
    while (status := node.get(f"/v1/jobs/{job}")["status"])["phase"] in ("pending", "running"):
        wait_until(f"df shows the size of a share whose volume changes: {quota.total(point)}", lambda: abs(quota.total(point) - 32 * MIB) <= MIB)
        time.sleep(0.3)
    require_equal((status["phase"], status.get("error")), ("succeeded", None), f"the job {status}")
    wait_until(f"df shows the size: {quota.total(point)}", lambda: quota.total(point) == 32 * MIB)


def over_sets(node, names):
    """Each set of bricks has its part of the share, and df shows the whole: also when a set comes or goes, and a share that was
    full before is full afterwards."""
    node.create_volume("m", "single", names, size="200MiB", sets=2)
    node.wait_volume("m")
    quota.create(node, "m/a", "32MiB")
    with shares.mounted(node, "m/a") as point:
        require_equal(quota.total(point), 32 * MIB, "what df shows of a share over two sets")
        kept = write_files(point, range(20))
        require_equal(kept, list(range(20)), "the files that found room in a share of 32 MiB")
        node.devices(1, "512MiB", first=3)
        job = node.call("POST", "/v1/volumes/m/expand", {"sets": 1, "allow_same_node": True})["name"]
        # Limits that fell before the files have moved would refuse these.
        kept += write_files(point, range(20, 28))
        require_equal(kept, list(range(28)), "the files that found room while the volume grew")
        wait_moved(node, job, point)
        check_files(point, kept)
        kept += write_files(point, range(28, 36))
        require(29 <= len(kept) <= 32, f"a share of 32 MiB took {len(kept)} files of 1 MiB")
        for number in kept[12:]:
            (point / f"file-{number}").unlink()
        job = node.call("POST", "/v1/volumes/m/shrink", {"set": 0})["name"]
        wait_moved(node, job, point)
        check_files(point, kept[:12])
        # A file lies in one set, and grows as long as that has room: it gets more of what the others have left.
        taken = quota.write_until_full(point / "big")
        node.restart()
        more = quota.write_until_full(point / "big", os.O_APPEND)
        require(more >= 2 * MIB and taken + more <= 20 * MIB, f"20 MiB took {taken} and {more} bytes")
        check_files(point, kept[:12])


def main():
    require_root()
    with Node() as node:
        names = node.devices(2, "512MiB")
        if not all(device["status"]["quota"] for device in node.items("/v1/devices")):
            skip("the kernel has no XFS project quota; a guest has: tests/vm/run tests/cluster/shares_quota_sets.py")
        over_sets(node, names)
    print("ok")


if __name__ == "__main__":
    main()
