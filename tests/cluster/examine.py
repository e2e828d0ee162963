#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 400
"""Drift: each difference between the store and the machine is named, mended where that loses nothing, and gone then;
a healthy node under load and under changes has none."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
from faults import require
from load import Load

MENDED_BY_ITSELF = ("grant-missing", "grant-differs", "volfile-", "mount-", "manifest-")  # by the reconciler
CHANGES = 40  # blocks that are made, resized, renamed and deleted while the node is examined


def examine(node, *words):
    done = node.cli_run("examine", *words, "--json")
    require(done.returncode in (0, 1), f"examine: {done}")
    return json.loads(done.stdout)


def found(report):
    return {(finding["code"], finding["object"]) for finding in report["findings"]}


def require_nothing(node, what):
    report = examine(node)
    require(not report["findings"], f"{what}: {report['findings']}")


def churn(node, stop, problems):
    try:
        for number in range(CHANGES):
            if stop.is_set():
                return
            name = f"v/c{number}"
            node.create_block(name, "4MiB", export=number % 2 == 0)
            if number % 3 == 0:
                node.patch(f"/v1/blocks/{name}", {"size": "6MiB"})
            if number % 4 == 0:
                node.post(f"/v1/blocks/{name}/rename", {"name": f"r{number}"})
                name = f"v/r{number}"
            node.delete_block(name)
    except Exception as error:
        problems.append(error)


def no_false_alarms(node):
    """Clients write, blocks come and go, and a brick is killed and healed: nothing of that is drift."""
    problems, stop = [], threading.Event()
    changes = threading.Thread(target=churn, args=(node, stop, problems))
    with Load(node.unix_uri("v/a"), random.Random(1)) as load:
        changes.start()
        looks = 0
        while changes.is_alive() or looks < 5:
            require_nothing(node, f"look {looks} at a healthy node")
            looks += 1
        stop.set()
        changes.join()
        os.kill(node.brick_pids("v")[1], signal.SIGKILL)
        node.wait_healed("v")
        require_nothing(node, "after a heal")
        load.wait_progress()
    require(not problems, f"changes failed: {problems}")
    load.verify(node.unix_uri("v/a"))


class Drift:
    """Something that is made to differ: what it is called, and whether it must be confirmed."""

    def __init__(self, code, name, make, confirm=False):
        self.code, self.name, self.make, self.confirm = code, name, make, confirm


def write(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def drifts(node):
    state, run = node.state, node.run
    dead = subprocess.Popen(["true"])
    dead.wait()
    bricks = [state / f"devices/d{i}/bricks/v" for i in (1, 2, 3)]
    storage = node.get("/v1/blocks/v/b")["spec"]["storage"]

    def truncate(size):
        for brick in bricks:
            os.truncate(f"{brick}{storage}", size)

    def unknown_file():
        for brick in bricks:
            write(brick / "block-store/strange")

    yield Drift("grant-stale", "grant v/nobody", lambda: write(run / "grants/v/nobody.json", "{}"))
    yield Drift("grant-missing", "export node1/v/b", lambda: (run / "grants/v/b.json").unlink())
    yield Drift("grant-differs", "export node1/v/b", lambda: (run / "grants/v/b.json").write_text(
        (run / "grants/v/b.json").read_text().replace('"block_size": 512', '"block_size": 4096').replace(
            '"block_size":512', '"block_size":4096')))
    yield Drift("volfile-differs", f"{state}/volfiles/v/client.vol", lambda: write(state / "volfiles/v/client.vol", "volume\n"))
    yield Drift("volfile-missing", f"{state}/bricks/v.d2.vol", lambda: (state / "bricks/v.d2.vol").unlink())
    yield Drift("volfile-differs", f"{state}/heal.vol", lambda: write(state / "heal.vol", ""))
    yield Drift("volfile-unknown", f"{state}/bricks/old.d1.vol", lambda: write(state / "bricks/old.d1.vol"))
    yield Drift("file-unfinished", f"{state}/bricks/.{dead.pid}.1.2.tmp", lambda: write(state / f"bricks/.{dead.pid}.1.2.tmp"))
    yield Drift("file-unfinished", f"{run}/grants/v/.{dead.pid}.1.3.tmp", lambda: write(run / f"grants/v/.{dead.pid}.1.3.tmp"))
    yield Drift("brick-trash", str(bricks[0].parent / ".erase-0"), lambda: write(bricks[0].parent / ".erase-0/deep/file"))
    yield Drift("brick-unknown", str(bricks[0].parent / "stray"), lambda: write(bricks[0].parent / "stray/deep/file"), True)
    yield Drift("device-unknown", f"{state}/devices/d1/stray", lambda: write(state / "devices/d1/stray"), True)
    yield Drift("file-unknown", "v:/block-store/strange", unknown_file, True)
    yield Drift("block-size", "block v/b", lambda: truncate(4 << 20))
    yield Drift("block-size", "block v/b", lambda: truncate(40 << 20), True)
    yield Drift("manifest-behind", "manifest of device node1/d3", lambda: write(state / "devices/d3/.blockd/manifest"))
    yield Drift("mount-options", "device node1/d1", lambda: subprocess.run(
        ["mount", "-o", "remount,dev,exec", state / "devices/d1"], check=True))
    yield Drift("mount-leftover", f"{state}/devices/stray", lambda: (
        (state / "devices/stray").mkdir(), subprocess.run(["mount", "-t", "tmpfs", "stray", state / "devices/stray"], check=True)))
    port = f"ports/node1/{node.get('/v1/volumes/v')['spec']['bricks'][0]['port']}"
    yield Drift("port-unmarked", port, lambda: forget_record(node, port))


def forget_record(node, key):
    """The store loses a record while no blockd runs."""
    node.terminate()
    with contextlib.closing(sqlite3.connect(node.state / "store.db")) as database, database:
        database.execute("DELETE FROM entry WHERE key = ?", (key,))
    node.start()


def one_by_one(node):
    for drift in drifts(node):
        what = f"{drift.code} of {drift.name}"
        node.wait_healed("v")  # what is being written or healed is not compared
        drift.make()
        report = examine(node)
        # The reconciler may have been there first; then nothing is left to be found.
        if not report["findings"] and drift.code.startswith(MENDED_BY_ITSELF):
            print(f"ok {what} (mended by itself)", flush=True)
            continue
        require(found(report) == {(drift.code, drift.name)}, f"{what}: found {report['findings']}")
        report = examine(node, "--repair")
        if not report["findings"] and drift.code.startswith(MENDED_BY_ITSELF):
            continue
        if drift.confirm:
            require(report["remaining"] == 1 and report["repaired"] == 0, f"{what} was removed unasked: {report}")
            report = examine(node, "--repair", "--confirm", drift.name)
        require(report["remaining"] == 0 and report["repaired"] == 1, f"{what}: the repair said {report}")
        require_nothing(node, f"{what}, after its repair")
        print(f"ok {drift.code} {drift.name.rsplit('/', 1)[-1]}", flush=True)


def all_at_once(node):
    made = [drift for drift in drifts(node) if drift.code not in ("block-size", "port-unmarked", "grant-missing")]
    for drift in made:
        drift.make()
    names = ",".join(drift.name for drift in made if drift.confirm)
    report = examine(node, "--repair", "--confirm", names)
    require(report["remaining"] == 0, f"all at once: {report}")
    require_nothing(node, "after the repair of all")
    faults.require_nothing_leaked(node, "after the repair of all")


def lost_index(node):
    """A brick's folder of indices is made again, and the brick started again uses it."""
    folder = node.state / "devices/d1/bricks/v/.glusterfs/indices"
    os.kill(node.brick_pids("v")[0], signal.SIGSTOP)  # it must not meet the folder half gone
    shutil.rmtree(folder)
    report = examine(node, "--repair")
    require(all(code.startswith(("brick-index", "process-")) for code, _ in found(report)), f"{report}")
    cluster.wait_until("the folder is there", folder.is_dir)
    os.kill(node.brick_pids("v")[0], signal.SIGKILL)
    node.wait_healed("v")
    require_nothing(node, "after the index was made again")


