#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 400
"""Shares as their users see them: two mounts that see each other's writes, locks and names; files that are renamed and
removed while open; a mount that outlives blockd; fio and SQLite with a brick killed underneath."""

import contextlib
import errno
import fcntl
import multiprocessing
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import shares
from api import require, require_equal
from node import Node, require_programs, require_root, wait_until


def fails(number, call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        require_equal(error.errno, number, f"the error of {call.__name__}")
        return
    raise AssertionError(f"{call.__name__} succeeded")


# ---- The command ----

def command(node):
    point = shares.mount(node, "v/a")
    words = ["--config", node.config]
    again = node.cli_run("share", "mount", "v/a", point, *words)
    require(again.returncode == errno.EBUSY and "already" in again.stderr, f"the second mount: {again}")
    other = node.cli_run("share", "mount", "v/b", point, *words)
    require(other.returncode == errno.EBUSY and "unmount it first" in other.stderr, f"another on top: {other}")
    for arguments, status, text in ((["v/none", point], 2, "doesn't exist"), (["v/a"], 255, "FOLDER is missing"),
                                    (["v/a", "/dev/null"], errno.ENOTDIR, "no folder"),
                                    (["v/a", "/no/where"], errno.ENOENT, "/no/where"),
                                    (["v", point], errno.EINVAL, "VOLUME/SHARE"),
                                    (["v/a", point, "-o", "allow_root"], 255, "no mount option")):
        done = node.cli_run("share", "mount", *arguments, *words)
        require(done.returncode == status and text in done.stderr, f"{arguments}: {done}")
    busy = open(point / "open", "w")
    done = node.cli_run("share", "unmount", point, *words)
    require(done.returncode == errno.EBUSY and "--lazy" in done.stderr, f"an unmount of what is in use: {done}")
    busy.close()
    node.cli("share", "unmount", point, *words)
    own = f"v/own-{os.getpid()}"  # by its name: other tests on this machine have a v/a mounted, too
    shares.create(node, own)
    shares.mount(node, own)
    node.cli("share", "unmount", own, *words)
    done = node.cli_run("share", "unmount", point, *words)
    require(done.returncode == errno.ENOENT and "no share is mounted" in done.stderr, f"the second unmount: {done}")
    wait_until("the client has ended", lambda: not shares.clients(node))
    with shares.mounted(node, "v/a", "-o", "ro") as reading:
        require("open" in os.listdir(reading), "a name is missing")
        fails(errno.EROFS, os.mkdir, reading / "x")


def needs_translators(node):
    """A node whose translators are older than its blockd says so."""
    served = node.state / "volserver" / "v.share.vol"
    text = served.read_text()
    point = node.folder / "mnt-none"
    point.mkdir()

    def refused():
        """blockd writes the file as it should be whenever it looks at the volume: then the mount succeeds."""
        served.write_text(text.replace("/gate\n", "/gate-none\n"))
        done = node.cli_run("share", "mount", "v/a", point, "--config", node.config)
        if done.returncode == 0:
            node.cli("share", "unmount", point, "--config", node.config)
        return done if done.returncode else None

    done = wait_until("a mount is refused", refused)
    require(done.returncode == errno.ENOENT and "gate-none.so is missing" in done.stderr, f"{done}")
    served.write_text(text)


def outlives_blockd(node):
    with shares.mounted(node, "v/a") as point:
        file = open(point / "running", "wb")
        file.write(b"before ")
        node.kill()
        file.write(b"after")
        file.close()
        require_equal((point / "running").read_bytes(), b"before after", "what was written")
        node.start()
        require_equal(len(shares.clients(node)), 1, "the number of clients")
        os.remove(point / "running")


# ---- Two mounts ----

def content(path):
    """None while the mount still knows the file that another one replaced: its open is refused (ESTALE) for a second."""
    try:
        return path.read_bytes()
    except OSError as error:
        require_equal(error.errno, errno.ESTALE, "the error of an open")
        return None


def names_and_data(one, two):
    (one / "x").write_text("from one")
    require_equal((two / "x").read_text(), "from one", "what the other mount reads")
    (two / "x").write_text("from two, and longer")
    wait_until("one mount sees the other's text", lambda: (one / "x").read_text() == "from two, and longer")
    (one / "d").mkdir()
    wait_until("a new folder is seen", (two / "d").is_dir)
    os.rename(two / "x", two / "d" / "y")
    wait_until("the old name is gone", lambda: not (one / "x").exists())
    wait_until("the new name is there", (one / "d" / "y").exists)
    with open(one / "log", "ab", buffering=0) as a, open(two / "log", "ab", buffering=0) as b:
        for i in range(20):
            (a if i % 2 else b).write(b"%09d\n" % i)
    lines = (one / "log").read_bytes().split()
    require_equal(sorted(lines), [b"%09d" % i for i in range(20)], "lines that both appended")


def in_place(one, two):
    """What one mount writes over something of the same size is what the other one opens then, though it has read it before."""
    (one / "same").write_bytes(b"0" * 8192)
    for i in range(1, 6):
        require_equal((two / "same").read_bytes()[::4096], b"%d" % (i - 1) * 2, "what the other mount reads")
        with open(one / "same", "r+b") as file:
            file.write(b"%d" % i * 8192)
    require_equal((two / "same").read_bytes()[::4096], b"5" * 2, "what the other mount reads last")


def read_or_none(path):
    """None while the mount still knows the file that had the name before: it says so for a second at most."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return None


def open_files(one, two):
    """A file lives as long as somebody has it open, whatever becomes of its name."""
    with open(one / "open", "w+b", buffering=0) as file:
        file.write(b"first")
        os.rename(one / "open", one / "renamed")
        file.write(b" second")
        require_equal((one / "renamed").read_bytes(), b"first second", "what was written under the old name")
        os.remove(one / "renamed")
        file.write(b" third")
        file.seek(0)
        require_equal(file.read(), b"first second third", "what a file without a name holds")
    (one / "kept").write_bytes(b"a" * 1000)
    with open(two / "kept", "rb", buffering=0) as file:
        require_equal(file.read(10), b"a" * 10, "the first bytes")
        (one / "new").write_bytes(b"b" * 1000)
        os.replace(one / "new", one / "kept")
        require_equal(file.read(10), b"a" * 10, "bytes of a file that another mount replaced")
    wait_until("the other mount sees the new file", lambda: read_or_none(two / "kept") == b"b" * 1000)


def take_lock(path, kind, start, length, answer):
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.lockf(fd, kind | fcntl.LOCK_NB, length, start)
        answer.put("taken")
    except OSError as error:
        answer.put(error.errno)
    os.close(fd)


def try_lock(path, kind, start=0, length=0):
    """As another process would."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=take_lock, args=(path, kind, start, length, answer))
    process.start()
    result = answer.get(timeout=60)
    process.join()
    return result


def locks(one, two):
    (one / "l").write_bytes(bytes(100))
    refused = (errno.EAGAIN, errno.EACCES)
    fd = os.open(one / "l", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 0)
    require(try_lock(two / "l", fcntl.LOCK_EX, 5, 10) in refused, "a lock that another mount has was given")
    require(try_lock(two / "l", fcntl.LOCK_SH, 0, 1) in refused, "a read lock beside a write lock was given")
    require_equal(try_lock(two / "l", fcntl.LOCK_EX, 10, 10), "taken", "a lock beside it")
    fcntl.lockf(fd, fcntl.LOCK_SH, 10, 0)
    require_equal(try_lock(two / "l", fcntl.LOCK_SH, 0, 10), "taken", "a second read lock")
    require(try_lock(two / "l", fcntl.LOCK_EX, 0, 10) in refused, "a write lock beside a read lock was given")
    fcntl.lockf(fd, fcntl.LOCK_UN)
    require_equal(try_lock(two / "l", fcntl.LOCK_EX), "taken", "a lock that was given back")
    # Who waits gets it when it is given back.
    fcntl.lockf(fd, fcntl.LOCK_EX)
    waiting = os.open(two / "l", os.O_RDWR)
    got = threading.Event()
    thread = threading.Thread(target=lambda: (fcntl.lockf(waiting, fcntl.LOCK_EX), got.set()))
    thread.start()
    require(not got.wait(0.3), "two have the same lock")
    fcntl.lockf(fd, fcntl.LOCK_UN)
    require(got.wait(60), "a lock that was given back was not handed on")
    thread.join()
    os.close(waiting)
    os.close(fd)


WAITERS = """
import fcntl, os, signal, sys, time
class Interrupted(Exception):
    pass
armed = False
def interrupt(*_):
    global armed
    if armed:
        armed = False
        raise Interrupted
def wait(kind):
    global armed
    fd = os.open(sys.argv[1] + kind.__name__, os.O_RDWR)
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    interrupted, end = 0, time.monotonic() + 1
    while time.monotonic() < end:
        try:
            armed = True
            kind(fd, fcntl.LOCK_EX)
            kind(fd, fcntl.LOCK_UN)
            armed = False
        except Interrupted:
            interrupted += 1
    os._exit(7 if interrupted else 1)
kinds = (fcntl.lockf, fcntl.flock)
pids = [os.fork() or wait(kinds[i % 2]) for i in range(12)]
for pid in pids[1::5]:
    os.kill(pid, signal.SIGKILL)
ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
assert ends == [-9 if i % 5 == 1 else 7 for i in range(12)], ends
"""


def interrupted(one, two):
    """Programs that ask for a lock get signals, or are killed, while another has it and while they hand it on: the mount
    answers, and the lock goes to who asks next."""
    held = {}
    for lock in (fcntl.lockf, fcntl.flock):  # not of one file: GlusterFS makes no difference between the two
        held[lock] = os.open(one / f"i-{lock.__name__}", os.O_RDWR | os.O_CREAT)
        lock(held[lock], fcntl.LOCK_EX)
    subprocess.run([sys.executable, "-c", WAITERS, two / "i-"], check=True, timeout=60)
    for fd in held.values():
        os.close(fd)
    subprocess.run([sys.executable, "-c", WAITERS, two / "i-"], check=True, timeout=60)
    for lock in held:
        wait_until("a lock for which others waited is free", lambda: try_lock(two / f"i-{lock.__name__}", fcntl.LOCK_EX) == "taken", 10)


def killed(node, one):
    """What the programs of a mount that is killed had locked, others may lock."""
    (one / "k").write_bytes(bytes(100))
    with shares.mounted(node, "v/a") as other:
        before = set(shares.clients(node))
        with shares.mounted(node, "v/a") as dying:
            client, = set(shares.clients(node)) - before
            fd = os.open(dying / "k", os.O_RDWR)
            fcntl.lockf(fd, fcntl.LOCK_EX)
            refused = (errno.EAGAIN, errno.EACCES)
            require(try_lock(other / "k", fcntl.LOCK_EX) in refused, "a lock that another mount has was given")
            os.kill(client, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.close(fd)
            wait_until("the lock of a mount that was killed is free", lambda: try_lock(other / "k", fcntl.LOCK_EX) == "taken", 60)
            subprocess.run(["umount", "-l", dying], check=True)


def handed_over(node):
    """-o coherent: what was written under a lock is read under it, through files that stay open."""
    with shares.mounted(node, "v/a", "-o", "coherent") as one, shares.mounted(node, "v/a", "-o", "coherent") as two:
        (one / "n").write_bytes(bytes(8))
        files = [os.open(mount / "n", os.O_RDWR) for mount in (one, two)]
        for i in range(1, 200):
            fd = files[i % 2]
            fcntl.lockf(fd, fcntl.LOCK_EX)
            require_equal(int.from_bytes(os.pread(fd, 8, 0), "big"), i - 1, "the number that the other mount wrote")
            os.pwrite(fd, i.to_bytes(8, "big"), 0)
            fcntl.lockf(fd, fcntl.LOCK_UN)
        for fd in files:
            os.close(fd)


# ---- With a brick killed ----

@contextlib.contextmanager
def bricks_die(node):
    """One brick after the other is killed, and healed before the next."""
    ended = threading.Event()
    problems = []

    def run():
        try:
            for index in (0, 2):
                node.wait_healed("v")
                shares.wait_connected(node, "v")
                os.kill(node.brick_pids("v")[index], signal.SIGKILL)
                if ended.wait(1):
                    return
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        ended.set()
        thread.join()
    require(not problems, f"{problems}")


def fio(node):
    with shares.mounted(node, "v/a") as point, bricks_die(node):
        done = subprocess.run(
            ["fio", "--name=verify", f"--directory={point}", "--rw=randrw", "--bs=4k", "--size=4m", "--numjobs=2",
             "--ioengine=psync", "--fsync=32", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1"],
            capture_output=True, text=True, timeout=200)
        require(done.returncode == 0, f"fio: {done.stdout[-2000:]}{done.stderr}")
    node.wait_healed("v")


def insert(path, count):
    """A row is in `count` once its transaction is durable."""
    database = sqlite3.connect(path, timeout=60, isolation_level=None)
    for i in range(300):
        database.execute("INSERT INTO t (n, x) VALUES (?, ?)", (i, "x" * 500))
        count.value = i + 1
    database.close()


def sqlite(node):
    """A database, each of its transactions durable, while bricks die; read on another machine's mount then."""
    context = multiprocessing.get_context("spawn")
    with shares.mounted(node, "v/a") as one, shares.mounted(node, "v/a") as two:
        database = sqlite3.connect(one / "db", isolation_level=None)
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("CREATE TABLE t (n INTEGER, x TEXT)")
        database.close()
        count = context.Value("i", 0)
        writer = context.Process(target=insert, args=(one / "db", count))
        with bricks_die(node):
            writer.start()
            writer.join(timeout=150)
        if writer.is_alive():
            writer.kill()
        require_equal((writer.exitcode, count.value), (0, 300), "the writer's end, and the rows that it put in")
        database = sqlite3.connect(two / "db")
        require_equal(database.execute("SELECT count(*), count(DISTINCT n) FROM t").fetchone(), (300, 300), "the rows")
        require_equal(database.execute("PRAGMA integrity_check").fetchone(), ("ok",), "the check of the database")
        database.close()
    node.wait_healed("v")


def same_on_all_bricks(node):
    node.wait_healed("v")
    trees = []
    for folder in shares.folders(node, "v", "a"):
        trees.append({str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
                      for path in folder.rglob("*")})
    require(trees[0] == trees[1] == trees[2], "the bricks differ after all heals: "
            f"{[sorted(set(tree.items()) ^ set(trees[0].items()))[:3] for tree in trees]}")


def main():
    require_root()
    require_programs("fio")
    if not os.path.exists("/dev/fuse"):
        from node import skip
        skip("needs FUSE")
    with Node() as node:
        node.replica3("v", "512MiB")
        shares.create(node, "v/a", "64MiB")
        shares.create(node, "v/b", "64MiB")
        command(node)
        needs_translators(node)
        outlives_blockd(node)
        with shares.mounted(node, "v/a") as one, shares.mounted(node, "v/a") as two:
            names_and_data(one, two)
            in_place(one, two)
            open_files(one, two)
            locks(one, two)
            interrupted(one, two)
            killed(node, one)
        handed_over(node)
        print("ok mounts", flush=True)
        fio(node)
        print("ok fio", flush=True)
        sqlite(node)
        print("ok sqlite", flush=True)
        same_on_all_bricks(node)


if __name__ == "__main__":
    main()
