#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# guest: modules=xfs,fuse,loop memory=1536 (XFS project quota)
# timeout: 400
"""Where the kernel has XFS project quota: a share's size is what df shows, what ends its growth and nobody else's, what can be
raised and lowered, and what counts again on a brick that lost the marks."""

import errno
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import shares
from api import MIB, refused, require, require_equal
from node import Node, require_root, skip, wait_until


def create(node, path, size):
    volume, name = path.split("/")
    return node.post("/v1/shares", {"volume": volume, "name": name, "size": size})


def write_until_full(path, flags=0):
    """How many bytes the file could take; the error must say that there is no room.

    A client answers a write before the bricks have it: what counts is what was synced.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    done = 0
    try:
        while True:
            written = os.write(fd, bytes(MIB))
            os.fsync(fd)
            done += written
    except OSError as error:
        require(error.errno in (errno.EDQUOT, errno.ENOSPC), f"the write past the size failed with {error}")
    try:
        os.close(fd)
    except OSError as error:
        require(error.errno in (errno.EDQUOT, errno.ENOSPC), f"the close failed with {error}")
    return done


def total(point):
    space = os.statvfs(point)
    return space.f_blocks * space.f_frsize


def available(point):
    space = os.statvfs(point)
    return space.f_bavail * space.f_frsize


def replicated(node):
    create(node, "v/a", "64MiB")
    create(node, "v/b", "32MiB")
    with shares.mounted(node, "v/a") as a, shares.mounted(node, "v/b") as b:
        require_equal((total(a), total(b)), (64 * MIB, 32 * MIB), "what df shows of the shares")
        (b / "before").write_bytes(bytes(MIB))
        taken = write_until_full(a / "big")
        require(60 * MIB <= taken <= 64 * MIB, f"a share of 64 MiB took {taken} bytes")
        wait_until("df shows no room", lambda: available(a) < 2 * MIB)
        used = node.get("/v1/shares/v/a")["status"]["used"]
        require(60 * MIB <= used <= 64 * MIB, f"{used} bytes are said to be used")
        require("MiB" in node.cli("share", "list"), "the list does not show the use")
        # Nobody else is hurt.
        (b / "beside").write_bytes(bytes(4 * MIB))
        require_equal((b / "beside").stat().st_size, 4 * MIB, "the size of a file in another share")
        # Lower than what is used: refused. Higher: room at once, on the mount that is there.
        refused(node, "PATCH", "/v1/shares/v/a", {"size": "32MiB"}, 400, "invalid_argument", "delete files first")
        node.cli("share", "resize", "v/a", "96MiB")
        require_equal(total(a), 96 * MIB, "what df shows after the growth")
        taken = write_until_full(a / "more")
        require(28 * MIB <= taken <= 32 * MIB, f"32 MiB more took {taken} bytes")
        os.remove(a / "big")
        wait_until("removed files are not counted", lambda: node.get("/v1/shares/v/a")["status"]["used"] < 40 * MIB)
        node.cli("share", "resize", "v/a", "48MiB")
        require_equal(total(a), 48 * MIB, "what df shows after the shrink")

        # Files that a heal brought without their project id count again, and so does the limit.
        project = node.get("/v1/shares/v/a")["spec"]["project"]
        folder = shares.folders(node, "v", "a")[1]
        for path in [folder, *folder.rglob("*")]:
            shares.set_attributes(path, 0, 0)
        node.restart()
        wait_until("all files of a brick count again", lambda: not shares.uncounted(folder, project))
        require_equal(total(a), 48 * MIB, "what df shows after a restart")
        taken = write_until_full(a / "again")
        require(12 * MIB <= taken <= 16 * MIB, f"16 MiB took {taken} bytes after a restart")
    node.delete("/v1/shares/v/a")
    shares.wait_removed(node)
    create(node, "v/c", "16MiB")
    with shares.mounted(node, "v/c") as point:
        taken = write_until_full(point / "file")
        require(14 * MIB <= taken <= 16 * MIB, f"a share of 16 MiB took {taken} bytes")
    done = subprocess.run(["xfs_quota", "-x", "-c", "report -pN", node.volume_status("v")["bricks"][0]["path"].split("/bricks")[0]],
                          capture_output=True, text=True, check=False)
    print(done.stdout, flush=True)


def kept_over_stop(node):
    """The limit is there again after all was unmounted."""
    node.patch(f"/v1/nodes/{node.name}", {"state": "stopped"})
    node.patch(f"/v1/nodes/{node.name}", {"state": "enabled"})
    node.wait_volume("v")
    with shares.mounted(node, "v/b") as point:
        wait_until("df shows the size", lambda: total(point) == 32 * MIB)
        taken = write_until_full(point / "rest")
        require(24 * MIB <= taken <= 27 * MIB, f"27 MiB took {taken} bytes")


def fragments(node):
    """What a brick may hold is a part of the size; clients see the whole."""
    node.create_volume("e", "disperse", node.devices(3, "512MiB", first=4), data=2, redundancy=1)
    node.wait_volume("e")
    create(node, "e/a", "32MiB")
    with shares.mounted(node, "e/a") as point:
        require_equal(total(point), 32 * MIB, "what df shows of a share in fragments")
        taken = write_until_full(point / "file")
        require(29 * MIB <= taken <= 32 * MIB, f"a share of 32 MiB in fragments took {taken} bytes")


def main():
    require_root()
    with Node() as node:
        node.replica3("v", "512MiB")
        if not all(device["status"]["quota"] for device in node.items("/v1/devices")):
            skip("the kernel has no XFS project quota; a guest has: tests/vm/run tests/cluster/shares_quota.py")
        replicated(node)
        print("ok replicated", flush=True)
        kept_over_stop(node)
        print("ok kept over a stop", flush=True)
        fragments(node)
        print("ok fragments", flush=True)


if __name__ == "__main__":
    main()