def orphan(node):
    """A second self-heal daemon that nobody asked for is ended only when it is named."""
    words = ["/usr/sbin/glusterfs", "-N", "-f", node.state / "heal.vol", "-l", node.logs / "orphan.log", "--process-name", "orphan"]
    process = subprocess.Popen(words, env=node.environment(), stdin=subprocess.DEVNULL)
    name = f"process {process.pid}"
    require(found(examine(node)) == {("process-orphan", name)}, f"{examine(node)}")
    require(examine(node, "--repair")["remaining"] == 1 and process.poll() is None, "it was ended unasked")
    require(examine(node, "--repair", "--confirm", name)["repaired"] == 1, "it was not ended")
    process.wait(timeout=cluster.PATIENCE)
    require_nothing(node, "after the orphan's end")


def foreign_port(node):
    """Somebody takes the port of a brick that is down: told with the process, and left to the administrator."""
    brick = node.get("/v1/volumes/v")["spec"]["bricks"][0]
    node.call("PATCH", "/v1/volumes/v?wait=60", {"state": "stopped"})
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("0.0.0.0", brick["port"]))
        taker.listen()
        node.call("PATCH", "/v1/volumes/v", {"state": "started"})
        finding = cluster.wait_until("the brick is seen without its port", lambda: [
            f for f in examine(node)["findings"] if f["code"] == "port-taken" and f"port {brick['port']}" in f["object"]])[0]
        require(finding["found"] == f"process {os.getpid()} listens on it" and not finding["repairable"], f"{finding}")
    node.wait_volume("v")
    cluster.wait_until("nothing is found", lambda: not examine(node)["findings"])


