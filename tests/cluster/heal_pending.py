#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 240
"""Files that a brick is behind with or whose writer died: counted once, named, healed on order; a full heal; ten thousand of them."""

import contextlib
import ctypes
import os
import pathlib
import struct
import sys
import threading
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import heals
import node as cluster
from api import refused, require, require_equal, wait_equal

MANY = 10000
IN_ACCESS = 1


def job_done(node, body):
    job = node.post("/v1/volumes/v/heal", body)
    return cluster.wait_until(f"the job of {body} has succeeded",
                              lambda: (now := node.get(f"/v1/jobs/{job['name']}"))["status"]["phase"] == "succeeded" and now)


def history(node):
    return node.get("/v1/volumes/v/heal/history")["heals"]


def behind(node):
    names = [f"folder/{i}" for i in range(20)]
    with heals.no_healing(node):
        with heals.Mount(node, "v", (0, 1)) as mount:
            mount.file("folder").mkdir()
            for name in names:
                mount.file(name).write_bytes(name.encode() * 1000)
        report = heals.report(node, "v")
        files = {file["file"]: file for file in report["files"]}
        require(set(files) >= {f"/{name}" for name in names} | {"/folder", "/"}, f"files are missing: {sorted(files)}")
        require_equal((report["pending"], report["split_brain"]), (len(files), 0), "the counts")
        require_equal(set(files["/folder/7"]["blames"]), {"node1/d1 blames node1/d3", "node1/d2 blames node1/d3"}, "the blames")
        require("data" in files["/folder/7"]["kinds"] and "entry" in files["/folder"]["kinds"], f"kinds: {files}")
        wait_equal(lambda: node.volume_status("v")["heal_pending"], len(files), "the volume's count")
        short = heals.report(node, "v", "?limit=3")
        require_equal((len(short["files"]), short["truncated"], short["pending"]), (3, True, len(files)), "a short list")
    job = job_done(node, {})
    require(job["spec"]["kind"] == "heal" and "files healed" in job["status"]["message"], f"{job}")
    node.wait_healed("v")
    for name in names:
        require_equal({copy.read_bytes() for copy in heals.copies(node, "v", name)}, {name.encode() * 1000}, name)
    heal = cluster.wait_until("the heal is in the history", lambda: history(node))[0]
    require(heal["files"] >= len(names) and heal["bytes"] >= len(names) * 8000, f"{heal}")
    require_equal((sorted(heal["from"]), heal["to"]), (["node1/d1", "node1/d2"], ["node1/d3"]), "who healed whom")
    require(heal["started"] <= heal["finished"], f"{heal}")


def dirty(node):
    """A file under steady writes is dirty and not pending; when its writer dies it is, once nothing changes any more."""
    stop = threading.Event()
    with heals.no_healing(node):
        with heals.Mount(node, "v") as mount:
            fd = os.open(mount.file("written"), os.O_CREAT | os.O_RDWR)

            def write():
                while not stop.is_set():
                    os.pwrite(fd, os.urandom(4096), 0)
                    time.sleep(0.02)
            writer = threading.Thread(target=write)
            writer.start()
            cluster.wait_until("the file is dirty", lambda: (heals.listed(node, "v", "/written") or {}).get("state") == "dirty")
            wait_equal(lambda: ((status := node.volume_status("v"))["heal_pending"], status.get("heal_dirty")), (0, 1), "the counts under writes")
            stop.set()
            writer.join()
            os.pwrite(fd, b"the last words", 0)
            mount.kill()
            with contextlib.suppress(OSError):
                os.close(fd)
        state = cluster.wait_until("the file of the dead writer is listed", lambda: heals.listed(node, "v", "/written"))
        require(state["kinds"] == [] and state["blames"] == [], f"nobody is to be blamed: {state}")
        cluster.wait_until("it is pending", lambda: heals.listed(node, "v", "/written")["state"] == "pending")
        wait_equal(lambda: node.volume_status("v")["heal_pending"], 1, "the count once nobody writes")
    cluster.wait_until("it is healed", lambda: heals.report(node, "v")["files"] == [])
    require_equal(len({copy.read_bytes() for copy in heals.copies(node, "v", "written")}), 1, "the number of different copies")


