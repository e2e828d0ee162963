# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What a test left on the machine: processes that carry its mark, mounts and loop devices below its folder.

The mark is a variable of the environment. Every descendant inherits it, whatever session or parent it has, so that a brick
which outlives its blockd is found, and a brick of another test never is.
"""

import contextlib
import fcntl
import os
import pathlib
import random
import signal
import subprocess
import time

MARK = "BLOCKD_TEST_MARK"


def processes(mark, variable=MARK):
    """{pid: name} of the live processes that carry the mark."""
    found = {}
    wanted = f"{variable}={mark}".encode()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "comm").read_text().strip()
    return found


def mounts(folder):
    """Mount points below a folder, the innermost first."""
    found = []
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        point = line.split()[1].encode().decode("unicode_escape")
        if point == str(folder) or point.startswith(f"{folder}/"):
            found.append(point)
    return sorted(found, key=len, reverse=True)


def unmount(point, patience=10):
    """A killed process is a zombie before its last thread has ended, and holds what it had open until then."""
    deadline = time.monotonic() + patience
    while subprocess.run(["umount", point], stderr=subprocess.DEVNULL).returncode != 0:
        if time.monotonic() >= deadline:
            subprocess.run(["umount", point], check=True)
            return
        time.sleep(0.05)


def loops(folder):
    """[(device, file)] of loop devices whose file is, or was, below a folder."""
    found = []
    for entry in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            file = entry.read_text().strip()
            if file.startswith(f"{folder}/"):
                found.append((f"/dev/{entry.parent.parent.name}", file))
    return found


def kill(pids, number=signal.SIGKILL):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def found(mark, folder, variable=MARK):
    """What is there, a word each."""
    return ([f"process {name} ({pid})" for pid, name in processes(mark, variable).items()]
            + [f"mount {point}" for point in mounts(folder)]
            + [f"loop device {device} of {file}" for device, file in loops(folder)])


def settled(mark, folder, seconds=5, variable=MARK):
    """found(), after what is just ending had a moment to end."""
    deadline = time.monotonic() + seconds
    while (left := found(mark, folder, variable)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def remove(mark, folder, variable=MARK):
    """Ends and undoes everything that is left, and says what that was."""
    left = settled(mark, folder, 3, variable)
    if not left:
        return []
    deadline = time.monotonic() + 20
    while found(mark, folder, variable) and time.monotonic() < deadline:
        kill(processes(mark, variable))
        for point in mounts(folder):
            subprocess.run(["umount", point], stderr=subprocess.DEVNULL)
        for device, _ in loops(folder):
            subprocess.run(["losetup", "-d", device], stderr=subprocess.DEVNULL)
        time.sleep(0.2)
    for point in mounts(folder):
        subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL)
    return left


class Ports:
    """A window of free ports, held by a lock until close(), so that tests in parallel do not meet.

    BLOCKD_TEST_PORTS="LOW-HIGH" says where to look; the default lies below the kernel's ephemeral ports. The search begins
    anywhere, so that it seldom meets tests which do not share the locks.
    """

    SIZE = 10
    PATIENCE = 60

    def __init__(self, count=SIZE):
        low, high = (int(p) for p in os.environ.get("BLOCKD_TEST_PORTS", "24010-32000").split("-"))
        folder = pathlib.Path("/tmp/blockd-test-ports")
        folder.mkdir(mode=0o1777, exist_ok=True)
        self.locks = []
        deadline = time.monotonic() + self.PATIENCE
        while not self._take(folder, count, low, high):
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {count} ports are free between {low} and {high}")
            time.sleep(1)

    def _take(self, folder, count, low, high):
        windows = -(-count // self.SIZE)
        starts = range(low, high - windows * self.SIZE + 2, self.SIZE)
        turn = random.randrange(len(starts))
        for first in [*starts[turn:], *starts[:turn]]:
            self.locks = [self._lock(folder, first + i * self.SIZE) for i in range(windows)]
            if all(self.locks):
                self.range = range(first, first + windows * self.SIZE)
                return True
            self.close()
        return False

    def _lock(self, folder, port):
        file = open(folder / str(port), "a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if listening(range(port, port + self.SIZE)):
            file.close()
            return None
        return file

    def close(self):
        for file in self.locks:
            if file:
                file.close()
        self.locks = []


TCP_LISTEN = "0A"


def listening(ports):
    """Those of the ports on which something on this machine listens, TCP over IPv4 or IPv6."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == TCP_LISTEN:
                    found.add(int(words[1].rsplit(":", 1)[1], 16))
    return found & set(ports)
