#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 240
"""What a mount was told to be done, another mount sees, although bricks go and come back before they are healed: after the
writer has died at once, after the writer's connection to a brick broke, and in a file, a folder and attributes that two
writers change in turns under a lock (-o coherent)."""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import multiprocessing
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
import shares
from api import require_equal

RECORD = 512
WRITES = 60
SYS_PIDFD_GETFD = 438
# What a mount may answer while fewer bricks than a quorum serve; what was asked for may have been done or not.
AWAY = (errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.EBADF, errno.EBADFD, errno.EROFS, errno.EAGAIN)


class Truth(ctypes.Structure):
    """What the writers know by other means than the share. The one who has the share's lock has this, too."""
    _fields_ = [("holder", ctypes.c_long), ("count", ctypes.c_long), ("name", ctypes.c_long), ("value", ctypes.c_long),
                ("turns", ctypes.c_long), ("errors", ctypes.c_long), ("ended", ctypes.c_long)]


class Lost(Exception):
    pass


def expect(condition, text):
    if not condition:
        raise Lost(text)


def number_at(fd, place):
    data = os.pread(fd, RECORD, place * RECORD)
    return int.from_bytes(data[:8], "big")


def put(fd, place, number):
    os.pwrite(fd, number.to_bytes(8, "big") * (RECORD // 8), place * RECORD)


def append(fd, truth):
    count = number_at(fd, 0)
    expect(count >= truth.count, f"the file counts {count} records, and {truth.count} were made")
    expect(number_at(fd, count) == count, f"record {count} is missing")
    put(fd, count + 1, count + 1)
    put(fd, 0, count + 1)
    truth.count = count + 1


def move_name(folder, truth):
    """One name at a time: -1 while a failure left it open which."""
    found = [int(name) for name in os.listdir(folder)]
    if truth.name >= 0:
        expect(found == [truth.name], f"the folder holds {found}, and not {truth.name}")
    truth.name = -1
    new = max(found, default=0) + 1
    if new % 2:
        os.close(os.open(folder / str(new), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    else:
        os.mkdir(folder / str(new))
    for name in found:
        (os.unlink if name % 2 else os.rmdir)(folder / str(name))
    truth.name = new


def change_attribute(path, truth):
    """An extended one: replicate has the mode and the owner from any brick whose data is good."""
    value = int(os.getxattr(path, "user.value"))
    if truth.value >= 0:
        expect(value == truth.value, f"the attribute is {value}, and not {truth.value}")
    truth.value = -1
    os.setxattr(path, "user.value", str(value + 1).encode())
    truth.value = value + 1


def turn(mount, fd, truth, writer):
    fcntl.lockf(fd, fcntl.LOCK_EX)
    expect(truth.holder == 0, f"two writers have the lock: {truth.holder} and {writer}")
    truth.holder = writer
    try:
        append(fd, truth)
        move_name(mount / "names", truth)
        change_attribute(mount / "attribute", truth)
        truth.turns += 1
    finally:
        truth.holder = 0
    fcntl.lockf(fd, fcntl.LOCK_UN)


def write(mount, truth, writer, problems):
    while not truth.ended:
        try:
            fd = os.open(mount / "file", os.O_RDWR | os.O_DSYNC)
            try:
                while not truth.ended:
                    turn(mount, fd, truth, writer)
            finally:
                os.close(fd)
        except OSError as error:
            truth.errors += 1
            if error.errno not in AWAY:
                problems.put(f"writer {writer}: {error!r}")
                truth.ended = 1
            time.sleep(0.02)
        except Lost as problem:
            problems.put(f"writer {writer}, turn {truth.turns}: {problem}")
            truth.ended = 1


# ---- Bricks that flap ----

def is_connected(pid, port):
    try:
        return port in faults.connected_ports(pid)
    except OSError:
        return False


def wait_one_connected(node, index, truth):
    """One mount has the brick again, and the other one perhaps not yet."""
    port = node.volume_status("v")["bricks"][index]["port"]
    pids = shares.clients(node)
    cluster.wait_until("a mount is connected to the brick",
                       lambda: truth.ended or any(is_connected(pid, port) for pid in pids), pause=0.002)


def kill(node, index):
    pid = node.brick_pids("v")[index]
    faults.signal_all([pid])
    faults.wait_gone([pid])
    cluster.wait_until(f"brick {index} is back", lambda: node.brick_pids("v")[index] not in (0, pid), pause=0.02)


def wait_turns(truth, count):
    goal = truth.turns + count
    cluster.wait_until(f"{count} turns are taken", lambda: truth.ended or truth.turns >= goal, pause=0.01)


def flap(node, rng, truth):
    """One brick a few times, and then another, once there is no file left that only the first one lacks."""
    rounds = faults.rounds(1)
    for number in range(rounds):
        index = rng.randrange(3)
        for _ in range(rng.randrange(1, 3)):
            if truth.ended:
                return
            wait_turns(truth, 3)
            time.sleep(rng.uniform(0, 0.5))
            kill(node, index)
            wait_one_connected(node, index, truth)
        if number + 1 < rounds:
            shares.wait_connected(node, "v")
            node.wait_healed("v")
        if number % 10 == 9:
            print(f"round {number + 1}: {truth.turns} turns, {truth.errors} errors", flush=True)
    wait_turns(truth, 3)


def take_turns(node, rng, one, two):
    context = multiprocessing.get_context("spawn")
    truth, problems = context.Value(Truth, lock=False), context.SimpleQueue()
    truth.name = truth.value = -1
    prepare(one)
    shares.wait_connected(node, "v")
    writers = [context.Process(target=write, args=(mount, truth, number + 1, problems))
               for number, mount in enumerate((one, two))]
    for writer in writers:
        writer.start()
    try:
        flap(node, rng, truth)
    finally:
        truth.ended = 1
        for writer in writers:
            writer.join(60)
    stuck = [writer.kill() for writer in writers if writer.is_alive()]
    faults.require(not stuck, f"{len(stuck)} writers hang")
    faults.require(problems.empty(), "" if problems.empty() else problems.get())
    for mount in (one, two):
        count = int.from_bytes((mount / "file").read_bytes()[:8], "big")
        faults.require(count >= truth.count, f"the file counts {count} records, and {truth.count} were made")
    print(f"{truth.turns} turns, {truth.errors} errors", flush=True)


# ---- What happens only now and then, made to happen ----

def sent(pid):
    """Bytes that a process has written."""
    return int(pathlib.Path(f"/proc/{pid}/io").read_text().split()[3])


def from_bricks(path):
    """The first bytes of a file that is read to its end, and not from the kernel's cache."""
    buffer, start = mmap.mmap(-1, 1 << 20), None
    with open(os.open(path, os.O_RDONLY | os.O_DIRECT), "rb", buffering=0) as file:
        while file.readinto(buffer):
            start = start or buffer[:3]
    return start


def brick_of(node, path):
    """The index of the brick that the mount reads the file from."""
    pids = node.brick_pids("v")
    before = [sent(pid) for pid in pids]
    from_bricks(path)
    after = [sent(pid) for pid in pids]
    return max(range(3), key=lambda index: after[index] - before[index])


def reads_from(node, path):
    """The same of a new file, which holds "old", and much more."""
    with open(path, "wb") as file:
        file.write(b"old" + bytes((4 << 20) - 3))
        os.fsync(file.fileno())
    return brick_of(node, path)


def client_of(node, known):
    return [pid for pid in shares.clients(node) if pid not in known][0]


def write_durably(path, data):
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, data)
    os.fsync(fd)
    return fd


@contextlib.contextmanager
def no_heals(node):
    """The heal daemon would mend in a moment what is looked for."""
    pids = [pid for pid, line in node.processes().items() if "glustershd" in line]
    faults.require(pids, "there is no heal daemon")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def writer_dies(node):
    """What was synced while a brick was away is read, although its writer died at once and the brick is back."""
    with mounted(node) as other:
        known = shares.clients(node)
        with mounted(node) as mine:
            index = reads_from(node, other / "synced")
            like = next(other / f"like-{number}" for number in range(50)
                        if reads_from(node, other / f"like-{number}") == index)
            shares.wait_connected(node, "v")
            faults.wait_clean(node, "v")  # a change that is still open when the brick goes would blame it
            with no_heals(node):
                kill(node, index)
                fd = write_durably(mine / "synced", b"new")
                faults.signal_all([client_of(node, known)])
                with contextlib.suppress(OSError):
                    os.close(fd)
                subprocess.run(["umount", "-l", mine], check=True)
                cluster.wait_until("the client has ended", lambda: shares.clients(node) == known)
                cluster.wait_until(f"brick {index} is read from again", lambda: brick_of(node, like) == index)
                require_equal(from_bricks(other / "synced"), b"new", f"what is read after brick {index} was away")
        node.wait_healed("v")


def break_connection(pid, port):
    """As a router would that forgets it."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:"):
                continue
            process = os.pidfd_open(pid)
            mine = ctypes.CDLL(None, use_errno=True).syscall(SYS_PIDFD_GETFD, process, int(fd), 0)
            os.close(process)
            with socket.socket(fileno=mine) as peer:
                if peer.family == socket.AF_INET and peer.getpeername()[1] == port:
                    peer.shutdown(socket.SHUT_RDWR)


def connection_breaks(node, one, two, pid):
    """Only the writer's mount loses its connection to a brick; the reader has it, and finds the brick good, from before."""
    index = reads_from(node, two / "passed-on")
    files = [os.open(mount / "passed-on", os.O_RDWR | os.O_DSYNC) for mount in (one, two)]
    require_equal(os.pread(files[1], 3, 0), b"old", "what the other mount reads")
    shares.wait_connected(node, "v")
    faults.wait_clean(node, "v")
    with no_heals(node):
        break_connection(pid, node.volume_status("v")["bricks"][index]["port"])
        for fd, action in zip(files, (lambda: os.pwrite(files[0], b"new", 0), lambda: None)):
            fcntl.lockf(fd, fcntl.LOCK_EX)
            action()
            if fd == files[1]:
                require_equal(os.pread(fd, 3, 0), b"new", f"what is read when the writer has not had brick {index}")
            fcntl.lockf(fd, fcntl.LOCK_UN)
    for fd in files:
        os.close(fd)
    node.wait_healed("v")


def writes_share_a_note(node):
    """Many writes that miss a brick, each synced, are noted together: a note for each would be two more syncs for each."""
    with mounted(node) as mine:
        shares.wait_connected(node, "v")
        bricks, pids = node.volume_status("v")["bricks"], node.brick_pids("v")
        with open(mine / "many", "wb", buffering=0) as file:
            node.terminate()  # it would start the brick again
            try:
                faults.signal_all(pids[2:])
                faults.wait_gone(pids[2:])
                for number in range(WRITES):
                    file.write(bytes(4096))
                    os.fsync(file.fileno())
                for brick in bricks[:2]:
                    path = next(pathlib.Path(brick["path"]).glob("**/many"))
                    notes = int.from_bytes(os.getxattr(path, "trusted.afr.v-client-2")[:4], "big")
                    faults.require(0 < notes < WRITES // 2, f"{notes} notes of {WRITES} writes")
            finally:
                node.start()
    node.wait_healed("v")


# ---- Mounts ----

@contextlib.contextmanager
def mounted(node, *options):
    """BLOCKD_WITHOUT_GATE=1 has the mount load what other machines load, to see that this test would notice."""
    known = shares.clients(node)
    with shares.mounted(node, "v/a", *options) as point:
        if os.environ.get("BLOCKD_WITHOUT_GATE"):
            pid = client_of(node, known)
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
            subprocess.run(["umount", point], check=True)
            cluster.wait_until("the client has ended", lambda: faults.is_gone(pid))
            subprocess.run([word.replace("=v.share", "=v.mount") for word in words], check=True, env=node.environment())
        yield point


def prepare(mount):
    (mount / "file").write_bytes(bytes(RECORD))
    (mount / "attribute").write_bytes(b"")
    os.setxattr(mount / "attribute", "user.value", b"0")
    (mount / "names").mkdir()


def main():
    cluster.require_root()
    if not os.path.exists("/dev/fuse"):
        cluster.skip("needs FUSE")
    rng = faults.chance()
    with cluster.Node() as node:
        # All bricks are local here: which of them a mount takes for the nearest would be chance, each time that one comes back.
        node.replica3("v", "512MiB", options=["replicate.choose-local=off"])
        shares.create(node, "v/a", "64MiB")
        writer_dies(node)
        node.patch("/v1/volumes/v", {"options": []})
        with mounted(node, "-o", "coherent") as one:
            pid = shares.clients(node)[0]
            with mounted(node, "-o", "coherent") as two:
                connection_breaks(node, one, two, pid)
                take_turns(node, rng, one, two)
        cluster.wait_until("the clients have ended", lambda: not shares.clients(node))
        writes_share_a_note(node)


if __name__ == "__main__":
    main()