def wiped(node):
    """Files that are gone from one brick without a word of it anywhere: only a full heal brings them back."""
    victim = heals.roots(node, "v")[2]
    for name in [f"folder/{i}" for i in range(10)]:
        gfid = uuid.UUID(bytes=os.getxattr(victim / name, "trusted.gfid"))
        os.unlink(victim / name)
        os.unlink(victim / ".glusterfs" / str(gfid)[:2] / str(gfid)[2:4] / str(gfid))
    job_done(node, {})
    require(not (victim / "folder/3").exists(), "the index alone healed it, and the full heal proves nothing")
    job = job_done(node, {"full": True})
    require_equal(job["spec"]["kind"], "heal-full", "the job")
    node.wait_healed("v")
    for i in range(10):
        require_equal({copy.read_bytes() for copy in heals.copies(node, "v", f"folder/{i}")}, {f"folder/{i}".encode() * 1000},
                      f"folder/{i}")


class Reads:
    """Counts how often a folder is read, by inotify."""

    def __init__(self, folders):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for folder in folders:
            require(libc.inotify_add_watch(self.fd, os.fsencode(folder), IN_ACCESS) >= 0, f"cannot watch {folder}")

    def count(self):
        found = 0
        try:
            while data := os.read(self.fd, 65536):
                while data:
                    found += 1
                    data = data[16 + struct.unpack("iIII", data[:16])[3]:]
        except BlockingIOError:
            return found


def many(node):
    """Ten thousand entries on two bricks: each file counts once, and a count reads no index that did not change."""
    roots = heals.roots(node, "v")[:2]
    mark = struct.pack(">III", 1, 0, 0)
    gfids = [str(uuid.UUID(int=(i << 96) + 0xb10cd)) for i in range(1, MANY + 1)]
    made = []
    with heals.no_healing(node):
        for root in roots:
            index = root / ".glusterfs/indices/xattrop"
            base = next(path for path in index.iterdir() if path.name.startswith("xattrop-"))
            for gfid in gfids:
                handle = root / ".glusterfs" / gfid[:2] / gfid[2:4] / gfid
                handle.parent.mkdir(parents=True, exist_ok=True)
                handle.touch()
                os.setxattr(handle, "trusted.afr.v-client-2", mark)
                os.link(base, index / gfid)
                made += [handle, index / gfid]
        cluster.wait_until("all are counted", lambda: node.volume_status("v")["heal_pending"] == MANY)
        report = heals.report(node, "v", "?limit=10")
        require_equal((report["pending"], report["truncated"], len(report["files"])), (MANY, True, 10), "the report")
        require(report["files"][0]["file"].startswith("gfid:"), f"a name that nobody knows: {report['files'][0]}")
        reads = Reads([root / ".glusterfs/indices/xattrop" for root in roots])

        def at_rest():
            node.volume_status("v")
            return reads.count() == 0
        cluster.wait_until("the indices are at rest", at_rest, pause=2.5)
        began = time.monotonic()
        for _ in range(20):
            require_equal(node.volume_status("v")["heal_pending"], MANY, "the count")
        print(f"a status with {MANY} files to heal: {(time.monotonic() - began) / 20 * 1000:.1f} ms", flush=True)
        require_equal(reads.count(), 0, "the number of times that an unchanged index was read")
        for path in made:
            path.unlink()
    cluster.wait_until("none is counted", lambda: node.volume_status("v")["heal_pending"] == 0)


def main():
    cluster.require_root()
    with cluster.Node() as node:
        node.replica3("v", "512MiB")
        node.single("s", "512MiB")
        refused(node, "POST", "/v1/volumes/s/heal", {}, 501, "unimplemented", "one copy")
        refused(node, "GET", "/v1/volumes/none/heal", None, 404, "not_found", "none")
        behind(node)
        dirty(node)
        wiped(node)
        many(node)


if __name__ == "__main__":
    main()
