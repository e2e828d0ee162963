# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What the fault tests share: repeatable chance, processes that are ended, and what must be true of a node afterwards."""

import contextlib
import hashlib
import json
import os
import pathlib
import random
import signal
import sqlite3

import node as cluster
import traces
from node import is_gone


def chance():
    """A source of random numbers whose seed is printed, and can be given again."""
    seed = int(os.environ.get("BLOCKD_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"BLOCKD_SEED={seed} repeats this run's choices", flush=True)
    return random.Random(seed)


def rounds(default):
    """How often to repeat; BLOCKD_ROUNDS makes a long run."""
    return int(os.environ.get("BLOCKD_ROUNDS", default))


def require(condition, text):
    if not condition:
        raise AssertionError(text)


def signal_all(pids, number=signal.SIGKILL):
    traces.kill([pid for pid in pids if pid], number)


def wait_gone(pids):
    cluster.wait_until(f"processes {pids} have ended", lambda: all(is_gone(pid) for pid in pids), pause=0.01)


def connected_ports(pid):
    """The remote ports that a process has a TCP connection to; none when it has ended."""
    inodes, ports = set(), set()
    with contextlib.suppress(OSError):
        for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(descriptor)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        for table in ("tcp", "tcp6"):
            for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "01" and words[9] in inodes:
                    ports.add(int(words[2].rsplit(":", 1)[1], 16))
    return ports


def wait_whole(node, volume):
    """All bricks up and healed, and the NBD server connected to each: from here on one of them may die."""
    ports = {brick["port"] for brick in node.volume_status(volume)["bricks"]}
    cluster.wait_until(f"blockd-nbd is connected to all bricks of {volume}",
                       lambda: ports <= connected_ports(node.nbd_pid()))
    node.wait_healed(volume)


# ---- Replicas ----

def replicas(node, block):
    """The block's file on each brick."""
    volume = block.split("/")[0]
    storage = node.get(f"/v1/blocks/{block}")["spec"]["storage"]
    return [pathlib.Path(brick["path"] + storage) for brick in node.volume_status(volume)["bricks"]]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wait_clean(node, volume):
    """
    Nothing left to heal, and no change left open. A client that was killed between two replicas leaves its file marked
    as dirty, which counts for no replica, and which the self-heal daemon finds on its next round.
    """
    node.wait_healed(volume)
    indices = [pathlib.Path(brick["path"]) / ".glusterfs/indices/dirty" for brick in node.volume_status(volume)["bricks"]]
    cluster.wait_until(f"no brick of {volume} has a file marked as dirty",
                       lambda: not any(name for index in indices if index.is_dir() for name in os.listdir(index)
                                       if not name.startswith("dirty-")))


def require_same_replicas(node, block, load=None):
    """Waits for the heal to end; then all replicas are equal, and each holds what the load knows to be there."""
    wait_clean(node, block.split("/")[0])
    files = replicas(node, block)
    digests = [digest(path) for path in files]
    require(len(set(digests)) == 1, f"the heal count is 0, and the replicas of {block} differ: {digests}")
    for path in files if load else ():
        load.verify_file(path)


# ---- Nothing leaks ----

def store(node):
    """{key: decoded value} of the whole store, read beside blockd."""
    path = pathlib.Path(node.settings["daemon"]["state-dir"]) / "store.db"
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = database.execute("SELECT entry.key, history.value FROM entry JOIN history ON history.id = entry.id")
        return {key: json.loads(value) for key, value in rows}
    finally:
        database.close()


def _names(folder, pattern="*"):
    return {path.name for path in pathlib.Path(folder).glob(pattern)}


def _difference(what, found, wanted):
    return ([f"{what} without a record: {name}" for name in sorted(found - wanted)]
            + [f"record without {what}: {name}" for name in sorted(wanted - found)])


def _audit_records(records):
    problems = [f"{key} is still to be deleted" for key, value in records.items() 
                if isinstance(value, dict) and value.get("deleting")]
    for key, value in records.items():
        kind, _, name = key.partition("/")
        if kind == "jobs" and value["status"]["phase"] in ("pending", "running"):
            problems.append(f"{key} is {value['status']['phase']}")
        if kind == "exports" and "blocks/" + name.split("/", 1)[1] not in records:
            problems.append(f"{key} has no block")
        if kind == "blocks" and value["status"]["phase"] not in ("ready", "failed"):
            problems.append(f"{key} is {value['status']['phase']}")
    ports = {f"ports/{brick['node']}/{brick['port']}" for key, value in records.items() if key.startswith("volumes/")
             for brick in value["spec"]["bricks"]}
    return problems + _difference("port", {key for key in records if key.startswith("ports/")}, ports)


def _audit_volume(node, name, records):
    blocks = {key: value for key, value in records.items() if key.startswith(f"blocks/{name}/")}
    status = node.volume_status(name)
    wanted = {value["spec"]["storage"].rsplit("/", 1)[1]: value["spec"]["size"] for value in blocks.values()
              if value["status"]["phase"] == "ready"}
    half_made = {value["spec"]["storage"].rsplit("/", 1)[1] for value in blocks.values()} - set(wanted)
    problems = []
    for brick in status["bricks"]:
        root = pathlib.Path(brick["path"])
        files = {path.name: path.stat().st_size for path in (root / "block-store").glob("*")}
        problems += _difference(f"file in {root}", set(files) - half_made, set(wanted))
        problems += [f"{root}/block-store/{file} has {files[file]} bytes, not {size}" for file, size in wanted.items()
                     if file in files and files[file] != size]
        problems += [f"{root}: {entry} is nobody's" for entry in _names(root) - {".glusterfs", "block-store"}]
        # A file has two names: its own, and the one that GlusterFS gives it by its identity.
        problems += [f"{path} has no other name" for path in root.glob(".glusterfs/??/??/*")
                     if path.is_file() and not path.is_symlink() and path.stat().st_nlink < 2]
    promised = sum(value["spec"]["size"] for value in blocks.values())
    if (status["provisioned"], status["blocks"]) != (promised, len(blocks)):
        problems.append(f"volume {name}: the ledger has {status['provisioned']} bytes in {status['blocks']} blocks, the "
                        f"records {promised} in {len(blocks)}")
    if status["phase"] != "online":
        problems.append(f"volume {name} is {status['phase']}: {status}")
    return problems


def _audit_machine(node, records):
    state = pathlib.Path(node.settings["daemon"]["state-dir"])
    volumes = {key.split("/")[1]: value["spec"] for key, value in records.items() if key.startswith("volumes/")}
    devices = {key.split("/")[2]: value["spec"] for key, value in records.items() if key.startswith("devices/")}
    bricks = {(volume, brick["device"]) for volume, spec in volumes.items() for brick in spec["bricks"]}
    exports = {"/".join(key.split("/")[2:]) + ".json" for key in records if key.startswith("exports/")}
    grants = {str(path.relative_to(node.run / "grants")) for path in (node.run / "grants").glob("*/*")}
    processes = [line.split() for line in node.processes().values()]
    running = {words[words.index("-f") + 1].rsplit("/", 1)[1] for words in processes
               if "glusterfsd" in words[0] and "volserver.vol" not in words[words.index("-f") + 1]}
    served = {f"{name}.{role}.vol" for name, spec in volumes.items() if spec["state"] == "started"
              for role in ("mount", "share", "image")}
    replicated = any(spec["template"] != "single" for spec in volumes.values())
    problems = _difference("grant", grants, exports)
    problems += _difference("volfile", _names(state / "volfiles"), set(volumes))
    problems += _difference("served volfile", _names(state / "volserver"), served)
    problems += _difference("brick volfile", _names(state / "bricks"), {f"{v}.{d}.vol" for v, d in bricks})
    problems += _difference("brick process", running, {f"{v}.{d}.vol" for v, d in bricks})
    problems += _difference("brick log", _names(node.logs, "brick.*.log"), {f"brick.{v}.{d}.log" for v, d in bricks})
    problems += _difference("mount", {point.rsplit("/", 1)[1] for point in traces.mounts(state / "devices")}, set(devices))
    problems += _difference("image", _names(node.folder / "images"), {d["path"].rsplit("/", 1)[1] for d in devices.values()})
    problems += _difference("loop device", {file for _, file in traces.loops(node.folder)},
                            {d["path"] for d in devices.values()})
    for device in devices:
        problems += _difference(f"brick folder on {device}", _names(state / "devices" / device / "bricks"),
                                {v for v, d in bricks if d == device})
    healers = sum("glustershd" in words for words in processes)
    servers = sum(words[0].endswith("/blockd-nbd") for words in processes)
    if healers != replicated or servers != 1:
        problems.append(f"{healers} self-heal daemons and {servers} NBD servers run")
    return problems


def audit(node):
    """What does not fit together: records, files on the bricks, grants, the ledger, processes, mounts; [] when all does."""
    try:
        records = store(node)
        problems = _audit_records(records) + _audit_machine(node, records)
        for key in records:
            if key.startswith("volumes/"):
                problems += _audit_volume(node, key.split("/")[1], records)
        return problems
    except (OSError, sqlite3.OperationalError, cluster.ApiError) as error:
        return [f"something changed while it was looked at: {error!r}"]


def require_nothing_leaked(node, what, timeout=cluster.PATIENCE):
    """blockd has settled, and nothing is without a record, nor a record without what it stands for."""
    problems = []

    def nothing():
        problems[:] = audit(node)
        return not problems
    try:
        cluster.wait_until("", nothing, timeout)
    except AssertionError:
        raise AssertionError(f"{what}: " + "; ".join(problems)) from None
