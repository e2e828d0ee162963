#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Standard clients, unchanged: mount -t glusterfs of a volume and of a folder, two mounts of one volume, qemu, libgfapi."""

import ctypes
import errno
import fcntl
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from node import Node, require_programs, require_root, skip, wait_until
from volclient import Volfiles, mounted


def check_mount(node):
    with mounted(node) as point:
        (point / "team" / "inner").mkdir(parents=True)
        (point / "team" / "letter").write_text("a" * 100000)
        os.sync()
        os.setxattr(point / "team", "user.colour", b"red")
        space = os.statvfs(point)
        assert 0.8 * (512 << 20) < space.f_blocks * space.f_frsize < 512 << 20, space
    for device in ("d1", "d2", "d3"):
        assert (node.state / "devices" / device / "bricks" / "v" / "team" / "letter").stat().st_size == 100000

    with mounted(node, "/v/team", "folder") as point:
        assert sorted(os.listdir(point)) == ["inner", "letter"]
        assert os.getxattr(point, "user.colour") == b"red"
        (point / "letter").rename(point / "inner" / "letter")
    for what in ("/w", "/v/nowhere", "/v.image"):
        try:
            with mounted(node, what, "none"):
                raise AssertionError(f"{what} could be mounted")
        except OSError:
            pass
    # The first server is not there: the second one is asked.
    with mounted(node, "/v", "second", host="127.0.0.9", backup_volfile_servers="127.0.0.1") as point:
        assert (point / "team" / "inner" / "letter").read_text() == "a" * 100000


def reads(file, data):
    """Whether the open file holds that, once the kernel has asked for the file's state, which ends its own cache."""
    os.fstat(file.fileno())
    return os.pread(file.fileno(), len(data), 0) == data


def check_two_mounts(node):
    """What one writes the other reads; files that are renamed or removed stay open on both.

    Each text is longer than the one before: the kernel keeps what it has of a file whose size and time are the same, and
    two writes may have one time.
    """
    with mounted(node, name="one") as one, mounted(node, name="two") as two:
        (one / "both").write_bytes(b"from one")
        assert (two / "both").read_bytes() == b"from one"
        with open(two / "both", "r+b", buffering=0) as file:
            file.write(b"of two...")
        wait_until("a change is seen", lambda: (one / "both").read_bytes() == b"of two...")

        with open(one / "both", "r+b", buffering=0) as open_one, open(two / "both", "r+b", buffering=0) as open_two:
            (one / "both").rename(one / "moved")
            open_two.write(b"renamed by two")
            os.fsync(open_two)
            wait_until("the new name is seen", lambda: (two / "moved").exists())
            wait_until("the same file is read", lambda: reads(open_one, b"renamed by two"))
            (two / "moved").unlink()
            open_two.seek(0)
            open_two.write(b"removed by two, still open")
            os.fsync(open_two)
            wait_until("a removed file is still read", lambda: reads(open_one, b"removed by two, still open"))
        for turn in range(20):  # a file that is put in the place of another is never a stale one
            (one / "fresh").write_bytes(b"turn %d" % turn)
            (one / "fresh").replace(one / "letter")
            (two / "letter").read_bytes()
        wait_until("the last one is read", lambda: (two / "letter").read_bytes() == b"turn 19")
        wait_until("the file is gone", lambda: not (one / "moved").exists())


def _locker(path, pipe):
    with open(path, "r+b", buffering=0) as file:
        for words in iter(pipe.recv, None):
            try:
                fcntl.lockf(file, *words)
                pipe.send(0)
            except OSError as error:
                pipe.send(error.errno)


