# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A disk that stops to answer: one file on a FUSE file system of our own, whose reads and writes wait for as long as the
test wants. A loop device over it hangs as a disk does whose cable is out.
"""

import contextlib
import ctypes
import errno
import os
import pathlib
import struct
import subprocess
import tempfile
import threading

IN_HEADER = struct.Struct("<IIQQIIII")
OUT_HEADER = struct.Struct("<IiQ")
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC = 1, 2, 3, 4, 14, 15, 16, 17, 18, 20
FLUSH, INIT, INTERRUPT, BATCH_FORGET = 25, 26, 36, 42
SILENT = {FORGET, INTERRUPT, BATCH_FORGET}  # these have no answer
ROOT, FILE = 1, 2  # inodes
LONG = 1 << 20  # seconds for which the kernel may keep what it knows
LARGEST = 128 << 10  # bytes in one write

libc = ctypes.CDLL(None, use_errno=True)


class SlowDisk:
    """`path` is the file, which is sparse and `size` bytes long."""

    def __init__(self, size):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="slowdisk-"))
        self.path = self.folder / "disk.img"
        self.size = size
        self.data = tempfile.TemporaryFile()
        self.data.truncate(size)
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Event()  # somebody waits
        self.device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"slowdisk", str(self.folder).encode(), b"fuse", 0, options) < 0:
            raise OSError(ctypes.get_errno(), "mount")
        self.threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(8)]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.answers.set()
        subprocess.run(["umount", "-l", self.folder], check=True)
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)

    def hang(self):
        self.asked.clear()
        self.answers.clear()

    def go_on(self):
        self.answers.set()

    def _wait(self):
        if not self.answers.is_set():
            self.asked.set()
            self.answers.wait()

    def _attributes(self, node):
        folder = node == ROOT
        blocks = 0 if folder else os.fstat(self.data.fileno()).st_blocks
        return struct.pack("<QQQQQQIIIIIIIIII", node, 0 if folder else self.size, blocks, 0, 0, 0, 0, 0, 0,
                           0o40755 if folder else 0o100600, 1, 0, 0, 0, 4096, 0)

    def _answer(self, operation, node, body):
        if operation == INIT:
            major, minor = struct.unpack_from("<II", body)
            return struct.pack("<IIIIHHIIHHI7I", major, min(minor, 31), LARGEST, 0, 16, 12, LARGEST, 1, 0, 0, 0, *[0] * 7)
        if operation == LOOKUP:
            if body.rstrip(b"\0").decode() != self.path.name:
                return -errno.ENOENT
            return struct.pack("<QQQQII", FILE, 0, LONG, LONG, 0, 0) + self._attributes(FILE)
        if operation in (GETATTR, SETATTR):
            return struct.pack("<QII", LONG if node == ROOT else 0, 0, 0) + self._attributes(node)
        if operation == OPEN:
            return struct.pack("<QII", 0, 1, 0)  # direct_io: the page cache answers for nobody
        if operation == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            self._wait()
            return os.pread(self.data.fileno(), size, offset)
        if operation == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            self._wait()
            return struct.pack("<II", os.pwrite(self.data.fileno(), body[40:40 + size], offset), 0)
        if operation == STATFS:
            return struct.pack("<5Q10I", 1 << 20, 1 << 20, 1 << 20, 0, 0, 4096, 255, 4096, *[0] * 7)
        return b"" if operation in (RELEASE, FLUSH, FSYNC) else -errno.ENOSYS

    def _serve(self):
        while True:
            try:
                request = os.read(self.device, LARGEST + 4096)
            except OSError as problem:
                if problem.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return  # unmounted
            _, operation, unique, node, *_ = IN_HEADER.unpack_from(request)
            answer = self._answer(operation, node, request[IN_HEADER.size:])
            if operation in SILENT:
                continue
            number, payload = (answer, b"") if isinstance(answer, int) else (0, answer)
            with contextlib.suppress(OSError):  # whoever asked may be gone
                os.write(self.device, OUT_HEADER.pack(OUT_HEADER.size + len(payload), number, unique) + payload)
