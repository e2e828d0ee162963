#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What a mount says of a folder right after a change in it: what the bricks say, whatever the change was, with changes to the
folder itself in between, with many at once, and with another mount's."""

import ctypes
import os
import pathlib
import struct
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import shares
from api import require, require_equal
from node import Node, require_root, skip


FORCE_SYNC, BASIC_STATS = 0x2000, 0x7FF
LIBC = ctypes.CDLL(None, use_errno=True)


def asked(path, flags):
    """What statx(2) says of it: mode, owner, size, times and so on. With FORCE_SYNC the kernel keeps nothing."""
    reply = ctypes.create_string_buffer(256)
    if LIBC.statx(-100, os.fsencode(path), flags, BASIC_STATS, reply) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    links, owner, group, mode = struct.unpack_from("=IIIH", reply, 16)
    inode, size, blocks = struct.unpack_from("=QQQ", reply, 32)
    return {"mode": oct(mode), "links": links, "owner": owner, "group": group, "inode": inode, "size": size,
            "blocks": blocks, "changed": struct.unpack_from("=qI", reply, 96), "modified": struct.unpack_from("=qI", reply, 112)}


def require_told_right(path, what):
    """What comes first may have been kept; what comes second is from the bricks."""
    require_equal(asked(path, 0), asked(path, FORCE_SYNC), what)


def changes(folder):
    """Each kind of change in a folder, by name; they follow each other."""
    a, b = folder / "a", folder / "b"
    return [("create", lambda: a.touch()), ("link", lambda: os.link(a, b)), ("unlink", lambda: os.unlink(b)),
            ("symlink", lambda: os.symlink("x", b)), ("rename", lambda: os.rename(a, folder / "c")),
            ("replace", lambda: os.replace(b, folder / "c")), ("mkdir", lambda: os.mkdir(a)),
            ("mkfifo", lambda: os.mkfifo(b)), ("chmod", lambda: os.chmod(folder, 0o2711)),
            ("create again", lambda: (folder / "d").touch()), ("chown", lambda: os.chown(folder, 12, 34)),
            ("utime", lambda: os.utime(folder, (5, 5))), ("rmdir", lambda: os.rmdir(a)),
            ("setxattr", lambda: os.setxattr(folder, "user.x", b"y")), ("mknod", lambda: os.mknod(a, 0o600))]


def each_change(point):
    (point / "d").mkdir()
    for name, change in changes(point / "d"):
        change()
        require_told_right(point / "d", f"the folder after {name}")


def between_two_folders(point):
    for name in ("from", "to"):
        (point / name).mkdir()
    (point / "from" / "x").mkdir()
    os.rename(point / "from" / "x", point / "to" / "x")
    for name in ("from", "to"):
        require_told_right(point / name, f"the folder \"{name}\" after a rename between two")


def own_changes_count(point):
    """What the folder was before the last change of its mode is never seen again, whoever changes names in it."""
    folder = point / "busy"
    folder.mkdir()
    ended, problems = threading.Event(), []

    def work(number):
        try:
            while not ended.is_set():
                (folder / f"f{number}").touch()
                os.unlink(folder / f"f{number}")
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(1)]
    for thread in threads:
        thread.start()
    try:
        for i in range(300):
            mode = 0o700 + i % 64
            os.chmod(folder, mode)
            require_equal(os.stat(folder).st_mode & 0o777, mode, f"the mode that was set ({i})")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    require(not problems, f"{problems}")


def others_count(one, two):
    (one / "shared").mkdir(exist_ok=True)
    for i in range(50):
        (one / "shared" / f"f{i}").touch()
        os.chmod(two / "shared", 0o700 + i)
        require_equal(os.stat(one / "shared").st_mode & 0o777, 0o700 + i, f"the mode that the other mount set ({i})")


def main():
    require_root()
    if not os.path.exists("/dev/fuse"):
        skip("needs FUSE")
    with Node() as node:
        node.replica3("v", "512MiB")
        shares.create(node, "v/s", "64MiB")
        with shares.mounted(node, "v/s") as point:
            each_change(point)
            between_two_folders(point)
            own_changes_count(point)
            for option in ("coherent", "attribute-timeout=0"):
                with shares.mounted(node, "v/s", "-o", option) as exact:
                    others_count(exact, point)


if __name__ == "__main__":
    main()
