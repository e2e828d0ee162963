#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 200
"""Who may mount which share: one address is admitted to one share, not to another and not to the volume, and is cut off when
it is taken from the list; the node's own mounts go on."""

import contextlib
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import shares
from api import require, require_equal
from node import Node, require_root, skip, wait_until
from volclient import STRANGER, stranger

NO_CACHE = ("--attribute-timeout=0", "--entry-timeout=0")


def reads(path):
    with contextlib.suppress(OSError):
        return path.read_text()
    return None


def is_refused(point, number=[0]):
    number[0] += 1
    try:
        (point / f"try-{number[0]}").touch()
    except OSError:
        return True
    return False


def admitted(node, folder, name):
    with stranger(node, *([f"--subdir-mount={folder}"] if folder else []), *NO_CACHE) as point:
        return reads(point / name) is not None


def main():
    require_root()
    if not os.path.exists("/dev/fuse"):
        skip("needs FUSE")
    with Node() as node:
        node.replica3("v", "512MiB")
        mounts = {}
        for name in ("a", "b"):
            shares.create(node, f"v/{name}")
            mounts[name] = shares.mount(node, f"v/{name}")
            (mounts[name] / "file").write_text(name)
        bricks = node.brick_pids("v")
        for folder, name in (("/shares/a", "file"), ("/shares/b", "file"), (None, "shares/a/file")):
            require(not admitted(node, folder, name), f"{STRANGER} may use {folder} without being on a list")

        node.cli("share", "access", "v/a", f"10.1.0.0/16,{STRANGER}")
        require(admitted(node, "/shares/a", "file"), "the answer came before the bricks admit it to the share")
        for folder, name in (("/shares/b", "file"), (None, "shares/a/file"), ("/shares", "a/file")):
            require(not admitted(node, folder, name), f"{STRANGER} may use {folder}, and is on the list of v/a only")
        for name, point in mounts.items():
            (point / "more").write_text("x")
        # A share that was made while another has a list: it is answered when the bricks know it.
        for number in range(4):
            shares.create(node, f"v/c{number}")
            point = shares.mount(node, f"v/c{number}")
            require_equal(os.listdir(point), [], "a new share")
            shares.unmount(node, point)
            require(not admitted(node, f"/shares/c{number}", ""), f"{STRANGER} may use a share without being on its list")

        with stranger(node, "--subdir-mount=/shares/a", *NO_CACHE) as point:
            wait_until("it is admitted again", lambda: reads(point / "file") == "a")
            node.cli("share", "access", "v/a", "none")
            wait_until("it is cut off", lambda: is_refused(point))
        require(not admitted(node, "/shares/a", "file"), "it is admitted after it was taken from the list")
        for name, point in mounts.items():
            require_equal((point / "file").read_text(), name, "a file of a share")
            shares.unmount(node, point)
        require_equal(node.brick_pids("v"), bricks, "the bricks' processes")


if __name__ == "__main__":
    main()