def check_locks(node):
    """fcntl locks hold across mounts, by ranges, and go with their process."""
    exclusive, shared, free = fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_UN
    with mounted(node, name="one") as one, mounted(node, name="two") as two:
        (one / "locked").write_bytes(bytes(100))
        mine, theirs = multiprocessing.Pipe()
        holder = multiprocessing.Process(target=_locker, args=(one / "locked", theirs))
        holder.start()

        def other(*words):
            mine.send(words)
            return mine.recv()

        with open(two / "locked", "r+b", buffering=0) as file:
            assert other(exclusive, 10, 0) == 0
            try:
                fcntl.lockf(file, exclusive, 1, 5)
                raise AssertionError("two mounts hold one lock")
            except OSError as error:
                assert error.errno in (errno.EAGAIN, errno.EACCES), error
            fcntl.lockf(file, exclusive, 10, 10)
            assert other(exclusive, 1, 19) in (errno.EAGAIN, errno.EACCES)
            assert other(free, 10, 0) == 0
            fcntl.lockf(file, shared, 10, 0)
            assert other(shared, 10, 0) == 0
            assert other(exclusive, 10, 0) in (errno.EAGAIN, errno.EACCES)
            holder.kill()
            holder.join()
            fcntl.lockf(file, fcntl.LOCK_EX, 10, 0)


def check_qemu(node):
    image = f"gluster://127.0.0.1:{node.volserver_port}/v/disk.qcow2"
    log = f"file.debug=0,file.logfile={node.logs}/qemu.log"

    def run(*words):
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and "failed" not in done.stdout, f"{words}: {done.stdout} {done.stderr}"
        return done.stdout

    options = f"driver=qcow2,file.driver=gluster,file.volume=v,file.path=disk.qcow2,{log}"
    options += f",file.server.0.type=inet,file.server.0.host=127.0.0.1,file.server.0.port={node.volserver_port}"
    run("qemu-img", "create", "-f", "qcow2", image, "64M")
    run("qemu-io", "--image-opts", options, "-c", "write -P 7 1M 1M", "-c", "flush", "-c", "read -P 7 1M 1M",
        "-c", "read -P 0 2M 1M")
    with mounted(node) as point:
        info = json.loads(run("qemu-img", "info", "--output=json", str(point / "disk.qcow2")))
    assert (info["format"], info["virtual-size"]) == ("qcow2", 64 << 20), info


GFAPI = """
import ctypes, os, sys
lib = ctypes.CDLL("libgfapi.so.0", use_errno=True)
for name in ("glfs_new", "glfs_creat", "glfs_open"):
    getattr(lib, name).restype = ctypes.c_void_p
fs = ctypes.c_void_p(lib.glfs_new(b"v"))
assert lib.glfs_set_volfile_server(fs, b"tcp", b"127.0.0.1", int(sys.argv[1])) == 0
assert lib.glfs_set_logging(fs, sys.argv[2].encode(), 7) == 0
assert lib.glfs_init(fs) == 0, os.strerror(ctypes.get_errno())
fd = ctypes.c_void_p(lib.glfs_creat(fs, b"/by-gfapi", os.O_RDWR, 0o640))
assert fd.value
assert lib.glfs_write(fd, b"written by libgfapi", ctypes.c_size_t(19), 0) == 19
assert lib.glfs_fsync(fd, None, None) == 0
assert lib.glfs_close(fd) == 0
os._exit(0)
"""


def check_gfapi(node):
    try:
        ctypes.CDLL("libgfapi.so.0")
    except OSError:
        skip("libgfapi is not installed")
    done = subprocess.run([sys.executable, "-c", GFAPI, str(node.volserver_port), str(node.logs / "gfapi.log")],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with mounted(node) as point:
        assert (point / "by-gfapi").read_text() == "written by libgfapi"


def check_stopped(node):
    """A volume that is stopped is not given to new clients, and is again once it is started."""
    node.patch("/v1/volumes/v", {"state": "stopped"})
    with Volfiles(node) as server:
        assert server.fetch("/v") == -errno.ENOENT
        node.patch("/v1/volumes/v", {"state": "started"})
        node.wait_volume("v")
        assert "performance/write-behind" in server.fetch("/v")
    with mounted(node) as point:
        assert (point / "by-gfapi").exists()


def main():
    require_root()
    require_programs("mount.glusterfs", "glusterfs", "qemu-img", "qemu-io")
    if not pathlib.Path("/dev/fuse").exists():
        skip("there is no /dev/fuse")
    if not list(pathlib.Path("/usr/lib").glob("*/qemu/block-gluster.so")):
        skip("qemu-block-extra is not installed")
    with Node() as node:
        node.replica3("v", "512MiB")
        for check in (check_mount, check_two_mounts, check_locks, check_qemu, check_gfapi, check_stopped):
            check(node)
            print(check.__name__, flush=True)


main()