def behind(node):
    """A brick that is away while a block is made and another goes is behind, and that is no drift."""
    node.create_block("v/goes", "4MiB", export=False)
    pid = node.brick_pids("v")[2]
    os.kill(pid, signal.SIGSTOP)  # it is up, and answers nobody
    try:
        node.create_block("v/comes", "4MiB", export=False)
        node.delete_block("v/goes")
    finally:
        os.kill(pid, signal.SIGKILL)
    for _ in range(4):
        report = examine(node)
        require(not found(report), f"a brick that is behind: {report['findings']}")
    node.wait_healed("v")
    require_nothing(node, "the brick is healed")
    node.delete_block("v/comes")


def missing_brick(node):
    """A brick's folder is gone, and so is a block's file: told, and never made anew."""
    node.wait_healed("v")
    node.create_block("v/lost", "4MiB", export=False)
    node.wait_healed("v")
    storage = node.get("/v1/blocks/v/lost")["spec"]["storage"]
    for device in (1, 2, 3):
        os.unlink(f"{node.state}/devices/d{device}/bricks/v{storage}")
    report = examine(node, "--repair")
    require(found(report) == {("block-missing", "block v/lost")} and report["repaired"] == 0, f"{report}")
    node.delete_block("v/lost")
    cluster.wait_until("nothing is found", lambda: not examine(node)["findings"])


def over_sets(node):
    """Files of blocks in a volume of several sets: each is in one, and distribute's links to it are no copies."""
    node.create_volume("w", "single", node.devices(2, "512MiB", first=20), size="128MiB", sets=2)
    node.wait_volume("w")
    bricks = [pathlib.Path(brick["path"]) for brick in node.volume_status("w")["bricks"]]
    node.create_block("w/b", "4MiB", export=False)
    storage = node.get("/v1/blocks/w/b")["spec"]["storage"]
    here = next(set for set in range(2) if (bricks[set] / storage[1:]).exists())
    file, other = (bricks[set] / storage[1:] for set in (here, 1 - here))
    other.parent.mkdir(exist_ok=True)
    require_nothing(node, "a block in one of two sets")

    other.touch()
    other.chmod(0o1000)
    os.setxattr(other, "trusted.glusterfs.dht.linkto", f"w-single-{here}\0".encode())
    stray = other.with_name("stray-link")
    stray.touch()
    stray.chmod(0o1000)
    os.setxattr(stray, "trusted.glusterfs.dht.linkto", f"w-single-{here}\0".encode())
    require_nothing(node, "a link of distribute")
    stray.unlink()
    os.removexattr(other, "trusted.glusterfs.dht.linkto")
    other.chmod(0o600)
    report = examine(node, "--repair")
    require(found(report) == {("block-twice", "block w/b")} and report["repaired"] == 0, f"{report}")
    require(f"sets {min(here, 1 - here)} and {max(here, 1 - here)}" in report["findings"][0]["found"], f"{report}")
    other.unlink()
    os.truncate(file, 1 << 20)
    require(found(examine(node)) == {("block-size", "block w/b")}, "a file that was cut")
    require(examine(node, "--repair")["repaired"] == 1, "the file is not as long as the block again")
    require_nothing(node, "the file was mended")
    (bricks[here] / "block-store/strange").write_bytes(b"x")
    require(found(examine(node)) == {("file-unknown", "w:/block-store/strange")}, "a file that is no block's")
    (bricks[here] / "block-store/strange").unlink()
    file.unlink()
    report = examine(node)
    require(found(report) == {("block-missing", "block w/b")}, f"{report}")
    node.delete_block("w/b")
    node.delete("/v1/volumes/w")


def refused_words(node):
    done = node.cli_run("examine", "--confirm", "x")
    require(done.returncode == 22 and "ask for that too" in done.stderr, f"{done}")
    done = node.cli_run("examine", "--repair", "--confirm", "/etc")
    require(done.returncode == 22 and "no object of a finding" in done.stderr, f"{done}")
    require(node.get("/v1/examine")["findings"] == [], "GET finds something")


def main():
    cluster.require_root()
    with cluster.Node() as node:
        node.replica3("v", "512MiB")
        node.create_block("v/a", "32MiB")
        node.create_block("v/b", "16MiB")
        for step in (no_false_alarms, one_by_one, all_at_once, lost_index, orphan, foreign_port, behind, missing_brick, over_sets, refused_words):
            step(node)
            print(f"ok {step.__name__}", flush=True)


if __name__ == "__main__":
    main()
