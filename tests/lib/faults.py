# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What the fault tests share: repeatable chance, processes that are ended, and what must be true of a node afterwards."""

import hashlib
import json
import os
import pathlib
import random
import signal
import sqlite3

import node as cluster
import traces


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


def is_gone(pid):
    """The process has ended, reaped or not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def wait_gone(pids):
    cluster.wait_until(f"processes {pids} have ended", lambda: all(is_gone(pid) for pid in pids), pause=0.01)


# ---- Replicas ----

def replicas(node, block):
    """The block's file on each brick."""
    volume = block.split("/")[0]
    storage = node.get(f"/v1/blocks/{block}")["spec"]["storage"]
    return [pathlib.Path(brick["path"] + storage) for brick in node.volume_status(volume)["bricks"]]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_same_replicas(node, block, load=None):
    """Waits for the heal to end; then all replicas are equal, and each holds what the load knows to be there."""
    node.wait_healed(block.split("/")[0])
    files = replicas(node, block)
    digests = [digest(path) for path in files]
    require(len(set(digests)) == 1, f"the heal count is 0, and the replicas of {block} differ: {digests}")
    for path in files if load else ():
        load.verify_file(path)


# ---- Nothing leaks ----

def store(node):
    """{key: decoded value} of the whole store, read beside blockd."""
    database = sqlite3.connect(f"file:{node.state_path()}/store.db?mode=ro", uri=True)
    try:
        return {key: json.loads(value) for key, value in database.execute(store_query(database))}
    finally:
        database.close()
