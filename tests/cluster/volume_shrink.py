#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""A set of bricks leaves a volume under load: files in use move too, writers notice nothing, and every byte is checked."""

import contextlib
from concurrent import futures
import fcntl
import os
import pathlib
import stat
import struct
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
import shares
from api import MIB, open_nbd, refused, require, require_equal
from load import Load

BUSY = 24 * MIB
SAME = {"allow_same_node": True}
ENDS = ("succeeded", "failed", "canceled")


def job_status(node, name):
    return node.get(f"/v1/jobs/{name}")["status"]


def wait_job(node, name, phase="succeeded", timeout=120):
    try:
        status = cluster.wait_until(f"job {name} ends", lambda: (s := job_status(node, name))["phase"] in ENDS and s, timeout=timeout)
    except AssertionError as error:
        raise AssertionError(f"{error}: {job_status(node, name)}") from None
    require_equal((status["phase"], status.get("error")), (phase, None), f"the end of {status}")
    return status


def sets_with(node, volume, path, each):
    """Places of the sets whose bricks have the file itself; a link of distribute has no mode but the sticky bit."""
    bricks = [pathlib.Path(brick["path"] + path) for brick in node.volume_status(volume)["bricks"]]
    return {i // each for i, file in enumerate(bricks)
            if os.path.lexists(file) and stat.S_IMODE(file.lstat().st_mode) != stat.S_ISVTX}


def storage(node, block):
    return node.get(f"/v1/blocks/{block}")["spec"]["storage"]


def refusals(node):
    refused(node, "POST", "/v1/volumes/none/shrink", {}, 404, "not_found", "none")
    refused(node, "POST", "/v1/volumes/v/shrink", {"set": 2}, 400, "invalid_argument", "sets 0 to 1")
    for block in ("v/x", "v/y"):
        node.create_block(block, "60MiB", export=False)
    refused(node, "POST", "/v1/volumes/v/shrink", {}, 507, "resource_exhausted", "may promise 100.0 MiB")
    for block in ("v/x", "v/y"):
        node.delete_block(block)


class Tree:
    """Files of a share that nobody touches while the set goes: plain and sparse ones, links, a pipe, times and modes."""

    def __init__(self, top, rng):
        self.top, self.files = top / "tree", {}
        self.top.mkdir()
        for i in range(24):
            path = self.top / f"d{i % 3}" / f"file{i}"
            path.parent.mkdir(exist_ok=True)
            data = rng.randbytes(rng.randrange(1, 200000))
            path.write_bytes(data)
            os.chmod(path, 0o640 if i % 2 else 0o755)
            os.utime(path, ns=(10**18, 10**18 + i))
            self.files[path] = data
        for i in range(6):
            path = self.top / f"sparse{i}"
            with open(path, "wb") as file:
                file.seek(3 * MIB)
                file.write(b"end")
            os.utime(path, ns=(10**18, 2 * 10**18 + i))  # replicas differ in times that they took from their own clock
            self.files[path] = bytes(3 * MIB) + b"end"
        for i, path in enumerate(list(self.files)[:8]):
            os.link(path, self.top / f"hard{i}")
            os.symlink(path, self.top / f"soft{i}")
            os.mkfifo(self.top / f"pipe{i}")
        self.looks = self.look()

    def look(self):
        return {p: (s.st_ino, s.st_mode, s.st_size, s.st_nlink, s.st_mtime_ns if stat.S_ISREG(s.st_mode) else 0)
                for p in sorted(self.top.rglob("*")) if not stat.S_ISDIR((s := p.lstat()).st_mode)}

    def check(self):
        looks = self.look()
        changed = [(p, self.looks.get(p), looks.get(p)) for p in self.looks.keys() | looks.keys() if self.looks.get(p) != looks.get(p)]
        require(not changed, f"names, modes, sizes and times changed: {changed}")
        for path, data in self.files.items():
            require(path.read_bytes() == data, f"{path} holds something else")


def fio(folder, seconds):
    """Files that are written at random and read back while the set goes."""
    return subprocess.Popen(
        ["fio", "--name=live", f"--directory={folder}", "--rw=randrw", "--rwmixread=30", "--bs=4k", "--size=4m", "--nrfiles=1", "--numjobs=4",
         "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--verify_backlog=256", "--norandommap=1", "--time_based",
         f"--runtime={seconds}", "--output-format=terse", "--fallocate=none", "--verify_state_save=0"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def shrink_under_load(node, rng, going):
    blocks = []
    while not blocks or {going} not in [sets_with(node, "v", storage(node, block), 3) for block in blocks]:
        blocks.append(f"v/b{len(blocks)}")
        node.create_block(blocks[-1], "4MiB")
    loads = {block: Load(node.unix_uri(block), rng, slots=512) for block in blocks}
    node.post("/v1/shares", {"volume": "v", "name": "s", "size": "32MiB", "no_quota": True})
    with shares.mounted(node, "v/s") as point, contextlib.ExitStack() as stack:
        tree = Tree(point, rng)
        writer = fio(point, 12)
        stack.callback(writer.kill)
        cluster.wait_until("fio writes", lambda: len(list(point.glob("live*"))) == 4 or writer.poll() is not None)
        for load in loads.values():
            stack.enter_context(load)
        job = node.call("POST", "/v1/volumes/v/shrink", {"set": going})["name"]
        refused(node, "POST", "/v1/volumes/v/shrink", {}, 409, "failed_precondition", job)
        refused(node, "POST", "/v1/volumes/v/expand", SAME, 409, "failed_precondition", job)
        refused(node, "POST", "/v1/volumes/v/rebalance", None, 409, "failed_precondition", job)
        require_equal(node.volume_status("v")["size"], 100 * MIB, "the size without the set")
        status = wait_job(node, job)
        require_equal(status["done"], status["total"], "bytes of the job")
        require(status["total"] > 0, status)
        for load in loads.values():
            load.wait_progress()
        tree.check()
        output, _ = writer.communicate(timeout=120)
        require_equal(writer.returncode, 0, f"fio said: {output}")
        (point / "new").write_bytes(b"new")
        tree.check()
    for block, load in loads.items():
        load.verify(node.unix_uri(block))
    spec, seen = node.get("/v1/volumes/v")["spec"], node.volume_status("v")
    require_equal((len(spec["bricks"]), "leaving" in spec, len(seen["sets"]), seen["phase"]), (3, False, 1, "online"), "the volume")
    node.delete("/v1/shares/v/s")
    shares.wait_removed(node)
    for block in loads:
        node.delete_block(block)
    node.delete("/v1/volumes/v")
    faults.require_nothing_leaked(node, "a set that left, and its volume")


class Writers:
    """Each block of a file is written once while the set goes: a copy that takes an older state for it is seen at the end."""

    def __init__(self, path, rng):
        self.path, self.blocks, self.ended = path, list(range(BUSY // 4096)), threading.Event()
        self.written, self.problems = set(), []
        rng.shuffle(self.blocks)
        path.write_bytes(b"\0" * BUSY)
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(4)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        try:
            with open(self.path, "r+b", buffering=0) as file:
                for block in self.blocks[number::len(self.threads)]:
                    if self.ended.wait(0.002):
                        return
                    os.pwrite(file.fileno(), struct.pack("<I", block + 1) * 1024, block * 4096)
                    self.written.add(block)
        except Exception as error:
            self.problems.append(error)

    def check(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        require(not self.problems, f"writers of {self.path}: {self.problems}")
        data = self.path.read_bytes()
        wrong = [block for block in self.blocks if data[block * 4096:(block + 1) * 4096] !=
                 struct.pack("<I", block + 1 if block in self.written else 0) * 1024]
        require(not wrong, f"{len(wrong)} of {len(self.written)} blocks that were written while {self.path} moved hold something else: {wrong[:20]}")


def held_without_names(node, rng, point, files):
    """The set waits for who has a file open that was removed, or replaced by another; not for one that is merely open."""
    wait_job(node, node.call("POST", "/v1/volumes/w/rebalance")["name"])  # the set takes files again
    idle = next(f for f in files if sets_with(node, "w", f"/shares/s/{f.name}", 3) == {1})
    lost = [point / f"lost{i}" for i in range(40)]
    for file in lost:
        file.write_bytes(file.name.encode() * 5000)
    lost = [f for f in lost if sets_with(node, "w", f"/shares/s/{f.name}", 3) == {1}]
    with contextlib.ExitStack() as stack:
        reader, removed, replaced = (stack.enter_context(open(f, "r+b", buffering=0)) for f in (idle, lost[0], lost[1]))
        lost[0].unlink()
        (point / "other").write_bytes(b"other")
        os.rename(point / "other", lost[1])
        busy = [point / f"busy{i}" for i in range(20)]
        for file in busy:
            file.touch()
        writers = Writers(next(f for f in busy if sets_with(node, "w", f"/shares/s/{f.name}", 3) == {1}), rng)
        shrink = stack.enter_context(futures.ThreadPoolExecutor()).submit(node.cli, "volume", "shrink", "w", "--set", "1")
        job = cluster.wait_until("the job is there", lambda: next(
            (j["name"] for j in node.items("/v1/jobs") if j["spec"]["kind"] == "shrink" and j["status"]["phase"] not in ENDS), None))
        for file, name, count in ((removed, lost[0].name, "2 files"), (replaced, lost[1].name, "1 file ")):
            cluster.wait_until(f"the job waits for {count}", lambda: (m := job_status(node, job).get("message", "")).startswith("waits") and
                               count in m and "removed or replaced" in m)
            require_equal(len(node.volume_status("w")["sets"]), 2, "the sets while a file without a name is open")
            file.seek(0)
            require(file.read() == name.encode() * 5000, f"{name} holds something else while the set goes")
            file.write(b"more")
            file.close()
        shrink.result()
        writers.check()
        require(reader.read() == idle.name.encode() * 5000, "an open file that has moved holds something else")


def locked(node, rng):
    """A file with a lock of a program stays until the lock is gone, and the job says so; a cancel leaves the volume whole."""
    node.create_volume("w", "replica3", [], size="200MiB", sets=2)
    node.wait_volume("w")
    node.post("/v1/shares", {"volume": "w", "name": "s", "size": "32MiB", "no_quota": True})
    with shares.mounted(node, "w/s") as point:
        files = [point / f"f{i}" for i in range(12)]
        for file in files:
            file.write_bytes(file.name.encode() * 5000)
        held = next(f for f in files if sets_with(node, "w", f"/shares/s/{f.name}", 3) == {1})
        with open(held, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            job = node.call("POST", "/v1/volumes/w/shrink", {"set": 1})["name"]
            cluster.wait_until("the job names the file", lambda: f"/shares/s/{held.name} is locked" in job_status(node, job).get("message", ""))
            node.cli("job", "cancel", job)
            cluster.wait_until("the job is gone", lambda: node.request("GET", f"/v1/jobs/{job}")[0] == 404)
            require(not node.volume_status("w")["sets"][1].get("leaving"), "the set leaves yet")
            require_equal(node.volume_status("w")["size"], 200 * MIB, "the size after the cancel")
        held_without_names(node, rng, point, files)
        cluster.wait_until("the set is gone", lambda: len(node.volume_status("w")["sets"]) == 1)
        for file in files:
            require(file.read_bytes() == file.name.encode() * 5000, f"{file} holds something else")
        # It grows again: the new set has a number of its own, and the numbers of those that went are not used again.
        job = node.post("/v1/volumes/w/expand", {"sets": 1, **SAME})["name"]
        wait_job(node, job)
        numbers = [(b["serial"], b["set_serial"]) for b in node.get("/v1/volumes/w")["spec"]["bricks"]]
        require_equal(numbers, [(1, 1), (2, 1), (3, 1), (7, 3), (8, 3), (9, 3)], "the numbers of bricks and sets")
        for file in files:
            require(file.read_bytes() == file.name.encode() * 5000, f"{file} holds something else")
    node.delete("/v1/shares/w/s")
    shares.wait_removed(node)
    node.delete("/v1/volumes/w")


def other_templates(node, rng):
    """Of single and disperse a file that is in use moves when it is closed."""
    for name, template, more, each in (("single", "single", {}, 1), ("disperse", "disperse", {"data": 2, "redundancy": 1}, 3)):
        node.create_volume(name, template, [], size="64MiB", sets=2, **more, **SAME)
        node.wait_volume(name)
        blocks = [f"{name}/b{i}" for i in range(6)]
        data = {block: rng.randbytes(2 * MIB) for block in blocks}
        for block in blocks:
            node.create_block(block, "4MiB")
            handle = open_nbd(node.unix_uri(block))
            handle.pwrite(data[block], 2 * MIB)  # the load has the first half
            handle.shutdown()
        busy = next(block for block in blocks if sets_with(node, name, storage(node, block), each) == {0})
        with Load(node.unix_uri(busy), rng, slots=64) as load:
            del data[busy]
            job = node.call("POST", f"/v1/volumes/{name}/shrink", {"set": 0})["name"]
            cluster.wait_until("the job names the file", lambda: load.check() or "is in use" in job_status(node, job).get("message", ""))
            load.wait_progress()
        wait_job(node, job)
        load.verify(node.unix_uri(busy))
        for block, bytes_ in data.items():
            handle = open_nbd(node.unix_uri(block))
            require(bytes(handle.pread(2 * MIB, 2 * MIB)) == bytes_, f"{block} holds something else")
            handle.shutdown()
        refused(node, "POST", f"/v1/volumes/{name}/shrink", {}, 400, "invalid_argument", "one set of bricks only")
        for block in blocks:
            node.delete_block(block)
        node.delete(f"/v1/volumes/{name}")


def main():
    cluster.require_root()
    cluster.require_programs("fio")
    rng = faults.chance()
    with cluster.Node() as node:
        node.devices(6, "512MiB")
        node.create_volume("v", "replica3", [], size="200MiB", sets=2)
        node.wait_volume("v")
        refusals(node)
        shrink_under_load(node, rng, rng.randrange(2))
        locked(node, rng)
        other_templates(node, rng)
    print("ok")


if __name__ == "__main__":
    main()
